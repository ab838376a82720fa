// Package drill breaks a cluster under load and proves what became of every
// punch: a ledger that is written around every request, an audit that counts
// what was lost, doubled or altered, and scenarios that break something, heal
// it, and are judged by both and by bounds. The load is node/lab/load's, the
// cluster node/lab/cluster's. It deliberately compares fields itself instead of
// using the fingerprint and the validation of the product whose work it checks.
package drill

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/punch"
)

// Ledger is an append-only file with a line before and a line after every
// request. Its methods return once their line was handed to the operating
// system: a request whose intent is not in the file was never sent, and a
// receipt that is not in the file was never used. There is no fsync, because
// what must be survived is the death of this process; a machine that loses
// power takes the run down with it. It is safe for concurrent use.
type Ledger struct {
	file *os.File
	seq  atomic.Uint64

	mu    sync.Mutex // guards group; held only to add a line to it
	group *group

	writing sync.Mutex // guards the file and broken; held during a write
	// broken refuses all further lines: the ledger is closed, or a write
	// failed and may have left half a line, which must stay the last one.
	broken error
}

// group is the lines that go out in one write(2), so that the requests of a
// busy moment share a system call and one in an idle moment waits for nobody.
// Whoever added a line waits for it, which bounds a group by the number of
// requests in flight.
type group struct {
	lines   []byte // guarded by Ledger.mu until the group is taken to be written
	written bool   // guarded by Ledger.writing, as err
	err     error
}

// ErrClosed is returned for a line that comes after Close.
var ErrClosed = errors.New("ledger: closed")

// Create starts a ledger in a new file. It refuses one that exists: evidence
// is not written over.
func Create(path string) (*Ledger, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l := &Ledger{file: file, group: new(group)}
	if err := l.append(Entry{Begin: now()}); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// Intend writes down a request that is about to be sent and returns its
// number. The request must not be sent when it fails.
func (l *Ledger) Intend(intended time.Time, entryRegion string, c punch.Request) (uint64, error) {
	seq := l.seq.Add(1)
	claim := Claim{
		Company: c.Company, Employee: c.Employee, ID: c.ID.String(), Kind: string(c.Kind),
		Source: c.Source, Note: c.Note,
	}
	if !c.At.IsZero() {
		claim.At = c.At.UTC().Truncate(time.Microsecond)
	}
	return seq, l.append(Entry{Seq: seq, Intended: intended.UTC(), Entry: entryRegion, Claim: &claim})
}

// Settle writes down what became of the request with the given number: the
// receipt when err is nil.
func (l *Ledger) Settle(seq uint64, r punch.Receipt, err error) error {
	if err != nil {
		return l.append(Entry{Seq: seq, Failure: failure(err)})
	}
	return l.append(Entry{Seq: seq, Receipt: &Receipt{
		Company: r.Company, Employee: r.Employee, ID: r.ID.String(), Kind: string(r.Kind),
		PunchedAt: r.PunchedAt, ReceivedAt: r.ReceivedAt, RecordedAt: r.RecordedAt,
		Zone: r.Zone, UTCOffset: r.UTCOffset, HomeRegion: r.HomeRegion, EntryRegion: r.EntryRegion,
		Late: r.Late, Review: r.NeedsReview, TraceID: r.TraceID, Replayed: r.Replayed,
	}})
}

func failure(err error) *Failure {
	var e *client.Error
	if !errors.As(err, &e) {
		return &Failure{Code: string(punch.Unavailable), Detail: err.Error()}
	}
	return &Failure{Status: e.Status, Code: string(e.Code), Final: e.Final, Detail: e.Error(), Attempts: e.Attempts}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// append returns once the line is written: by this call, or by another one that
// took the whole group first.
func (l *Ledger) append(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	l.mu.Lock()
	g := l.group
	g.lines = append(append(g.lines, line...), '\n')
	l.mu.Unlock()

	l.writing.Lock()
	defer l.writing.Unlock()
	if !g.written {
		l.mu.Lock()
		l.group = new(group) // g was still the one being filled
		l.mu.Unlock()
		g.written, g.err = true, l.write(g.lines)
	}
	return g.err
}

// write needs the lock writing.
func (l *Ledger) write(lines []byte) error {
	if l.broken != nil {
		return l.broken
	}
	if _, err := l.file.Write(lines); err != nil {
		l.broken = fmt.Errorf("ledger: %w", err)
	}
	return l.broken
}

// Close writes the end of the run and closes the file. Calling it again does
// nothing.
func (l *Ledger) Close() error {
	err := l.append(Entry{End: now()})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.broken = ErrClosed
	return errors.Join(err, l.file.Close())
}

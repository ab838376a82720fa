package audit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// Ledger is an append-only file with a line before and a line after every request. Its methods return after the
// operating system has taken the line. So a request without an intent in the file was never sent, and a receipt that is
// not in the file was never used. There is no fsync: a ledger must outlive its process, not its machine. A Ledger is
// safe for concurrent use.
type Ledger struct {
	file *os.File
	seq  atomic.Uint64

	mu    sync.Mutex // guards group; held only to add a line to the group
	group *group

	writing sync.Mutex // guards the file and broken; held during a write
	// broken refuses all further lines after Close or after a failed write. A failed write may have left half a line,
	// which must stay the last line.
	broken error
}

// group is the lines of one write(2). Requests of a busy moment share a system call, and a request in an idle moment
// waits for no other. Every request waits for its line, so the requests in flight bound a group.
type group struct {
	lines   []byte // guarded by Ledger.mu until the group is taken for writing
	written bool   // guarded by Ledger.writing, like err
	err     error
}

// ErrClosed is returned for a line after Close.
var ErrClosed = errors.New("ledger: closed")

// Create starts a ledger in a new file. It refuses a file that exists, because evidence must not be overwritten.
func Create(path string) (*Ledger, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l := &Ledger{file: file, group: new(group)}
	if err := l.append(Line{Begin: now()}); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// Intend writes a request before it is sent, and returns its number. If Intend fails, the request must not be sent.
func (l *Ledger) Intend(intended time.Time, entryRegion string, c Claim) (uint64, error) {
	seq := l.seq.Add(1)
	return seq, l.append(Line{Seq: seq, Intended: intended.UTC(), Entry: entryRegion, Claim: &c})
}

// Receipt writes the receipt of the request with the given number.
func (l *Ledger) Receipt(seq uint64, r *Receipt) error { return l.append(Line{Seq: seq, Receipt: r}) }

// Failure writes the error of the request with the given number.
func (l *Ledger) Failure(seq uint64, f *Failure) error { return l.append(Line{Seq: seq, Failure: f}) }

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// append returns after the line is written, by this call or by another call that took the whole group first.
func (l *Ledger) append(e Line) error {
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
		l.group = new(group) // until now g was the group being filled
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

// Close writes the end of the run and closes the file. A second call does nothing.
func (l *Ledger) Close() error {
	err := l.append(Line{End: now()})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.broken = ErrClosed
	return errors.Join(err, l.file.Close())
}

package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
)

// flaky is a service that records a punch, refuses it, or records it and loses the answer. It compares each punch with the
// one that was made.
type flaky struct {
	random   *rand.Rand
	healthy  bool
	punched  map[punch.ID]Request
	recorded map[punch.ID]bool
	gone     map[punch.ID]bool // discarded: must not be sent any more
	wrong    []string
}

func (s *flaky) Punch(_ context.Context, r Request) (Receipt, error) {
	if was, known := s.punched[r.ID]; !known || toWire(was) != toWire(r) {
		s.wrong = append(s.wrong, fmt.Sprintf("%+v came, %+v was punched", r, was))
	}
	if s.gone[r.ID] {
		s.wrong = append(s.wrong, fmt.Sprintf("%s came after it was discarded", r.ID))
	}
	what := s.random.IntN(5)
	if s.healthy {
		what = 0
	}
	switch {
	case what == 0:
		s.recorded[r.ID] = true
		return Receipt{Receipt: punch.Receipt{ID: r.ID, Employee: r.Employee, RecordedAt: recordedAt}}, nil
	case what == 1: // the answer is lost
		s.recorded[r.ID] = true
		return Receipt{}, noAnswer(0, errors.New("connection reset"))
	case what == 2 && !s.recorded[r.ID]: // a recorded punch gets its receipt, never a refusal
		return Receipt{}, &Error{ID: r.ID, Status: 404, Code: punch.UnknownCompany, Final: true, Detail: strings.Repeat("\x01", 1000)}
	case what == 3:
		return Receipt{}, &Error{ID: r.ID, Status: 422, Code: punch.ClockAhead}
	default:
		return Receipt{}, &Error{ID: r.ID, Status: 503, Code: punch.Overloaded}
	}
}

func (s *flaky) PunchBatch(ctx context.Context, requests []Request) ([]Outcome, error) {
	outcomes := make([]Outcome, len(requests))
	for i, r := range requests {
		outcomes[i].Receipt, outcomes[i].Err = s.Punch(ctx, r)
	}
	return outcomes, nil
}

// Places of a punch.
const (
	waits        = "waits"
	inQuarantine = "inQuarantine"
	damaged      = "damaged"
	nowhere      = "nowhere"
)

// outboxModel drives an outbox and knows the possible places of each punch. A recorded punch may be in any place: at worst
// it is sent once more.
type outboxModel struct {
	disk    *powerDisk
	service *flaky
	box     *Outbox
	may     map[punch.ID][]string // the first place is right unless a step was interrupted
	ids     []punch.ID            // in the order in which they were made
	// corrected has the new ids of corrected punches. A correction may exceed the bound.
	corrected map[punch.ID]punch.ID
}

const modelItems = 6

func (m *outboxModel) open(t *rapid.T) {
	cfg := OutboxConfig{
		Dir: "/", MaxItems: modelItems, Batch: 2, Concurrency: 1, Receipts: true, Clock: func() time.Time { return recordedAt },
	}
	for {
		box, err := openOutbox(cfg, m.disk)
		if err == nil {
			m.box = box
			return
		}
		m.survive(t, err)
	}
}

// survive brings the power back after a loss of power. Any other error fails the test.
func (m *outboxModel) survive(t *rapid.T, err error) {
	if !m.disk.dead {
		t.Fatalf("an error without a cause: %v", err)
	}
	m.disk.restart()
}

// do runs an action that may lose its power, and then checks the place of each punch.
func (m *outboxModel) do(t *rapid.T, action func(ctx context.Context)) {
	if n := rapid.IntRange(0, 40).Draw(t, "steps"); n < 30 {
		m.disk.fuse = n
	}
	action(t.Context())
	if m.disk.dead {
		m.disk.restart()
		m.disk.fuse = rapid.IntRange(-10, 10).Draw(t, "steps of the recovery")
		m.open(t)
	}
	m.disk.fuse = -1
	m.check(t)
}

func (m *outboxModel) check(t *rapid.T) {
	is := map[punch.ID]string{}
	for pass := range 2 { // the first pass finishes interrupted moves
		clear(is)
		list, err := m.box.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		quarantined, err := m.box.Quarantined(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			is[k.ID] += waits
		}
		for _, k := range quarantined {
			switch {
			case k.Corrupt != nil:
				is[k.ID] += damaged
			case k.Refusal == nil && pass == 1:
				t.Fatalf("%s is in quarantine without a reason", k.ID)
			default:
				is[k.ID] += inQuarantine
			}
		}
		if len(list)+len(quarantined) > modelItems+len(m.corrected)+1 {
			t.Fatalf("%d waiting, %d quarantined, the bound is %d", len(list), len(quarantined), modelItems)
		}
	}
	for _, id := range m.ids {
		at := is[id]
		if at == "" {
			at = nowhere
		}
		free := m.service.recorded[id] && slices.Contains([]string{waits, inQuarantine, nowhere}, at)
		if !free && !slices.Contains(m.may[id], at) {
			t.Fatalf("punch %s is %q, may be %q, recorded: %v\n%q", id, at, m.may[id], m.service.recorded[id], m.disk.names(""))
		}
		m.may[id] = []string{at}
	}
	if len(m.service.wrong) > 0 {
		t.Fatal(m.service.wrong)
	}
}

func (m *outboxModel) request(t *rapid.T) Request {
	r := Request{
		ID: punch.NewID(), Employee: rapid.SampledFrom([]string{"anna", "b ob"}).Draw(t, "employee"), Kind: punch.In,
		Note: rapid.StringN(0, 20, 80).Draw(t, "note"),
	}
	if rapid.Bool().Draw(t, "with time") {
		r.At = time.Unix(0, rapid.Int64Range(0, 4e18).Draw(t, "at"))
	}
	m.ids, m.may[r.ID], m.service.punched[r.ID] = append(m.ids, r.ID), []string{nowhere}, r
	return r
}

// heard notes the answer that a caller got for a kept punch.
func (m *outboxModel) heard(id punch.ID, err error) {
	switch {
	case err == nil:
		m.may[id] = []string{nowhere}
	case IsFinal(err):
		m.may[id] = []string{inQuarantine}
	default:
		m.may[id] = []string{waits}
	}
}

func (m *outboxModel) pick(t *rapid.T, where ...string) (id punch.ID, found bool) {
	fit := slices.DeleteFunc(slices.Clone(m.ids), func(id punch.ID) bool { return !slices.Contains(where, m.may[id][0]) })
	if len(fit) == 0 {
		return id, false
	}
	return rapid.SampledFrom(fit).Draw(t, "punch"), true
}

func (m *outboxModel) full() bool {
	return len(m.disk.names(waitingDir))+len(m.disk.names(quarantineDir)) >= modelItems
}

func (m *outboxModel) put(t *rapid.T) {
	r, full := m.request(t), m.full()
	m.do(t, func(ctx context.Context) {
		err := m.box.Put(ctx, r)
		switch {
		case m.disk.dead:
			m.may[r.ID] = []string{nowhere, waits}
		case full != errors.Is(err, ErrOutboxFull):
			t.Fatalf("full: %v, error: %v", full, err)
		case err == nil:
			m.may[r.ID] = []string{waits}
		case !full:
			t.Fatal(err)
		}
	})
}

func (m *outboxModel) putAgain(t *rapid.T) {
	id, found := m.pick(t, waits, inQuarantine)
	if !found {
		return
	}
	m.do(t, func(ctx context.Context) {
		err := m.box.Put(ctx, m.service.punched[id])
		if !m.disk.dead && IsFinal(err) != (m.may[id][0] == inQuarantine) {
			t.Fatalf("the same punch again, which is %s: %v", m.may[id], err)
		}
		other := m.service.punched[id]
		other.Kind = punch.Out
		if err := m.box.Put(ctx, other); !m.disk.dead && !errors.Is(err, ErrOtherPunch) {
			t.Fatalf("another punch under the same id: %v", err)
		}
	})
}

func (m *outboxModel) punch(t *rapid.T) {
	r := m.request(t)
	m.do(t, func(ctx context.Context) {
		_, err := m.box.Punch(ctx, m.service, r)
		switch kept := !errors.Is(err, ErrNotKept); {
		case kept && m.disk.dead: // the answer is valid, and the disk may not have it
			m.may[r.ID] = []string{waits, inQuarantine}
		case kept:
			m.heard(r.ID, err)
		case m.disk.dead:
			m.may[r.ID] = []string{nowhere, waits}
		}
	})
}

func (m *outboxModel) flush(t *rapid.T) {
	m.do(t, func(ctx context.Context) {
		done, err := m.box.Flush(ctx, m.service)
		if m.disk.dead {
			for id, may := range m.may {
				if may[0] == waits {
					m.may[id] = []string{waits, inQuarantine}
				}
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range done.Refused {
			m.heard(k.ID, k.refusalError())
		}
		for _, r := range done.Receipts {
			m.heard(r.ID, nil)
		}
		if left := len(m.disk.names(waitingDir)); done.Kept != left {
			t.Fatalf("the flush says that %d punches wait, %d do", done.Kept, left)
		}
	})
}

func (m *outboxModel) release(t *rapid.T) {
	if id, found := m.pick(t, inQuarantine); found && m.corrected[id] == (punch.ID{}) {
		m.do(t, func(ctx context.Context) {
			if err := m.box.Release(ctx, id); err == nil {
				m.may[id] = []string{waits}
			} else if m.may[id] = append(m.may[id], waits); !m.disk.dead {
				t.Fatal(err)
			}
		})
	}
}

func (m *outboxModel) discard(t *rapid.T) {
	if id, found := m.pick(t, inQuarantine, damaged); found {
		m.do(t, func(ctx context.Context) {
			if _, err := m.box.Discard(ctx, id); err == nil {
				m.may[id], m.service.gone[id] = []string{nowhere}, !m.service.recorded[id]
			} else if m.may[id] = append(m.may[id], nowhere); !m.disk.dead {
				t.Fatal(err)
			}
		})
	}
}

// correct lets a person send a quarantined punch with its right time. A crash leaves the new punch waiting or nowhere, and
// the old one in quarantine in any case.
func (m *outboxModel) correct(t *rapid.T) {
	id, found := m.pick(t, inQuarantine)
	if !found || m.corrected[id] != (punch.ID{}) {
		return
	}
	at := recordedAt.Add(time.Duration(len(m.ids)) * time.Second)
	r := m.service.punched[id]
	r.ID, r.At = correctedID(id, at), at
	m.ids, m.may[r.ID], m.service.punched[r.ID] = append(m.ids, r.ID), []string{nowhere}, r
	for attempt := 0; ; attempt++ {
		var failure error
		m.do(t, func(ctx context.Context) {
			corrected, err := m.box.Correct(ctx, id, at)
			failure = err
			m.may[r.ID] = []string{waits}
			if err != nil && attempt == 0 {
				m.may[r.ID] = append(m.may[r.ID], nowhere)
			}
			if err == nil && corrected.ID != r.ID || err != nil && !m.disk.dead {
				t.Fatalf("%s was corrected to %s, %v; want %s", id, corrected.ID, err, r.ID)
			}
		})
		if failure == nil {
			break
		}
		if m.may[r.ID][0] == nowhere {
			attempt = -1
		}
	}
	m.corrected[id] = r.ID
}

// damage flips a bit in a file of a waiting punch.
func (m *outboxModel) damage(t *rapid.T) {
	names := m.disk.names(waitingDir)
	if len(names) == 0 {
		return
	}
	name := rapid.SampledFrom(names).Draw(t, "file")
	id, err := punch.ParseID(filepath.Base(name)[:36])
	if err != nil {
		t.Fatal(err)
	}
	if m.may[id][0] != waits || m.service.recorded[id] {
		return
	}
	m.may[id] = []string{damaged}
	m.disk.damage(name)
	m.check(t)
}

// TestOutboxNeverLosesAPunch tries every answer of the service and a loss of power at every step. A kept punch must wait,
// be in quarantine, be recorded, or be discarded by a person. Each sent punch must be as it was made.
func TestOutboxNeverLosesAPunch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		m := &outboxModel{disk: newPowerDisk(seed), may: map[punch.ID][]string{}, corrected: map[punch.ID]punch.ID{}, service: &flaky{
			random: rand.New(rand.NewPCG(seed, 2)), punched: map[punch.ID]Request{}, recorded: map[punch.ID]bool{}, gone: map[punch.ID]bool{},
		}}
		m.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"put": m.put, "put again": m.putAgain, "punch": m.punch, "flush": m.flush,
			"release": m.release, "discard": m.discard, "correct": m.correct, "damage": m.damage,
		})
		m.service.healthy = true
		done, err := m.box.Flush(t.Context(), m.service)
		if err != nil || done.Kept != 0 || len(m.disk.names(waitingDir)) != 0 {
			t.Fatalf("after the service is healthy again: %+v, %v", done, err)
		}
	})
}

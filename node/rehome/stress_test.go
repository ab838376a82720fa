package rehome_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/rehome"
	"github.com/punchclock/punchclock/region"
)

const (
	stressFor     = 4 * time.Second
	stressAtMost  = 40 * time.Second
	stressDevices = 6
	stressMovers  = 2
)

// sent is a punch that a device has sent.
type sent struct {
	item punch.Item

	mu       sync.Mutex     // guards the fields below
	receipt  *punch.Receipt // the first receipt, marked as a replay
	recorded int            // receipts that were no replay
}

// acknowledge checks a receipt against the earlier ones.
func (p *sent) acknowledge(r punch.Receipt) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !r.Replayed {
		p.recorded++
	}
	r.Replayed = true
	if p.receipt == nil {
		p.receipt = &r
	}
	if *p.receipt != r || p.recorded > 1 {
		return fmt.Errorf("receipts (%d not replayed)\n%+v\n%+v", p.recorded, *p.receipt, r)
	}
	return nil
}

func (p *sent) acknowledged() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.receipt != nil
}

// history holds the punches that the devices of one company have sent.
type history struct {
	mu   sync.Mutex // guards all
	all  []*sent
	hits struct{ replays, found, listed, rerouted atomic.Int64 }
}

func (h *history) add(p *sent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, p)
}

func (h *history) random() *sent {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		return nil
	}
	return h.all[rand.IntN(len(h.all))]
}

// acknowledgedOf returns the acknowledged punches of an employee.
func (h *history) acknowledgedOf(employee string) (list []*sent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.all {
		if p.item.Employee == employee && p.acknowledged() {
			list = append(list, p)
		}
	}
	return list
}

// device punches, repeats punches of all devices, and reads. Like a node it remembers the company's home until it is
// told NotHome.
type device struct {
	s       *store
	h       *history
	name    string
	known   region.Move
	company string
}

// atHome makes a call with the remembered home. It looks the home up again after NotHome.
func (d *device) atHome(ctx context.Context, call func(m region.Move) error) error {
	for {
		err := call(d.known)
		if punch.CodeOf(err) != punch.NotHome || ctx.Err() != nil {
			return err
		}
		d.h.hits.rerouted.Add(1)
		home, err := d.s.Home(ctx, d.company)
		if err != nil {
			return err
		}
		d.known.Home, d.known.Epoch = home.Region, home.Epoch
	}
}

func (d *device) run(ctx context.Context) error {
	for ctx.Err() == nil {
		var err error
		switch rand.IntN(6) {
		case 0, 1:
			p := &sent{item: item(context.Background(), d.known, d.name, time.Now())}
			d.h.add(p) // before it is sent, so that another device may send it at the same time
			err = d.send(ctx, p, false)
		case 2, 3:
			if p := d.h.random(); p != nil {
				err = d.send(ctx, p, true)
			}
		case 4:
			err = d.find(ctx)
		default:
			err = d.list(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

func (d *device) send(ctx context.Context, p *sent, repeat bool) error {
	// The end of the test must not interrupt a punch that was sent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	return d.atHome(ctx, func(m region.Move) error {
		i := routed(p.item, m)
		if repeat {
			i = again(p.item, m)
			i.TraceID = d.name // another request
			i.ReceivedAt = punch.Microseconds(time.Now())
		}
		o := d.s.Writer(i.HomeRegion).Write(ctx, []punch.Item{i})[0]
		if o.Err != nil {
			return o.Err
		}
		if o.Receipt.Replayed {
			d.h.hits.replays.Add(1)
		}
		return p.acknowledge(o.Receipt)
	})
}

func (d *device) find(ctx context.Context) error {
	p := d.h.random()
	if p == nil {
		return nil
	}
	acknowledged := p.acknowledged()
	return d.atHome(ctx, func(m region.Move) error {
		found, err := d.s.Find(ctx, string(m.Home), p.item.Key())
		if punch.CodeOf(err) == punch.NotFound && !acknowledged {
			return nil
		}
		if err != nil {
			return err
		}
		d.h.hits.found.Add(1)
		r := found.Receipt
		r.Replayed = true
		return p.acknowledge(r)
	})
}

func (d *device) list(ctx context.Context) error {
	employee := fmt.Sprintf("d%d", rand.IntN(stressDevices))
	must := d.h.acknowledgedOf(employee)
	q := punch.Query{Company: d.company, Employee: employee, From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), Limit: 100_000}
	return d.atHome(ctx, func(m region.Move) error {
		list, err := d.s.List(ctx, string(m.Home), q)
		if err != nil {
			return err
		}
		d.h.hits.listed.Add(1)
		ids := make(map[punch.ID]int, len(list))
		for _, r := range list {
			ids[r.ID]++
		}
		for _, p := range must {
			if ids[p.item.ID] != 1 {
				return fmt.Errorf("punch %s was acknowledged and is listed %d times, at %+v", p.item.ID, ids[p.item.ID], m)
			}
		}
		return nil
	})
}

// moves counts the outcomes of moves.
type moves struct{ done, cut, refused atomic.Int64 }

// moveRepeatedly moves the company until ctx ends, each time with another mover. Half of the movers are killed at a
// random moment.
func (s *store) moveRepeatedly(ctx context.Context, db *crdb.DB, company string, m *moves) error {
	for ctx.Err() == nil {
		mover := s.moverOn(db, rehome.Config{Batch: 1 + rand.IntN(40), Parallel: 1})
		life, cancel := context.WithTimeout(ctx, 10*time.Second)
		if rand.IntN(2) == 0 {
			time.AfterFunc(rand.N(60*time.Millisecond), cancel)
		}
		_, err := mover.Company(life, company, region.Name(regions[rand.IntN(len(regions))]))
		killed := life.Err() != nil
		cancel()
		switch code := punch.CodeOf(err); {
		case err == nil:
			m.done.Add(1)
		case killed:
			m.cut.Add(1)
		case code == punch.Conflict || code == punch.NotHome: // the other mover was faster
			m.refused.Add(1)
		default:
			return fmt.Errorf("mover: %w", err)
		}
	}
	return nil
}

// TestPunchesWhileCompaniesMove lets devices punch, retry and read while movers that are killed move the company. All
// receipts of a punch must be equal. No read may miss a punch that was acknowledged before. At the end each punch has
// one row at the home, as it was sent.
func TestPunchesWhileCompaniesMove(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		h, m := new(history), new(moves)
		ctx, cancel := context.WithTimeout(s.ctx, stressAtMost)
		defer cancel()
		shown := func() bool {
			at, err := s.Where(s.ctx, company)
			return err == nil && at.Epoch >= 4 && m.cut.Load() > 0 && h.hits.replays.Load() > 0 && h.hits.rerouted.Load() > 0
		}
		var watching sync.WaitGroup
		watching.Go(func() { // a busy machine takes longer
			for began := time.Now(); ctx.Err() == nil && (time.Since(began) < stressFor || !shown()); {
				time.Sleep(100 * time.Millisecond) // poll
			}
			cancel()
		})
		start := s.where(company)
		movers := s.open()
		errs := make(chan error, stressDevices+stressMovers)
		for i := range stressDevices {
			d := &device{s: s, h: h, name: fmt.Sprintf("d%d", i), known: start, company: company}
			go func() { errs <- d.run(ctx) }()
		}
		for range stressMovers {
			go func() { errs <- s.moveRepeatedly(ctx, movers, company, m) }()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
				cancel()
			}
		}
		watching.Wait()
		if t.Failed() {
			t.FailNow()
		}
		to := s.where(company).Home
		if _, err := s.mover(rehome.DefaultConfig()).Company(s.ctx, company, to); err != nil {
			t.Fatal(err)
		}
		epoch := s.where(company).Epoch
		s.audit(h, company, string(to))
		t.Logf("%d punches, %d replays, %d found, %d listings, %d rerouted; %d moves, %d cut off, %d refused, epoch %d",
			len(h.all), h.hits.replays.Load(), h.hits.found.Load(), h.hits.listed.Load(), h.hits.rerouted.Load(),
			m.done.Load(), m.cut.Load(), m.refused.Load(), epoch)
		if !shown() {
			t.Error("the test proves too little: see the counts above")
		}
	})
}

// audit compares every row of the company with the punches and receipts.
func (s *store) audit(h *history, company, home string) {
	s.t.Helper()
	type stored struct {
		Region, Employee string
		ID               [16]byte
		Fingerprint      []byte
		RecordedAt       time.Time
		TraceID          string
	}
	rows, err := s.admin.Query(s.ctx, `SELECT crdb_region::text, employee_id, punch_id, fingerprint, recorded_at, trace_id
		FROM punches WHERE company_id = $1`, company)
	if err != nil {
		s.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
	if err != nil {
		s.t.Fatal(err)
	}
	byKey := make(map[punch.Key][]stored)
	for _, r := range list {
		k := punch.Key{Company: company, Employee: r.Employee, ID: r.ID}
		byKey[k] = append(byKey[k], r)
	}
	for _, p := range h.all {
		key, digest := p.item.Key(), p.item.Fingerprint()
		there := byKey[key]
		delete(byKey, key)
		switch {
		case len(there) == 0 && p.receipt == nil: // never acknowledged and not stored
		case len(there) != 1:
			s.t.Errorf("punch %s has %d rows: %+v", key.ID, len(there), there)
		case there[0].Region != home || !slices.Equal(there[0].Fingerprint, digest[:]):
			s.t.Errorf("punch %s: %+v, want it in %s as it was sent", key.ID, there[0], home)
		case p.receipt != nil && (!there[0].RecordedAt.Equal(p.receipt.RecordedAt) || there[0].TraceID != p.receipt.TraceID):
			s.t.Errorf("punch %s: %+v, and its receipt is %+v", key.ID, there[0], p.receipt)
		}
	}
	if len(byKey) > 0 {
		s.t.Errorf("%d punches were stored and never sent: %v", len(byKey), byKey)
	}
}

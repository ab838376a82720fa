package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// Outboxes counts the punches of devices that can reach the victim alone and keep rejected punches in an outbox on
// disk.
type Outboxes struct {
	Devices int `json:"devices"` // one device for each home
	Punched int `json:"punched"`
	Kept    int `json:"kept"`    // punches without a receipt when the device gave up asking
	Flushed int `json:"flushed"` // kept punches that got their receipt from a flush
	Waiting int `json:"waiting"` // punches on disk at the end
	Refused int `json:"refused"` // punches in quarantine at the end
	// Oldest is the longest time from a kept punch to its receipt.
	Oldest time.Duration `json:"oldest_ns"`
	// Emptied is the time from the heal to the last receipt of a punch that was kept before the heal. It is nil if no
	// such punch exists.
	Emptied *time.Duration `json:"emptied_ns,omitempty"`
}

const (
	// deviceEvery is the pace of a gate in the morning.
	deviceEvery = 500 * time.Millisecond
	// deviceTimeout is how long an employee waits at the gate for the receipt.
	deviceTimeout = 5 * time.Second
	// drainEvery is the pause between flushes after the arrivals have ended.
	drainEvery = time.Second
)

// device is a device with an outbox.
type device struct {
	keeps client.OutboxConfig
	box   *client.Outbox
	asks  *recordingClient

	mu       sync.Mutex // guards the rest
	keptAt   map[punch.ID]time.Time
	receipts map[punch.ID]time.Time // from flushes
	punched  int
	errs     []error // of disk and ledger
}

// newDevices makes a device for each home, with its outbox below dir.
func newDevices(s *target, ledger *Ledger, dir string) (devices []*device, err error) {
	var endpoints []string
	for _, entry := range s.state.Entries() {
		if entry.Region == s.victim {
			endpoints = entry.Endpoints
		}
	}
	defer func() {
		if err != nil {
			closeDevices(devices)
		}
	}()
	for _, home := range s.homes() {
		asks := &recordingClient{ledger: ledger, entry: s.victim}
		d, err := newDevice(companyOf(s.state.Companies, home), endpoints, asks, filepath.Join(dir, home))
		if err != nil {
			return devices, fmt.Errorf("a device of %s in %s: %w", home, s.victim, err)
		}
		devices = append(devices, d)
	}
	return devices, nil
}

func companyOf(companies []cluster.Company, home string) *cluster.Company {
	for i := range companies {
		if companies[i].Home == home {
			return &companies[i]
		}
	}
	return nil // every home is the home of a company
}

func newDevice(company *cluster.Company, endpoints []string, asks *recordingClient, dir string) (*device, error) {
	keeps := client.OutboxConfig{Dir: dir, Company: company.ID}
	box, err := client.OpenOutbox(keeps)
	if err != nil {
		return nil, err
	}
	asks.company = company.ID
	asks.client, err = client.New(client.Config{Endpoints: endpoints, Token: client.StaticToken(company.Token), TotalTimeout: deviceTimeout})
	if err != nil {
		return nil, err
	}
	return &device{keeps: keeps, box: box, asks: asks, keptAt: make(map[punch.ID]time.Time), receipts: make(map[punch.ID]time.Time)}, nil
}

func closeDevices(devices []*device) {
	for _, d := range devices {
		d.asks.client.Close()
	}
}

// run punches until enough is closed, and flushes meanwhile as devices do. Then it flushes until nothing waits or
// settle has passed.
func (d *device) run(ctx context.Context, enough <-chan struct{}, settle time.Duration) error {
	flushing, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		d.box.Run(flushing, d.asks, func(f client.Flushed, err error) { d.flushed(f, whileOpen(flushing, err)) })
	})
	tick := time.NewTicker(deviceEvery)
	defer tick.Stop()
	for punching := true; punching; {
		select {
		case <-tick.C:
			all.Go(func() { d.punch(ctx) }) // several punches may wait at the same time
		case <-enough:
			punching = false
		case <-ctx.Done():
			punching = false
		}
	}
	stop()
	all.Wait()
	d.drain(ctx, settle)
	return errors.Join(d.errs...)
}

func (d *device) punch(ctx context.Context) {
	d.mu.Lock()
	d.punched++
	// A new employee each time: an employee does not punch twice a second.
	r := client.Request{ID: punch.NewID(), Employee: fmt.Sprintf("d%06d", d.punched), Kind: punch.In, Source: "cut-off"}
	d.mu.Unlock()
	_, err := d.box.Punch(ctx, d.asks, r)
	d.mu.Lock()
	defer d.mu.Unlock()
	var answer *client.Error
	switch {
	case err == nil || client.IsFinal(err):
	case errors.As(err, &answer) && !errors.Is(err, client.ErrNotKept):
		d.keptAt[r.ID] = r.ID.Time()
	default:
		d.note(err)
	}
}

// note keeps the first errors: a disk that fails does so each time. The caller holds the lock.
func (d *device) note(err error) {
	const enough = 10
	if err != nil && len(d.errs) < enough {
		d.errs = append(d.errs, err)
	}
}

// flushed notes the result of a flush.
func (d *device) flushed(f client.Flushed, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, r := range f.Receipts {
		d.receipts[r.ID] = now
	}
	d.note(err)
}

// drain flushes until the outbox is empty. Each time the device is a new process, which has heard of no time to upload.
// A busy node may have asked it to wait for minutes.
func (d *device) drain(ctx context.Context, settle time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, max(settle, time.Minute))
	defer cancel()
	for {
		box, err := client.OpenOutbox(d.keeps)
		if err != nil {
			d.flushed(client.Flushed{}, err)
			return
		}
		d.box = box
		done, err := d.box.Flush(ctx, d.asks)
		d.flushed(done, whileOpen(ctx, err))
		if err != nil || done.Kept == 0 || !cluster.Pause(ctx, drainEvery) {
			return // outboxes counts the punches that still wait
		}
	}
}

// whileOpen returns err, or nil if ctx has ended and so caused err.
func whileOpen(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// outboxes counts the punches of all devices.
func outboxes(ctx context.Context, devices []*device, healed time.Time) (*Outboxes, error) {
	o := &Outboxes{Devices: len(devices)}
	for _, d := range devices {
		waiting, err := d.box.List(ctx)
		if err != nil {
			return nil, err
		}
		refused, err := d.box.Quarantined(ctx)
		if err != nil {
			return nil, err
		}
		o.Punched, o.Kept = o.Punched+d.punched, o.Kept+len(d.keptAt)
		o.Waiting, o.Refused = o.Waiting+len(waiting), o.Refused+len(refused)
		for id, since := range d.keptAt {
			receipt, ok := d.receipts[id]
			if !ok {
				continue
			}
			o.Flushed++
			o.Oldest = max(o.Oldest, receipt.Sub(since))
			if took := receipt.Sub(healed); !healed.IsZero() && since.Before(healed) && (o.Emptied == nil || took > *o.Emptied) {
				o.Emptied = new(max(0, took))
			}
		}
	}
	return o, nil
}

// removeEmpty removes the outboxes if they are empty.
func (o *Outboxes) removeEmpty(dir string) error {
	if o.Waiting+o.Refused > 0 {
		return nil // what is in them is evidence
	}
	return os.RemoveAll(dir)
}

// recordingClient is a client that writes a ledger's lines around each request.
type recordingClient struct {
	ledger         *Ledger
	company, entry string
	client         *client.Client
}

func (w *recordingClient) intend(r client.Request) (uint64, error) {
	return w.ledger.Intend(time.Now(), w.entry, punch.Request{
		Company: w.company, Employee: r.Employee, ID: r.ID, Kind: r.Kind, At: r.At, Source: r.Source, Note: r.Note,
	})
}

// Punch implements client.Sender.
func (w *recordingClient) Punch(ctx context.Context, r client.Request) (client.Receipt, error) {
	seq, err := w.intend(r)
	if err != nil {
		return client.Receipt{}, err
	}
	receipt, err := w.client.Punch(ctx, r)
	if lost := w.ledger.Settle(seq, receipt.Receipt, err); lost != nil {
		return client.Receipt{}, lost
	}
	return receipt, err
}

// PunchBatch implements client.Sender.
func (w *recordingClient) PunchBatch(ctx context.Context, requests []client.Request) ([]client.Outcome, error) {
	seqs := make([]uint64, len(requests))
	for i, r := range requests {
		var err error
		if seqs[i], err = w.intend(r); err != nil {
			return nil, err
		}
	}
	outcomes, err := w.client.PunchBatch(ctx, requests)
	for i, o := range outcomes {
		if lost := w.ledger.Settle(seqs[i], o.Receipt.Receipt, o.Err); lost != nil {
			return nil, errors.Join(err, lost)
		}
	}
	return outcomes, err
}

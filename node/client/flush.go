package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Sender sends punches. A *Client is one.
type Sender interface {
	Punch(ctx context.Context, r Request) (Receipt, error)
	PunchBatch(ctx context.Context, requests []Request) ([]Outcome, error)
}

// Punch keeps a punch, sends it, and drops it when there is a receipt. Errors
// are those of Client.Punch: a final one means that the punch is in quarantine
// now, any other one that it waits for a Flush.
//
// A punch that cannot be kept, because the outbox is full or the disk fails, is
// sent all the same: with a receipt nothing is lost. Without one the error is
// also ErrNotKept, and the device must not say that all is well.
func (o *Outbox) Punch(ctx context.Context, s Sender, r Request) (Receipt, error) {
	if r.ID == (punch.ID{}) {
		r.ID = punch.NewID()
	}
	if err := o.Put(ctx, r); IsFinal(err) || errors.Is(err, ErrOtherPunch) {
		return Receipt{}, err
	} else if err != nil {
		receipt, failure := s.Punch(ctx, r)
		if failure != nil {
			return Receipt{}, fmt.Errorf("%w: %w; %w", ErrNotKept, err, failure)
		}
		o.cfg.Logger.WarnContext(ctx, "a punch is recorded that could not have been kept", "id", r.ID.String(), "error", err)
		return receipt, nil
	}
	receipt, err := s.Punch(ctx, r)
	// An answer counts although its caller has left meanwhile. What could not
	// be settled on the disk still waits: a flush hears the same answer.
	if failure := o.settle(context.WithoutCancel(ctx), []Request{r}, []Outcome{{receipt, err}}); failure != nil {
		o.cfg.Logger.WarnContext(ctx, "a settled punch still waits", "id", r.ID.String(), "error", failure)
	}
	return receipt, err
}

// Flushed is what became of the punches that waited when a flush began.
type Flushed struct {
	Receipts []Receipt
	Refused  []Kept // in quarantine now
	Kept     int    // still wait
	// RetryAfter is when the service wants to be asked again, 0 if it said
	// nothing.
	RetryAfter time.Duration
	// Last is why a punch that is kept was not taken.
	Last *Error
}

// Flush sends all punches that wait, oldest first, in batches. It ends early
// when a batch settles nothing: the service is away, or the token does not
// hold, and the rest would only hear the same. The error is about the outbox
// itself, ErrFlushing or the disk's; what was settled in spite of it is told.
func (o *Outbox) Flush(ctx context.Context, s Sender) (Flushed, error) {
	unlock, err := o.disk.lock(ctx, flushLock, 0)
	if errors.Is(err, errBusy) {
		return Flushed{}, ErrFlushing
	}
	if err != nil {
		return Flushed{}, fmt.Errorf("outbox: %w", err)
	}
	defer unlock()
	in, err := o.inventoryNow(ctx)
	if err != nil {
		return Flushed{}, err
	}
	f := &flush{outbox: o, sender: s}
	f.Kept = len(in.waiting)
	workers := make(chan struct{}, o.cfg.Concurrency)
	var all sync.WaitGroup
	for names := in.waiting; len(names) > 0; {
		workers <- struct{}{} // a batch ends with its context: no need to look at it here
		if f.ended() || ctx.Err() != nil {
			break
		}
		batch := names[:min(o.cfg.Batch, len(names))]
		names = names[len(batch):]
		all.Go(func() {
			defer func() { <-workers }()
			f.send(ctx, batch)
		})
	}
	all.Wait()
	return f.Flushed, errors.Join(f.errs...)
}

// flush is one call of Flush.
type flush struct {
	outbox *Outbox
	sender Sender

	mu      sync.Mutex // guards all below
	Flushed            // what it will answer
	errs    []error
	stop    bool
}

func (f *flush) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stop
}

func (f *flush) send(ctx context.Context, names []string) {
	kept, err := f.outbox.loadAll(ctx, names)
	f.mu.Lock()
	f.Kept -= len(names) - len(kept) // settled by somebody else, or damaged
	f.note(err)
	f.mu.Unlock()
	if len(kept) == 0 {
		return
	}
	requests := make([]Request, len(kept))
	for i := range kept {
		requests[i] = kept[i].Request
	}
	outcomes, err := f.sender.PunchBatch(ctx, requests)
	if err == nil {
		err = f.outbox.settle(context.WithoutCancel(ctx), requests, outcomes)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(err)
	f.count(kept, outcomes)
}

// note keeps an error. A disk that fails once fails for each punch: a few
// errors say it all.
func (f *flush) note(err error) {
	const enough = 10
	if err != nil && len(f.errs) < enough {
		f.errs = append(f.errs, err)
	}
}

// count adds what became of a batch, and ends the flush when nothing did. A
// clock that was ahead says nothing about the punches behind it.
func (f *flush) count(kept []Kept, outcomes []Outcome) {
	settled, waiting := 0, 0
	for i, o := range outcomes {
		var e *Error
		switch {
		case o.Err == nil:
			f.Receipts = append(f.Receipts, o.Receipt)
			settled++
		case errors.As(o.Err, &e) && e.Final:
			k := kept[i]
			k.Refusal = refusalOf(e, f.outbox.cfg.Clock())
			f.Refused = append(f.Refused, k)
			settled++
		case e != nil:
			f.Last = e
			if e.Code != punch.ClockAhead {
				f.RetryAfter = max(f.RetryAfter, e.RetryAfter)
				waiting++
			}
		default:
			waiting++
		}
	}
	f.Kept -= settled
	f.stop = f.stop || settled == 0 && waiting > 0
}

// settle puts the outcomes of a batch on the disk.
func (o *Outbox) settle(ctx context.Context, requests []Request, outcomes []Outcome) error {
	var errs []error
	var receipts []Receipt
	for i := range outcomes {
		var e *Error
		switch err := outcomes[i].Err; {
		case err == nil:
			receipts = append(receipts, outcomes[i].Receipt)
		case errors.As(err, &e) && e.Final:
			errs = append(errs, o.locked(ctx, func() error { return o.refuse(requests[i].ID, e) }))
		}
	}
	if len(receipts) > 0 {
		errs = append(errs, o.locked(ctx, func() error { return o.recorded(receipts) }))
	}
	return errors.Join(errs...)
}

// refuse moves a punch to the quarantine, unless somebody else has settled it.
func (o *Outbox) refuse(id punch.ID, e *Error) error {
	name := id.String() + punchExt
	k, err := o.load(waitingDir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	k.Refusal = refusalOf(e, o.cfg.Clock())
	k.revision++
	content, err := encodeKept(&k)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := o.replace(asideDir, name, content); err != nil {
		return err
	}
	if err := o.disk.remove(waitingDir + "/" + name); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil // a removal that is lost is made up for by the revisions
}

// recorded drops punches that have a receipt, wherever they are: another
// process may have heard a refusal before. The folders are not synced: what
// comes back after a loss of power is sent again and answered as before.
func (o *Outbox) recorded(receipts []Receipt) error {
	var errs []error
	if o.cfg.Receipts {
		// A disk that is too full for receipts must not stay full of punches.
		errs = append(errs, o.logReceipts(receipts))
	}
	for _, r := range receipts {
		for _, dir := range []string{waitingDir, asideDir} {
			err := o.disk.remove(dir + "/" + r.ID.String() + punchExt)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("outbox: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// Interval between the flushes of Run: a device that was cut off is up to date
// within half a minute, and one whose service is away asks rarely.
const flushEvery = 15 * time.Second

// Run flushes at once and then again and again until ctx ends, no sooner than
// the service wants. report hears of each flush that did something or failed;
// it may be nil.
func (o *Outbox) Run(ctx context.Context, s Sender, report func(Flushed, error)) {
	for {
		done, err := o.Flush(ctx, s)
		if errors.Is(err, ErrFlushing) {
			done, err = Flushed{}, nil // whoever flushes does it for us as well
		}
		if report != nil && (err != nil || done.Last != nil || len(done.Receipts)+len(done.Refused) > 0) {
			report(done, err)
		}
		wait := max(flushEvery, min(done.RetryAfter, maxFlushWait))
		// Devices that lost the network together must not come back together.
		if sleep(ctx, wait+rand.N(wait/2)) != nil {
			return
		}
	}
}

// maxFlushWait bounds how long an answer's Retry-After is obeyed between
// flushes: a wrong header must not silence a device.
const maxFlushWait = 5 * time.Minute

package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Sender sends punches. A *Client is one.
type Sender interface {
	Punch(ctx context.Context, r Request) (Receipt, error)
	PunchBatch(ctx context.Context, requests []Request) ([]Outcome, error)
}

var _ Sender = (*Client)(nil)

// Punch keeps a punch, sends it, and drops it once there is a receipt. Its errors are those of Client.Punch. After a final
// error the punch is in quarantine. After any other error it waits for a Flush.
//
// If the punch cannot be kept, because the outbox is full or the disk fails, Punch sends it all the same: with a receipt
// nothing is lost. Without a receipt the error is also ErrNotKept, and the device must tell the person.
func (o *Outbox) Punch(ctx context.Context, s Sender, r Request) (Receipt, error) {
	r = r.WithID()
	if err := o.Put(ctx, r); IsFinal(err) || errors.Is(err, ErrOtherPunch) {
		return Receipt{}, err
	} else if err != nil {
		receipt, failure := s.Punch(ctx, r)
		if failure != nil {
			return Receipt{}, fmt.Errorf("%w: %w; %w", ErrNotKept, err, failure)
		}
		o.cfg.Log.WarnContext(ctx, "the outbox could not keep a punch; the service recorded it", "id", r.ID.String(), "error", err)
		return receipt, nil
	}
	receipt, err := s.Punch(ctx, r)
	o.slot.hear(time.Now(), Outcome{receipt, err})
	// The answer counts although the caller may have gone. If the disk fails here, the punch still waits, and the next
	// flush gets the same answer.
	if failure := o.apply(context.WithoutCancel(ctx), []Request{r}, []Outcome{{receipt, err}}); failure != nil {
		o.cfg.Log.WarnContext(ctx, "a settled punch still waits in the outbox", "id", r.ID.String(), "error", failure)
	}
	return receipt, err
}

// Flushed is the result of a flush for the punches that waited when it began.
type Flushed struct {
	Receipts []Receipt
	Refused  []Entry // in quarantine now
	Kept     int     // number of punches that still wait
	// RetryAfter is the wait that the service asks for, or 0.
	RetryAfter time.Duration
	// Last is an error of a punch that still waits.
	Last *Error
}

// Flush sends all waiting punches, oldest first, in batches. For some minutes it leaves out punches that a node called
// ahead of their time.
//
// Flush ends early if a batch settles nothing: the service is down or the token is invalid, and the rest would get the
// same answer. It also ends early when the service asks to upload later. It sends nothing before that time, which
// RetryAfter names. The error is about the outbox itself: ErrFlushing, or an error of the disk. The result is valid with
// it.
func (o *Outbox) Flush(ctx context.Context, s Sender) (Flushed, error) {
	unlock, err := o.disk.lock(ctx, flushLock, 0)
	if errors.Is(err, errBusy) {
		return Flushed{}, ErrFlushing
	}
	if err != nil {
		return Flushed{}, fmt.Errorf("outbox: %w", err)
	}
	defer unlock()
	in, err := o.lockedScan(ctx)
	if err != nil {
		return Flushed{}, err
	}
	f := &flush{outbox: o, sender: s}
	f.Kept = len(in.waiting)
	if f.RetryAfter = o.slot.wait(time.Now()); f.RetryAfter > 0 {
		return f.Flushed, nil
	}
	workers := make(chan struct{}, o.cfg.Concurrency)
	var all sync.WaitGroup
	for names := o.holds.due(in.waiting, time.Now()); len(names) > 0; {
		workers <- struct{}{} // a batch ends with its context, so this wait does as well
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
	Flushed            // the result
	errs    []error
	stop    bool
}

func (f *flush) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stop
}

func (f *flush) send(ctx context.Context, names []string) {
	entries, err := f.outbox.loadAll(ctx, names)
	f.mu.Lock()
	f.Kept -= len(names) - len(entries) // another process settled them, or they are damaged
	f.addError(err)
	f.mu.Unlock()
	if len(entries) == 0 {
		return
	}
	requests := make([]Request, len(entries))
	for i := range entries {
		requests[i] = entries[i].Request
	}
	outcomes, err := f.sender.PunchBatch(ctx, requests)
	f.outbox.slot.hear(time.Now(), outcomes...)
	if err == nil {
		err = f.outbox.apply(context.WithoutCancel(ctx), requests, outcomes)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addError(err)
	f.count(entries, outcomes)
}

// addError keeps the first errors. A disk that fails once fails for each punch, and a thousand equal errors say no more.
func (f *flush) addError(err error) {
	const enough = 10
	if err != nil && len(f.errs) < enough {
		f.errs = append(f.errs, err)
	}
}

// count adds the outcomes of a batch. It ends the flush if the batch settled nothing. A clock_ahead does not end it: it
// says nothing about the later punches.
func (f *flush) count(entries []Entry, outcomes []Outcome) {
	settled, waiting := 0, 0
	for i, o := range outcomes {
		var e *Error
		switch {
		case o.Err == nil:
			f.Receipts = append(f.Receipts, o.Receipt)
			settled++
		case errors.As(o.Err, &e) && e.Final:
			refused := entries[i]
			refused.Refusal = refusalOf(e, f.outbox.cfg.Clock())
			f.Refused = append(f.Refused, refused)
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
	later := f.outbox.slot.wait(time.Now())
	if f.Kept > 0 {
		f.RetryAfter = max(f.RetryAfter, later)
	}
	f.stop = f.stop || settled == 0 && waiting > 0 || later > 0
}

// apply writes the outcomes of a batch to the disk.
func (o *Outbox) apply(ctx context.Context, requests []Request, outcomes []Outcome) error {
	var errs []error
	var receipts []Receipt
	for i := range outcomes {
		var e *Error
		switch err := outcomes[i].Err; {
		case err == nil:
			receipts = append(receipts, outcomes[i].Receipt)
		case errors.As(err, &e) && e.Final:
			errs = append(errs, o.locked(ctx, func() error { return o.quarantine(requests[i].ID, e) }))
		case e != nil && e.Code == punch.ClockAhead:
			o.holds.set(requests[i].ID, time.Now().Add(min(e.RetryAfter, maxFlushWait)))
		}
	}
	if len(receipts) > 0 {
		errs = append(errs, o.locked(ctx, func() error { return o.removeRecorded(receipts) }))
	}
	return errors.Join(errs...)
}

// quarantine moves a waiting punch to the quarantine. It does nothing if another process has settled the punch.
func (o *Outbox) quarantine(id punch.ID, refusal *Error) error {
	name := id.String() + punchExt
	e, err := o.load(waitingDir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	e.Refusal = refusalOf(refusal, o.cfg.Clock())
	e.revision++
	content, err := e.encode()
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := o.replace(quarantineDir, name, content); err != nil {
		return err
	}
	if err := o.disk.remove(waitingDir + "/" + name); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil // if a loss of power undoes the removal, the revisions tell which file is valid
}

// removeRecorded removes punches that have a receipt, also from the quarantine: another process may have got a refusal
// before. It does not sync the folders. If a loss of power brings a punch back, it is sent again and gets its receipt.
func (o *Outbox) removeRecorded(receipts []Receipt) error {
	var errs []error
	if o.cfg.Receipts {
		// The punches go although their receipts cannot be logged: a full disk must not stay full of punches.
		errs = append(errs, o.logReceipts(receipts))
	}
	for _, r := range receipts {
		for _, dir := range []string{waitingDir, quarantineDir} {
			err := o.disk.remove(dir + "/" + r.ID.String() + punchExt)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("outbox: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

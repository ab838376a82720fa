package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// flushEvery is the interval of Run. A device that was cut off is up to date within half a minute. If the service does not
// answer, the interval doubles up to flushEveryMost: many devices with stored punches must not keep a service down.
const (
	flushEvery     = 15 * time.Second
	flushEveryMost = time.Minute
)

// maxFlushWait bounds the Retry-After that an outbox obeys. The default of a Client is the same.
const maxFlushWait = defaultRetryAfterMax

// Run flushes at once and then repeatedly until ctx ends. It obeys the Retry-After of the service, and uploads when the
// service asks. report gets the result of each flush that settled a punch or failed. It may be nil.
func (o *Outbox) Run(ctx context.Context, s Sender, report func(Flushed, error)) {
	every := flushEvery
	for {
		done, err := o.Flush(ctx, s)
		if errors.Is(err, ErrFlushing) {
			done, err = Flushed{}, nil // the other flush sends the punches
		}
		if report != nil && (err != nil || done.Last != nil || len(done.Receipts)+len(done.Refused) > 0) {
			report(done, err)
		}
		after := min(done.RetryAfter, maxFlushWait)
		failed := done.Last != nil && done.Last.Code != punch.ClockAhead && len(done.Receipts)+len(done.Refused) == 0
		switch {
		case !failed:
			every = flushEvery
		case after < every: // a service that asks for a longer wait knows better
			every = min(2*every, flushEveryMost)
		}
		// The jitter spreads devices that lost the network together. The service has spread the time for an upload already,
		// so no jitter moves that far.
		wait := max(every+rand.N(every/2), after+rand.N(min(after/10, flushEveryMost)+1))
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// uploadSlot is the time before which a device must not upload stored punches, because the service asked so. It lies in
// memory, so a new process asks once more.
type uploadSlot struct {
	mu    sync.Mutex // guards until
	until time.Time  // on the monotonic clock: a person may set the other one
}

// hear looks at the answers of the service. The newest one counts.
func (u *uploadSlot) hear(now time.Time, outcomes ...Outcome) {
	for _, o := range outcomes {
		after := o.Receipt.UploadAfter
		if e, ok := errors.AsType[*Error](o.Err); ok {
			after = e.UploadAfter
		}
		if after > 0 {
			u.mu.Lock()
			u.until = now.Add(after)
			u.mu.Unlock()
			return // an answer to a batch says it once
		}
	}
}

// wait returns the time until the upload, or 0.
func (u *uploadSlot) wait(now time.Time) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return max(0, u.until.Sub(now))
}

// holds are the waiting punches that a node called ahead, each with the time before which Flush leaves it out. Without
// them a device with a wrong clock would send thousands of punches in vain at every flush. They lie in memory, so a new
// process asks once more.
type holds struct {
	mu    sync.Mutex           // guards until
	until map[string]time.Time // by the name of the file, on the monotonic clock: a person may set the other one
}

func (h *holds) set(id punch.ID, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until == nil {
		h.until = make(map[string]time.Time)
	}
	h.until[id.String()+punchExt] = until
}

// due returns the waiting files without those on hold. It forgets the holds of files that do not wait any more.
func (h *holds) due(waiting []string, now time.Time) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := make(map[string]time.Time)
	due := slices.DeleteFunc(slices.Clone(waiting), func(name string) bool {
		until, found := h.until[name]
		if found = found && now.Before(until); found {
			held[name] = until
		}
		return found
	})
	h.until = held
	return due
}

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// MaxBatch is the most punches that PunchBatch takes.
const MaxBatch = 1000

// maxBatchBody bounds the bytes of one request. It is half of the default bound of a node. Batches with long notes need
// several requests.
const maxBatchBody = 512 << 10

// Outcome is the result of one punch of a batch: a receipt, or an *Error as Punch returns it.
type Outcome struct {
	Receipt Receipt
	Err     error
}

// PunchBatch records punches of a device that was offline. It returns an outcome for each, in their order. Each punch
// succeeds or fails alone. As Punch does, PunchBatch sends open punches again with the same ids. TotalTimeout applies to
// each request of the batch. The error is about the call alone: more than MaxBatch punches.
func (c *Client) PunchBatch(ctx context.Context, requests []Request) ([]Outcome, error) {
	if len(requests) > MaxBatch {
		return nil, fmt.Errorf("client: %d punches are more than %d", len(requests), MaxBatch)
	}
	b := newBatch(len(requests), c.cfg.MaxClockAhead)
	var chunk []int
	size := 0
	for i, r := range requests {
		if !b.add(i, r) {
			continue
		}
		if size+len(b.encoded[i]) > maxBatchBody {
			c.sendBatch(ctx, b, chunk)
			chunk, size = nil, 0
		}
		chunk = append(chunk, i)
		size += len(b.encoded[i]) + len(",")
	}
	c.sendBatch(ctx, b, chunk)
	return b.outcomes, nil
}

// batch holds the punches of one call. Other functions know a punch by its index.
type batch struct {
	requests      []Request // with their ids
	encoded       [][]byte
	clocks        []clockCheck
	outcomes      []Outcome
	maxClockAhead time.Duration
}

func newBatch(n int, maxClockAhead time.Duration) *batch {
	return &batch{
		requests: make([]Request, n), encoded: make([][]byte, n), clocks: make([]clockCheck, n), outcomes: make([]Outcome, n),
		maxClockAhead: maxClockAhead,
	}
}

// add reports whether the punch can be sent.
func (b *batch) add(i int, r Request) bool {
	r = r.WithID()
	body, err := r.JSON()
	if err != nil {
		b.outcomes[i].Err = unsendable(r.ID, err)
		return false
	}
	b.requests[i], b.encoded[i] = r, body
	return true
}

func (b *batch) body(chunk []int) []byte {
	parts := make([][]byte, len(chunk))
	for j, i := range chunk {
		parts[j] = b.encoded[i]
	}
	return fmt.Appendf(nil, `{"punches":[%s]}`, bytes.Join(parts, []byte(",")))
}

// sendBatch sets the outcomes of the punches of one request.
func (c *Client) sendBatch(ctx context.Context, b *batch, open []int) {
	if len(open) == 0 {
		return
	}
	all, attempt := open, 0
	_, err := c.do(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		attempt++
		answer, err := c.send(ctx, endpoint, http.MethodPost, "/v1/punches/batch", b.body(open), maxBatchBytes)
		if err != nil {
			// A proxy that limits the size of a body sends no problem document.
			err.Final = err.Final || err.Status == http.StatusRequestEntityTooLarge
			err.slot = err.UploadAfter > 0
			return err
		}
		open, err = b.take(answer, open, attempt)
		return err
	})
	for _, i := range all {
		if b.outcomes[i].Err == nil && b.outcomes[i].Receipt.Attempts > 0 {
			c.skipWrongClock(&b.clocks[i])
		}
	}
	if err == nil {
		return
	}
	if err.Final { // the request was refused as a whole, which says nothing about its punches
		open, err = c.sendEach(ctx, b, open)
	}
	for _, i := range open {
		own := *err
		if last, ok := errors.AsType[*Error](b.outcomes[i].Err); ok && last.Code == punch.ClockAhead {
			own = *last
		}
		own.ID = b.requests[i].ID
		b.outcomes[i].Err = &own
	}
}

// sendEach sends punches one by one until the service does not answer. The rest would wait in vain as well. It returns
// the rest and the reason.
func (c *Client) sendEach(ctx context.Context, b *batch, open []int) ([]int, *Error) {
	for j, i := range open {
		receipt, err := c.Punch(ctx, b.requests[i])
		b.outcomes[i] = Outcome{receipt, err}
		if failure, ok := errors.AsType[*Error](err); ok && !failure.Final && failure.Code != punch.ClockAhead {
			return open[j+1:], failure
		}
	}
	return nil, nil
}

// wireResults is the answer to a batch: a receipt or a problem for each punch.
type wireResults struct {
	Results []struct {
		Status  int          `json:"status"`
		Receipt *wireReceipt `json:"receipt"`
		Problem *wireProblem `json:"problem"`
	} `json:"results"`
}

// take stores the outcomes of an answer. It returns the punches that another attempt may settle, and the reason for that
// attempt.
func (b *batch) take(a answer, sent []int, attempt int) (open []int, again *Error) {
	var w wireResults
	if err := json.Unmarshal(a.body, &w); err != nil || len(w.Results) != len(sent) {
		return sent, noAnswer(a.status, errors.Join(fmt.Errorf("the answer has %d results for %d punches", len(w.Results), len(sent)), err))
	}
	for j, i := range sent {
		result, r := &w.Results[j], &b.requests[i]
		failure := &Error{ID: r.ID, Status: result.Status, Code: punch.Unavailable, Endpoint: a.endpoint, Node: a.node, Attempts: attempt, UploadAfter: a.uploadAfter}
		switch {
		case result.Receipt != nil:
			receipt, err := result.Receipt.receiptFor(r.Employee, r.ID)
			if err == nil {
				b.outcomes[i] = Outcome{Receipt: Receipt{
					Receipt: receipt, Node: a.node, Endpoint: a.endpoint, Attempts: attempt, UploadAfter: a.uploadAfter,
				}}
				continue
			}
			failure.Err = err
		case result.Problem != nil && result.Problem.Code != "":
			result.Problem.apply(failure)
			failure.RetryAfter = result.Problem.retryAfter()
			b.clocks[i].hear(failure, b.maxClockAhead)
		default:
			failure.Err = errors.New("the result is neither a receipt nor a problem")
		}
		b.outcomes[i].Err = failure
		if !failure.retryable() {
			continue
		}
		open = append(open, i)
		if again == nil || failure.moreUrgent(again) {
			again = failure
		}
	}
	if again != nil {
		reason := *again // do changes it, and the outcome of the punch must stay
		again = &reason
	}
	return open, again
}

// moreUrgent reports whether the next attempt must follow e and not other. A clock_ahead needs no wait, so it must not
// shorten the wait for a service that is overloaded.
func (e *Error) moreUrgent(other *Error) bool {
	if ahead, otherAhead := e.Code == punch.ClockAhead, other.Code == punch.ClockAhead; ahead != otherAhead {
		return otherAhead
	}
	return e.RetryAfter > other.RetryAfter
}

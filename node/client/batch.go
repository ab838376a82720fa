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

// maxBatchBody splits batches with long notes: half of what a node takes
// unless it is told otherwise.
const maxBatchBody = 512 << 10

// Outcome is what became of one punch of a batch: a receipt, or an *Error as
// Punch returns it.
type Outcome struct {
	Receipt Receipt
	Err     error
}

// PunchBatch records punches of a device that was offline and returns an
// outcome for each, in their order. Items fail one by one; those that are not
// settled are sent again, with the same ids, as Punch does. TotalTimeout is for
// each request's worth of punches. The error is about the call alone: more than
// MaxBatch punches.
func (c *Client) PunchBatch(ctx context.Context, requests []Request) ([]Outcome, error) {
	if len(requests) > MaxBatch {
		return nil, fmt.Errorf("client: %d punches are more than %d", len(requests), MaxBatch)
	}
	b := &batch{requests: make([]Request, len(requests)), encoded: make([][]byte, len(requests)), outcomes: make([]Outcome, len(requests))}
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

// batch is the punches of one call. Elsewhere they are known by their index.
type batch struct {
	requests []Request // with their ids
	encoded  [][]byte
	outcomes []Outcome
}

// add reports whether the punch can be sent.
func (b *batch) add(i int, r Request) bool {
	if r.ID == (punch.ID{}) {
		r.ID = punch.NewID()
	}
	body, err := encodePunch(r)
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

// sendBatch settles the punches of one request.
func (c *Client) sendBatch(ctx context.Context, b *batch, open []int) {
	if len(open) == 0 {
		return
	}
	attempt := 0
	_, err := c.settle(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		attempt++
		answer, err := c.send(ctx, endpoint, http.MethodPost, "/v1/punches/batch", b.body(open), maxBatchBytes)
		if err != nil {
			// A proxy's limit comes without a problem of ours.
			err.Final = err.Final || err.Status == http.StatusRequestEntityTooLarge
			return err
		}
		open, err = b.take(answer, open, attempt)
		return err
	})
	if err == nil {
		return
	}
	if err.Final { // of the request as a whole, which says nothing of its items
		open, err = c.sendEach(ctx, b, open)
	}
	for _, i := range open {
		own := *err
		own.ID = b.requests[i].ID
		b.outcomes[i].Err = &own
	}
}

// sendEach sends punches one by one until the service is away: the others need
// not wait for that as well. It returns them, and why.
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

// wireResults is the answer to a batch: for each item a receipt or a problem.
type wireResults struct {
	Results []struct {
		Status  int          `json:"status"`
		Receipt *wireReceipt `json:"receipt"`
		Problem *wireProblem `json:"problem"`
	} `json:"results"`
}

// take keeps the outcomes that settle an item and returns the items that
// another attempt may settle, with the reason for that attempt.
func (b *batch) take(a answer, sent []int, attempt int) (open []int, again *Error) {
	var w wireResults
	if err := json.Unmarshal(a.body, &w); err != nil || len(w.Results) != len(sent) {
		return sent, noAnswer(a.status, errors.Join(fmt.Errorf("the answer has %d results for %d punches", len(w.Results), len(sent)), err))
	}
	for j, i := range sent {
		result, r := &w.Results[j], &b.requests[i]
		failure := &Error{ID: r.ID, Status: result.Status, Code: punch.Unavailable, Endpoint: a.endpoint, Attempts: attempt}
		switch {
		case result.Receipt != nil:
			receipt, err := result.Receipt.receiptFor(r.Employee, r.ID)
			if err == nil {
				b.outcomes[i].Receipt = Receipt{Receipt: receipt, Node: a.node, Endpoint: a.endpoint, Attempts: attempt}
				continue
			}
			failure.Err = err
		case result.Problem != nil && result.Problem.Code != "":
			result.Problem.apply(failure)
			failure.RetryAfter = time.Duration(result.Problem.RetryAfter) * time.Second
		default:
			failure.Err = errors.New("the result is neither a receipt nor a problem")
		}
		if !failure.again() {
			b.outcomes[i].Err = failure
			continue
		}
		open = append(open, i)
		if again == nil || failure.RetryAfter > again.RetryAfter {
			again = failure
		}
	}
	return open, again
}

package httpapi

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// record answers POST /v1/punches.
func (a *API) record(c *call) (reply, error) {
	receipt, err := a.recordBody(c)
	if err != nil {
		a.metrics.punch(outcomeOf(c.ctx, punch.CodeOf(err)))
		return reply{}, err
	}
	a.metrics.punch(outcomeOfReceipt(&receipt))
	describe(c.ctx, &receipt)
	c.buf.Reset()
	c.buf.Write(appendReceipt(c.buf.AvailableBuffer(), &receipt))
	return reply{status: statusOf(&receipt), location: locationOf(&receipt), home: receipt.HomeRegion}, nil
}

func (a *API) recordBody(c *call) (punch.Receipt, error) {
	if err := a.memory.hold(heldByPunch, maxHeld); err != nil {
		return punch.Receipt{}, err
	}
	defer a.memory.release(heldByPunch)
	if err := c.readBody(a.cfg.MaxBody); err != nil {
		return punch.Receipt{}, err
	}
	if err := c.ctx.Err(); err != nil { // the caller has left while the request waited
		return punch.Receipt{}, err
	}
	if err := a.checkClock(); err != nil {
		return punch.Receipt{}, err
	}
	request, err := decodePunch(c.buf.Bytes(), c.caller.Company)
	if err != nil {
		return punch.Receipt{}, err
	}
	a.inFlight.Add(1)
	defer a.inFlight.Add(-1)
	return a.recordOne(c, request, c.at)
}

// elsewhere is sent as Retry-After: 0. Only this node is at fault, so a device must not wait before it asks another node.
const elsewhere = -time.Second

// checkClock refuses every punch while the node's clock is wrong. Otherwise the node would tell devices with correct
// clocks that their clocks are ahead. It would also store a false receive time, which is evidence for payroll and never
// changes. Any other node can take the same punch with a true receive time. Reads go on: they stamp nothing.
func (a *API) checkClock() error {
	if !a.deps.ClockWrong() {
		return nil
	}
	return punch.Retryable(punch.Unavailable, elsewhere,
		"this node's clock is wrong; send the punch to another node with the same id", nil)
}

// recordOne stamps a valid request and records it.
func (a *API) recordOne(c *call, request punch.Request, at time.Time) (punch.Receipt, error) {
	if err := mayPunch(c.caller, request.Employee); err != nil {
		return punch.Receipt{}, err
	}
	p := punch.Stamped(request, at, string(a.cfg.Region), tracing.TraceID(c.ctx))
	return a.deps.Recorder.Record(c.ctx, p)
}

func mayPunch(caller auth.Identity, employee string) error {
	if caller.MayPunch(employee) {
		return nil
	}
	return &punch.Error{Code: punch.Forbidden, Field: "employee", Message: "this token may only punch for its own employee"}
}

func statusOf(r *punch.Receipt) int {
	if r.Replayed {
		return http.StatusOK
	}
	return http.StatusCreated
}

func outcomeOfReceipt(r *punch.Receipt) string {
	if r.Replayed {
		return outcomeReplayed
	}
	return outcomeRecorded
}

// locationOf needs no escaping: the id of an employee has no character that a path escapes.
func locationOf(r *punch.Receipt) string {
	return "/v1/employees/" + r.Employee + "/punches/" + r.ID.String()
}

// describe puts the attributes on the request's span by which people search for its trace.
func describe(ctx context.Context, r *punch.Receipt) {
	if !tracing.Sampled(ctx) {
		return
	}
	trace.SpanFromContext(ctx).SetAttributes(
		tracing.HomeRegion.String(r.HomeRegion), tracing.EntryRegion.String(r.EntryRegion),
		tracing.Replayed.Bool(r.Replayed))
}

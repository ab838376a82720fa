package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

const (
	// maxBatch is the most punches in one request: the punches of a device that was offline for a month.
	maxBatch = 1000
	// batchWorkers is how many punches of a batch are recorded at once. A few writes then take them all, and the outbox of
	// one device does not fill the queue.
	batchWorkers = 256
)

// item is one punch of a batch: first a request or a decoding error, then a receipt or an error.
type item struct {
	request punch.Request
	receipt punch.Receipt
	err     error
}

// recordBatch answers POST /v1/punches/batch.
func (a *API) recordBatch(c *call) (reply, error) {
	held := batchMemory(c.r.ContentLength, a.cfg.MaxBody)
	if err := a.memory.hold(held, maxHeldByBatches); err != nil {
		return reply{}, err
	}
	defer a.memory.release(held)
	if err := c.readBody(a.cfg.MaxBody); err != nil {
		return reply{}, err
	}
	if err := a.checkClock(); err != nil {
		return reply{}, err
	}
	items, err := decodeBatch(c.buf.Bytes(), c.caller.Company)
	if err != nil {
		return reply{}, err
	}
	if tracing.Sampled(c.ctx) {
		trace.SpanFromContext(c.ctx).SetAttributes(tracing.BatchSize.Int(len(items)))
	}
	c.ctx = punch.WithOutbox(c.ctx)
	a.recordItems(c, items)
	c.buf.Reset()
	return reply{status: http.StatusOK, home: a.writeResults(c, items)}, nil
}

// recordItems records all items without an error, several at once.
func (a *API) recordItems(c *call, items []item) {
	a.inFlight.Add(int64(len(items)))
	defer a.inFlight.Add(-int64(len(items)))
	var (
		next    atomic.Int64
		workers sync.WaitGroup
	)
	for range min(batchWorkers, len(items)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(items)); i = next.Add(1) - 1 {
				if it := &items[i]; it.err == nil {
					it.receipt, it.err = a.recordItem(c, it.request, int(i))
				}
			}
		})
	}
	workers.Wait()
}

// recordItem turns a panic into an error. net/http does so for single punches, but a panic in a worker would end the
// process.
//
// The items of a batch get receive times one microsecond apart. A stamp shows which request wrote a row, and a batch may
// hold the same punch twice.
func (a *API) recordItem(c *call, request punch.Request, place int) (receipt punch.Receipt, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.deps.Log.ErrorContext(c.ctx, "panic while recording a punch", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return a.recordOne(c, request, c.at.Add(time.Duration(place)*time.Microsecond))
}

// writeResults writes {"results":[…]} in the order of the items. It returns the home region if an item has a receipt.
func (a *API) writeResults(c *call, items []item) (home string) {
	b := append(c.buf.AvailableBuffer(), `{"results":[`...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		it := &items[i]
		b = append(b, `{"status":`...)
		if it.err != nil {
			refusal := a.toProblem(c.ctx, it.err)
			a.metrics.punch(outcomeOf(c.ctx, refusal.Code))
			b = strconv.AppendInt(b, int64(refusals[refusal.Code].status), 10)
			b = appendProblem(append(b, `,"problem":`...), newProblem(refusal, tracing.TraceID(c.ctx)))
		} else {
			a.metrics.punch(outcomeOfReceipt(&it.receipt))
			home = it.receipt.HomeRegion
			b = strconv.AppendInt(b, int64(statusOf(&it.receipt)), 10)
			b = appendReceipt(append(b, `,"receipt":`...), &it.receipt)
		}
		b = append(b, '}')
	}
	c.buf.Write(append(b, `]}`...))
	return home
}

// decodeBatch reads {"punches":[…]}. An invalid item fails alone. Only an error that hides where items begin and end fails
// them all. The outer decoder therefore accepts doubled names and invalid UTF-8, and decodePunch refuses them.
func decodeBatch(body []byte, company string) ([]item, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if d.PeekKind() != jsontext.KindBeginObject {
		return nil, notBatch(d)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, decodeError(err)
	}
	var items []item
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		switch {
		case err != nil:
			return nil, decodeError(err)
		case name.String() != "punches":
			return nil, punch.InvalidField(fieldOf(d.StackPointer()), "is not a field of a batch")
		case items != nil:
			return nil, punch.InvalidField("punches", "must appear only once")
		}
		if items, err = decodeItems(d, company); err != nil {
			return nil, err
		}
	}
	if len(items) == 0 {
		return nil, punch.InvalidField("punches", "must hold 1 to %d punches", maxBatch)
	}
	return items, endOf(d)
}

// notBatch returns the error of a body that is not a JSON object.
func notBatch(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != nil {
		return decodeError(err)
	}
	return punch.Errorf(punch.Invalid, "the body must be a JSON object")
}

func decodeItems(d *jsontext.Decoder, company string) ([]item, error) {
	if d.PeekKind() != jsontext.KindBeginArray {
		if err := d.SkipValue(); err != nil {
			return nil, decodeError(err)
		}
		return nil, punch.InvalidField("punches", "must be an array")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, decodeError(err)
	}
	items := []item{} // not nil: decodeBatch notices a second array
	for d.PeekKind() != jsontext.KindEndArray {
		if len(items) == maxBatch {
			return nil, punch.InvalidField("punches", "must hold 1 to %d punches", maxBatch)
		}
		raw, err := d.ReadValue()
		if err != nil {
			return nil, decodeError(err)
		}
		var it item
		it.request, it.err = decodePunch(raw, company)
		items = append(items, it)
	}
	_, err := d.ReadToken()
	if err != nil {
		return nil, decodeError(err)
	}
	return items, nil
}

// endOf checks that nothing follows the object.
func endOf(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != nil {
		return decodeError(err)
	}
	_, err := d.ReadToken()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return punch.Errorf(punch.Invalid, "the body must be one JSON object")
	default:
		return decodeError(err)
	}
}

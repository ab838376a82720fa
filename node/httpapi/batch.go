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
	// maxBatch is the most punches in one request: a device's month offline.
	maxBatch = 1000
	// batchWorkers is how many of a batch's punches are under way at once:
	// enough that a few flushes take them all, and that one device's outbox
	// does not fill a waiting room by itself.
	batchWorkers = 256
)

// item is one punch of a batch: first a claim or why it is none, then a
// receipt or why there is none.
type item struct {
	claim   punch.Request
	receipt punch.Receipt
	err     error
}

// recordBatch answers POST /v1/punches/batch.
func (a *API) recordBatch(c *call) (reply, error) {
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
	a.recordItems(c, items)
	c.buf.Reset()
	return reply{status: http.StatusOK, home: a.writeResults(c, items)}, nil
}

// recordItems records all items that are good so far, several at once.
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
					it.receipt, it.err = a.recordItem(c, it.claim, int(i))
				}
			}
		})
	}
	workers.Wait()
}

// recordItem turns a panic into an error, as net/http does for single punches:
// elsewhere it would end the process.
//
// The items of a batch are received a microsecond after each other: a stamp
// tells whose request wrote a row, and a batch may hold the same punch twice.
func (a *API) recordItem(c *call, claim punch.Request, place int) (receipt punch.Receipt, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.deps.Log.ErrorContext(c.ctx, "panic while recording a punch", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return a.recordClaim(c, claim, c.at.Add(time.Duration(place)*time.Microsecond))
}

// writeResults writes {"results":[…]} in the order of the items and returns
// the home region if a receipt told it.
func (a *API) writeResults(c *call, items []item) (home string) {
	b := append(c.buf.AvailableBuffer(), `{"results":[`...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		it := &items[i]
		b = append(b, `{"status":`...)
		if it.err != nil {
			refusal := a.explain(c.ctx, it.err)
			a.metrics.punch(c.ctx, outcomeOf(c.ctx, refusal.Code))
			b = strconv.AppendInt(b, int64(refusals[refusal.Code].status), 10)
			b = appendProblem(append(b, `,"problem":`...), newProblem(refusal, tracing.TraceID(c.ctx)))
		} else {
			a.metrics.punch(c.ctx, recordedOrReplayed(&it.receipt))
			home = it.receipt.HomeRegion
			b = strconv.AppendInt(b, int64(statusOfReceipt(&it.receipt)), 10)
			b = appendReceipt(append(b, `,"receipt":`...), &it.receipt)
		}
		b = append(b, '}')
	}
	c.buf.Write(append(b, `]}`...))
	return home
}

// decodeBatch reads {"punches":[…]}. An item that is not a good punch fails
// alone; only what leaves the items' bounds unclear fails them all. So the
// outer reading is lenient about what stands inside an item (doubled names,
// invalid UTF-8) and decodeClaim is strict about it.
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

// notBatch tells a body that is JSON, but no object, from one that is not.
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
	items := []item{} // not nil: the array has been there
	for d.PeekKind() != jsontext.KindEndArray {
		if len(items) == maxBatch {
			return nil, punch.InvalidField("punches", "must hold 1 to %d punches", maxBatch)
		}
		raw, err := d.ReadValue()
		if err != nil {
			return nil, decodeError(err)
		}
		var it item
		it.claim, it.err = decodeClaim(raw, company)
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

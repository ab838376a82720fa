package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/peer/peerpb"
	"github.com/punchclock/punchclock/node/punch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type homeFunc func(items []punch.Item) []punch.Outcome

func (f homeFunc) RecordBatch(items []punch.Item) []punch.Outcome { return f(items) }

const home = "eu-west" // the region of the called node

// mustServe runs the handler on loopback over HTTP/2 in plain text, as a node with --insecure, and returns its address.
func mustServe(tb testing.TB, home Home) string {
	tb.Helper()
	server := httptest.NewUnstartedServer(NewHandler(Deps{Home: home, Gate: admission.Open{}, Tracer: tracenoop.NewTracerProvider()}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	tb.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func mustClient(tb testing.TB, config func(region string) *tls.Config) *Client {
	tb.Helper()
	c := NewClient(config)
	tb.Cleanup(c.Close)
	return c
}

func anItem(ctx context.Context, employee string) punch.Item {
	p := punch.Stamped(punch.Request{
		Company: "acme", Employee: employee, ID: punch.NewID(), Kind: punch.BreakEnd, Source: "gate-1", Note: "✓",
	}, time.Now(), "us-east", "0123456789abcdef0123456789abcdef")
	p.Route = punch.Route{HomeRegion: "eu-west", Epoch: 7, Zone: "Europe/Berlin", UTCOffset: 3600}
	return punch.Item{Ctx: ctx, Punch: p}
}

func TestEachItemHasItsOwnResult(t *testing.T) {
	recordedAt := punch.Microseconds(time.Now())
	original := punch.Stamp{ReceivedAt: recordedAt.Add(-time.Hour), EntryRegion: "ap-south", TraceID: "first", Late: true}
	addr := mustServe(t, homeFunc(func(items []punch.Item) []punch.Outcome {
		out := make([]punch.Outcome, len(items))
		for i := range items {
			p := items[i].Punch
			switch p.Employee {
			case "replayed":
				p.Stamp, p.HomeRegion = original, "us-east"
				out[i].Receipt = p.Receipt(recordedAt)
				out[i].Receipt.Replayed = true
			case "moved": // recorded for this request before the company moved
				p.HomeRegion = "us-east"
				out[i].Receipt = p.Receipt(recordedAt)
			case "refused":
				out[i].Err = &punch.Error{Code: punch.Conflict, Field: "id", Message: "used", RetryAfter: 3 * time.Second, Err: errors.New("internal")}
			default:
				out[i].Receipt = p.Receipt(recordedAt)
			}
		}
		return out
	}))
	broken := anItem(t.Context(), "broken")
	broken.Employee = "not a name"
	items := []punch.Item{
		anItem(t.Context(), "recorded"), broken, anItem(t.Context(), "replayed"), anItem(t.Context(), "refused"), anItem(t.Context(), "moved"),
	}
	out, _, err := mustClient(t, nil).RecordBatch(t.Context(), home, addr, items)
	if err != nil {
		t.Fatal(err)
	}
	if want := items[0].Receipt(recordedAt); out[0].Err != nil || out[0].Receipt != want {
		t.Errorf("recorded:\n%+v, want\n%+v", out[0], want)
	}
	if e := punch.AsError(out[1].Err); e.Code.Final() || e.Code != punch.Unavailable {
		t.Errorf("an item that this node does not understand: %v; nothing final may come of it", out[1].Err)
	}
	was := items[2].Punch
	was.Stamp, was.HomeRegion = original, "us-east"
	want := was.Receipt(recordedAt)
	want.Replayed = true
	if out[2].Err != nil || out[2].Receipt != want {
		t.Errorf("replayed:\n%+v, want\n%+v", out[2], want)
	}
	if e := punch.AsError(out[3].Err); e.Code != punch.Conflict || e.Field != "id" || e.RetryAfter != 3*time.Second || e.Err != nil {
		t.Errorf("refused: %+v; the cause must stay where it is", e)
	}
	want = items[4].Receipt(recordedAt)
	want.HomeRegion = "us-east"
	if out[4].Err != nil || out[4].Receipt != want {
		t.Errorf("moved:\n%+v, want\n%+v", out[4], want)
	}
}

func TestDeadlinesTravelAndShrink(t *testing.T) {
	var left []time.Duration
	addr := mustServe(t, homeFunc(func(items []punch.Item) []punch.Outcome {
		for i := range items {
			deadline, ok := items[i].Ctx.Deadline()
			if !ok {
				t.Error("an item came without a deadline")
			}
			left = append(left, time.Until(deadline))
		}
		return make([]punch.Outcome, len(items))
	}))
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	long, cancel2 := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel2()
	if _, _, err := mustClient(t, nil).RecordBatch(t.Context(), home, addr, []punch.Item{anItem(short, "a"), anItem(long, "b")}); err != nil {
		t.Fatal(err)
	}
	if left[0] >= 1800*time.Millisecond || left[0] <= 0 || left[1] >= 9700*time.Millisecond || left[1] <= 2*time.Second {
		t.Errorf("2s and 10s arrived as %v, want a tenth or 300 ms less", left)
	}
}

// TestItemsEndBeforeTheCallDoes sends an item that has more time than the call. The home node must answer for the item
// before the call ends, or a slow database looks like a silent peer.
func TestItemsEndBeforeTheCallDoes(t *testing.T) {
	const timeout = 10 * time.Second
	var left time.Duration
	addr := mustServe(t, homeFunc(func(items []punch.Item) []punch.Outcome {
		deadline, _ := items[0].Ctx.Deadline()
		left = time.Until(deadline)
		return []punch.Outcome{{Err: punch.Retryable(punch.Unavailable, time.Second, "away", nil)}}
	}))
	long, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	call, cancel2 := context.WithTimeout(t.Context(), timeout)
	defer cancel2()
	out, _, err := mustClient(t, nil).RecordBatch(call, home, addr, []punch.Item{anItem(long, "anna")})
	if err != nil || punch.CodeOf(out[0].Err) != punch.Unavailable {
		t.Errorf("a peer whose database is down: %v, %v; want the peer's own answer", out, err)
	}
	if left <= 0 || left > timeout-300*time.Millisecond {
		t.Errorf("the item has %s in a call of %s, want 300 ms less for the way back", left, timeout)
	}
}

func TestASilentPeerEndsWithTheCall(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and no process answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing was sent
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := mustClient(t, nil).RecordBatch(ctx, home, listener.Addr().String(), []punch.Item{anItem(ctx, "anna")}); err == nil {
		t.Error("a call without an answer succeeded")
	}
}

func TestABatchIsBounded(t *testing.T) {
	addr := mustServe(t, homeFunc(func(items []punch.Item) []punch.Outcome { return make([]punch.Outcome, len(items)) }))
	c := mustClient(t, nil)
	items := make([]punch.Item, maxItems+1)
	for i := range items {
		items[i] = anItem(t.Context(), "anna")
	}
	if _, _, err := c.RecordBatch(t.Context(), home, addr, items); err == nil {
		t.Error("a batch beyond the bound was accepted")
	}
	if out, _, err := c.RecordBatch(t.Context(), home, addr, nil); err != nil || len(out) != 0 {
		t.Errorf("an empty batch: %v, %v", out, err)
	}
}

func TestItemsSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9._-]{1,64}`)
		p := punch.Punch{Request: punch.Request{
			Company: name.Draw(t, "company"), Employee: name.Draw(t, "employee"), ID: punch.NewID(),
			Kind: rapid.SampledFrom(punch.Kinds).Draw(t, "kind"), Note: rapid.StringN(0, 50, 200).Draw(t, "note"),
		},
			Stamp: punch.Stamp{
				ReceivedAt:  time.UnixMicro(rapid.Int64Range(1, 4e15).Draw(t, "received")).UTC(),
				EntryRegion: name.Draw(t, "entry"), TraceID: name.Draw(t, "trace"), Late: rapid.Bool().Draw(t, "late"),
			},
			Route: punch.Route{
				HomeRegion: name.Draw(t, "home"), Epoch: rapid.Int64Min(1).Draw(t, "epoch"), Zone: "UTC",
				UTCOffset: rapid.Int32Range(-50_000, 50_000).Draw(t, "offset"),
			},
		}
		if rapid.Bool().Draw(t, "with a time") {
			p.At = time.UnixMicro(rapid.Int64Range(-1e15, 4e15).Draw(t, "at")).UTC()
		}
		if !p.At.IsZero() && p.At.UnixMicro() == 0 {
			t.Skip("the zero time stands for no time")
		}
		ctx, outbox := context.Background(), rapid.Bool().Draw(t, "outbox")
		if outbox {
			ctx = punch.WithOutbox(ctx)
		}
		raw, err := proto.Marshal(toWire(&punch.Item{Ctx: ctx, Punch: p}, time.Now(), time.Now().Add(time.Minute)))
		if err != nil {
			t.Skip("not UTF-8, which Validate refuses")
		}
		var w peerpb.Item
		if err := proto.Unmarshal(raw, &w); err != nil {
			t.Fatal(err)
		}
		got, cancel := fromWire(context.Background(), &w)
		cancel()
		if punch.FromOutbox(got.Ctx) != outbox {
			t.Fatalf("an outbox: sent %t, received %t", outbox, !outbox)
		}
		if got.Punch != p {
			t.Fatalf("sent\n%+v\nreceived\n%+v", p, got.Punch)
		}
	})
}

// FuzzRecord decodes requests of a broken peer, or of a newer release.
func FuzzRecord(f *testing.F) {
	item := anItem(context.Background(), "anna")
	good, err := proto.Marshal(&peerpb.RecordRequest{Items: []*peerpb.Item{toWire(&item, time.Now(), time.Now().Add(time.Minute))}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0x0a, 0x00})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var req peerpb.RecordRequest
		if proto.Unmarshal(raw, &req) != nil {
			return
		}
		h := &handler{gate: admission.Open{}, tracer: tracenoop.NewTracerProvider().Tracer(""), home: homeFunc(func(items []punch.Item) []punch.Outcome {
			for i := range items {
				if err := items[i].Validate(); err != nil {
					t.Errorf("an invalid item reached the batcher: %v", err)
				}
				if trace.SpanContextFromContext(items[i].Ctx).IsRemote() && !trace.SpanContextFromContext(items[i].Ctx).IsValid() {
					t.Error("an invalid span reached the batcher")
				}
			}
			return make([]punch.Outcome, len(items))
		})}
		res, err := h.Record(context.Background(), &req)
		if err == nil && len(res.GetResults()) != len(req.GetItems()) {
			t.Errorf("%d results for %d items", len(res.GetResults()), len(req.GetItems()))
		}
	})
}

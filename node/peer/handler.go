package peer

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/peer/peerpb"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// Home records punches through this node's own database gateway, never through another node.
type Home interface {
	RecordBatch(items []punch.Item) []punch.Outcome
}

// Gate decides whether a call may enter. Leave must follow an Enter that was granted, with the same n.
type Gate interface {
	Enter(class admission.Class, company string, n int, waited time.Duration) (retryAfter time.Duration, ok bool)
	Leave(n int)
}

// Deps are the parts that the handler calls.
type Deps struct {
	Home   Home
	Gate   Gate
	Tracer trace.TracerProvider
	// CallerRegion returns the region that the caller's certificate names. It is nil in plain text, where callers have no
	// certificate.
	CallerRegion func(*tls.ConnectionState) string
}

// maxItems bounds the items of a request. It is more than any batch, and few enough to hold in memory many times over.
const maxItems = 4096

// NewHandler serves the RPC. It trusts the listener to let only nodes of this deployment connect.
func NewHandler(deps Deps) http.Handler {
	server := connect.NewServer()
	peerpb.RegisterPeerHandler(server, &handler{home: deps.Home, gate: deps.Gate, tracer: deps.Tracer.Tracer("punchclock/peer")})
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server, rpcOptions...)
	if deps.CallerRegion == nil {
		return mux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerRegion{}, deps.CallerRegion(r.TLS))))
	})
}

// callerRegion is the key of the caller's region in a context. In plain text the context has none.
type callerRegion struct{}

type handler struct {
	home   Home
	gate   Gate
	tracer trace.Tracer
}

// Record implements peerpb.PeerHandler.
func (h *handler) Record(ctx context.Context, req *peerpb.RecordRequest) (*peerpb.RecordResponse, error) {
	start := time.Now()
	if n := len(req.GetItems()); n > maxItems {
		return nil, connect.Errorf(connect.CodeInvalidArgument, "%d items are more than %d", n, maxItems)
	}
	// No node forwards a punch that another node sent, so a punch entered in the caller's region. The entry region stays in
	// the row as evidence.
	if caller, known := ctx.Value(callerRegion{}).(string); known {
		for _, w := range req.GetItems() {
			if w.GetEntryRegion() != caller {
				return nil, connect.Errorf(connect.CodePermissionDenied, "a node of %s sent a punch that entered in %q", caller, w.GetEntryRegion())
			}
		}
	}
	// A full node refuses the whole call: the caller then knows with one small answer that it must ask another node.
	if _, ok := h.gate.Enter(admission.Forwarded, "", len(req.GetItems()), admission.Unknown); !ok {
		return nil, connect.Errorf(connect.CodeResourceExhausted, "this node has more punches than it can carry")
	}
	defer h.gate.Leave(len(req.GetItems()))
	var (
		results = make([]*peerpb.Result, len(req.GetItems()))
		spans   = make([]trace.Span, len(req.GetItems()))
		items   = make([]punch.Item, 0, len(req.GetItems()))
		places  = make([]int, 0, len(req.GetItems())) // of items in results
	)
	for i, w := range req.GetItems() {
		item, cancel := fromWire(ctx, w)
		defer cancel()
		item.Ctx, spans[i] = tracing.StartItem(item.Ctx, h.tracer, "peer.receive", trace.SpanKindServer)
		// The entry node has validated the item. If it is not valid here, the entry node runs a newer release. Unavailable is
		// not final, and another node is tried.
		if err := check(&item.Punch); err != nil {
			results[i] = h.finish(spans[i], item.HomeRegion, &punch.Outcome{Err: punch.Retryable(punch.Unavailable, 0,
				"this node cannot validate the punch; use another one", err)})
			continue
		}
		items, places = append(items, item), append(places, i)
	}
	for j, outcome := range h.home.RecordBatch(items) {
		results[places[j]] = h.finish(spans[places[j]], items[j].HomeRegion, &outcome)
	}
	return &peerpb.RecordResponse{Results: results, HandledMicros: time.Since(start).Microseconds()}, nil
}

func (h *handler) finish(span trace.Span, home string, o *punch.Outcome) *peerpb.Result {
	span.SetAttributes(tracing.Replayed.Bool(o.Receipt.Replayed))
	tracing.End(span, o.Err)
	return resultToWire(o, home)
}

func check(p *punch.Punch) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if p.HomeRegion == "" || p.Epoch <= 0 || p.ReceivedAt.UnixMicro() <= 0 || p.EntryRegion == "" || p.Zone == "" {
		return punch.Errorf(punch.NotHome, "the punch came without its route")
	}
	return nil
}

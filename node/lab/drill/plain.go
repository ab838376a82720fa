package drill

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/lab/load"
)

// Plain is the result of a plain client, which runs beside the reference client: HTTP/1.1 with keep-alive, one request for
// each punch, no retry and no other endpoint. It shows what an integrator gets who copies none of the reference client.
// Its punches are in the ledger, so the audit covers them. No bound holds for its failures.
type Plain struct {
	Rate float64 `json:"rate"` // punches per second, as configured
	load.Presses
}

const (
	// plainShare is its part of the rate. It is enough for a p99, and little beside the load that the bounds judge.
	plainShare = 0.2
	// plainTimeout is longer than a node's own deadline of 15 s.
	plainTimeout = 20 * time.Second
)

// runPlain sends until enough is closed.
func (r *run) runPlain(ctx context.Context, ledger *Ledger, enough <-chan struct{}) error {
	shape := r.load
	shape.Rate *= plainShare
	shape.Seed++
	shape.Repeats = 0
	shape.TotalTimeout = plainTimeout
	result, err := load.Run(ctx, load.Config{
		Load: shape, Stress: load.Stress{Client: load.Plain}, Entries: r.target.state.Entries(), Companies: r.target.state.Companies,
		Journal: ledger, Stop: enough,
	})
	r.plain = &Plain{Rate: shape.Rate, Presses: result.Presses}
	return err
}

func (p *Plain) String() string {
	var refused strings.Builder
	for _, status := range slices.Sorted(maps.Keys(p.Refused)) {
		fmt.Fprintf(&refused, ", %d refused with %d", p.Refused[status], status)
	}
	return fmt.Sprintf("a plain client without retries sent %d punches: %d acknowledged (p50 %s, p99 %s)%s, %d without an answer, %d given up after %s",
		p.Sent, p.Acknowledged, brief(p.AcknowledgedIn.P50), brief(p.AcknowledgedIn.P99), refused.String(), p.NoAnswer, p.GaveUp, plainTimeout)
}

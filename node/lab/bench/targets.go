package bench

import (
	"fmt"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// direction says on which side of its bound a figure must be.
type direction int

const (
	stated direction = iota // no bound
	atLeast
	atMost
)

// target is a figure with the bound that it should keep.
type target struct {
	part, key string
	title     string
	direction direction
	bound     float64
	cockroach float64 // another bound on CockroachDB, if not 0
	format    func(float64) string
}

func asRatio(v float64) string   { return fmt.Sprintf("%.2f", v) }
func asRate(v float64) string    { return fmt.Sprintf("%.0f/s", v) }
func asMemory(v float64) string  { return fmt.Sprintf("%.0f MiB", v) }
func asCount(v float64) string   { return fmt.Sprintf("%.0f", v) }
func asSeconds(v float64) string { return brief(time.Duration(v * float64(time.Second))) }

// asShort formats less than a millisecond with the digits that count.
func asShort(v float64) string {
	if v < 1e-6 {
		return fmt.Sprintf("%.0f ns", v*1e9)
	}
	if v < 1e-3 {
		return fmt.Sprintf("%.3g µs", v*1e6)
	}
	return fmt.Sprintf("%.3g ms", v*1e3)
}

// targets are the rows of the report, in order.
var targets = []target{
	{part: "overload", key: "overload.capacity", title: "capacity of six nodes", format: asRate},
	{part: "overload", key: "overload.goodput.1.5", title: "goodput at 1.5 times capacity", direction: atLeast, bound: 0.95, format: asRatio},
	{part: "overload", key: "overload.goodput.2", title: "goodput at 2 times capacity", direction: atLeast, bound: 0.95, format: asRatio},
	{part: "overload", key: "overload.goodput.3", title: "goodput at 3 times capacity", direction: atLeast, bound: 0.95, format: asRatio},
	{part: "overload", key: "overload.goodput.5", title: "goodput at 5 times capacity", direction: atLeast, bound: 0.95, format: asRatio},
	{part: "overload", key: "overload.refusals", title: "p99 of refusals", direction: atMost, bound: 0.1, format: asSeconds},
	{part: "overload", key: "overload.p99.2", title: "p99 of receipts at 2 times capacity", direction: atMost, bound: 1, format: asSeconds},
	{part: "overload", key: "overload.p99.3", title: "p99 of receipts at 3 times capacity", direction: atMost, bound: 1, format: asSeconds},
	{part: "overload", key: "overload.p99.5", title: "p99 of receipts at 5 times capacity", direction: atMost, bound: 1, format: asSeconds},
	{part: "overload", key: "overload.recovery", title: "time until p99 is below 250 ms again", direction: atMost, bound: 5, format: asSeconds},
	{part: "stampede", key: "stampede.goodput.1.5", title: "1.5 times capacity, callers ignore Retry-After", direction: atLeast, bound: 0.9, format: asRatio},
	{part: "stampede", key: "stampede.goodput.2", title: "2 times capacity, callers ignore Retry-After", direction: atLeast, bound: 0.9, format: asRatio},
	{part: "stampede", key: "stampede.goodput.3", title: "3 times capacity, callers ignore Retry-After", direction: atLeast, bound: 0.9, format: asRatio},
	{part: "stampede", key: "stampede.goodput.5", title: "5 times capacity, callers ignore Retry-After", direction: atLeast, bound: 0.9, format: asRatio},
	{part: "flood", key: "flood.others", title: "one company sends 80 %: the others, relative to them alone", direction: atLeast, bound: 0.95, format: asRatio},
	{part: "cpu", key: "cpu.full", title: "CPU per punch, full load / bare handler", direction: atMost, bound: 1.6, format: asRatio},
	{part: "cpu", key: "cpu.forwarded", title: "CPU per punch, forwarded / bare handler", direction: atMost, bound: 2.8, format: asRatio},
	{part: "cpu", key: "cpu.tenth", title: "CPU per punch, six nodes at a tenth / bare handler", direction: atMost, bound: 6, format: asRatio},
	{part: "nodes", key: "nodes.six", title: "six nodes / one node on the same core", direction: atLeast, bound: 0.7, format: asRatio},
	{part: "group", key: "group.insert", title: "group commit / one INSERT per request", direction: atLeast, bound: 4, cockroach: 8, format: asRatio},
	{part: "queues", key: "queue.rate.redis", title: "punches/s / Redis list", direction: atLeast, bound: 1.1, format: asRatio},
	{part: "queues", key: "queue.rate.redis-always", title: "punches/s / Redis list, fsync always", direction: atLeast, bound: 1.1, format: asRatio},
	{part: "queues", key: "queue.rate.nats", title: "punches/s / JetStream", direction: atLeast, bound: 1.1, format: asRatio},
	{part: "queues", key: "queue.rate.nats-always", title: "punches/s / JetStream, sync always", direction: atLeast, bound: 1.1, format: asRatio},
	{part: "queues", key: "queue.rows.redis", title: "time until rows / Redis list", direction: atMost, bound: 0.5, format: asRatio},
	{part: "queues", key: "queue.rows.redis-always", title: "time until rows / Redis list, fsync always", direction: atMost, bound: 0.5, format: asRatio},
	{part: "queues", key: "queue.rows.nats", title: "time until rows / JetStream", direction: atMost, bound: 0.5, format: asRatio},
	{part: "queues", key: "queue.rows.nats-always", title: "time until rows / JetStream, sync always", direction: atMost, bound: 0.5, format: asRatio},
	{part: "rows", key: "rows.http", title: "batches through HTTP / loop of pgx", direction: atLeast, bound: 0.6, format: asRatio},
	{part: "rows", key: "rows.single", title: "single punches / loop of pgx", format: asRatio},
	{part: "region", key: "region.wrong", title: "wrong region / right region", direction: atLeast, bound: 0.8, format: asRatio},
	{part: "memory", key: "memory.idle", title: "memory with 20,000 idle connections", format: asMemory},
	{part: "memory", key: "memory.full", title: "memory with all queues full", format: asMemory},
	// The runtime returns memory in steps, so two equal thirds differ by some percent.
	{part: "memory", key: "memory.growth", title: "memory at 3 times capacity, last third / third before", direction: atMost, bound: 1.05, format: asRatio},
	{part: "morning", key: "morning.faults", title: "morning of a million: audits with a fault", direction: atMost, bound: 0, format: asCount},
	{part: "morning", key: "morning.p99", title: "morning of a million: p99", direction: atMost, bound: morningP99.Seconds(), format: asSeconds},
	{part: "morning", key: "morning.rush", title: "as fast as the machine can", format: asRate},
	{part: "routing", key: "routing.decision", title: "routing decision, 300 nodes", direction: atMost, bound: 1e-6, format: asShort},
	{part: "routing", key: "routing.view", title: "applying a membership view, 300 nodes", direction: atMost, bound: 1e-3, format: asShort},
}

func (t *target) boundOn(engine string) float64 {
	if engine == cluster.Cockroach && t.cockroach != 0 {
		return t.cockroach
	}
	return t.bound
}

// met reports whether a value keeps the bound.
func (t *target) met(engine string, value float64) bool {
	switch t.direction {
	case atLeast:
		return value >= t.boundOn(engine)
	case atMost:
		return value <= t.boundOn(engine)
	default:
		return true
	}
}

// want returns the bound as text.
func (t *target) want() string {
	if t.direction == stated {
		return "stated"
	}
	sign := map[direction]string{atLeast: "≥", atMost: "≤"}[t.direction]
	text := sign + " " + t.format(t.bound)
	if t.cockroach != 0 {
		text += ", on CockroachDB " + sign + " " + t.format(t.cockroach)
	}
	return text
}

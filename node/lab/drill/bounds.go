package drill

import (
	"fmt"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// checkBounds fills in the checks: the evidence first, then the scenario's bounds. settle is the limit for leases; 0
// means that recovery is not checked.
func (o *Outcome) checkBounds(b Bounds, settle time.Duration) {
	o.checkEvidence()
	if b.NoneFailed {
		o.checkZero("punches that failed", o.Failed)
	}
	o.checkLatencies(b)
	o.checkGaps(b)
	o.checkOverloads(b)
	o.checkRecovery(b, settle)
	o.checkOutboxes()
}

// checkEvidence fails a drill that would pass because no punch was sent or answered. Every home must be served in each
// phase. From the break on it must be served through each entry: an entry is the region that a device asks first, and
// the device goes on to other regions.
func (o *Outcome) checkEvidence() {
	o.checkZero("punches that were due and not sent", o.Dropped)
	o.checkZero("punches that were refused for good", o.Ledger.Refused) // every punch of the load is valid
	o.checkZero("receipts with a wrong receive time, of punches due after the break", o.WrongTimes)
	var silent []string
	for _, h := range o.Homes {
		if h.Acknowledged() == 0 {
			silent = append(silent, fmt.Sprintf("%s %s", h.Home, h.Phase))
		}
	}
	o.checkNone("homes and phases without a receipt", silent)
	silent = nil
	var open []string
	for _, g := range o.Gaps {
		if g.Acknowledged == 0 {
			silent = append(silent, g.cell())
		}
		if g.Open {
			open = append(open, g.cell())
		}
	}
	o.checkNone("homes and entries without a receipt from the break on", silent)
	o.checkNone("homes and entries that were not served at the end", open)
}

func (o *Outcome) checkLatencies(b Bounds) {
	homes := func(limit time.Duration, what string, bound func(home string) bool) {
		if limit == 0 {
			return
		}
		var worst *HomeFigures
		for i, h := range o.Homes {
			if h.Phase != Before && bound(h.Home) && (worst == nil || h.P99 >= worst.P99) {
				worst = &o.Homes[i]
			}
		}
		if worst == nil {
			o.fail("p99 of "+what, "under "+limit.String(), "nothing")
			return
		}
		o.checkTime("p99 of "+what, worst.P99, fmt.Sprintf("%s, %s", worst.Home, worst.Phase), limit)
	}
	homes(b.P99, "each home", func(string) bool { return true })
	homes(b.OthersP99, "the other homes", func(home string) bool { return home != o.Victim })
}

func (o *Outcome) checkGaps(b Bounds) {
	cells := func(limit time.Duration, what string, bound func(*Gap) bool) {
		if limit == 0 {
			return
		}
		switch gap := o.longest(bound); {
		case gap == nil:
			o.fail(what, "within "+limit.String(), "nothing")
		case gap.Open:
			o.fail(what, "within "+limit.String(), "never, for "+gap.cell())
		default:
			o.checkTime(what, gap.Took, gap.cell(), limit)
		}
	}
	cells(b.Gap, "recovery of every home through every entry", func(*Gap) bool { return true })
	cells(b.VictimGap, "recovery of the victim's home", func(g *Gap) bool { return g.Home == o.Victim })
	cells(b.MajorityGap, "recovery of the majority's side", func(g *Gap) bool { return g.Entry != o.Victim })
}

// longest returns nil if there is no gap.
func (o *Outcome) longest(among func(*Gap) bool) (longest *Gap) {
	for i := range o.Gaps {
		g := &o.Gaps[i]
		if among(g) && (longest == nil || g.Open && !longest.Open || g.Open == longest.Open && g.Took >= longest.Took) {
			longest = g
		}
	}
	return longest
}

// checkOverloads checks that the nodes committed what they could carry while more punches came, and were quick soon after.
func (o *Outcome) checkOverloads(b Bounds) {
	if b.Goodput == 0 {
		return
	}
	if len(o.Overloads) == 0 {
		o.fail("goodput under overload", fmt.Sprintf("at least %.2g of the capacity", b.Goodput), "nothing")
	}
	for i := range o.Overloads {
		one := &o.Overloads[i]
		o.checkZero("punches that were due and not sent, "+one.Name, one.Dropped)
		o.checkTime("lateness of the generator at p99, "+one.Name, one.Late, "", lateGenerator)
		o.Checks = append(o.Checks, Check{
			What: "goodput, " + one.Name, Limit: fmt.Sprintf("at least %.2f of the capacity", b.Goodput),
			Measured: fmt.Sprintf("%.2f", one.Goodput), OK: one.Goodput >= b.Goodput,
		})
		what, limit := "time until p99 is usual after the overload, "+one.Name, "at most "+b.Calm.String()
		if one.Recovered == nil {
			o.fail(what, limit, "not seen")
			continue
		}
		o.Checks = append(o.Checks, Check{What: what, Limit: limit, Measured: brief(*one.Recovered), OK: *one.Recovered <= b.Calm})
	}
}

// lateGenerator is an eighth of the callers' patience. If the generator was later, the nodes saw another load than
// intended, and the goodput says nothing.
const lateGenerator = impatience / 8

// membersBack is enough for nodes that were cut off from each other, which need a round of the join loop. Restarted or
// thawed nodes are faster.
const membersBack = 30 * time.Second

func (o *Outcome) checkRecovery(b Bounds, settle time.Duration) {
	within := func(what string, took *time.Duration, limit time.Duration) {
		if took == nil {
			o.fail(what, "under "+limit.String(), "not seen")
			return
		}
		o.checkTime(what, *took, "", limit)
	}
	if settle == 0 {
		return
	}
	if b.LossSeen > 0 {
		within("time until all others miss the node, after the break", o.Recovery.LossSeen, b.LossSeen)
	}
	within("time until all nodes know each other, after the heal", o.Recovery.MembersBack, membersBack)
	if o.hasLeases() {
		within("time until all leases are at home, after the heal", o.Recovery.LeasesBack, settle)
	}
}

// checkOutboxes checks that devices kept the punches that the victim rejected, and that these punches are recorded
// now. With PostgreSQL, which every region still reaches, devices may have nothing to keep.
func (o *Outcome) checkOutboxes() {
	boxes := o.Outboxes
	if boxes == nil {
		return
	}
	if o.hasLeases() {
		const what, limit = "punches that devices kept because they reach the victim alone", "at least 1"
		o.Checks = append(o.Checks, Check{What: what, Limit: limit, Measured: fmt.Sprint(boxes.Kept), OK: boxes.Kept > 0})
	}
	o.checkZero("punches that still wait in an outbox", boxes.Waiting)
	o.checkZero("punches in a quarantine", boxes.Refused)
	open := o.Ledger.Unresolved
	if o.Plain != nil {
		open -= o.Plain.Sent - o.Plain.Acknowledged // the plain client has no outbox
	}
	o.checkZero("punches in the ledger without an answer, but for the plain client", open)
}

// hasLeases reports whether the engine is CockroachDB, which keeps rows in regions.
func (o *Outcome) hasLeases() bool { return !strings.HasPrefix(o.Engine, cluster.Postgres) }

func (o *Outcome) checkZero(what string, n int) {
	o.Checks = append(o.Checks, Check{What: what, Limit: "0", Measured: fmt.Sprint(n), OK: n == 0})
}

func (o *Outcome) checkNone(what string, found []string) {
	if len(found) > 0 {
		o.fail(what, "none", strings.Join(found, "; "))
		return
	}
	o.Checks = append(o.Checks, Check{What: what, Limit: "none", Measured: "none", OK: true})
}

func (o *Outcome) fail(what, limit, measured string) {
	o.Checks = append(o.Checks, Check{What: what, Limit: limit, Measured: measured})
}

func (o *Outcome) checkTime(what string, d time.Duration, where string, limit time.Duration) {
	measured := brief(d)
	if where != "" {
		measured += " (" + where + ")"
	}
	o.Checks = append(o.Checks, Check{What: what, Limit: "under " + limit.String(), Measured: measured, OK: d < limit})
}

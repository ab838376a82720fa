package drill

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// String returns the outcome as text for people.
func (o *Outcome) String() string {
	var s strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&s, format+"\n", args...) } // a Builder never fails
	line("\n%s: %s", o.Scenario, o.About)
	line("%s, %d nodes, %.0f punches/s, the break hit %s", o.Engine, o.Nodes, o.Rate, o.Victim)
	if o.Error != "" {
		line("UNFINISHED, so no bound was checked: %s", o.Error)
	}
	for _, note := range o.Notes {
		line("NOTE: %s", note)
	}
	m := &o.Moments
	at := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return fmt.Sprintf("%.1fs", t.Sub(m.Begin).Seconds())
	}
	line("broken from %s to %s, healed from %s to %s, load until %s\n", at(m.Breaking), at(m.Broken), at(m.Healing), at(m.Healed), at(m.End))
	o.writeHomes(line)
	o.writeGaps(line)
	line("%s\n", o.members())
	if o.Outboxes != nil {
		line("%s\n", o.outboxes())
	}
	if o.Plain != nil {
		line("%s\n", o.Plain)
	}
	for i := range o.Overloads {
		line("%s\n", &o.Overloads[i])
	}
	if o.Ledger != nil {
		s.WriteString(o.Ledger.String())
	}
	line("%-13s%9d  not acknowledged within the client's time limit%s", "failed", o.Failed, codes(o.Codes))
	line("%-13s%9d  requests beyond the first of a punch", "retries", o.Retries)
	line("%-13s%9d  due and not sent\n", "dropped", o.Dropped)
	for _, c := range o.Checks {
		verdict := "holds"
		if !c.OK {
			verdict = "FAILS"
		}
		line("%s  %s: %s, must be %s", verdict, c.What, c.Measured, c.Limit)
	}
	if err := o.Verdict(); err != nil {
		line("FAILED  %s", o.Scenario)
	} else {
		line("PASSED  %s: nothing lost, doubled, altered or in a wrong region", o.Scenario)
	}
	return s.String()
}

// codes lists errors by code, the most frequent code first.
func codes(n map[string]int) string {
	var list []string
	for _, code := range slices.SortedFunc(maps.Keys(n), func(a, b string) int { return cmp.Or(n[b]-n[a], strings.Compare(a, b)) }) {
		list = append(list, fmt.Sprintf("%d %s", n[code], code))
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

func (o *Outcome) writeHomes(line func(string, ...any)) {
	line("%-12s %-8s %7s %7s %8s %9s %9s %9s", "home", "phase", "sent", "failed", "retries", "p50", "p99", "max")
	for _, h := range o.Homes {
		line("%-12s %-8s %7d %7d %8d %9s %9s %9s", h.Home, h.Phase, h.Sent, h.Failed, h.Retries, brief(h.P50), brief(h.P99), brief(h.Max))
	}
}

func (o *Outcome) writeGaps(line func(string, ...any)) {
	line("\nlongest time in which punches waited and none was acknowledged:")
	line("%-12s %-12s %9s %12s", "home", "entry", "took", "from")
	for _, g := range o.Gaps {
		from, open := "", ""
		if !g.From.IsZero() {
			from = fmt.Sprintf("%.1fs", g.From.Sub(o.Moments.Begin).Seconds())
		}
		if g.Open {
			open = "  and to the end"
		}
		line("%-12s %-12s %9s %12s%s", g.Home, g.Entry, brief(g.Took), from, open)
	}
}

// members describes when nodes were missed and when they and the leases were back.
func (o *Outcome) members() string {
	missed := "no node was missed"
	if o.Recovery.LossSeen != nil {
		missed = "the loss was seen " + brief(*o.Recovery.LossSeen) + " after the break"
	}
	return missed + "; all nodes knew each other " + orNever(o.Recovery.MembersBack) + " after the heal" + o.leases()
}

// outboxes describes the punches of devices with an outbox.
func (o *Outcome) outboxes() string {
	b := o.Outboxes
	emptied := "nothing waited at the heal"
	if b.Emptied != nil {
		emptied = "the punches that waited at the heal were recorded within " + brief(*b.Emptied)
	}
	return fmt.Sprintf("%d devices that reach %s alone made %d punches: %d were kept on disk, %d of them flushed, the oldest after %s; %s; %d still wait, %d are in quarantine",
		b.Devices, o.Victim, b.Punched, b.Kept, b.Flushed, brief(b.Oldest), emptied, b.Waiting, b.Refused)
}

// leases describes when the leases were back. It is empty on an engine without leases.
func (o *Outcome) leases() string {
	if !o.hasLeases() {
		return ""
	}
	return "; leases at home " + orNever(o.Recovery.LeasesBack) + " after it"
}

func orNever(d *time.Duration) string {
	if d == nil {
		return "(not seen)"
	}
	return brief(*d)
}

package node

import (
	"context"
	"fmt"
	"time"

	"github.com/punchclock/punchclock/region"
)

const (
	// watchEvery is how often the clock is compared with the database's: a
	// clock that is stepped is noticed before many punches are stamped.
	watchEvery = 5 * time.Second
	// maxClockOffset is how far this node's clock may be off: the receive time
	// is evidence for payroll, in which seconds do not matter but minutes do.
	maxClockOffset = time.Second
	// databaseGrace is how long the database may stay silent before the node
	// tells its peers so: longer than a region's lease hand-over.
	databaseGrace = 15 * time.Second
	// judgeAfter is when it compares itself with them. All nodes notice an
	// outage within watchEvery and hear of each other within seconds; who
	// judged sooner would take itself for the only one.
	judgeAfter = databaseGrace + 2*watchEvery
	// regionsEvery is how old the list of the database's regions may get: a
	// region that was added or dropped shows in the metrics by then. Punches
	// for a new one do not wait for it.
	regionsEvery = time.Minute
)

// startWatch compares the clocks once before the node is ready, and keeps
// watching for what is this node's own fault.
func (n *Node) startWatch(ctx context.Context) error {
	for {
		offset, roundTrip, err := n.db.ClockOffset(ctx)
		if err == nil {
			n.judgeClock(offset, roundTrip)
			break
		}
		n.log.WarnContext(ctx, "the database's clock cannot be read yet", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second): // as the first connection is tried
		}
	}
	watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.watch(watch)
	}()
	n.closer.add("watch", reserveForAll, func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return nil
}

func (n *Node) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	answered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		offset, roundTrip, err := n.db.ClockOffset(ctx)
		turned := false
		if err == nil {
			answered = time.Now()
			turned = n.judgeClock(offset, roundTrip)
			n.refreshRegions(ctx)
		}
		away := time.Since(answered)
		n.databaseAway.Store(away > databaseGrace)
		if turned = n.judgeDatabase(away) || turned; turned {
			n.log.WarnContext(ctx, "readiness changed", "not_ready", n.ready.notReady(), "error", err)
			n.tellState()
		}
	}
}

// refreshRegions reads the database's regions anew when it is time. It is tried
// for no longer than until the next look at the clock.
func (n *Node) refreshRegions(ctx context.Context) {
	if !n.labels.olderThan(regionsEvery) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	if _, err := n.labels.refresh(ctx); err != nil {
		n.log.InfoContext(ctx, "the database's regions cannot be read anew", "error", err)
	}
}

// judgeClock takes the node out while its clock is plainly off. Half the round
// trip is how far the comparison itself may be wrong.
func (n *Node) judgeClock(offset, roundTrip time.Duration) (turned bool) {
	n.clockOffset.Store(int64(offset))
	reason := ""
	if offset.Abs() > maxClockOffset+roundTrip/2 {
		reason = fmt.Sprintf("the clock is %s off the database's", offset.Round(time.Millisecond))
	}
	return n.ready.set(topicClock, reason)
}

// judgeDatabase takes the node out when its peers reach the database and it
// does not. When nobody does, the nodes stay: they are not the fault, and a
// region without ready nodes would help nobody.
func (n *Node) judgeDatabase(away time.Duration) (turned bool) {
	reason := ""
	if away > judgeAfter {
		for _, m := range n.board.View().Members() {
			// Whoever is not ready, or has not told its load yet, is no witness.
			if m.Node != n.self.Node && m.State == region.Ready && m.Load.Capacity > 0 && !m.Load.DatabaseAway {
				reason = fmt.Sprintf("the database has not answered for %s, and peers reach it", away.Round(time.Second))
			}
		}
	}
	return n.ready.set(topicDatabase, reason)
}

package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// closer closes the parts in the opposite order of their start.
type closer struct{ parts []part }

type part struct {
	name    string
	reserve time.Duration
	stop    func(context.Context) error
}

// What a part must leave of the time to stop, for those that close after it:
// one slow client must not cost the lanes their flush, nor the peers the news
// that this node leaves.
const (
	reserveForAll   = 5 * time.Second // the listeners: gossip, lanes, database and telemetry come after
	reserveForLanes = 4 * time.Second // gossip: a leave takes two seconds at most
	reserveForEnd   = 2 * time.Second // the lanes: the database closes in two, telemetry has its own bound
)

func (c *closer) add(name string, reserve time.Duration, stop func(context.Context) error) {
	c.parts = append(c.parts, part{name, reserve, stop})
}

// addLast adds a part that is closed when all others are, but for the first:
// telemetry still hears of its end.
func (c *closer) addLast(name string, stop func(context.Context) error) {
	c.parts = slices.Insert(c.parts, min(1, len(c.parts)), part{name, 0, stop})
}

// close closes every part, whatever the others say.
func (c *closer) close(ctx context.Context) error {
	var errs []error
	for _, p := range slices.Backward(c.parts) {
		if err := p.within(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", p.name, err))
		}
	}
	c.parts = nil
	return errors.Join(errs...)
}

func (p part) within(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-p.reserve))
		defer cancel()
	}
	return p.stop(ctx)
}

// drain says that the node leaves, gives peers and balancers time to notice
// while it still serves, and closes the parts: listeners finish their requests
// first, then the lanes what they hold, then gossip and database.
func (n *Node) drain(ctx context.Context) error {
	n.ready.set(topicDrain, "draining")
	n.tellState()
	if n.api != nil { // it has served, so somebody may still send
		n.log.InfoContext(ctx, "draining", "delay", n.cfg.DrainDelay.String())
		select {
		case <-time.After(n.cfg.DrainDelay):
		case <-ctx.Done():
		}
	}
	err := n.closer.close(ctx)
	if err != nil {
		n.log.ErrorContext(ctx, "stopped", "error", err)
		return err
	}
	n.log.InfoContext(ctx, "stopped")
	return nil
}

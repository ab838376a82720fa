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

// How much of the shutdown timeout a part must leave for the parts that close after it. Without it one slow client
// could cost the batchers their last write, and peers the message that this node leaves.
const (
	reserveForGossip   = 5 * time.Second // left by listeners and loops
	reserveForBatchers = 4 * time.Second // left by gossip, whose leave takes 2 s at most
	reserveForDatabase = 2 * time.Second // left by the batchers; telemetry has its own bound
)

func (c *closer) add(name string, reserve time.Duration, stop func(context.Context) error) {
	c.parts = append(c.parts, part{name, reserve, stop})
}

// addLast adds a part that is closed after all others except the first, telemetry, which records how it went.
func (c *closer) addLast(name string, stop func(context.Context) error) {
	c.parts = slices.Insert(c.parts, min(1, len(c.parts)), part{name, 0, stop})
}

// close closes every part, also after another one has failed.
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

// shutdown announces that the node leaves, and closes the parts after the drain delay. During the delay the node
// serves as before: peers, DNS and balancers notice that it is not ready, and each answer of the public API asks its
// client to use another connection. Then the listeners finish their requests, the batchers write what they hold, and
// gossip and database close.
func (n *Node) shutdown(ctx context.Context) error {
	n.monitor.Drain()
	if n.api != nil { // without it the node never served a client
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

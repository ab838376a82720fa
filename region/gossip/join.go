package gossip

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// joinLoop brings this node to the others, and back to those it has lost. A
// partition ends with it: both sides forget each other, and memberlist by
// itself never asks again.
func (g *Gossip) joinLoop(ctx context.Context) {
	started := time.Now()
	for {
		g.joinRound(ctx)
		wait := g.pace.rejoin - g.pace.rejoin/4 + rand.N(g.pace.rejoin/2)
		if time.Since(started) < g.pace.firstJoin && g.roster.others() == 0 {
			wait = g.pace.rejoinRetry
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// joinRound asks every target once, some side by side.
func (g *Gossip) joinRound(ctx context.Context) {
	targets, all := g.targets(ctx)
	if all && len(targets) == 0 {
		g.meet() // nobody to wait for
	}
	eachOf(targets, func(addr string) {
		if ctx.Err() != nil {
			return
		}
		_, err := g.list.Join([]string{addr})
		g.metrics.join(err)
		if err != nil {
			g.log.Debug("join failed", "addr", addr, "error", err)
			return
		}
		g.log.Debug("joined", "addr", addr)
	})
}

// targets returns the addresses of seeds and lost nodes that are no members
// now: some of each, at random, if there are many. It also reports whether all
// seeds could be resolved.
func (g *Gossip) targets(ctx context.Context) (targets []string, all bool) {
	members := g.roster.addrs()
	members[g.addr] = true
	var mu sync.Mutex // guards seeds and all
	var seeds []string
	all = true
	eachOf(g.cfg.Seeds, func(seed string) {
		addrs, err := resolve(ctx, seed)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			all = false
			g.metrics.join(err)
			g.log.Debug("seed not resolved", "seed", seed, "error", err)
			return
		}
		for _, a := range addrs {
			seeds = append(seeds, nodeAddr(a))
		}
	})
	for _, addrs := range [][]string{seeds, g.roster.remembered()} {
		rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
		taken := 0
		for _, a := range addrs {
			if taken < joinTargets/2 && !members[a] {
				members[a] = true // not twice
				targets = append(targets, a)
				taken++
			}
		}
	}
	return targets, all
}

// eachOf calls do for each item, a few side by side, and waits for all.
func eachOf(items []string, do func(string)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, joinParallel)
	for _, item := range items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(item)
		})
	}
	wg.Wait()
}

package gossip

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// joinLoop joins this node to the seeds and to nodes that it has lost. It heals a network partition: after a while both
// sides remove each other, and memberlist never asks a removed node again.
func (g *Gossip) joinLoop(ctx context.Context) {
	started := time.Now()
	for {
		g.joinRound(ctx)
		wait := g.timings.rejoin - g.timings.rejoin/4 + rand.N(g.timings.rejoin/2)
		if time.Since(started) < g.timings.firstJoin && g.members.others() == 0 {
			wait = g.timings.rejoinRetry
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// joinRound asks every target once, some in parallel.
func (g *Gossip) joinRound(ctx context.Context) {
	targets, all := g.targets(ctx)
	if all && len(targets) == 0 {
		g.markJoined() // there is no node to wait for
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

// targets returns the addresses of seeds and removed nodes that are not members now. If there are many, it returns some
// of each at random. all is true if every seed could be resolved.
func (g *Gossip) targets(ctx context.Context) (targets []string, all bool) {
	members := g.members.addrs()
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
	for _, addrs := range [][]string{seeds, g.members.remembered()} {
		rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
		taken := 0
		for _, a := range addrs {
			if taken < joinTargets/2 && !members[a] {
				members[a] = true // each address once
				targets = append(targets, a)
				taken++
			}
		}
	}
	return targets, all
}

// eachOf calls do for each item, a few in parallel, and waits for all.
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

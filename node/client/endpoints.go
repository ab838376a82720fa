package client

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// none is the index of the endpoint before the first attempt.
const none = -1

// restMax bounds the time for which calls skip an endpoint. An endpoint that works again is used again within a minute.
const restMax = time.Minute

// endpoints are base URLs in order of preference, with the time until which calls skip each.
type endpoints struct {
	urls    []string
	regions []string // of each endpoint; empty if unknown

	mu sync.Mutex // guards the fields below
	// until is the time before which calls skip an endpoint, and failures is how often it failed in a row.
	until    []time.Time
	failures []int
}

func newEndpoints(urls []string) *endpoints {
	return &endpoints{
		urls: urls, regions: make([]string, len(urls)), until: make([]time.Time, len(urls)), failures: make([]int, len(urls)),
	}
}

// with returns other endpoints. Calls go on skipping the failed endpoints of e.
func (e *endpoints) with(urls []string, regions []Region) *endpoints {
	next := newEndpoints(urls)
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, u := range urls {
		if j := slices.Index(e.urls, u); j >= 0 {
			next.until[i], next.failures[i], next.regions[i] = e.until[j], e.failures[j], e.regions[j]
		}
		for _, r := range regions {
			if slices.Contains(r.Endpoints, u) || slices.Contains(r.Endpoints, u+"/") {
				next.regions[i] = r.Name
			}
		}
	}
	return next
}

// pick returns the first endpoint that calls need not skip and that was not just tried. Without one it returns the
// endpoint behind the last tried: a call never gives up while there is time. Doubted endpoints come last.
func (e *endpoints) pick(last int, doubted []int, now time.Time) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	undoubted := none
	for i := range e.urls {
		if i == last || slices.Contains(doubted, i) {
			continue
		}
		if !now.Before(e.until[i]) {
			return i
		}
		if undoubted == none {
			undoubted = i
		}
	}
	if undoubted != none && len(doubted) > 0 {
		return undoubted
	}
	return (last + 1) % len(e.urls)
}

// skip lets calls skip an endpoint until a time.
func (e *endpoints) skip(i int, until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.until[i] = until
}

// skipRegion lets calls skip all endpoints of a region that is full. If the region is unknown, it skips the endpoint.
func (e *endpoints) skipRegion(i int, until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for j, region := range e.regions {
		if j == i || region != "" && region == e.regions[i] {
			e.until[j] = until
		}
	}
}

// failed lets calls skip an endpoint that did not answer. Each failure in a row doubles the time, and half of the time is
// random. Devices that lost an endpoint together do not come back together.
func (e *endpoints) failed(i int, now time.Time, coolDown time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	const doublings = 8 // enough to reach restMax from any sensible cool-down
	rest := min(coolDown<<min(e.failures[i], doublings), max(restMax, coolDown))
	e.failures[i]++
	e.until[i] = now.Add(rest/2 + rand.N(rest/2+1))
}

// worked lets calls use an endpoint again at once: it answered although calls should have skipped it.
func (e *endpoints) worked(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.until[i], e.failures[i] = time.Time{}, 0
}

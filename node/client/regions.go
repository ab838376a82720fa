package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// Region is a region as the asked node believes it to be.
type Region struct {
	Name      string   `json:"name"`
	Ready     bool     `json:"-"`         // at least one node there takes punches
	Endpoints []string `json:"endpoints"` // base URLs of its ready nodes, or of their balancers
}

// wireRegions is the answer of GET /v1/regions.
type wireRegions struct {
	Regions []struct {
		Region
		State string `json:"state"`
	} `json:"regions"`
}

// Regions asks where the service can be reached. Errors are *Error.
func (c *Client) Regions(ctx context.Context) ([]Region, error) {
	var regions []Region
	_, failure := c.settle(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		answer, err := c.send(ctx, endpoint, http.MethodGet, "/v1/regions", nil, maxBatchBytes)
		if err != nil {
			return err
		}
		regions, err = answer.regions()
		return err
	})
	if failure != nil { // not returned as it is: a nil *Error is no nil error
		return nil, failure
	}
	return regions, nil
}

func (a answer) regions() ([]Region, *Error) {
	var w wireRegions
	if err := json.Unmarshal(a.body, &w); err != nil {
		return nil, noAnswer(a.status, fmt.Errorf("the answer is not a list of regions: %w", err))
	}
	regions := make([]Region, len(w.Regions))
	for i, r := range w.Regions {
		regions[i] = r.Region
		regions[i].Ready = r.State == "ready"
	}
	return regions, nil
}

// maxEndpoints bounds what is learnt: a call never gets through more of them.
const maxEndpoints = 32

// Order returns the endpoints in the order in which to try them: one of each
// ready region, the preferred regions first and in their order, then a second
// one of each, and so on; at last the configured ones that are not among them.
// One of each, because a region that is cut off must not cost a time-out for
// each of its nodes. Which one of a region comes first is random, so that
// devices spread over its nodes.
//
// Endpoints without TLS are left out unless a configured one has none: the
// token goes wherever this list says.
func Order(regions []Region, preferred, configured []string) []string {
	plain := slices.ContainsFunc(configured, func(e string) bool { return strings.HasPrefix(e, "http:") })
	ranks := make([][]string, 0, len(regions)) // the endpoints of each region
	rank := func(name string) int {
		if i := slices.Index(preferred, name); i >= 0 {
			return i
		}
		return len(preferred)
	}
	ordered := slices.Clone(regions)
	slices.SortStableFunc(ordered, func(a, b Region) int { return rank(a.Name) - rank(b.Name) })
	for _, r := range ordered {
		if !r.Ready {
			continue
		}
		var usable []string
		for _, e := range r.Endpoints {
			if u, err := url.Parse(e); err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || plain && u.Scheme == "http") {
				usable = append(usable, strings.TrimRight(e, "/"))
			}
		}
		rand.Shuffle(len(usable), func(i, j int) { usable[i], usable[j] = usable[j], usable[i] })
		ranks = append(ranks, usable)
	}
	list := roundRobin(ranks)
	for _, e := range configured {
		if e = strings.TrimRight(e, "/"); !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list
}

// roundRobin takes the first of each list, then the second of each, and no
// endpoint twice.
func roundRobin(lists [][]string) (all []string) {
	for i := 0; len(all) < maxEndpoints; i++ {
		more := false
		for _, list := range lists {
			if i >= len(list) {
				continue
			}
			more = true
			if !slices.Contains(all, list[i]) && len(all) < maxEndpoints {
				all = append(all, list[i])
			}
		}
		if !more {
			break
		}
	}
	return all
}

// Refresh asks for the regions and from now on tries their endpoints in Order,
// the configured ones last. Calls under way go on with the endpoints they have.
// When nobody answers, nothing changes.
func (c *Client) Refresh(ctx context.Context, preferred []string) error {
	regions, err := c.Regions(ctx)
	if err != nil {
		return err
	}
	c.refreshing.Lock() // of two at once, both carry over who rests
	defer c.refreshing.Unlock()
	c.endpoints.Store(c.endpoints.Load().with(Order(regions, preferred, c.cfg.Endpoints)))
	return nil
}

// Endpoints returns the endpoints in the order in which they are tried now.
func (c *Client) Endpoints() []string { return slices.Clone(c.endpoints.Load().urls) }

// with makes a ring of other endpoints in which those rest that rest in r.
func (r *ring) with(urls []string) *ring {
	next := newRing(urls)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, u := range urls {
		if j := slices.Index(r.urls, u); j >= 0 {
			next.until[i] = r.until[j]
		}
	}
	return next
}

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

// Region is the state of a region as the asked node knows it.
type Region struct {
	Name      string   `json:"name"`
	Ready     bool     `json:"-"`         // at least one node of the region accepts punches
	Endpoints []string `json:"endpoints"` // base URLs of its ready nodes, or of their load balancers
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
	_, failure := c.do(ctx, c.cfg.AttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		answer, err := c.send(ctx, endpoint, http.MethodGet, "/v1/regions", nil, maxBatchBytes)
		if err != nil {
			return err
		}
		regions, err = answer.regions()
		return err
	})
	if failure != nil { // a nil *Error in an error is not nil
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

// maxEndpoints bounds the endpoints that a client learns. A call has no time to try more.
const maxEndpoints = 32

// Order returns the endpoints in the order in which to try them. It takes one endpoint of each ready region, then a
// second one of each, and so on. Preferred regions come first, in their order. Configured endpoints that are not in the
// list come last.
//
// Taking one of each region keeps a region that is cut off from costing a time-out for each of its nodes. The order
// within a region is random, so that devices spread over its nodes.
//
// Order leaves out endpoints without TLS unless a configured endpoint has none, because the client sends its token to
// every endpoint of the list.
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

// roundRobin takes the first of each list, then the second of each, and no endpoint twice.
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

// Refresh asks for the regions. Later calls try their endpoints in Order, the configured endpoints last. Calls under way
// keep their endpoints. Without an answer nothing changes.
func (c *Client) Refresh(ctx context.Context, preferred []string) error {
	regions, err := c.Regions(ctx)
	if err != nil {
		return err
	}
	c.refreshing.Lock() // two calls at once must both carry over which endpoints failed
	defer c.refreshing.Unlock()
	c.endpoints.Store(c.endpoints.Load().with(Order(regions, preferred, c.cfg.Endpoints), regions))
	return nil
}

// Endpoints returns the present endpoints in order of preference.
func (c *Client) Endpoints() []string { return slices.Clone(c.endpoints.Load().urls) }

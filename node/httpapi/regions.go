package httpapi

import (
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// wireRegion is a region for a client that chooses an endpoint.
type wireRegion struct {
	Name      region.Name `json:"name"`
	State     string      `json:"state"` // ready while at least one node is ready
	Endpoints []string    `json:"endpoints"`
	Nodes     wireNodes   `json:"nodes"`
}

type wireNodes struct {
	Ready int `json:"ready"`
	Total int `json:"total"`
}

// regions answers GET /v1/regions with the cluster as this node sees it.
func (a *API) regions(c *call) (reply, error) {
	view := a.deps.Cluster.Snapshot()
	answer := struct {
		Regions []wireRegion `json:"regions"`
	}{Regions: []wireRegion{}}
	for _, name := range view.Regions() {
		answer.Regions = append(answer.Regions, describeRegion(name, view.In(name)))
	}
	if err := json.MarshalWrite(c.buf, answer); err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK}, nil
}

// notReadyFor is when a node that is not ready may be asked again. It starts within about this time.
const notReadyFor = 10 * time.Second

// ready answers GET /readyz for balancers and health checks that reach only the public listener. The operations listener
// gives the reasons.
func (a *API) ready(c *call) (reply, error) {
	if !a.deps.Ready() {
		return reply{}, punch.Retryable(punch.Unavailable, notReadyFor, "this node takes no punches at the moment; use another one", nil)
	}
	c.buf.WriteString(`{"status":"ready"}`)
	return reply{status: http.StatusOK}, nil
}

func describeRegion(name region.Name, members []region.Member) wireRegion {
	r := wireRegion{Name: name, State: "unavailable", Endpoints: []string{}, Nodes: wireNodes{Total: len(members)}}
	for _, m := range members {
		if m.State != region.Ready {
			continue
		}
		r.State = "ready"
		r.Nodes.Ready++
		if m.PublicURL != "" {
			r.Endpoints = append(r.Endpoints, m.PublicURL)
		}
	}
	slices.Sort(r.Endpoints)
	r.Endpoints = slices.Compact(r.Endpoints) // nodes behind one balancer share its URL
	return r
}

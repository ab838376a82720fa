package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/punchclock/punchclock/region"
)

// Client calls a node's admin API with an operator's token.
type Client struct {
	URL   string // base URL of the listener
	Token string
	HTTP  *http.Client // http.DefaultClient when nil
}

// Status returns the cluster as the node sees it.
func (c Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, http.MethodGet, "/status", nil, &s)
}

// Evacuate takes a region out of service, for the duration or, if that is 0, until Restore.
func (c Client) Evacuate(ctx context.Context, name string, d time.Duration, gossipOnly bool) ([]region.Switch, error) {
	return c.set(ctx, http.MethodPut, "/regions/"+name+"/evacuation", Request{For: d, GossipOnly: gossipOnly})
}

// Restore puts a region back into service.
func (c Client) Restore(ctx context.Context, name string, gossipOnly bool) ([]region.Switch, error) {
	path := "/regions/" + name + "/evacuation"
	if gossipOnly {
		path += "?gossip_only"
	}
	return c.set(ctx, http.MethodDelete, path, nil)
}

// Degrade sets the level of degradation of a region, or of all.
func (c Client) Degrade(ctx context.Context, r DegradeRequest) ([]region.Switch, error) {
	return c.set(ctx, http.MethodPut, "/degradation", r)
}

func (c Client) set(ctx context.Context, method, path string, in any) ([]region.Switch, error) {
	var a Answer
	if err := c.do(ctx, method, path, in, &a); err != nil {
		return nil, err
	}
	if len(a.Switches) == 0 {
		return nil, errors.New("the node's answer has no switch")
	}
	return a.Switches, nil
}

func (c Client) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout+5*time.Second) // the node's own time limit must end first
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()                                   //nolint:errcheck // read as far as it goes
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<20)) // thousands of nodes
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		var a Answer
		if json.Unmarshal(text, &a) != nil || a.Error == "" {
			a.Error = string(text)
		}
		return fmt.Errorf("%s: %s", res.Status, a.Error)
	}
	return json.Unmarshal(text, out)
}

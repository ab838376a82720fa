package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
)

// ErrGone is returned when no process runs the cluster of a state file.
var ErrGone = errors.New("the cluster does not run")

// Controller changes a cluster that another process runs, through its Control.
type Controller struct {
	state *State
	http  http.Client
}

// FindController reads a state file. It is ErrGone when the file is missing. With a dir it is also ErrGone when the file
// describes another cluster than the one in that folder.
func FindController(file, dir string) (*Controller, error) {
	state, err := ReadState(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	case err != nil:
		return nil, err
	case dir != "" && dir != state.Dir:
		return nil, fmt.Errorf("%w: %s describes the cluster in %s, not the one in %s", ErrGone, file, state.Dir, dir)
	case state.Control == "":
		return nil, fmt.Errorf("%s: the process of this cluster takes no changes", file)
	}
	return &Controller{state: state, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", state.Control)
		},
	}}}, nil
}

// SetNodes calls Cluster.SetNodes.
func (c *Controller) SetNodes(ctx context.Context, region string, group NodeGroup, say Say) error {
	return c.call(ctx, http.MethodPut, region, "nodes", group, say)
}

// RemoveNodes calls Cluster.RemoveNodes.
func (c *Controller) RemoveNodes(ctx context.Context, region string, say Say) error {
	return c.call(ctx, http.MethodDelete, region, "nodes", nil, say)
}

// AddServer calls Cluster.AddServer.
func (c *Controller) AddServer(ctx context.Context, region string, say Say) error {
	return c.call(ctx, http.MethodPut, region, "database", nil, say)
}

// RemoveServer calls Cluster.RemoveServer.
func (c *Controller) RemoveServer(ctx context.Context, region string, say Say) error {
	return c.call(ctx, http.MethodDelete, region, "database", nil, say)
}

// call sends a change and reports its steps. When ctx ends, the change continues.
func (c *Controller) call(ctx context.Context, method, region, part string, body any, say Say) error {
	if !regionName.MatchString(region) {
		return fmt.Errorf("region %q does not match %s", region, regionName)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://cluster/regions/"+region+"/"+part, bytes.NewReader(text))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: process %d has ended: %w", ErrGone, c.state.PID, err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, tailBytes)) // a part is better than nothing
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	for answers := json.NewDecoder(resp.Body); ; {
		var a answer
		switch err := answers.Decode(&a); {
		case ctx.Err() != nil:
			return fmt.Errorf("the change continues: %w", ctx.Err())
		case err != nil:
			return fmt.Errorf("the cluster's process %d ended before the change did: %w", c.state.PID, err)
		case a.Done && a.Error != "":
			return errors.New(a.Error)
		case a.Done:
			return nil
		default:
			say("%s", a.Step)
		}
	}
}

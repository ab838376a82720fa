package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// changeTimeout is for a dozen nodes that are replaced one after the other on a busy machine.
const changeTimeout = 10 * time.Minute

// maxSocketPath is the limit of the kernel for the path of a Unix socket, with room to spare: Linux takes 107 bytes,
// macOS 103.
const maxSocketPath = 100

// Control lets other processes change the cluster of this process. It publishes the state in a file and takes requests
// on a Unix socket, which the file names:
//
//	PUT    /regions/{name}/nodes      SetNodes, with a NodeGroup as JSON
//	DELETE /regions/{name}/nodes      RemoveNodes
//	PUT    /regions/{name}/database   AddServer
//	DELETE /regions/{name}/database   RemoveServer
//
// A change continues when its client goes away. The answer is a line of JSON for each step, and at last the outcome.
type Control struct {
	env    *Environment
	file   string
	folder string // of the socket, if it has one of its own
	socket string
	server *http.Server

	ctx     context.Context //nolint:containedctx // ends with Close: a change belongs to no request
	cancel  context.CancelFunc
	changed chan struct{}
	running sync.WaitGroup
	writing sync.Mutex // guards the file
}

// Serve publishes the environment's state in a file and takes changes. The caller must Close it.
func (e *Environment) Serve(file string) (*Control, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	c := &Control{env: e, file: file, socket: file + ".sock", changed: make(chan struct{}, 1)}
	if len(c.socket) > maxSocketPath {
		if c.folder, err = os.MkdirTemp("", "punchclock-"); err != nil {
			return nil, err
		}
		c.socket = filepath.Join(c.folder, "sock")
	}
	// A process that was killed left its socket behind.
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.RemoveAll(c.socket)); err != nil {
		return nil, errors.Join(err, c.removeFolder())
	}
	listener, err := net.Listen("unix", c.socket)
	if err != nil {
		return nil, errors.Join(err, c.removeFolder())
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.server = &http.Server{Handler: c.routes(), ReadHeaderTimeout: pingTimeout}
	c.running.Go(func() { _ = c.server.Serve(listener) }) // ends with Close
	c.running.Go(c.publishChanges)
	e.notify(func() {
		select {
		case c.changed <- struct{}{}:
		default: // a write that is due includes this change
		}
	})
	if err := c.publish(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the changes under way, and removes the file and the socket.
func (c *Control) Close() error {
	c.env.notify(nil)
	c.cancel()
	err := c.server.Shutdown(context.Background()) // waits for the changes, which end with ctx
	c.running.Wait()
	if remove := os.Remove(c.file); !errors.Is(remove, os.ErrNotExist) {
		err = errors.Join(err, remove)
	}
	return errors.Join(err, c.removeFolder())
}

func (c *Control) removeFolder() error {
	if c.folder == "" {
		return nil
	}
	return os.RemoveAll(c.folder)
}

func (c *Control) publish() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	state := c.env.State()
	state.Control = c.socket
	return state.Write(c.file)
}

// publishChanges writes the file when a process ended by itself.
func (c *Control) publishChanges() {
	for {
		select {
		case <-c.changed:
			if err := c.publish(); err != nil {
				c.env.ws.log.Error("the state was not written", "file", c.file, "error", err)
			}
		case <-c.ctx.Done():
			return
		}
	}
}

func (c *Control) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /regions/{name}/nodes", func(w http.ResponseWriter, r *http.Request) {
		var group NodeGroup
		if err := json.NewDecoder(r.Body).Decode(&group); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.change(w, func(ctx context.Context, say Say) error { return c.env.SetNodes(ctx, r.PathValue("name"), group, say) })
	})
	for route, do := range map[string]func(context.Context, string, Say) error{
		"DELETE /regions/{name}/nodes":    c.env.RemoveNodes,
		"PUT /regions/{name}/database":    c.env.AddServer,
		"DELETE /regions/{name}/database": c.env.RemoveServer,
	} {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			c.change(w, func(ctx context.Context, say Say) error { return do(ctx, r.PathValue("name"), say) })
		})
	}
	return mux
}

// answer is a line of an answer: a step, or the outcome.
type answer struct {
	Step  string `json:"step,omitempty"`
	Done  bool   `json:"done,omitempty"` // the outcome, which is good unless Error says why not
	Error string `json:"error,omitempty"`
}

// change runs do and reports its steps and its outcome.
func (c *Control) change(w http.ResponseWriter, do func(context.Context, Say) error) {
	ctx, cancel := context.WithTimeout(c.ctx, changeTimeout)
	defer cancel()
	var mu sync.Mutex // guards w
	report := func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(a) // fails when the client has gone away
		_ = http.NewResponseController(w).Flush()
	}
	err := do(ctx, func(format string, args ...any) { report(answer{Step: fmt.Sprintf(format, args...)}) })
	err = errors.Join(err, c.publish()) // before the client learns of the outcome
	last := answer{Done: true}
	if err != nil {
		last.Error = err.Error()
	}
	report(last)
}

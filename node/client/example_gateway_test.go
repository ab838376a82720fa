package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// gateway takes badges from readers without a clock and a disk, and makes a punch of each. A reader shows a green light
// after a 202: the punch is on the disk of the gateway then.
type gateway struct {
	box *client.Outbox

	mu   sync.Mutex // guards last
	last map[string]client.Request
}

// sameBadge is the time in which a second badge of an employee is a repeated request, and not a second punch.
const sameBadge = 10 * time.Second

// punchOf returns the punch of a badge. A reader whose 202 was lost repeats its request and gets the same punch.
func (g *gateway) punchOf(employee, reader string) client.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, found := g.last[employee]
	if !found || time.Since(p.ID.Time()) > sameBadge {
		p = client.Request{Employee: employee, Kind: punch.Auto, Source: reader}.WithID() // with the time of the gateway
		g.last[employee] = p
	}
	return p
}

// ServeHTTP takes POST /badge?employee=e-1024&reader=gate-3.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch err := g.box.Put(r.Context(), g.punchOf(r.FormValue("employee"), r.FormValue("reader"))); {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case errors.Is(err, client.ErrOutboxFull):
		http.Error(w, err.Error(), http.StatusInsufficientStorage) // the reader shows a red light
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// A gateway for badge readers stores each punch before it answers, and sends all of them in the background.
func Example_gateway() {
	service := startService()
	defer service.Close()
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of the example
	box, err := client.OpenOutbox(client.OutboxConfig{Dir: dir, Company: clienttest.Company, Receipts: true})
	if err != nil {
		panic(err)
	}
	reader := httptest.NewServer(&gateway{box: box, last: map[string]client.Request{}})
	defer reader.Close()
	answer, err := http.Post(reader.URL+"/badge", "application/x-www-form-urlencoded", strings.NewReader("employee=e-1024&reader=gate-3"))
	if err != nil {
		panic(err)
	}
	_ = answer.Body.Close() // it is empty
	fmt.Println("the reader got", answer.StatusCode)

	c := mustClient(service.URL)
	defer c.Close()
	ctx, stop := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() {
		box.Run(ctx, c, func(f client.Flushed, err error) {
			for _, r := range f.Receipts {
				fmt.Println("recorded for", r.Employee)
			}
			for _, e := range f.Refused {
				fmt.Println("tell a person:", e.Employee, e.Refusal.Detail)
			}
			if err != nil {
				fmt.Println("the disk fails:", err)
			}
			stop() // the example ends here, a gateway does not
		})
	})
	sending.Wait()
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// the reader got 202
	// recorded for e-1024
}

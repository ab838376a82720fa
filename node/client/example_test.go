package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// startService starts a service with one node in memory. A real device has the URLs of its deployment.
func startService() *httptest.Server {
	handler, err := clienttest.NewService().Handler("eu-west-n1", time.Now)
	if err != nil {
		panic(err)
	}
	return httptest.NewServer(handler)
}

// A device with a storage of its own makes the id with the punch and keeps both until the punch is settled.
func ExampleClient_Punch() {
	service := startService()
	defer service.Close()
	c, err := client.New(client.Config{Endpoints: []string{service.URL}, Token: client.StaticToken(clienttest.Token)})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	p := client.Request{ID: punch.NewID(), Employee: "e-1024", Kind: punch.In, At: time.Now(), Source: "gate-3"}
	// Store p here, before the first attempt.
	switch receipt, err := c.Punch(context.Background(), p); {
	case err == nil:
		fmt.Println("recorded for", receipt.Employee, "in", receipt.HomeRegion) // remove p from the storage
	case client.IsFinal(err):
		fmt.Println("show this to a person:", err)
	default:
		fmt.Println("keep the punch and send it again with the same id:", err)
	}
	// Output: recorded for e-1024 in eu-west
}

// An offline device sends its punches in one call and gets an outcome for each.
func ExampleClient_PunchBatch() {
	service := startService()
	defer service.Close()
	c, err := client.New(client.Config{Endpoints: []string{service.URL}, Token: client.StaticToken(clienttest.Token)})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	outcomes, err := c.PunchBatch(context.Background(), []client.Request{
		{ID: punch.NewID(), Employee: "e-1024", Kind: punch.In},
		{ID: punch.NewID(), Employee: "e-1025", Kind: "lunch"},
	})
	if err != nil {
		panic(err)
	}
	for _, o := range outcomes {
		if e, ok := errors.AsType[*client.Error](o.Err); ok {
			fmt.Println(e.Code, e.Field, "final:", e.Final)
		} else {
			fmt.Println("recorded for", o.Receipt.Employee)
		}
	}
	// Output:
	// recorded for e-1024
	// invalid kind final: true
}

// A device that must survive an outage keeps its punches in an Outbox. Here the service is down for the first attempt.
func ExampleOutbox() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of the example
	box, err := client.OpenOutbox(client.OutboxConfig{Dir: dir, Company: clienttest.Company})
	if err != nil {
		panic(err)
	}
	ctx, p := context.Background(), client.Request{Employee: "e-1024", Kind: punch.In, Source: "gate-3"}

	c := mustClient("http://127.0.0.1:1") // no process listens on port 1
	switch receipt, err := box.Punch(ctx, c, p); {
	case err == nil:
		fmt.Println("recorded for", receipt.Employee)
	case errors.Is(err, client.ErrNotKept):
		fmt.Println("please punch again:", err)
	case client.IsFinal(err):
		fmt.Println("in quarantine, show it to a person:", err)
	default:
		fmt.Println("kept on disk")
	}

	service := startService()
	defer service.Close()
	done, err := box.Flush(ctx, mustClient(service.URL)) // or box.Run, which flushes until its context ends
	if err != nil {
		panic(err)
	}
	fmt.Println(len(done.Receipts), "recorded,", done.Kept, "left")
	// Output:
	// kept on disk
	// 1 recorded, 0 left
}

// The clock of a terminal was in 2063. Two nodes said so, and the punch went to the quarantine. A person knows when the
// employee came.
func ExampleOutbox_Correct() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of the example
	box, err := client.OpenOutbox(client.OutboxConfig{Dir: dir})
	if err != nil {
		panic(err)
	}
	ctx, in2063 := context.Background(), time.Date(2063, 4, 5, 8, 31, 0, 0, time.UTC)
	p := client.Request{ID: punch.IDAt(in2063), Employee: "e-1024", Kind: punch.In}
	if err := box.Put(ctx, p); err != nil {
		panic(err)
	}

	corrected, err := box.Correct(ctx, p.ID, time.Date(2026, 11, 3, 8, 31, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	fmt.Println("waits:", corrected.Employee, corrected.At)
	evidence, err := box.Quarantined(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println("in quarantine:", evidence[0].Refusal.Code, evidence[0].Time())
	// Output:
	// waits: e-1024 2026-11-03 08:31:00 +0000 UTC
	// in quarantine: clock_ahead 2063-04-05 08:31:00 +0000 UTC
}

func mustClient(endpoint string) *client.Client {
	c, err := client.New(client.Config{
		Endpoints: []string{endpoint}, Token: client.StaticToken(clienttest.Token), TotalTimeout: 200 * time.Millisecond,
	})
	if err != nil {
		panic(err)
	}
	return c
}

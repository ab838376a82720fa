package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/punch"
)

// A terminal makes the id with the punch, stores both, and drops them only
// when the punch is settled.
func ExampleClient_Punch() {
	c, err := client.New(client.Config{
		Endpoints: []string{"https://eu-west.punchclock.example", "https://us-east.punchclock.example"},
		Token:     client.StaticToken("eyJhbGciOiJFZERTQSJ9…"),
	})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	p := client.Request{ID: punch.NewID(), Employee: "e-1024", Kind: punch.In, At: time.Now(), Source: "gate-3"}
	switch receipt, err := c.Punch(context.Background(), p); {
	case err == nil:
		fmt.Println("recorded at", receipt.RecordedAt)
	case client.IsFinal(err):
		fmt.Println("set aside for a person to look at:", err)
	default:
		fmt.Println("kept, to be sent again with the same id:", err)
	}
}

// A terminal that must outlive an outage keeps its punches in an Outbox and
// lets Run send what could not be sent at once.
func ExampleOutbox() {
	c, err := client.New(client.Config{
		Endpoints: []string{"https://punchclock.example"},
		Token:     client.TokenFile("/etc/terminal/token"),
	})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	box, err := client.OpenOutbox(client.OutboxConfig{Dir: "/var/lib/terminal/outbox", Company: "acme"})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() {
		if err := c.Refresh(ctx, []string{"eu-west", "us-east"}); err != nil {
			fmt.Println("going on with the configured endpoint:", err)
		}
		box.Run(ctx, c, func(f client.Flushed, err error) {
			fmt.Println(len(f.Receipts), "sent,", f.Kept, "left,", len(f.Refused), "for a person to look at", err)
		})
	})

	switch receipt, err := box.Punch(ctx, c, client.Request{Employee: "e-1024", Kind: punch.In, Source: "gate-3"}); {
	case err == nil:
		fmt.Println("recorded at", receipt.RecordedAt)
	case client.IsFinal(err):
		fmt.Println("set aside for a person to look at:", err)
	case errors.Is(err, client.ErrNotKept):
		fmt.Println("please punch again:", err)
	default:
		fmt.Println("kept, and sent as soon as somebody answers:", err)
	}
	stop()
	background.Wait()
}

package client_test

import (
	"context"
	"fmt"
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

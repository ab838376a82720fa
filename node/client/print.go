package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/punch"
)

func printReceipt(out io.Writer, r *Receipt) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

func printKept(ctx context.Context, out io.Writer, list func(context.Context) ([]Entry, error)) error {
	all, err := list(ctx)
	for i := range all {
		state := "waiting"
		if all[i].Refusal != nil || all[i].Corrupt != nil {
			state = "quarantined"
		}
		err = errors.Join(err, printLine(out, state, &all[i], nil))
	}
	return err
}

// line is a punch without a receipt, as it is printed.
type line struct {
	State   string     `json:"state"`
	KeptAt  time.Time  `json:"kept_at,omitzero"`
	Punch   wirePunch  `json:"punch"`
	Refusal *Refusal   `json:"refusal,omitempty"`
	Problem punch.Code `json:"problem,omitempty"` // why it waits
	Damaged string     `json:"damaged,omitempty"`
	File    string     `json:"file,omitempty"`
}

func printLine(out io.Writer, state string, k *Entry, why *Error) error {
	l := line{State: state, KeptAt: k.KeptAt, Punch: toWire(k.Request), Refusal: k.Refusal, File: k.File}
	if why != nil {
		l.Problem = why.Code
	}
	if k.Corrupt != nil {
		l.Damaged = k.Corrupt.Error()
	}
	text, err := json.Marshal(l, jsontext.AllowInvalidUTF8(true)) // a punch that could not be kept may be
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

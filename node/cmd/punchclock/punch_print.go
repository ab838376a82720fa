package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/punch"
)

func printReceipt(out io.Writer, r *client.Receipt) error {
	text, err := r.JSON()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// entryLine is the printed form of a punch without a receipt.
type entryLine struct {
	State      string             `json:"state"`
	KeptAt     time.Time          `json:"kept_at,omitzero"`
	Punch      jsontext.Value     `json:"punch"`
	Ahead      string             `json:"ahead,omitempty"` // of the clock of this device
	Corrects   string             `json:"corrects,omitempty"`
	Refusal    *client.Refusal    `json:"refusal,omitempty"`
	Correction *client.Correction `json:"correction,omitempty"`
	Problem    punch.Code         `json:"problem,omitempty"` // the reason why the punch waits
	Damaged    string             `json:"damaged,omitempty"`
	File       string             `json:"file,omitempty"`
}

// minAhead is the least lead of a punch over the clock of the device that a line shows. Two clocks always differ a little.
const minAhead = 2 * time.Minute

// printEntry prints a line. problem is the answer for a waiting punch, or nil.
func printEntry(out io.Writer, state string, e *client.Entry, problem *client.Error) error {
	body, err := e.Request.JSON()
	if err != nil {
		return err
	}
	line := entryLine{State: state, KeptAt: e.KeptAt, Punch: body, Refusal: e.Refusal, Correction: e.Correction, File: e.File}
	if ahead := time.Until(e.Time()); ahead > minAhead && e.Corrupt == nil {
		line.Ahead = ahead.Round(time.Second).String()
	}
	if e.Corrects != (punch.ID{}) {
		line.Corrects = e.Corrects.String()
	}
	if problem != nil {
		line.Problem = problem.Code
	}
	if e.Corrupt != nil {
		line.Damaged = e.Corrupt.Error()
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

func printEntries(out io.Writer, state string, entries []client.Entry) error {
	var errs []error
	for i := range entries {
		errs = append(errs, printEntry(out, state, &entries[i], nil))
	}
	return errors.Join(errs...)
}

// printQuarantined prints a punch as the quarantine has it, with its refusal.
func (*punchCommand) printQuarantined(ctx context.Context, box *client.Outbox, out io.Writer, e *client.Entry) error {
	entries, err := box.Quarantined(ctx)
	for i := range entries {
		if entries[i].ID == e.ID {
			e = &entries[i]
			break
		}
	}
	return errors.Join(err, printEntry(out, "quarantined", e, nil))
}

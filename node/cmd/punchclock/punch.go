package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/punch"
)

// Exit statuses of `punchclock punch`, for scripts. Status 0 is a receipt, 2 an invalid command line.
const (
	exitQuarantined = 1 // the punch is in quarantine and needs a person
	exitWaiting     = 3 // the punch waits in the outbox
	// exitFailed says that the outbox failed. The punch is not kept and not known to be recorded. The person must punch
	// again, best with --id as printed.
	exitFailed = 4
)

// exitError is an error with an exit status of its own.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// punchCommand is `punchclock punch`, for devices without a program of their own.
type punchCommand struct {
	Endpoint  []string      `help:"Base URLs of the service, the nearest first." placeholder:"URL"`
	Prefer    []string      `help:"Regions in order of preference. The command asks the service for their endpoints and tries them before --endpoint." placeholder:"REGION"`
	TokenFile string        `help:"File with the bearer token. The command reads it before each attempt." type:"path"`
	Wait      time.Duration `help:"Time to try before the punch waits in the outbox." default:"30s"` // a lost region takes 20 s

	Employee string    `help:"Employee's id."`
	Kind     string    `help:"in, out, break_start, break_end or auto." default:"auto"`
	At       time.Time `help:"Time of the punch, RFC 3339. The default is now. With --correct it is the right time." format:"2006-01-02T15:04:05Z07:00"`
	Note     string    `help:"Free text."`
	Source   string    `help:"Recorder of the punch, such as the name of a terminal."`
	ID       string    `name:"id" help:"Id of the punch, to repeat an earlier attempt. The default is a new id."`

	Outbox         string `help:"Folder that keeps unsent punches. The default is a folder in the user's configuration." placeholder:"DIR" type:"path"`
	OutboxMaxItems int    `help:"Most punches in the outbox, waiting and quarantined. A full outbox refuses the next punch with exit status 4." default:"10000"`
	Receipts       bool   `help:"Keep each receipt in receipts.jsonl of the outbox."`
	Flush          bool   `help:"Send the waiting punches."`
	List           bool   `help:"Print the waiting punches." xor:"local"`
	Quarantine     bool   `help:"Print the punches that were refused for good, with the reason." xor:"local"`
	Release        string `help:"Send a quarantined punch again, after its reason is gone." placeholder:"ID" xor:"local"`
	Correct        string `help:"Send a quarantined punch with the time --at and a new id. The old punch stays in quarantine as evidence. Also for a waiting punch that is ahead of this device's clock." placeholder:"ID" xor:"local"`
	Discard        string `help:"Remove a quarantined punch and print it." placeholder:"ID" xor:"local"`
}

// local reports whether the command works on the outbox alone, without the service.
func (c *punchCommand) local() bool {
	return c.List || c.Quarantine || c.Release != "" || c.Correct != "" || c.Discard != ""
}

// Validate implements the check of the command line by kong. A typing error must not end in the quarantine.
func (c *punchCommand) Validate() error {
	switch {
	case c.Wait <= 0:
		return errors.New("--wait: must be positive")
	case c.OutboxMaxItems < 0:
		return fmt.Errorf("--outbox-max-items: must not be negative, is %d", c.OutboxMaxItems)
	case c.local() && (c.Employee != "" || c.Flush):
		return errors.New("--list, --quarantine, --release, --correct and --discard need the command without --employee and --flush")
	case c.Correct != "" && c.At.IsZero():
		return errors.New("--correct: needs the right time in --at")
	case c.local():
		return nil
	case c.Employee == "" && !c.Flush:
		return errors.New("--employee: is needed, or one of --flush, --list, --quarantine, --release, --correct, --discard")
	case len(c.Endpoint) == 0:
		return errors.New("--endpoint: is needed")
	case c.TokenFile == "":
		return errors.New("--token-file: is needed")
	case c.Employee == "":
		return nil
	}
	r, err := c.request()
	if err != nil {
		return err
	}
	// The token names the company.
	full := punch.Request{Company: "any", Employee: r.Employee, ID: r.ID, Kind: r.Kind, At: r.At, Source: r.Source, Note: r.Note}
	return full.Validate()
}

func (c *punchCommand) request() (client.Request, error) {
	r := client.Request{Employee: c.Employee, Kind: punch.Kind(c.Kind), At: c.At, Source: c.Source, Note: c.Note}
	if c.ID != "" {
		id, err := punch.ParseID(c.ID)
		if err != nil {
			return r, fmt.Errorf("--id: %w", err)
		}
		r.ID = id
	}
	return r.WithID(), nil
}

// Run implements the command. It prints a line of JSON for each punch. Its error is an *exitError.
func (c *punchCommand) Run(ctx context.Context, out io.Writer) error {
	err := c.run(ctx, out)
	if _, coded := errors.AsType[*exitError](err); err != nil && !coded {
		err = &exitError{exitFailed, err}
	}
	return err
}

func (c *punchCommand) run(ctx context.Context, out io.Writer) error {
	box, boxErr := c.openOutbox()
	if boxErr != nil && c.Employee == "" {
		return boxErr
	}
	if c.local() {
		return c.runLocal(ctx, box, out)
	}
	sender, err := client.New(client.Config{Endpoints: c.Endpoint, Token: client.TokenFile(c.TokenFile), TotalTimeout: c.Wait})
	if err != nil {
		return errors.Join(err, boxErr)
	}
	defer sender.Close()
	if c.Employee != "" {
		err = c.punch(ctx, box, boxErr, sender, out)
	}
	if c.Flush && boxErr == nil {
		err = moreUrgent(err, c.flush(ctx, box, sender, out))
	}
	return err
}

// moreUrgent returns the error whose exit status a script must get. A punch that waits is the least urgent.
func moreUrgent(a, b error) error {
	if a == nil {
		return b
	}
	if x, ok := errors.AsType[*exitError](a); ok && x.status == exitWaiting && b != nil {
		return b
	}
	return a
}

func (c *punchCommand) openOutbox() (*client.Outbox, error) {
	if c.Outbox == "" {
		dir, err := os.UserConfigDir() // not the cache, which programs may empty
		if err != nil {
			return nil, fmt.Errorf("--outbox: is needed: %w", err)
		}
		c.Outbox = filepath.Join(dir, "punchclock", "outbox")
	}
	company := ""
	if token, err := client.TokenFile(c.TokenFile)(context.Background()); err == nil {
		company = companyOf(token)
	}
	return client.OpenOutbox(client.OutboxConfig{
		Dir: c.Outbox, Company: company, MaxItems: c.OutboxMaxItems, Receipts: c.Receipts, Log: c.log(),
	})
}

// log writes to standard error, for the operator of the device. Standard output has the punches.
func (*punchCommand) log() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

// companyOf reads the company in a token, or returns "". It verifies nothing: it only keeps a device from sending the
// punches of one company under the token of another by mistake.
func companyOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Company string `json:"company"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || !punch.ValidCompany(claims.Company) {
		return ""
	}
	return claims.Company
}

// punch sends or keeps a punch. boxErr says why there is no outbox. The punch is sent all the same, because with a receipt
// nothing is lost.
func (c *punchCommand) punch(ctx context.Context, box *client.Outbox, boxErr error, sender *client.Client, out io.Writer) error {
	r, err := c.request()
	if err != nil {
		return err
	}
	if len(c.Prefer) > 0 {
		if boxErr == nil {
			_ = box.Put(ctx, r) // before any request; box.Punch repeats it and returns its error
		}
		c.refresh(ctx, sender)
	}
	var receipt client.Receipt
	if boxErr == nil {
		receipt, err = box.Punch(ctx, sender, r)
	} else {
		receipt, err = sender.Punch(ctx, r)
	}
	if err == nil {
		if boxErr != nil {
			c.log().WarnContext(ctx, "there is no outbox; the service recorded the punch", "id", r.ID.String(), "error", boxErr)
		}
		return printReceipt(out, &receipt)
	}
	e := client.Entry{Request: r}
	refusal, answered := errors.AsType[*client.Error](err)
	switch {
	case boxErr != nil || !answered || errors.Is(err, client.ErrNotKept):
		err = &exitError{exitFailed, errors.Join(boxErr, err)}
		return errors.Join(err, printEntry(out, "lost", &e, refusal))
	case refusal.Final:
		err = &exitError{exitQuarantined, fmt.Errorf("refused for good, kept in the quarantine of %s: %w", c.Outbox, err)}
		return errors.Join(err, c.printQuarantined(ctx, box, out, &e))
	default:
		err = &exitError{exitWaiting, fmt.Errorf("kept in %s for later: %w", c.Outbox, err)}
		return errors.Join(err, printEntry(out, "waiting", &e, refusal))
	}
}

// refresh asks for the endpoints of the preferred regions. Without an answer the command uses --endpoint.
func (c *punchCommand) refresh(ctx context.Context, sender *client.Client) {
	const timeout = 2 * time.Second // a person stands at the gate
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_ = sender.Refresh(ctx, c.Prefer)
}

func (c *punchCommand) flush(ctx context.Context, box *client.Outbox, sender *client.Client, out io.Writer) error {
	if len(c.Prefer) > 0 {
		c.refresh(ctx, sender)
	}
	done, err := box.Flush(ctx, sender)
	if errors.Is(err, client.ErrFlushing) {
		return &exitError{exitWaiting, err}
	}
	for i := range done.Receipts {
		err = errors.Join(err, printReceipt(out, &done.Receipts[i]))
	}
	for i := range done.Refused {
		err = errors.Join(err, printEntry(out, "quarantined", &done.Refused[i], nil))
	}
	switch {
	case err != nil:
		return err
	case len(done.Refused) > 0:
		return &exitError{exitQuarantined, fmt.Errorf("%d punches were refused for good, kept in the quarantine of %s; %d wait",
			len(done.Refused), c.Outbox, done.Kept)}
	case done.Kept > 0 && done.Last != nil:
		return &exitError{exitWaiting, fmt.Errorf("%d punches are kept in %s for later: %w", done.Kept, c.Outbox, done.Last)}
	case done.Kept > 0:
		return &exitError{exitWaiting, fmt.Errorf("%d punches are kept in %s for later", done.Kept, c.Outbox)}
	default:
		return nil
	}
}

// runLocal shows the outbox, or does to a quarantined punch what a person has decided.
func (c *punchCommand) runLocal(ctx context.Context, box *client.Outbox, out io.Writer) error {
	switch {
	case c.List:
		entries, err := box.List(ctx)
		return errors.Join(err, printEntries(out, "waiting", entries))
	case c.Quarantine:
		entries, err := box.Quarantined(ctx)
		return errors.Join(err, printEntries(out, "quarantined", entries))
	}
	id, err := punch.ParseID(cmp.Or(c.Release, c.Correct, c.Discard))
	if err != nil {
		return fmt.Errorf("--release, --correct, --discard: %w", err)
	}
	var e client.Entry
	state := "discarded"
	switch {
	case c.Release != "":
		return box.Release(ctx, id)
	case c.Correct != "":
		state = "waiting"
		e, err = box.Correct(ctx, id, c.At)
	default:
		e, err = box.Discard(ctx, id)
	}
	if err != nil {
		return err
	}
	return printEntry(out, state, &e, nil)
}

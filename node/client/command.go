package client

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

	"github.com/punchclock/punchclock/node/punch"
)

// Exit statuses of Command, for scripts. Status 0 is a receipt, 2 a wrong
// command line.
const (
	ExitRefused = 1 // refused for good; the punch is in quarantine
	ExitKept    = 3 // waits in the outbox
	// ExitFailed: the outbox failed. A punch is neither recorded as far as
	// known nor kept: send it again, best with --id as printed.
	ExitFailed = 4
)

// Command is `punchclock punch`: a device without a program of its own.
type Command struct {
	Endpoint  []string      `help:"Base URLs of the service, the nearest first." placeholder:"URL"`
	Prefer    []string      `help:"Regions in order of preference: ask the service for their endpoints, and try --endpoint after them." placeholder:"REGION"`
	TokenFile string        `help:"File with the bearer token. It is read before each attempt." type:"path"`
	Wait      time.Duration `help:"How long to try before the punch is kept for later." default:"30s"` // a person stands there; a lost region takes 20 s

	Employee string    `help:"Who punches."`
	Kind     string    `help:"in, out, break_start, break_end or auto." default:"auto"`
	At       time.Time `help:"When, RFC 3339; now when absent." format:"2006-01-02T15:04:05Z07:00"`
	Note     string    `help:"Free text."`
	Source   string    `help:"What recorded it, such as a terminal's name."`
	ID       string    `name:"id" help:"The punch's id, to repeat an earlier attempt; new when absent."`

	Outbox     string `help:"Folder that keeps what could not be sent. By default one in the user's configuration." placeholder:"DIR" type:"path"`
	Receipts   bool   `help:"Keep each receipt in the outbox's receipts.jsonl."`
	Flush      bool   `help:"Send what waits in the outbox."`
	List       bool   `help:"Print what waits in the outbox." xor:"local"`
	Quarantine bool   `help:"Print what was refused for good, and why." xor:"local"`
	Release    string `help:"Put a quarantined punch back in the outbox." placeholder:"ID" xor:"local"`
	Discard    string `help:"Remove a quarantined punch and print it." placeholder:"ID" xor:"local"`
}

// ExitError is an error of a command with the exit status it asks for.
type ExitError struct {
	Status int
	Err    error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// Validate implements kong's check of the command line. What a person has
// mistyped is better said at once than found in a quarantine.
func (c *Command) Validate() error {
	local := c.List || c.Quarantine || c.Release != "" || c.Discard != ""
	switch {
	case c.Wait <= 0:
		return errors.New("--wait: must be positive")
	case local && (c.Employee != "" || c.Flush):
		return errors.New("--list, --quarantine, --release and --discard go with neither --employee nor --flush")
	case local:
		return nil
	case c.Employee == "" && !c.Flush:
		return errors.New("--employee: is needed, or one of --flush, --list, --quarantine, --release, --discard")
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
	claim := punch.Request{Company: "any", Employee: r.Employee, ID: r.ID, Kind: r.Kind, At: r.At, Source: r.Source, Note: r.Note}
	return claim.Validate()
}

func (c *Command) request() (Request, error) {
	r := Request{Employee: c.Employee, Kind: punch.Kind(c.Kind), At: c.At, Source: c.Source, Note: c.Note}
	switch {
	case c.ID != "":
		id, err := punch.ParseID(c.ID)
		if err != nil {
			return r, fmt.Errorf("--id: %w", err)
		}
		r.ID = id
	case c.At.IsZero():
		r.ID = punch.NewID()
	default:
		r.ID = punch.IDAt(c.At) // it may be days ago, and the two must be near each other
	}
	return r, nil
}

// Run punches, flushes or shows, and prints a line of JSON for each punch. Its
// error is an *ExitError.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	err := c.run(ctx, out)
	var coded *ExitError
	if err != nil && !errors.As(err, &coded) {
		err = &ExitError{ExitFailed, err}
	}
	return err
}

func (c *Command) run(ctx context.Context, out io.Writer) error {
	box, broken := c.open()
	switch {
	case broken != nil && c.Employee == "":
		return broken
	case c.List:
		return printKept(ctx, out, box.List)
	case c.Quarantine:
		return printKept(ctx, out, box.Quarantined)
	case c.Release != "" || c.Discard != "":
		return c.decide(ctx, box, out)
	}
	client, err := New(Config{Endpoints: c.Endpoint, Token: TokenFile(c.TokenFile), TotalTimeout: c.Wait})
	if err != nil {
		return errors.Join(err, broken)
	}
	defer client.Close()
	if c.Employee != "" {
		err = c.punch(ctx, box, broken, client, out)
	}
	if c.Flush && broken == nil {
		err = worse(err, c.flush(ctx, box, client, out))
	}
	return err
}

// worse returns the error that a script has to hear of first.
func worse(a, b error) error {
	var x *ExitError
	if a == nil || b != nil && errors.As(a, &x) && x.Status == ExitKept {
		return b
	}
	return a
}

func (c *Command) open() (*Outbox, error) {
	dir := c.Outbox
	if dir == "" {
		home, err := os.UserConfigDir() // not the cache: caches are emptied
		if err != nil {
			return nil, fmt.Errorf("--outbox: is needed: %w", err)
		}
		dir = filepath.Join(home, "punchclock", "outbox")
	}
	c.Outbox = dir
	company := ""
	if token, err := TokenFile(c.TokenFile)(context.Background()); err == nil {
		company = companyOf(token)
	}
	return OpenOutbox(OutboxConfig{Dir: dir, Company: company, Receipts: c.Receipts, Log: c.logger()})
}

// logger tells whoever looks after the device, beside what out is for.
func (*Command) logger() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

// companyOf reads whose token it is, "" when it does not say. Nothing is
// trusted because of it: it keeps one company's punches from being sent under
// another one's token by mistake.
func companyOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Company string `json:"company"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || !punch.ValidName(claims.Company) {
		return ""
	}
	return claims.Company
}

// punch sends or keeps. broken says why there is no outbox: with a receipt
// nothing is lost all the same.
func (c *Command) punch(ctx context.Context, box *Outbox, broken error, client *Client, out io.Writer) error {
	r, err := c.request()
	if err != nil {
		return err
	}
	if len(c.Prefer) > 0 {
		if broken == nil {
			_ = box.Put(ctx, r) // before anything is sent; Punch does it again and says what is wrong
		}
		c.refresh(ctx, client)
	}
	var receipt Receipt
	if broken == nil {
		receipt, err = box.Punch(ctx, client, r)
	} else {
		receipt, err = client.Punch(ctx, r)
	}
	if err == nil {
		if broken != nil {
			c.logger().WarnContext(ctx, "a punch is recorded that could not have been kept", "id", r.ID.String(), "error", broken)
		}
		return printReceipt(out, &receipt)
	}
	k := Entry{Request: r}
	var e *Error
	switch errors.As(err, &e); {
	case broken != nil || e == nil || errors.Is(err, ErrNotKept):
		err = &ExitError{ExitFailed, errors.Join(broken, err)}
		return errors.Join(err, printLine(out, "lost", &k, e))
	case e.Final:
		k.Refusal = refusalOf(e, time.Now())
		err = &ExitError{ExitRefused, fmt.Errorf("refused for good, set aside in %s: %w", c.Outbox, err)}
		return errors.Join(err, printLine(out, "quarantined", &k, nil))
	default:
		err = &ExitError{ExitKept, fmt.Errorf("kept in %s for later: %w", c.Outbox, err)}
		return errors.Join(err, printLine(out, "waiting", &k, e))
	}
}

// refresh asks for the preferred regions' endpoints. Without an answer those of
// the command line have to do.
func (c *Command) refresh(ctx context.Context, client *Client) {
	const patience = 2 * time.Second // a detour, and somebody stands at the gate
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = client.Refresh(ctx, c.Prefer)
}

func (c *Command) flush(ctx context.Context, box *Outbox, client *Client, out io.Writer) error {
	if len(c.Prefer) > 0 {
		c.refresh(ctx, client)
	}
	done, err := box.Flush(ctx, client)
	if errors.Is(err, ErrFlushing) {
		return &ExitError{ExitKept, err}
	}
	for i := range done.Receipts {
		err = errors.Join(err, printReceipt(out, &done.Receipts[i]))
	}
	for i := range done.Refused {
		err = errors.Join(err, printLine(out, "quarantined", &done.Refused[i], nil))
	}
	switch {
	case err != nil:
		return err
	case len(done.Refused) > 0:
		return &ExitError{ExitRefused, fmt.Errorf("%d punches were refused for good, set aside in %s; %d wait", len(done.Refused), c.Outbox, done.Kept)}
	case done.Kept > 0 && done.Last != nil:
		return &ExitError{ExitKept, fmt.Errorf("%d punches are kept in %s for later: %w", done.Kept, c.Outbox, done.Last)}
	case done.Kept > 0:
		return &ExitError{ExitKept, fmt.Errorf("%d punches are kept in %s for later", done.Kept, c.Outbox)}
	default:
		return nil
	}
}

// decide does what a person has decided about a quarantined punch.
func (c *Command) decide(ctx context.Context, box *Outbox, out io.Writer) error {
	id, err := punch.ParseID(cmp.Or(c.Release, c.Discard))
	if err != nil {
		return fmt.Errorf("--release, --discard: %w", err)
	}
	if c.Release != "" {
		return box.Release(ctx, id)
	}
	k, err := box.Discard(ctx, id)
	if err != nil {
		return err
	}
	return printLine(out, "discarded", &k, nil)
}

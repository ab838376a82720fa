package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
)

// queue is where the handler puts a punch before it answers. Put returns when the queue has acknowledged the message.
type queue interface {
	Put(ctx context.Context, message []byte) error
}

// api is the handler in front of a queue. It has the HTTP API of a node for single punches: the same token check with
// the same cache, the same strict JSON, the same rules, and a receipt of the same fields. It has no metrics, no traces and
// no deadline for each request, which saves it CPU that a node spends. The comparison therefore favours the queue.
type api struct {
	tokens    *auth.Verifier
	companies map[string]company
	region    string
	queue     queue
}

// company is what the receipt and the row need to know of a company. The handler reads all companies at its start.
type company struct {
	home     string
	epoch    int64
	zone     string
	location *time.Location
}

func newAPI(ctx context.Context, cfg *config, pool *pgxpool.Pool, q queue) (*api, error) {
	tokens, err := auth.New(auth.Config{JWKS: cfg.JWKS, Issuer: "punchclock", Audience: "punchclock", Development: true},
		auth.Deps{Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider(), Clock: time.Now})
	if err != nil {
		return nil, err
	}
	if err := tokens.Start(ctx); err != nil {
		return nil, err
	}
	companies, err := readCompanies(ctx, pool)
	if err != nil {
		tokens.Close()
		return nil, err
	}
	return &api{tokens: tokens, companies: companies, region: cfg.Region, queue: q}, nil
}

func readCompanies(ctx context.Context, pool *pgxpool.Pool) (map[string]company, error) {
	rows, err := pool.Query(ctx, `SELECT company_id, home_region::text, epoch, time_zone FROM companies`)
	if err != nil {
		return nil, err
	}
	companies := make(map[string]company)
	var id string
	var c company
	_, err = pgx.ForEachRow(rows, []any{&id, &c.home, &c.epoch, &c.zone}, func() (err error) {
		c.location, err = zone.Load(c.zone)
		companies[id] = c
		return err
	})
	return companies, err
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/punches" {
		http.NotFound(w, r)
		return
	}
	receipt, err := a.record(r)
	if err != nil {
		refuse(w, err)
		return
	}
	body, err := json.Marshal(receipt)
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusCreated, body)
}

// wirePunch is a punch as callers send it, with the members of a node's API.
type wirePunch struct {
	ID       string     `json:"id"`
	Employee string     `json:"employee"`
	Kind     punch.Kind `json:"kind"`
	At       *time.Time `json:"at"`
	Source   string     `json:"source"`
	Note     string     `json:"note"`
}

// wireReceipt has the members of a node's receipt.
type wireReceipt struct {
	ID          string     `json:"id"`
	Company     string     `json:"company"`
	Employee    string     `json:"employee"`
	Kind        punch.Kind `json:"kind"`
	PunchedAt   time.Time  `json:"punched_at"`
	ReceivedAt  time.Time  `json:"received_at"`
	RecordedAt  time.Time  `json:"recorded_at"` // when the queue took the punch: the row comes later
	Zone        string     `json:"zone"`
	UTCOffset   string     `json:"utc_offset"`
	HomeRegion  string     `json:"home_region"`
	EntryRegion string     `json:"entry_region"`
	Marks       []string   `json:"marks"`
	Replayed    bool       `json:"replayed"`
}

const maxBody = 1 << 20 // as a node

func (a *api) record(r *http.Request) (*wireReceipt, error) {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		return nil, punch.Errorf(punch.Unauthenticated, "a token is required")
	}
	caller, err := a.tokens.Verify(r.Context(), token)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	p, location, err := a.parse(body, &caller)
	if err != nil {
		return nil, err
	}
	message, err := json.Marshal(newEvent(p))
	if err != nil {
		return nil, err
	}
	if err := a.queue.Put(r.Context(), message); err != nil {
		return nil, err
	}
	return newReceipt(p, location), nil
}

// parse decodes, checks, stamps and routes a punch.
func (a *api) parse(body []byte, caller *auth.Identity) (*punch.Punch, *time.Location, error) {
	var w wirePunch
	if err := json.Unmarshal(body, &w, json.RejectUnknownMembers(true)); err != nil {
		return nil, nil, punch.Errorf(punch.Invalid, "the body is no punch: %v", err)
	}
	request := punch.Request{Company: caller.Company, Employee: w.Employee, Kind: w.Kind, Source: w.Source, Note: w.Note}
	var err error
	if request.ID, err = punch.ParseID(w.ID); err != nil {
		return nil, nil, punch.InvalidField("id", "%s", punch.ErrNotUUIDv7)
	}
	if w.At != nil {
		request.At = punch.Microseconds(*w.At)
	}
	if err := request.Validate(); err != nil {
		return nil, nil, err
	}
	if !caller.MayPunch(request.Employee) {
		return nil, nil, punch.Errorf(punch.Forbidden, "this token may only punch for its own employee")
	}
	c, known := a.companies[caller.Company]
	if !known {
		return nil, nil, punch.Errorf(punch.UnknownCompany, "there is no company %s", caller.Company)
	}
	p := punch.Stamped(request, time.Now(), a.region, "")
	if err := p.CheckClock(2 * time.Minute); err != nil {
		return nil, nil, err
	}
	_, offset := p.PunchedAt().In(c.location).Zone()
	p.Route = punch.Route{HomeRegion: c.home, Epoch: c.epoch, Zone: c.zone, UTCOffset: int32(offset)}
	return &p, c.location, nil
}

func newReceipt(p *punch.Punch, location *time.Location) *wireReceipt {
	return &wireReceipt{
		ID: p.ID.String(), Company: p.Company, Employee: p.Employee, Kind: p.Kind,
		PunchedAt: p.PunchedAt(), ReceivedAt: p.ReceivedAt, RecordedAt: p.ReceivedAt,
		Zone: p.Zone, UTCOffset: p.PunchedAt().In(location).Format("-07:00"),
		HomeRegion: p.HomeRegion, EntryRegion: p.EntryRegion, Marks: marks(p),
	}
}

func marks(p *punch.Punch) []string {
	list := []string{}
	if p.Late {
		list = append(list, "late")
	}
	if p.NeedsReview {
		list = append(list, "review")
	}
	return list
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	if e, ok := errors.AsType[*punch.Error](err); ok {
		switch e.Code {
		case punch.Invalid, punch.UnknownCompany:
			status = http.StatusUnprocessableEntity
		case punch.Unauthenticated:
			status = http.StatusUnauthorized
		case punch.Forbidden:
			status = http.StatusForbidden
		default:
		}
	}
	http.Error(w, err.Error(), status)
}

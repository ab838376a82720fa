package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// fenced is a store that answers only at the company's home, as the database does.
type fenced struct{ *world }

func (f fenced) Find(ctx context.Context, home string, key punch.Key) (*punch.Stored, error) {
	f.note("find %s", home)
	if region.Name(home) != f.home.Region {
		return nil, punch.Errorf(punch.NotHome, "moved")
	}
	return f.world.Find(ctx, home, key)
}

func (f fenced) List(_ context.Context, home string, _ punch.Query) ([]punch.Receipt, error) {
	f.note("list %s", home)
	if region.Name(home) != f.home.Region {
		return nil, punch.Errorf(punch.NotHome, "moved")
	}
	return []punch.Receipt{{HomeRegion: home}}, nil
}

func TestReadsFollowAMove(t *testing.T) {
	p := aPunch()
	for name, c := range map[string]struct {
		cached, home region.Home
		asked        string
		code         punch.Code
	}{
		"the home is known":      {home("us-east", 1), home("us-east", 1), "[find us-east list us-east]", ""},
		"the company has moved":  {home("us-east", 1), home("eu-west", 2), "[find us-east refresh find eu-west list eu-west]", ""},
		"the company is unknown": {region.Home{}, home("eu-west", 2), "[]", punch.UnknownCompany},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{home: c.home, cached: c.cached, stored: map[punch.Key]*punch.Stored{
				p.Key(): {Receipt: punch.Receipt{HomeRegion: string(c.home.Region)}},
			}}
			reads := Reads{Directory: w, Store: fenced{w}}
			receipt, err := reads.Find(t.Context(), p.Key())
			list, listErr := reads.List(t.Context(), punch.Query{Company: p.Company})
			if punch.CodeOf(err) != c.code || punch.CodeOf(listErr) != c.code || fmt.Sprint(w.asked) != c.asked {
				t.Fatalf("asked %v: %v, %v; want %s, %q", w.asked, err, listErr, c.asked, c.code)
			}
			if c.code == "" && (receipt.HomeRegion != string(c.home.Region) || len(list) != 1) {
				t.Errorf("%+v, %v", receipt, list)
			}
		})
	}
}

// outdated is a directory that never returns the present home.
type outdated struct{ *world }

func (r outdated) Refresh(context.Context, string) (region.Home, error) {
	r.note("refresh")
	return home("us-east", 1), nil
}

func TestReadsOfACompanyThatKeepsMoving(t *testing.T) {
	w := &world{home: home("eu-west", 9), cached: home("us-east", 1)}
	_, err := Reads{Directory: outdated{w}, Store: fenced{w}}.Find(t.Context(), punch.Key{Company: "acme"})
	e := punch.AsError(err)
	if e.Code != punch.Unavailable || e.RetryAfter <= 0 || fmt.Sprint(w.asked) != "[find us-east refresh find us-east]" {
		t.Errorf("asked %v: %v", w.asked, err)
	}
	broken := errors.New("away")
	_, err = Reads{Directory: away{w, broken}, Store: fenced{w}}.Find(t.Context(), punch.Key{Company: "acme"})
	if punch.CodeOf(err) != punch.Unavailable || !errors.Is(err, broken) {
		t.Errorf("without a directory: %v", err)
	}
}

type away struct {
	*world
	err error
}

func (a away) Refresh(context.Context, string) (region.Home, error) { return region.Home{}, a.err }

// TestAPunchAheadOfAMovedCompany holds that a punch with a time in the future is first looked for at the company's present
// home.
func TestAPunchAheadOfAMovedCompany(t *testing.T) {
	claim := punch.Request{Company: "acme", Employee: "anna", ID: punch.IDAt(time.Now().Add(time.Hour)), Kind: punch.In}
	p := punch.Stamped(claim, time.Now(), "us-east", "")
	w := &world{home: home("eu-west", 2), cached: home("us-east", 1), stored: map[punch.Key]*punch.Stored{
		p.Key(): {Receipt: punch.Receipt{Kind: p.Kind, PunchedAt: p.PunchedAt(), HomeRegion: "eu-west"}},
	}}
	d := mustDispatch(t, w)
	d.deps.Store = fenced{w}
	receipt, err := d.Record(t.Context(), p)
	if err != nil || receipt.HomeRegion != "eu-west" || fmt.Sprint(w.asked) != "[find us-east refresh find eu-west]" {
		t.Errorf("asked %v: %+v, %v", w.asked, receipt, err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

package crdb

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// epochOfFence returns the epoch that the fence lets pass.
func (s *store) epochOfFence(company string) int64 {
	return int64(s.count(`SELECT epoch FROM homes WHERE company_id = $1`, company))
}

// TestEverySwitchClosesTheFence shows that a node with an old directory stores no punch after a change, and that the
// directory of any node learns of it.
func TestEverySwitchClosesTheFence(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		until := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
		for i, step := range []struct {
			name string
			do   func() (Company, error)
			home func(h region.Home) bool
		}{
			{"suspend", func() (Company, error) { return s.Suspend(s.ctx, company, Suspension{Reason: "loop"}, "alice") },
				func(h region.Home) bool { return h.Suspended && h.SuspendedUntil.IsZero() && h.RateLimit == 0 }},
			{"suspend until", func() (Company, error) { return s.Suspend(s.ctx, company, Suspension{Until: until}, "alice") },
				func(h region.Home) bool { return h.Suspended && h.SuspendedUntil.Equal(until) }},
			{"limit", func() (Company, error) { return s.LimitRate(s.ctx, company, 50, "bob") },
				func(h region.Home) bool { return h.Suspended && h.RateLimit == 50 }},
			{"resume", func() (Company, error) { return s.Resume(s.ctx, company, "alice") },
				func(h region.Home) bool { return !h.Suspended && h.SuspendedUntil.IsZero() && h.RateLimit == 50 }},
			{"no limit", func() (Company, error) { return s.LimitRate(s.ctx, company, 0, "bob") },
				func(h region.Home) bool { return h.RateLimit == 0 }},
		} {
			stale := s.item(company, "us-east", "anna")
			stale.Epoch = int64(i + 1)
			wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{stale})[0], "")
			before := time.Now().Add(-time.Minute) // the database's clock may differ
			c, err := step.do()
			if err != nil || c.Epoch != int64(i+2) || c.SwitchedAt == nil || c.SwitchedAt.Before(before) || c.SwitchedBy == "" {
				t.Fatalf("%s: %+v, %v, want epoch %d and who changed it when", step.name, c, err, i+2)
			}
			again := s.item(company, "us-east", "anna")
			again.Epoch = stale.Epoch
			wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{again})[0], punch.NotHome)
			home, err := s.Home(s.ctx, company)
			if err != nil || home.Epoch != c.Epoch || home.Version != c.Version || !step.home(home) {
				t.Errorf("%s: the directory reads %+v, %v", step.name, home, err)
			}
			if preloaded := s.preloaded(company); preloaded != home {
				t.Errorf("%s: a starting node reads %+v, want %+v", step.name, preloaded, home)
			}
			if same, err := step.do(); err != nil || same.Epoch != c.Epoch || same.Version != c.Version {
				t.Errorf("%s a second time: %+v, %v, want no change of %+v", step.name, same, err, c)
			}
			if got := s.epochOfFence(company); got != c.Epoch {
				t.Errorf("%s: the fence has epoch %d, the company %d", step.name, got, c.Epoch)
			}
		}
	})
}

// preloaded returns the company's home as a starting node reads it.
func (s *store) preloaded(company string) (found region.Home) {
	s.tb.Helper()
	err := s.Homes(s.ctx, 1_000_000, func(id string, home region.Home) {
		if id == company {
			found = home
		}
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return found
}

func TestSwitchesNameTheWrongField(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		suspend := func(v Suspension, by string) error {
			_, err := s.Suspend(s.ctx, company, v, by)
			return err
		}
		limit := func(n int) error {
			_, err := s.LimitRate(s.ctx, company, n, "alice")
			return err
		}
		for name, c := range map[string]struct {
			err   error
			field string
		}{
			"an end in the past":       {suspend(Suspension{Until: time.Now().Add(-time.Second)}, "alice"), "until"},
			"a long reason":            {suspend(Suspension{Reason: strings.Repeat("x", maxSwitchText+1)}, "alice"), "reason"},
			"a reason with NUL":        {suspend(Suspension{Reason: "a\x00b"}, "alice"), "reason"},
			"a reason of two lines":    {suspend(Suspension{Reason: "a\nb"}, "alice"), "reason"},
			"an operator without name": {suspend(Suspension{}, "\xff"), "by"},
			"a negative limit":         {limit(-1), "rate"},
			"a limit too high":         {limit(MaxRateLimit + 1), "rate"},
		} {
			if e := punch.AsError(c.err); c.err == nil || e.Code != punch.Invalid || e.Field != c.field {
				t.Errorf("%s: %v, want a refusal that names %s", name, c.err, c.field)
			}
		}
		for name, do := range map[string]func() (Company, error){
			"suspend": func() (Company, error) { return s.Suspend(s.ctx, "nowhere", Suspension{}, "alice") },
			"resume":  func() (Company, error) { return s.Resume(s.ctx, "nowhere", "alice") },
			"limit":   func() (Company, error) { return s.LimitRate(s.ctx, "nowhere", 1, "alice") },
		} {
			if _, err := do(); punch.CodeOf(err) != punch.UnknownCompany {
				t.Errorf("%s an unknown company: %v", name, err)
			}
		}
		if c, err := s.Company(s.ctx, company); err != nil || c.Epoch != 1 || c.Suspended || c.RateLimit != 0 {
			t.Errorf("after refused changes the company is %+v, %v", c, err)
		}
	})
}

// TestMovingCompanyIsSuspendedWithoutANewEpoch suspends a company whose rows are being carried. A new epoch would end the
// move.
func TestMovingCompanyIsSuspendedWithoutANewEpoch(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		move, err := s.Flip(s.ctx, company, "eu-west")
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Suspend(s.ctx, company, Suspension{Reason: "flood"}, "alice")
		if err != nil || !c.Suspended || c.Epoch != move.Epoch || c.MovingFrom != "us-east" {
			t.Fatalf("suspended during a move: %+v, %v, want epoch %d", c, err, move.Epoch)
		}
		if home, err := s.Home(s.ctx, company); err != nil || !home.Suspended {
			t.Errorf("the directory reads %+v, %v", home, err)
		}
		if done, err := s.Finish(s.ctx, move); !done || err != nil {
			t.Fatalf("the move does not end: %t, %v", done, err)
		}
		c, err = s.Resume(s.ctx, company, "alice")
		if err != nil || c.Suspended || c.Epoch != move.Epoch+1 || s.epochOfFence(company) != c.Epoch {
			t.Errorf("resumed after the move: %+v, %v, want epoch %d", c, err, move.Epoch+1)
		}
	})
}

// TestMoveAndZoneKeepTheSwitches moves a suspended and limited company, and corrects its time zone.
func TestMoveAndZoneKeepTheSwitches(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		if _, err := s.Suspend(s.ctx, company, Suspension{Reason: "loop"}, "alice"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.LimitRate(s.ctx, company, 7, "bob"); err != nil {
			t.Fatal(err)
		}
		move, err := s.Flip(s.ctx, company, "eu-west")
		if err != nil {
			t.Fatal(err)
		}
		if done, err := s.Finish(s.ctx, move); !done || err != nil {
			t.Fatalf("the move does not end: %t, %v", done, err)
		}
		c, err := s.SetZone(s.ctx, company, "Asia/Tokyo")
		if err != nil || !c.Suspended || c.Reason != "loop" || c.RateLimit != 7 || c.SwitchedBy != "bob" || c.HomeRegion != "eu-west" {
			t.Errorf("after a move and a new time zone the company is %+v, %v", c, err)
		}
	})
}

func TestSwitchedCompaniesAreFound(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		plain, suspended, limited := s.company("us-east"), s.company("us-east"), s.company("us-east")
		if _, err := s.Suspend(s.ctx, suspended, Suspension{}, "alice"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.LimitRate(s.ctx, limited, 5, "alice"); err != nil {
			t.Fatal(err)
		}
		list, err := s.SwitchedCompanies(s.ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		has := func(id string) bool { return slices.ContainsFunc(list, func(c Company) bool { return c.ID == id }) }
		if has(plain) || !has(suspended) || !has(limited) {
			t.Errorf("of %s, %s (suspended) and %s (limited) these are listed: %+v", plain, suspended, limited, list)
		}
		if one, err := s.SwitchedCompanies(s.ctx, 1); err != nil || len(one) != 1 {
			t.Errorf("the first one: %+v, %v", one, err)
		}
	})
}

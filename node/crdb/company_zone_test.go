package crdb

import (
	"testing"

	"github.com/punchclock/punchclock/node/punch"
)

// TestOnlyZonesOfTheTable refuses names that another machine does not know or takes for another zone.
func TestOnlyZonesOfTheTable(t *testing.T) {
	for _, name := range []string{"", "Local", "localtime", "posixrules", "Factory", "right/UTC", "posix/UTC", "Europe//Berlin",
		"europe/berlin", "Mars/Base"} {
		c := Company{ID: "acme", Name: "Acme", HomeRegion: "us-east", TimeZone: name}
		if err := c.Validate([]string{"us-east"}); punch.CodeOf(err) != punch.Invalid || punch.AsError(err).Field != "time_zone" {
			t.Errorf("the time zone %q: %v, want a refusal that names time_zone", name, err)
		}
	}
	c := Company{ID: "acme", Name: "Acme", HomeRegion: "us-east", TimeZone: "Europe/Berlin"}
	if err := c.Validate([]string{"us-east"}); err != nil {
		t.Error(err)
	}
}

// TestSetZone shows that no punch is stored with the old zone after the correction.
func TestSetZone(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		before := s.item(company, "us-east", "anna")
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{before})[0], "")
		was, err := s.Home(s.ctx, company)
		if err != nil {
			t.Fatal(err)
		}

		set, err := s.SetZone(s.ctx, company, "Asia/Tokyo")
		if err != nil || set.TimeZone != "Asia/Tokyo" || set.Epoch != was.Epoch+1 || set.HomeRegion != "us-east" {
			t.Fatalf("the company is %+v, %v", set, err)
		}
		home, err := s.Home(s.ctx, company)
		if err != nil || home.Zone.String() != "Asia/Tokyo" || home.Epoch != was.Epoch+1 || home.Version <= was.Version {
			t.Errorf("the directory reads %+v, %v", home, err)
		}

		stale := s.item(company, "us-east", "ben") // routed under the old epoch, with the old zone
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{stale})[0], punch.NotHome)
		stale.Epoch, stale.Zone, stale.UTCOffset = home.Epoch, "Asia/Tokyo", 9*3600
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{stale})[0], "")
		again := s.Writer("us-east").Write(s.ctx, []punch.Item{before})[0]
		if again.Err != nil || again.Receipt.Zone != before.Zone {
			t.Errorf("a retry of a punch from before: %+v, want its receipt with the zone %s", again, before.Zone)
		}

		if same, err := s.SetZone(s.ctx, company, "Asia/Tokyo"); err != nil || same != set {
			t.Errorf("the same zone again: %+v, %v, want %+v", same, err, set)
		}
		for name, c := range map[string]struct {
			company, zone string
			code          punch.Code
		}{
			"an unknown company": {"nowhere", "UTC", punch.UnknownCompany},
			"an unknown zone":    {company, "Mars/Base", punch.Invalid},
		} {
			if _, err := s.SetZone(s.ctx, c.company, c.zone); punch.CodeOf(err) != c.code {
				t.Errorf("%s: %v, want %s", name, err, c.code)
			}
		}

		move, err := s.Flip(s.ctx, company, "eu-west")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.SetZone(s.ctx, company, "UTC"); punch.CodeOf(err) != punch.Conflict {
			t.Errorf("while the company moves: %v, want a conflict", err)
		}
		s.exec(`DELETE FROM punches WHERE company_id = $1`, company) // in place of a mover
		if done, err := s.Finish(s.ctx, move); !done || err != nil {
			t.Fatalf("the move has ended: %t, %v", done, err)
		}
		if set, err := s.SetZone(s.ctx, company, "UTC"); err != nil || set.Epoch != move.Epoch+1 || set.HomeRegion != "eu-west" {
			t.Errorf("after the move: %+v, %v", set, err)
		}
	})
}

package crdb

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

func TestCompanies(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		id := "c-" + punch.NewID().String()
		if _, err := s.Home(s.ctx, id); !errors.Is(err, region.ErrUnknownCompany) {
			t.Fatalf("home of a unknown company: %v", err)
		}
		if _, err := s.Company(s.ctx, id); punch.CodeOf(err) != punch.UnknownCompany {
			t.Fatalf("unknown company: %v", err)
		}
		c := Company{ID: id, Name: "Über & Söhne", HomeRegion: "ap-south", TimeZone: "Asia/Kolkata"}
		for range 2 { // the second time changes nothing
			if out, err := s.CreateCompanies(s.ctx, []Company{c}); err != nil || out[0] != nil {
				t.Fatalf("create: %v, %v", out, err)
			}
		}
		other := c
		other.HomeRegion = "us-east"
		if out, err := s.CreateCompanies(s.ctx, []Company{other}); err != nil || punch.CodeOf(out[0]) != punch.Conflict {
			t.Fatalf("create with another home: %v, %v", out, err)
		}
		home, err := s.Home(s.ctx, id)
		if err != nil || home.Region != "ap-south" || home.Epoch != 1 || home.Zone.String() != "Asia/Kolkata" {
			t.Fatalf("home %+v, %v", home, err)
		}
		if n := s.count(`SELECT count(*) FROM homes WHERE company_id = $1`, id); n != 1 {
			t.Fatalf("%d homes, want exactly one", n)
		}
		known := 0
		if err := s.Homes(s.ctx, 1_000_000, func(company string, h region.Home) {
			if company == id && h.Region == "ap-south" {
				known++
			}
		}); err != nil || known != 1 {
			t.Fatalf("preloaded %d times, %v", known, err)
		}
		list, err := s.ListCompanies(s.ctx, id[:len(id)-1], 1000)
		if err != nil || len(list) == 0 || list[0].ID != id {
			t.Fatalf("list %v, %v", list, err)
		}
	})
}

func TestCompanyValidate(t *testing.T) {
	good := Company{ID: "acme", Name: "Acme", HomeRegion: "us-east", TimeZone: "America/New_York"}
	if err := good.Validate(regions); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		field  string
		change func(*Company)
	}{
		{"company", func(c *Company) { c.ID = "a b" }},
		{"name", func(c *Company) { c.Name = "" }},
		{"name", func(c *Company) { c.Name = "A\x00B" }},
		{"name", func(c *Company) { c.Name = "M\xfcller" }},
		{"home_region", func(c *Company) { c.HomeRegion = "mars" }},
		{"time_zone", func(c *Company) { c.TimeZone = "Local" }},
	} {
		c := good
		bad.change(&c)
		if err := punch.AsError(c.Validate(regions)); err.Code != punch.Invalid || err.Field != bad.field {
			t.Errorf("bad %s: %+v: %v", bad.field, c, err)
		}
	}
}

func TestUnknownZoneIsLoggedOnce(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		logged := new(logs)
		db := s.mustOpenWith(testConfig(s.server.URL("us-east")), logged.deps())
		for range 2 {
			id := s.company("us-east")
			s.exec(`UPDATE companies SET time_zone = 'Mars/Base' WHERE company_id = $1`, id)
			if home, err := db.Home(s.ctx, id); err != nil || home.Zone != time.UTC {
				t.Fatalf("%+v, %v", home, err)
			}
		}
		if n := strings.Count(logged.String(), "level=ERROR"); n != 1 || !strings.Contains(logged.String(), "zone=Mars/Base") {
			t.Errorf("%d errors logged, want one that names the zone: %s", n, logged)
		}
	})
}

func TestFindAndList(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		start := time.Now().Add(-72 * time.Hour).Truncate(time.Hour)
		batch := make([]punch.Item, 50)
		for i := range batch {
			at := start.Add(time.Duration(i) * time.Hour)
			batch[i] = s.item(company, "us-east", "anna")
			batch[i].ID = punch.IDAt(at.Add(23 * time.Hour)) // the largest allowed distance from the punch's time
			batch[i].At = at
		}
		batch[49] = s.item(company, "us-east", "ben")
		for _, o := range s.Writer("us-east").Write(s.ctx, batch) {
			wantCode(t, o, "")
		}
		found, err := s.Find(s.ctx, "us-east", batch[3].Key())
		if err != nil || found.ID != batch[3].ID || !found.Same(&batch[3].Request) {
			t.Fatalf("found %+v, %v", found, err)
		}
		missing := batch[3].Key()
		missing.Employee = "carla"
		if _, err := s.Find(s.ctx, "us-east", missing); punch.CodeOf(err) != punch.NotFound {
			t.Fatalf("missing: %v", err)
		}
		q := punch.Query{Company: company, Employee: "anna", From: start.Add(time.Hour), To: start.Add(48 * time.Hour), Limit: 10}
		var times []string
		for {
			page, err := s.List(s.ctx, "us-east", q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				times = append(times, fmt.Sprint(r.PunchedAt.Sub(start).Hours()))
				q.After = punch.Cursor{PunchedAt: r.PunchedAt, ID: r.ID}
			}
			if len(page) < q.Limit {
				break
			}
		}
		if len(times) != 47 || times[0] != "1" || times[46] != "47" {
			t.Fatalf("listed the hours %v, want 1 to 47", times)
		}
	})
}

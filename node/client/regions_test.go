package client

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/client/clienttest"
)

func TestRegionsOfTheRealAPI(t *testing.T) {
	url := clienttest.NewService().MustServe(t, "us-east-n1", time.Now)
	c := mustNew(t, []string{url + "/"})
	regions, err := c.Regions(background(t))
	want := []Region{
		{Name: "ap-south", Endpoints: []string{}},
		{Name: "eu-west", Ready: true, Endpoints: []string{"http://eu-west.example"}},
		{Name: "us-east", Ready: true, Endpoints: []string{"http://us-east.example/"}},
	}
	equal := func(a, b Region) bool {
		return a.Name == b.Name && a.Ready == b.Ready && slices.Equal(a.Endpoints, b.Endpoints)
	}
	if err != nil || !slices.EqualFunc(regions, want, equal) {
		t.Fatalf("Regions: %+v, %v; want %+v", regions, err, want)
	}
	if err := c.Refresh(background(t), []string{"us-east", "nowhere"}); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Endpoints(), []string{"http://us-east.example", "http://eu-west.example", url}; !slices.Equal(got, want) {
		t.Errorf("the endpoints are %q, want %q", got, want)
	}
}

// TestRefreshedEndpointsComeFirst checks that the configured endpoint stays in the list, for the case that they fail.
func TestRefreshedEndpointsComeFirst(t *testing.T) {
	var others []string
	or := func(answer answerFunc) answerFunc {
		return func(w http.ResponseWriter, r *http.Request, body []byte, number int) {
			if r.URL.Path != "/v1/regions" {
				answer(w, r, body, number)
				return
			}
			writeJSON(w, "application/json", 200, map[string]any{"regions": []any{
				map[string]any{"name": "eu-west", "state": "ready", "endpoints": others[:1], "nodes": map[string]int{"ready": 1, "total": 1}, "new": 1},
				map[string]any{"name": "us-east", "state": "ready", "endpoints": others[1:]},
			}})
		}
	}
	urls, arrived := servers(t, or(recorded), or(recorded), or(cut))
	others = urls[1:]
	c, ctx := mustNew(t, urls[:1]), background(t)
	if err := c.Refresh(ctx, []string{"us-east", "eu-west"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Punch(ctx, request()); err != nil {
		t.Fatal(err)
	}
	// Calls skip c now, and must skip it after the refresh as well.
	if err := c.Refresh(ctx, []string{"us-east", "eu-west"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Punch(ctx, request()); err != nil {
		t.Fatal(err)
	}
	punches := slices.DeleteFunc(arrived(), func(s seen) bool { return !strings.HasPrefix(s.path, "POST ") })
	if got := path(punches); got != "cbb" {
		t.Errorf("the punches went to %q, want c, then b because c failed, then b because calls skip c", got)
	}
}

func TestAFailedRefreshChangesNothing(t *testing.T) {
	urls, _ := servers(t, raw(200, `{"regions":[{"name":1}]}`))
	c := mustNew(t, urls, func(cfg *Config) { cfg.Backoff.Base, cfg.Backoff.Max = 1<<50, 1<<50 })
	var e *Error
	if err := c.Refresh(background(t), nil); !errors.As(err, &e) || e.Final {
		t.Errorf("an invalid answer: %s", describe(err))
	}
	if got := c.Endpoints(); !slices.Equal(got, urls) {
		t.Errorf("the endpoints are %q, want %q", got, urls)
	}
}

func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		endpoint := rapid.SampledFrom([]string{
			"https://a", "https://b/", "https://c", "http://d", "ftp://e", "https://u:p@f", "", "https://g", "%",
		})
		names := rapid.SampledFrom([]string{"eu", "us", "ap", "sa"})
		var regions []Region
		for _, name := range rapid.SliceOfDistinct(names, rapid.ID[string]).Draw(t, "regions") {
			regions = append(regions, Region{name, rapid.Bool().Draw(t, "ready"), rapid.SliceOf(endpoint).Draw(t, "endpoints")})
		}
		preferred := rapid.SliceOfDistinct(names, rapid.ID[string]).Draw(t, "preferred")
		some := rapid.SampledFrom([]string{"https://a", "https://x", "http://y"})
		configured := rapid.SliceOfDistinct(some, rapid.ID[string]).Draw(t, "configured")
		plain := slices.Contains(configured, "http://y")
		usable := func(e string) bool {
			return strings.HasPrefix(e, "https://") && !strings.Contains(e, "@") || plain && e == "http://d"
		}
		got := Order(regions, preferred, configured)
		seen := map[string]bool{}
		for _, e := range got {
			if seen[e] {
				t.Fatalf("%s is there twice: %q", e, got)
			}
			seen[e] = true
			if e == "http://d" && !plain || strings.Contains(e, "@") || !strings.HasPrefix(e, "http") {
				t.Fatalf("%s must not get the token: %q", e, got)
			}
		}
		for _, e := range configured {
			if !seen[e] {
				t.Fatalf("the configured %s is missing: %q", e, got)
			}
		}
		// The first endpoint must be of the most preferred region that has a usable endpoint.
		for _, name := range preferred {
			i := slices.IndexFunc(regions, func(r Region) bool { return r.Name == name && r.Ready })
			if i >= 0 && slices.ContainsFunc(regions[i].Endpoints, usable) {
				if !slices.ContainsFunc(regions[i].Endpoints, func(e string) bool { return strings.TrimRight(e, "/") == got[0] }) {
					t.Fatalf("%s comes first, want one of %+v", got[0], regions[i])
				}
				return
			}
		}
	})
}

func TestOrderTakesOneOfEachRegionBeforeASecond(t *testing.T) {
	regions := []Region{
		{"ap", true, []string{"https://a1", "https://a2", "https://a3"}},
		{"eu", true, []string{"https://e1", "https://e2"}},
		{"us", false, []string{"https://u1"}},
	}
	got := Order(regions, []string{"eu"}, []string{"https://any"})
	shape := ""
	for _, e := range got {
		shape += e[8:9]
	}
	if len(got) != 6 || shape != "eaeaaa" || got[5] != "https://any" {
		t.Errorf("the order is %q", got)
	}
	var many []string
	for i := range 100 {
		many = append(many, "https://n"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	if got := Order([]Region{{"eu", true, many}}, nil, []string{"https://any"}); len(got) != maxEndpoints+1 {
		t.Errorf("%d endpoints of 100 are in the list, want %d and the configured one", len(got), maxEndpoints)
	}
}

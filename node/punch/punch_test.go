package punch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func aRequest() Request {
	return Request{Company: "acme", Employee: "anna", ID: NewID(), Kind: In}
}

// TestFingerprintIsStable holds the encoding. Nodes of earlier builds compare it with stored rows, so after a change
// they would refuse retries for ever.
func TestFingerprintIsStable(t *testing.T) {
	c := Request{Kind: BreakStart, At: time.UnixMicro(1_700_000_000_123_456), Source: "gate-1", Note: "späte"}
	if got := fmt.Sprintf("%x", c.Fingerprint()); got != "427d22c0eb34b4b33cb0c9f7a3f97e12" {
		t.Errorf("the fingerprint is %s, want 427d22c0eb34b4b33cb0c9f7a3f97e12", got)
	}
}

func TestFingerprintTellsContentApart(t *testing.T) {
	base := Request{Kind: In, At: time.UnixMicro(0), Source: "ab", Note: "c"}
	seen := map[Fingerprint]string{base.Fingerprint(): "base"}
	for name, c := range map[string]Request{
		"kind":        {Kind: Out, At: base.At, Source: "ab", Note: "c"},
		"no time":     {Kind: In, Source: "ab", Note: "c"},
		"time":        {Kind: In, At: time.UnixMicro(1), Source: "ab", Note: "c"},
		"shifted":     {Kind: In, At: base.At, Source: "a", Note: "bc"},
		"swapped":     {Kind: In, At: base.At, Source: "c", Note: "ab"},
		"source only": {Kind: In, At: base.At, Source: "abc"},
	} {
		f := c.Fingerprint()
		if other, taken := seen[f]; taken {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		seen[f] = name
	}
}

func TestFingerprintIgnoresWhatNodesAndTheDatabaseChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := aRequest()
		c.At = time.Unix(0, rapid.Int64Range(0, 4e18).Draw(t, "at"))
		cut := c
		cut.At = Microseconds(c.At).In(time.FixedZone("", 3600))
		if c.Fingerprint() != cut.Fingerprint() {
			t.Fatalf("the fingerprints of %s and %s differ", c.At, cut.At)
		}
		p := Stamped(c, time.Now(), "a", "x")
		q := Stamped(c, time.Now().Add(time.Hour), "b", "y")
		if p.Fingerprint() != q.Fingerprint() {
			t.Fatal("a stamp changed the fingerprint")
		}
	})
}

func TestValidateNamesTheField(t *testing.T) {
	if c := aRequest(); c.Validate() != nil {
		t.Fatal(c.Validate())
	}
	for _, b := range []struct {
		field  string
		change func(*Request)
	}{
		{"company", func(c *Request) { c.Company = "" }},
		{"company", func(c *Request) { c.Company = "a/b" }},
		{"employee", func(c *Request) { c.Employee = ".." }},
		{"employee", func(c *Request) { c.Employee = strings.Repeat("x", 65) }},
		{"employee", func(c *Request) { c.Employee = "änna" }},
		{"id", func(c *Request) { c.ID = ID{} }},
		{"kind", func(c *Request) { c.Kind = "lunch" }},
		{"source", func(c *Request) { c.Source = "gate 1" }},
		{"note", func(c *Request) { c.Note = "a\x00b" }},
		{"note", func(c *Request) { c.Note = "\xff" }},
		{"note", func(c *Request) { c.Note = strings.Repeat("x", MaxNote+1) }},
		{"at", func(c *Request) { c.At = c.ID.Time().Add(24*time.Hour + time.Microsecond) }},
		{"at", func(c *Request) { c.At = c.ID.Time().Add(-24*time.Hour - time.Microsecond) }},
	} {
		c := aRequest()
		b.change(&c)
		var e *Error
		if err := c.Validate(); !errors.As(err, &e) || e.Code != Invalid || e.Field != b.field || !e.Code.Final() {
			t.Errorf("%+v: %v, want a final refusal that names %s", c, err, b.field)
		}
	}
	edge := aRequest()
	edge.At = edge.ID.Time().Add(24 * time.Hour)
	edge.Employee, edge.Note = strings.Repeat("x", 64), strings.Repeat("x", MaxNote)
	if err := edge.Validate(); err != nil {
		t.Errorf("a request at all bounds: %v, want no error", err)
	}
}

// TestEmployeesMayBeEMailAddresses separates the rule of employees from the rule of companies and sources.
func TestEmployeesMayBeEMailAddresses(t *testing.T) {
	for name, want := range map[string]struct{ employee, other bool }{
		"e-1042":                         {true, true},
		"anna.schmidt+clock@example.com": {true, false},
		"@":                              {true, false},
		"auth0|5f7c":                     {false, false},
		"a b":                            {false, false},
		"a%40b":                          {false, false},
		"a=b":                            {false, false},
		"..":                             {false, false},
		strings.Repeat("@", MaxName+1):   {false, false},
	} {
		if got := ValidEmployee(name); got != want.employee {
			t.Errorf("ValidEmployee(%q) = %t", name, got)
		}
		if got := ValidCompany(name); got != want.other {
			t.Errorf("ValidCompany(%q) = %t", name, got)
		}
		if got := ValidSource(name); got != want.other {
			t.Errorf("ValidSource(%q) = %t", name, got)
		}
	}
}

func TestOldPunchesAreMarkedAndNeverRefused(t *testing.T) {
	now := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		age          time.Duration
		late, review bool
	}{
		{0, false, false}, {LateAfter, false, false}, {LateAfter + time.Second, true, false},
		{ReviewAfter + time.Second, true, true}, {now.Sub(time.Unix(0, 0)), true, true},
	} {
		r := aRequest()
		r.ID = IDAt(now.Add(-c.age))
		p := Stamped(r, now, "eu-west", "")
		if p.Late != c.late || p.NeedsReview != c.review || p.CheckClock(0) != nil {
			t.Errorf("%s old: late %t, review %t, refused %v", c.age, p.Late, p.NeedsReview, p.CheckClock(0))
		}
	}
}

func TestClockAheadIsNotFinal(t *testing.T) {
	now := time.Now()
	r := aRequest()
	r.ID = IDAt(now.Add(10 * time.Minute))
	p := Stamped(r, now, "eu-west", "")
	e := AsError(p.CheckClock(2 * time.Minute))
	if e.Code != ClockAhead || e.Code.Final() || e.RetryAfter > 8*time.Minute || e.RetryAfter < 7*time.Minute {
		t.Errorf("10 minutes ahead with 2 allowed: %+v, want clock_ahead with a retry after 8 minutes", e)
	}
	later := Stamped(r, now.Add(8*time.Minute), "eu-west", "")
	if err := later.CheckClock(2 * time.Minute); err != nil {
		t.Errorf("the same id 8 minutes later: %v, want no error", err)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("acme", "anna", "in", "gate", "note", int64(0))
	f.Fuzz(func(t *testing.T, company, employee, kind, source, note string, at int64) {
		c := Request{Company: company, Employee: employee, ID: NewID(), Kind: Kind(kind), Source: source, Note: note}
		if at != 0 {
			c.At = time.UnixMicro(at)
		}
		if c.Validate() != nil {
			return
		}
		if len(company) > MaxName || len(note) > MaxNote || strings.ContainsRune(note, 0) || strings.ContainsAny(employee, "/ \x00%") {
			t.Errorf("Validate accepted %+v", c)
		}
	})
}

// TestResolve holds the definition of the same punch: identity, kind and instant.
func TestResolve(t *testing.T) {
	p := Stamped(aRequest(), time.Now(), "eu-west", "trace")
	s := Stored{p.Receipt(time.Now())}
	if r, err := s.Resolve(&p); err != nil || r.Replayed {
		t.Errorf("the row of this request: %+v, %v; want a receipt that is not replayed", r, err)
	}
	for name, change := range map[string]func(*Punch){
		"a retry":                      func(*Punch) {},
		"another source":               func(p *Punch) { p.Source = "gate-2" },
		"another note":                 func(p *Punch) { p.Note = "sent again" },
		"the time of the id, explicit": func(p *Punch) { p.At = p.ID.Time().In(time.FixedZone("", 3600)) },
		"digits that are cut off":      func(p *Punch) { p.At = p.ID.Time().Add(999 * time.Nanosecond) },
	} {
		same := p
		same.TraceID = "another"
		change(&same)
		if r, err := s.Resolve(&same); err != nil || !r.Replayed || r.RecordedAt != s.RecordedAt {
			t.Errorf("%s: %+v, %v; want the stored receipt", name, r, err)
		}
	}
	for name, change := range map[string]func(*Punch){
		"another kind": func(p *Punch) { p.Kind = Out },
		"another time": func(p *Punch) { p.At = p.ID.Time().Add(time.Microsecond) },
	} {
		other := p
		change(&other)
		if _, err := s.Resolve(&other); CodeOf(err) != Conflict {
			t.Errorf("%s: %v, want a conflict", name, err)
		}
	}
}

func TestUnknownErrorsAreNeverFinal(t *testing.T) {
	e := AsError(errors.New("pq: password is hunter2"))
	if e.Code.Final() || e.Code != Unavailable || strings.Contains(e.Message, "hunter2") {
		t.Errorf("an unknown error became %+v, want a retryable one without its text", e)
	}
	wrapped := fmt.Errorf("batcher: %w", Errorf(Conflict, "used"))
	if CodeOf(wrapped) != Conflict || CodeOf(nil) != "" {
		t.Error("a wrapped error lost its code")
	}
}

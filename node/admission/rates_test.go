package admission

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
)

var monday = time.Date(2026, 3, 2, 8, 30, 0, 0, time.UTC)

func mustRates(tb testing.TB) *Rates {
	tb.Helper()
	r, err := NewRates(RatesConfig{EmployeeBurst: 5, EmployeeInterval: 3 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// arrival is a new punch that arrives when it is made.
func arrival(employee string, at time.Time) *punch.Punch {
	p := punch.Stamped(punch.Request{Company: "acme", Employee: employee, ID: punch.IDAt(at), Kind: punch.In}, at, "us-east", "")
	return &p
}

// passes sends one punch and reports whether it passes. A refusal must be RateLimited and name the wait.
func passes(tb testing.TB, r *Rates, p *punch.Punch) (ok, lookUp bool, wait time.Duration) {
	tb.Helper()
	lookUp, err := r.Employee(p)
	if err == nil {
		return true, lookUp, 0
	}
	e := punch.AsError(err)
	if e.Code != punch.RateLimited || e.RetryAfter <= 0 || e.Code.Final() {
		tb.Fatalf("a punch too many: %v, Retry-After %s; want rate_limited with a Retry-After", err, e.RetryAfter)
	}
	return false, lookUp, e.RetryAfter
}

func TestAStuckKeyGetsFivePunchesAndOneEveryThreeSeconds(t *testing.T) {
	r := mustRates(t)
	passed := 0
	for i := range 600 { // a minute, ten times a second
		if ok, _, _ := passes(t, r, arrival("anna", monday.Add(time.Duration(i)*100*time.Millisecond))); ok {
			passed++
		}
	}
	if passed != 5+19 {
		t.Errorf("%d punches of a minute passed, want 5 and 19 more, one every 3 s", passed)
	}
	if ok, _, _ := passes(t, r, arrival("ben", monday)); !ok {
		t.Error("the punch of another employee is refused")
	}
}

func TestRetryAfterIsTheTimeUntilTheNextPunchPasses(t *testing.T) {
	r := mustRates(t)
	for range 5 {
		if ok, _, _ := passes(t, r, arrival("anna", monday)); !ok {
			t.Fatal("one of the first five punches is refused")
		}
	}
	_, _, wait := passes(t, r, arrival("anna", monday.Add(time.Second)))
	if wait != 2*time.Second {
		t.Errorf("Retry-After is %s, want 2s", wait)
	}
	if ok, _, _ := passes(t, r, arrival("anna", monday.Add(time.Second+wait-2*outOfOrder))); ok {
		t.Error("a punch before Retry-After passes")
	}
	if ok, _, _ := passes(t, r, arrival("anna", monday.Add(time.Second+wait))); !ok {
		t.Error("a punch after Retry-After is refused")
	}
}

// TestAnOutboxHasNoLimitForEachEmployee sends a month of one employee at once.
func TestAnOutboxHasNoLimitForEachEmployee(t *testing.T) {
	r := mustRates(t)
	for i := range 1000 {
		p := punch.Stamped(punch.Request{Company: "acme", Employee: "anna", ID: punch.IDAt(monday.Add(-time.Duration(i+2) * time.Minute)),
			Kind: punch.In}, monday, "us-east", "")
		if ok, _, _ := passes(t, r, &p); !ok {
			t.Fatalf("stored punch %d, made %s ago, is refused", i, monday.Sub(p.PunchedAt()))
		}
	}
	if ok, _, _ := passes(t, r, arrival("anna", monday)); !ok {
		t.Error("the stored punches used up the punches of the present")
	}
}

// TestARetryUsesUpNothing sends each of five punches many times, as a device does that gets no answer.
func TestARetryUsesUpNothing(t *testing.T) {
	r := mustRates(t)
	for range 5 {
		p := arrival("anna", monday)
		for range 20 {
			if ok, _, _ := passes(t, r, p); !ok {
				t.Fatal("a retry of a punch that passed is refused")
			}
		}
	}
	if ok, _, _ := passes(t, r, arrival("anna", monday)); ok {
		t.Error("the sixth punch at once passes")
	}
}

// TestLookUpsAreBounded sends new punches in a loop. Each look-up costs the database more than a write.
func TestLookUpsAreBounded(t *testing.T) {
	r := mustRates(t)
	lookUps := 0
	for i := range 1000 {
		if _, lookUp, _ := passes(t, r, arrival("anna", monday.Add(time.Duration(i)*10*time.Millisecond))); lookUp {
			lookUps++
		}
	}
	if lookUps < lookupBurst || lookUps > lookupBurst+10 {
		t.Errorf("1,000 punches in 10 s cause %d look-ups, want %d and one a second", lookUps, lookupBurst)
	}
}

func TestAClockThatIsSetBackBlocksNoEmployee(t *testing.T) {
	r := mustRates(t)
	for range 10 {
		passes(t, r, arrival("anna", monday.Add(time.Hour)))
	}
	for i := range 5 {
		if ok, _, _ := passes(t, r, arrival("anna", monday)); !ok {
			t.Errorf("punch %d after the clock was set back is refused", i+1)
		}
	}
}

func TestNoLimitForEmployees(t *testing.T) {
	r, err := NewRates(RatesConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if ok, _, _ := passes(t, r, arrival("anna", monday)); !ok {
			t.Fatal("a punch is refused without a limit")
		}
	}
}

// TestMemoryIsBounded sends the punches of many more employees than the limiter holds, within a second.
func TestMemoryIsBounded(t *testing.T) {
	r := mustRates(t)
	before := heap()
	const employees = 5 * maxEmployees
	for i := range employees {
		p := arrival(fmt.Sprint("e", i), monday)
		if ok, _, _ := passes(t, r, p); !ok {
			t.Fatalf("the first punch of employee %d is refused", i)
		}
	}
	if n := len(r.young) + len(r.old); n > 2*maxEmployees {
		t.Errorf("%d employees are kept, want at most %d", n, 2*maxEmployees)
	}
	if grown := heap() - before; grown > 12<<20 {
		t.Errorf("the limiter takes %d bytes, want at most 12 MB", grown)
	}
	for i := range 2 * maxCompanies {
		if err := r.Company(fmt.Sprint("c", i), 1, monday); err != nil {
			t.Fatalf("the first punch of company %d: %v", i, err)
		}
	}
	if n := len(r.companies); n > maxCompanies {
		t.Errorf("%d companies are kept, want at most %d", n, maxCompanies)
	}
	runtime.KeepAlive(r)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestADebtOutlivesATurn holds that an employee does not get a new burst when a generation ends.
func TestADebtOutlivesATurn(t *testing.T) {
	r := mustRates(t)
	rapid.Check(t, func(t *rapid.T) {
		employee := fmt.Sprint("e", rapid.Uint64().Draw(t, "employee"))
		at, last := monday, monday
		passed := 0
		for range rapid.IntRange(1, 100).Draw(t, "punches") {
			at = at.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "pause in ms")) * time.Millisecond)
			if _, err := r.Employee(arrival(employee, at)); err == nil {
				passed++
			}
			last = at
		}
		if most := 5 + int(last.Sub(monday)/(3*time.Second)); passed > most {
			t.Fatalf("%d punches passed in %s, want at most %d", passed, last.Sub(monday), most)
		}
	})
}

func TestACompanyHasASecondsWorthAtOnce(t *testing.T) {
	r := mustRates(t)
	passed := 0
	for i := range 10_000 { // ten seconds at 1,000 a second
		at := monday.Add(time.Duration(i) * time.Millisecond)
		err := r.Company("acme", 50, at)
		if err == nil {
			passed++
			continue
		}
		if e := punch.AsError(err); e.Code != punch.RateLimited || e.RetryAfter < companyWait || e.RetryAfter > companyWait+companySpread {
			t.Fatalf("a punch too many: %v, Retry-After %s", err, e.RetryAfter)
		}
	}
	if passed < 50+499 || passed > 50+500 {
		t.Errorf("%d punches of 10 s passed, want 50 at once and 50 a second", passed)
	}
	if err := r.Company("beta", 50, monday); err != nil {
		t.Errorf("a punch of another company: %v", err)
	}
	for range 100 {
		if err := r.Company("acme", 0, monday); err != nil {
			t.Fatalf("a punch without a limit: %v", err)
		}
	}
}

// TestABatchInAnyOrderHasASecondsWorth has the receive times of a batch: one microsecond apart, and recorded in any order.
func TestABatchInAnyOrderHasASecondsWorth(t *testing.T) {
	r := mustRates(t)
	company, employee := 0, 0
	for place := range 1000 {
		at := monday.Add(time.Duration(999-place) * time.Microsecond)
		if r.Company("acme", 5, at) == nil {
			company++
		}
		if ok, _, _ := passes(t, r, arrival("anna", at)); ok {
			employee++
		}
	}
	if company != 5 || employee != 5 {
		t.Errorf("of a batch %d punches of the company pass and %d of one employee, want 5 and 5", company, employee)
	}
}

func TestANewLimitHoldsAtOnce(t *testing.T) {
	r := mustRates(t)
	for range 10 {
		_ = r.Company("acme", 1, monday) // all but the first are refused
	}
	for i := range 100 {
		if err := r.Company("acme", 100, monday); err != nil {
			t.Fatalf("punch %d under the new limit of 100: %v", i+1, err)
		}
	}
	if err := r.Company("acme", 100, monday); err == nil {
		t.Error("punch 101 under the new limit passes")
	}
}

func TestConcurrentArrivalsShareOneLimit(t *testing.T) {
	r := mustRates(t)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := r.Employee(arrival("anna", monday)); err == nil {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 5 {
		t.Errorf("%d of 50 punches at once passed, want 5", n)
	}
}

func TestRatesConfigNamesTheField(t *testing.T) {
	for field, cfg := range map[string]RatesConfig{
		"EmployeeBurst":    {EmployeeBurst: -1},
		"EmployeeInterval": {EmployeeBurst: 5},
	} {
		if _, err := NewRates(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: %v, want an error that names %s", cfg, err, field)
		}
	}
}

// BenchmarkEmployee is the cost of the limit for each punch: every employee punches once.
func BenchmarkEmployee(b *testing.B) {
	r := mustRates(b)
	punches := make([]*punch.Punch, 100_000)
	for i := range punches {
		punches[i] = arrival(fmt.Sprint("e", i), monday)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := punches[i%len(punches)]
		p.ReceivedAt = monday.Add(time.Duration(i) * 250 * time.Microsecond) // 4,000 a second
		p.At = p.ReceivedAt
		_, _ = r.Employee(p)
	}
}

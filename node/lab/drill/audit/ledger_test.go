package audit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustCreate(tb testing.TB) (*Ledger, string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "ledger.jsonl")
	l, err := Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l, path
}

func mustRead(tb testing.TB, path string) (lines []Line, torn bool) {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	torn, err = Read(bytes.NewReader(b), func(e Line) error {
		lines = append(lines, e)
		return nil
	})
	if err != nil {
		tb.Fatalf("%v, in:\n%s", err, b)
	}
	return lines, torn
}

func TestLinesAreInTheFileWhenTheCallReturns(t *testing.T) {
	l, path := mustCreate(t)
	claim := claimOfE1(v7(runBegin, 1))
	seq, err := l.Intend(time.Now(), "us-east", claim)
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := mustRead(t, path) // the ledger is still open, so these lines have left the process
	if last := lines[len(lines)-1]; last.Seq != seq || last.Claim == nil || *last.Claim != claim {
		t.Fatalf("the intent reads back as %+v, want %+v", last.Claim, claim)
	}
	failure := Failure{Status: 409, Code: "conflict", Final: true, Attempts: 2}
	if err := l.Failure(seq, &failure); err != nil {
		t.Fatal(err)
	}
	lines, _ = mustRead(t, path)
	if f := lines[len(lines)-1].Failure; f == nil || *f != failure {
		t.Fatalf("the failure reads back as %+v", f)
	}
}

func claimOfE1(id string) Claim { return Claim{Company: "acme", Employee: "e1", ID: id, Kind: "in"} }

func TestManyWritersLoseNothing(t *testing.T) {
	l, path := mustCreate(t)
	const writers, each = 64, 50
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for i := range each {
				claim := claimOfE1(v7(runBegin, writer*each+i))
				seq, err := l.Intend(time.Now(), "us-east", claim)
				if err == nil {
					err = l.Receipt(seq, &Receipt{Company: "acme", Employee: "e1", ID: claim.ID})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lines, torn := mustRead(t, path)
	open := make(map[uint64]string)
	pairs := 0
	for _, e := range lines {
		switch {
		case e.Claim != nil:
			open[e.Seq] = e.Claim.ID
		case e.Receipt != nil:
			if open[e.Seq] != e.Receipt.ID {
				t.Fatalf("request %d: intent %q, receipt %q", e.Seq, open[e.Seq], e.Receipt.ID)
			}
			delete(open, e.Seq)
			pairs++
		}
	}
	if torn || pairs != writers*each || len(open) != 0 || lines[len(lines)-1].End.IsZero() {
		t.Fatalf("torn %t, %d pairs, %d left open, want %d pairs and an end", torn, pairs, len(open), writers*each)
	}
}

func TestClosedLedger(t *testing.T) {
	l, path := mustCreate(t)
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Intend(time.Now(), "us-east", Claim{}); !errors.Is(err, ErrClosed) {
		t.Errorf("an intent after the end: %v, want %v", err, ErrClosed)
	}
	if _, err := Create(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("creating it again: %v, want %v", err, os.ErrExist)
	}
}

func TestAFailedWriteEndsTheLedger(t *testing.T) {
	l, _ := mustCreate(t)
	file := l.file
	defer func() { l.file = file }()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here:", err)
	}
	l.file = full
	_, first := l.Intend(time.Now(), "us-east", Claim{})
	if first == nil {
		t.Fatal("an intent that could not be written was accepted")
	}
	l.file = file
	if _, err := l.Intend(time.Now(), "us-east", Claim{}); !errors.Is(err, first) {
		t.Errorf("an intent after a failed write: %v, want %v", err, first)
	}
	l.broken = nil // the clean-up must close the ledger without an error
	if err := full.Close(); err != nil {
		t.Error(err)
	}
}

func TestTornLedger(t *testing.T) {
	l, path := mustCreate(t)
	for range 3 {
		if _, err := l.Intend(time.Now(), "us-east", claimOfE1(v7(runBegin, 1))); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Count(whole, []byte("\n"))
	for cut := len(whole) - 1; cut > bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1; cut-- {
		n := 0
		torn, err := Read(bytes.NewReader(whole[:cut]), func(Line) error { n++; return nil })
		if err != nil || !torn || n != lines-1 {
			t.Fatalf("cut to %d bytes: %d lines, torn %t, %v; want %d lines and torn", cut, n, torn, err, lines-1)
		}
	}
	report, err := audit(context.Background(), bytes.NewReader(whole[:len(whole)-5]), &memory{})
	if err != nil || !report.Torn || report.Requests != 2 || !report.Clean() {
		t.Fatalf("audit of a torn ledger: %v\n%s", err, &report)
	}
}

func TestSpoiledLedger(t *testing.T) {
	const begin = `{"begin":"2026-11-02T08:30:00Z"}` + "\n"
	const claim = `{"seq":1,"intended":"2026-11-02T08:30:00Z","claim":{"company":"c","employee":"e","id":"i","kind":"in"}}` + "\n"
	const receipt = `{"seq":1,"failure":{"code":"unavailable"}}` + "\n"
	for name, text := range map[string]string{
		"empty":                        "",
		"no begin":                     claim,
		"begin twice":                  begin + begin,
		"torn in the middle":           begin + claim[:20] + "\n" + claim,
		"unknown member":               begin + `{"sequence":1}` + "\n",
		"nothing in it":                begin + `{"seq":1}` + "\n",
		"two things in it":             begin + `{"seq":1,"failure":{"code":"x"},"receipt":{}}` + "\n",
		"claim without a number":       begin + strings.Replace(claim, `"seq":1,`, "", 1),
		"request twice":                begin + claim + claim,
		"outcome without an intent":    begin + receipt,
		"two outcomes for one request": begin + claim + receipt + receipt,
		"a line without an end":        begin + strings.Repeat("x", maxLine+1),
	} {
		if report, err := audit(context.Background(), strings.NewReader(text), &memory{}); err == nil {
			t.Errorf("%s: was read without an error: %+v", name, report)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"begin":"2026-11-02T08:30:00Z"}` + "\n" + `{"seq":1,"claim":{"company":"c"}}` + "\n"))
	f.Add([]byte(`{"begin":"2026-11-02T08:30:00Z"}` + "\n" + `{"seq":1,"rec`))
	f.Add([]byte("\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := 0
		_, err := Read(bytes.NewReader(text), func(Line) error { n++; return nil })
		if lines := bytes.Count(text, []byte("\n")); err == nil && n != lines {
			t.Fatalf("%d lines of %d lines", n, lines)
		}
	})
}

func BenchmarkLedger(b *testing.B) {
	l, _ := mustCreate(b)
	b.SetParallelism(64) // requests in flight per processor
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			seq, err := l.Intend(time.Now(), "us-east", claimOfE1(v7(runBegin, 1)))
			if err == nil {
				err = l.Failure(seq, &Failure{Code: "unavailable"})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

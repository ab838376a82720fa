package client

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/punchclock/punchclock/node/punch"
)

func mustOutbox(t *testing.T, cfg OutboxConfig) *Outbox {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	o, err := OpenOutbox(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustPut(t *testing.T, o *Outbox, requests ...Request) {
	t.Helper()
	for _, r := range requests {
		if err := o.Put(background(t), r); err != nil {
			t.Fatal(err)
		}
	}
}

func mustLen(t *testing.T, o *Outbox, waiting, quarantined int) {
	t.Helper()
	if w, q, err := o.Len(background(t)); err != nil || w != waiting || q != quarantined {
		t.Errorf("%d wait and %d are in quarantine, %v; want %d and %d", w, q, err, waiting, quarantined)
	}
}

// TestOutboxFollowsTheTableOfAnswers covers the table in openapi.yaml of what a device does with an answer.
func TestOutboxFollowsTheTableOfAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer answerFunc
		want   string
	}{
		{"201", recorded, "done"},
		{"503", problem(503, punch.Overloaded, "1"), "kept"},
		{"429", problem(429, punch.RateLimited, "1"), "kept"},
		{"408", problem(408, punch.Unavailable, ""), "kept"},
		{"401", problem(401, punch.Unauthenticated, ""), "kept"},
		{"clock ahead", problem(422, punch.ClockAhead, "60"), "kept"},
		{"a login page", page(404), "kept"},
		{"no answer", cut, "kept"},
		{"400", problem(400, punch.Invalid, ""), "final"},
		{"403", problem(403, punch.Forbidden, ""), "final"},
		{"404", problem(404, punch.UnknownCompany, ""), "final"},
		{"409", problem(409, punch.Conflict, ""), "final"},
		{"413", problem(413, punch.TooLarge, ""), "final"},
		{"415", problem(415, punch.UnsupportedMedia, ""), "final"},
	} {
		t.Run(c.name, func(t *testing.T) {
			urls, _ := servers(t, c.answer)
			impatient := mustNew(t, urls, func(cfg *Config) { cfg.Backoff.Base, cfg.Backoff.Max = 1<<50, 1<<50 })
			o, r := mustOutbox(t, OutboxConfig{}), request()
			receipt, err := o.Punch(background(t), impatient, r)
			switch c.want {
			case "done":
				if err != nil || receipt.ID != r.ID {
					t.Errorf("%+v, %v", receipt, err)
				}
				mustLen(t, o, 0, 0)
			case "kept":
				if err == nil || IsFinal(err) || errors.Is(err, ErrNotKept) {
					t.Errorf("the error is %s", describe(err))
				}
				mustLen(t, o, 1, 0)
				list, err := o.List(background(t))
				if err != nil || len(list) != 1 || !sameContent(list[0].Request, r) || !list[0].At.Equal(punch.Microseconds(r.At)) {
					t.Errorf("%+v, %v; want %+v", list, err, r)
				}
			case "final":
				if !IsFinal(err) {
					t.Errorf("the error is %s", describe(err))
				}
				mustLen(t, o, 0, 1)
				list, listErr := o.Quarantined(background(t))
				if listErr != nil || len(list) != 1 || !sameContent(list[0].Request, r) ||
					list[0].Refusal.Detail != "because" || list[0].Refusal.At.IsZero() || list[0].Refusal.TraceID == "" {
					t.Errorf("%+v, %v; want %+v and its refusal", list, listErr, r)
				}
				var e *Error
				if again := o.Put(background(t), r); !errors.As(again, &e) || !e.Final || e.Detail != "because" {
					t.Errorf("the same punch again: %s", describe(again))
				}
			}
		})
	}
}

func TestAFullOutboxRefusesAndDropsNothing(t *testing.T) {
	urls, arrived := servers(t, first(problem(503, punch.Overloaded, ""), recorded))
	c := mustNew(t, urls, func(cfg *Config) { cfg.Backoff.Base, cfg.Backoff.Max = 1<<50, 1<<50 })
	few := mustOutbox(t, OutboxConfig{MaxItems: 2})
	mustPut(t, few, batchOf("e0", "e1")...)
	r := request()
	if err := few.Put(background(t), r); !errors.Is(err, ErrOutboxFull) {
		t.Errorf("a third punch in an outbox of two: %v", err)
	}
	// The punch is sent all the same. Without a receipt the error is ErrNotKept.
	var e *Error
	_, err := few.Punch(background(t), c, r)
	if !errors.Is(err, ErrNotKept) || !errors.Is(err, ErrOutboxFull) || !errors.As(err, &e) || e.ID != r.ID {
		t.Errorf("neither sent nor kept: %s", describe(err))
	}
	if _, err := few.Punch(background(t), c, r); err != nil || len(arrived()) != 2 {
		t.Errorf("sent although the outbox is full: %v", err)
	}
	mustLen(t, few, 2, 0)

	small := mustOutbox(t, OutboxConfig{MaxBytes: maxEntryBytes})
	n := 0
	for ; n < 100; n++ {
		err := small.Put(background(t), Request{ID: punch.NewID(), Employee: "e", Kind: punch.In, Note: strings.Repeat("x", 1000)})
		if errors.Is(err, ErrOutboxFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 || n > 16 {
		t.Errorf("%d punches of a little over 1,000 bytes each fit into %d bytes", n, maxEntryBytes)
	}
	mustLen(t, small, n, 0)
	for _, bad := range []Request{{ID: punch.NewID(), Note: "\xff"}, {ID: punch.NewID(), Note: strings.Repeat("x", maxPunchBytes)}, {}} {
		if err := mustOutbox(t, OutboxConfig{}).Put(background(t), bad); !IsFinal(err) {
			t.Errorf("%.40v: %v, want a final error", bad, err)
		}
	}
}

// TestDamagedFilesDoNotStopAFlush checks that the quarantine shows them with the reason.
func TestDamagedFilesDoNotStopAFlush(t *testing.T) {
	urls, _ := servers(t, results(good))
	c, o := mustNew(t, urls), mustOutbox(t, OutboxConfig{})
	requests := batchOf("e0", "e1", "e2", "e3")
	mustPut(t, o, requests...)
	file := func(dir string, i int, ext string) string {
		return filepath.Join(o.cfg.Dir, dir, requests[i].ID.String()+ext)
	}
	good, err := os.ReadFile(file(waitingDir, 1, punchExt))
	if err != nil {
		t.Fatal(err)
	}
	for i, content := range map[int][]byte{0: nil, 1: []byte(strings.Replace(string(good), "e1", "e9", 1)), 2: good} {
		if err := os.WriteFile(file(waitingDir, i, punchExt), content, fileMode); err != nil {
			t.Fatal(err)
		}
	}
	for _, foreign := range []string{".DS_Store", "notes.txt",
		strings.Repeat("x", 36) + punchExt, strings.ToUpper(requests[0].ID.String()) + punchExt,
	} {
		if err := os.WriteFile(filepath.Join(o.cfg.Dir, waitingDir, foreign), []byte("mine"), fileMode); err != nil {
			t.Fatal(err)
		}
	}
	done, err := o.Flush(background(t), c)
	if err != nil || len(done.Receipts) != 1 || done.Receipts[0].Employee != "e3" || done.Kept != 0 {
		t.Errorf("%+v, %v; want the receipt of e3", done, err)
	}
	list, err := o.Quarantined(background(t))
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v; want three damaged files", list, err)
	}
	for i, want := range []string{"empty", "its content needs", "it holds punch " + requests[1].ID.String()} {
		if k := list[i]; k.ID != requests[i].ID || !errors.Is(k.Corrupt, errCorrupt) || !strings.Contains(k.Corrupt.Error(), want) {
			t.Errorf("%d: %+v, want one that says %q", i, k, want)
		}
	}
	if err := o.Release(background(t), requests[1].ID); !errors.Is(err, errCorrupt) {
		t.Errorf("a damaged punch is released: %v", err)
	}
	// A person repairs one file and discards another.
	if err := os.WriteFile(file(quarantineDir, 1, corruptExt), good, fileMode); err != nil {
		t.Fatal(err)
	}
	if err := o.Release(background(t), requests[1].ID); err != nil {
		t.Error(err)
	}
	if k, err := o.Discard(background(t), requests[0].ID); err != nil || k.Corrupt == nil {
		t.Errorf("%+v, %v", k, err)
	}
	mustLen(t, o, 1, 1)
}

func TestAnOutboxChecksCompanyAndFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	mustOutbox(t, OutboxConfig{Dir: dir})
	mustOutbox(t, OutboxConfig{Dir: dir, Company: "acme"})
	mustOutbox(t, OutboxConfig{Dir: dir, Company: "acme"})
	mustOutbox(t, OutboxConfig{Dir: dir})
	if _, err := OpenOutbox(OutboxConfig{Dir: dir, Company: "globex"}); !errors.Is(err, ErrOutboxFormat) {
		t.Errorf("the folder of another company: %v", err)
	}
	for _, content := range []string{`{"format":2}`, `{}`, ``} {
		if err := os.WriteFile(filepath.Join(dir, formatFile), []byte(content), fileMode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenOutbox(OutboxConfig{Dir: dir}); !errors.Is(err, ErrOutboxFormat) {
			t.Errorf("format file %q: %v", content, err)
		}
	}
	for _, cfg := range []OutboxConfig{
		{}, {Dir: dir, MaxItems: -1}, {Dir: dir, MaxBytes: 1}, {Dir: dir, Batch: MaxBatch + 1}, {Dir: dir, Concurrency: 100},
	} {
		if _, err := OpenOutbox(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

// TestARecordedPunchLeavesTheQuarantine has a refusal that did not last. Another process quarantined the punch for it.
func TestARecordedPunchLeavesTheQuarantine(t *testing.T) {
	urls, _ := servers(t, first(problem(404, punch.UnknownCompany, ""), recorded))
	c, o, r := mustNew(t, urls), mustOutbox(t, OutboxConfig{}), request()
	if _, err := o.Punch(background(t), c, r); !IsFinal(err) {
		t.Fatal(describe(err))
	}
	receipt, err := c.Punch(background(t), r)
	if err := errors.Join(err, o.apply(background(t), []Request{r}, []Outcome{{receipt, err}})); err != nil {
		t.Fatal(err)
	}
	mustLen(t, o, 0, 0)
}

func BenchmarkPut(b *testing.B) {
	for _, waiting := range []int{0, 1000, 9000} {
		b.Run(fmt.Sprint(waiting, " wait"), func(b *testing.B) {
			o, err := OpenOutbox(OutboxConfig{Dir: b.TempDir(), MaxItems: 1_000_000})
			if err != nil {
				b.Fatal(err)
			}
			for range waiting {
				name := punch.NewID().String() + punchExt
				if err := os.WriteFile(filepath.Join(o.cfg.Dir, waitingDir, name), make([]byte, 300), fileMode); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := o.Put(b.Context(), request()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestReceiptsAreKeptWithinBounds(t *testing.T) {
	o := mustOutbox(t, OutboxConfig{Receipts: true})
	name := filepath.Join(o.cfg.Dir, receiptsFile)
	receipt := Receipt{Receipt: punch.Receipt{
		ID: punch.NewID(), Employee: "e1", RecordedAt: recordedAt, UTCOffset: -12600, HomeRegion: "x", Late: true,
	}}
	if err := os.WriteFile(name, []byte(`{"id":"torn`), fileMode); err != nil {
		t.Fatal(err)
	}
	if err := o.removeRecorded([]Receipt{receipt}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(f)
	lines.Scan()
	lines.Scan()
	got, failure := answer{body: lines.Bytes()}.receiptFor("e1", receipt.ID)
	if failure != nil || got.Receipt != receipt.Receipt {
		t.Errorf("the line after a torn line is %+v, %v; want %+v", got, failure, receipt)
	}
	if err := os.Truncate(name, maxReceiptsFile); err != nil {
		t.Fatal(err)
	}
	if err := o.removeRecorded([]Receipt{receipt}); err != nil {
		t.Fatal(err)
	}
	now, err := os.Stat(name)
	old, oldErr := os.Stat(filepath.Join(o.cfg.Dir, receiptsOldFile))
	if err != nil || oldErr != nil || now.Size() > 1000 || old.Size() != maxReceiptsFile {
		t.Errorf("after the file was full: %v, %v; %v, %v", now, err, old, oldErr)
	}
}

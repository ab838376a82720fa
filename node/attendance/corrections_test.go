package attendance_test

import (
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
)

func TestCorrections(t *testing.T) {
	corrected := marks{attendance.MarkCorrected}
	late := func(m ...attendance.Mark) marks { return m }
	for _, c := range []struct {
		name   string
		make   func(w *world, in, out attendance.ID)
		worked string
		marks  marks
	}{
		{"none", func(*world, attendance.ID, attendance.ID) {}, "9h", nil},
		{"void and add", func(w *world, _, o attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpVoid, Target: o})
			w.correct(attendance.Correction{Op: attendance.OpAdd, Kind: out, At: w.local("2026-11-02 18:00")})
		}, "10h", corrected},
		{"retime", func(w *world, i, _ attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpRetime, Target: i, At: w.local("2026-11-02 07:00")})
		}, "10h", corrected},
		{"the latest retime counts", func(w *world, i, _ attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpRetime, Target: i, At: w.local("2026-11-02 07:00")})
			w.correct(attendance.Correction{Op: attendance.OpRetime, Target: i, At: w.local("2026-11-02 07:30")})
		}, "9h30m", corrected},
		{"a cancelled correction", func(w *world, i, _ attendance.ID) {
			r := w.correct(attendance.Correction{Op: attendance.OpRetime, Target: i, At: w.local("2026-11-02 07:00")})
			w.correct(attendance.Correction{Op: attendance.OpVoid, Target: r})
		}, "9h", nil},
		{"a cancelled cancellation", func(w *world, i, _ attendance.ID) {
			r := w.correct(attendance.Correction{Op: attendance.OpRetime, Target: i, At: w.local("2026-11-02 07:00")})
			v := w.correct(attendance.Correction{Op: attendance.OpVoid, Target: r})
			w.correct(attendance.Correction{Op: attendance.OpVoid, Target: v})
		}, "10h", corrected},
		{"a request and a refusal", func(w *world, i, _ attendance.ID) {
			for _, d := range []attendance.Decision{attendance.Requested, attendance.Refused} {
				w.correct(attendance.Correction{Op: attendance.OpRetime, Target: i, At: w.local("2026-11-02 07:00"), Decision: d})
			}
		}, "9h", nil},
		{"rekind", func(w *world, i, _ attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpRekind, Target: i, Kind: punch.BreakEnd})
		}, "0s", late(attendance.MarkMissingIn, attendance.MarkMissingBreakIn, attendance.MarkCorrected)},
		{"a note", func(w *world, i, _ attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpNote, Target: i})
		}, "9h", nil},
		{"a stated time is not shifted", func(w *world, i, _ attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpRetime, Target: i, At: w.local("2026-11-02 07:00")})
			w.correct(attendance.Correction{Op: attendance.OpShift, Source: "gate", BySeconds: 3600,
				From: w.local("2026-11-02 06:00"), Until: w.local("2026-11-02 12:00")})
		}, "10h", corrected},
		{"an added punch is not shifted", func(w *world, i, _ attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpVoid, Target: i})
			w.correct(attendance.Correction{Op: attendance.OpAdd, Kind: in, At: w.local("2026-11-02 09:00"), Source: "gate"})
			w.correct(attendance.Correction{Op: attendance.OpShift, Source: "gate", BySeconds: -3600,
				From: w.local("2026-11-02 06:00"), Until: w.local("2026-11-02 12:00")})
		}, "8h", corrected},
		{"two shifts add up", func(w *world, _, _ attendance.ID) {
			for range 2 {
				w.correct(attendance.Correction{Op: attendance.OpShift, Source: "gate", BySeconds: -1800,
					From: w.local("2026-11-02 06:00"), Until: w.local("2026-11-02 12:00")})
			}
		}, "10h", corrected},
		{"a target that does not exist", func(w *world, _, _ attendance.ID) {
			w.correct(attendance.Correction{Op: attendance.OpVoid, Target: id(1 << 22)})
		}, "9h", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "Europe/Berlin")
			i, o := w.punch(in, "2026-11-02 08:00"), w.punch(out, "2026-11-02 17:00")
			c.make(w, i, o)
			d := w.day("2026-11-02")
			if seconds(d.Totals.Worked) != duration(t, c.worked) || !sameMarks(d.Marks, c.marks) {
				t.Errorf("worked %s, marks %v; want %s, %v\n%s", seconds(d.Totals.Worked), d.Marks, c.worked, c.marks, w.explain("2026-11-02"))
			}
			// The order of arrival has no meaning, and a correction that arrives twice counts once.
			for i, j := 0, len(w.line.Corrections)-1; i < j; i, j = i+1, j-1 {
				w.line.Corrections[i], w.line.Corrections[j] = w.line.Corrections[j], w.line.Corrections[i]
			}
			w.line.Corrections = append(w.line.Corrections, w.line.Corrections...)
			if again := w.day("2026-11-02"); again.Totals != d.Totals || again.Inputs != d.Inputs {
				t.Errorf("in another order: %+v, want %+v", again, d)
			}
		})
	}
}

func TestExplainNamesEveryPart(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(`{"schedule":"all","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[{"start":"08:00","end":"17:00"}],
		"breaks":[{"after_minutes":360,"minutes":30,"deduct":true}],"overtime":{"daily_after_minutes":480},
		"premiums":[{"premium":"night","start":"17:00","end":"06:00"}]}`)
	w.punch(in, "2026-11-02 08:10")
	w.punch(in, "2026-11-02 08:10:30")
	w.punch(breakStart, "2026-11-02 12:00")
	w.punch(breakEnd, "2026-11-02 12:10")
	gone := w.punch(out, "2026-11-02 16:00")
	w.punch(out, "2026-11-02 19:00")
	w.correct(attendance.Correction{Op: attendance.OpVoid, Target: gone})
	e := attendance.Explain(w.line, w.rules(), w.now, mustDate(t, "2026-11-02"))
	text := e.String()
	for _, part := range []string{
		"acme anna 2026-11-02 (Europe/Berlin): late, corrected, late, long_day", "removed by a correction", "void    accepted by meg: test",
		"shift ", "double_tap ", "as_pressed ", "work_date ", "pressed_break ", "automatic_break        20m0s", "worked                 10h20m0s",
		"late                   2026-11-02 08:00:00.000 +01:00 to 2026-11-02 08:10:00.000 +01:00 10m0s",
		"overtime_daily         2h20m0s", "premium                2h0m0s night", "long_day", "status ",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the explanation lacks %q:\n%s", part, text)
		}
	}
	if len(e.Punches) != 6 || len(e.Corrections) != 1 {
		t.Errorf("%d punches and %d corrections, want 6 and 1", len(e.Punches), len(e.Corrections))
	}
	for _, a := range e.Applied {
		if a.Meaning == "" {
			t.Errorf("the rule %s has no meaning", a.Rule)
		}
	}
}

// TestExplainOfANightThatBelongsToItsEnd holds that the explanation has punches and rules of the evening before.
func TestExplainOfANightThatBelongsToItsEnd(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.WorkDate = attendance.ByEnd
	w.inOut("2026-11-02 22:00", "2026-11-03 06:00")
	text := w.explain("2026-11-03")
	for _, part := range []string{
		"2026-11-02 22:00:00.000 +01:00  in", "2026-11-03 06:00:00.000 +01:00  out", "as_pressed             2026-11-02 22:00:00.000 +01:00 in", "worked                 8h0m0s",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the explanation lacks %q:\n%s", part, text)
		}
	}
}

func TestCorrectionValidate(t *testing.T) {
	now := time.Now()
	good := attendance.Correction{
		ID: id(1), Op: attendance.OpRetime, WorkDate: 20000, Target: id(2), At: now, Decision: attendance.Accepted, MadeAt: now,
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*attendance.Correction){
		"id":         func(c *attendance.Correction) { c.ID = attendance.ID{} },
		"op":         func(c *attendance.Correction) { c.Op = "delete" },
		"work_date":  func(c *attendance.Correction) { c.WorkDate = -1 },
		"target":     func(c *attendance.Correction) { c.Target = c.ID },
		"kind":       func(c *attendance.Correction) { c.Op, c.Kind = attendance.OpRekind, "late" },
		"at":         func(c *attendance.Correction) { c.At = time.Time{} },
		"source":     func(c *attendance.Correction) { c.Op, c.Source = attendance.OpShift, "" },
		"until":      func(c *attendance.Correction) { c.Op, c.Source, c.BySeconds = attendance.OpShift, "gate", 60 },
		"by_seconds": func(c *attendance.Correction) { c.Op, c.Source, c.Until = attendance.OpShift, "gate", now },
		"made_at":    func(c *attendance.Correction) { c.MadeAt = time.Time{} },
		"decision":   func(c *attendance.Correction) { c.Decision = "" },
	} {
		bad := good
		change(&bad)
		if e := punch.AsError(bad.Validate()); e.Code != punch.Invalid || e.Field != field {
			t.Errorf("%s: %v, want an invalid %s", field, e, field)
		}
	}
}

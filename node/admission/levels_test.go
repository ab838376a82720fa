package admission

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/region"
)

// stage is a node whose valve refuses as the test says. Gossip asks for its level every second.
type stage struct {
	*Levels
	manual  region.Switches
	refuses int // punches a second
	state   State
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := new(stage)
	var err error
	s.Levels, err = NewLevels(LevelsDeps{
		Manual: func() uint8 { return s.manual.Level(region.Degradation, "eu-west", time.Now()) },
		Valve:  func() State { return s.state }, Target: 25 * time.Millisecond, Clock: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run lets seconds pass and returns the levels after each.
func (s *stage) run(seconds int) (levels []uint8) {
	for range seconds {
		time.Sleep(time.Second)
		s.state.Counts[Interactive].Refused += uint64(s.refuses)
		levels = append(levels, s.Level())
	}
	return levels
}

func (s *stage) degrade(level uint8, version int64, length time.Duration) {
	n := region.Switch{Kind: region.Degradation, Region: "eu-west", Level: level, Version: version}
	if length > 0 {
		n.Until = time.Now().Add(length)
	}
	s.manual.Merge(n)
}

func wantLevel(t *testing.T, what string, s *stage, want uint8) {
	t.Helper()
	if got := s.Level(); got != want {
		t.Errorf("%s the level is %d, want %d", what, got, want)
	}
}

// TestEveryClassHasALevel holds that a new class must say up to which level it is served, and that punches always are.
func TestEveryClassHasALevel(t *testing.T) {
	for class := range classes {
		if _, known := servedUpTo[class]; !known {
			t.Errorf("class %s has no entry in servedUpTo", class)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		for level := range region.PunchesOnly + 1 {
			s.degrade(level, int64(level)+1, 0)
			for class, want := range map[Class]bool{Forwarded: true, Interactive: true, Stored: true, Read: level < region.PunchesOnly} {
				wait, ok := s.Serves(class)
				if ok != want {
					t.Errorf("level %d serves %s: %t, want %t", level, class, ok, want)
				}
				if !ok && (wait < 15*time.Second || wait > 45*time.Second) {
					t.Errorf("level %d asks %s to come again in %s, want 15 to 45 s", level, class, wait)
				}
			}
		}
	})
}

// TestALevelRisesWhilePunchesAreRefused and falls again, more slowly, without an operator.
func TestALevelRisesWhilePunchesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.run(60)
		wantLevel(t, "without refusals", s, 0)
		s.refuses = 10
		s.run(5)
		wantLevel(t, "before 5 s of refusing", s, 0)
		for want := range region.PunchesOnly {
			s.run(5)
			wantLevel(t, "after 5 s more", s, want+1)
		}
		s.run(600)
		wantLevel(t, "after ten minutes", s, region.PunchesOnly)
		s.refuses = 0
		s.run(29)
		wantLevel(t, "29 s after the last refusal", s, region.PunchesOnly)
		for want := int(region.PunchesOnly) - 1; want >= 0; want-- {
			s.run(1)
			wantLevel(t, "30 s later", s, uint8(want))
			s.run(29)
		}
		s.run(600)
		wantLevel(t, "after the rush", s, 0)
	})
}

// TestALevelDoesNotFlap refuses for moments, and for so few punches that whole seconds pass between two refusals.
func TestALevelDoesNotFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		for range 20 { // bursts that are over before the level rises
			s.refuses = 100
			s.run(3)
			s.refuses = 0
			s.run(10)
		}
		wantLevel(t, "after bursts", s, 0)
		for range 60 { // the valve limits all the time, and refuses every other second
			s.refuses = 1
			s.run(1)
			s.refuses = 0
			s.run(1)
		}
		wantLevel(t, "after two minutes of few refusals", s, region.PunchesOnly)
		changes, last := 0, s.Level()
		for range 30 { // a punch is refused every 20 s
			s.refuses = 1
			levels := s.run(1)
			s.refuses = 0
			for _, level := range append(levels, s.run(19)...) {
				if level != last {
					changes, last = changes+1, level
				}
			}
		}
		if changes != 0 {
			t.Errorf("the level changed %d times in ten minutes of a refusal every 20 s, want it held", changes)
		}
	})
}

// TestAFloodOfOneCompanyDegradesNoOther holds the level while one company's own excess is refused. Without other companies
// the level rises.
func TestAFloodOfOneCompanyDegradesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.refuses, s.state.LargestShare = 1000, 0.8
		s.run(60)
		wantLevel(t, "while one company floods", s, 0)
		s.state.LargestShare = 0.3
		s.run(10)
		wantLevel(t, "10 s after the flood, with refusals,", s, 1)
		s.state.LargestShare = 1
		s.run(60)
		wantLevel(t, "with one company alone", s, region.PunchesOnly)
	})
}

// TestOutboxesAndReadsRaiseNoLevel refuses only what may wait.
func TestOutboxesAndReadsRaiseNoLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		for range 60 {
			s.state.Counts[Stored].Refused += 50
			s.state.Counts[Read].Refused += 50
			s.run(1)
		}
		wantLevel(t, "while outboxes and reads are refused", s, 0)
	})
}

// TestTheHigherOfTwoLevelsHolds sets a manual level over, under and beside the node's own one.
func TestTheHigherOfTwoLevelsHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.degrade(2, 1, time.Minute)
		wantLevel(t, "after degrade 2", s, 2)
		if own := s.Own(); own != 0 {
			t.Errorf("the node's own level is %d", own)
		}
		s.refuses = 10
		s.run(6)
		wantLevel(t, "with an own level of 1", s, 2)
		s.run(10)
		wantLevel(t, "with an own level of 3", s, 3)
		s.degrade(0, 2, 0)
		wantLevel(t, "after degrade 0 while the node refuses", s, 3)
		s.refuses = 0
		s.run(120)
		wantLevel(t, "after the rush", s, 0)
		s.degrade(1, 3, time.Minute)
		s.run(59)
		wantLevel(t, "before its end", s, 1)
		s.run(1)
		wantLevel(t, "at its end", s, 0)
	})
}

// TestUploadsAreSpread draws many times. They must fill the window evenly, and there is none on a quiet node.
func TestUploadsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.run(2)
		if after := s.UploadAfter(false); after != 0 {
			t.Errorf("a quiet node asks to wait for %s", after)
		}
		for name, state := range map[string]State{"a limit": {Limit: 300}, "half of the wait that is overload": {Wait: 0.013}} {
			s.state = state
			s.run(2)
			if after := s.UploadAfter(false); after == 0 {
				t.Errorf("a node with %s asks for no later upload", name)
			}
			s.state = State{}
			s.run(2)
			if after := s.UploadAfter(false); after != 0 {
				t.Errorf("after %s the node still asks to wait for %s", name, after)
			}
		}
		const draws, parts = 30_000, 10
		var counts [parts]int
		for range draws {
			after := s.UploadAfter(true) - time.Second
			if after < 0 || after >= uploadWindow {
				t.Fatalf("a slot is %s after the answer, want it within %s", after+time.Second, uploadWindow)
			}
			counts[int(after*parts/uploadWindow)]++
		}
		for part, n := range counts { // 3,000 each; eleven standard deviations are 570
			if n < 2400 || n > 3600 {
				t.Errorf("%d of %d slots lie in part %d of %d, want about a tenth: %v", n, draws, part+1, parts, counts)
			}
		}
	})
}

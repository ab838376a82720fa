package region

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var suspendedHome = Home{Region: "us-east", Epoch: 2, Version: 2, Suspended: true}

func TestSuspendedAt(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 30, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		home Home
		want bool
	}{
		"no suspension":                   {Home{}, false},
		"an end without a suspension":     {Home{SuspendedUntil: now.Add(time.Hour)}, false},
		"until the company is resumed":    {Home{Suspended: true}, true},
		"until later":                     {Home{Suspended: true, SuspendedUntil: now.Add(time.Nanosecond)}, true},
		"until this moment, which is not": {Home{Suspended: true, SuspendedUntil: now}, false},
	} {
		if got := c.home.SuspendedAt(now); got != c.want {
			t.Errorf("%s: suspended is %t, want %t", name, got, c.want)
		}
	}
}

// TestResumedCompanyIsKnownBeforeTheNextRefusal resumes a company while memory still has its suspension.
func TestResumedCompanyIsKnownBeforeTheNextRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": suspendedHome}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		for range 1000 { // a flood of a suspended company
			wantHome(t, d, "acme", suspendedHome, nil)
			time.Sleep(10 * time.Millisecond)
		}
		if n, most := s.readCount(), int(10*time.Second/suspensionAge)+1; n < 2 || n > most {
			t.Errorf("10 s of punches of a suspended company read the source %d times, want 2 to %d", n, most)
		}
		s.set(func(s *table) { s.homes["acme"] = newHome })
		time.Sleep(suspensionAge)
		wantHome(t, d, "acme", newHome, nil) // the first answer already, although memory has the suspension
	})
}

// TestPreloadedSuspensionIsReadAgain has a home that Put stored, which may be older than any answer.
func TestPreloadedSuspensionIsReadAgain(t *testing.T) {
	s := &table{homes: map[string]Home{"acme": newHome}}
	d := mustDirectory(t, DefaultDirectoryConfig(), s)
	d.Put("acme", suspendedHome)
	wantHome(t, d, "acme", newHome, nil)
}

// TestSuspensionThatEndedIsNotReadAgain holds that a suspension with a past end costs nothing any more.
func TestSuspensionThatEndedIsNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := suspendedHome
		ended.SuspendedUntil = time.Now().Add(time.Minute / 4)
		s := &table{homes: map[string]Home{"acme": ended}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		wantHome(t, d, "acme", ended, nil)
		time.Sleep(time.Minute / 2) // young enough for the refresh in the background
		for range 10 {
			wantHome(t, d, "acme", ended, nil)
		}
		if n := s.readCount(); n != 1 {
			t.Errorf("the source was read %d times, want once", n)
		}
	})
}

// TestSuspendedCompanyDoesNotWaitForADatabaseThatIsAway floods while the source does not answer.
func TestSuspendedCompanyDoesNotWaitForADatabaseThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": suspendedHome}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		wantHome(t, d, "acme", suspendedHome, nil)
		s.set(func(s *table) { s.takes = time.Hour })
		time.Sleep(suspensionAge)
		began := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if home, err := d.Home(t.Context(), "acme"); home != suspendedHome || err != nil {
					t.Errorf("Home = %+v, %v; want the known suspension", home, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != recheckTimeout {
			t.Errorf("100 punches waited %s, want %s together", took, recheckTimeout)
		}
		began = time.Now()
		for range 100 {
			wantHome(t, d, "acme", suspendedHome, nil)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the punches after a failed read waited %s, want none", took)
		}
	})
}

// TestCallerThatGivesUpLeavesTheReadToTheNext cancels the caller that waits for the read.
func TestCallerThatGivesUpLeavesTheReadToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": suspendedHome}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		wantHome(t, d, "acme", suspendedHome, nil)
		s.set(func(s *table) { s.homes["acme"], s.takes = newHome, recheckTimeout/2 })
		time.Sleep(suspensionAge)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if home, err := d.Home(gone, "acme"); home != suspendedHome || err != nil {
			t.Errorf("a caller that gave up got %+v, %v; want the known home", home, err)
		}
		wantHome(t, d, "acme", newHome, nil)
	})
}

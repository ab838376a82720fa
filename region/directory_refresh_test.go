package region

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestRefreshReadsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": oldHome}, takes: time.Second}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		wantHome(t, d, "acme", oldHome, nil)
		// A read that begins before the move must not answer callers that ask after the move.
		var wg sync.WaitGroup
		refresh := func(want Home) {
			wg.Go(func() {
				if home, err := d.Refresh(t.Context(), "acme"); home != want || err != nil {
					t.Errorf("Refresh = %+v, %v; want %+v", home, err, want)
				}
			})
		}
		refresh(oldHome)
		time.Sleep(time.Second / 2)
		s.set(func(s *table) { s.homes["acme"] = newHome })
		for range 100 {
			refresh(newHome)
		}
		wg.Wait()
		wantHome(t, d, "acme", newHome, nil)
		if n := s.readCount(); n != 3 {
			t.Errorf("the source was read %d times, want 3: at first, before and after the move", n)
		}
	})
}

func TestRefreshOfRemovedCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": oldHome}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		wantHome(t, d, "acme", oldHome, nil)
		s.set(func(s *table) { s.err = errAway })
		if _, err := d.Refresh(t.Context(), "acme"); !errors.Is(err, errAway) {
			t.Errorf("Refresh failed with %v, want %v", err, errAway)
		}
		wantHome(t, d, "acme", oldHome, nil) // a failed read forgets nothing
		s.set(func(s *table) { s.err, s.homes = nil, nil })
		if _, err := d.Refresh(t.Context(), "acme"); err != ErrUnknownCompany {
			t.Errorf("Refresh failed with %v, want ErrUnknownCompany", err)
		}
		wantHome(t, d, "acme", Home{}, ErrUnknownCompany)
	})
}

// TestPutKeepsTheNewestVersion puts homes in any order. The directory must never answer with an older home.
func TestPutKeepsTheNewestVersion(t *testing.T) {
	s := &table{err: errAway}
	d := mustDirectory(t, DefaultDirectoryConfig(), s)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		company := fmt.Sprint("c", n) // a new company for each run
		var newest Home
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			version := rapid.Int64Range(1, 6).Draw(t, "version")
			home := Home{Region: "us-east", Epoch: version, Version: version}
			d.Put(company, home)
			if version >= newest.Version {
				newest = home
			}
			if got, err := d.Home(context.Background(), company); got != newest || err != nil {
				t.Fatalf("Home = %+v, %v; want %+v", got, err, newest)
			}
		}
	})
}

func TestCapacityIsALimit(t *testing.T) {
	cfg := DefaultDirectoryConfig()
	cfg.Capacity = 100
	d := mustDirectory(t, cfg, &table{})
	for i := range 10_000 {
		d.Put(fmt.Sprint("c", i), oldHome)
	}
	for range 100 { // eviction runs beside the writers
		if d.homes.CleanUp(); d.Len() <= cfg.Capacity {
			return
		}
	}
	t.Errorf("%d companies are kept, want at most %d", d.Len(), cfg.Capacity)
}

func TestCloseEndsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": oldHome}}
		d, err := NewDirectory(DefaultDirectoryConfig(), s)
		if err != nil {
			t.Fatal(err)
		}
		wantHome(t, d, "acme", oldHome, nil)
		s.set(func(s *table) { s.takes = time.Hour })
		time.Sleep(time.Minute)
		wantHome(t, d, "acme", oldHome, nil) // starts a read in the background
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := d.Home(t.Context(), "other"); !errors.Is(err, ErrClosed) {
				t.Errorf("a caller that waits during Close got %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		began := time.Now()
		d.Close()
		d.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %s, want it to return at once", took)
		}
		wg.Wait()
		if _, err := d.Home(t.Context(), "third"); !errors.Is(err, ErrClosed) {
			t.Errorf("a caller after Close got %v, want ErrClosed", err)
		}
		// synctest fails the test if a goroutine is left.
	})
}

func TestDirectoryStartStopStress(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := &table{homes: map[string]Home{"acme": oldHome}}
	for range 50 {
		d, err := NewDirectory(DefaultDirectoryConfig(), s)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					_, _ = d.Home(t.Context(), "acme") // may fail because of Close; the test looks for leaks
					_, _ = d.Refresh(t.Context(), "acme")
					d.Put("acme", oldHome)
				}
			})
		}
		d.Close()
		wg.Wait()
	}
}

func BenchmarkHomeFromMemory(b *testing.B) {
	d := mustDirectory(b, DefaultDirectoryConfig(), &table{})
	d.Put("acme", oldHome)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := d.Home(b.Context(), "acme"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

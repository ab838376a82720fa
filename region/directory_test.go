package region

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("the database is away")

// table is a Source in memory. Its reads take some time.
type table struct {
	mu    sync.Mutex // guards all below
	homes map[string]Home
	err   error         // the error of each read, nil for none
	takes time.Duration // the time between the look at homes and the answer
	reads int
}

func (s *table) Home(ctx context.Context, company string) (Home, error) {
	s.mu.Lock()
	s.reads++
	home, ok := s.homes[company]
	err, takes := s.err, s.takes
	s.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return Home{}, ctx.Err()
		}
	}
	switch {
	case err != nil:
		return Home{}, err
	case !ok:
		return Home{}, fmt.Errorf("company %s: %w", company, ErrUnknownCompany)
	default:
		return home, nil
	}
}

func (s *table) set(change func(*table)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *table) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func mustDirectory(t testing.TB, cfg DirectoryConfig, s Source) *Directory {
	t.Helper()
	d, err := NewDirectory(cfg, s)
	if err != nil {
		t.Fatalf("NewDirectory: %v", err)
	}
	t.Cleanup(d.Close)
	return d
}

// wantHome checks the answer of Home.
func wantHome(t *testing.T, d *Directory, company string, want Home, wantErr error) {
	t.Helper()
	got, err := d.Home(t.Context(), company)
	if got != want || !errors.Is(err, wantErr) {
		t.Fatalf("Home(%q) = %+v, %v; want %+v, %v", company, got, err, want, wantErr)
	}
}

var (
	oldHome = Home{Region: "us-east", Epoch: 1, Version: 1}
	newHome = Home{Region: "eu-west", Epoch: 2, Version: 2}
)

func TestDirectoryConfigIsChecked(t *testing.T) {
	good := DefaultDirectoryConfig()
	if err := good.Validate(); err != nil {
		t.Fatalf("the default is refused: %v", err)
	}
	for _, bad := range []DirectoryConfig{
		{},
		{Capacity: 0, RefreshAfter: time.Minute, ExpireAfter: time.Hour},
		{Capacity: 1, RefreshAfter: 0, ExpireAfter: time.Hour},
		{Capacity: 1, RefreshAfter: time.Hour, ExpireAfter: time.Hour},
	} {
		if d, err := NewDirectory(bad, &table{}); err == nil {
			d.Close()
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestConcurrentLookupsShareOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": oldHome}, takes: time.Second}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if home, err := d.Home(t.Context(), "acme"); home != oldHome || err != nil {
					t.Errorf("Home = %+v, %v; want %+v", home, err, oldHome)
				}
			})
		}
		wg.Wait()
		wantHome(t, d, "acme", oldHome, nil)
		if n := s.readCount(); n != 1 {
			t.Errorf("the source was read %d times, want once", n)
		}
		if got, want := d.Stats(), (DirectoryStats{Hits: 1, Misses: 100}); got != want {
			t.Errorf("the counters are %+v, want %+v", got, want)
		}
	})
}

func TestCallerThatGivesUpFailsNoOtherCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": oldHome}, takes: 2 * time.Second}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		began := time.Now()
		wg.Go(func() {
			if _, err := d.Home(first, "acme"); !errors.Is(err, context.Canceled) {
				t.Errorf("the cancelled caller got %v, want context.Canceled", err)
			}
			if waited := time.Since(began); waited != time.Second {
				t.Errorf("the cancelled caller waited %s, want 1s, the time until its context ended", waited)
			}
		})
		synctest.Wait() // the read of the first caller is in progress
		wg.Go(func() {
			if home, err := d.Home(t.Context(), "acme"); home != oldHome || err != nil {
				t.Errorf("the other caller got %+v, %v; want %+v", home, err, oldHome)
			}
		})
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
		if n := s.readCount(); n != 1 {
			t.Errorf("the source was read %d times, want once", n)
		}
		if _, err := d.Home(first, "other"); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller whose context had ended got %v, want context.Canceled", err)
		}
	})
}

func TestCompanyIsFoundAfterItWasUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		wantHome(t, d, "acme", Home{}, ErrUnknownCompany)
		wantHome(t, d, "acme", Home{}, ErrUnknownCompany)
		s.set(func(s *table) { s.homes["acme"] = oldHome })
		wantHome(t, d, "acme", oldHome, nil)
		if n := s.readCount(); n != 3 {
			t.Errorf("the source was read %d times, want 3: memory must not answer that a company is unknown", n)
		}
	})
}

// TestJoinedReadDoesNotMakeCompanyUnknown joins a read that looked before the company was created.
func TestJoinedReadDoesNotMakeCompanyUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{}, takes: time.Second}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := d.Home(t.Context(), "acme"); !errors.Is(err, ErrUnknownCompany) {
				t.Errorf("the caller before the creation got %v, want ErrUnknownCompany", err)
			}
		})
		time.Sleep(time.Second / 2) // the read has looked and not answered yet
		s.set(func(s *table) { s.homes["acme"] = oldHome })
		wantHome(t, d, "acme", oldHome, nil)
		wg.Wait()
	})
}

func TestReadsOfUnknownCompanyAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		unknown, busy := 0, 0
		for range 500 {
			switch _, err := d.Home(t.Context(), "acme"); {
			case errors.Is(err, ErrUnknownCompany):
				unknown++
			case errors.Is(err, ErrBusy):
				busy++
			default:
				t.Fatalf("got %v, want ErrUnknownCompany or ErrBusy", err)
			}
		}
		if unknown != negativeRate+1 || busy != 500-unknown || s.readCount() != unknown {
			t.Errorf("%d unknown, %d busy, %d reads; want the first and %d more to be read", unknown, busy, s.readCount(), negativeRate)
		}
		wantHome(t, d, "other", Home{}, ErrUnknownCompany) // each company has its own limit
		time.Sleep(time.Second / negativeRate)
		s.set(func(s *table) { s.homes["acme"] = oldHome })
		wantHome(t, d, "acme", oldHome, nil)
	})
}

// TestPutEndsTheLimitOfUnknownCompany covers a company that was created a moment ago.
func TestPutEndsTheLimitOfUnknownCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{}}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		for !errors.Is(errOf(d.Home(t.Context(), "acme")), ErrBusy) {
			continue
		}
		d.Put("acme", oldHome)
		wantHome(t, d, "acme", oldHome, nil)
	})
}

func errOf(_ Home, err error) error { return err }

func TestEntryIsRefreshedInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": oldHome}}
		cfg := DefaultDirectoryConfig()
		d := mustDirectory(t, cfg, s)
		wantHome(t, d, "acme", oldHome, nil)
		s.set(func(s *table) { s.homes["acme"] = newHome })
		time.Sleep(cfg.RefreshAfter / 2)
		wantHome(t, d, "acme", oldHome, nil)
		synctest.Wait()
		if n := s.readCount(); n != 1 {
			t.Fatalf("%d reads of a young entry, want 1", n)
		}
		time.Sleep(cfg.RefreshAfter / 2)
		wantHome(t, d, "acme", oldHome, nil) // the answer does not wait for the refresh
		synctest.Wait()
		wantHome(t, d, "acme", newHome, nil)
		if n := s.readCount(); n != 2 {
			t.Errorf("%d reads, want 2", n)
		}
	})
}

func TestStaleEntryOutlastsTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{"acme": oldHome}}
		cfg := DefaultDirectoryConfig()
		d := mustDirectory(t, cfg, s)
		wantHome(t, d, "acme", oldHome, nil)
		s.set(func(s *table) { s.err = errAway })
		wantHome(t, d, "other", Home{}, errAway)
		time.Sleep(cfg.RefreshAfter)
		before := s.readCount()
		for range 1000 {
			wantHome(t, d, "acme", oldHome, nil)
			synctest.Wait()
		}
		if n := s.readCount() - before; n != 1 {
			t.Errorf("%d reads of a database that is away, want 1 in %s", n, retryRefresh)
		}
		time.Sleep(retryRefresh)
		wantHome(t, d, "acme", oldHome, nil)
		synctest.Wait()
		if n := s.readCount() - before; n != 2 {
			t.Errorf("%d reads, want a second one after %s", n, retryRefresh)
		}
		if n := d.Stats().Failures; n != 3 {
			t.Errorf("%d failures are counted, want 3", n)
		}
		time.Sleep(cfg.ExpireAfter)
		wantHome(t, d, "acme", Home{}, errAway)
	})
}

func TestReadHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{homes: map[string]Home{}, takes: time.Hour}
		d := mustDirectory(t, DefaultDirectoryConfig(), s)
		began := time.Now()
		if _, err := d.Home(t.Context(), "acme"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
		if took := time.Since(began); took != loadTimeout {
			t.Errorf("it took %s, want %s", took, loadTimeout)
		}
	})
}

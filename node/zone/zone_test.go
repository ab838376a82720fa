package zone

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestMain gives this machine a false table of its own: Berlin has the rules of Tokyo there, and Mars/Base exists.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "zones")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a left-over directory harms nobody
		tokyo := tzdata("Asia/Tokyo")
		for _, name := range []string{"Europe/Berlin", "Mars/Base"} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				panic(err)
			}
			if err := os.WriteFile(path, tokyo, 0o600); err != nil {
				panic(err)
			}
		}
		if err := os.Setenv("ZONEINFO", dir); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

func tzdata(name string) []byte {
	f, err := index()[name].Open()
	if err != nil {
		panic(err)
	}
	var b strings.Builder
	buf := make([]byte, 4096)
	for n, err := f.Read(buf); n > 0 || err == nil; n, err = f.Read(buf) {
		b.Write(buf[:n])
	}
	return []byte(b.String())
}

func offset(t *testing.T, loc *time.Location, err error, at time.Time) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	_, seconds := at.In(loc).Zone()
	return seconds
}

// TestTheHostsTableIsNotAsked holds that two nodes on different machines get the same offsets.
func TestTheHostsTableIsNotAsked(t *testing.T) {
	winter, summer := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	host, err := time.LoadLocation("Europe/Berlin")
	if got := offset(t, host, err, winter); got != 9*3600 {
		t.Fatalf("the host's table gives Berlin %d s, want 9 hours: this test shows nothing", got)
	}
	for at, want := range map[time.Time]int{winter: 3600, summer: 7200} {
		berlin, err := Load("Europe/Berlin")
		if got := offset(t, berlin, err, at); got != want {
			t.Errorf("Berlin at %s: %d s, want %d", at, got, want)
		}
	}
	if _, err := Load("Mars/Base"); err == nil {
		t.Error("a zone of the host's table alone was accepted")
	}
}

func TestOnlyNamesOfTheTable(t *testing.T) {
	for _, name := range []string{
		"", "Local", "localtime", "posixrules", "Factory", "right/UTC", "posix/Europe/Berlin", "Europe//Berlin", "Europe/Berlin/",
		"./Europe/Berlin", "../Europe/Berlin", "/etc/localtime", "europe/berlin", "EUROPE/BERLIN", "Europe", "Europe/", " UTC", "UTC\n", "Mars/Base",
	} {
		if loc, err := Load(name); err == nil {
			t.Errorf("Load(%q) = %s, want an error", name, loc)
		}
	}
	if _, err := Load("europe/berlin"); err == nil || !strings.Contains(err.Error(), "is spelled Europe/Berlin") {
		t.Errorf("a name in lower case: %v, want its spelling", err)
	}
}

func TestEveryZoneLoads(t *testing.T) {
	if n := len(index()); n < 500 {
		t.Fatalf("the table has only %d zones", n)
	}
	for name := range index() {
		loc, err := Load(name)
		if err != nil || loc.String() != name {
			t.Errorf("Load(%q) = %v, %v", name, loc, err)
		}
		if again, err := Load(name); err != nil || again != loc {
			t.Errorf("Load(%q) returned another location at the second call, %v", name, err)
		}
	}
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "America/Argentina/Buenos_Aires", "Etc/GMT+5"} {
		if _, err := Load(name); err != nil {
			t.Error(err)
		}
	}
	if !regexp.MustCompile(`^20\d\d[a-z]$`).MatchString(Version()) {
		t.Errorf("the version is %q, want such as 2026a", Version())
	}
}

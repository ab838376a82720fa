package punch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestIDsFollowAClockThatIsSetBack sets the clock back by two hours: each bubble starts at the same instant. An id that
// stays in the future would make the node refuse the punch, or store it with the wrong hour.
func TestIDsFollowAClockThatIsSetBack(t *testing.T) {
	var start time.Time
	synctest.Test(t, func(t *testing.T) {
		start = time.Now()
		time.Sleep(2 * time.Hour)
		if got := NewID().Time(); !got.Equal(start.Add(2 * time.Hour)) {
			t.Errorf("the clock shows %s, the id holds %s", time.Now().UTC(), got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if !time.Now().Equal(start) {
			t.Fatalf("the clock shows %s, want %s", time.Now(), start)
		}
		if got := NewID().Time(); !got.Equal(start) {
			t.Errorf("the clock was set back to %s, the id holds %s", start.UTC(), got)
		}
	})
}

func TestIDsOfOneInstantDiffer(t *testing.T) {
	at := time.Now()
	seen := make(map[ID]bool)
	for range 10_000 {
		id := IDAt(at)
		if seen[id] {
			t.Fatalf("the id %s was made twice", id)
		}
		seen[id] = true
	}
}

func TestIDs(t *testing.T) {
	at := time.Date(2026, 11, 21, 23, 59, 59, 999_000_000, time.UTC)
	id := IDAt(at)
	if !id.Time().Equal(at) || !id.Day().Equal(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("an id of %s holds %s, day %s", at, id.Time(), id.Day())
	}
	if early := IDAt(time.Unix(-1, 0)); !early.Time().Equal(time.Unix(0, 0)) {
		t.Errorf("an id of a time before 1970 holds %s, want 1970", early.Time())
	}
	back, err := ParseID(strings.ToUpper(id.String()))
	if err != nil || back != id {
		t.Errorf("%s was read as %s, %v", id, back, err)
	}
	for _, bad := range []string{
		"", "x", "00000000-0000-0000-0000-000000000000", "{" + id.String() + "}", "urn:uuid:" + id.String(),
		strings.ReplaceAll(id.String(), "-", ""), "f47ac10b-58cc-4372-a567-0e02b2c3d479", id.String() + "0",
	} {
		if _, err := ParseID(bad); !errors.Is(err, ErrNotUUIDv7) {
			t.Errorf("ParseID(%q) = %v, want ErrNotUUIDv7", bad, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(NewID().String())
	f.Add("00000000-0000-7000-8000-000000000000")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && id.String() != strings.ToLower(s) {
			t.Errorf("%q was read as %s", s, id)
		}
	})
}

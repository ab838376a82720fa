package region

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Evacuation is an operator's switch. It takes a region out of service, or puts the region back.
type Evacuation struct {
	Region  Name
	On      bool
	Version int64     // the higher version of a region wins, see newerThan
	Until   time.Time // the evacuation ends at this time without a further switch; zero for never
}

// ActiveAt reports whether the region is out of service at the given time.
func (e Evacuation) ActiveAt(now time.Time) bool {
	return e.On && (e.Until.IsZero() || now.Before(e.Until))
}

// newerThan reports whether e replaces old. It is a total order: all nodes choose the same switch, in whatever order
// they receive them.
//
// Two switches have the same version if two operators use gossip alone at the same time. It also happens if an operator
// repeats a command through gossip alone because the database stored the switch and the confirmation was lost. A switch
// without an end wins, because an evacuation through gossip alone always has an end. Otherwise the later end wins.
func (e Evacuation) newerThan(old Evacuation) bool {
	if e.Version != old.Version {
		return e.Version > old.Version
	}
	if e.Until.IsZero() != old.Until.IsZero() {
		return e.Until.IsZero()
	}
	return e.Until.After(old.Until) || e.Until.Equal(old.Until) && e.On && !old.On
}

// Evacuations holds the newest switch of each region that this node knows, from the database, gossip and its own
// operator listener. The zero value is ready to use. It is safe for concurrent use.
type Evacuations struct {
	mu       sync.RWMutex // guards byRegion
	byRegion map[Name]Evacuation
}

// Merge adds a switch and reports whether it is news: the first of its region, or newer than the known one. The
// result does not depend on the order of calls, and a repeated call changes nothing. So switches may arrive late,
// twice and by several ways.
func (s *Evacuations) Merge(e Evacuation) (news bool) {
	// Gossip carries microseconds. A node that kept nanoseconds would differ from all others.
	e.Until = e.Until.UTC().Truncate(time.Microsecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, known := s.byRegion[e.Region]; known && !e.newerThan(old) {
		return false
	}
	if s.byRegion == nil {
		s.byRegion = make(map[Name]Evacuation)
	}
	s.byRegion[e.Region] = e
	return true
}

// Evacuated reports whether the region is out of service at the given time.
func (s *Evacuations) Evacuated(r Name, now time.Time) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byRegion[r].ActiveAt(now)
}

// All returns the newest switch of each region that has one, sorted by region.
func (s *Evacuations) All() []Evacuation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Evacuation, 0, len(s.byRegion))
	for _, e := range s.byRegion {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Evacuation) int { return cmp.Compare(a.Region, b.Region) })
	return list
}

// Next returns a version higher than every known one.
func (s *Evacuations) Next() int64 {
	var highest int64
	for _, e := range s.All() {
		highest = max(highest, e.Version)
	}
	return highest + 1
}

package region

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Evacuation is the operator's switch that takes a region out of service, or
// puts it back.
type Evacuation struct {
	Region  Name
	On      bool
	Version int64     // of two, the higher one holds, see newer
	Until   time.Time // when it ends by itself; zero for never
}

// Holds reports whether the region is out of service at the given time.
func (e Evacuation) Holds(now time.Time) bool {
	return e.On && (e.Until.IsZero() || now.Before(e.Until))
}

// newer reports whether e holds over old. Two of one version can be, when the
// database took a switch whose writer did not hear so and then went through
// gossip alone. All nodes must choose the same: the one that is not bounded,
// which is the database's, or ends later.
func (e Evacuation) newer(old Evacuation) bool {
	if e.Version != old.Version {
		return e.Version > old.Version
	}
	if e.Until.IsZero() != old.Until.IsZero() {
		return e.Until.IsZero()
	}
	return e.Until.After(old.Until) || e.Until.Equal(old.Until) && e.On && !old.On
}

// Switches are the operator's switches as this node knows them, from whatever
// source it heard of them. The zero value is ready to use, and safe for
// concurrent use.
type Switches struct {
	mu       sync.RWMutex // guards byRegion
	byRegion map[Name]Evacuation
}

// Learn takes in a switch and reports whether it was news. Switches may be
// learnt in any order and more than once: the newest of each region is what
// holds in the end.
func (s *Switches) Learn(e Evacuation) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, known := s.byRegion[e.Region]; known && !e.newer(old) {
		return false
	}
	if s.byRegion == nil {
		s.byRegion = make(map[Name]Evacuation)
	}
	s.byRegion[e.Region] = e
	return true
}

// Evacuated reports whether the region is out of service at the given time.
func (s *Switches) Evacuated(r Name, now time.Time) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byRegion[r].Holds(now)
}

// All returns the newest switch of each region that has one, by region.
func (s *Switches) All() []Evacuation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Evacuation, 0, len(s.byRegion))
	for _, e := range s.byRegion {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Evacuation) int { return cmp.Compare(a.Region, b.Region) })
	return list
}

// Next returns a version above all that are known.
func (s *Switches) Next() int64 {
	var highest int64
	for _, e := range s.All() {
		highest = max(highest, e.Version)
	}
	return highest + 1
}

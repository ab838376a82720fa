package region

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// SwitchKind is what a switch changes about a region.
type SwitchKind uint8

// The kinds.
const (
	Evacuation  SwitchKind = iota // level 1 takes the region out of service
	Degradation                   // nodes of the region serve less at each level
)

func (k SwitchKind) String() string { return [...]string{"evacuation", "degradation"}[k] }

// The levels of degradation. Each level includes those below it.
const (
	CachedBoards uint8 = 1 // boards come from caches and followers only
	NoBackground uint8 = 2 // no exports, no rebuilds, no rows carried to another home
	PunchesOnly  uint8 = 3 // nothing but punches is served
)

// Switch is an operator's switch of one region.
type Switch struct {
	Kind    SwitchKind
	Region  Name
	Level   uint8     // 0 is normal service
	Version int64     // the higher version of a kind and region wins, see newerThan
	Until   time.Time // the level ends at this time without a further switch; zero for never
}

// LevelAt returns the level at the given time.
func (s Switch) LevelAt(now time.Time) uint8 {
	if s.Until.IsZero() || now.Before(s.Until) {
		return s.Level
	}
	return 0
}

// newerThan reports whether s replaces old. It is a total order: all nodes choose the same switch, in whatever order
// they receive them.
//
// Two switches have the same version if two operators use gossip alone at the same time. It also happens if an operator
// repeats a command through gossip alone because the database stored the switch and the confirmation was lost. A switch
// without an end wins, because a level through gossip alone always has an end. Otherwise the later end wins, and then
// the higher level.
func (s Switch) newerThan(old Switch) bool {
	if s.Version != old.Version {
		return s.Version > old.Version
	}
	if s.Until.IsZero() != old.Until.IsZero() {
		return s.Until.IsZero()
	}
	return s.Until.After(old.Until) || s.Until.Equal(old.Until) && s.Level > old.Level
}

// switchKey is what a switch is about. Of one key the newest switch counts.
type switchKey struct {
	kind   SwitchKind
	region Name
}

// Switches holds the newest switch of each kind and region that this node knows, from the database, gossip and its own
// operator listener. The zero value is ready to use. It is safe for concurrent use.
type Switches struct {
	mu     sync.RWMutex // guards newest
	newest map[switchKey]Switch
}

// Merge adds a switch and reports whether it is news: the first of its kind and region, or newer than the known one. The
// result does not depend on the order of calls, and a repeated call changes nothing. So switches may arrive late,
// twice and by several ways.
func (s *Switches) Merge(n Switch) (news bool) {
	// Gossip carries microseconds. A node that kept nanoseconds would differ from all others.
	n.Until = n.Until.UTC().Truncate(time.Microsecond)
	key := switchKey{n.Kind, n.Region}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, known := s.newest[key]; known && !n.newerThan(old) {
		return false
	}
	if s.newest == nil {
		s.newest = make(map[switchKey]Switch)
	}
	s.newest[key] = n
	return true
}

// Get returns the newest switch of a kind and region, or one without a version.
func (s *Switches) Get(kind SwitchKind, r Name) Switch {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.newest[switchKey{kind, r}]
}

// Level returns the level of a kind and region at the given time.
func (s *Switches) Level(kind SwitchKind, r Name, now time.Time) uint8 {
	return s.Get(kind, r).LevelAt(now)
}

// Evacuated reports whether the region is out of service at the given time.
func (s *Switches) Evacuated(r Name, now time.Time) bool { return s.Level(Evacuation, r, now) > 0 }

// All returns the newest switch of each kind and region that has one, in this order.
func (s *Switches) All() []Switch {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Switch, 0, len(s.newest))
	for _, n := range s.newest {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b Switch) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Region, b.Region))
	})
	return list
}

// Next returns a version higher than every known one.
func (s *Switches) Next() int64 {
	var highest int64
	for _, n := range s.All() {
		highest = max(highest, n.Version)
	}
	return highest + 1
}

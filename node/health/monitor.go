// Package health decides whether this node may be sent punches. A Monitor holds the reasons against it and publishes
// the node's state. A Watcher adds and removes two of these reasons: a wrong clock and a database that only this node
// cannot reach. The package does not judge other nodes, regions or homes. DESIGN.md explains the states.
package health

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/punchclock/punchclock/region"
)

// Cause is the kind of a reason. A Monitor holds at most one reason of each kind.
type Cause string

// The causes. Each has one owner, which sets and clears it.
const (
	Starting   Cause = "starting"   // package node
	WrongClock Cause = "clock"      // Watcher
	NoDatabase Cause = "database"   // Watcher
	Evacuated  Cause = "evacuation" // package evacuation
	draining   Cause = "draining"   // Drain
)

// Monitor holds why this node must not be sent punches. It is safe for concurrent use.
type Monitor struct {
	log *slog.Logger

	// mu guards the fields below. It is held while subscribers are called: they must see the states in the order in
	// which the states arose, or an old "ready" could overtake a "draining".
	mu          sync.Mutex
	reasons     map[Cause]string
	subscribers []func(region.State)
}

// NewMonitor returns the monitor of a node that is starting.
func NewMonitor(log *slog.Logger) *Monitor {
	return &Monitor{log: log, reasons: map[Cause]string{Starting: "starting"}}
}

// OnChange calls f with the present state, and again whenever a cause appears or disappears, even if the state stays
// the same. f must return quickly and must not call the Monitor.
func (m *Monitor) OnChange(f func(region.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subscribers = append(m.subscribers, f)
	f(m.state())
}

// Set gives the reason of a cause, or clears the cause if the reason is empty.
func (m *Monitor) Set(cause Cause, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, before := m.reasons[cause]
	if reason == "" {
		delete(m.reasons, cause)
	} else {
		m.reasons[cause] = reason
	}
	if before == (reason != "") {
		return // the same causes as before; the text is read by NotReady
	}
	state := m.state()
	if cause != Starting || reason == "" { // the steps of the start are no change
		m.log.Warn("health changed", "state", state.String(), "not_ready", m.list())
	}
	for _, tell := range m.subscribers {
		tell(state)
	}
}

// Drain makes the state Draining for the rest of the process's life. Nothing can undo it.
func (m *Monitor) Drain() { m.Set(draining, "draining") }

// State returns what the node tells its peers about itself.
func (m *Monitor) State() region.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state()
}

// state needs mu.
func (m *Monitor) state() region.State {
	_, leaving := m.reasons[draining]
	_, evacuated := m.reasons[Evacuated]
	switch {
	case leaving || evacuated: // whatever else is wrong: peers must not wait for this node
		return region.Draining
	case len(m.reasons) > 0:
		return region.Warming
	default:
		return region.Ready
	}
}

// Ready reports whether the node may be sent punches.
func (m *Monitor) Ready() bool { return m.State() == region.Ready }

// Leaving reports whether connections should move to other nodes: the node drains, or its region is evacuated.
func (m *Monitor) Leaving() bool { return m.State() == region.Draining }

// Has reports whether the cause holds.
func (m *Monitor) Has(cause Cause) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, found := m.reasons[cause]
	return found
}

// NotReady returns the reasons in alphabetical order. The list is empty if the node is ready.
func (m *Monitor) NotReady() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list()
}

// list needs mu.
func (m *Monitor) list() []string {
	return append([]string{}, slices.Sorted(maps.Values(m.reasons))...) // never null in JSON
}

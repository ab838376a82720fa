package node

import (
	"slices"
	"sync"
)

// readiness collects why this node must not be sent punches. Once all reasons
// of the start are gone, only its own faults come back: see watch.go.
type readiness struct {
	mu      sync.Mutex // guards reasons
	reasons map[string]string
}

// The topics under which a reason stands; one topic holds one reason.
const (
	topicStart     = "start"
	topicClock     = "clock"
	topicDatabase  = "database"
	topicDrain     = "drain"
	topicEvacuated = "evacuated"
)

func newReadiness() *readiness {
	return &readiness{reasons: map[string]string{topicStart: "starting"}}
}

// set gives the reason under a topic, or takes it away when it is empty. It
// reports whether the node went from ready to not ready or back.
func (r *readiness) set(topic, reason string) (turned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.reasons) == 0
	if reason == "" {
		delete(r.reasons, topic)
	} else {
		r.reasons[topic] = reason
	}
	return before != (len(r.reasons) == 0)
}

// notReady returns the reasons, sorted; none when the node is ready.
func (r *readiness) notReady() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]string, 0, len(r.reasons))
	for _, reason := range r.reasons {
		list = append(list, reason)
	}
	slices.Sort(list)
	return list
}

// has reports whether a reason stands under the topic.
func (r *readiness) has(topic string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reasons[topic] != ""
}

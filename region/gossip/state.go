package gossip

import (
	"errors"
	"fmt"
)

// The state of a push/pull is a version byte and then messages, each with its
// length before it. Switches, loads and keys
// are sent this way.
const (
	stateVersion = 1
	// maxState is room for two thousand nodes; memberlist would take 20 MB.
	maxState = 64 << 10
)

// state is what one node tells another of all.
type state struct {
	switches []switchNews
	loads    []loadNews
	keys     []keysNews
}

// encodeState writes what has room: switches first, of which there are a few,
// then loads. The others' own broadcasts
// carry the rest of the loads; keys come in another order each time, so that
// all have come after some push/pulls.
func encodeState(s state) []byte {
	b := []byte{stateVersion}
	for _, n := range s.switches {
		b = appendMessage(b, n.encode())
	}
	for _, n := range s.loads {
		b = appendMessage(b, n.encode())
	}
	for _, n := range s.keys {
		b = appendMessage(b, n.encode())
	}
	return b
}

func appendMessage(b, message []byte) []byte {
	if next := appendBytes(b, message); len(next) <= maxState {
		return next
	}
	return b
}

// decodeState reads what it can, up to the first message that cannot be read.
func decodeState(b []byte) (s state, err error) {
	if len(b) > maxState {
		return s, fmt.Errorf("%w: state of %d bytes, at most %d", errMessage, len(b), maxState)
	}
	if len(b) == 0 || b[0] == 0 {
		return s, fmt.Errorf("%w: state without a version", errMessage)
	}
	for b = b[1:]; len(b) > 0; {
		value, rest, ok := cutBytes(b)
		if !ok {
			return s, fmt.Errorf("%w: state is cut off", errMessage)
		}
		m, err := decodeMessage(value)
		switch {
		case errors.Is(err, errUnknownKind):
		case err != nil:
			return s, err
		case m.kind == kindSwitch:
			s.switches = append(s.switches, m.switched)
		case m.kind == kindLoad:
			s.loads = append(s.loads, m.load)
		case m.kind == kindKeys:
			s.keys = append(s.keys, m.keys)
		}
		b = rest
	}
	return s, nil
}

package gossip

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip/gossippb"
)

// maxPushPull has room for more than a thousand nodes. memberlist would accept 20 MB.
const maxPushPull = 64 << 10

// LocalState returns the state that a push/pull sends.
func (d delegate) LocalState(bool) []byte {
	loads, keys := d.g.members.pushPull()
	return encodePushPull(d.g.deps.Switches(), loads, keys)
}

// MergeRemoteState receives the state of a push/pull. News about switches goes on to all nodes. Loads and keys do
// not: a newer load comes within a second, and every push/pull carries keys.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	if !d.g.enter() {
		return
	}
	defer d.g.exit()
	s, err := decodePushPull(b)
	if err != nil {
		d.g.metrics.refuse(refusedPushPull)
		d.g.log.Debug("a push/pull was not accepted as a whole", "error", err)
	}
	for _, received := range s.switches {
		d.g.receiveSwitch(received)
	}
	for _, l := range s.loads {
		d.g.members.setLoad(l)
	}
	for _, k := range s.keys {
		d.g.members.setKeys(k)
	}
}

// encodePushPull writes as much as maxPushPull allows: switches first, because they are few and matter most. Loads
// that do not fit arrive by broadcast. Keys come in another order each time, so all of them arrive after some
// push/pulls.
func encodePushPull(switches []region.Switch, loads []*gossippb.Load, keys []*gossippb.Keys) []byte {
	var s gossippb.PushPull
	left := maxPushPull
	fits := func(m proto.Message) bool {
		size := protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(m)) // the tags 1 to 15 have one size
		if size > left {
			return false
		}
		left -= size
		return true
	}
	for _, known := range switches {
		encoded := encodeSwitch(known)
		switch {
		case !fits(encoded):
		case known.Kind == region.Degradation:
			s.Degradations = append(s.Degradations, encoded)
		default:
			s.Evacuations = append(s.Evacuations, encoded)
		}
	}
	for _, l := range loads {
		if fits(l) {
			s.Loads = append(s.Loads, l)
		}
	}
	for _, k := range keys {
		if fits(k) {
			s.Keys = append(s.Keys, k)
		}
	}
	return marshal(&s)
}

// pushPull is the state that a push/pull received.
type pushPull struct {
	switches []region.Switch
	loads    []*gossippb.Load
	keys     []*gossippb.Keys
}

// decodePushPull returns the valid parts and an error for the others. Bytes that are no PushPull have no valid parts.
func decodePushPull(b []byte) (s pushPull, err error) {
	if len(b) > maxPushPull {
		return s, fmt.Errorf("%w: a push/pull of %d bytes, at most %d are allowed", errMessage, len(b), maxPushPull)
	}
	var encoded gossippb.PushPull
	if err := proto.Unmarshal(b, &encoded); err != nil {
		return s, fmt.Errorf("%w: push/pull: %w", errMessage, err)
	}
	s.loads = encoded.GetLoads()
	for _, list := range [...]struct {
		kind    region.SwitchKind
		encoded []*gossippb.Switch
	}{{region.Evacuation, encoded.GetEvacuations()}, {region.Degradation, encoded.GetDegradations()}} {
		for _, e := range list.encoded {
			received, invalid := decodeSwitch(e, list.kind)
			if invalid != nil {
				err = errors.Join(err, invalid)
				continue
			}
			s.switches = append(s.switches, received)
		}
	}
	for _, k := range encoded.GetKeys() {
		if invalid := checkKeys(k); invalid != nil {
			err = errors.Join(err, invalid)
			continue
		}
		s.keys = append(s.keys, k)
	}
	return s, err
}

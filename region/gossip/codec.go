package gossip

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip/gossippb"
)

// maxMessage is far more than any message of this release has. A larger message might not fit into a packet, and would
// wait in the queue forever.
const maxMessage = 1000

// maxLevel is the highest level that fits into a region.Switch. A newer release may have levels that this one does not
// know.
const maxLevel = 1<<8 - 1

// maxPublicAddrs is two load balancers in three zones with both families, nearly. The metadata has room for little
// more.
const maxPublicAddrs = 8

var (
	errMeta           = errors.New("metadata is not valid")
	errMessage        = errors.New("message is not valid")
	errUnknownContent = errors.New("message has a content of a newer release")
)

// states are the states on the wire. A state that is not in the list reads as Warming, which is never sent punches.
var states = map[region.State]gossippb.State{
	region.Warming:  gossippb.State_STATE_WARMING,
	region.Ready:    gossippb.State_STATE_READY,
	region.Draining: gossippb.State_STATE_DRAINING,
}

// marshal writes a message. Marshalling fails only for text that is not UTF-8, and all texts were checked before.
func marshal(m proto.Message) []byte {
	b, _ := proto.Marshal(m)
	return b
}

// encodeMeta writes the metadata of a member.
func encodeMeta(m region.Member) []byte {
	meta := &gossippb.Meta{
		Region: string(m.Region), State: states[m.State], PeerAddr: m.PeerAddr, PublicUrl: m.PublicURL, Weight: uint32(m.Weight),
	}
	for _, a := range m.PublicAddrs {
		meta.PublicAddrs = append(meta.PublicAddrs, a.AsSlice())
	}
	return marshal(meta)
}

// decodeMeta reads metadata of any release. It returns Region, State, PeerAddr, PublicURL, PublicAddrs and Weight.
func decodeMeta(b []byte) (m region.Member, err error) {
	var meta gossippb.Meta
	if err := proto.Unmarshal(b, &meta); err != nil {
		return region.Member{}, fmt.Errorf("%w: %w", errMeta, err)
	}
	if m.Region, err = region.ParseName(meta.GetRegion()); err != nil {
		return region.Member{}, fmt.Errorf("%w: %w", errMeta, err)
	}
	for state, code := range states {
		if code == meta.GetState() {
			m.State = state
		}
	}
	if m.PeerAddr = meta.GetPeerAddr(); m.PeerAddr != "" {
		host, port, err := splitHostPort(m.PeerAddr)
		if err != nil || host == "" || port == 0 || !printable(m.PeerAddr) {
			return region.Member{}, fmt.Errorf("%w: peer address %q is not host:port", errMeta, m.PeerAddr)
		}
	}
	if m.PublicURL = meta.GetPublicUrl(); !printable(m.PublicURL) {
		return region.Member{}, fmt.Errorf("%w: public URL %q has unprintable characters", errMeta, m.PublicURL)
	}
	m.Weight = uint16(min(meta.GetWeight(), 1<<16-1))
	for _, addr := range meta.GetPublicAddrs() {
		// An address that no client can dial is left out. The node itself is well, and its peers can call it.
		if a, ok := netip.AddrFromSlice(addr); ok && dialable(a) && len(m.PublicAddrs) < maxPublicAddrs {
			m.PublicAddrs = append(m.PublicAddrs, a)
		}
	}
	return m, nil
}

// dialable reports whether DNS may answer the address to a client.
func dialable(a netip.Addr) bool {
	return !a.Is4In6() && a.Zone() == "" && (a.IsGlobalUnicast() || a.IsLoopback())
}

// printable reports whether a text of another node may appear in logs and pages.
func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// nodeID is a short replacement for a node's name.
func nodeID(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum64()
}

// decodeMessage reads a broadcast. Its error is errUnknownContent if a newer release may understand the message, and
// errMessage if no release does.
func decodeMessage(b []byte) (*gossippb.Message, error) {
	if len(b) > maxMessage {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", errMessage, len(b), maxMessage)
	}
	m := new(gossippb.Message)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errMessage, err)
	}
	switch content := m.GetContent().(type) {
	case *gossippb.Message_Load:
		return m, nil
	case *gossippb.Message_Evacuation, *gossippb.Message_Degradation:
		_, err := decodeSwitch(switchOf(m))
		return m, err
	case *gossippb.Message_Keys:
		return m, checkKeys(content.Keys)
	default:
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			return nil, errUnknownContent
		}
		return nil, fmt.Errorf("%w: it is empty", errMessage)
	}
}

func loadMessage(l *gossippb.Load) []byte {
	return marshal(&gossippb.Message{Content: &gossippb.Message_Load{Load: l}})
}

func switchMessage(s region.Switch) []byte {
	m := &gossippb.Message{Content: &gossippb.Message_Evacuation{Evacuation: encodeSwitch(s)}}
	if s.Kind == region.Degradation {
		m.Content = &gossippb.Message_Degradation{Degradation: encodeSwitch(s)}
	}
	return marshal(m)
}

func keysMessage(k *gossippb.Keys) []byte {
	return marshal(&gossippb.Message{Content: &gossippb.Message_Keys{Keys: k}})
}

func encodeLoad(node, seq uint64, l region.Load) *gossippb.Load {
	return &gossippb.Load{
		Node: node, Seq: seq, InFlight: l.InFlight, Capacity: l.Capacity, DatabaseAway: l.DatabaseAway, HomeStuck: l.HomeStuck,
		Level: uint32(l.Level),
	}
}

func decodeLoad(l *gossippb.Load) region.Load {
	return region.Load{
		InFlight: l.GetInFlight(), Capacity: l.GetCapacity(), DatabaseAway: l.GetDatabaseAway(), HomeStuck: l.GetHomeStuck(),
		Level: uint8(min(l.GetLevel(), 1<<8-1)),
	}
}

func encodeSwitch(s region.Switch) *gossippb.Switch {
	encoded := &gossippb.Switch{Region: string(s.Region), Level: uint32(s.Level), Version: s.Version}
	if !s.Until.IsZero() {
		encoded.UntilMicros = s.Until.UnixMicro()
	}
	return encoded
}

// switchOf returns the switch in a message, and its kind.
func switchOf(m *gossippb.Message) (*gossippb.Switch, region.SwitchKind) {
	if m.GetDegradation() != nil {
		return m.GetDegradation(), region.Degradation
	}
	return m.GetEvacuation(), region.Evacuation
}

func decodeSwitch(encoded *gossippb.Switch, kind region.SwitchKind) (region.Switch, error) {
	name, err := region.ParseName(encoded.GetRegion())
	if err != nil {
		return region.Switch{}, fmt.Errorf("%w: switch of %q: %w", errMessage, encoded.GetRegion(), err)
	}
	if encoded.GetLevel() > maxLevel || encoded.GetVersion() < 1 || encoded.GetUntilMicros() < 0 {
		return region.Switch{}, fmt.Errorf("%w: switch has level %d, version %d and ends at %d",
			errMessage, encoded.GetLevel(), encoded.GetVersion(), encoded.GetUntilMicros())
	}
	s := region.Switch{Kind: kind, Region: name, Level: uint8(encoded.GetLevel()), Version: encoded.GetVersion()}
	if encoded.GetUntilMicros() > 0 {
		s.Until = time.UnixMicro(encoded.GetUntilMicros()).UTC()
	}
	return s, nil
}

func checkKeys(k *gossippb.Keys) error {
	if len(k.GetFingerprints()) > maxKeys {
		return fmt.Errorf("%w: it has %d fingerprints, at most %d are allowed", errMessage, len(k.GetFingerprints()), maxKeys)
	}
	for _, f := range k.GetFingerprints() {
		if len(f) != fingerprintSize {
			return fmt.Errorf("%w: a fingerprint has %d bytes, must have %d", errMessage, len(f), fingerprintSize)
		}
	}
	return nil
}

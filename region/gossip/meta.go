package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unicode"
	"unicode/utf8"

	"github.com/punchclock/punchclock/region"
)

// The metadata is a version byte and then fields, each a tag byte, a length
// (uvarint) and a value. Nodes of two releases read each other because a tag's
// meaning never changes, an unknown tag is skipped and a missing one is left
// empty, whatever the version says.
const metaVersion = 1

const (
	tagRegion    = 1 // text
	tagState     = 2 // one byte, see stateCodes
	tagPeerAddr  = 3 // text
	tagPublicURL = 4 // text
	tagWeight    = 5 // uvarint
	tagPublicIP  = 6 // 4 or 16 bytes, once for each address
)

// maxPublicAddrs is two balancers of three zones with both families, nearly: the
// metadata has room for little more.
const maxPublicAddrs = 8

// stateCodes are the states on the wire. They are added, never renumbered. A
// code this release does not know reads as Warming, which is never asked.
var stateCodes = map[region.State]byte{region.Warming: 0, region.Ready: 1, region.Draining: 2}

var errMeta = errors.New("metadata cannot be read")

// encodeMeta writes what others need to know of a member.
func encodeMeta(m region.Member) []byte {
	b := make([]byte, 0, 128)
	b = append(b, metaVersion)
	b = appendField(b, tagRegion, []byte(m.Region))
	b = appendField(b, tagState, []byte{stateCodes[m.State]})
	if m.PeerAddr != "" {
		b = appendField(b, tagPeerAddr, []byte(m.PeerAddr))
	}
	if m.PublicURL != "" {
		b = appendField(b, tagPublicURL, []byte(m.PublicURL))
	}
	b = appendField(b, tagWeight, binary.AppendUvarint(nil, uint64(m.Weight)))
	for _, a := range m.PublicAddrs {
		b = appendField(b, tagPublicIP, a.AsSlice())
	}
	return b
}

// decodeMeta reads metadata of any version. It fills in Region, State,
// PeerAddr, PublicURL, PublicAddrs and Weight.
func decodeMeta(b []byte) (region.Member, error) {
	var m region.Member
	if len(b) == 0 || b[0] == 0 {
		return m, fmt.Errorf("%w: no version", errMeta)
	}
	for b = b[1:]; len(b) > 0; {
		tag := b[0]
		value, rest, ok := cutBytes(b[1:])
		if !ok {
			return m, fmt.Errorf("%w: field %d is cut off", errMeta, tag)
		}
		if !setField(&m, tag, value) {
			return m, fmt.Errorf("%w: field %d is wrong", errMeta, tag)
		}
		b = rest
	}
	if m.Region == "" {
		return m, fmt.Errorf("%w: no region", errMeta)
	}
	return m, nil
}

// setField reports whether the value is one that the tag may have.
func setField(m *region.Member, tag byte, value []byte) bool {
	switch tag {
	case tagRegion:
		name, err := region.ParseName(string(value))
		m.Region = name
		return err == nil
	case tagState:
		if len(value) == 0 {
			return false
		}
		m.State = region.Warming
		for state, code := range stateCodes {
			if code == value[0] {
				m.State = state
			}
		}
		return true
	case tagPeerAddr:
		host, port, err := splitHostPort(string(value))
		m.PeerAddr = string(value)
		return err == nil && host != "" && port != 0 && printable(value)
	case tagPublicURL:
		m.PublicURL = string(value)
		return printable(value)
	case tagWeight:
		weight, n := binary.Uvarint(value)
		m.Weight = uint16(min(weight, 1<<16-1))
		return n > 0
	case tagPublicIP:
		// What no client could dial is left out: the node itself is well.
		if a, ok := netip.AddrFromSlice(value); ok && dialable(a) && len(m.PublicAddrs) < maxPublicAddrs {
			m.PublicAddrs = append(m.PublicAddrs, a)
		}
		return true
	default: // of a newer release
		return true
	}
}

// dialable says whether a client may be sent to the address.
func dialable(a netip.Addr) bool {
	return !a.Is4In6() && a.Zone() == "" && (a.IsGlobalUnicast() || a.IsLoopback())
}

// printable keeps what others sent out of logs and pages unless it is text.
func printable(b []byte) bool {
	for _, r := range string(b) {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func appendField(b []byte, tag byte, value []byte) []byte {
	return appendBytes(append(b, tag), value)
}

func appendBytes(b, value []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// cutBytes splits what appendBytes wrote from what follows it.
func cutBytes(b []byte) (value, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return b[n:end], b[end:], true
}

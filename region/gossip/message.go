package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"github.com/punchclock/punchclock/region"
)

// A message is a kind byte and the kind's fields. A kind's fields never
// change: more of them are appended, and a release that does not know them
// ignores the rest of the message. A release that does not know a kind drops
// the message.
const (
	kindLoad    = 1
	kindCompany = 2
	kindSwitch  = 3
	kindKeys    = 4
)

// maxHops ends a company change that goes round in circles because the nodes
// forget what they have heard (see newsroom). A change reaches a hundred nodes
// in about five hops, so this leaves ample room.
const maxHops = 16

// maxCompany is the longest company name in bytes, as in the public API.
const maxCompany = 64

var (
	errMessage     = errors.New("message cannot be read")
	errUnknownKind = errors.New("message of a newer release")
)

// loadNews is how busy a node is.
type loadNews struct {
	node uint64 // nodeID of its name: the name would make most of the message
	seq  uint64 // grows with each that the node sends
	load region.Load
}

// companyNews says that a company has a new version.
type companyNews struct {
	company string
	version int64
	hops    uint8 // how many nodes passed it on
}

// switchNews is an operator's switch.
type switchNews struct {
	region.Evacuation
	hops uint8
}

// keysNews is which keys a node has.
type keysNews struct {
	node uint64 // as in loadNews
	seq  uint64 // grows with each that the node sends, never 0
	hops uint8
	// The fingerprints one after the other, the sending key's first. A string,
	// so that messages can be compared.
	ring string
}

// news is what a newsroom passes on: of one key, the highest version.
type news interface {
	key() string
	number() int64
	passedOn() uint8
	encode() []byte
}

func (n companyNews) key() string     { return n.company }
func (n companyNews) number() int64   { return n.version }
func (n companyNews) passedOn() uint8 { return n.hops }

// No company has such a name.
func (n switchNews) key() string     { return "\x00" + string(n.Region) }
func (n switchNews) number() int64   { return n.Version }
func (n switchNews) passedOn() uint8 { return n.hops }

// No company and no region has such a name.
func (n keysNews) key() string     { return "\x01" + string(binary.BigEndian.AppendUint64(nil, n.node)) }
func (n keysNews) number() int64   { return int64(n.seq) }
func (n keysNews) passedOn() uint8 { return n.hops }

// The flags of a switch, in one byte.
const flagOn = 1

// The flags of a load, in one byte.
const (
	flagDatabaseAway = 1
	flagHomeStuck    = 2
)

// message is one of the four.
type message struct {
	kind     byte
	load     loadNews
	company  companyNews
	switched switchNews
	keys     keysNews
}

// nodeID is a short stand-in for a node's name.
func nodeID(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum64()
}

func (n loadNews) encode() []byte {
	b := make([]byte, 0, 32)
	b = append(b, kindLoad)
	b = binary.BigEndian.AppendUint64(b, n.node)
	b = binary.AppendUvarint(b, n.seq)
	b = binary.AppendUvarint(b, uint64(n.load.InFlight))
	b = binary.AppendUvarint(b, uint64(n.load.Capacity))
	var flags byte
	if n.load.DatabaseAway {
		flags |= flagDatabaseAway
	}
	if n.load.HomeStuck {
		flags |= flagHomeStuck
	}
	return append(b, flags)
}

func (n companyNews) encode() []byte {
	b := make([]byte, 0, 16+len(n.company))
	b = append(b, kindCompany, n.hops)
	b = binary.AppendUvarint(b, uint64(n.version))
	return appendBytes(b, []byte(n.company))
}

// valid says whether the news may be sent and believed.
func (n companyNews) valid() bool {
	return n.company != "" && len(n.company) <= maxCompany && n.version > 0 && printable([]byte(n.company))
}

// decodeMessage reads one message. It returns errMessage, or errUnknownKind
// when a newer release may understand it.
func decodeMessage(b []byte) (message, error) {
	if len(b) == 0 {
		return message{}, fmt.Errorf("%w: it is empty", errMessage)
	}
	m := message{kind: b[0]}
	var ok bool
	switch m.kind {
	case kindLoad:
		m.load, ok = decodeLoad(b[1:])
	case kindCompany:
		m.company, ok = decodeCompany(b[1:])
	case kindSwitch:
		m.switched, ok = decodeSwitch(b[1:])
	case kindKeys:
		m.keys, ok = decodeKeys(b[1:])
	default:
		return message{}, errUnknownKind
	}
	if !ok {
		return message{}, fmt.Errorf("%w: kind %d", errMessage, m.kind)
	}
	return m, nil
}

func decodeLoad(b []byte) (n loadNews, ok bool) {
	if len(b) < 8 {
		return n, false
	}
	n.node = binary.BigEndian.Uint64(b)
	b = b[8:]
	var values [3]uint64
	for i := range values {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return n, false
		}
		values[i], b = v, b[size:]
	}
	n.seq = values[0]
	if values[1] > math.MaxUint32 || values[2] > math.MaxUint32 {
		return n, false
	}
	n.load = region.Load{InFlight: uint32(values[1]), Capacity: uint32(values[2])}
	if len(b) > 0 {
		n.load.DatabaseAway, n.load.HomeStuck = b[0]&flagDatabaseAway != 0, b[0]&flagHomeStuck != 0
	}
	return n, true
}

func decodeCompany(b []byte) (n companyNews, ok bool) {
	if len(b) == 0 {
		return n, false
	}
	n.hops = b[0]
	version, size := binary.Uvarint(b[1:])
	if size <= 0 || version > math.MaxInt64 {
		return n, false
	}
	company, _, ok := cutBytes(b[1+size:])
	n.version, n.company = int64(version), string(company)
	return n, ok && n.valid()
}

func (n switchNews) encode() []byte {
	b := make([]byte, 0, 32+len(n.Region))
	var flags byte
	if n.On {
		flags |= flagOn
	}
	b = append(b, kindSwitch, n.hops, flags)
	b = binary.AppendUvarint(b, uint64(n.Version))
	var until int64
	if !n.Until.IsZero() {
		until = n.Until.UnixMicro()
	}
	b = binary.AppendUvarint(b, uint64(until))
	return appendBytes(b, []byte(n.Region))
}

func decodeSwitch(b []byte) (n switchNews, ok bool) {
	if len(b) < 2 {
		return n, false
	}
	n.hops, n.On = b[0], b[1]&flagOn != 0
	b = b[2:]
	var values [2]uint64
	for i := range values {
		v, size := binary.Uvarint(b)
		if size <= 0 || v > math.MaxInt64 {
			return n, false
		}
		values[i], b = v, b[size:]
	}
	name, _, ok := cutBytes(b)
	n.Version, n.Region = int64(values[0]), region.Name(name)
	if values[1] > 0 {
		n.Until = time.UnixMicro(int64(values[1])).UTC()
	}
	return n, ok && n.valid()
}

// valid says whether the news may be sent and believed.
func (n switchNews) valid() bool {
	_, err := region.ParseName(string(n.Region))
	return err == nil && n.Version > 0
}

func (n keysNews) encode() []byte {
	b := make([]byte, 0, 24+len(n.ring))
	b = append(b, kindKeys, n.hops)
	b = binary.BigEndian.AppendUint64(b, n.node)
	b = binary.AppendUvarint(b, n.seq)
	return appendBytes(b, []byte(n.ring))
}

func decodeKeys(b []byte) (n keysNews, ok bool) {
	const fixed = 1 + 8 // hops and node
	if len(b) < fixed {
		return n, false
	}
	n.hops, n.node = b[0], binary.BigEndian.Uint64(b[1:])
	seq, size := binary.Uvarint(b[fixed:])
	if size <= 0 || seq == 0 || seq > math.MaxInt64 {
		return n, false
	}
	ring, _, ok := cutBytes(b[fixed+size:])
	n.seq, n.ring = seq, string(ring)
	return n, ok && len(ring)%fingerprintSize == 0 && len(ring) <= maxKeys*fingerprintSize
}

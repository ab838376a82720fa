package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip/gossippb"
)

// newerField returns a field that this release does not know.
func newerField(t *rapid.T) []byte {
	b := protowire.AppendTag(nil, protowire.Number(rapid.IntRange(100, 1000).Draw(t, "field of a newer release")), protowire.BytesType)
	return protowire.AppendBytes(b, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "its value"))
}

func TestMetadataRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := region.Member{
			Region:    region.Name(rapid.StringMatching(`[a-z]([a-z0-9-]{0,30})[a-z0-9]`).Draw(t, "region")),
			State:     rapid.SampledFrom([]region.State{region.Warming, region.Ready, region.Draining}).Draw(t, "state"),
			PeerAddr:  rapid.SampledFrom([]string{"", "127.0.0.1:7400", "[::1]:1", "node.example:65535"}).Draw(t, "peer"),
			PublicURL: rapid.SampledFrom([]string{"", "https://é.example/"}).Draw(t, "url"),
			Weight:    rapid.Uint16().Draw(t, "weight"),
			PublicAddrs: rapid.SliceOfN(rapid.SampledFrom([]netip.Addr{
				netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::1"),
			}), 0, maxPublicAddrs).Draw(t, "addresses"),
		}
		if len(want.PublicAddrs) == 0 {
			want.PublicAddrs = nil // an empty list is read as nil
		}
		b := encodeMeta(want)
		if got, err := decodeMeta(b); !reflect.DeepEqual(got, want) || err != nil {
			t.Fatalf("decodeMeta(%x) = %+v, %v; want %+v", b, got, err, want)
		}
		b = slices.Concat(newerField(t), b, newerField(t))
		if got, err := decodeMeta(b); !reflect.DeepEqual(got, want) || err != nil {
			t.Fatalf("decodeMeta(%x) of a newer release = %+v, %v; want %+v", b, got, err, want)
		}
	})
}

// TestMetadataFits holds memberlist's limit: the longest region name and names of usual length fit beside eight
// addresses.
func TestMetadataFits(t *testing.T) {
	m := region.Member{
		Region: region.Name("r" + strings.Repeat("x", 31)), State: region.Draining, Weight: 1<<16 - 1,
		PeerAddr: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", PublicURL: "https://" + strings.Repeat("u", 190) + ".example",
	}
	for i := range byte(maxPublicAddrs) {
		m.PublicAddrs = append(m.PublicAddrs, netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: i + 1}))
	}
	if n := len(encodeMeta(m)); n > memberlist.MetaMaxSize {
		t.Errorf("the metadata has %d bytes, memberlist allows %d", n, memberlist.MetaMaxSize)
	}
	m.Node = "n"
	if err := validateMeta(m); err != nil {
		t.Errorf("validateMeta: %v", err)
	}
}

// TestWireFormat compares the bytes with the bytes of the first release. Every later release must read and write them.
func TestWireFormat(t *testing.T) {
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"metadata": {encodeMeta(region.Member{
			Region: "us-east", State: region.Draining, PeerAddr: "10.0.0.1:7400", PublicURL: "https://a.example", Weight: 300,
			PublicAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		}), "0a0775732d65617374" + "1002" + "1a0d31302e302e302e313a37343030" + "221168747470733a2f2f612e6578616d706c65" + "28ac02" +
			"3204c0000201" + "321020010db8000000000000000000000001"},
		"load": {loadMessage(encodeLoad(0x0102030405060708, 300, region.Load{InFlight: 5, Capacity: 128, DatabaseAway: true, HomeStuck: true, Level: 2})),
			"0a17" + "090807060504030201" + "10ac02" + "1805" + "208001" + "2801" + "3001" + "3802"},
		"evacuation": {switchMessage(region.Switch{Region: "eu-west", Level: 1, Version: 7, Until: time.UnixMicro(1)}),
			"120f" + "0a0765752d77657374" + "1001" + "1807" + "2001"},
		"degradation": {switchMessage(region.Switch{Kind: region.Degradation, Region: "eu-west", Level: 3, Version: 7, Until: time.UnixMicro(1)}),
			"220f" + "0a0765752d77657374" + "1003" + "1807" + "2001"},
		"keys": {keysMessage(&gossippb.Keys{Node: 1, Seq: 2, Fingerprints: [][]byte{[]byte("12345678")}}),
			"1a15" + "090100000000000000" + "1002" + "1a083132333435363738"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is written as\n%s, want\n%s", name, got, c.want)
		}
	}
	if got, want := FingerprintOf([]byte("0123456789abcdef")).String(), "f552573188604a9c"; got != want {
		t.Errorf("the fingerprint of a key is %s, want %s", got, want)
	}
	if got, want := nodeID("us-east-a-0123456789"), uint64(0x5cd22b5f46f7ca89); got != want {
		t.Errorf("the id of a node is %#x, want %#x", got, want)
	}
}

func TestUnknownStateIsNotReady(t *testing.T) {
	b := marshal(&gossippb.Meta{Region: "us-east", State: 77})
	if m, err := decodeMeta(b); err != nil || m.State != region.Warming {
		t.Errorf("an unknown state is read as %s, %v; want warming", m.State, err)
	}
}

// TestUndialableAddressesAreLeftOut: peers still call a node whose public addresses are not valid.
func TestUndialableAddressesAreLeftOut(t *testing.T) {
	meta := &gossippb.Meta{Region: "us-east", PublicAddrs: [][]byte{
		{}, {1, 2, 3}, {0, 0, 0, 0}, {224, 0, 0, 1}, make([]byte, 16), {10, 0, 0, 1}, append(make([]byte, 10), 0xff, 0xff, 10, 0, 0, 2),
	}}
	m, err := decodeMeta(marshal(meta))
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.1")}; err != nil || !reflect.DeepEqual(m.PublicAddrs, want) {
		t.Errorf("the addresses are read as %v, %v; want %v", m.PublicAddrs, err, want)
	}
	for range 20 {
		meta.PublicAddrs = append(meta.PublicAddrs, []byte{10, 0, 0, 2})
	}
	if m, err := decodeMeta(marshal(meta)); err != nil || len(m.PublicAddrs) != maxPublicAddrs {
		t.Errorf("%d addresses are read, %v; want %d", len(m.PublicAddrs), err, maxPublicAddrs)
	}
}

// drawMessage returns a valid message and its bytes.
func drawMessage(t *rapid.T) *gossippb.Message {
	switch rapid.SampledFrom([]string{"load", "switch", "keys"}).Draw(t, "content") {
	case "load":
		return &gossippb.Message{Content: &gossippb.Message_Load{Load: encodeLoad(rapid.Uint64().Draw(t, "node"), rapid.Uint64().Draw(t, "seq"), region.Load{
			InFlight: rapid.Uint32().Draw(t, "in flight"), Capacity: rapid.Uint32().Draw(t, "capacity"),
			DatabaseAway: rapid.Bool().Draw(t, "away"), HomeStuck: rapid.Bool().Draw(t, "stuck"),
		})}}
	case "switch":
		e := region.Switch{
			Kind:   rapid.SampledFrom([]region.SwitchKind{region.Evacuation, region.Degradation}).Draw(t, "kind"),
			Region: "eu-west", Level: rapid.Uint8().Draw(t, "level"), Version: rapid.Int64Range(1, 1<<62).Draw(t, "version"),
		}
		if rapid.Bool().Draw(t, "ends") {
			e.Until = time.UnixMicro(rapid.Int64Range(1, 1<<53).Draw(t, "until")).UTC()
		}
		m, err := decodeMessage(switchMessage(e))
		if err != nil {
			t.Fatalf("%v is read as %v", e, err)
		}
		if got, err := decodeSwitch(switchOf(m)); got != e || err != nil {
			t.Fatalf("%v is read as %v, %v", e, got, err)
		}
		return m
	default:
		k := &gossippb.Keys{Node: rapid.Uint64().Draw(t, "node"), Seq: rapid.Uint64().Draw(t, "seq")}
		for range rapid.IntRange(0, maxKeys).Draw(t, "keys") {
			k.Fingerprints = append(k.Fingerprints, rapid.SliceOfN(rapid.Byte(), fingerprintSize, fingerprintSize).Draw(t, "fingerprint"))
		}
		return &gossippb.Message{Content: &gossippb.Message_Keys{Keys: k}}
	}
}

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawMessage(t)
		b := marshal(want)
		if len(b) > maxMessage {
			t.Fatalf("the message has %d bytes, at most %d are allowed", len(b), maxMessage)
		}
		if got, err := decodeMessage(b); err != nil || !proto.Equal(got, want) {
			t.Fatalf("decodeMessage(%x) = %v, %v; want %v", b, got, err, want)
		}
		b = append(b, newerField(t)...)
		got, err := decodeMessage(b)
		if err != nil {
			t.Fatalf("decodeMessage(%x) of a newer release: %v", b, err)
		}
		if got.ProtoReflect().SetUnknown(nil); !proto.Equal(got, want) {
			t.Fatalf("decodeMessage(%x) of a newer release = %v, want %v", b, got, want)
		}
	})
}

func switchBytes(e *gossippb.Switch) []byte {
	return marshal(&gossippb.Message{Content: &gossippb.Message_Evacuation{Evacuation: e}})
}

func TestInvalidMessagesAreRefused(t *testing.T) {
	fingerprint := []byte("12345678")
	for name, b := range map[string][]byte{
		"empty":                    {},
		"cut off":                  loadMessage(&gossippb.Load{Node: 1, Seq: 300})[:11],
		"no protobuf":              []byte("what is this?"),
		"evacuation of no region":  switchBytes(&gossippb.Switch{Version: 1}),
		"evacuation without UTF-8": append(slices.Clone(switchBytes(&gossippb.Switch{Region: "eu", Version: 1}))[:4], 0xff, 0xff, 0x18, 1),
		"evacuation of a bad name": switchBytes(&gossippb.Switch{Region: "EU", Version: 1}),
		"evacuation version 0":     switchBytes(&gossippb.Switch{Region: "eu-west"}),
		"evacuation version -1":    switchBytes(&gossippb.Switch{Region: "eu-west", Version: -1}),
		"level 256":                switchBytes(&gossippb.Switch{Region: "eu-west", Level: 256, Version: 1}),
		"evacuation until -1":      switchBytes(&gossippb.Switch{Region: "eu-west", Version: 1, UntilMicros: -1}),
		"short fingerprint":        keysMessage(&gossippb.Keys{Seq: 1, Fingerprints: [][]byte{fingerprint[:7]}}),
		"long fingerprint":         keysMessage(&gossippb.Keys{Seq: 1, Fingerprints: [][]byte{append(fingerprint, 9)}}),
		"too many fingerprints":    keysMessage(&gossippb.Keys{Seq: 1, Fingerprints: slices.Repeat([][]byte{fingerprint}, maxKeys+1)}),
		"too long": protowire.AppendBytes(protowire.AppendTag(loadMessage(&gossippb.Load{Node: 1, Seq: 1}), 100, protowire.BytesType),
			make([]byte, maxMessage)),
	} {
		if m, err := decodeMessage(b); !errors.Is(err, errMessage) {
			t.Errorf("%s: decodeMessage(%x) = %v, %v; want errMessage", name, b, m, err)
		}
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	if _, err := decodeMessage(unknown); !errors.Is(err, errUnknownContent) {
		t.Errorf("a message with another content fails with %v, want errUnknownContent", err)
	}
}

func TestInvalidMetadataIsRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":             nil,
		"no protobuf":       {1, 2, 3},
		"cut off":           encodeMeta(region.Member{Region: "us-east", PublicURL: "https://a.example"})[:15],
		"bad region":        marshal(&gossippb.Meta{Region: "Nowhere!"}),
		"bad peer address":  marshal(&gossippb.Meta{Region: "us-east", PeerAddr: "x"}),
		"peer without port": marshal(&gossippb.Meta{Region: "us-east", PeerAddr: "a:0"}),
		"line break in URL": marshal(&gossippb.Meta{Region: "us-east", PublicUrl: "https://a\nb"}),
	} {
		if m, err := decodeMeta(b); !errors.Is(err, errMeta) {
			t.Errorf("%s: decodeMeta(%x) = %+v, %v; want errMeta", name, b, m, err)
		}
	}
}

func TestPushPullRoundTrip(t *testing.T) {
	var loads []*gossippb.Load
	for i := range uint64(300) {
		loads = append(loads, encodeLoad(i*i, i, region.Load{InFlight: uint32(i), Capacity: 1000}))
	}
	keys := []*gossippb.Keys{{Node: 1, Seq: 1}, {Node: 2, Seq: 300, Fingerprints: [][]byte{[]byte("01234567"), []byte("89abcdef")}}}
	switches := []region.Switch{
		{Region: "eu-west", Level: 1, Version: 3, Until: time.UnixMicro(5).UTC()}, {Region: "us-east", Version: 1},
		{Kind: region.Degradation, Region: "eu-west", Level: 3, Version: 2},
	}
	b := encodePushPull(switches, loads, keys)
	same := func(s pushPull) bool {
		return slices.Equal(s.switches, switches) &&
			slices.EqualFunc(s.loads, loads, func(a, b *gossippb.Load) bool { return proto.Equal(a, b) }) &&
			slices.EqualFunc(s.keys, keys, func(a, b *gossippb.Keys) bool { return proto.Equal(a, b) })
	}
	if got, err := decodePushPull(b); err != nil || !same(got) {
		t.Errorf("decodePushPull: %v, %d loads, keys %v, switches %v; want what was written", err, len(got.loads), got.keys, got.switches)
	}
	rapid.Check(t, func(t *rapid.T) {
		if got, err := decodePushPull(slices.Concat(newerField(t), b, newerField(t))); err != nil || !same(got) {
			t.Fatalf("decodePushPull of a newer release: %v, %d loads; want what was written", err, len(got.loads))
		}
	})
}

// TestPushPullSkipsInvalidParts holds that an invalid part does not keep the valid ones from being read.
func TestPushPullSkipsInvalidParts(t *testing.T) {
	b := marshal(&gossippb.PushPull{
		Evacuations: []*gossippb.Switch{{Region: "EU", Version: 1}, {Region: "eu-west", Version: 1}}, Degradations: []*gossippb.Switch{{Region: "EU", Version: 1}},
		Loads: []*gossippb.Load{{Node: 1, Seq: 1}},
		Keys:  []*gossippb.Keys{{Node: 1, Seq: 1, Fingerprints: [][]byte{{1}}}, {Node: 2, Seq: 1}},
	})
	got, err := decodePushPull(b)
	if !errors.Is(err, errMessage) || len(got.switches) != 1 || len(got.loads) != 1 || len(got.keys) != 1 {
		t.Errorf("decodePushPull = %+v, %v; want one of each, and errMessage", got, err)
	}
	for name, b := range map[string][]byte{"cut off": b[:len(b)-1], "too long": make([]byte, maxPushPull+1), "no protobuf": []byte("what is this?")} {
		if _, err := decodePushPull(b); !errors.Is(err, errMessage) {
			t.Errorf("%s: decodePushPull returns %v, want errMessage", name, err)
		}
	}
}

// TestPushPullHasALimit fills the state with the loads of too many nodes. Evacuations must always have room.
func TestPushPullHasALimit(t *testing.T) {
	var loads []*gossippb.Load
	for i := range uint64(10_000) {
		loads = append(loads, encodeLoad(i, 1<<40, region.Load{InFlight: 1 << 20, Capacity: 1 << 20}))
	}
	b := encodePushPull([]region.Switch{{Region: "eu-west", Level: 1, Version: 1}}, loads, nil)
	if len(b) > maxPushPull || len(b) < maxPushPull-100 {
		t.Errorf("%d loads are written in %d bytes, want as many as fit into %d", len(loads), len(b), maxPushPull)
	}
	if got, err := decodePushPull(b); err != nil || len(got.switches) != 1 {
		t.Errorf("%d evacuations are read, %v; want one", len(got.switches), err)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(encodeMeta(region.Member{Region: "us-east", State: region.Ready, PeerAddr: "10.0.0.1:7400", PublicURL: "https://a.example", Weight: 100}))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0x10, 99, 0x0a, 2, 'u', 's'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		if _, err := region.ParseName(string(m.Region)); err != nil {
			t.Errorf("decodeMeta(%x) has the region %q", b, m.Region)
		}
		if again, err := decodeMeta(encodeMeta(m)); !reflect.DeepEqual(again, m) || err != nil {
			t.Errorf("%+v is read as %+v, %v after it was written again", m, again, err)
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(loadMessage(&gossippb.Load{Node: 1, Seq: 2, InFlight: 3, Capacity: 4}))
	f.Add(switchMessage(region.Switch{Region: "eu-west", Level: 1, Version: 7}))
	f.Add(keysMessage(&gossippb.Keys{Node: 1, Seq: 2, Fingerprints: [][]byte{[]byte("01234567")}}))
	f.Add([]byte{99})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		if len(b) > maxMessage || m.GetContent() == nil {
			t.Errorf("decodeMessage(%x) = %v", b, m)
		}
		if again, err := decodeMessage(marshal(m)); err != nil || !proto.Equal(again, m) {
			t.Errorf("%v is read as %v, %v after it was written again", m, again, err)
		}
	})
}

func FuzzDecodePushPull(f *testing.F) {
	f.Add(encodePushPull([]region.Switch{{Region: "eu-west", Level: 1, Version: 7}}, []*gossippb.Load{{Node: 1, Seq: 2}},
		[]*gossippb.Keys{{Node: 1, Seq: 2, Fingerprints: [][]byte{[]byte("01234567")}}}))
	f.Add([]byte{0x0a, 0, 0x12, 0, 0x1a, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodePushPull(b)
		if err != nil {
			return
		}
		again, err := decodePushPull(encodePushPull(s.switches, s.loads, s.keys))
		if err != nil || !slices.Equal(again.switches, s.switches) || len(again.loads) != len(s.loads) || len(again.keys) != len(s.keys) {
			t.Errorf("%+v is read as %+v, %v after it was written again", s, again, err)
		}
	})
}

// TestNotifyMsgNeverPanics passes any bytes to the callbacks of memberlist.
func TestNotifyMsgNeverPanics(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "valid") {
			b = marshal(drawMessage(t))
		}
		given := bytes.Clone(b)
		delegate{n.Gossip}.NotifyMsg(b)
		delegate{n.Gossip}.MergeRemoteState(b, false)
		if !bytes.Equal(b, given) {
			t.Fatalf("%x became %x", given, b)
		}
	})
}

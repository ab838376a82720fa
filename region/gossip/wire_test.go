package gossip

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/region"
)

func TestMetadataIsReadAsWritten(t *testing.T) {
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
			want.PublicAddrs = nil // as nothing is read
		}
		b := encodeMeta(want)
		if got, err := decodeMeta(b); !reflect.DeepEqual(got, want) || err != nil {
			t.Fatalf("decodeMeta(%x) = %+v, %v; want %+v", b, got, err, want)
		}
		// A newer release adds fields, in any place, and a version.
		b[0] = rapid.ByteRange(1, 255).Draw(t, "version")
		field := appendField(nil, rapid.ByteRange(7, 255).Draw(t, "tag"), rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "value"))
		b = append(append([]byte{b[0]}, field...), b[1:]...)
		if got, err := decodeMeta(b); !reflect.DeepEqual(got, want) || err != nil {
			t.Fatalf("decodeMeta(%x) of a newer release = %+v, %v; want %+v", b, got, err, want)
		}
	})
}

// These bytes are what other releases send: they must be readable forever.
func TestTheWireFormatStays(t *testing.T) {
	m := region.Member{Region: "us-east", State: region.Draining, PeerAddr: "10.0.0.1:7400", PublicURL: "https://a.example", Weight: 300}
	meta := append([]byte{1, 1, 7}, "us-east"...)
	meta = append(meta, 2, 1, 2, 3, 13)
	meta = append(meta, "10.0.0.1:7400"...)
	meta = append(meta, 4, 17)
	meta = append(meta, "https://a.example"...)
	meta = append(meta, 5, 2, 0xac, 0x02)
	if got := encodeMeta(m); !bytes.Equal(got, meta) {
		t.Errorf("metadata without addresses is written as\n%x, want\n%x", got, meta)
	}
	m.PublicAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	meta = append(meta, 6, 4, 192, 0, 2, 1, 6, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	if got := encodeMeta(m); !bytes.Equal(got, meta) {
		t.Errorf("metadata is written as\n%x, want\n%x", got, meta)
	}
	load := loadNews{node: 0x0102030405060708, seq: 300, load: region.Load{InFlight: 5, Capacity: 128, DatabaseAway: true}}
	if got, want := load.encode(), []byte{1, 1, 2, 3, 4, 5, 6, 7, 8, 0xac, 0x02, 5, 0x80, 0x01, 1}; !bytes.Equal(got, want) {
		t.Errorf("a load is written as %x, want %x", got, want)
	}
	load.load.HomeStuck = true
	flags := load.encode()
	if got := flags[len(flags)-1]; got != 3 {
		t.Errorf("both flags are written as %x, want 3", got)
	}
	flags[len(flags)-1] = 0xff // a newer release has more of them
	if m, err := decodeMessage(flags); err != nil || m.load != load {
		t.Errorf("a load with all flags is read as %+v, %v; want %+v", m.load, err, load)
	}
	company := companyNews{company: "acme", version: 300, hops: 3}
	if got, want := company.encode(), []byte{2, 3, 0xac, 0x02, 4, 'a', 'c', 'm', 'e'}; !bytes.Equal(got, want) {
		t.Errorf("a company change is written as %x, want %x", got, want)
	}
	keys := keysNews{node: 0x0102030405060708, seq: 300, hops: 3, ring: "0123456789abcdef"}
	if got, want := keys.encode(), append([]byte{4, 3, 1, 2, 3, 4, 5, 6, 7, 8, 0xac, 0x02, 16}, "0123456789abcdef"...); !bytes.Equal(got, want) {
		t.Errorf("a node's keys are written as %x, want %x", got, want)
	}
	if got, want := FingerprintOf([]byte("0123456789abcdef")).String(), "f552573188604a9c"; got != want {
		t.Errorf("the fingerprint of a key is %s, want %s", got, want)
	}
	if got, want := nodeID("us-east-a-0123456789"), uint64(0x5cd22b5f46f7ca89); got != want {
		t.Errorf("the id of a node is %#x, want %#x", got, want)
	}
}

func TestAStateOfTheFutureIsNotReady(t *testing.T) {
	b := appendField(encodeMeta(region.Member{Region: "us-east", State: region.Ready}), tagState, []byte{77, 1, 2})
	if m, err := decodeMeta(b); err != nil || m.State != region.Warming {
		t.Errorf("an unknown state is read as %s, %v; want warming", m.State, err)
	}
}

// A node whose addresses make no sense is still asked by its peers.
func TestAddressesThatNobodyCouldDialAreLeftOut(t *testing.T) {
	b := encodeMeta(region.Member{Region: "us-east"})
	for _, value := range [][]byte{{}, {1, 2, 3}, {0, 0, 0, 0}, {224, 0, 0, 1}, make([]byte, 16), {10, 0, 0, 1}, append(make([]byte, 10), 0xff, 0xff, 10, 0, 0, 2)} {
		b = appendField(b, tagPublicIP, value)
	}
	m, err := decodeMeta(b)
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.1")}; err != nil || !reflect.DeepEqual(m.PublicAddrs, want) {
		t.Errorf("the addresses are read as %v, %v; want %v", m.PublicAddrs, err, want)
	}
	for range 20 {
		b = appendField(b, tagPublicIP, []byte{10, 0, 0, 2})
	}
	if m, err := decodeMeta(b); err != nil || len(m.PublicAddrs) != maxPublicAddrs {
		t.Errorf("%d addresses are read, %v; want %d", len(m.PublicAddrs), err, maxPublicAddrs)
	}
}

func TestMessagesAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := message{kind: kindLoad, load: loadNews{
			node: rapid.Uint64().Draw(t, "node"), seq: rapid.Uint64().Draw(t, "seq"),
			load: region.Load{InFlight: rapid.Uint32().Draw(t, "in flight"), Capacity: rapid.Uint32().Draw(t, "capacity"), DatabaseAway: rapid.Bool().Draw(t, "away"),
				HomeStuck: rapid.Bool().Draw(t, "stuck")},
		}}
		b := want.load.encode()
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 1:
			want = message{kind: kindCompany, company: companyNews{
				company: rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(t, "name"),
				version: rapid.Int64Range(1, math.MaxInt64).Draw(t, "version"), hops: rapid.Byte().Draw(t, "hops"),
			}}
			b = want.company.encode()
		case 2:
			want = message{kind: kindKeys, keys: keysNews{
				node: rapid.Uint64().Draw(t, "node"), seq: rapid.Uint64Range(1, math.MaxInt64).Draw(t, "seq"), hops: rapid.Byte().Draw(t, "hops"),
				ring: strings.Repeat(rapid.StringMatching(`[a-z]{8}`).Draw(t, "key"), rapid.IntRange(0, maxKeys).Draw(t, "keys")),
			}}
			b = want.keys.encode()
		}
		b = append(b, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "fields of a newer release")...)
		if got, err := decodeMessage(b); got != want || err != nil {
			t.Fatalf("decodeMessage(%x) = %+v, %v; want %+v", b, got, err, want)
		}
	})
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	for _, b := range [][]byte{
		{}, {kindLoad}, {kindLoad, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1}, {kindCompany}, {kindCompany, 0}, {kindCompany, 0, 1, 5, 'a'},
		{kindCompany, 0, 0, 1, 'a'}, {kindCompany, 0, 1, 0}, {kindCompany, 0, 1, 1, '\n'}, {kindCompany, 0, 1, 1, 0xff},
		loadNews{load: region.Load{}}.encode()[:11], companyNews{company: string(make([]byte, 65)), version: 1}.encode(),
		{kindCompany, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 'a'},
		{kindLoad, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		{kindKeys}, {kindKeys, 0, 1, 2, 3, 4, 5, 6, 7, 8}, keysNews{}.encode(), keysNews{seq: 1, ring: "1234567"}.encode(),
		keysNews{seq: 1, ring: "12345678"}.encode()[:19], keysNews{seq: 1, ring: strings.Repeat("12345678", maxKeys+1)}.encode(),
	} {
		if m, err := decodeMessage(b); !errors.Is(err, errMessage) {
			t.Errorf("decodeMessage(%x) = %+v, %v; want errMessage", b, m, err)
		}
	}
	if _, err := decodeMessage([]byte{99, 1}); !errors.Is(err, errUnknownKind) {
		t.Errorf("a message of another kind fails with %v, want errUnknownKind", err)
	}
	for _, b := range [][]byte{
		nil, {0}, {1}, {1, 1}, {1, 1, 9, 'a'}, {1, 1, 2, 'A', 'b'}, {1, 1, 2, 'u', 's', tagState, 0}, {1, 1, 2, 'u', 's', tagPeerAddr, 1, 'x'},
		{1, 1, 2, 'u', 's', tagWeight, 0}, {1, 1, 2, 'u', 's', tagPublicURL, 1, 7}, {1, tagState, 1, 1},
		{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'u'},
	} {
		if m, err := decodeMeta(b); !errors.Is(err, errMeta) {
			t.Errorf("decodeMeta(%x) = %+v, %v; want errMeta", b, m, err)
		}
	}
}

func TestStateIsReadAsWritten(t *testing.T) {
	var loads []loadNews
	for i := range uint64(300) {
		loads = append(loads, loadNews{node: i * i, seq: i, load: region.Load{InFlight: uint32(i), Capacity: 1000}})
	}
	keys := []keysNews{{node: 1, seq: 1}, {node: 2, seq: 300, ring: "0123456789abcdef"}}
	want := state{loads: loads, keys: keys}
	b := encodeState(want)
	if got, err := decodeState(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("decodeState: %v, %d loads and the keys %v, want the %d and the %v that were written", err, len(got.loads), got.keys, len(loads), keys)
	}
	// What a newer release adds is skipped; what is broken ends the reading.
	b = appendBytes(encodeState(state{loads: loads[:1]}), []byte{99, 1, 2})
	b = append(b, encodeState(state{loads: loads[1:2]})[1:]...)
	if got, err := decodeState(b); err != nil || len(got.loads) != 2 {
		t.Errorf("decodeState with an unknown message: %v, %d loads, want 2", err, len(got.loads))
	}
	if got, err := decodeState(append(b, 5, 1)); !errors.Is(err, errMessage) || len(got.loads) != 2 {
		t.Errorf("decodeState of a cut off state: %v, %d loads; want errMessage and the 2 before", err, len(got.loads))
	}
	if _, err := decodeState(make([]byte, maxState+1)); !errors.Is(err, errMessage) {
		t.Errorf("decodeState of too many bytes: %v, want errMessage", err)
	}
	for range 5 {
		loads = append(loads, loads...)
	}
	if b := encodeState(state{loads: loads}); len(b) > maxState || len(b) < maxState-100 {
		t.Errorf("%d loads are written in %d bytes, want what fits into %d", len(loads), len(b), maxState)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(encodeMeta(region.Member{Region: "us-east", State: region.Ready, PeerAddr: "10.0.0.1:7400", PublicURL: "https://a.example", Weight: 100}))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{2, 99, 0, 1, 2, 'u', 's'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		if _, err := region.ParseName(string(m.Region)); err != nil {
			t.Errorf("decodeMeta(%x) has the region %q", b, m.Region)
		}
		if again, err := decodeMeta(encodeMeta(m)); !reflect.DeepEqual(again, m) || err != nil {
			t.Errorf("%+v is read as %+v, %v after it was written anew", m, again, err)
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(loadNews{node: 1, seq: 2, load: region.Load{InFlight: 3, Capacity: 4}}.encode())
	f.Add(companyNews{company: "acme", version: 5, hops: 6}.encode())
	f.Add(switchNews{Evacuation: region.Evacuation{Region: "eu-west", On: true, Version: 7}}.encode())
	f.Add(keysNews{node: 1, seq: 2, hops: 3, ring: "0123456789abcdef"}.encode())
	f.Add([]byte{99})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		again := m.load.encode()
		switch m.kind {
		case kindCompany:
			if !m.company.valid() {
				t.Errorf("decodeMessage(%x) = %+v", b, m)
			}
			again = m.company.encode()
		case kindSwitch:
			again = m.switched.encode()
		case kindKeys:
			again = m.keys.encode()
		}
		if got, err := decodeMessage(again); got != m || err != nil {
			t.Errorf("%+v is read as %+v, %v after it was written anew", m, got, err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(encodeState(state{
		loads: []loadNews{{node: 1, seq: 2}, {node: 3, seq: 4, load: region.Load{InFlight: 5, Capacity: 6}}},
		keys:  []keysNews{{node: 1, seq: 2, ring: "12345678"}},
	}))
	f.Add([]byte{1, 1, 99, 3, 2, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if len(s.loads)+len(s.keys) > len(b)/10 {
			t.Errorf("%d loads and %d keys out of %d bytes", len(s.loads), len(s.keys), len(b))
		}
		if err != nil {
			return
		}
		if again, err := decodeState(encodeState(s)); err != nil || len(again.loads) != len(s.loads) || len(again.keys) != len(s.keys) {
			t.Errorf("%+v are read as %+v, %v after they were written anew", s, again, err)
		}
	})
}

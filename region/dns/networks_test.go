package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/region"
)

func mustNetworks(t testing.TB, table string) *Networks {
	t.Helper()
	n, err := ParseNetworks(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const offices = `
# the offices
10.20.0.0/16   eu-west us-east  # Berlin
10.20.30.0/24  ap-south
2001:db8::/32  ap-south
`

func TestLongestNetworkIsUsed(t *testing.T) {
	n := mustNetworks(t, offices)
	for client, want := range map[string]struct {
		regions string
		scope   int
	}{
		"10.20.30.7/32":   {"[ap-south]", 24},
		"10.20.30.0/24":   {"[ap-south]", 24},
		"10.20.30.0/23":   {"[eu-west us-east]", 24}, // the other half is in another network
		"10.20.31.0/24":   {"[eu-west us-east]", 24}, // a scope of 23 would include 10.20.30.0
		"10.20.128.0/24":  {"[eu-west us-east]", 17},
		"10.21.0.0/16":    {"[]", 16},
		"192.0.2.0/24":    {"[]", 1},
		"2001:db8:1::/48": {"[ap-south]", 32},
		"2001:db9::/48":   {"[]", 32},
		"0.0.0.0/0":       {"[]", 0},
		"0.0.0.0/1":       {"[]", 5}, // 10 is 00001010
		"10.0.0.0/8":      {"[]", 12},
	} {
		regions, scope := n.near(netip.MustParsePrefix(client))
		if fmt.Sprint(regions) != want.regions || scope != want.scope {
			t.Errorf("%s is near to %v with scope %d, want %s and %d", client, regions, scope, want.regions, want.scope)
		}
	}
	if regions, scope := (*Networks)(nil).near(netip.MustParsePrefix("10.20.30.7/32")); regions != nil || scope != 0 {
		t.Errorf("without a table: %v, %d", regions, scope)
	}
	if _, scope := mustNetworks(t, "10.0.0.0/8 eu-west").near(netip.MustParsePrefix("2001:db8::/32")); scope != 0 {
		t.Errorf("with no network of the family the scope is %d, want 0", scope)
	}
}

// TestScopeHasOneAnswer holds that all clients in the scope get the same answer. A resolver gives one answer to all of
// them.
func TestScopeHasOneAnswer(t *testing.T) {
	// Few different bits, so that some networks contain others.
	draw := rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 128, 129, 255}), 4, 4).Draw(t, "bytes")
		return netip.AddrFrom4([4]byte(b))
	})
	rapid.Check(t, func(t *rapid.T) {
		n := &Networks{}
		for i := range rapid.IntRange(0, 8).Draw(t, "networks") {
			p := netip.PrefixFrom(draw.Draw(t, "network"), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
			if !slices.ContainsFunc(n.list, func(e network) bool { return e.prefix == p }) {
				n.list = append(n.list, network{p, []region.Name{region.Name(fmt.Sprint("region", i))}})
			}
		}
		client := draw.Draw(t, "client")
		regions, scope := n.near(netip.PrefixFrom(client, 32))
		for range 20 {
			other := client.As4()
			for bit := scope; bit < 32; bit++ {
				if rapid.Bool().Draw(t, "bit") {
					other[bit/8] ^= 0x80 >> (bit % 8)
				}
			}
			if got, _ := n.near(netip.PrefixFrom(netip.AddrFrom4(other), 32)); !slices.Equal(got, regions) {
				t.Fatalf("%s is near to %v with scope %d, and %s in it to %v", client, regions, scope, netip.AddrFrom4(other), got)
			}
		}
	})
}

func TestErrorNamesTheLine(t *testing.T) {
	for table, want := range map[string]string{
		"\nhere eu-west":                         "line 2: must start with a network",
		"10.0.0.1/8 eu-west":                     "line 1: 10.0.0.1/8 is an address in the network 10.0.0.0/8",
		"10.0.0.0/8":                             "line 1: 10.0.0.0/8 has no region",
		"10.0.0.0/8 # eu-west":                   "has no region",
		"10.0.0.0/8 Mars!":                       `"Mars!"`,
		"10.0.0.0/8 eu-west\n10.0.0.0/8 us-east": "line 2: 10.0.0.0/8 appears twice",
		"10.0.0.0/8 eu-west " + strings.Repeat("x", 70_000): "too long",
		func() (all string) {
			for i := range maxNetworks + 1 {
				all += fmt.Sprintf("10.%d.%d.0/24 eu-west\n", i/256, i%256)
			}
			return all
		}(): "line 4097: more than 4096 networks",
	} {
		if _, err := ParseNetworks(strings.NewReader(table)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want an error with %q", table, err, want)
		}
	}
}

func FuzzParseNetworks(f *testing.F) {
	f.Add(offices)
	f.Add("::ffff:10.0.0.0/104 eu-west")
	f.Fuzz(func(t *testing.T, table string) {
		n, err := ParseNetworks(strings.NewReader(table))
		if err != nil {
			return
		}
		for _, e := range n.list {
			if regions, scope := n.near(e.prefix); e.prefix.Bits() > 0 && (len(regions) == 0 || scope < e.prefix.Bits()) {
				t.Errorf("%s is near to %v with scope %d", e.prefix, regions, scope)
			}
		}
	})
}

package dns

import (
	"bufio"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/punchclock/punchclock/region"
)

// maxNetworks limits a look-up, which reads the whole table, to some 20 µs.
const maxNetworks = 4096

// Networks has the regions that are near to each network.
type Networks struct {
	list []network
}

type network struct {
	prefix  netip.Prefix
	regions []region.Name // nearest first
}

// ParseNetworks reads a table. Each line has a network and its regions, the nearest first:
//
//	10.20.0.0/16   eu-west us-east   # Berlin
//
// The longest network that contains a client is used. Errors name the line.
func ParseNetworks(r io.Reader) (*Networks, error) {
	n := &Networks{}
	seen := make(map[netip.Prefix]bool)
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		entry, err := parseNetwork(fields)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", number, err)
		case seen[entry.prefix]:
			return nil, fmt.Errorf("line %d: %s appears twice", number, entry.prefix)
		case len(n.list) == maxNetworks:
			return nil, fmt.Errorf("line %d: more than %d networks", number, maxNetworks)
		}
		seen[entry.prefix] = true
		n.list = append(n.list, entry)
	}
	return n, lines.Err()
}

func parseNetwork(fields []string) (n network, err error) {
	if n.prefix, err = netip.ParsePrefix(fields[0]); err != nil {
		return n, fmt.Errorf("must start with a network such as 10.20.0.0/16, starts with %q", fields[0])
	}
	if n.prefix != n.prefix.Masked() || n.prefix.Addr().Is4In6() {
		return n, fmt.Errorf("%s is an address in the network %s", n.prefix, n.prefix.Masked())
	}
	if len(fields) == 1 {
		return n, fmt.Errorf("%s has no region", n.prefix)
	}
	for _, f := range fields[1:] {
		name, err := region.ParseName(f)
		if err != nil {
			return n, fmt.Errorf("%q: %w", f, err)
		}
		n.regions = append(n.regions, name)
	}
	return n, nil
}

// near returns the regions near to a client prefix, and the scope: the number of address bits that the answer depends
// on (RFC 7871, section 7.2.1). All clients that share these bits get the same answer. A network smaller than the
// prefix is ignored, because it contains only a part of the prefix. A prefix without bits, of an anonymous client, is
// near to no region.
func (n *Networks) near(client netip.Prefix) (regions []region.Name, scope int) {
	if n == nil || client.Bits() <= 0 { // also if the prefix is not valid
		return nil, 0
	}
	longest := -1
	for _, e := range n.list {
		if e.prefix.Addr().Is4() != client.Addr().Is4() {
			continue
		}
		inside := e.prefix.Contains(client.Addr())
		switch {
		case inside && e.prefix.Bits() <= client.Bits():
			if e.prefix.Bits() > longest {
				longest, regions = e.prefix.Bits(), e.regions
			}
			scope = max(scope, e.prefix.Bits())
		case inside:
			scope = max(scope, e.prefix.Bits())
		default: // one bit more than the common ones excludes the network
			scope = max(scope, min(common(e.prefix.Addr(), client.Addr()), e.prefix.Bits()-1)+1)
		}
	}
	return regions, scope
}

// common returns the number of leading bits that two addresses of one family share.
func common(a, b netip.Addr) (n int) {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return n + bits.LeadingZeros8(d)
		}
		n += 8
	}
	return n
}

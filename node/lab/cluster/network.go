package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// errNoNetworks is returned when a cluster was started without Networks.
var errNoNetworks = errors.New("the regions of this cluster have no networks of their own")

// CheckNetworks is nil when this process may give each region a network of its
// own; else it says what is missing.
func CheckNetworks() error {
	n, err := newNetwork(1, 0)
	if err != nil {
		return err
	}
	return n.close()
}

// Cut cuts a region off from all others: what they send to each other is
// dropped without a word. This process still reaches it, and it its clients.
func (c *Cluster) Cut(region string) error { return c.sever(region, true) }

// Mend undoes Cut.
func (c *Cluster) Mend(region string) error { return c.sever(region, false) }

func (c *Cluster) sever(region string, off bool) error {
	i := slices.Index(c.cfg.Regions, region)
	switch {
	case c.ws.network == nil:
		return errNoNetworks
	case i < 0:
		return fmt.Errorf("no region %q", region)
	}
	c.ws.network.sever(i+1, off)
	return nil
}

// host is the address of a region by its number from 1 on; 0 is for what
// belongs to no region.
func (w *workspace) host(region int) string {
	if w.network != nil {
		return w.network.host(region)
	}
	return w.loopback.host(region)
}

// nodeHost is the address of a region's node by its number from 0 on. In a
// network of their own all nodes of a region have one.
func (w *workspace) nodeHost(region, node int) string {
	if w.network != nil {
		return w.network.host(region)
	}
	return w.loopback.nodeHost(region, node)
}

// freshAddrs returns n different host:port of a network in which nobody else
// is.
func freshAddrs(host string, n int) (addrs []string, err error) {
	for len(addrs) < n {
		addr := net.JoinHostPort(host, strconv.Itoa(lowestPort+rand.IntN(highestPort-lowestPort+1)))
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// taken says whether somebody else uses one of the addresses.
func (w *workspace) taken(addrs ...string) bool {
	return w.network == nil && taken(addrs...)
}

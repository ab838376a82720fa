package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// errNoNetworks is returned for a cluster without Config.Networks.
var errNoNetworks = errors.New("the regions of this cluster share one network: start it with Networks")

// CheckNetworks is nil when this process may make a network for each region. Otherwise it says what is missing.
func CheckNetworks() error {
	n, err := newNetwork(1, 0)
	if err != nil {
		return err
	}
	return n.close()
}

// Cut parts a region from all others: packets between them are dropped. This process, and so the clients in it, still
// reach the region.
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

// host is the address of a region by its number from 1. Number 0 is for processes that belong to no region.
func (w *workspace) host(region int) string {
	if w.network != nil {
		return w.network.host(region)
	}
	return w.loopback.host(region)
}

// nodeHost is the address of a region's node by its number from 0. With networks, all nodes of a region share one.
func (w *workspace) nodeHost(region, node int) string {
	if w.network != nil {
		return w.network.host(region)
	}
	return w.loopback.nodeHost(region, node)
}

// freshAddrs returns n different addresses host:port of a network without other processes.
func freshAddrs(host string, n int) (addrs []string, err error) {
	for len(addrs) < n {
		addr := net.JoinHostPort(host, strconv.Itoa(lowestPort+rand.IntN(highestPort-lowestPort+1)))
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// taken reports whether another process uses one of the addresses.
func (w *workspace) taken(addrs ...string) bool {
	return w.network == nil && taken(addrs...)
}

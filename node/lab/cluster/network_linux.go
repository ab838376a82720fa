package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// network is a network namespace for each region, with links between them that this process carries. It reads packets of
// a region from a tunnel device and delays them by the time of their travel. It drops them on a link that is cut. A bridge
// with tc netem would need tools and kernel modules, and would stay behind when this process dies. This process has an
// end of its own, beside every region: its packets are never delayed or dropped.
type network struct {
	number  int           // the cluster's, in its addresses
	oneWay  time.Duration // between two regions
	places  []place       // of this process first, then of the regions
	running sync.WaitGroup
	done    chan struct{}
	// cut is true for a region that is parted from all others.
	cut []atomic.Bool
}

// place is one end of the links.
type place struct {
	namespace *os.File // nil for this process's own
	tunnel    *os.File
}

const (
	// mtu is the size of an Ethernet packet.
	mtu = 1500
	// linkPackets is the capacity of a link: 40 MB/s over 20 ms. Further packets are dropped, as by a router.
	linkPackets = 512
)

// newNetwork makes the networks of some regions. The caller must close it.
func newNetwork(regions int, roundTrip time.Duration) (_ *network, err error) {
	n := &network{number: rand.IntN(256), oneWay: roundTrip / 2, done: make(chan struct{}), cut: make([]atomic.Bool, regions+1)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("networks: %w", err), n.close())
		}
	}()
	for i := range regions + 1 {
		p, err := onThread(func() (place, error) { return newPlace(i > 0, n.host(i)) })
		if err != nil {
			return nil, err
		}
		n.places = append(n.places, p)
	}
	for from := range n.places {
		links := make([]chan chunk, len(n.places))
		for to := range n.places {
			if to != from {
				links[to] = make(chan chunk, linkPackets)
				n.running.Go(func() { n.deliver(links[to], to) })
			}
		}
		n.running.Go(func() { n.collect(from, links) })
	}
	return n, nil
}

// host is the address of a region by its number from 1. Number 0 is this process. The range is reserved for benchmarks
// (RFC 2544) and never routed.
func (n *network) host(region int) string { return fmt.Sprintf("198.18.%d.%d", n.number, region+1) }

// onThread runs f on an operating system thread that ends afterwards, because f may move the thread to another network.
func onThread[T any](f func() (T, error)) (T, error) {
	var result T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		result, err = f()
	}()
	<-done
	return result, err
}

// newPlace makes a tunnel with the given address, in a new network or in this process's.
func newPlace(isolated bool, host string) (p place, err error) {
	if isolated {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return p, fmt.Errorf("a new network: %w", err)
		}
		if p.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return p, err
		}
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return p, errors.Join(fmt.Errorf("/dev/net/tun: %w", err), p.close())
	}
	err = p.configure(fd, host)
	// The tunnel needs its device first: otherwise the runtime's poller refuses it.
	p.tunnel = os.NewFile(uintptr(fd), "/dev/net/tun")
	if err != nil {
		return p, errors.Join(err, p.close())
	}
	return p, nil
}

// configure names the tunnel and brings it up, with the loopback device.
func (p *place) configure(fd int, host string) error {
	tunnel, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	tunnel.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, tunnel); err != nil {
		return fmt.Errorf("a tunnel device: %w", err)
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(control) //nolint:errcheck // nothing was written
	if p.namespace != nil {
		if err := setFlags(control, "lo"); err != nil {
			return err
		}
	}
	name := tunnel.Name() // the kernel chooses it
	for _, set := range []struct {
		request uint
		address net.IP
	}{{unix.SIOCSIFADDR, net.ParseIP(host)}, {unix.SIOCSIFNETMASK, net.IPv4(255, 255, 255, 0)}} {
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := request.SetInet4Addr(set.address.To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(control, set.request, request); err != nil {
			return fmt.Errorf("address %s of %s: %w", set.address, name, err)
		}
	}
	return setFlags(control, name)
}

func setFlags(control int, name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *place) close() error {
	var errs []error
	for _, f := range []*os.File{p.tunnel, p.namespace} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// collect reads packets that leave a place and puts each on its link.
func (n *network) collect(from int, links []chan chunk) {
	defer func() {
		for _, link := range links {
			if link != nil {
				close(link)
			}
		}
	}()
	for {
		packet := make([]byte, mtu)
		size, err := n.places[from].tunnel.Read(packet)
		if err != nil {
			return // closed
		}
		to, ok := n.destination(packet[:size])
		if !ok || to == from || (from > 0 && to > 0 && (n.cut[from].Load() || n.cut[to].Load())) {
			continue
		}
		due := time.Now()
		if from > 0 && to > 0 {
			due = due.Add(n.oneWay)
		}
		select {
		case links[to] <- chunk{due, packet[:size]}:
		default: // full
		}
	}
}

// destination returns the place of an IPv4 packet's receiver.
func (n *network) destination(packet []byte) (int, bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 { // IPv6 sends its search for routers here
		return 0, false
	}
	ip := packet[16:20]
	to := int(ip[3]) - 1
	return to, ip[0] == 198 && ip[1] == 18 && int(ip[2]) == n.number && to >= 0 && to < len(n.places)
}

// deliver hands packets over after their time on the link.
func (n *network) deliver(link <-chan chunk, to int) {
	for c := range link {
		select {
		case <-time.After(time.Until(c.due)):
			_, _ = n.places[to].tunnel.Write(c.data) // a packet may be lost
		case <-n.done:
		}
	}
}

// sever parts a region from all others, or joins it again.
func (n *network) sever(region int, off bool) { n.cut[region].Store(off) }

func (n *network) close() error {
	close(n.done)
	var errs []error
	for i := range n.places {
		errs = append(errs, n.places[i].close())
	}
	n.running.Wait()
	return errors.Join(errs...)
}

// enter runs start, which forks a child, in the network of a region. The caller must have locked its thread.
func (n *network) enter(region int, start func() error) (err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close() //nolint:errcheck // only a handle
	if err := unix.Setns(int(n.places[region].namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network of a region: %w", err)
	}
	err = start()
	return errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET))
}

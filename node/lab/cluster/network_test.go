//go:build linux

package cluster

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// listenIn listens on a port of a region's network.
func listenIn(t *testing.T, n *network, region int) net.Listener {
	t.Helper()
	listener, err := onThread(func() (l net.Listener, err error) {
		err = n.enter(region, func() (err error) {
			l, err = net.Listen("tcp4", net.JoinHostPort(n.host(region), "0"))
			return err
		})
		return l, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}
	}()
	return listener
}

// greet connects from a region and reads the greeting. Region 0 is this process. It returns how long that took.
func greet(n *network, from int, addr string, patience time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	dial := func() error {
		// The connect runs on this thread, in the region's network.
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp4", addr)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // only read
		deadline, _ := ctx.Deadline()
		_ = c.SetDeadline(deadline)
		_, err = io.ReadAll(c)
		return err
	}
	_, err := onThread(func() (struct{}, error) {
		if from == 0 {
			return struct{}{}, dial()
		}
		return struct{}{}, n.enter(from, dial)
	})
	return time.Since(began), err
}

func TestNetworksDelayAndPart(t *testing.T) {
	if err := CheckNetworks(); err != nil {
		t.Skip("no networks of their own for the regions here:", err)
	}
	n, err := newNetwork(3, 40*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	}()
	addr := listenIn(t, n, 1).Addr().String()
	// At least a round trip for the connection and half of one for the greeting.
	if took, err := greet(n, 2, addr, 10*time.Second); err != nil || took < 40*time.Millisecond {
		t.Fatalf("from another region: %v after %s, want a greeting after at least 40ms", err, took)
	}
	if _, err := greet(n, 0, addr, 10*time.Second); err != nil {
		t.Fatalf("from outside: %v", err)
	}
	n.sever(1, true)
	if took, err := greet(n, 2, addr, 300*time.Millisecond); err == nil {
		t.Fatalf("reached a region that is cut off, after %s", took)
	}
	if _, err := greet(n, 0, addr, 10*time.Second); err != nil {
		t.Fatalf("its own clients must still reach it: %v", err)
	}
	n.sever(1, false)
	if _, err := greet(n, 2, addr, 10*time.Second); err != nil {
		t.Fatalf("after the cut is mended: %v", err)
	}
}

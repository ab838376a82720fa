package gossip

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

type lag struct {
	mu  sync.Mutex
	reg map[string]string
	rtt time.Duration
}
type laggy struct {
	memberlist.NodeAwareTransport
	l   *lag
	own string
	dead *bool
}

func (l *lag) delay(a, b string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reg[a] == l.reg[b] {
		return 0
	}
	return l.rtt / 2
}
func (c *laggy) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	b = append([]byte(nil), b...)
	now := time.Now()
	if d := c.l.delay(c.own, a.Addr); d > 0 {
		time.AfterFunc(d, func() { _, _ = c.NodeAwareTransport.WriteToAddress(b, a) })
		return now, nil
	}
	return c.NodeAwareTransport.WriteToAddress(b, a)
}
func (c *laggy) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	time.Sleep(4 * c.l.delay(c.own, a.Addr))
	return c.NodeAwareTransport.DialAddressTimeout(a, timeout)
}

func TestMeasure(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("NODES"))
	rtt, _ := time.ParseDuration(os.Getenv("RTT"))
	out, _ := os.Create(os.Getenv("OUT"))
	for _, lost := range strings.Split(os.Getenv("LOST"), ",") {
		l := &lag{reg: map[string]string{}, rtt: rtt}
		var nodes []*testNode
		var seeds []string
		for i := range n {
			p := defaultPace()
			reg := string(regions[i%3])
			p.wrap = func(tr memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
				ip, port, _ := tr.FinalAdvertiseAddr("", 0)
				own := net.JoinHostPort(ip.String(), strconv.Itoa(port))
				l.mu.Lock()
				l.reg[own] = reg
				l.mu.Unlock()
				return &laggy{NodeAwareTransport: tr, l: l, own: own}
			}
			node := mustNew(t, regions[i%3], fmt.Sprint("n", i), withSeeds(seeds...), withPace(p), func(_ *Config, d *Deps, _ *pace) { d.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})).With("me", i) })
			if err := node.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, node)
			if len(seeds) < 2 {
				seeds = append(seeds, node.Addr())
			}
		}
		b := time.Now()
		converge(t, nodes...)
		fmt.Println("converged after", time.Since(b).Round(time.Millisecond))
		b = time.Now()
		nodes[0].BroadcastCompany("acme", 1)
		for _, o := range nodes[1:] {
			eventually(t, "heard", func() bool { return len(o.changes("acme")) > 0 })
		}
		fmt.Println("company change after", time.Since(b).Round(time.Millisecond))
		time.Sleep(5 * time.Second)
		var gone, left []*testNode
		for i, o := range nodes {
			if (lost == "one" && i == 1) || (lost == "region" && i%3 == 1) {
				gone = append(gone, o)
			} else {
				left = append(left, o)
			}
		}
		var wg sync.WaitGroup
		b = time.Now()
		for _, o := range gone {
			wg.Go(func() { o.kill(t) })
		}
		wg.Wait()
		killed := time.Since(b)
		worst, first := time.Duration(0), time.Hour
		for {
			done := true
			for _, o := range left {
				if len(o.board.View().Members()) != len(left) {
					done = false
				} else if d := time.Since(b); d < first {
					first = d
				}
			}
			if done {
				worst = time.Since(b)
				break
			}
			if time.Since(b) > time.Minute {
				t.Fatal("never")
			}
			time.Sleep(20 * time.Millisecond)
		}
		hs := 0
		for _, o := range left {
			hs = max(hs, o.list.GetHealthScore())
		}
		fmt.Printf("lost %s of %d nodes, rtt %s: first %s all %s (health %d) kill took %s\n", lost, n, rtt, first.Round(10*time.Millisecond), worst.Round(10*time.Millisecond), hs, killed)
		for _, o := range left {
			wg.Go(func() { o.kill(t) })
		}
		wg.Wait()
	}
}

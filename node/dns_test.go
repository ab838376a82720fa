package node_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// askDNS asks a node's name server, and returns the sorted addresses. The list is empty without an answer.
func askDNS(ctx context.Context, server *cluster.Node, name string) (list []string) {
	client := dns.Client{Timeout: time.Second}
	reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), server.DNSAddr)
	if err != nil {
		return nil
	}
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			list = append(list, a.A.String())
		}
	}
	slices.Sort(list)
	return list
}

// awaitDNS waits until each server answers a name with the addresses of these nodes, and returns how long that took.
func awaitDNS(t *testing.T, servers []*cluster.Node, name string, of ...*cluster.Node) time.Duration {
	t.Helper()
	var want []string
	for _, n := range of {
		want = append(want, publicIP(t, n))
	}
	slices.Sort(want)
	want = slices.Compact(want) // where the machine has one loopback address
	began := time.Now()
	for _, s := range servers {
		for {
			got := askDNS(testContext(t), s, name)
			if slices.Equal(got, want) {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("%s answers %s with %v, want %v", s.Name, name, got, want)
			}
			time.Sleep(20 * time.Millisecond) // poll
		}
	}
	return time.Since(began)
}

// lastAnswer asks a server all the time until the returned function is called, which returns the last answer.
func lastAnswer(server *cluster.Node, name string) func() []string {
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan []string, 1)
	go func() {
		var last []string
		for ctx.Err() == nil {
			if list := askDNS(ctx, server, name); list != nil {
				last = list
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond): // poll
			}
		}
		result <- last
	}()
	return func() []string {
		cancel()
		return <-result
	}
}

func publicIP(t *testing.T, n *cluster.Node) string {
	t.Helper()
	host, _, err := net.SplitHostPort(strings.TrimPrefix(n.PublicURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func TestDNSFollowsTheCluster(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		all := w.cluster.Nodes()
		us, eu := w.cluster.Region("us-east"), w.cluster.Region("eu-west")
		far := w.cluster.Region("ap-south")
		awaitDNS(t, all, "clock.test", us...)
		awaitDNS(t, all, "eu-west.clock.test", eu...)

		mustOperate(t, far[0], "region", "evacuate", "us-east")
		t.Logf("an evacuated region was withdrawn after %s", awaitDNS(t, all, "clock.test", eu...))
		awaitDNS(t, all, "us-east.clock.test", eu...)
		mustOperate(t, far[0], "region", "restore", "us-east")
		awaitDNS(t, all, "clock.test", us...)

		last := lastAnswer(us[0], "clock.test") // a draining node still answers, without its own address
		stopped := make(chan error, 1)
		go func() { stopped <- us[0].Stop(testContext(t)) }()
		t.Logf("a draining node was withdrawn after %s", awaitDNS(t, all[1:], "clock.test", us[1]))
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if got := last(); !slices.Equal(got, []string{publicIP(t, us[1])}) && publicIP(t, us[0]) != publicIP(t, us[1]) {
			t.Errorf("while it drained, the node's last answer was %v, want only the other node's address", got)
		}

		// The whole region is lost at once.
		if err := us[1].Kill(); err != nil {
			t.Error(err)
		}
		left := slices.Concat(eu, far)
		t.Logf("a lost region was withdrawn after %s", awaitDNS(t, left, "clock.test", eu...))
		awaitDNS(t, left, "us-east.clock.test", eu...)
		for _, n := range us {
			if err := n.Restart(testContext(t)); err != nil {
				t.Fatal(err)
			}
		}
		awaitDNS(t, all, "clock.test", us...)
		w.awaitMembers(t, 6)
		if got := metricOf(t, far[0], "punchclock_dns_answers_total", `region="eu-west"`, `reason="good"`); got == 0 {
			t.Error("no answer is counted")
		}
	})
}

// TestDNSPrefersRegionsThatCommit keeps the database from committing to one home. A transaction locks all fence rows of
// that home.
func TestDNSPrefersRegionsThatCommit(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		us, eu := w.cluster.Region("us-east"), w.cluster.Region("eu-west")
		company := w.company(t, "us-east")
		tx, err := w.db.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background()) //nolint:errcheck // it is committed below
		if _, err := tx.Exec(testContext(t), `UPDATE homes SET epoch = epoch WHERE crdb_region = 'us-east'`); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(testContext(t))
		var waiting sync.WaitGroup
		for i := range 4 {
			waiting.Go(func() {
				in := body{"id": punch.NewID().String(), "employee": fmt.Sprintf("s%d", i), "kind": "in"}
				_ = quietPost(ctx, us[i%2], token(t, company), in) // is given up below
			})
		}
		// Their circuits open 10 s after the first write that did not end. They tell the other nodes.
		all := w.cluster.Nodes()
		awaitDNS(t, all, "clock.test", eu...)
		awaitDNS(t, all, "us-east.clock.test", us...)
		cancel()
		waiting.Wait()
		if err := tx.Commit(testContext(t)); err != nil {
			t.Fatal(err)
		}
		// A successful write closes the circuit.
		deadline := time.Now().Add(20 * time.Second)
		for _, n := range us {
			for post(t, n, token(t, company), body{"id": punch.NewID().String(), "employee": "after", "kind": "in"}).status != http.StatusCreated {
				if time.Now().After(deadline) {
					t.Fatalf("%s takes no punch any more", n.Name)
				}
				time.Sleep(100 * time.Millisecond) // poll
			}
		}
		awaitDNS(t, all, "clock.test", us...)
	})
}

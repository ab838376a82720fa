package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip"
)

// TestGossipKeysAreRotated rotates the keys of six running nodes with the operator's commands. No node may lose another
// node.
func TestGossipKeysAreRotated(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		n, file := w.cluster.Region("ap-south")[0], w.cluster.GossipKeyFile()
		before, err := gossip.ReadKeys(file)
		if err != nil {
			t.Fatal(err)
		}
		old := gossip.FingerprintOf(before[0]).String()
		w.awaitMembers(t, 6) // a node that another test restarted may still be a member
		lost := w.watchMembers(t)

		added := strings.Fields(mustOperate(t, n, "gossip", "keys", "add", file))
		key := added[len(added)-1] // the progress is printed before
		if err := gossip.CheckFingerprint(key); err != nil {
			t.Fatalf("add printed %q: %v", added, err)
		}
		if out, err := operate(t, n, auth.Operator, "gossip", "keys", "remove", file, old); err == nil || !strings.Contains(out, "is the sending key") {
			t.Errorf("removing the key that sends: %v\n%s", err, out)
		}
		mustOperate(t, n, "gossip", "keys", "use", file, key)
		mustOperate(t, n, "gossip", "keys", "remove", file, old)
		mustOperate(t, n, "gossip", "keys", "wait", "removed", old)
		if lines := lost(); len(lines) > 0 {
			t.Errorf("nodes were lost during the rotation:\n%s", strings.Join(lines, ""))
		}

		var rings adminapi.Keyrings
		if err := json.Unmarshal([]byte(mustOperate(t, n, "gossip", "keys", "show", "--json")), &rings); err != nil {
			t.Fatal(err)
		}
		if len(rings.Nodes) != 6 {
			t.Errorf("%d nodes are shown", len(rings.Nodes))
		}
		for _, k := range rings.Nodes {
			if !k.Sends(key) || len(k.Keys) != 1 {
				t.Errorf("%s has %+v, want %s alone", k.Node, k, key)
			}
		}
		if table := mustOperate(t, n, "gossip", "keys", "show"); strings.Count(table, key) != 6 || strings.Contains(table, "yes") {
			t.Errorf("the table is\n%s", table)
		}
		if out, err := operate(t, n, auth.Manager, "gossip", "keys", "show"); err == nil || !strings.Contains(out, "operator") {
			t.Errorf("a manager's look: %v\n%s", err, out)
		}
		w.joinWithKey(t, before[0], 1)
		if after, err := gossip.ReadKeys(file); err != nil {
			t.Error(err)
		} else {
			w.joinWithKey(t, after[0], 7)
			w.awaitMembers(t, 6)
		}
		company := w.company(t, "eu-west")
		wantStatus(t, post(t, n, token(t, company), body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"}), http.StatusCreated, "")
	})
}

// watchMembers returns a function that returns the nodes' new log lines about members that are gone.
func (w *world) watchMembers(t *testing.T) (lost func() []string) {
	t.Helper()
	read := func(n *cluster.Node) string {
		text, err := os.ReadFile(n.Logs())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := make(map[*cluster.Node]int)
	for _, n := range w.cluster.Nodes() {
		before[n] = len(read(n))
	}
	return func() (lines []string) {
		for n, length := range before {
			for line := range strings.Lines(read(n)[length:]) {
				if strings.Contains(line, "node left or died") {
					lines = append(lines, line)
				}
			}
		}
		return lines
	}
}

// joinWithKey gossips as a seventh node with one key, and waits until it sees as many members.
func (w *world) joinWithKey(t *testing.T, key []byte, want int) {
	t.Helper()
	cluster, switches := new(region.Cluster), new(region.Switches)
	seed := w.cluster.Nodes()[0]
	g, err := gossip.New(gossip.Config{
		Self: region.Member{Node: gossip.NodeName("us-east", "seventh"), Region: "us-east"}, Addr: "127.0.0.1:0",
		Seeds: []string{seed.GossipAddr}, Label: filepath.Base(w.cluster.Dir()), Keys: [][]byte{key},
	}, gossip.Deps{
		Cluster: cluster, Log: discard, Meter: noMeter.Meter(""), Switches: switches.All, MergeSwitch: switches.Merge,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(g.Leave(testContext(t)), g.Close()); err != nil {
			t.Error(err)
		}
	}()
	// There is time for four attempts. A successful join takes one.
	ctx, cancel := context.WithTimeout(testContext(t), 2*time.Second)
	defer cancel()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(cluster.Snapshot().Members()) != want {
		if time.Now().After(deadline) {
			t.Fatalf("with the key %s the node sees %d members, want %d", gossip.FingerprintOf(key), len(cluster.Snapshot().Members()), want)
		}
		time.Sleep(20 * time.Millisecond) // poll
	}
}

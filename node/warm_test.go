package node_test

import (
	"net/http"
	"testing"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// TestTheFirstPunchOfEachHomeFindsANodeWarm restarts a node and counts what the first punch of each home makes it open:
// connections to the database, prepared statements, connections to peers, lookups. A pool that checks itself during a
// punch opens one more connection, and a busy machine may end the warm-up. One of three starts must need nothing.
func TestTheFirstPunchOfEachHomeFindsANodeWarm(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		tokens := make(map[string]string)
		for _, home := range regions {
			tokens[home] = token(t, w.company(t, home))
		}
		entry := w.cluster.Region("us-east")[1]
		var cost map[string]float64
		for range 3 {
			if err := entry.Restart(testContext(t)); err != nil {
				t.Fatal(err)
			}
			before := opened(t, entry)
			if before["statements prepared"] == 0 {
				t.Errorf("a node that says it is ready has opened only %v", before)
			}
			for _, home := range regions {
				a := post(t, entry, tokens[home], body{"id": punch.NewID().String(), "employee": punch.NewID().String(), "kind": "in"})
				wantStatus(t, a, http.StatusCreated, "")
			}
			cost = opened(t, entry)
			for what := range cost {
				if cost[what] -= before[what]; cost[what] == 0 {
					delete(cost, what)
				}
			}
			if missing := 4 - before["connections to peers"]; missing > 0 { // the punches may have found the others
				cost["peers without a connection"] = missing
			}
			if len(cost) == 0 {
				break
			}
		}
		if len(cost) > 0 {
			t.Errorf("the first punches of all homes cost %v, want nothing", cost)
		}
		w.awaitMembers(t, 6)
	})
}

func opened(t *testing.T, n *cluster.Node) map[string]float64 {
	t.Helper()
	return map[string]float64{
		"connections to the database": metricOf(t, n, "pgxpool_new_connections_total", `pool="punches"`),
		"statements prepared":         metricOf(t, n, "punchclock_database_prepares_total", `pool="punches"`),
		"connections to peers":        metricOf(t, n, "punchclock_peer_connections_opened_total"),
		"lookups of companies":        metricOf(t, n, "punchclock_directory_lookups_total", `hit="false"`),
	}
}

package drill

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Recovery says when the cluster noticed the break, and when it was whole again. A field is nil if the event was not
// seen.
type Recovery struct {
	// LossSeen is the time from the end of the break's injection until no node outside the victim counted all nodes as
	// ready. It is 0 if that was sooner.
	LossSeen *time.Duration `json:"loss_seen_ns,omitempty"`
	// MembersBack is the time from the end of the heal until every node answered and counted every node as ready.
	MembersBack *time.Duration `json:"members_back_ns,omitempty"`
	// LeasesBack is the time from the end of the heal until every region held the leases of its rows. Only CockroachDB
	// has leases.
	LeasesBack *time.Duration `json:"leases_back_ns,omitempty"`
}

const (
	// watchEvery costs six nodes 24 small requests a second. It is the precision of the times in a Recovery: nodes
	// outside the victim answer within milliseconds, and frozen nodes are not asked during the break.
	watchEvery = 250 * time.Millisecond
	// watchTimeout ends a request to a frozen node.
	watchTimeout = time.Second
	// leaseTimeout ends a request to a database that has just lost a region.
	leaseTimeout = 5 * time.Second
)

// watcher asks the nodes of a cluster how they see it.
type watcher struct {
	state  *cluster.State
	client *http.Client
}

func newWatcher(state *cluster.State) *watcher {
	return &watcher{state: state, client: &http.Client{Transport: &http.Transport{}, Timeout: watchTimeout}}
}

func (w *watcher) close() { w.client.CloseIdleConnections() }

// view is how one node sees the cluster.
type view struct {
	answered bool
	whole    bool // it counts every node of every region as ready
	err      error
}

// allRegions is what look is given when it must ask the nodes of every region.
const allRegions = ""

// look asks all nodes at once, except the nodes of one region.
func (w *watcher) look(ctx context.Context, without string) []view {
	nodes := slices.DeleteFunc(slices.Clone(w.state.Nodes), func(n cluster.NodeState) bool { return n.Region == without })
	views := make([]view, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			ready, err := w.ready(ctx, n.PublicURL)
			views[i] = view{answered: err == nil, whole: err == nil && w.whole(ready), err: err}
		})
	}
	all.Wait()
	return views
}

// ready returns how many nodes of each region a node counts as ready.
func (w *watcher) ready(ctx context.Context, url string) (map[string]int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/regions", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+w.state.Companies[0].Token)
	res, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s/v1/regions: %s", url, res.Status)
	}
	var answer struct {
		Regions []struct {
			Name  string `json:"name"`
			Nodes struct {
				Ready int `json:"ready"`
			} `json:"nodes"`
		} `json:"regions"`
	}
	if err := json.UnmarshalRead(io.LimitReader(res.Body, 1<<20), &answer); err != nil {
		return nil, err
	}
	ready := make(map[string]int)
	for _, r := range answer.Regions {
		ready[r.Name] = r.Nodes.Ready
	}
	return ready, nil
}

func (w *watcher) whole(ready map[string]int) bool {
	want := make(map[string]int)
	for _, n := range w.state.Nodes {
		want[n.Region]++
	}
	for region, n := range want {
		if ready[region] < n {
			return false
		}
	}
	return true
}

// lossSeen reports whether every node that answers misses a node.
func lossSeen(views []view) bool {
	spoke := false
	for _, s := range views {
		if s.answered && s.whole {
			return false
		}
		spoke = spoke || s.answered
	}
	return spoke
}

func allWhole(views []view) bool {
	for _, s := range views {
		if !s.whole {
			return false
		}
	}
	return true
}

// leasesHome reports whether every region holds the leases of its rows. It is true on an engine without leases.
func (w *watcher) leasesHome(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.state.Database.URL)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // only read
	if !w.leases(conn) {
		return true, nil
	}
	for _, region := range w.state.Regions {
		for _, sql := range []string{leaseOfHomes, leaseOfPunches} {
			var locality string
			// SHOW takes no placeholders. The region's name has passed as a locality.
			if err := conn.QueryRow(ctx, fmt.Sprintf(sql, region)).Scan(&locality); err != nil {
				return false, err
			}
			if !strings.Contains(locality+",", "region="+region+",") {
				return false, nil
			}
		}
	}
	return true, nil
}

// leases reports whether the engine has leases.
func (w *watcher) leases(conn *pgx.Conn) bool {
	return conn.PgConn().ParameterStatus("crdb_version") != ""
}

const (
	leaseOfHomes   = `SELECT COALESCE(lease_holder_locality, '') FROM [SHOW RANGE FROM TABLE homes FOR ROW ('%s', 'a')]`
	leaseOfPunches = `SELECT COALESCE(lease_holder_locality, '') FROM [SHOW RANGE FROM TABLE punches FOR ROW ('%s', 'a', '2026-01-01', 'a', '01900000-0000-7000-8000-000000000000')]`
)

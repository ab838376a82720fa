package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// The regions. Each of them is the home of a third of the companies.
var regions = []string{"us-east", "eu-west", "ap-south"}

const (
	// Generator and servers must not take CPU from each other, so each has a core.
	serverCore, generatorCore = 0, 1
	// patient is the number of callers of a closed loop. It is more than a node needs to fill its batches.
	patient = 256
	// crowd is the same for six nodes. Each of them needs callers for the batches of three homes.
	crowd = 1024
	// files is the wanted limit of open files, and spareFiles the number that are no connection of a caller.
	files, spareFiles = 131_072, 1000
)

// session is a run on one engine: a database and companies, and the nodes that each part asks for.
type session struct {
	cmd     *Command
	env     *cluster.Environment
	engine  string
	results *results
	say     cluster.Say

	found float64 // the capacity of six nodes in punches per second, 0 before it is measured
	turn  int     // of nextCompany
}

func (c *Command) start(ctx context.Context, engine string, progress io.Writer) (*session, error) {
	s := &session{cmd: c, engine: engine}
	var err error
	if s.results, err = readResults(c.Out, engine); err != nil {
		return nil, err
	}
	setup := cluster.Setup{Engine: engine, NodesPerRegion: 2, CompaniesPerRegion: 10, Binary: c.Binary}
	s.env, err = setup.Start(ctx, progress, func(cfg *cluster.Config) {
		cfg.Regions, cfg.WithoutNodes = regions, regions // each part starts the nodes that it needs
	})
	if err != nil {
		return nil, err
	}
	s.say = s.env.Say
	s.results.Version = s.env.Database.Version
	if err := s.env.Database.WaitReplicated(ctx); err != nil {
		return nil, errors.Join(err, s.env.Close(ctx))
	}
	return s, nil
}

// nodes starts and stops nodes until each region has the given number.
func (s *session) nodes(ctx context.Context, counts map[string]int) error {
	groups := make(map[string]cluster.NodeGroup)
	for region, n := range counts {
		groups[region] = cluster.NodeGroup{Count: n}
	}
	return s.groups(ctx, groups)
}

// six is two nodes in each region.
func (s *session) six(ctx context.Context) error {
	return s.nodes(ctx, map[string]int{"us-east": 2, "eu-west": 2, "ap-south": 2})
}

// pair is one node in each of two regions.
func (s *session) pair(ctx context.Context) error {
	return s.nodes(ctx, map[string]int{"us-east": 1, "eu-west": 1})
}

// one is a single node, which writes the punches of all homes itself.
func (s *session) one(ctx context.Context) error {
	return s.nodes(ctx, map[string]int{"us-east": 1})
}

func (s *session) groups(ctx context.Context, groups map[string]cluster.NodeGroup) error {
	for _, region := range regions {
		if _, wanted := groups[region]; !wanted {
			if err := s.env.RemoveNodes(ctx, region, quietly); err != nil {
				return err
			}
		}
	}
	for _, region := range slices.Sorted(maps.Keys(groups)) {
		group := groups[region]
		group.Binary = s.env.Binary
		if err := s.env.SetNodes(ctx, region, group, quietly); err != nil {
			return err
		}
	}
	return s.meet(ctx)
}

// quietly leaves out the progress of starts and stops, which are many.
func quietly(string, ...any) {}

// meet waits until a punch of every home is recorded through every node. Connections, plans and routes are warm then.
func (s *session) meet(ctx context.Context) error {
	targets, _ := s.running()
	_, err := s.generate(ctx, &job{Closed: &closedJob{
		Targets: targets, Companies: s.companies(), Connections: 4 * len(targets) * len(regions), Duration: 2 * time.Second,
	}})
	return err
}

// running returns the base URLs and the process ids of the nodes that run.
func (s *session) running(in ...string) (urls []string, pids []int) {
	for _, n := range s.env.Nodes() {
		if n.Running() && (len(in) == 0 || slices.Contains(in, n.Region)) {
			urls, pids = append(urls, n.PublicURL), append(pids, n.PID())
		}
	}
	return urls, pids
}

// entries returns the running nodes region by region.
func (s *session) entries() (list []cluster.Entry) {
	for _, region := range regions {
		if urls, _ := s.running(region); len(urls) > 0 {
			list = append(list, cluster.Entry{Region: region, Endpoints: urls})
		}
	}
	return list
}

// companies returns the companies of the given homes, or all of them.
func (s *session) companies(homes ...string) []cluster.Company {
	if len(homes) == 0 {
		return s.env.Companies
	}
	return slices.DeleteFunc(slices.Clone(s.env.Companies), func(c cluster.Company) bool { return !slices.Contains(homes, c.Home) })
}

func (s *session) databasePIDs() (pids []int) {
	for _, h := range s.env.Database.Hosts() {
		pids = append(pids, h.PID)
	}
	return pids
}

// subject is one of the servers that are compared.
type subject struct {
	name string
	job  closedJob
	pids []int // whose CPU counts

	rates, cpu []float64 // punches per second, and seconds per punch, by round
	last       closedResult
}

// compare lets the subjects take turns, so that a change of the machine meets all of them.
func (s *session) compare(ctx context.Context, rounds int, subjects ...*subject) error {
	for round := range rounds {
		for _, one := range subjects {
			if err := s.round(ctx, one); err != nil {
				return fmt.Errorf("%s, round %d: %w", one.name, round+1, err)
			}
		}
	}
	return nil
}

func (s *session) round(ctx context.Context, one *subject) error {
	before, err := cpuOf(one.pids...)
	if err != nil {
		return err
	}
	result, err := s.generate(ctx, &job{Closed: &one.job})
	if err != nil {
		return err
	}
	after, err := cpuOf(one.pids...)
	if err != nil {
		return err
	}
	one.last = result.Closed
	if one.last.Acknowledged == 0 {
		return fmt.Errorf("no punch was acknowledged: %s", one.last.LastRefusal)
	}
	one.rates = append(one.rates, one.last.Rate())
	one.cpu = append(one.cpu, (after-before)/float64(one.last.Acknowledged))
	s.say("%-24s %8.0f punches/s, %6.0f µs of CPU each, p99 %s, %d refused", one.name, one.last.Rate(),
		1e6*one.cpu[len(one.cpu)-1], one.last.P99.Round(time.Millisecond), one.last.Refused)
	return nil
}

// closed returns the job of a closed loop of single punches.
func (s *session) closed(targets []string, companies []cluster.Company) closedJob {
	return closedJob{Targets: targets, Companies: companies, Connections: patient, Batch: 1, Duration: s.cmd.Round}
}

// peer is a running design of the peers' command.
type peer struct {
	*child
	url string
}

// peerConfig is the configuration of the peers' command.
type peerConfig struct {
	Design      string        `json:"design"`
	JWKS        string        `json:"jwks"`
	DatabaseURL string        `json:"database_url"`
	Region      string        `json:"region"`
	Connections int           `json:"connections"`
	Batch       int           `json:"batch"`
	Redis       string        `json:"redis,omitempty"`
	Dir         string        `json:"dir,omitempty"`
	SyncAlways  bool          `json:"sync_always,omitempty"`
	Company     string        `json:"company,omitempty"`
	Run         time.Duration `json:"run,omitempty"`
}

const (
	nodeRole = "punchclock_node" // the peers reach the database as nodes do
	// The defaults of a node: connections to the database for each home, and punches in one statement.
	nodeConnections, nodeBatch = 4, 512
)

func (s *session) startPeer(ctx context.Context, cfg *peerConfig) (*peer, error) {
	cfg.JWKS, cfg.Region = s.env.Path("jwks.json"), "us-east"
	cfg.DatabaseURL = s.env.Database.URLAs(nodeRole, cluster.DatabaseName, "us-east")
	cfg.Connections, cfg.Batch = nodeConnections, nodeBatch
	binary, err := filepath.Abs(s.cmd.Peers)
	if err != nil {
		return nil, err
	}
	c, err := startChild(ctx, serverCore, cfg, binary)
	if err != nil {
		return nil, fmt.Errorf("--peers: %w", err)
	}
	return &peer{child: c}, nil
}

// startServer starts a design that serves HTTP.
func (s *session) startServer(ctx context.Context, cfg *peerConfig) (*peer, error) {
	p, err := s.startPeer(ctx, cfg)
	if err == nil {
		p.url, err = p.line()
	}
	return p, err
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// ratio returns the median of the ratios of the rounds.
func ratio(a, b []float64) float64 {
	list := make([]float64, min(len(a), len(b)))
	for i := range list {
		list[i] = a[i] / b[i]
	}
	return median(list)
}

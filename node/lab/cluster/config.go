// Package cluster runs a local multi-region cluster of real processes on
// loopback: a database and some nodes per region, for the demo, the drills and
// the tests. It is secured as a deployment is, by certificates of an authority of
// its own. It is no way to deploy: that authority's key lies beside the rest, and
// all regions share one machine's fate.
package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config says what to run. Its zero value is enough for StartDatabase; Start
// needs Binary and JWKS.
type Config struct {
	// Binary is the punchclock executable; Build makes one.
	Binary string
	// Dir is the existing folder in which the cluster makes its own for data
	// and logs; the system's temporary folder when empty.
	Dir string
	// Engine is Cockroach or Postgres; what FindEngine prefers when empty.
	Engine string
	// Regions are the names of the regions, the primary one first; us-east,
	// eu-west and ap-south when empty.
	Regions []string
	// NodesPerRegion is 2 when 0: the least that shows a region outliving a node.
	NodesPerRegion int
	// WithoutNodes are regions whose nodes have their addresses and settings in
	// State and are not started: that is for StartDetached. Not together with
	// Networks, which only our own children can enter.
	WithoutNodes []string
	// DatabaseURL is an existing database to use instead of starting one.
	DatabaseURL string
	// JWKS is the file or URL of the keys that sign the callers' tokens. The
	// nodes run with --development, so development keys are taken.
	JWKS string
	// ExtraEnv returns NAME=value settings for one node, such as OTEL_… or
	// PUNCHCLOCK_…; of this process' environment the nodes inherit all but
	// PUNCHCLOCK_….
	ExtraEnv func(*Node) []string
	// ExtraFlags are given to every node after the cluster's own and override them.
	ExtraFlags []string
	// Proxies puts a Proxy between the nodes and each region's database.
	Proxies bool
	// Clocks lets SetClock set a node's clock. Binary must be built with BuildFlagClock.
	Clocks bool
	// DNSZone makes every node answer DNS for clock.<zone>, with the addresses
	// of the nodes; empty for none.
	DNSZone string
	// Networks gives each region a network of its own, with RoundTrip between
	// them, which Cut and Mend can part. CheckNetworks tells whether that is
	// possible here. Not together with Proxies.
	Networks  bool
	RoundTrip time.Duration
	// KeepDir leaves the cluster's folder behind after a stop without failure.
	KeepDir bool
	// Log is told what happens; nothing is logged without it.
	Log *slog.Logger
}

// regionName is what CockroachDB takes in a locality and a file system in a name.
var regionName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// maxRegions keeps a region's number within an octet of its loopback address.
const maxRegions = 200

// forDatabase fills in the defaults and checks what a database needs.
func (c Config) forDatabase() (Config, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Regions) == 0 {
		c.Regions = []string{"us-east", "eu-west", "ap-south"}
	}
	if c.Networks && c.Proxies {
		return c, errors.New("cluster: Networks and Proxies exclude each other: a proxy is in no region's network")
	}
	return c, checkRegions(c.Regions)
}

func checkRegions(regions []string) error {
	if len(regions) > maxRegions {
		return fmt.Errorf("cluster: Regions: %d are more than %d", len(regions), maxRegions)
	}
	for i, r := range regions {
		if !regionName.MatchString(r) {
			return fmt.Errorf("cluster: Regions: %q does not match %s", r, regionName)
		}
		if slices.Contains(regions[:i], r) {
			return fmt.Errorf("cluster: Regions: %q is there twice", r)
		}
	}
	return nil
}

// forNodes fills in the defaults and checks what a whole cluster needs.
func (c Config) forNodes() (Config, error) {
	c, err := c.forDatabase()
	if err != nil {
		return c, err
	}
	if c.Binary == "" {
		return c, errors.New("cluster: Binary: name the punchclock executable")
	}
	if c.JWKS == "" {
		return c, errors.New("cluster: JWKS: name the file or URL of the token keys")
	}
	if c.NodesPerRegion == 0 {
		c.NodesPerRegion = 2
	}
	if c.NodesPerRegion < 0 {
		return c, fmt.Errorf("cluster: NodesPerRegion: %d is negative", c.NodesPerRegion)
	}
	for _, r := range c.WithoutNodes {
		if !slices.Contains(c.Regions, r) {
			return c, fmt.Errorf("cluster: WithoutNodes: %q is none of the regions %s", r, strings.Join(c.Regions, ", "))
		}
	}
	if c.Networks && len(c.WithoutNodes) > 0 {
		return c, errors.New("cluster: WithoutNodes and Networks exclude each other: only our own children enter a region's network")
	}
	if c.Binary, err = filepath.Abs(c.Binary); err != nil {
		return c, fmt.Errorf("cluster: Binary: %w", err)
	}
	return c, nil
}

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

// Config describes a cluster. Its zero value is enough for StartDatabase. Start needs Binary and JWKS.
type Config struct {
	// Binary is the punchclock executable; see FindBinary and Build.
	Binary string
	// Dir is an existing folder, in which the cluster makes its own for data and logs. Default: the system's temporary
	// folder.
	Dir string
	// Engine is Cockroach or Postgres. Default: the choice of FindEngine.
	Engine string
	// Regions are the names of the regions, the primary one first. Default: us-east, eu-west and ap-south.
	Regions []string
	// NodesPerRegion is 2 by default: the lowest number with which a region survives the loss of a node.
	NodesPerRegion int
	// WithoutNodes are regions whose nodes have addresses and do not start. SetNodes starts them later.
	WithoutNodes []string
	// DatabaseURL is an existing database to use instead of starting one.
	DatabaseURL string
	// JWKS is the file or URL of the keys that sign the callers' tokens. The nodes run with --development, so they
	// accept development keys.
	JWKS string
	// ExtraEnv returns settings NAME=value for one node, such as OTEL_… or PUNCHCLOCK_…. The nodes inherit this
	// process's environment without PUNCHCLOCK_….
	ExtraEnv func(*Node) []string
	// ExtraFlags come after the cluster's own flags of every node, and override them.
	ExtraFlags []string
	// Proxies puts a Proxy between the nodes and each region's database.
	Proxies bool
	// DNSZone makes every node answer DNS for clock.<zone> with the addresses of the nodes. Default: no DNS.
	DNSZone string
	// Networks gives each region a network of its own, with RoundTrip between them. Cut and Mend part and join them.
	// CheckNetworks says whether this machine permits it. Proxies cannot be used with it.
	Networks  bool
	RoundTrip time.Duration
	// KeepDir leaves the cluster's folder behind, even after a stop without failure.
	KeepDir bool
	// Log receives what happens. Default: nothing is logged.
	Log *slog.Logger
}

// regionName matches what CockroachDB accepts in a locality and a file system in a name.
var regionName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// maxRegions keeps a region's number within one octet of its loopback address.
const maxRegions = 200

// forDatabase fills in the defaults of a database and checks them.
func (c Config) forDatabase() (Config, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Regions) == 0 {
		c.Regions = []string{"us-east", "eu-west", "ap-south"}
	}
	if c.Networks && c.Proxies {
		return c, errors.New("cluster: Networks and Proxies exclude each other: a proxy would be in no region's network")
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
			return fmt.Errorf("cluster: Regions: %q is listed twice", r)
		}
	}
	return nil
}

// forNodes fills in the defaults of a whole cluster and checks them.
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
	if c.Binary, err = filepath.Abs(c.Binary); err != nil {
		return c, fmt.Errorf("cluster: Binary: %w", err)
	}
	return c, nil
}

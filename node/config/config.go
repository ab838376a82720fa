// Package config holds every setting of a node: one struct with its names,
// defaults and reasons, read from flags, environment and file, and checked
// before anything starts. It wires nothing.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// Node is what `punchclock node` can be told. Each setting is a flag, an
// environment variable PUNCHCLOCK_<FLAG>, and a key of the settings file.
type Node struct {
	Deployment string `help:"Name of the deployment. Nodes of other deployments are refused, and certificates contain it." default:"punchclock"`
	Region     string `help:"Region this node serves; one of the database's regions."`
	Name       string `help:"Host part of the node's name; the region and a boot id are added." default:"${hostname}"`
	Weight     uint16 `help:"Capability relative to an ordinary node's 100; a node of 200 is sent twice as much." default:"100"`

	Public    Public    `embed:"" prefix:"public-"`
	Peer      Peer      `embed:"" prefix:"peer-"`
	Ops       Ops       `embed:"" prefix:"ops-"`
	Gossip    Gossip    `embed:"" prefix:"gossip-"`
	DNS       DNS       `embed:"" prefix:"dns-"`
	DB        DB        `embed:"" prefix:"database-"`
	Tokens    Tokens    `embed:"" prefix:"token-"`
	Queue     Queue     `embed:"" prefix:"queue-"`
	Batch     Batch     `embed:"" prefix:"batch-"`
	Directory Directory `embed:"" prefix:"directory-"`

	// 15 s outlasts the hand-over of a crashed database region (2 to 7 s)
	// and is about what a person at a gate waits.
	PunchTimeout time.Duration `help:"How long a punch may take before its caller is told to retry." default:"15s"`
	// Two minutes is what an unsynchronised terminal drifts in about a month.
	MaxFutureSkew time.Duration `help:"How far a punch may lie in the future." default:"2m"`
	// Load balancers need a few failed health checks before they stop sending.
	DrainDelay time.Duration `help:"How long to answer not-ready before the listener closes." default:"5s"`
	// systemd and Kubernetes both kill after 30 s or more.
	ShutdownTimeout time.Duration `help:"When to give up finishing, counted from the signal; more than the drain delay." default:"25s"`

	Development bool   `help:"Accept development tokens, and token keys over http. Not for production."`
	Insecure    bool   `help:"Let peer RPC, gossip and database go unprotected, on loopback alone. Not together with any certificate or key."`
	LogLevel    string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

// Public is the listener for devices, people and integrators.
type Public struct {
	Addr string `help:"Address of the public API." default:"127.0.0.1:8080"`
	URL  string `help:"Base URL at which clients reach this node or its balancer; shown by /v1/regions."`
	// Eight fit into what gossip carries.
	Addresses []netip.Addr `help:"IP addresses, at most 8, at which clients reach this node or its balancer; answered by DNS."`
	// One batch of 1,000 punches takes about 300 kB.
	MaxBody  int64  `help:"Largest request body in bytes." default:"1048576"`
	CertFile string `help:"PEM certificate, with intermediates, with which the public API speaks TLS; plain HTTP without it. Read anew when it changes." type:"path"`
	KeyFile  string `help:"PEM key of the public certificate." type:"path"`
}

// Peer is the listener for other nodes.
type Peer struct {
	Addr      string `help:"Address of the node to node RPC." default:"127.0.0.1:7400"`
	Advertise string `help:"host:port that other nodes dial; the listening address when empty."`
	// Nodes check each other's by name: spiffe://<gossip label>/node/<region>.
	CertFile string `help:"PEM certificate of this node, with intermediates; its URI is spiffe://<deployment>/node/<region>. Read anew when it changes." type:"path"`
	KeyFile  string `help:"PEM key of the node's certificate." type:"path"`
	CAFile   string `help:"PEM certificates of the authorities that sign nodes; several while one replaces the other." type:"path"`
	// Calls to another region are long and mostly waiting.
	MaxCalls int `help:"Calls in flight per remote region." default:"8"`
}

// Ops is the operator's listener.
type Ops struct {
	Addr string `help:"Address of health, metrics and profiles; keep it private. Off loopback it speaks TLS with the node's certificate." default:"127.0.0.1:9090"`
}

// Gossip is the node's place in the cluster.
type Gossip struct {
	Addr      string   `help:"Address to gossip on, TCP and UDP." default:"127.0.0.1:7946"`
	Advertise string   `help:"host:port that other nodes gossip to; the bound address when empty."`
	Seeds     []string `help:"host:port of some nodes to join; names are resolved anew at each attempt."`
	KeyFile   string   `help:"File with base64 keys of 16, 24 or 32 bytes, one a line, first one sends. Read again when it changes." type:"path"`
}

// DB is how the node reaches its database.
type DB struct {
	URL     string `help:"PostgreSQL connection URL with sslmode=verify-full; several hosts are tried in order, the nearest first. Its certificates are read anew for each connection."`
	URLFile string `help:"File that holds the URL, for URLs with a password." type:"path"`
	// About 4 active connections per database vCPU; a flush carries hundreds
	// of rows, so a few per home already saturate a small database.
	ConnectionsPerHome int `help:"Statements in flight per home region, and so its connections." default:"4"`
	// Reads are cheap and few beside punches.
	ReadConnections int `help:"Connections for reads." default:"4"`
	// Above a loopback or in-region round trip by orders of magnitude; below
	// an attempt's time-out, so that a host that accepts and never answers
	// leaves time for the next.
	ConnectTimeout time.Duration `help:"When to give up on one host while connecting." default:"2s"`
}

// Tokens is how callers are recognised.
type Tokens struct {
	JWKS     string `help:"File or https URL of the JSON Web Key Set that signs the callers' tokens."`
	Issuer   string `help:"Required issuer of tokens." default:"punchclock"`
	Audience string `help:"Required audience of tokens." default:"punchclock"`
	// Subjects of many identity providers are no employee ids, such as auth0|5f7c.
	EmployeeClaim string `help:"Claim that names the employee in the token of an employee." default:"sub"`
	// Without it a restart while the issuer is away would lock everybody out.
	CacheFile string `help:"File that keeps the last good key set of a URL over restarts." type:"path"`
}

// Queue bounds the punches that wait for the database or for another region.
type Queue struct {
	// 16,384 waiting punches are about one second of a large node's rush.
	MaxItems int `help:"Punches that may wait per home region." default:"16384"`
	MaxBytes int `help:"Memory in bytes that waiting punches may use per home region." default:"33554432"`
}

// Batch bounds one statement and one call to a peer.
type Batch struct {
	// More than 512 rows a statement brought nothing on CockroachDB.
	MaxItems int `help:"Most punches in one statement or one call." default:"512"`
}

// Directory bounds the company directory.
type Directory struct {
	Capacity int           `help:"Companies kept in memory; 100,000 take about 30 MB." default:"100000"`
	Refresh  time.Duration `help:"Age from which an entry is read anew in the background." default:"1m"`
}

var hostPart = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$`)

// problems collects what is wrong, each with the name of its setting.
type problems []error

func (p *problems) add(setting, format string, args ...any) {
	*p = append(*p, fmt.Errorf("--%s: "+format, append([]any{setting}, args...)...))
}

// Validate checks the settings together and names each that is wrong.
func (c *Node) Validate() error {
	var wrong problems
	if !hostPart.MatchString(c.Name) {
		wrong.add("name", "must be 1 to 63 of letters, digits, '.' and '-', is %q", c.Name)
	}
	if c.Region == "" {
		wrong.add("region", "is needed: the region this node serves")
	}
	if c.Tokens.JWKS == "" {
		wrong.add("token-jwks", "is needed: the keys that sign the callers' tokens")
	}
	if c.Tokens.EmployeeClaim == "" {
		wrong.add("token-employee-claim", "is needed: the claim that names the employee, such as sub")
	}
	c.checkAddresses(&wrong)
	c.checkSecurity(&wrong)
	c.checkBounds(&wrong)
	c.DNS.check(&wrong)
	if err := c.DB.check(); err != nil {
		wrong = append(wrong, err)
	}
	if strings.HasPrefix(c.Tokens.JWKS, "http://") && !c.Development {
		wrong.add("token-jwks", "keys fetched over http can be replaced on the way; use https or a file")
	}
	return errors.Join(wrong...)
}

func (c *Node) checkAddresses(wrong *problems) {
	for setting, addr := range map[string]string{
		"public-addr": c.Public.Addr, "peer-addr": c.Peer.Addr, "ops-addr": c.Ops.Addr, "gossip-addr": c.Gossip.Addr,
	} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			wrong.add(setting, "must be host:port: %w", err)
		}
	}
	for name, a := range map[string]struct{ addr, advertise string }{
		"peer": {c.Peer.Addr, c.Peer.Advertise}, "gossip": {c.Gossip.Addr, c.Gossip.Advertise},
	} {
		host, _, err := net.SplitHostPort(a.advertise)
		bound, _, _ := net.SplitHostPort(a.addr)
		switch {
		case a.advertise != "" && (err != nil || host == ""):
			wrong.add(name+"-advertise", "must be host:port, is %q", a.advertise)
		case a.advertise == "" && (bound == "" || net.ParseIP(bound).IsUnspecified()):
			wrong.add(name+"-advertise", "is needed because --%s-addr %s names no address that others can dial", name, a.addr)
		}
	}
	for _, seed := range c.Gossip.Seeds {
		if _, _, err := net.SplitHostPort(seed); err != nil {
			wrong.add("gossip-seeds", "must be host:port: %w", err)
		}
	}
	if c.Public.URL != "" {
		if u, err := url.Parse(c.Public.URL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			wrong.add("public-url", "must be an http or https URL, is %q", c.Public.URL)
		}
	}
	if len(c.Public.Addresses) > 8 {
		wrong.add("public-addresses", "must be at most 8, are %d", len(c.Public.Addresses))
	}
}

func (c *Node) checkBounds(wrong *problems) {
	for setting, v := range map[string]int64{
		"weight": int64(c.Weight), "public-max-body": c.Public.MaxBody,
		"database-connections-per-home": int64(c.DB.ConnectionsPerHome), "database-read-connections": int64(c.DB.ReadConnections),
		"queue-max-items": int64(c.Queue.MaxItems), "batch-max-items": int64(c.Batch.MaxItems),
		"peer-max-calls": int64(c.Peer.MaxCalls), "directory-capacity": int64(c.Directory.Capacity),
		"directory-refresh": int64(c.Directory.Refresh), "database-connect-timeout": int64(c.DB.ConnectTimeout),
	} {
		if v <= 0 {
			wrong.add(setting, "must be more than 0, is %d", v)
		}
	}
	// Peers take no item that may wait longer, and no larger batch.
	if c.PunchTimeout < time.Second || c.PunchTimeout > 2*time.Minute {
		wrong.add("punch-timeout", "must be 1s to 2m, is %s", c.PunchTimeout)
	}
	if c.Batch.MaxItems > 4096 {
		wrong.add("batch-max-items", "must be at most 4096, is %d", c.Batch.MaxItems)
	}
	if c.MaxFutureSkew < 0 {
		wrong.add("max-future-skew", "must not be negative, is %s", c.MaxFutureSkew)
	}
	if c.DrainDelay < 0 {
		wrong.add("drain-delay", "must not be negative, is %s", c.DrainDelay)
	}
	// Else punches that were accepted last would be given up.
	if least := c.DrainDelay + c.PunchTimeout; c.ShutdownTimeout < least {
		wrong.add("shutdown-timeout", "must be at least --drain-delay and --punch-timeout together, %s, is %s", least, c.ShutdownTimeout)
	}
	// Entries expire after a day, and are read anew well before.
	if c.Directory.Refresh > 12*time.Hour {
		wrong.add("directory-refresh", "must be at most 12h, is %s", c.Directory.Refresh)
	}
	if c.Queue.MaxBytes < 64<<10 { // a punch takes up to about 1 kB
		wrong.add("queue-max-bytes", "must be at least 65536, is %d", c.Queue.MaxBytes)
	}
}

// DatabaseURL returns the URL, read from its file where one is given.
func (c *DB) DatabaseURL() (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	if c.URLFile == "" {
		return c.URL, nil
	}
	b, err := os.ReadFile(c.URLFile)
	if err != nil {
		return "", fmt.Errorf("--database-url-file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (c *DB) check() error {
	switch {
	case c.URL == "" && c.URLFile == "":
		return errors.New("--database-url: is needed, or --database-url-file")
	case c.URL != "" && c.URLFile != "":
		return errors.New("--database-url: give this or --database-url-file, and not both")
	default:
		return nil
	}
}

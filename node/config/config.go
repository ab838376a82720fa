// Package config holds every setting of a node: names, defaults and reasons in one struct. The settings come from
// flags, the environment and a file, and are checked before anything starts. The package starts no part itself.
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

// Node is every setting of `punchclock node`. Each setting is a flag, an environment variable PUNCHCLOCK_<FLAG>, and a
// key of the settings file.
type Node struct {
	Deployment string `help:"Name of the deployment. Nodes of other deployments are refused, and certificates contain it." default:"punchclock"`
	Region     string `help:"Region that this node serves. It must be one of the database's regions."`
	Name       string `help:"Host part of the node's name. The node adds its region and a random id of this start." default:"${hostname}"`
	Weight     uint16 `help:"Capacity relative to an ordinary node, which has 100. A node with 200 is sent twice as many punches." default:"100"`

	Public    Public    `embed:"" prefix:"public-"`
	Peer      Peer      `embed:"" prefix:"peer-"`
	Ops       Ops       `embed:"" prefix:"ops-"`
	Gossip    Gossip    `embed:"" prefix:"gossip-"`
	DNS       DNS       `embed:"" prefix:"dns-"`
	DB        DB        `embed:"" prefix:"database-"`
	Tokens    Tokens    `embed:"" prefix:"token-"`
	Overload  Overload  `embed:"" prefix:"overload-"`
	Queue     Queue     `embed:"" prefix:"queue-"`
	Batch     Batch     `embed:"" prefix:"batch-"`
	Directory Directory `embed:"" prefix:"directory-"`
	Employee  Employee  `embed:"" prefix:"employee-"`

	PunchTimeout    time.Duration `help:"Time limit for one punch. Then its device is told to retry. The default outlasts the failover of a database region (2 to 7 s), and is about as long as a person waits at a gate." default:"15s"`
	MaxFutureSkew   time.Duration `help:"How far in the future a punch may lie. A terminal without time synchronization drifts by the default in about a month." default:"2m"`
	DrainDelay      time.Duration `help:"How long a stopping node keeps serving while /readyz answers 503. The default lets a load balancer miss a few health checks." default:"5s"`
	ShutdownTimeout time.Duration `help:"Time limit for stopping, counted from the signal. It must be at least --drain-delay plus --punch-timeout. systemd and Kubernetes kill a process after 30s or more." default:"25s"`

	// The live heap of a node has some ten megabytes, and a punch allocates some kilobytes. By Go's rule, to collect when the
	// heap has doubled, a node under load would collect many times a second. A higher GOGC would multiply the memory of a
	// node with thousands of connections as well, and this number does not.
	HeapReserve int `help:"Bytes that the garbage collector counts as in use beside the live heap, so that it collects less often. A busy node takes up to this much more memory. GOGC and GOMEMLIMIT apply as to every Go program." default:"67108864"`

	Development bool   `help:"Accept development tokens, and token keys over plain http. Never use it in production."`
	Insecure    bool   `help:"Run peer RPC, gossip and the database connection without TLS or keys. Allowed on loopback addresses only, and not together with a certificate or key."`
	LogLevel    string `help:"Lowest level of log lines: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

// Public is the listener for devices, people and integrators.
type Public struct {
	Addr           string       `help:"Address (host:port) of the public API." default:"127.0.0.1:8080"`
	URL            string       `help:"Base URL at which clients reach this node or its load balancer. /v1/regions shows it."`
	Addresses      []netip.Addr `help:"IP addresses at which clients reach this node or its load balancer, at most 8. The nodes' DNS servers answer with them."`
	MaxBody        int64        `help:"Largest request body in bytes. A batch of 1,000 punches has about 300,000." default:"1048576"`
	MaxConnections int          `help:"Connections to the public API at most. Then the connection that has been idle longest makes room for a new one. Set it so that the idle connections of a morning fit in memory." default:"20000"`
	CertFile       string       `help:"PEM file with the certificate of the public API and its intermediates. Without it the API speaks plain HTTP. The node loads a changed file." type:"path"`
	KeyFile        string       `help:"PEM file with the key of --public-cert-file." type:"path"`
}

// Peer is the listener for other nodes.
type Peer struct {
	Addr      string `help:"Address (host:port) of the RPC between nodes." default:"127.0.0.1:7400"`
	Advertise string `help:"Address (host:port) that other nodes dial. The default is the listening address."`
	CertFile  string `help:"PEM file with this node's certificate and its intermediates. Its URI must be spiffe://<deployment>/node/<region>. The node loads a changed file." type:"path"`
	KeyFile   string `help:"PEM file with the key of --peer-cert-file." type:"path"`
	CAFile    string `help:"PEM file with the CA certificates that sign nodes: two while one CA replaces another." type:"path"`
	MaxCalls  int    `help:"Calls in flight to each other region. A call spends most of its time waiting for the distance." default:"8"`
}

// Ops is the operator's listener.
type Ops struct {
	Addr string `help:"Address (host:port) of health checks, metrics, profiles and the admin API. Keep it private. On loopback it speaks plain HTTP, elsewhere TLS with --peer-cert-file." default:"127.0.0.1:9090"`
}

// Gossip is the node's membership in the cluster.
type Gossip struct {
	Addr      string   `help:"Address (host:port) of gossip, over TCP and UDP." default:"127.0.0.1:7946"`
	Advertise string   `help:"Address (host:port) that other nodes gossip to. The default is the listening address."`
	Seeds     []string `help:"Addresses (host:port) of some nodes to join. The node resolves names again at each attempt."`
	KeyFile   string   `help:"File with one base64 key of 16, 24 or 32 bytes in each line. The first key encrypts, all keys decrypt. The node loads a changed file." type:"path"`
}

// DB is how the node reaches its database.
type DB struct {
	URL     string `help:"PostgreSQL connection URL with sslmode=verify-full. The node tries several hosts in order, so name the nearest first. Each new connection reads the certificate files again."`
	URLFile string `help:"File that holds --database-url, for a URL with a password." type:"path"`
	// CockroachDB works best with about 4 active connections for each vCPU. A statement carries hundreds of punches, so
	// a few connections already saturate a small database.
	ConnectionsPerHome int           `help:"Connections for punches to each home region, and so the statements in flight." default:"4"`
	ReadConnections    int           `help:"Connections for reads of punches. Reads are few and cheap." default:"4"`
	ConnectTimeout     time.Duration `help:"Time limit for connecting to one database host. Keep it far below --punch-timeout, so that a host that accepts and never answers leaves time for another host." default:"2s"`
}

// Tokens is how callers are recognized.
type Tokens struct {
	JWKS     string `help:"File or https URL of the JSON Web Key Set that verifies the callers' tokens."`
	Issuer   string `help:"Issuer (iss) that a token must have." default:"punchclock"`
	Audience string `help:"Audience (aud) that a token must have." default:"punchclock"`
	// Subjects of many identity providers are no employee ids, such as auth0|5f7c.
	EmployeeClaim string `help:"Claim with the employee id in the token of an employee." default:"sub"`
	CacheFile     string `help:"File in which the node keeps the last good key set of a URL. Without it a node does not start while the issuer is down." type:"path"`
}

// Overload says when a node refuses work for want of processor time.
type Overload struct {
	Wait time.Duration `help:"Wait for a processor that means overload when it stands for a tenth of a second. Requests beyond what the node can carry are then refused at once, and the wait stays near this one. The default is an eighth of the 2s after which devices give up." default:"250ms"`
}

// Queue bounds the punches that wait for the database or for another region.
type Queue struct {
	MaxItems int           `help:"Punches that may wait for each home region. The default is about one second of a large node's morning rush." default:"16384"`
	MaxWait  time.Duration `help:"How long a punch may have to wait for its write. Beyond it, a punch is refused at once while writes succeed. The default is a quarter of the 2s after which devices give up." default:"500ms"`
	MaxBytes int           `help:"Bytes of memory that waiting punches may use for each home region. The default holds 16,384 punches with long notes." default:"33554432"`
}

// Batch bounds one statement and one call to a peer.
type Batch struct {
	MaxItems int `help:"Most punches in one statement or one call to a peer. Larger statements were not faster on CockroachDB." default:"512"`
}

// Directory bounds the cache of the companies' homes.
type Directory struct {
	Capacity int           `help:"Companies whose home is kept in memory. 100,000 companies take about 30 MB." default:"100000"`
	Refresh  time.Duration `help:"Age at which an entry is read again in the background. A stale entry costs one punch a second attempt." default:"1m"`
}

// Employee limits how often punches of one employee arrive at the node. Its zero value is no limit.
type Employee struct {
	Burst    int           `help:"Punches of one employee that the node takes at once. An honest employee makes one, and a stuck key makes hundreds. Stored punches do not count. With 0 there is no limit." default:"5"`
	Interval time.Duration `help:"Time after which an employee has one punch more. The default is shorter than the way back to the gate." default:"3s"`
}

var hostPart = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$`)

// problems collects the wrong settings, each with its name.
type problems []error

func (p *problems) add(setting, format string, args ...any) {
	*p = append(*p, fmt.Errorf("--%s: "+format, append([]any{setting}, args...)...))
}

// Validate returns an error that names every wrong setting.
func (c *Node) Validate() error {
	var wrong problems
	if !hostPart.MatchString(c.Name) {
		wrong.add("name", "must be 1 to 63 letters, digits, '.' and '-', and begin with a letter or digit; is %q", c.Name)
	}
	if c.Region == "" {
		wrong.add("region", "is required: the region that this node serves")
	}
	if c.Tokens.JWKS == "" {
		wrong.add("token-jwks", "is required: the keys that verify the callers' tokens")
	}
	if c.Tokens.EmployeeClaim == "" {
		wrong.add("token-employee-claim", "is required: the claim with the employee id, such as sub")
	}
	c.checkAddresses(&wrong)
	c.checkSecurity(&wrong)
	c.checkBounds(&wrong)
	c.DNS.check(&wrong)
	if err := c.DB.check(); err != nil {
		wrong = append(wrong, err)
	}
	if strings.HasPrefix(c.Tokens.JWKS, "http://") && !c.Development {
		wrong.add("token-jwks", "must be an https URL or a file: keys that are fetched over http can be replaced on the way")
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
			wrong.add(name+"-advertise", "is required because --%s-addr %s is no address that other nodes can dial", name, a.addr)
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
		wrong.add("public-addresses", "must be at most 8 addresses, are %d", len(c.Public.Addresses))
	}
}

func (c *Node) checkBounds(wrong *problems) {
	for setting, v := range map[string]int64{
		"weight": int64(c.Weight), "public-max-body": c.Public.MaxBody, "public-max-connections": int64(c.Public.MaxConnections),
		"database-connections-per-home": int64(c.DB.ConnectionsPerHome), "database-read-connections": int64(c.DB.ReadConnections),
		"queue-max-items": int64(c.Queue.MaxItems), "queue-max-wait": int64(c.Queue.MaxWait),
		"overload-wait": int64(c.Overload.Wait), "batch-max-items": int64(c.Batch.MaxItems),
		"peer-max-calls": int64(c.Peer.MaxCalls), "directory-capacity": int64(c.Directory.Capacity),
		"directory-refresh": int64(c.Directory.Refresh), "database-connect-timeout": int64(c.DB.ConnectTimeout),
	} {
		if v <= 0 {
			wrong.add(setting, "must be more than 0, is %d", v)
		}
	}
	// Peers refuse an item with a longer deadline, and a larger batch.
	if c.PunchTimeout < time.Second || c.PunchTimeout > 2*time.Minute {
		wrong.add("punch-timeout", "must be 1s to 2m, is %s", c.PunchTimeout)
	}
	if c.Batch.MaxItems > 4096 {
		wrong.add("batch-max-items", "must be at most 4096, is %d", c.Batch.MaxItems)
	}
	if c.Employee.Burst < 0 {
		wrong.add("employee-burst", "must not be negative, is %d", c.Employee.Burst)
	}
	if c.Employee.Burst > 0 && c.Employee.Interval <= 0 {
		wrong.add("employee-interval", "must be more than 0, is %s", c.Employee.Interval)
	}
	if c.HeapReserve < 0 {
		wrong.add("heap-reserve", "must not be negative, is %d", c.HeapReserve)
	}
	if c.MaxFutureSkew < 0 {
		wrong.add("max-future-skew", "must not be negative, is %s", c.MaxFutureSkew)
	}
	if c.DrainDelay < 0 {
		wrong.add("drain-delay", "must not be negative, is %s", c.DrainDelay)
	}
	// With less the node would give up the punches that it accepted last.
	if least := c.DrainDelay + c.PunchTimeout; c.ShutdownTimeout < least {
		wrong.add("shutdown-timeout", "must be at least --drain-delay and --punch-timeout together, %s, is %s", least, c.ShutdownTimeout)
	}
	// Entries expire after a day, and must be read again well before.
	if c.Directory.Refresh > 12*time.Hour {
		wrong.add("directory-refresh", "must be at most 12h, is %s", c.Directory.Refresh)
	}
	if c.Queue.MaxBytes < 64<<10 { // a punch takes up to about 1 kB
		wrong.add("queue-max-bytes", "must be at least 65536, is %d", c.Queue.MaxBytes)
	}
}

// DatabaseURL returns the URL. If the settings name a file, it reads the URL from there.
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
		return errors.New("--database-url: is required, or --database-url-file")
	case c.URL != "" && c.URLFile != "":
		return errors.New("--database-url: must not be given together with --database-url-file")
	default:
		return nil
	}
}

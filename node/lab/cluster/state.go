package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// State describes a running cluster to scripts, to Terraform and to the lab's commands. It is a JSON file.
type State struct {
	PID           int           `json:"pid"` // of the process that runs the cluster
	Dir           string        `json:"dir"`
	Regions       []string      `json:"regions"`
	Database      DatabaseState `json:"database"`
	Nodes         []NodeState   `json:"nodes"`
	GossipKeyFile string        `json:"gossip_key_file,omitempty"` // the keyring file of all nodes
	// Deployment is the deployment's name and Authority the file of its CA. Operators verify the nodes by them.
	Deployment    string    `json:"deployment,omitempty"`
	Authority     string    `json:"authority,omitempty"`
	Companies     []Company `json:"companies"`
	OperatorToken string    `json:"operator_token,omitempty"`
	// Control is the Unix socket on which the process takes changes, if it does; see Control.
	Control string `json:"control,omitempty"`
	// TracesURL serves the newest traces, if the cluster collects them.
	TracesURL string `json:"traces_url,omitempty"`
}

// Company is a company whose employees punch.
type Company struct {
	ID    string `json:"id"`
	Home  string `json:"home"`  // name of its home region
	Token string `json:"token"` // a manager's, which may punch for every employee
	// Employees is the number of employees that take turns; 10,000 when 0.
	Employees int `json:"employees,omitempty"`
}

// Entry is a region in which punches arrive.
type Entry struct {
	Region    string
	Endpoints []string // base URLs, all alike
}

// DatabaseState is the database in a State.
type DatabaseState struct {
	Engine  string            `json:"engine,omitempty"` // empty when the cluster was given the database
	Version string            `json:"version,omitempty"`
	URL     string            `json:"url"`  // as the superuser
	URLs    map[string]string `json:"urls"` // by region
	Hosts   []HostState       `json:"hosts,omitempty"`
}

// HostState is a process of the database in a State.
type HostState struct {
	Region string `json:"region,omitempty"` // empty for a process that serves all regions
	Addr   string `json:"addr"`
	PID    int    `json:"pid,omitempty"`
	Log    string `json:"log"`
	// Crashes counts how often a process ended by itself, in a region that was added.
	Crashes int64 `json:"crashes"`
}

// NodeState is a node in a State.
type NodeState struct {
	Region     string `json:"region"`
	Name       string `json:"name"`
	PublicURL  string `json:"public_url"`
	OpsURL     string `json:"ops_url"`
	PeerAddr   string `json:"peer_addr"`
	GossipAddr string `json:"gossip_addr"`
	DNSAddr    string `json:"dns_addr,omitempty"`
	PID        int    `json:"pid,omitempty"` // 0 while no process runs
	Log        string `json:"log"`
	// Crashes counts how often a process of the node ended by itself. Terraform sees a dead node by it.
	Crashes int `json:"crashes"`
}

// State returns the cluster as it is now.
func (c *Cluster) State() State {
	s := State{
		PID: os.Getpid(), Dir: c.Dir(), Regions: c.Regions(), GossipKeyFile: c.GossipKeyFile(),
		Deployment: c.ws.deployment(), Authority: c.ws.certs.CAFile(),
	}
	s.Database = DatabaseState{URL: c.DatabaseURL(c.cfg.Regions[0]), URLs: make(map[string]string)}
	for _, r := range s.Regions {
		s.Database.URLs[r] = c.DatabaseURL(r)
	}
	if d := c.Database; d != nil {
		s.Database.Engine, s.Database.Version, s.Database.Hosts = d.Engine, d.Version, d.Hosts()
	}
	for _, n := range c.Nodes() {
		s.Nodes = append(s.Nodes, n.state())
	}
	return s
}

func (n *Node) state() NodeState {
	s := NodeState{
		Region: n.Region, Name: n.Name, PublicURL: n.PublicURL, OpsURL: n.OpsURL,
		PeerAddr: n.PeerAddr, GossipAddr: n.GossipAddr, DNSAddr: n.DNSAddr, Log: n.Logs(),
	}
	if n.Running() {
		s.PID = n.PID()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Crashes = n.crashes
	return s
}

// Hosts returns the processes of the database as they are now.
func (d *Database) Hosts() []HostState {
	var hosts []HostState
	for _, h := range d.all() {
		s := HostState{Region: h.region, Addr: h.addr, Log: h.command.log, Crashes: h.crashes.Load()}
		if p := d.processOf(h); p != nil {
			s.PID = p.pid()
		}
		hosts = append(hosts, s)
	}
	return hosts
}

// Entries returns the public endpoints, region by region.
func (s *State) Entries() (entries []Entry) {
	for _, n := range s.Nodes {
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Region == n.Region })
		if i < 0 {
			i = len(entries)
			entries = append(entries, Entry{Region: n.Region})
		}
		entries[i].Endpoints = append(entries[i].Endpoints, n.PublicURL)
	}
	return entries
}

// Write replaces the JSON file atomically. Only this account may read it, because it holds tokens.
func (s *State) Write(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := renameio.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// ReadState reads a file of Write.
func ReadState(path string) (*State, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &s, nil
}

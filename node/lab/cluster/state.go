package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// State is a running cluster as scripts see it.
type State struct {
	PID           int           `json:"pid"` // of the process that runs the cluster
	Dir           string        `json:"dir"`
	Regions       []string      `json:"regions"`
	Database      DatabaseState `json:"database"`
	Nodes         []NodeState   `json:"nodes"`
	GossipKeyFile string        `json:"gossip_key_file,omitempty"` // the keyring file of all nodes
	// Deployment and Authority are what an operator knows the nodes by; the
	// second is a file.
	Deployment string `json:"deployment,omitempty"`
	Authority  string `json:"authority,omitempty"`
	// Tokens are ready-made, by whatever names the writer gives them.
	Tokens map[string]string `json:"tokens,omitempty"`
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
	Region string `json:"region,omitempty"` // empty when it is for all
	Addr   string `json:"addr"`
	PID    int    `json:"pid,omitempty"` // 0 when it is not the cluster that runs it
	Log    string `json:"log"`
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
	PID        int    `json:"pid,omitempty"` // 0 when it is not the cluster that runs it
	Log        string `json:"log"`
	// Settings and Env are what the cluster gives the node, for whoever starts
	// it in the cluster's place.
	Settings map[string]string `json:"settings"`
	Env      []string          `json:"env,omitempty"`
}

// State returns the cluster as it is now.
func (c *Cluster) State() State {
	s := State{
		PID: os.Getpid(), Dir: c.Dir(), Regions: c.Regions(), GossipKeyFile: c.GossipKeyFile(),
		Deployment: c.ws.deployment(), Authority: c.ws.certs.Authority(),
	}
	s.Database = DatabaseState{URL: c.DatabaseURL(c.cfg.Regions[0]), URLs: make(map[string]string)}
	for _, r := range c.cfg.Regions {
		s.Database.URLs[r] = c.DatabaseURL(r)
	}
	if d := c.Database; d != nil {
		s.Database.Engine, s.Database.Version, s.Database.Hosts = d.Engine, d.Version, d.Hosts()
	}
	for _, n := range c.nodes {
		s.Nodes = append(s.Nodes, c.stateOf(n))
	}
	return s
}

func (c *Cluster) stateOf(n *Node) NodeState {
	s := NodeState{
		Region: n.Region, Name: n.Name, PublicURL: n.PublicURL, OpsURL: n.OpsURL,
		PeerAddr: n.PeerAddr, GossipAddr: n.GossipAddr, DNSAddr: n.DNSAddr, Log: c.ws.logFile(n.Name),
		Settings: c.settings(n), Env: c.extraEnv(n),
	}
	if n.Running() {
		s.PID = n.PID()
	}
	return s
}

// Hosts returns the processes of the database as they are now.
func (d *Database) Hosts() []HostState {
	var hosts []HostState
	for _, h := range d.hosts {
		s := HostState{Region: h.region, Addr: h.addr, Log: h.command.log}
		if p := d.processOf(h); p != nil {
			s.PID = p.pid()
		}
		hosts = append(hosts, s)
	}
	return hosts
}

// WriteState writes State to a JSON file.
func (c *Cluster) WriteState(path string) error { return c.State().Write(path) }

// Write writes s to a JSON file that only this account may read, since tokens
// are in it. A reader sees the old file or the new one and never a part.
func (s State) Write(path string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".state-") // readable for us alone
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("state: %w", err), os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("state: %w", err), os.Remove(f.Name()))
	}
	return nil
}

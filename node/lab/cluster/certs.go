package cluster

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/node/config"
)

// The accounts of the database, see node/crdb.
const (
	nodeUser     = "punchclock_node"
	operatorUser = "punchclock_operator"
	migratorUser = "punchclock_migrator"
)

// certificateLife is for a cluster that somebody leaves running over a weekend.
const certificateLife = 7 * 24 * time.Hour

// RenewCertificates replaces everybody's certificates by new ones that hold for
// the given time. The nodes notice within seconds, a database process when it is
// started again.
func (c *Cluster) RenewCertificates(life time.Duration) error {
	return c.ws.makeCertificates(c.cfg, life)
}

// makeCertificates makes the authority of this cluster, unless it is there, and
// everybody's certificates, as `punchclock dev-ca` does.
func (w *workspace) makeCertificates(cfg Config, life time.Duration) error {
	hosts := w.certified()
	for i := range len(cfg.Regions) + 1 { // 0 is for what belongs to no region
		if host := w.host(i); host != hosts[len(hosts)-1] { // where only 127.0.0.1 exists all are one
			hosts = append(hosts, host)
		}
	}
	err := w.certs.Make(certs.Dev{
		Deployment: w.deployment(), Regions: cfg.Regions, Hosts: hosts, DatabaseHosts: hosts,
		DatabaseUsers: []string{"root", "postgres", nodeUser, operatorUser, migratorUser}, Life: life,
	})
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// certified are in every certificate; the last two for whoever puts something in
// between.
func (*workspace) certified() []string { return []string{"localhost", "::1", "127.0.0.1"} }

// deployment keeps nodes of other clusters out.
func (w *workspace) deployment() string { return filepath.Base(w.dir) }

// writeGossipKey makes the key that the nodes share.
func (c *Cluster) writeGossipKey() error {
	c.keyFile = filepath.Join(c.ws.dir, "gossip.key")
	key := make([]byte, 32) // memberlist's largest
	_, _ = rand.Read(key)   // never fails, says its documentation
	if err := os.WriteFile(c.keyFile, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// opsURL is the base URL of an operations listener: off loopback a node speaks
// TLS there.
func opsURL(addr string) string {
	if config.Loopback(addr) {
		return "http://" + addr
	}
	return "https://" + addr
}

// opsClient asks operations listeners. Each request has a connection of its
// own, without a proxy: a kept one would hold up the node's stop.
func (w *workspace) opsClient() (*http.Client, error) {
	config, err := certs.OperatorClient(w.certs.CAFile(), w.deployment())
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}, nil
}

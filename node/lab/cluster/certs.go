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

// The roles of the database; see node/crdb.
const (
	nodeUser     = "punchclock_node"
	operatorUser = "punchclock_operator"
	migratorUser = "punchclock_migrator"
)

// certificateLife covers a cluster that runs over a weekend.
const certificateLife = 7 * 24 * time.Hour

// RenewCertificates replaces all certificates. The new ones are valid for the given time. Nodes load them within seconds,
// a database process at its next start.
func (c *Cluster) RenewCertificates(life time.Duration) error {
	return c.ws.makeCertificates(c.cfg, life)
}

// makeCertificates makes the CA of this cluster if it is missing, and all certificates, as `punchclock dev-ca` does.
func (w *workspace) makeCertificates(cfg Config, life time.Duration) error {
	hosts := w.certified()
	for i := range len(cfg.Regions) + 1 { // 0 is for processes that belong to no region
		if host := w.host(i); host != hosts[len(hosts)-1] { // on macOS all are 127.0.0.1
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

// certified returns the names in every certificate. Proxies and tests use the two addresses.
func (*workspace) certified() []string { return []string{"localhost", "::1", "127.0.0.1"} }

// deployment is the deployment's name. Nodes of other clusters have another one and are refused.
func (w *workspace) deployment() string { return filepath.Base(w.dir) }

// writeGossipKey makes the keyring that the nodes share.
func (c *Cluster) writeGossipKey() error {
	c.keyFile = filepath.Join(c.ws.dir, "gossip.key")
	key := make([]byte, 32) // the largest size of memberlist
	_, _ = rand.Read(key)   // never fails, by its documentation
	if err := os.WriteFile(c.keyFile, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// opsURL is the base URL of an operations listener, which uses TLS on addresses other than loopback.
func opsURL(addr string) string {
	if config.Loopback(addr) {
		return "http://" + addr
	}
	return "https://" + addr
}

// opsClient returns a client of operations listeners. Each request has a connection of its own, because an idle one
// would delay the node's stop.
func (w *workspace) opsClient() (*http.Client, error) {
	config, err := certs.OperatorClient(w.certs.CAFile(), w.deployment())
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}, nil
}

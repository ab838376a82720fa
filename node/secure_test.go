package node_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// certificates returns the folder of the shared cluster's certificates.
func (w *world) certificates() certs.Dir { return certs.Dir(filepath.Join(w.cluster.Dir(), "certs")) }

// TestRenewalUnderLoad replaces all nodes' certificates while punches are forwarded between regions. Each punch must be
// recorded, and each node must show the new end of its certificates.
func TestRenewalUnderLoad(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "eu-west")
		tok := token(t, company)
		entry := w.cluster.Region("us-east")[0]
		ctx, stop := context.WithCancel(testContext(t))
		var sent atomic.Int64
		var load sync.WaitGroup
		load.Go(func() {
			for ctx.Err() == nil {
				if err := punchOnce(ctx, entry, tok); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				sent.Add(1)
			}
		})
		hops := metricOf(t, entry, "punchclock_peer_forwarded_total", `result="done"`)
		const life = 30 * 24 * time.Hour // more than before
		if err := w.cluster.RenewCertificates(life); err != nil {
			t.Fatal(err)
		}
		want := float64(time.Now().Add(life - time.Minute).Unix())
		for _, n := range w.cluster.Nodes() {
			eventually(t, n.Name+" tells the new end", func() bool {
				return metricOf(t, n, "punchclock_certificate_expiry_seconds", `certificate="peer"`) > want &&
					metricOf(t, n, "punchclock_certificate_expiry_seconds", `certificate="database"`) > want
			})
		}
		before := sent.Load()
		eventually(t, "punches go on with the new certificates", func() bool { return sent.Load() > before+20 })
		stop()
		load.Wait()
		if crossed := metricOf(t, entry, "punchclock_peer_forwarded_total", `result="done"`) - hops; crossed < float64(before) {
			t.Errorf("%v of %d punches went over peer RPC: the test shows too little", crossed, sent.Load())
		}
		for _, certificate := range []string{"ca", "database_ca"} {
			ends := metricOf(t, entry, "punchclock_certificate_expiry_seconds", `certificate="`+certificate+`"`)
			if ends < float64(time.Now().Unix()) {
				t.Errorf("the %s ends at %v", certificate, ends)
			}
		}
	})
}

// punchOnce sends one punch without retries.
func punchOnce(ctx context.Context, n *cluster.Node, token string) error {
	id := punch.NewID() // its employee too: one employee may not punch all the time
	in := fmt.Sprintf(`{"id":%q,"employee":%q,"kind":"in"}`, id, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.PublicURL+"/v1/punches", strings.NewReader(in))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s answered %s: %s", in, res.Status, text)
	}
	return errors.Join(err, res.Body.Close())
}

// eventually polls until done, for at most 30 s. Nodes check their files every 2 s, and load a content that two checks
// have read.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestOnlyNodesMayCallNodes calls the peer listener of a running node in plain text and without a certificate. It also
// calls with certificates of the same CA that are not a node's.
func TestOnlyNodesMayCallNodes(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		n := w.cluster.Nodes()[0]
		if res, err := http.Get("http://" + n.PeerAddr + "/"); err == nil {
			_ = res.Body.Close()
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("plain text was answered %s", res.Status)
			}
		}
		dir := w.certificates()
		pair := func(certificate, key string) []tls.Certificate {
			p, err := tls.LoadX509KeyPair(certificate, key)
			if err != nil {
				t.Fatal(err)
			}
			return []tls.Certificate{p}
		}
		for who, own := range map[string]struct {
			certificate []tls.Certificate
			served      bool
		}{
			"no certificate":  {nil, false},
			"a database":      {pair(dir.Database()+"/node.crt", dir.Database()+"/node.key"), false},
			"a database user": {pair(dir.Database()+"/client.root.crt", dir.Database()+"/client.root.key"), false},
			"a node":          {pair(dir.Node("eu-west")), true},
		} {
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
				DisableKeepAlives: true, ForceAttemptHTTP2: true,
				TLSClientConfig: &tls.Config{
					Certificates: own.certificate, RootCAs: mustPool(t, dir.CAFile()),
					ServerName: "node." + n.Region + "." + filepath.Base(w.cluster.Dir()), // a name in the node's certificate
				},
			}}
			res, err := client.Get("https://" + n.PeerAddr + "/")
			if err == nil {
				_ = res.Body.Close()
			}
			if (err == nil) != own.served {
				t.Errorf("%s: %v, want an answer: %t", who, err, own.served)
			}
			client.CloseIdleConnections()
		}
		refused := metricOf(t, n, "punchclock_tls_handshake_failures_total", `reason="not_a_node"`)
		if refused < 2 {
			t.Errorf("%v connections counted as refused, want at least those of the database and of its user", refused)
		}
	})
}

func mustPool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s: %v", file, err)
	}
	return pool
}

// TestThePublicListenerSpeaksTLS if it has a certificate.
func TestThePublicListenerSpeaksTLS(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		settings := w.settings(t)
		settings.Public.Addr = freeAddr(t)
		settings.Public.CertFile, settings.Public.KeyFile = settings.Peer.CertFile, settings.Peer.KeyFile
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: mustPool(t, settings.Peer.CAFile)},
		}}
		runWhileReady(t, settings, func() {
			for url, want := range map[string]int{"https://": http.StatusOK, "http://": http.StatusBadRequest} {
				res, err := client.Get(url + settings.Public.Addr + "/openapi.yaml")
				if err != nil {
					t.Errorf("%s: %v", url, err)
					continue
				}
				_ = res.Body.Close()
				if res.StatusCode != want {
					t.Errorf("%s answered %s, want %d", url, res.Status, want)
				}
			}
		})
	})
}

// secure gives a node in this process its own certificates.
func secure(t *testing.T, settings *config.Node) {
	t.Helper()
	// The deployment is a name in certificates.
	settings.Deployment = strings.ToLower(strings.ReplaceAll(t.Name(), "/", "."))
	dir := certs.Dir(t.TempDir())
	err := dir.Make(certs.Dev{
		Deployment: settings.Deployment, Regions: []string{settings.Region}, Hosts: []string{"127.0.0.1"},
		DatabaseHosts: []string{"127.0.0.1"}, Life: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	settings.Peer.CertFile, settings.Peer.KeyFile = dir.Node(settings.Region)
	settings.Peer.CAFile = dir.CAFile()
	settings.Gossip.KeyFile = filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(settings.Gossip.KeyFile, []byte("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// nodeURL returns the database URL of a region's nodes.
func (w *world) nodeURL(region string) string {
	return w.cluster.Database.URLAs(crdb.NodeRole, cluster.DatabaseName, region)
}

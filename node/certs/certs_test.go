package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deployment = "acme-prod"

// world is a CA with its certificates, and a Set that checks files every few milliseconds.
type world struct {
	t   *testing.T
	dir Dir
	set *Set
	log *lockedBuffer
	sdk *sdkmetric.ManualReader
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func mustWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: Dir(t.TempDir()), log: new(lockedBuffer), sdk: sdkmetric.NewManualReader()}
	w.mustMake(w.dir, deployment, time.Hour)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.sdk))
	log := slog.New(slog.NewTextHandler(w.log, nil))
	var err error
	if w.set, err = New(Config{CheckEvery: 5 * time.Millisecond}, Deps{Log: log, Meter: provider}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.set.Close)
	return w
}

func (w *world) mustMake(dir Dir, deployment string, life time.Duration) {
	w.t.Helper()
	err := dir.Make(Dev{
		Deployment: deployment, Regions: []string{"us-east", "eu-west"}, Hosts: []string{"127.0.0.1"},
		DatabaseHosts: []string{"127.0.0.1"}, DatabaseUsers: []string{"root"}, Life: life,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// files returns the files of a region's node in dir. They are verified by the world's CA.
func (w *world) files(dir Dir, region string) Files {
	certificate, key := dir.Node(region)
	return Files{
		Certificate: File{certificate, "--certificate", "peer"}, Key: File{key, "--key", ""},
		CA: File{w.dir.CAFile(), "--ca", "ca"},
	}
}

func (w *world) mustLoad(files Files) *Source {
	w.t.Helper()
	s, err := w.set.Load(files)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// node loads the certificate of a region's node, and checks that it is the node's own.
func (w *world) node(region string) *Source {
	w.t.Helper()
	files := w.files(w.dir, region)
	files.Self = Name{deployment, region}
	return w.mustLoad(files)
}

// shake connects a client to a server and returns the error of each. The client also reads a byte: only then it knows
// whether the server accepted it.
func shake(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing is pending
	done := make(chan error, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close() //nolint:errcheck // answered
		conn := tls.Server(raw, server)
		if err = conn.Handshake(); err == nil {
			_, err = conn.Write([]byte("!"))
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close() //nolint:errcheck // read
	conn := tls.Client(raw, client)
	if atClient = conn.Handshake(); atClient == nil {
		_, atClient = io.ReadFull(conn, make([]byte, 1))
	} else {
		_ = raw.Close() // or the server would wait
	}
	return <-done, atClient
}

func TestOnlyNodesOfTheDeploymentMayCall(t *testing.T) {
	w := mustWorld(t)
	server, client := w.node("us-east"), w.node("eu-west")
	config := server.PeerServer(deployment)
	if atServer, atClient := shake(t, config, client.PeerClient(Name{deployment, "us-east"})); atServer != nil || atClient != nil {
		t.Fatalf("a node of the deployment: %v, %v", atServer, atClient)
	}

	other, short, foreign := Dir(t.TempDir()), Dir(t.TempDir()), Dir(t.TempDir())
	for _, dir := range []Dir{other, short} { // the same CA
		for _, name := range []string{"ca.crt", "ca.key"} {
			text, err := os.ReadFile(filepath.Join(string(w.dir), name))
			if err == nil {
				err = os.WriteFile(filepath.Join(string(dir), name), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	w.mustMake(other, "acme-staging", time.Hour)
	w.mustMake(short, deployment, time.Nanosecond)
	w.mustMake(foreign, deployment, time.Hour)
	database, databaseKey := w.dir.Database()+"/node.crt", w.dir.Database()+"/node.key"
	user, userKey := w.dir.Database()+"/client.root.crt", w.dir.Database()+"/client.root.key"
	ca := File{w.dir.CAFile(), "--ca", ""}
	operator := filepath.Join(t.TempDir(), "operator")
	w.mustIssue(operator, leaf{name: "alice", uris: mustURIs("spiffe://" + deployment + "/operator/alice"), client: true, server: true})
	serverOnly := filepath.Join(t.TempDir(), "server-only")
	w.mustIssue(serverOnly, leaf{uris: []*url.URL{Name{deployment, "eu-west"}.uri()}, server: true})
	two := filepath.Join(t.TempDir(), "two")
	names := mustURIs("spiffe://"+deployment+"/node/eu-west", "spiffe://"+deployment+"/node/us-east")
	w.mustIssue(two, leaf{uris: names, client: true, server: true})

	for _, c := range []struct {
		who    string
		files  Files
		reason string
	}{
		{"a node of another deployment", w.files(other, "eu-west"), "deployment"},
		{"an expired node", w.files(short, "eu-west"), "expired"},
		{"a node of another CA", w.files(foreign, "eu-west"), "unknown_ca"},
		{"a database", Files{Certificate: File{Path: database}, Key: File{Path: databaseKey}, CA: ca}, "not_a_node"},
		{"a database's user", Files{Certificate: File{Path: user}, Key: File{Path: userKey}, CA: ca}, "not_a_node"},
		{"an operator", Files{Certificate: File{Path: operator + ".crt"}, Key: File{Path: operator + ".key"}, CA: ca}, "not_a_node"},
		{"a certificate for servers only", Files{Certificate: File{Path: serverOnly + ".crt"},
			Key: File{Path: serverOnly + ".key"}, CA: ca}, "invalid"},
		{"a certificate with two names", Files{Certificate: File{Path: two + ".crt"}, Key: File{Path: two + ".key"}, CA: ca}, "not_a_node"},
	} {
		before := w.count("punchclock.tls.handshake.failures", "reason", c.reason)
		caller := w.mustLoad(c.files)
		atServer, atClient := shake(t, config, caller.PeerClient(Name{deployment, "us-east"}))
		if atServer == nil || atClient == nil {
			t.Errorf("%s was served: %v, %v", c.who, atServer, atClient)
		}
		if got := w.count("punchclock.tls.handshake.failures", "reason", c.reason); got != before+1 {
			t.Errorf("%s: refused %d times because of %q, want once more than %d; the server says %v", c.who, got, c.reason, before, atServer)
		}
		// The other direction: the wrong certificate is the server's.
		atServer, atClient = shake(t, caller.PeerServer(deployment), client.PeerClient(Name{deployment, "eu-west"}))
		if atClient == nil && c.who != "a certificate for servers only" {
			t.Errorf("%s was accepted as the called node: %v, %v", c.who, atServer, atClient)
		}
	}
	anonymous := client.PeerClient(Name{deployment, "us-east"})
	anonymous.GetClientCertificate = nil
	if atServer, _ := shake(t, config, anonymous); atServer == nil {
		t.Error("a caller without a certificate was served")
	}
	if atServer, atClient := shake(t, config, client.PeerClient(Name{deployment, "ap-south"})); atClient == nil || atServer == nil {
		t.Errorf("the node of us-east was accepted as a node of ap-south: %v, %v", atServer, atClient)
	}
	if got := w.count("punchclock.tls.handshake.failures", "reason", "region"); got != 1 {
		t.Errorf("%d refused because of the region, want 1", got)
	}
}

func TestOperatorsVerifyTheNode(t *testing.T) {
	w := mustWorld(t)
	server := w.node("us-east").Server()
	for wanted, ok := range map[string]bool{deployment: true, "acme-staging": false} {
		config, err := OperatorClient(w.dir.CAFile(), wanted)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := shake(t, server, config); (err == nil) != ok {
			t.Errorf("an operator of %s: %v, want served: %t", wanted, err, ok)
		}
	}
	if _, err := OperatorClient(filepath.Join(t.TempDir(), "nothing"), deployment); err == nil {
		t.Error("a CA file that does not exist was accepted")
	}
}

// mustIssue writes name.crt and name.key, signed by the world's CA.
func (w *world) mustIssue(name string, l leaf) {
	w.t.Helper()
	a, err := openCA(string(w.dir), deployment)
	if err == nil {
		err = a.issue(name+".crt", name+".key", l, time.Hour)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func mustURIs(list ...string) (uris []*url.URL) {
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		uris = append(uris, u)
	}
	return uris
}

// points returns the data points of an integer metric.
func (w *world) points(name string) []metricdata.DataPoint[int64] {
	w.t.Helper()
	var all metricdata.ResourceMetrics
	if err := w.sdk.Collect(context.Background(), &all); err != nil {
		w.t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				if m.Name == name {
					return data.DataPoints
				}
			case metricdata.Gauge[int64]:
				if m.Name == name {
					return data.DataPoints
				}
			}
		}
	}
	return nil
}

func (w *world) count(name, key, value string) (n int64) {
	w.t.Helper()
	for _, p := range w.points(name) {
		if v, ok := p.Attributes.Value(attribute.Key(key)); ok && v.AsString() == value {
			n += p.Value
		}
	}
	return n
}

// await polls until done, for at most 10 s.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestNamesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Name{
			Deployment: rapid.StringMatching(`[a-z0-9_.-]{1,40}`).Draw(t, "deployment"),
			Region:     rapid.StringMatching(`[A-Za-z0-9_./-]{1,20}`).Draw(t, "region"),
		}
		if n.Validate() != nil {
			t.Skip("not a name")
		}
		a := &ca{key: mustKey()}
		text, err := a.sign(templateOf(leaf{uris: []*url.URL{n.uri()}, server: true}), a.key, time.Hour)
		if err != nil {
			t.Fatalf("%s cannot stand in a certificate: %v", n, err)
		}
		got, err := nameOf(mustCertificate(text))
		if err != nil || got != n {
			t.Fatalf("%s came back as %s, %v", n, got, err)
		}
	})
}

func TestOtherNamesAreNoNodes(t *testing.T) {
	for _, name := range []string{
		"https://acme/node/eu", "spiffe://acme/node/", "spiffe:///node/eu", "spiffe://acme/node/eu/x", "spiffe://acme/node/eu?x=1",
		"spiffe://acme/node/eu#x", "spiffe://u@acme/node/eu", "spiffe://acme:1/node/eu", "spiffe://ACME/node/eu", "spiffe://acme/operator/eu",
		"spiffe://acme/node/e%75", "spiffe://acme/x/node/eu", "spiffe://acme//node/eu", "spiffe:acme/node/eu", "acme/node/eu",
	} {
		a := &ca{key: mustKey()}
		text, err := a.sign(templateOf(leaf{uris: mustURIs(name)}), a.key, time.Hour)
		if err != nil {
			continue // Go refuses the name itself
		}
		if got, err := nameOf(mustCertificate(text)); err == nil {
			t.Errorf("%q was accepted as the node %s", name, got)
		} else if r, ok := errors.AsType[*refusal](err); !ok || r.reason != "not_a_node" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestExpiryIsAMetric(t *testing.T) {
	w := mustWorld(t)
	w.node("us-east")
	now := time.Now()
	for label, want := range map[string]time.Duration{"peer": time.Hour, "ca": caLife} {
		got := time.Duration(w.count("punchclock.certificate.expiry", "certificate", label)-now.Unix()) * time.Second
		if got < want-10*time.Second || got > want+10*time.Second {
			t.Errorf("the certificate %q ends in %s, want about %s", label, got, want)
		}
	}
	if n := len(w.points("punchclock.certificate.expiry")); n != 2 {
		t.Errorf("%d certificates have a metric, want 2", n)
	}
}

func TestBadFilesNameTheSetting(t *testing.T) {
	w := mustWorld(t)
	us, usKey := w.dir.Node("us-east")
	eu, euKey := w.dir.Node("eu-west")
	empty := filepath.Join(t.TempDir(), "empty")
	large := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(large, make([]byte, maxFile+1), 0o600)); err != nil {
		t.Fatal(err)
	}
	foreign := Dir(t.TempDir())
	w.mustMake(foreign, deployment, time.Hour)
	user := w.dir.Database() + "/client.root"
	for says, paths := range map[string][3]string{
		"--certificate: open":                      {"/no/such/file", usKey, w.dir.CAFile()},
		"--key: open":                              {us, "/no/such/file", w.dir.CAFile()},
		"--ca: open":                               {us, usKey, "/no/such/file"},
		"--ca: has no certificate":                 {us, usKey, empty},
		"--ca: the certificate of":                 {us, usKey, us},
		"--certificate and --key":                  {us, euKey, w.dir.CAFile()},
		"is for spiffe://acme-prod/node/eu-west":   {eu, euKey, w.dir.CAFile()},
		"certificate signed by unknown authority":  {us, usKey, foreign.CAFile()},
		"is larger than":                           {large, usKey, w.dir.CAFile()},
		"--certificate: the certificate of \"CN=r": {user + ".crt", user + ".key", w.dir.CAFile()},
	} {
		_, err := w.set.Load(Files{
			Certificate: File{paths[0], "--certificate", "peer"}, Key: File{paths[1], "--key", ""}, CA: File{paths[2], "--ca", "ca"},
			Self: Name{deployment, "us-east"},
		})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want an error that says %q", err, says)
		}
	}
}

package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func mustCertificate(text []byte) *x509.Certificate {
	c, err := x509.ParseCertificate(text)
	if err != nil {
		panic(err)
	}
	return c
}

func TestOnlyTheOwnerReadsKeysAndTheCAStays(t *testing.T) {
	w := mustWorld(t)
	keys := 0
	err := filepath.Walk(string(w.dir), func(path string, info os.FileInfo, err error) error {
		if err == nil && filepath.Ext(path) == ".key" {
			keys++
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
		}
		return err
	})
	_, nodeKey := w.dir.Node("us-east")
	w.node("us-east")
	if strings.Contains(w.log.String(), "every user") {
		t.Errorf("a key that only its owner can read is in the log:\n%s", w.log)
	}
	for _, mode := range []os.FileMode{0o644, 0o602} {
		said := strings.Count(w.log.String(), "every user")
		if err := os.Chmod(nodeKey, mode); err != nil {
			t.Fatal(err)
		}
		if w.node("us-east"); strings.Count(w.log.String(), "every user") != said+1 {
			t.Errorf("the log misses a key with mode %v:\n%s", mode, w.log)
		}
	}
	if err != nil || keys != 6 { // the CA, two nodes, node, server, a user
		t.Errorf("%d keys, %v", keys, err)
	}
	ca, key := w.dir.CAFile(), filepath.Join(string(w.dir), "ca.key")
	was, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	w.mustMake(w.dir, deployment, time.Hour)
	if is, err := os.ReadFile(key); err != nil || !bytes.Equal(is, was) {
		t.Errorf("the CA's key was replaced, %v", err)
	}
	// A CA without its certificate is a mistake, and no reason to make a new CA.
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	dev := Dev{Deployment: deployment, Regions: []string{"us-east"}, DatabaseHosts: []string{"localhost"}, Life: time.Hour}
	if err := w.dir.Make(dev); err == nil {
		t.Error("a CA was made beside a key without certificate")
	}
	if is, err := os.ReadFile(key); err != nil || !bytes.Equal(is, was) {
		t.Errorf("the key that was left was replaced, %v", err)
	}
}

// TestARegionIsAdded checks that the new region's certificates are valid, and that the other files stay.
func TestARegionIsAdded(t *testing.T) {
	w := mustWorld(t)
	content := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	certificate, _ := w.dir.Node("us-east")
	server := filepath.Join(w.dir.Database(), "node.crt")
	before := content(certificate) + content(server)
	dev := Dev{
		Deployment: deployment, Regions: []string{"sa-east"}, Life: time.Hour,
		Hosts: []string{"127.0.0.1"}, DatabaseHosts: []string{"127.0.0.9"},
	}
	if err := w.dir.MakeRegion(dev); err != nil {
		t.Fatal(err)
	}
	if content(certificate)+content(server) != before {
		t.Error("a certificate of another region was replaced")
	}
	w.mustLoad(w.files(w.dir, "sa-east"))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(content(w.dir.CAFile())))
	folder := w.dir.DatabaseOf("sa-east")
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "node.crt"), filepath.Join(folder, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.9"})
	if err != nil || pair.Leaf.Subject.CommonName != "node" {
		t.Errorf("the certificate of server %q is not valid: %v", pair.Leaf.Subject.CommonName, err)
	}
	elsewhere := Dir(t.TempDir())
	if err := elsewhere.MakeRegion(dev); err == nil {
		t.Error("a region was made without a CA")
	}
}

func TestNoCertificateOutlivesTheCA(t *testing.T) {
	w := mustWorld(t)
	w.mustMake(w.dir, deployment, 10*caLife)
	h := w.node("us-east").current.Load()
	if h.ownEnds.After(h.rootsEnd) {
		t.Errorf("a certificate ends %s, and its CA %s", h.ownEnds, h.rootsEnd)
	}
}

// TestAnExpiredCASignsNothing: its certificates would be refused.
func TestAnExpiredCASignsNothing(t *testing.T) {
	w := mustWorld(t)
	w.mustSignAgain(w.dir.CAFile(), "", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	dev := Dev{Deployment: deployment, Regions: []string{"us-east"}, DatabaseHosts: []string{"localhost"}, Life: time.Hour}
	if err := w.dir.Make(dev); err == nil || !strings.Contains(err.Error(), "move it and its key away") {
		t.Errorf("Make says %v", err)
	}
}

func TestDevIsChecked(t *testing.T) {
	for what, dev := range map[string]Dev{
		"no life":         {Deployment: "x", Regions: []string{"a"}, DatabaseHosts: []string{"h"}},
		"no region":       {Deployment: "x", DatabaseHosts: []string{"h"}, Life: time.Hour},
		"no host":         {Deployment: "x", Regions: []string{"a"}, Life: time.Hour},
		"a bad name":      {Deployment: "X Y", Regions: []string{"a"}, DatabaseHosts: []string{"h"}, Life: time.Hour},
		"a region's path": {Deployment: "x", Regions: []string{"../a"}, DatabaseHosts: []string{"h"}, Life: time.Hour},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := Dir(dir).Make(dev); err == nil {
			t.Errorf("%s was accepted", what)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s left a folder behind", what)
		}
	}
}

package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	// authorityLife is how long a local authority lives: long beside what it
	// signs, short enough that nobody builds on it.
	authorityLife = 90 * 24 * time.Hour
	// backdate lets machines whose clocks are a little behind use a
	// certificate at once.
	backdate = time.Minute
)

// authority signs certificates. Its key is a file: it is for one machine and
// for development.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// openAuthority uses the authority in dir, or makes one when there is none. A
// key that is there is never written to.
func openAuthority(dir, deployment string) (*authority, error) {
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil {
		key, ok := pair.PrivateKey.(crypto.Signer)
		if !ok || !pair.Leaf.IsCA {
			return nil, fmt.Errorf("%s is no authority's", certFile)
		}
		if err := outOfTime([]*x509.Certificate{pair.Leaf}, time.Now()); err != nil { // what it signs, nobody would believe
			return nil, fmt.Errorf("%s: %w; move it and its key away, and another one will be made", certFile, err)
		}
		return &authority{cert: pair.Leaf, key: key}, nil
	}
	for _, file := range []string{certFile, keyFile} {
		if _, missing := os.Lstat(file); !errors.Is(missing, fs.ErrNotExist) {
			return nil, fmt.Errorf("the authority in %s cannot be used and is not replaced: %w", dir, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: deployment + " development authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // signs no further authorities
		KeyUsage:              x509.KeyUsageCertSign,
	}
	text, err := a.sign(template, key, authorityLife)
	if err == nil {
		a.cert, err = x509.ParseCertificate(text)
	}
	if err != nil {
		return nil, err
	}
	return a, writePair(certFile, keyFile, text, key)
}

// sign completes the template and returns the certificate; without an own
// certificate the authority signs itself.
func (a *authority) sign(template *x509.Certificate, key crypto.Signer, life time.Duration) ([]byte, error) {
	template.NotBefore, template.NotAfter = time.Now().Add(-backdate), time.Now().Add(life)
	parent := template
	if a.cert != nil {
		parent = a.cert
		if a.cert.NotAfter.Before(template.NotAfter) {
			template.NotAfter = a.cert.NotAfter // nobody would believe it longer
		}
	}
	return x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key) // with a random serial number
}

// leaf is what the authority says of somebody.
type leaf struct {
	name   string // CommonName; databases take it for the user's
	uris   []*url.URL
	hosts  []string // names and addresses
	server bool
	client bool
}

// issue writes a new key and a certificate for it.
func (a *authority) issue(certFile, keyFile string, l leaf, life time.Duration) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // CockroachDB, PostgreSQL and Go all take it
	if err != nil {
		return err
	}
	text, err := a.sign(templateOf(l), key, life)
	if err != nil {
		return fmt.Errorf("%s: %w", certFile, err)
	}
	return writePair(certFile, keyFile, text, key)
}

func templateOf(l leaf) *x509.Certificate {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: l.name}, URIs: l.uris, KeyUsage: x509.KeyUsageDigitalSignature}
	if l.server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, host := range l.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template
}

func writePair(certFile, keyFile string, cert []byte, key crypto.Signer) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		return err
	}
	return writeFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644)
}

// writeFile replaces a file at once: who reads it meanwhile sees the old one or
// the new one.
func writeFile(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // readable for its owner alone
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

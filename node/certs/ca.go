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
	// caLife is how long the CA for development is valid: longer than its certificates, and too short for production.
	caLife = 90 * 24 * time.Hour
	// backdate lets machines with slow clocks use a new certificate at once.
	backdate = time.Minute
)

// ca signs certificates for development on one machine: its key lies in a file.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// openCA loads the CA in dir, or makes a new CA in an empty dir. It never overwrites a key.
func openCA(dir, deployment string) (*ca, error) {
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil {
		key, ok := pair.PrivateKey.(crypto.Signer)
		if !ok || !pair.Leaf.IsCA {
			return nil, fmt.Errorf("%s is not a CA's certificate", certFile)
		}
		if err := validAt([]*x509.Certificate{pair.Leaf}, time.Now()); err != nil { // its certificates would be refused
			return nil, fmt.Errorf("%s: %w; move it and its key away to get a new CA", certFile, err)
		}
		return &ca{cert: pair.Leaf, key: key}, nil
	}
	for _, file := range []string{certFile, keyFile} {
		if _, missing := os.Lstat(file); !errors.Is(missing, fs.ErrNotExist) {
			return nil, fmt.Errorf("the CA in %s cannot be used, and is never replaced: %w", dir, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &ca{key: key}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: deployment + " development CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // signs no further CAs
		KeyUsage:              x509.KeyUsageCertSign,
	}
	text, err := a.sign(template, key, caLife)
	if err == nil {
		a.cert, err = x509.ParseCertificate(text)
	}
	if err != nil {
		return nil, err
	}
	return a, writePair(certFile, keyFile, text, key)
}

// sign completes the template and returns the certificate. A CA without a certificate signs its own.
func (a *ca) sign(template *x509.Certificate, key crypto.Signer, life time.Duration) ([]byte, error) {
	template.NotBefore, template.NotAfter = time.Now().Add(-backdate), time.Now().Add(life)
	parent := template
	if a.cert != nil {
		parent = a.cert
		if a.cert.NotAfter.Before(template.NotAfter) {
			template.NotAfter = a.cert.NotAfter // it would be refused from then on
		}
	}
	return x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key) // with a random serial number
}

// leaf is the content of a certificate that is not a CA's.
type leaf struct {
	name   string // CommonName; databases read the user's name from it
	uris   []*url.URL
	hosts  []string // names and addresses
	server bool
	client bool
}

// issue writes a new key and its certificate.
func (a *ca) issue(certFile, keyFile string, l leaf, life time.Duration) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // CockroachDB, PostgreSQL and Go accept it
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

// writeFile replaces a file at once: a reader sees the old content or the new content. google/renameio does not build on
// Windows, where devices run this binary.
func writeFile(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // only its owner can read it
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

package certs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// contents are the bytes of the files.
type contents struct{ certificate, key, ca []byte }

// sum identifies contents, or the error of reading them.
type sum [sha256.Size]byte

func sumOf(c contents, err error) (s sum) {
	hash := sha256.New()
	for _, part := range [][]byte{c.certificate, c.key, c.ca} {
		fmt.Fprintf(hash, "%d:", len(part))
		_, _ = hash.Write(part) // a hash never fails
	}
	if err != nil {
		_, _ = io.WriteString(hash, err.Error())
	}
	hash.Sum(s[:0])
	return s
}

// maxFile bounds a file: hundreds of CA certificates.
const maxFile = 1 << 20

func read(files Files) (c contents, err error) {
	for _, f := range []struct {
		file File
		into *[]byte
	}{{files.Certificate, &c.certificate}, {files.Key, &c.key}, {files.CA, &c.ca}} {
		if f.file.Path == "" {
			continue
		}
		if *f.into, err = readFile(f.file.Path); err != nil {
			return contents{}, fmt.Errorf("%s: %w", f.file.Setting, err)
		}
	}
	return c, nil
}

// Exposed reports whether every user of this machine may read or change the file. A node logs it and runs: not every
// secret store can do better.
func Exposed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o006 != 0
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return b, err
}

// parse checks that each part is valid and that the parts belong together.
func parse(files Files, c contents) (*credentials, error) {
	h := new(credentials)
	if files.CA.Path != "" {
		list, err := parseCAs(c.ca)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", files.CA.Setting, err)
		}
		h.roots = x509.NewCertPool()
		for _, a := range list {
			h.roots.AddCert(a)
		}
		h.rootsEnd = firstEnd(list)
	}
	if files.Certificate.Path == "" {
		return h, nil
	}
	pair, err := tls.X509KeyPair(c.certificate, c.key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", files.Certificate.Setting, files.Key.Setting, err)
	}
	chain := []*x509.Certificate{pair.Leaf}
	for _, raw := range pair.Certificate[1:] {
		more, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", files.Certificate.Setting, err)
		}
		chain = append(chain, more)
	}
	if err := checkPEM(c.certificate); err != nil {
		return nil, fmt.Errorf("%s: %w", files.Certificate.Setting, err)
	}
	h.own, h.ownEnds = &pair, firstEnd(chain)
	notValidNow := validAt(chain, time.Now())
	if files.Self != (Name{}) {
		err := isSelf(chain, h, files.Self)
		if err != nil && !isExpired(err) {
			return nil, fmt.Errorf("%s: %w", files.Certificate.Setting, err)
		}
		notValidNow = cmp.Or(notValidNow, err) // the CA may have expired, too
	}
	if notValidNow != nil {
		h.notValidNow = fmt.Errorf("%s: %w", files.Certificate.Setting, notValidNow)
	}
	return h, nil
}

// validAt returns an error for the first certificate of the chain that has ended, or not begun.
func validAt(chain []*x509.Certificate, now time.Time) error {
	for _, c := range chain {
		if now.After(c.NotAfter) || now.Before(c.NotBefore) {
			return fmt.Errorf("the certificate of %q is valid from %s to %s",
				names(c), c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		}
	}
	return nil
}

// checkPEM returns an error unless every block that begins in a PEM file can be read. encoding/pem skips a block that is
// cut off or garbled.
func checkPEM(text []byte) error {
	begun, read := bytes.Count(text, []byte("-----BEGIN ")), 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		read++
	}
	if read != begun {
		return fmt.Errorf("only %d of its %d PEM blocks can be read", read, begun)
	}
	return nil
}

// isSelf checks the node's own certificate in the way of its peers, as a client's and as a server's.
func isSelf(chain []*x509.Certificate, h *credentials, self Name) error {
	name, err := nameOf(chain[0])
	if err != nil {
		return err
	}
	if name != self {
		return fmt.Errorf("is for %s, and this node is %s", name, self)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := verifyChain(chain, h.roots, usage); err != nil {
			return err
		}
	}
	return nil
}

func parseCAs(text []byte) (list []*x509.Certificate, err error) {
	if err := checkPEM(text); err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("the certificate of %q is not a CA's", cert.Subject)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		err = errors.New("has no certificate in PEM")
	}
	return list, err
}

func firstEnd(list []*x509.Certificate) time.Time {
	first := list[0].NotAfter
	for _, c := range list[1:] {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

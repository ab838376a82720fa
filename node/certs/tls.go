package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// PeerServer returns the configuration of a listener that only serves nodes of the deployment, of any region.
func (s *Source) PeerServer(deployment string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13, // both sides are nodes
		ClientAuth:     tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load().own, nil },
		// A resumed session would outlive the certificate that opened it.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return s.verify("client", state, x509.ExtKeyUsageClientAuth, Name{Deployment: deployment})
		},
	}
}

// CallerRegion returns the region of the node that opened a connection to a PeerServer. The handshake has verified it.
func CallerRegion(state *tls.ConnectionState) string {
	name, err := nameOf(state.PeerCertificates[0])
	if err != nil { // impossible: the handshake would have failed
		return ""
	}
	return name.Region
}

// PeerClient returns the configuration for calls to the nodes of one region.
func (s *Source) PeerClient(server Name) *tls.Config {
	c := nodeClient(func(state tls.ConnectionState) error {
		return s.verify("server", state, x509.ExtKeyUsageServerAuth, server)
	})
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.current.Load().own, nil }
	return c
}

// OperatorClient returns the configuration for an operator's calls to a node of any region. It verifies the node by the
// present content of the CA file.
func OperatorClient(caFile, deployment string) (*tls.Config, error) {
	files := Files{CA: File{Path: caFile, Setting: "CA file"}}
	c, err := read(files)
	if err != nil {
		return nil, err
	}
	h, err := parse(files, c)
	if err != nil {
		return nil, err
	}
	return nodeClient(func(state tls.ConnectionState) error {
		return check(state.PeerCertificates, h.roots, x509.ExtKeyUsageServerAuth, Name{Deployment: deployment})
	}), nil
}

func nodeClient(verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Go would verify a host name. verify checks the chain and the node's name instead, on every connection.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   verify,
	}
}

// Server returns the configuration of a listener that asks its clients for no certificate.
func (s *Source) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12, // some terminals at gates are old
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load().own, nil },
	}
}

// verify accepts a node of the wanted deployment, and of the wanted region unless that is empty. The other side is a
// "client" or a "server".
func (s *Source) verify(side string, state tls.ConnectionState, usage x509.ExtKeyUsage, want Name) error {
	err := check(state.PeerCertificates, s.current.Load().roots, usage, want)
	if err == nil {
		return nil
	}
	s.set.metrics.handshakeFailed(context.Background(), side, reasonOf(err))
	s.set.refusalLog.Do(func() {
		s.set.log.Warn("refused a connection because of its certificate", "side", side, "error", err)
	})
	return err
}

func check(chain []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, want Name) error {
	if len(chain) == 0 {
		return refuse("none", "there is no certificate")
	}
	if err := verifyChain(chain, roots, usage); err != nil {
		return err
	}
	name, err := nameOf(chain[0])
	switch {
	case err != nil:
		return err
	case name.Deployment != want.Deployment:
		return refuse("deployment", "the certificate is for %s, and not for a node of deployment %s", name, want.Deployment)
	case want.Region != "" && name.Region != want.Region:
		return refuse("region", "the certificate is for %s, and not for %s", name, want)
	default:
		return nil
	}
}

func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage) error {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", names(chain[0]), err)
	}
	return nil
}

// names returns the name in a certificate, for a person.
func names(c *x509.Certificate) string {
	if len(c.URIs) > 0 {
		return c.URIs[0].String()
	}
	return c.Subject.String()
}

// refusal is an error with a reason, which is a label of the metrics and has few values.
type refusal struct {
	reason string
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(reason, format string, args ...any) error {
	return &refusal{reason: reason, text: fmt.Sprintf(format, args...)}
}

func reasonOf(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reason
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "unknown_ca"
	}
	if isExpired(err) {
		return "expired" // or not valid yet: one of the two clocks is wrong
	}
	return "invalid"
}

func isExpired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

package node

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/peer"
)

// certificates are the certificates that this node presents, and the CAs by which it checks its peers.
type certificates struct {
	peer   *certs.Source // nil with --insecure
	public *certs.Source // nil without a public certificate
}

func (n *Node) startCertificates(context.Context) error {
	set, err := certs.New(certs.DefaultConfig(), certs.Deps{Log: n.log, Meter: n.telemetry.MeterProvider})
	if err != nil {
		return err
	}
	n.closer.add("certificates", 0, func(context.Context) error { set.Close(); return nil })
	if !n.cfg.Insecure {
		n.certs.peer, err = set.Load(certs.Files{
			Certificate: certs.File{Path: n.cfg.Peer.CertFile, Setting: "--peer-cert-file", Label: "peer"},
			Key:         certs.File{Path: n.cfg.Peer.KeyFile, Setting: "--peer-key-file"},
			CA:          certs.File{Path: n.cfg.Peer.CAFile, Setting: "--peer-ca-file", Label: "ca"},
			Self:        n.name(n.cfg.Region),
		})
		if err != nil {
			return err
		}
	}
	if n.cfg.Public.CertFile != "" {
		n.certs.public, err = set.Load(certs.Files{
			Certificate: certs.File{Path: n.cfg.Public.CertFile, Setting: "--public-cert-file", Label: "public"},
			Key:         certs.File{Path: n.cfg.Public.KeyFile, Setting: "--public-key-file"},
		})
		if err != nil {
			return err
		}
	}
	return n.loadDatabaseCertificates(set)
}

// loadDatabaseCertificates watches the files of the database URL. The connections read these files themselves. Here they
// are only checked, and their ends are shown.
func (n *Node) loadDatabaseCertificates(set *certs.Set) error {
	url, err := n.cfg.DB.DatabaseURL()
	if err != nil {
		return err
	}
	certificate, key, ca := crdb.CertificateFiles(url)
	if certificate == "" && ca == "" {
		return nil
	}
	_, err = set.Load(certs.Files{
		Certificate: certs.File{Path: certificate, Setting: "--database-url: sslcert", Label: "database"},
		Key:         certs.File{Path: key, Setting: "sslkey"},
		CA:          certs.File{Path: ca, Setting: "--database-url: sslrootcert", Label: "database_ca"},
	})
	return err
}

// name is the name of a region's nodes in certificates.
func (n *Node) name(region string) certs.Name {
	return certs.Name{Deployment: n.cfg.Deployment, Region: region}
}

// peerServer returns the server of the peer listener. It speaks plain text with --insecure.
func (n *Node) peerServer() *http.Server {
	deps := peer.Deps{Home: n.dispatch, Gate: n.gate, Tracer: n.telemetry.TracerProvider}
	server := &http.Server{
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       10 * time.Minute, // longer than a client keeps a connection, so that the client closes first
	}
	if n.certs.peer == nil {
		server.Protocols.SetUnencryptedHTTP2(true)
	} else {
		server.Protocols.SetHTTP2(true)
		server.TLSConfig = n.certs.peer.PeerServer(n.cfg.Deployment)
		deps.CallerRegion = certs.CallerRegion
	}
	server.Handler = peer.NewHandler(deps)
	return server
}

// peerClient returns nil with --insecure.
func (n *Node) peerClient() func(region string) *tls.Config {
	if n.certs.peer == nil {
		return nil
	}
	return func(region string) *tls.Config { return n.certs.peer.PeerClient(n.name(region)) }
}

// publicServer returns nil without a certificate.
func (n *Node) publicServer() *tls.Config {
	if n.certs.public == nil {
		return nil
	}
	return n.certs.public.Server()
}

// opsServer returns nil on loopback. No other machine can listen in there, and a person who is logged in on the machine
// can look at the node without certificate files.
func (n *Node) opsServer() *tls.Config {
	if n.certs.peer == nil || config.Loopback(n.cfg.Ops.Addr) {
		return nil
	}
	return n.certs.peer.Server()
}

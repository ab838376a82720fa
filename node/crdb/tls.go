package crdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CheckTransport returns an error unless every host of a connection URL is
// reached by TLS that verifies its name, or through a Unix socket. With
// plaintext it may be unprotected, and must be on this machine: a node that is
// half secured is a mistake.
func CheckTransport(url string, plaintext bool) error {
	cc, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("--database-url: %w", err)
	}
	ways := append([]*pgconn.FallbackConfig{{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}}, cc.Fallbacks...)
	for _, way := range ways {
		network, _ := pgconn.NetworkAddress(way.Host, way.Port)
		verified := way.TLSConfig != nil && !way.TLSConfig.InsecureSkipVerify // so pgx leaves it for verify-full alone
		ip := net.ParseIP(way.Host)
		local := way.Host == "localhost" || ip != nil && ip.IsLoopback()
		switch {
		case network == "unix" || verified && !plaintext || plaintext && local:
		case plaintext:
			return fmt.Errorf("--insecure: is refused because the database host %s is not on loopback", way.Host)
		default:
			return errors.New("--database-url: must say sslmode=verify-full, with sslrootcert; for development on loopback alone there is --insecure")
		}
	}
	return nil
}

// CertificateFiles returns the files that a connection URL names, or the
// environment for it. PostgreSQL's other forms of connection strings have none.
func CertificateFiles(dsn string) (certificate, key, authority string) {
	_, query, _ := strings.Cut(dsn, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		values = nil // pgx will say so
	}
	value := func(name, variable string) string {
		if v := values.Get(name); v != "" {
			return v
		}
		return os.Getenv(variable)
	}
	authority = value("sslrootcert", "PGSSLROOTCERT")
	if authority == "system" { // the machine's own list, which is no file
		authority = ""
	}
	return value("sslcert", "PGSSLCERT"), value("sslkey", "PGSSLKEY"), authority
}

// tlsFiles reads the files of a connection URL anew for each connection, so
// that a replaced certificate is used without breaking connections.
type tlsFiles struct {
	url string
	log *slog.Logger

	mu   sync.Mutex // guards last
	last map[string]address
}

// refresh gives a connection that is about to be made the TLS configuration of
// its host as the files have it now. Files that are not in order leave the
// last good one.
func (t *tlsFiles) refresh(ctx context.Context, cc *pgx.ConnConfig) {
	addr := address{host: cc.Host, port: cc.Port}.String()
	fresh, err := pgx.ParseConfig(t.url)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.log.WarnContext(ctx, "the database's certificates cannot be read anew; those before stay in use", "error", err)
	} else {
		t.last = make(map[string]address)
		for _, a := range addresses(fresh) {
			t.last[a.String()] = a
		}
	}
	if a, known := t.last[addr]; known {
		cc.TLSConfig, cc.Fallbacks = a.tls, a.alternatives
	}
}

// beforeConnect is refresh for a pool.
func (t *tlsFiles) beforeConnect(ctx context.Context, cc *pgx.ConnConfig) error {
	t.refresh(ctx, cc)
	return nil
}

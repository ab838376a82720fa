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

// CheckTransport returns an error unless TLS verifies the name of every host of a connection URL. A Unix socket is
// accepted, too. With plaintext the connection may be unprotected, and every host must be on this machine, so that no
// node is secured by half.
func CheckTransport(url string, plaintext bool) error {
	cc, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("--database-url: %w", err)
	}
	ways := append([]*pgconn.FallbackConfig{{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}}, cc.Fallbacks...)
	for _, way := range ways {
		network, _ := pgconn.NetworkAddress(way.Host, way.Port)
		verified := way.TLSConfig != nil && !way.TLSConfig.InsecureSkipVerify // pgx leaves it unset for verify-full only
		ip := net.ParseIP(way.Host)
		local := way.Host == "localhost" || ip != nil && ip.IsLoopback()
		switch {
		case network == "unix" || verified && !plaintext || plaintext && local:
		case plaintext:
			return fmt.Errorf("--insecure: is refused because the database host %s is not on loopback", way.Host)
		default:
			return errors.New("--database-url: must have sslmode=verify-full and sslrootcert; only for development on loopback there is --insecure")
		}
	}
	return nil
}

// CertificateFiles returns the files that a connection URL or the environment names. It reads URLs only, and no other
// form of connection string.
func CertificateFiles(dsn string) (certificate, key, authority string) {
	_, query, _ := strings.Cut(dsn, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		values = nil // pgx reports the error
	}
	value := func(name, variable string) string {
		if v := values.Get(name); v != "" {
			return v
		}
		return os.Getenv(variable)
	}
	authority = value("sslrootcert", "PGSSLROOTCERT")
	if authority == "system" { // the list of the operating system
		authority = ""
	}
	return value("sslcert", "PGSSLCERT"), value("sslkey", "PGSSLKEY"), authority
}

// tlsFiles reads the files of a connection URL for each new connection. So a renewed certificate is used without
// breaking connections.
type tlsFiles struct {
	url string
	log *slog.Logger

	mu   sync.Mutex // guards last
	last map[string]address
}

// refresh sets the TLS configuration of a new connection from the present files. Invalid files leave the last good
// configuration in use.
func (t *tlsFiles) refresh(ctx context.Context, cc *pgx.ConnConfig) {
	addr := address{host: cc.Host, port: cc.Port}.String()
	fresh, err := pgx.ParseConfig(t.url)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.log.WarnContext(ctx, "the database's certificate files are not valid; the last good ones stay in use", "error", err)
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

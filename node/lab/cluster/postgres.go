package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// hostBased lets in whoever shows a certificate with his name.
const hostBased = "hostssl all all all cert\n"

// postgresHosts makes an empty data folder and says how to run a server on it.
func (d *Database) postgresHosts(ctx context.Context) ([]*host, error) {
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(d.ws.dir, "data", "postgres")
	if err := ownFolder(data, credential); err != nil {
		return nil, err
	}
	addrs, err := d.ws.pick(d.ws.host(0), 1)
	if err != nil {
		return nil, err
	}
	c := command{
		name: "initdb",
		path: filepath.Join(d.engine.Path, "initdb"),
		args: []string{
			"--pgdata=" + data, "--username=" + d.superuser(), "--encoding=UTF8",
			"--locale=C", // sorts text like CockroachDB
			"--auth=trust",
			"--no-sync", // a machine that loses power loses this folder's users too; the server does sync
			"--no-instructions",
		},
		env:        []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}, // no PGDATA, PGPORT or PGOPTIONS of ours
		dir:        data,                                                        // ours may be closed to that account
		log:        d.ws.logFile("initdb"),
		credential: credential,
		lastSignal: syscall.SIGKILL,
	}
	if err := d.ws.spawner.run(ctx, c); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hostBased), 0o600); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	c.name, c.path, c.log = "postgres", filepath.Join(d.engine.Path, "postgres"), d.ws.logFile("postgres")
	c.lastSignal = syscall.SIGQUIT // see end
	if err := d.givePostgresKey(data, credential); err != nil {
		return nil, err
	}
	c.args, err = postgresArgs(data, addrs[0])
	return []*host{{addr: addrs[0], command: c}}, err
}

// givePostgresKey copies the server's certificate, its key and the authority to
// where the server's account may read them.
func (d *Database) givePostgresKey(data string, credential *syscall.Credential) error {
	certificate, key := d.ws.certs.DatabaseServer()
	for to, from := range map[string]string{"server.crt": certificate, "server.key": key, "ca.crt": d.ws.certs.CAFile()} {
		to = filepath.Join(data, to)
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600) //nolint:gosec // three fixed names in a folder of ours
		}
		if err == nil && credential != nil {
			err = os.Chown(to, int(credential.Uid), int(credential.Gid))
		}
		if err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
	}
	return nil
}

func postgresArgs(data, addr string) ([]string, error) {
	ip, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	args := []string{"-D", data}
	for _, setting := range []string{
		"listen_addresses=" + ip, "port=" + port,
		"unix_socket_directories=",     // a socket's path may have 107 bytes, a temporary folder's has more
		"max_connections=300",          // six nodes with 4 per home and 4 to read, tests, and people
		"ssl=on", "ssl_ca_file=ca.crt", // server.crt and server.key are the defaults
		"fsync=on", "timezone=UTC", "log_timezone=UTC",
	} {
		args = append(args, "-c", setting)
	}
	return args, nil
}

// ownFolder makes an empty folder of the account's own at path.
func ownFolder(path string, credential *syscall.Credential) error {
	// An attempt that found its port taken has left one.
	if err := errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if credential == nil {
		return nil
	}
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
			return fmt.Errorf("postgres: its account (uid %d) cannot pass through %s: put the cluster's Dir or TMPDIR elsewhere", credential.Uid, dir)
		}
	}
	if err := os.Chown(path, int(credential.Uid), int(credential.Gid)); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// unprivileged returns the account for PostgreSQL, which refuses to run as
// root: nil, that is our own, unless we are root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.ParseUint(u.Uid, 10, 32)
		gid, errG := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errU, errG); err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("postgres: does not run as root, and there is no account postgres or nobody; run as another user")
}

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

// hostBased accepts every user with a certificate of that name.
const hostBased = "hostssl all all all cert\n"

// postgresHosts makes an empty data folder and plans a server on it.
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
			"--no-sync", // the server itself does sync
			"--no-instructions",
		},
		env:        []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}, // without PGDATA, PGPORT and PGOPTIONS of this process
		dir:        data,                                                        // the account may be unable to enter this process's
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

// givePostgresKey copies the server's certificate, its key and the CA's certificate into a folder that the server's
// account may read.
func (d *Database) givePostgresKey(data string, credential *syscall.Credential) error {
	certificate, key := d.ws.certs.DatabaseServer()
	for to, from := range map[string]string{"server.crt": certificate, "server.key": key, "ca.crt": d.ws.certs.CAFile()} {
		to = filepath.Join(data, to)
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
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
		"unix_socket_directories=",     // the path in a temporary folder may be too long for a socket
		"max_connections=300",          // six nodes with 4 per home and 4 to read, tests, and people
		"ssl=on", "ssl_ca_file=ca.crt", // server.crt and server.key are the defaults
		"fsync=on", "timezone=UTC", "log_timezone=UTC",
	} {
		args = append(args, "-c", setting)
	}
	return args, nil
}

// ownFolder makes an empty folder that belongs to the account.
func ownFolder(path string, credential *syscall.Credential) error {
	// An attempt whose port was taken leaves a folder behind.
	if err := errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if credential == nil {
		return nil
	}
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
			return fmt.Errorf("postgres: its account (uid %d) cannot pass through %s: choose another Dir or TMPDIR", credential.Uid, dir)
		}
	}
	if err := os.Chown(path, int(credential.Uid), int(credential.Gid)); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// unprivileged returns the account for PostgreSQL, which refuses to run as root. It is nil unless this process runs as
// root.
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
	return nil, errors.New("postgres: refuses to run as root, and there is no account postgres or nobody: run as another user")
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// InitSQLVariable names the environment variable with SQL statements that run once on a new CockroachDB cluster, after
// its init and before the database is made. Some binaries need cluster settings of their own. No deployment reads it.
const InitSQLVariable = "PUNCHCLOCK_LAB_COCKROACH_INIT_SQL"

// FlagsVariable names the environment variable with further flags for each process of CockroachDB, separated by spaces.
// Tests shorten --max-offset with it, for which every write to a global table waits. No deployment reads it.
const FlagsVariable = "PUNCHCLOCK_LAB_COCKROACH_FLAGS"

// cockroachMemory is the size of the cache, and of the memory for SQL, of each process. The default of both is a quarter
// of the machine's memory, which three processes would exceed.
const cockroachMemory = "128MiB"

// cockroachHosts plans one process for each region.
func (d *Database) cockroachHosts() ([]*host, error) {
	var hosts []*host
	var join []string
	for i, region := range d.cfg.Regions {
		addrs, err := d.ws.pick(d.ws.host(i+1), 1)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, &host{region: region, addr: addrs[0]})
		join = append(join, addrs[0])
	}
	for i, h := range hosts {
		var err error
		if h.command, err = d.cockroachCommand(h, d.ws.certs.Database(), join); err != nil {
			return nil, err
		}
		h.command.region = i + 1
	}
	return hosts, nil
}

// cockroachCommand starts the process of a region on an empty store.
func (d *Database) cockroachCommand(h *host, certificates string, join []string) (command, error) {
	store := d.ws.cockroachStore(h.region)
	// An attempt whose port was taken leaves a store behind.
	if err := errors.Join(os.RemoveAll(store), os.Mkdir(store, 0o755)); err != nil {
		return command{}, fmt.Errorf("cockroach: %w", err)
	}
	return command{
		name:       "cockroach " + h.region,
		path:       d.engine.Path,
		args:       d.ws.cockroachArgs(certificates, store, h, join),
		env:        cockroachEnvironment(),
		dir:        store, // where a crash leaves its core
		log:        d.ws.logFile(serverName(h.region)),
		lastSignal: syscall.SIGKILL,
	}, nil
}

// cockroachArgs start the process of a region.
func (w *workspace) cockroachArgs(certificates, store string, h *host, join []string) []string {
	addr, _, _ := strings.Cut(h.addr, ":")
	return append([]string{
		"start", "--certs-dir=" + certificates, "--listen-addr=" + h.addr,
		"--http-addr=" + addr + ":0",                              // no client uses it
		"--join=" + strings.Join(join, ","), w.cockroachCluster(), // it refuses servers of other clusters
		"--locality=region=" + h.region + ",zone=a",
		"--store=path=" + store + ",ballast-size=0", // otherwise each reserves a GiB for a full disk
		"--cache=" + cockroachMemory, "--max-sql-memory=" + cockroachMemory,
		"--log={file-defaults: {dir: " + filepath.Join(w.dir, "logs", "cockroach-"+h.region) + "}, sinks: {stderr: {filter: ERROR}}}",
	}, strings.Fields(os.Getenv(FlagsVariable))...)
}

func (w *workspace) cockroachCluster() string { return "--cluster-name=" + w.deployment() }

func (w *workspace) cockroachStore(region string) string {
	return filepath.Join(w.dir, "data", "cockroach-"+region)
}

// cockroachEnvironment is the environment of this process, without the address of another cluster. It comes after the
// defaults of the lab, which it may override.
func cockroachEnvironment() []string {
	return append([]string{
		"COCKROACH_SKIP_ENABLING_DIAGNOSTIC_REPORTING=true", // the lab reports nothing to the vendor
		// On a busy machine a replica may fail to be made. CockroachDB tries again after it has scanned all ranges,
		// with this pause between them. With the default of 1 s a start waits minutes for its last range. No failover
		// depends on it.
		"COCKROACH_SCAN_MAX_IDLE_TIME=50ms",
	}, inheritedEnv("COCKROACH_URL=", "COCKROACH_HOST=")...)
}

// initCockroach makes one cluster of the processes, which wait for it.
func (d *Database) initCockroach(ctx context.Context) error {
	first := d.hosts[0]
	c := command{
		name:       "cockroach init",
		path:       d.engine.Path,
		args:       []string{"init", "--certs-dir=" + d.ws.certs.Database(), "--host=" + first.addr, d.ws.cockroachCluster()},
		env:        cockroachEnvironment(),
		log:        d.ws.logFile("cockroach-init"),
		lastSignal: syscall.SIGKILL,
	}
	return poll(ctx, d.processOf(first), func(ctx context.Context) error {
		err := d.ws.spawner.run(ctx, c)
		if err != nil && d.ping(ctx, first) == nil {
			return nil // an earlier try has worked, and its answer was lost
		}
		return err
	})
}

// prepareCockroach applies InitSQLVariable and waits until all regions are known. Their processes answer earlier.
func (d *Database) prepareCockroach(ctx context.Context) error {
	conn, err := connect(ctx, d.AdminURL())
	if err != nil {
		return fmt.Errorf("cockroach: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // all answers are read
	if statements := os.Getenv(InitSQLVariable); statements != "" {
		// SET CLUSTER SETTING refuses a transaction with other statements. Statements that are sent together share one
		// by default.
		for _, sql := range []string{"SET enable_implicit_transaction_for_batch_statements = off", statements} {
			if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
				return fmt.Errorf("%s: %w", InitSQLVariable, err)
			}
		}
	}
	return until(ctx, conn, "SELECT count(*) = $1 FROM [SHOW REGIONS FROM CLUSTER]", len(d.cfg.Regions))
}

// WaitReplicated returns when every range has its replicas in as many regions as it should. From then on the cluster
// survives the loss of a region. A new cluster has all replicas in one region, and takes about 5 s on two idle cores.
// Call it after the tables are made. It returns at once on PostgreSQL.
func (d *Database) WaitReplicated(ctx context.Context) error {
	if d.Engine != Cockroach {
		return nil
	}
	conn, err := connect(ctx, d.AdminURL())
	if err != nil {
		return fmt.Errorf("cockroach: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // all answers are read
	replicas := min(3, len(d.cfg.Regions)) // three replicas survive the loss of one
	return until(ctx, conn, "SELECT count(*) = 0 FROM [SHOW CLUSTER RANGES] WHERE COALESCE(array_length(voting_replicas, 1), 0) < $1", replicas)
}

// until repeats a query with one boolean answer until it is true.
func until(ctx context.Context, conn *pgx.Conn, question string, args ...any) error {
	for {
		var yes bool
		if err := conn.QueryRow(ctx, question, args...).Scan(&yes); err != nil {
			return fmt.Errorf("cockroach: %s: %w", question, err)
		}
		if yes {
			return nil
		}
		if !Pause(ctx, pollEvery) {
			return fmt.Errorf("cockroach: not yet: %s: %w", question, ctx.Err())
		}
	}
}

// cockroachRegions is the part of CREATE DATABASE that names the regions.
func cockroachRegions(regions []string) string {
	quote := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	clause := " PRIMARY REGION " + quote(regions[0])
	if len(regions) > 1 {
		var others []string
		for _, r := range regions[1:] {
			others = append(others, quote(r))
		}
		clause += " REGIONS " + strings.Join(others, ", ")
	}
	if len(regions) >= 3 { // two cannot survive the loss of one
		clause += " SURVIVE REGION FAILURE"
	}
	return clause
}

package crdb

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"
)

// maxHomes sizes the pool, which does not know the number of regions. The batchers set the limit that matters.
const maxHomes = 16

// controlConnections serve the directory, the clock and operators: rare statements on single rows. They must not wait
// behind reads of punches. A lookup in a global table may wait for its lease, so one connection is not enough.
const controlConnections = 4

// poolCheckEvery is how long a pool may miss an idle connection, and how late a pool tries again after a failure.
const poolCheckEvery = 5 * time.Second

// resetEvery is longer than all gateways need to learn of a change of regions.
const resetEvery = 10 * time.Second

func (db *DB) openGateways(ctx context.Context, base *pgxpool.Config, deps Deps) (*gateways, error) {
	traced := otelpgx.NewTracer(
		otelpgx.WithDisableAcquireTracer(), otelpgx.WithDisableConnectionDetailsInAttributes(),
		otelpgx.WithTracerProvider(deps.Tracer), otelpgx.WithMeterProvider(deps.Meter),
	)
	gs := &gateways{log: deps.Log}
	for _, addr := range addresses(base.ConnConfig) {
		g := newGateway(addr.String(), db.files)
		gs.all = append(gs.all, g) // before its pools open, so that close covers it after any failure
		for _, pool := range []struct {
			target **pgxpool.Pool
			name   string
			size   int
			idle   int
			params map[string]string
			warm   func(context.Context, *pgx.Conn) error
		}{
			{&g.writes, "punches", db.cfg.ConnectionsPerHome * maxHomes, db.cfg.ConnectionsPerHome, db.writeParams(), db.prepare},
			{&g.reads, "reads", db.cfg.ReadConnections, 1, db.readParams("reads"), db.prepareRead},
			{&g.control, "control", max(controlConnections, db.cfg.MoveConnections), 1, db.readParams("control"),
				db.prepareLookup}, // each company that moves flips here
			{&g.moves, "moves", db.cfg.MoveConnections, 1, db.moveParams(), nil},
		} {
			if pool.size == 0 {
				continue
			}
			cfg := db.poolConfig(base, addr, pool.size, pool.idle, pool.params)
			cfg.ConnConfig.Tracer = &prepareCounter{Tracer: traced, pool: pool.name, metrics: db.metrics}
			cfg.BeforeConnect, cfg.AfterConnect = db.files.beforeConnect, pool.warm
			p, err := pgxpool.NewWithConfig(ctx, cfg)
			if err == nil {
				err = otelpgx.RecordStats(p, otelpgx.WithStatsMeterProvider(deps.Meter),
					otelpgx.WithStatsAttributes(poolName(pool.name), hostAddr(g.addr)))
			}
			if err != nil {
				gs.close()
				return nil, fmt.Errorf("database pool for %s: %w", g.addr, err)
			}
			*pool.target = p
			g.resets[p] = &rate.Sometimes{Interval: resetEvery}
		}
		g.pingConfig = db.poolConfig(base, addr, 1, 0, map[string]string{"application_name": "punchclock probe"}).ConnConfig
	}
	gs.start()
	return gs, nil
}

func (db *DB) poolConfig(base *pgxpool.Config, addr address, size, idle int, params map[string]string) *pgxpool.Config {
	cfg := base.Copy()
	cfg.ConnConfig.Host, cfg.ConnConfig.Port, cfg.ConnConfig.TLSConfig = addr.host, addr.port, addr.tls
	cfg.ConnConfig.Fallbacks = addr.alternatives
	maps.Copy(cfg.ConnConfig.RuntimeParams, params)
	cfg.MaxConns = int32(min(size, 1024))
	// Idle connections spare sudden load the handshake: the first punch after a quiet minute, and all punches after a
	// change of gateway.
	cfg.MinIdleConns = int32(idle)
	// After a gateway came back, connections spread again within the sum of both. The jitter is as long as the lifetime:
	// connections that were made together must not end together, or a quiet minute would find none.
	cfg.MaxConnLifetime = 3 * time.Minute
	cfg.MaxConnLifetimeJitter = 3 * time.Minute
	// A connection that has expired is replaced by a check, or by its next user, who then waits for a handshake. The
	// check costs microseconds, so it runs often enough to come first.
	cfg.HealthCheckPeriod = poolCheckEvery
	// Otherwise an idle connection to a frozen gateway would block its first user.
	cfg.PingTimeout = time.Second
	return cfg
}

func (db *DB) writeParams() map[string]string {
	params := map[string]string{
		"application_name": "punchclock punches",
		// Longer than the attempt's own timeout. It ends statements whose client has gone, so that they do not queue
		// behind a lock.
		"statement_timeout": fmt.Sprint((db.cfg.AttemptTimeout + time.Second).Milliseconds()),
	}
	if db.Engine == CockroachDB {
		// With few companies the optimizer would scan them all. Then every punch would wait for the commit of any
		// company's change.
		params["disallow_full_table_scans"] = "on"
		params["large_full_scan_rows"] = "0"
		params["default_transaction_quality_of_service"] = "critical"
		// The fence relies on this default, which an administrator can change for the whole cluster.
		params["default_transaction_isolation"] = "serializable"
	}
	return params
}

func (db *DB) moveParams() map[string]string {
	params := db.readParams("moves")
	if db.Engine == CockroachDB {
		params["default_transaction_quality_of_service"] = "background" // punches come first
	}
	return params
}

func (db *DB) readParams(pool string) map[string]string {
	return map[string]string{
		"application_name":  "punchclock " + pool,
		"statement_timeout": fmt.Sprint((db.cfg.AttemptTimeout + time.Second).Milliseconds()),
	}
}

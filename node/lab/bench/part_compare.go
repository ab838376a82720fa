package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// measureGroup compares a node with the same node that writes each punch with a statement of its own. Each of them has
// a home of its own in the same database, and the statement is the same.
func measureGroup(ctx context.Context, s *session, run *partRun) error {
	single := map[string]string{
		"batch-max-items":               "1",
		"database-connections-per-home": "64", // the best case of one INSERT per request, within the limit of PostgreSQL
	}
	err := s.groups(ctx, map[string]cluster.NodeGroup{"us-east": {Count: 1}, "eu-west": {Count: 1, Settings: single}})
	if err != nil {
		return err
	}
	east, eastPID := s.running("us-east")
	west, westPID := s.running("eu-west")
	grouped := &subject{name: "group commit", job: s.closed(east, s.companies("us-east")), pids: eastPID}
	each := &subject{name: "one INSERT per request", job: s.closed(west, s.companies("eu-west")), pids: westPID}
	if err := s.compare(ctx, s.cmd.Rounds, grouped, each); err != nil {
		return err
	}
	run.again = s.profileRound(grouped)
	run.Ran = fmt.Sprintf("%d rounds of %s with %d connections", s.cmd.Rounds, s.cmd.Round, patient)
	run.add("group.insert", ratio(grouped.rates, each.rates), "%.0f punches/s against %.0f with 64 connections to the database",
		median(grouped.rates), median(each.rates))
	return nil
}

// measureWrong compares the punches of one home that enter at another region's node with those at the home's node.
func measureWrong(ctx context.Context, s *session, run *partRun) error {
	if err := s.pair(ctx); err != nil {
		return err
	}
	east, _ := s.running("us-east")
	west, _ := s.running("eu-west")
	_, both := s.running()
	right := &subject{name: "right region", job: s.closed(west, s.companies("eu-west")), pids: both}
	wrong := &subject{name: "wrong region", job: s.closed(east, s.companies("eu-west")), pids: both}
	if err := s.compare(ctx, s.cmd.Rounds, right, wrong); err != nil {
		return err
	}
	run.again = s.profileRound(wrong)
	run.Ran = fmt.Sprintf("%d rounds of %s with %d connections; both nodes share one core", s.cmd.Rounds, s.cmd.Round, patient)
	run.add("region.wrong", ratio(wrong.rates, right.rates), "%.0f punches/s against %.0f; %.0f µs of CPU of both nodes per punch against %.0f",
		median(wrong.rates), median(right.rates), 1e6*median(wrong.cpu), 1e6*median(right.cpu))
	return nil
}

// batchCallers keep the queue of a home full: a batch has at most 256 punches in it, and 4 writers take 512 each. Fewer
// callers would measure small statements. The memory of more batches would be refused.
const batchCallers = 24

// measureRows compares batches of punches through HTTP with a loop that inserts batches of the same size.
func measureRows(ctx context.Context, s *session, run *partRun) error {
	if err := s.nodes(ctx, map[string]int{"us-east": 1}); err != nil {
		return err
	}
	east, pids := s.running("us-east")
	batches := &subject{name: "batches through HTTP", job: s.closed(east, s.companies("us-east")), pids: pids}
	batches.job.Batch, batches.job.Connections = nodeBatch, batchCallers
	singles := &subject{name: "single punches", job: s.closed(east, s.companies("us-east")), pids: pids}
	var loop []float64
	for range s.cmd.Rounds {
		rate, err := s.insertRows(ctx)
		if err != nil {
			return err
		}
		loop = append(loop, rate)
		s.say("%-24s %8.0f rows/s", "loop of pgx", rate)
		if err := s.compare(ctx, 1, batches, singles); err != nil {
			return err
		}
	}
	run.again = s.profileRound(batches)
	run.Ran = fmt.Sprintf("%d rounds of %s; batches of %d, %d connections to the database on both sides", s.cmd.Rounds, s.cmd.Round, nodeBatch, nodeConnections)
	run.add("rows.http", ratio(batches.rates, loop), "%.0f rows/s in batches through HTTP against %.0f of the loop", median(batches.rates), median(loop))
	run.add("rows.single", ratio(singles.rates, loop), "%.0f rows/s as single punches on %d connections against %.0f of the loop",
		median(singles.rates), patient, median(loop))
	return nil
}

func (s *session) insertRows(ctx context.Context) (float64, error) {
	p, err := s.startPeer(ctx, &peerConfig{Design: "rows", Company: s.companies("us-east")[0].ID, Run: s.cmd.Round})
	if err != nil {
		return 0, err
	}
	line, err := p.line()
	if err != nil {
		return 0, err
	}
	var result struct{ Rows, Seconds float64 }
	if err := errors.Join(json.Unmarshal([]byte(line), &result), p.stop()); err != nil {
		return 0, err
	}
	return result.Rows / result.Seconds, nil
}

// design is a queue that people would build instead.
type design struct {
	key, name string
	config    peerConfig
	fsync     string // of Redis
}

var designs = []design{
	{key: "redis", name: "Redis list, fsync each second", config: peerConfig{Design: "redis"}, fsync: "everysec"},
	{key: "redis-always", name: "Redis list, fsync always", config: peerConfig{Design: "redis"}, fsync: "always"},
	{key: "nats", name: "JetStream, default sync", config: peerConfig{Design: "nats"}},
	{key: "nats-always", name: "JetStream, sync always", config: peerConfig{Design: "nats", SyncAlways: true}},
}

// queueRun is what a server did with a number of punches.
type queueRun struct {
	rate float64       // acknowledged per second
	rows time.Duration // until all of them were rows
}

// measureQueues sends the same number of punches to a node and to each queue, and waits until all are rows.
func measureQueues(ctx context.Context, s *session, run *partRun) error {
	if err := s.nodes(ctx, map[string]int{"us-east": 1}); err != nil {
		return err
	}
	punches := s.punches()
	run.Ran = fmt.Sprintf("%d punches on %d connections to each server; the node before each queue", punches, patient)
	east, _ := s.running("us-east")
	run.again = s.profileRound(&subject{job: s.closed(east, s.companies("us-east"))})
	for i := range designs {
		d := &designs[i]
		if err := s.warmUp(ctx, east[0]); err != nil {
			return err
		}
		node, err := s.throughQueue(ctx, east[0], "node")
		if err != nil {
			return err
		}
		queue, err := s.measureDesign(ctx, d)
		if errors.Is(err, errNoRedis) {
			s.say("skipped: %s: %v", d.name, err)
			run.Figures = append(run.Figures, figure{Key: "skipped." + d.key, Text: fmt.Sprintf("Skipped: %s, because %v", d.name, err)})
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		run.add("queue.rate."+d.key, node.rate/queue.rate, "%.0f punches/s acknowledged and committed, against %.0f acknowledged by the queue", node.rate, queue.rate)
		run.add("queue.rows."+d.key, node.rows.Seconds()/queue.rows.Seconds(), "all %d punches were rows after %s, against %s", punches,
			brief(node.rows), brief(queue.rows))
	}
	return nil
}

// leastPunches leaves enough for CockroachDB, which gets a quarter.
const leastPunches = 400

// punches returns how many punches each queue gets. CockroachDB on one core writes about a quarter of PostgreSQL's rows.
func (s *session) punches() int {
	if s.engine == cluster.Cockroach {
		return s.cmd.Punches / 4
	}
	return s.cmd.Punches
}

// throughQueue sends the punches and waits for their rows.
func (s *session) throughQueue(ctx context.Context, url, name string) (queueRun, error) {
	companies := s.nextCompany()
	conn, err := pgx.Connect(ctx, s.env.DatabaseURL("us-east"))
	if err != nil {
		return queueRun{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // all answers are read
	before, err := countRows(ctx, conn, companies)
	if err != nil {
		return queueRun{}, err
	}
	j := s.closed([]string{url}, companies)
	j.Count, j.Duration = s.punches(), queueLimit
	began := time.Now()
	r, err := s.generate(ctx, &job{Closed: &j})
	if err != nil {
		return queueRun{}, err
	}
	limit, cancel := context.WithTimeout(ctx, queueLimit)
	defer cancel()
	for {
		after, err := countRows(limit, conn, companies)
		if err != nil {
			return queueRun{}, fmt.Errorf("waiting for the rows: %w", err)
		}
		if missing := r.Closed.Acknowledged - (after - before); missing <= 0 {
			break
		}
		cluster.Pause(limit, 50*time.Millisecond)
	}
	result := queueRun{rate: r.Closed.Rate(), rows: time.Since(began)}
	s.say("%-30s %8.0f punches/s acknowledged, all rows after %s, p99 %s", name, result.rate, brief(result.rows), brief(r.Closed.P99))
	return result, nil
}

// nextCompany returns another company for each run, because counting the rows of all companies would take the core.
func (s *session) nextCompany() []cluster.Company {
	list := s.companies("us-east")
	i := s.turn % len(list)
	s.turn++
	return list[i : i+1]
}

// queueLimit bounds a server that is far slower than a node.
const queueLimit = time.Minute

func countRows(ctx context.Context, conn *pgx.Conn, companies []cluster.Company) (n int64, err error) {
	ids := make([]string, len(companies))
	for i := range companies {
		ids[i] = companies[i].ID
	}
	err = conn.QueryRow(ctx, `SELECT count(*) FROM punches WHERE crdb_region = 'us-east' AND company_id = ANY ($1)`, ids).Scan(&n)
	return n, err
}

func (s *session) measureDesign(ctx context.Context, d *design) (_ queueRun, err error) {
	cfg := d.config
	if cfg.Dir, err = os.MkdirTemp(s.env.Dir(), d.key+"-"); err != nil {
		return queueRun{}, err
	}
	if d.fsync != "" {
		redis, err := s.startRedis(ctx, cfg.Dir, d.fsync)
		if err != nil {
			return queueRun{}, err
		}
		cfg.Redis = redis.addr
		defer func() { err = errors.Join(err, redis.stop()) }()
	}
	p, err := s.startServer(ctx, &cfg)
	if err != nil {
		return queueRun{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := s.warmUp(ctx, p.url); err != nil {
		return queueRun{}, err
	}
	return s.throughQueue(ctx, p.url, d.name)
}

// warmUp sends punches for a second, to a node and to a queue alike, and waits until no more rows come. They must not
// count.
func (s *session) warmUp(ctx context.Context, url string) error {
	warm := s.closed([]string{url}, s.companies("us-east"))
	warm.Duration = time.Second
	if _, err := s.generate(ctx, &job{Closed: &warm}); err != nil {
		return err
	}
	return s.quiet(ctx)
}

// quiet waits until no more rows come.
func (s *session) quiet(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.env.DatabaseURL("us-east"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // all answers are read
	last := int64(-1)
	for {
		n, err := countRows(ctx, conn, s.companies("us-east"))
		if err != nil || n == last {
			return err
		}
		last = n
		if !cluster.Pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

var errNoRedis = errors.New("redis-server is not installed; scripts/setup redis installs it")

// redisServer is a process of Debian's redis-server with a folder of its own.
type redisServer struct {
	*child
	addr string
}

func (s *session) startRedis(ctx context.Context, dir, fsync string) (*redisServer, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil { // another process could take the port now; the start then fails
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c, err := startChild(ctx, serverCore, nil, binary, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", fsync, "--logfile", filepath.Join(dir, "redis.log"), "--daemonize", "no")
	if err != nil {
		return nil, err
	}
	r := &redisServer{child: c, addr: addr}
	deadline := time.Now().Add(childGrace)
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return r, conn.Close()
		}
		if time.Now().After(deadline) || !cluster.Pause(ctx, 50*time.Millisecond) {
			return nil, errors.Join(fmt.Errorf("redis-server does not answer: %w", err), r.stop())
		}
	}
}

// stop ends the server, which does not read its standard input.
func (r *redisServer) stop() error {
	_ = r.cmd.Process.Signal(os.Interrupt) // fails when it is gone, and then Wait tells
	return r.child.stop()
}

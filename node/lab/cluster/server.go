package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// serverPatience is for a server that hands its leases over before it goes, on a
// busy machine.
const serverPatience = time.Minute

// StartServer makes true that a region has a server of the database: it starts
// one that outlives this process, until StopServer or the end of the cluster that
// s tells of, and returns when the database knows the region. Where the region is
// new, it gets certificates of the cluster's authority, and s afterwards tells
// of it, with addresses for as many nodes as the first region has; that is to be
// written before anybody else reads it. A server that runs is left alone. To give
// the database itself the region is `punchclock region add`.
func StartServer(ctx context.Context, s *State, region string, say func(format string, args ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	engine, err := s.engine()
	if err != nil {
		return err
	}
	if s.runsServer(region) {
		say("%s: the cluster runs the server itself", region)
		return nil
	}
	r, err := openRegion(ctx, s.Dir, serversFolder, region, true, say)
	if err != nil {
		return err
	}
	defer r.close()
	if !slices.Contains(s.Regions, region) {
		// A start that was cut off may have left a process of which s does not tell.
		if err := errors.Join(r.killAll(), s.grow(region)); err != nil {
			return fmt.Errorf("region %s: %w", region, err)
		}
	}
	d, err := s.server(region, engine)
	if err != nil {
		return err
	}
	d.folder = filepath.Join(r.folder, d.Name)
	switch alive, err := d.alive(); {
	case err != nil:
		return err
	case alive:
		if err := d.await(ctx); err != nil {
			return err
		}
		say("%s runs already", d.Name)
		return nil
	}
	return r.start(ctx, d)
}

// StopServer lets the server that StartServer has started in a region hand over
// all that it holds, and ends it; its data and certificates are removed, and s no
// longer tells of the region. It refuses while nodes run there, or while any
// database has the region. A server that the cluster runs itself is left alone,
// and where there is none there is nothing to do. s is nil when the cluster in
// dir is gone: then there is nobody to hand over to.
func StopServer(ctx context.Context, dir string, s *State, region string, say func(format string, args ...any)) error {
	if s != nil && s.runsServer(region) {
		say("%s: the server is the cluster's own and stays", region)
		return nil
	}
	r, err := openRegion(ctx, dir, serversFolder, region, false, say)
	if r == nil || err != nil {
		return err
	}
	defer r.close()
	if s == nil {
		return r.killAll()
	}
	if err := s.deserted(ctx, region); err != nil {
		return err
	}
	if err := s.decommission(ctx, region, say); err != nil {
		return err
	}
	// A decommissioned server may end by itself, with whatever status.
	if err := r.stopAll(ctx, func(string) bool { return true }); err != nil {
		say("%v", err)
	}
	return s.forget(region)
}

// engine is the executable of the database that the cluster runs.
func (s *State) engine() (Engine, error) {
	if s.Database.Engine != Cockroach {
		return Engine{}, errors.New("only CockroachDB has a server in each region: on PostgreSQL `punchclock region add` is all there is to do")
	}
	if s.Gone() {
		return Engine{}, fmt.Errorf("the cluster is gone: its process %d does not run", s.PID)
	}
	engine, err := FindEngine(Cockroach)
	if err == nil && engine.Version != s.Database.Version {
		err = fmt.Errorf("%s is CockroachDB %s, and the cluster runs %s", engine.Path, engine.Version, s.Database.Version)
	}
	return engine, err
}

// Gone says whether the process that runs the cluster has ended.
func (s *State) Gone() bool { return errors.Is(syscall.Kill(s.PID, 0), syscall.ESRCH) }

// runsServer says whether the cluster began with a server in the region.
func (s *State) runsServer(region string) bool {
	return slices.ContainsFunc(s.Database.Hosts, func(h HostState) bool { return h.Region == region && h.PID != 0 })
}

// server is the database's process in a region of s.
func (s *State) server(region string, engine Engine) (*daemon, error) {
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.Database.hosts, func(h *host) bool { return h.region == region })
	h, state := c.Database.hosts[i], s.Database.Hosts[i]
	known := "SELECT count(*) = 1 FROM [SHOW REGIONS FROM CLUSTER] WHERE region = $1"
	return &daemon{
		Name: "cockroach-" + region, Binary: engine.Path, Env: cockroachOwn(), Log: state.Log, Patience: serverPatience,
		Args:  c.ws.cockroachArgs(c.ws.certs.DatabaseOf(region), c.ws.cockroachStore(region), h, c.Database.addrs()),
		addrs: []string{h.addr}, where: h.addr,
		ready: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, pingTimeout)
			defer cancel()
			var yes bool
			err := query(ctx, c.Database.url(c.Database.superuser(), c.Database.maintenance(), []string{h.addr}), known, &yes, region)
			if err == nil && !yes {
				err = errors.New("the database does not know the region yet")
			}
			return err
		},
	}, nil
}

// query asks a question with one answer, on a connection of its own.
func query(ctx context.Context, url, question string, answer any, args ...any) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	return conn.QueryRow(ctx, question, args...).Scan(answer)
}

// deserted is an error that says what has to be done first while the server of a
// region is still needed.
func (s *State) deserted(ctx context.Context, region string) error {
	for _, name := range foldersIn(filepath.Join(s.Dir, nodesFolder, region)) {
		d := daemon{folder: filepath.Join(s.Dir, nodesFolder, region, name)}
		if alive, err := d.alive(); alive || err != nil {
			return errors.Join(fmt.Errorf("%s runs: stop the region's nodes first (punchclock nodes stop %s)", name, region), err)
		}
	}
	c, err := s.cluster()
	if err != nil {
		return err
	}
	var databases []string
	err = query(ctx, c.Database.AdminURL(), "SELECT coalesce(array_agg(database_name), '{}') FROM [SHOW REGIONS FROM ALL DATABASES] WHERE $1::text = ANY (regions)", &databases, region)
	if err == nil && len(databases) > 0 {
		err = fmt.Errorf("database %s has the region: take it out first (punchclock region remove %s)", strings.Join(databases, ", "), region)
	}
	return err
}

// decommission lets the database move all that the region's servers hold to the
// other regions, and know them no more.
func (s *State) decommission(ctx context.Context, region string, say func(format string, args ...any)) error {
	engine, err := s.engine()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range s.Database.Hosts {
		if h.PID == 0 {
			continue
		}
		if err = s.decommissionBy(ctx, engine, h.Addr, region, say); err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// member is a server as CockroachDB's commands tell of it.
type member struct{ ID, Locality, Membership string }

// decommissionBy asks one of the servers that stay. CockroachDB's own way of
// waiting looks after 10 s and after 20; it is done after some 6.
func (s *State) decommissionBy(ctx context.Context, engine Engine, addr, region string, say func(format string, args ...any)) error {
	began := time.Now()
	members, err := s.operate(ctx, engine, addr, "node", "status")
	if err != nil {
		return err
	}
	command := []string{"node", "decommission", "--wait=none", "--cluster-name=" + filepath.Base(s.Dir)}
	members = slices.DeleteFunc(members, func(m member) bool { return !strings.HasPrefix(m.Locality, "region="+region+",") })
	if len(members) == 0 { // an earlier run came this far
		return nil
	}
	for _, m := range members {
		command = append(command, m.ID)
	}
	for {
		if members, err = s.operate(ctx, engine, addr, command...); err != nil {
			return err
		}
		if !slices.ContainsFunc(members, func(m member) bool { return m.Membership != "decommissioned" }) {
			say("cockroach-%s is decommissioned after %.1f s", region, time.Since(began).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second): // each look is a process that takes a third of that
		}
	}
}

// operate runs a command of CockroachDB's against one of its servers, and returns
// the members that it tells of.
func (s *State) operate(ctx context.Context, engine Engine, addr string, args ...string) (members []member, err error) {
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, engine.Path, append(args, "--format=ndjson", "--certs-dir="+c.ws.certs.Database(), "--host="+addr)...)
	cmd.Env = cockroachEnvironment()
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cockroach %s: %w\n%s%s", strings.Join(args, " "), err, out, &said)
	}
	for line := range bytes.Lines(out) {
		if !bytes.HasPrefix(line, []byte("{")) { // words for people
			continue
		}
		var m member
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("cockroach %s: %w in %s", strings.Join(args, " "), err, line)
		}
		members = append(members, m)
	}
	if len(members) == 0 {
		err = fmt.Errorf("cockroach %s told of no server: %s", strings.Join(args, " "), out)
	}
	return members, err
}

// killAll ends whatever runs, without a farewell.
func (r *regionFolder) killAll() error {
	var errs []error
	for _, name := range foldersIn(r.folder) {
		d := &daemon{Name: name, folder: filepath.Join(r.folder, name)}
		errs = append(errs, d.kill(), os.RemoveAll(d.folder))
	}
	return errors.Join(errs...)
}

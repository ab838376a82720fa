package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// decommission lets the database move the replicas of a region's servers to the other regions, and forget the servers.
func (d *Database) decommission(ctx context.Context, region string, say Say) error {
	var errs []error
	for _, h := range d.all() {
		if h.region == region || d.processOf(h).exited() {
			continue
		}
		err := d.decommissionBy(ctx, h.addr, region, say)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// serverStatus is a server in the output of CockroachDB's commands.
type serverStatus struct{ ID, Locality, Membership string }

// decommissionBy asks one of the servers that stay. CockroachDB's own --wait looks after 10 s and after 20 s, and the
// work takes about 6 s.
func (d *Database) decommissionBy(ctx context.Context, addr, region string, say Say) error {
	began := time.Now()
	servers, err := d.cockroachNode(ctx, addr, "status")
	if err != nil {
		return err
	}
	command := []string{"decommission", "--wait=none", d.ws.cockroachCluster()}
	servers = slices.DeleteFunc(servers, func(s serverStatus) bool { return !strings.HasPrefix(s.Locality, "region="+region+",") })
	if len(servers) == 0 { // an earlier call has done it
		return nil
	}
	for _, s := range servers {
		command = append(command, s.ID)
	}
	for {
		if servers, err = d.cockroachNode(ctx, addr, command...); err != nil {
			return err
		}
		if !slices.ContainsFunc(servers, func(s serverStatus) bool { return s.Membership != "decommissioned" }) {
			say("%s is decommissioned after %.1f s", serverName(region), time.Since(began).Seconds())
			return nil
		}
		if !Pause(ctx, time.Second) { // each look is a process that takes a third of it
			return ctx.Err()
		}
	}
}

// cockroachNode runs `cockroach node` against one of the servers, and returns the servers in its output.
func (d *Database) cockroachNode(ctx context.Context, addr string, args ...string) (servers []serverStatus, err error) {
	args = append([]string{"node"}, args...)
	cmd := exec.CommandContext(ctx, d.engine.Path, append(args, "--format=ndjson", "--certs-dir="+d.ws.certs.Database(), "--host="+addr)...)
	cmd.Env = cockroachEnvironment()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cockroach %s: %w\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	for line := range bytes.Lines(out) {
		if !bytes.HasPrefix(line, []byte("{")) { // text for people
			continue
		}
		var s serverStatus
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("cockroach %s: %w in %s", strings.Join(args, " "), err, line)
		}
		servers = append(servers, s)
	}
	if len(servers) == 0 {
		err = fmt.Errorf("cockroach %s listed no server: %s", strings.Join(args, " "), out)
	}
	return servers, err
}

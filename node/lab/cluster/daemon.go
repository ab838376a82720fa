package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"
)

// daemon is a process that is nobody's child: a node, or a server of the
// database. What is known of it stands in its folder:
//
//	daemon.json    this, as it was started
//	settings.yaml  a node's settings file
//	pid            its process group; locked for as long as anything of it lives
//	status         its exit status, once it has one
//
// The lock is inherited by the process and freed by the kernel. A process id
// alone says nothing: another process may have it by now, and would be killed.
type daemon struct {
	Name     string        `json:"name"`
	Binary   string        `json:"binary"`
	Args     []string      `json:"args"`
	Env      []string      `json:"env,omitempty"` // besides what it inherits
	Version  string        `json:"version"`       // of binary, settings and environment
	Patience time.Duration `json:"patience"`      // how long it may take to be gone once it is told
	Log      string        `json:"log"`
	LogFrom  int64         `json:"log_from"` // where in the log this run's output begins

	folder string
	// What is only needed to start it.
	settings map[string]string               // its settings file, unless it is nil
	addrs    []string                        // that it will listen at
	where    string                          // it is found, as people are told
	ready    func(ctx context.Context) error // asks it whether it serves
}

// launch is a shell that leaves a second one behind, which has no parent and
// waits for the process, so that its exit status can be told. It takes the files
// for pid, status and the list of those that ended untold, and the command line.
// The trap keeps it alive when its group is told to end; the process does not
// inherit it.
const launch = `pid=$1 status=$2 ended=$3 told=
shift 3
echo $$ >"$pid"
{
	trap told=1 TERM
	"$@"
	code=$?
	echo $code >"$status"
	[ -n "$told" ] || echo "$0: exit status $code" >>"$ended"
} &`

// endedFile is in the folder of a region and has a line for each of its daemons
// that ended by itself. While it stays the same nobody is missing who was there:
// that is how Terraform, which looks at nothing but files, sees a dead one.
const endedFile = "ended"

const daemonFile = "daemon.json"

// stoppedWell is how ending calls status 0.
const stoppedWell = "exit status 0"

func readDaemon(folder string) (*daemon, error) {
	text, err := os.ReadFile(filepath.Join(folder, daemonFile))
	if err != nil {
		return nil, err
	}
	d := &daemon{folder: folder}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("%s: %w", d.path(daemonFile), err)
	}
	return d, nil
}

func (d *daemon) path(name string) string { return filepath.Join(d.folder, name) }

// alive says whether anything of the process is there.
func (d *daemon) alive() (bool, error) {
	f, err := os.OpenFile(d.path("pid"), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // frees what tryLock may have taken
	free, err := tryLock(f)
	return !free, err
}

// runs returns the version that was started last, empty when there is none.
func (d *daemon) runs() string {
	last, err := readDaemon(d.folder)
	if err != nil {
		return ""
	}
	return last.Version
}

// ending says how a process that is gone has ended; false when none was there.
func (d *daemon) ending() (string, bool) {
	if _, err := os.Stat(d.path("pid")); err != nil {
		return "", false
	}
	status, err := os.ReadFile(d.path("status"))
	if err != nil {
		return "it was killed", true
	}
	return "exit status " + strings.TrimSpace(string(status)), true
}

// start starts the process and returns when it is ready, or without a process.
func (d *daemon) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	if taken(d.addrs...) {
		return fmt.Errorf("%s: somebody uses one of its addresses %s: does the cluster run it itself?", d.Name, strings.Join(d.addrs, ", "))
	}
	if err := d.launch(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	err := d.await(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(err, d.kill())
}

// launch leaves the process behind.
func (d *daemon) launch(ctx context.Context) (err error) {
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(d.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own; nothing was written here
	if d.LogFrom, err = log.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	lock, err := os.OpenFile(d.path("pid"), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // the process holds it on
	if free, err := tryLock(lock); err != nil || !free {
		return errors.Join(errors.New("it runs already"), err)
	}
	if err := d.describe(); err != nil {
		return err
	}
	// Killed half-way the shell might leave a process that nobody waits for; it is done at once.
	sh := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", append([]string{"-c", launch, d.Name, d.path("pid"), d.path("status"),
		filepath.Join(filepath.Dir(d.folder), endedFile), d.Binary}, d.Args...)...)
	sh.Env = append(environment("PUNCHCLOCK_", "TF_", "COCKROACH_URL=", "COCKROACH_HOST="), d.Env...)
	sh.Stdout, sh.Stderr, sh.ExtraFiles = log, log, []*os.File{lock}
	sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal's Ctrl-C or end is its own
	return sh.Run()
}

// describe writes what will be known of the process.
func (d *daemon) describe() error {
	settings, err := yaml.Marshal(d.settings)
	if err != nil {
		return err
	}
	self, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if err := os.Remove(d.path("status")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if d.settings != nil { // the database's password may be among them
		err = os.WriteFile(d.path("settings.yaml"), settings, 0o600)
	}
	return errors.Join(err, os.WriteFile(d.path(daemonFile), self, 0o600))
}

// await returns once the process is ready, or with its log when it ended or was
// not ready in time.
func (d *daemon) await(ctx context.Context) error {
	for {
		reason := d.ready(ctx)
		if reason == nil {
			return nil
		}
		if alive, err := d.alive(); err != nil {
			return err
		} else if !alive {
			status, _ := d.ending()
			return d.failure(fmt.Errorf("ended before it was ready: %s", status))
		}
		select {
		case <-ctx.Done():
			return d.failure(fmt.Errorf("not ready in time: %w: %w", ctx.Err(), reason))
		case <-time.After(pollEvery):
		}
	}
}

// stop tells the process to end and returns when it is gone. When its patience is
// over it is killed, which is an error, as is an exit status other than 0. When
// ctx ends first the process goes on draining.
func (d *daemon) stop(ctx context.Context) error {
	late := time.NewTimer(d.Patience)
	defer late.Stop()
	for told := false; ; {
		told = told || d.signal(syscall.SIGTERM, syscall.SIGCONT) == nil // a frozen process takes no other signal but SIGKILL
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: goes on draining: %w", d.Name, ctx.Err())
		case <-late.C:
			return errors.Join(d.failure(fmt.Errorf("killed, since it did not stop within %s", d.Patience)), d.kill())
		case <-time.After(pollEvery):
		}
		if alive, err := d.alive(); err != nil {
			return err
		} else if !alive {
			break
		}
	}
	if status, _ := d.ending(); status != stoppedWell {
		return d.failure(errors.New("did not stop cleanly: " + status))
	}
	return nil
}

// kill ends all processes of the daemon and returns when they are gone.
func (d *daemon) kill() error {
	for deadline := time.Now().Add(killWait); ; time.Sleep(pollEvery) {
		if alive, err := d.alive(); err != nil || !alive {
			return err
		}
		_ = d.signal(syscall.SIGKILL) // fails when it has just ended
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: outlives SIGKILL", d.Name)
		}
	}
}

// signal is only for a daemon that is alive: while something of it is, nobody
// else can have the id of its group.
func (d *daemon) signal(signals ...syscall.Signal) error {
	text, err := os.ReadFile(d.path("pid"))
	if err != nil {
		return err
	}
	group, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || group <= 1 { // kill(-1) and kill(0) mean others
		return fmt.Errorf("%s: %q is no process group", d.path("pid"), text)
	}
	for _, sig := range signals {
		if err := syscall.Kill(-group, sig); err != nil {
			return err
		}
	}
	return nil
}

// failure adds the end of the daemon's log to what happened to it.
func (d *daemon) failure(err error) error {
	p := process{command: command{name: d.Name, log: d.Log}, logFrom: d.LogFrom}
	return p.failure(err)
}

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// command describes how to start a child process.
type command struct {
	name string // for errors
	path string
	args []string
	env  []string
	dir  string // its working folder; this process's when empty
	log  string // file to which its output is appended

	credential *syscall.Credential // the account it runs under; this process's when nil
	region     int                 // its network, if regions have networks of their own; this process's when 0
	// lastSignal is sent by the kernel when this process is gone.
	lastSignal syscall.Signal
	// died is called when the process ended and had not been told to; it may be nil.
	died func()
}

// spawner starts all children from one OS thread, which lives until close. Linux signals a child when its parent dies
// (PR_SET_PDEATHSIG). The parent is the thread that forked, not the process. The Go runtime may end any other thread,
// and its children would be killed.
type spawner struct {
	calls chan func()
	quit  chan struct{}
	ended chan struct{}
	once  sync.Once
	log   *slog.Logger

	network *network // nil when all regions share the machine's
}

func newSpawner(log *slog.Logger, network *network) *spawner {
	s := &spawner{calls: make(chan func()), quit: make(chan struct{}), ended: make(chan struct{}), log: log, network: network}
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		for {
			select {
			case call := <-s.calls:
				call()
			case <-s.quit:
				return
			}
		}
	}()
	return s
}

// close ends the thread. The kernel then ends every child that still runs.
func (s *spawner) close() {
	s.once.Do(func() { close(s.quit) })
	<-s.ended
}

// fork starts the child in its region's network. It runs on the spawner's thread.
func (s *spawner) fork(c command, cmd *exec.Cmd) error {
	if s.network == nil || c.region == 0 {
		return cmd.Start()
	}
	return s.network.enter(c.region, cmd.Start)
}

// process is a child that was started.
type process struct {
	command
	cmd     *exec.Cmd
	logFrom int64           // where in the log this run's output begins
	gone    context.Context // ends once the child is reaped
	err     error           // how it ended; read after gone
	asked   atomic.Bool     // it was told to end, or its end was reported
}

var errStopped = errors.New("the cluster is stopped")

// start forks the child. The caller must end it and wait until it is gone.
func (s *spawner) start(c command) (*process, error) {
	log, err := os.OpenFile(c.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	defer func() { _ = log.Close() }() // the child has a copy, and nothing was written here
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	cmd := exec.CommandContext(context.Background(), c.path, c.args...) // it outlives the context of its start
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.env, c.dir, log, log
	cmd.SysProcAttr = attributes(c)
	started := make(chan error, 1)
	select {
	case s.calls <- func() { started <- s.fork(c, cmd) }:
		err = <-started
	case <-s.ended:
		err = errStopped
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	gone, reaped := context.WithCancel(context.Background())
	p := &process{command: c, cmd: cmd, logFrom: from, gone: gone}
	go func() {
		p.err = cmd.Wait()
		reaped()
		if p.asked.Load() {
			return
		}
		if p.err != nil {
			s.log.Error("process ended by itself", "process", c.name, "pid", cmd.Process.Pid, "error", p.err, "log", c.log)
		}
		if c.died != nil {
			c.died()
		}
	}()
	return p, nil
}

// run starts a command and waits for its end. An exit status other than 0 is an error. When ctx ends first, run kills
// the command with its children.
func (s *spawner) run(ctx context.Context, c command) error {
	p, err := s.start(c)
	if err != nil {
		return err
	}
	p.asked.Store(true) // a command ends by itself
	select {
	case <-p.gone.Done():
	case <-ctx.Done():
		_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // fails when it has just ended
		<-p.gone.Done()
		return fmt.Errorf("%s: %w", c.name, ctx.Err())
	}
	if p.err != nil {
		return p.failure(p.err)
	}
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// exited reports whether the child is gone. A nil process was never there.
func (p *process) exited() bool {
	return p == nil || p.gone.Err() != nil
}

// signal sends a signal. A child that is gone is an error.
func (p *process) signal(sig syscall.Signal) error {
	if p == nil {
		return os.ErrProcessDone
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%s: %s: %w", p.name, sig, err)
	}
	return nil
}

// killWait is how long the kernel may take to end a killed process. A large process on a slow disk takes seconds.
const killWait = 20 * time.Second

// end sends the child a signal and waits until it is gone. When ctx ends first it kills the child, which is an error. A
// child that is already gone is no error.
func (p *process) end(ctx context.Context, sig syscall.Signal) error {
	if p.exited() {
		return nil
	}
	p.asked.Store(true)
	_ = p.cmd.Process.Signal(sig)             // fails only when the child is gone
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a frozen process takes no other signal but SIGKILL
	select {
	case <-p.gone.Done():
		return nil
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Kill() // fails only when the child is gone
	select {
	case <-p.gone.Done():
		return p.failure(fmt.Errorf("killed, since it did not stop in time: %w", ctx.Err()))
	case <-time.After(killWait):
		return p.failure(fmt.Errorf("pid %d outlives SIGKILL", p.pid()))
	}
}

// failure adds the end of the child's log to an error.
func (p *process) failure(err error) error {
	return fmt.Errorf("%s: %w; its log %s ends:\n%s", p.name, err, p.log, p.tail())
}

// tailBytes is about a screen of text.
const tailBytes = 4 << 10

// tail returns the last whole lines in the log of this run.
func (p *process) tail() []byte {
	f, err := os.Open(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	defer func() { _ = f.Close() }() // only read
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return []byte(err.Error())
	}
	from := max(p.logFrom, size-tailBytes)
	b, err := io.ReadAll(io.NewSectionReader(f, from, size-from))
	if err != nil {
		return []byte(err.Error())
	}
	if from > p.logFrom {
		if _, rest, ok := bytes.Cut(b, []byte("\n")); ok {
			b = rest
		}
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return []byte("(empty)")
	}
	return b
}

// errExitedWell describes a child that ended with status 0.
var errExitedWell = errors.New("exit status 0")

// ending returns how the child ended, never nil. It waits for the end.
func (p *process) ending() error {
	<-p.gone.Done()
	if p.err == nil {
		return errExitedWell
	}
	return p.err
}

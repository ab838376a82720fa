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

// command is how a child process is started, every time anew.
type command struct {
	name string // for errors
	path string
	args []string
	env  []string
	dir  string // its working folder; ours when empty
	log  string // file that its output is appended to

	credential *syscall.Credential // the account it runs under; ours when nil
	region     int                 // whose network it runs in, where they have their own; ours when 0
	// lastSignal is what the kernel sends it when we are gone.
	lastSignal syscall.Signal
	// died is called when the process ended and had not been told to; it may be nil.
	died func()
}

// spawner starts all children from one OS thread. The kernel sends the signal
// that tells a child of its parent's death (Linux: PR_SET_PDEATHSIG) when the
// thread that forked it ends, not when the process does, and the Go runtime
// may end any thread: a child forked from an arbitrary one can be killed at
// any moment. This thread lives until close.
type spawner struct {
	calls chan func()
	quit  chan struct{}
	ended chan struct{}
	once  sync.Once
	log   *slog.Logger

	network *network // nil when all regions share ours
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

// close ends the thread, and with it any child that still runs.
func (s *spawner) close() {
	s.once.Do(func() { close(s.quit) })
	<-s.ended
}

// fork starts the child in its region's network. It runs on the one thread.
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
	asked   atomic.Bool     // we told it to end
}

var errStopped = errors.New("the cluster is stopped")

// start forks the child. Whoever starts it ends it and waits until it is gone.
func (s *spawner) start(c command) (*process, error) {
	log, err := os.OpenFile(c.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	defer func() { _ = log.Close() }() // the child has its own; nothing was written here
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

// run starts a command and waits until it has ended well. When ctx ends first
// the command is killed together with its children.
func (s *spawner) run(ctx context.Context, c command) error {
	p, err := s.start(c)
	if err != nil {
		return err
	}
	p.asked.Store(true) // to end, in its own time
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

// exited says whether the child is gone. A nil process was never there.
func (p *process) exited() bool {
	return p == nil || p.gone.Err() != nil
}

// signal sends sig; a child that is gone is an error.
func (p *process) signal(sig syscall.Signal) error {
	if p == nil {
		return os.ErrProcessDone
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%s: %s: %w", p.name, sig, err)
	}
	return nil
}

// killWait is how long the kernel may take to bury a killed process: a large
// one that waits for a slow disk takes seconds.
const killWait = 20 * time.Second

// end tells the child to end by sig and waits until it is gone. When ctx ends
// first it is killed, which is an error. One that is already gone is none.
func (p *process) end(ctx context.Context, sig syscall.Signal) error {
	if p.exited() {
		return nil
	}
	p.asked.Store(true)
	_ = p.cmd.Process.Signal(sig)             // fails only when it is gone
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a frozen process takes no other signal but SIGKILL
	select {
	case <-p.gone.Done():
		return nil
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Kill() // fails only when it is gone
	select {
	case <-p.gone.Done():
		return p.failure(fmt.Errorf("killed, since it did not stop in time: %w", ctx.Err()))
	case <-time.After(killWait):
		return p.failure(fmt.Errorf("pid %d outlives SIGKILL", p.pid()))
	}
}

// failure adds the end of the child's log to what happened to it.
func (p *process) failure(err error) error {
	return fmt.Errorf("%s: %w; its log %s ends:\n%s", p.name, err, p.log, p.tail())
}

// tailBytes is about a screen of text.
const tailBytes = 4 << 10

// tail returns the last whole lines that this run of the child has logged.
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

// errExitedWell is the ending of a child that left with status 0.
var errExitedWell = errors.New("exit status 0")

// ending says how a child that is gone ended; never nil.
func (p *process) ending() error {
	<-p.gone.Done()
	if p.err == nil {
		return errExitedWell
	}
	return p.err
}

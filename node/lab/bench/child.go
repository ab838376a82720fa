package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// child is a process that reads one line of JSON, and runs until its standard input ends.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	errs  bytes.Buffer
}

// startChild starts a program on a core.
func startChild(ctx context.Context, core int, input any, program string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, program, args...)}
	c.cmd.Stderr = &c.errs
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches this process alone, which ends its children
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = childGrace
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(stdout)
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := startOn(core, c.cmd); err != nil {
		return nil, err
	}
	line, err := json.Marshal(input)
	if err == nil {
		_, err = c.stdin.Write(append(line, '\n'))
	}
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// childGrace is how long a child may take to end before it is killed.
const childGrace = 10 * time.Second

func (c *child) pid() int { return c.cmd.Process.Pid }

// line reads a line of the child's output. An error has what the child said.
func (c *child) line() (string, error) {
	line, err := c.out.ReadString('\n')
	if err != nil {
		return "", errors.Join(fmt.Errorf("%s: %w", c.cmd.Path, err), c.stop())
	}
	return strings.TrimSpace(line), nil
}

// stop ends the child and waits for it. Its error has what the child said. A second stop does nothing.
func (c *child) stop() error {
	if c.cmd.ProcessState != nil {
		return nil
	}
	_ = c.stdin.Close()                                                     // the child may have closed it
	kill := time.AfterFunc(childGrace, func() { _ = c.cmd.Process.Kill() }) // fails when the child is gone
	defer kill.Stop()
	_, _ = io.Copy(io.Discard, c.out) // a child that writes would never end
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", c.cmd.Path, err, strings.TrimSpace(c.errs.String()))
	}
	return nil
}

// generate runs a job in a process on the generator's core.
func (s *session) generate(ctx context.Context, j *job) (result outcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return result, err
	}
	c, err := startChild(ctx, generatorCore, j, self, "generate")
	if err != nil {
		return result, err
	}
	line, err := c.line()
	if err != nil {
		return result, err
	}
	return result, errors.Join(json.Unmarshal([]byte(line), &result), c.stop())
}

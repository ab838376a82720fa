package drill

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// operatorGrace lets an interrupted tool put its state in order. Terraform waits for changes that it has begun.
const operatorGrace = time.Minute

// RegionVariable names the environment variable that tells an inject or heal command the broken region.
const RegionVariable = "PUNCHCLOCK_LAB_DRILL_REGION"

// shell returns an operator's shell command. An environment variable tells it the broken region.
func shell(command string) func(context.Context, *target) error {
	return func(ctx context.Context, s *target) error {
		cmd := exec.CommandContext(ctx, "sh", "-c", command)
		cmd.Env = append(append(os.Environ(), RegionVariable+"="+s.victim), s.env...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr // standard output is for the result
		if err := runCommand(ctx, cmd, operatorGrace); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		return nil
	}
}

// runCommand runs a command of exec.CommandContext in a process group of its own. So a Ctrl-C in the terminal reaches
// the drill alone, which then heals. When ctx ends, the whole group is interrupted. After the command's end or after
// grace, the rest of the group is killed.
func runCommand(ctx context.Context, cmd *exec.Cmd, grace time.Duration) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // fails if no process is left
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

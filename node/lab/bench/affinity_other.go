//go:build !linux

package bench

import (
	"errors"
	"os/exec"
)

var errLinux = errors.New("only Linux can keep a process on one core and tell the CPU of processes")

func pinSelf(int) error { return errLinux }

func startOn(_ int, cmd *exec.Cmd) error { return cmd.Start() }

func raiseFileLimit(uint64) (uint64, error) { return 0, errLinux }

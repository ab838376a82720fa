//go:build unix && !linux

package cluster

import "syscall"

// attributes makes the child the leader of its own process group: a Ctrl-C in the terminal then reaches this process
// alone, which stops all children in order. Only Linux can end the child when this process is killed.
func attributes(c command) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: c.credential}
}

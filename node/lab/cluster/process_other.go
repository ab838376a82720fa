//go:build unix && !linux

package cluster

import "syscall"

// attributes makes the child leader of its own process group, so that a Ctrl-C
// in the terminal reaches us alone and we stop things in order. Other systems
// than Linux cannot end it when we are killed.
func attributes(c command) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: c.credential}
}

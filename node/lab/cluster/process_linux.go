package cluster

import "syscall"

// attributes makes the child leader of its own process group, so that a Ctrl-C
// in the terminal reaches us alone and we stop things in order, and lets the
// kernel end it when we are killed and can stop nothing.
func attributes(c command) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: c.credential, Pdeathsig: c.lastSignal}
}

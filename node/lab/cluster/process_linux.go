package cluster

import "syscall"

// attributes makes the child the leader of its own process group: a Ctrl-C in the terminal then reaches this process
// alone, which stops all children in order. When this process is killed, the kernel ends the child.
func attributes(c command) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: c.credential, Pdeathsig: c.lastSignal}
}

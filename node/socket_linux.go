package node

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/punchclock/punchclock/node/admission"
)

// socket asks the kernel about a connection. A nil socket knows nothing.
type socket struct{ raw syscall.RawConn }

func socketOf(conn net.Conn) *socket {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return &socket{raw}
}

// tcpEstablished is TCP_ESTABLISHED of the kernel: both sides may send. In any other state the caller has closed the
// connection, as a person who gives up does, or the network has.
const tcpEstablished = 1

// state returns how long ago the kernel received the latest data of the connection, to the millisecond. For a request that
// is about to be handled, that is how long it has waited: in the kernel, and for a processor. It also reports whether the
// caller has left. One system call answers both.
func (s *socket) state() (waited time.Duration, left bool) {
	waited = admission.Unknown
	if s == nil {
		return waited, false
	}
	_ = s.raw.Control(func(fd uintptr) { // it fails for a connection that is closed already
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			waited = time.Duration(info.Last_data_recv) * time.Millisecond
			left = info.State != tcpEstablished
		}
	})
	return waited, left
}

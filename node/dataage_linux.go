package node

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dataAge returns how long ago the kernel received the latest data of a connection, to the millisecond. For a request that
// is about to be handled, that is how long it has waited: in the kernel, and for a processor. It is 0 if it is not known.
func dataAge(conn net.Conn) time.Duration {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	var age time.Duration
	_ = raw.Control(func(fd uintptr) { // it fails for a connection that is closed already
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			age = time.Duration(info.Last_data_recv) * time.Millisecond
		}
	})
	return age
}

package node

import (
	"net"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/admission"
)

// TestSocketState sends a byte, looks at the connection after a while, and closes it at the caller's end.
func TestSocketState(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close() //nolint:errcheck // nothing is served
	conn := mustDial(t, plain.Addr().String())
	served, err := plain.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close() //nolint:errcheck // nothing is sent
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	for time.Since(sent) < 50*time.Millisecond { // the age of the data is what is measured
		time.Sleep(time.Millisecond)
	}
	s := socketOf(served)
	if waited, left := s.state(); left || waited < 45*time.Millisecond || waited > time.Since(sent)+10*time.Millisecond {
		t.Errorf("data that came %s ago has waited %s, left: %t", time.Since(sent), waited, left)
	}
	_ = conn.Close()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // the kernel hands the end over
		if _, left := s.state(); left {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a caller that has closed its connection has not left")
		}
	}
	if waited, left := socketOf(nil).state(); waited != admission.Unknown || left {
		t.Errorf("no connection has waited %s, left: %t", waited, left)
	}
}

// TestACallerThatLeftIsDroppedAtOnce connects and leaves before the server accepts.
func TestACallerThatLeftIsDroppedAtOnce(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close() //nolint:errcheck // the test ends
	gone := mustDial(t, plain.Addr().String())
	if _, err := gone.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	stays := mustDial(t, plain.Addr().String())
	accepted, err := listener{Listener: plain, connections: newConnections(0, nil)}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close() //nolint:errcheck // nothing is sent
	if got, want := accepted.RemoteAddr().String(), stays.LocalAddr().String(); got != want {
		t.Errorf("the server got the connection of %s, want that of %s, whose caller waits", got, want)
	}
}

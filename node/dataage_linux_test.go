package node

import (
	"net"
	"testing"
	"time"
)

// TestDataAge sends a byte and reads it after a while.
func TestDataAge(t *testing.T) {
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
	if age := dataAge(served); age < 45*time.Millisecond || age > time.Since(sent)+10*time.Millisecond {
		t.Errorf("data that came %s ago has an age of %s", time.Since(sent), age)
	}
	if age := dataAge(nil); age != 0 {
		t.Errorf("no connection has data of age %s", age)
	}
}

//go:build !linux

package node

import (
	"net"
	"time"
)

// dataAge is not known here.
func dataAge(net.Conn) time.Duration { return 0 }

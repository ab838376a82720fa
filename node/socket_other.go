//go:build !linux

package node

import (
	"net"
	"time"

	"github.com/punchclock/punchclock/node/admission"
)

// socket knows nothing here.
type socket struct{}

func socketOf(net.Conn) *socket { return nil }

func (*socket) state() (waited time.Duration, left bool) { return admission.Unknown, false }

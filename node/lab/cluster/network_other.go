//go:build unix && !linux

package cluster

import (
	"errors"
	"fmt"
	"time"
)

// network is a network of its own for each region: Linux only.
type network struct{}

func newNetwork(int, time.Duration) (*network, error) {
	return nil, fmt.Errorf("networks: %w", errors.ErrUnsupported)
}

func (*network) host(int) string { return "" }

func (*network) sever(int, bool) {}

func (*network) close() error { return nil }

func (*network) enter(_ int, start func() error) error { return start() }

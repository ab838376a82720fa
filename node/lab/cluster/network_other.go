//go:build unix && !linux

package cluster

import (
	"errors"
	"fmt"
	"time"
)

// network is a network for each region, which only Linux has.
type network struct{}

func newNetwork(int, time.Duration) (*network, error) {
	return nil, fmt.Errorf("networks: %w", errors.ErrUnsupported)
}

func (*network) host(int) string { return "" }

func (*network) sever(int, bool) {}

func (*network) close() error { return nil }

func (*network) enter(_ int, start func() error) error { return start() }

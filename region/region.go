// Package region answers where a punch must go: the home of a company (Directory), the nodes of a region (View), and
// the order in which to ask them (Router). It also holds the operators' switches (Switches).
//
// It opens no connection. Gossip and the database supply its data from outside. An answer is only a hint: the fence in
// the database refuses a punch that was routed to a home that is no longer valid.
package region

import (
	"errors"
	"regexp"
	"time"
)

// Name is a region's name. The database uses the same name as its region label.
type Name string

// The length limit lets a name fit a DNS label and a node's gossip metadata.
var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}[a-z0-9]$`)

// ErrName is the error of ParseName.
var ErrName = errors.New("a region's name must be 2 to 32 of a-z, 0-9 and '-', starting with a letter and not ending with '-'")

// ParseName checks s and returns it as a Name.
func ParseName(s string) (Name, error) {
	if !validName.MatchString(s) {
		return "", ErrName
	}
	return Name(s), nil
}

// Home is the place of a company's punches. Region and Zone are valid exactly as long as Epoch: a change of either
// raises the epoch, and the database refuses punches of an older epoch.
type Home struct {
	Region Name
	Epoch  int64
	Zone   *time.Location
	// Version counts every change of the company. Of two Homes the higher version is the newer one.
	Version int64
	// Suspended means that an operator has suspended the company until SuspendedUntil, or for good if that is zero.
	Suspended      bool
	SuspendedUntil time.Time
	// RateLimit is how many punches a second each node takes from the company's devices, 0 for no limit.
	RateLimit int
}

// SuspendedAt reports whether the company is suspended at that time.
func (h Home) SuspendedAt(now time.Time) bool {
	return h.Suspended && (h.SuspendedUntil.IsZero() || now.Before(h.SuspendedUntil))
}

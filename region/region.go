// Package region answers one question: where. Which home a company has
// (Directory), which nodes are there to take its punches (View), and whom to
// ask first (Router). It opens no connection; gossip and the database are fed
// in from outside, and what it answers is a hint that the database's fence
// checks.
package region

import (
	"errors"
	"regexp"
	"time"
)

// Name is a region's name. It is the database's label for the region, too.
type Name string

// Bounded so that a name fits a DNS label and a node's gossip metadata.
var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}[a-z0-9]$`)

// ErrName is returned for a name that is not 2 to 32 of a-z, 0-9 and '-'.
var ErrName = errors.New("a region's name must be 2 to 32 of a-z, 0-9 and '-', starting with a letter and not ending with '-'")

// ParseName checks s.
func ParseName(s string) (Name, error) {
	if !validName.MatchString(s) {
		return "", ErrName
	}
	return Name(s), nil
}

// Home is where a company's punches are stored. Region and Zone hold exactly
// as long as the Epoch does: whatever changes one of them raises the epoch,
// and the database refuses punches routed under an old one.
type Home struct {
	Region Name
	Epoch  int64
	Zone   *time.Location
	// Version counts every change to the company; news of a change carries it.
	Version int64
}

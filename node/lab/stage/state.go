package stage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
)

// State is a running cluster as scripts, `punchclock-lab load` and
// `punchclock-lab drill` see it.
type State struct {
	cluster.State
	Companies     []load.Company `json:"companies"`
	OperatorToken string         `json:"operator_token,omitempty"`
	// TracesURL is where the newest traces can be looked at, if somewhere.
	TracesURL string `json:"traces_url,omitempty"`
}

// State returns the stage as it is now.
func (s *Stage) State() State {
	return State{State: s.Cluster.State(), Companies: s.Companies, OperatorToken: s.OperatorToken}
}

// Write replaces the file at once, readable by its owner alone: tokens are in
// it.
func (s *State) Write(path string) error {
	text, err := json.Marshal(s, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// ReadState reads what Write has written.
func ReadState(path string) (*State, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &s, nil
}

// Entries are the endpoints, region by region.
func (s *State) Entries() (regions []load.Region) {
	for _, n := range s.Nodes {
		i := slices.IndexFunc(regions, func(r load.Region) bool { return r.Name == n.Region })
		if i < 0 {
			i = len(regions)
			regions = append(regions, load.Region{Name: n.Region})
		}
		regions[i].Endpoints = append(regions[i].Endpoints, n.PublicURL)
	}
	return regions
}

// Package zone is the one table of time zones that this project uses. The table is part of the binary.
//
// The standard library prefers the host's table. Hosts differ: with it, two nodes could store two offsets for one
// company. Hosts also know names that mean something else on each machine, such as localtime. Therefore no other
// package may call time.LoadLocation.
package zone

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:generate ./update.sh

var (
	//go:embed zoneinfo.zip
	table []byte
	//go:embed version.txt
	version string
)

// Version returns the release of the IANA time zone database in the table, such as 2026a.
func Version() string { return strings.TrimSpace(version) }

// excluded are entries that name no place. Factory stands for a machine whose zone has never been set.
var excluded = []string{"Factory", "localtime", "posixrules"}

// index maps the names in the table to their entries.
var index = sync.OnceValue(func() map[string]*zip.File {
	archive, err := zip.NewReader(bytes.NewReader(table), int64(len(table)))
	if err != nil {
		panic(fmt.Sprintf("the embedded table of time zones: %v", err)) // embedded at build time
	}
	names := make(map[string]*zip.File, len(archive.File))
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, "/") && !slices.Contains(excluded, f.Name) {
			names[f.Name] = f
		}
	}
	return names
})

// loaded maps names to locations. The table bounds it.
var loaded sync.Map

// Load returns the location with exactly this name in the table, such as Europe/Berlin. Calls with one name return one
// location.
func Load(name string) (*time.Location, error) {
	if loc, ok := loaded.Load(name); ok {
		return loc.(*time.Location), nil
	}
	entry, ok := index()[name]
	if !ok {
		return nil, unknown(name)
	}
	loc, err := read(entry)
	if err != nil {
		return nil, fmt.Errorf("time zone %s: %w", name, err)
	}
	first, _ := loaded.LoadOrStore(name, loc)
	return first.(*time.Location), nil
}

func read(entry *zip.File) (*time.Location, error) {
	f, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(entry.Name, data)
}

// unknown explains a name that is not in the table, and names the zone that differs in case alone.
func unknown(name string) error {
	for known := range index() {
		if strings.EqualFold(known, name) {
			return fmt.Errorf("time zone %q is unknown; it is spelled %s", name, known)
		}
	}
	return fmt.Errorf("time zone %q is unknown in the IANA database %s; use a name such as Europe/Berlin", name, Version())
}

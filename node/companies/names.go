package companies

import (
	"fmt"

	"golang.org/x/text/cases"

	"github.com/punchclock/punchclock/node/crdb"
)

// names finds ids and names that differ only in case. People take them for one company, and the database does not.
type names struct {
	fold     cases.Caser
	existing map[string]bool
	ids      map[string]known // by the folded id
	names    map[string]known // by the folded name
}

// known is a company that has an id or a name.
type known struct {
	id, name string
	line     int // 0 for a company of the database
}

func (k known) String() string {
	if k.line == 0 {
		return "company " + k.id + " in the database"
	}
	return fmt.Sprintf("company %s on line %d", k.id, k.line)
}

func newNames() names {
	return names{fold: cases.Fold(), existing: make(map[string]bool), ids: make(map[string]known), names: make(map[string]known)}
}

// exists reports whether the database had the company before the import.
func (n *names) exists(id string) bool { return n.existing[id] }

// add remembers a company and returns a warning for each other company whose id or name differs from it only in case.
func (n *names) add(c crdb.Company, line int) (warnings []string) {
	if line == 0 {
		n.existing[c.ID] = true
	}
	k := known{c.ID, c.Name, line}
	id, name := n.fold.String(c.ID), n.fold.String(c.Name)
	if other, ok := n.ids[id]; !ok {
		n.ids[id] = k
	} else if other.id != c.ID {
		warnings = append(warnings, fmt.Sprintf("the id %s differs only in case from %s", c.ID, other))
	}
	if other, ok := n.names[name]; !ok {
		n.names[name] = k
	} else if other.id != c.ID && other.name != c.Name {
		warnings = append(warnings, fmt.Sprintf("the name %q differs only in case from %q of %s", c.Name, other.name, other))
	}
	return warnings
}

package terraform_test

import (
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// table is one under a heading of COST.md, without its header.
type table struct {
	heading string
	rows    [][]string
}

func tables(t *testing.T) []table {
	t.Helper()
	content, err := os.ReadFile("COST.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []table
	heading, before := "", ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimLeft(line, "# ")
		case strings.HasPrefix(line, "|---"):
			all = append(all, table{heading: heading})
		case strings.HasPrefix(line, "|") && before != "":
			last := &all[len(all)-1]
			last.rows = append(last.rows, cells(line))
		}
		before = line
		if !strings.HasPrefix(line, "|") {
			before = ""
		}
	}
	return all
}

func cells(line string) []string {
	list := strings.Split(strings.Trim(line, "|"), "|")
	for i, c := range list {
		list[i] = strings.Trim(c, " *")
	}
	return list
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		t.Fatalf("%q is no number", text)
	}
	return n
}

// same allows for the rounding of what is printed.
func same(a, b, unit float64) bool { return math.Abs(a-b) <= unit/2+1e-9 }

func TestCostsAreComputed(t *testing.T) {
	totals := make(map[string]float64)
	var summary [][]string
	for _, tab := range tables(t) {
		switch {
		case tab.heading == "What it costs":
			summary = tab.rows
		case len(tab.rows[0]) == 5 && tab.rows[len(tab.rows)-1][0] == "Total":
			var sum float64
			for _, row := range tab.rows[:len(tab.rows)-1] {
				quantity, price, cost := number(t, row[1]), number(t, row[3]), number(t, row[4])
				if !same(quantity*price, cost, 0.01) {
					t.Errorf("%s: %s: %v at %v is %.2f and not %.2f", tab.heading, row[0], quantity, price, quantity*price, cost)
				}
				sum += cost
			}
			total := number(t, tab.rows[len(tab.rows)-1][4])
			if !same(sum, total, 0.01) {
				t.Errorf("%s: the lines are %.2f and the total is %.2f", tab.heading, sum, total)
			}
			name, _, _ := strings.Cut(tab.heading, " employees")
			totals[name] = total
		}
	}
	if len(totals) != 4 || len(summary) != 3 {
		t.Fatalf("found the totals %v and %d lines of summary", totals, len(summary))
	}
	global := totals["What is global"]
	for _, row := range summary {
		one := totals[row[0]]
		want := []float64{one, 3 * one, global, 3*one + global}
		for i, w := range want {
			if got := number(t, row[i+1]); !same(got, w, 0.01) {
				t.Errorf("%s employees: column %d says %.2f, its tables %.2f", row[0], i+1, got, w)
			}
		}
		if got, w := number(t, row[5]), want[3]/number(t, row[0]); !same(got, w, 0.0001) {
			t.Errorf("%s employees: %.4f for each, computed %.4f", row[0], got, w)
		}
	}
}

// hours are those of a month, as AWS counts them.
const hours = 730

// perPunch are kilobytes times punches of a third of the employees, in GB.
func perPunch(kilobytes, employees float64) float64 { return kilobytes * employees * 4 * 22 / 3 / 1e6 }

// quantities returns how each line's quantity follows from the assumptions, for
// a region with as many servers and NAT gateways as its own lines name. Lines
// that are guesses, such as what passes a NAT gateway, are not among them.
func quantities(employees, servers, disk, gateways float64) map[string]float64 {
	const nodes, machine = 3, 10 // GB: a machine's own disk; a server's is twice that
	return map[string]float64{
		"database":                            servers * hours,
		"nodes, always":                       nodes * hours,
		"nodes, mornings":                     3 * 5 * 22,
		"collector":                           hours,
		"disks":                               servers*(disk+2*machine) + (nodes+1)*machine,
		"balancers: one public, one internal": 2 * hours,
		"NAT gateways":                        gateways * hours,
		"public addresses":                    (3 + gateways) * hours,
		"between zones":                       perPunch(4, employees) + 20,
		"between regions":                     perPunch(3, employees) + 40,
		"to the internet":                     perPunch(3, employees),
		"backups":                             35 * 12 * perPunch(0.25, employees),
		"samples":                             (nodes*400/15. + servers*150/30) * hours * 3600 / 1e6,
		"alarms":                              5 + servers,
		"minutely measurements of nodes":      nodes,
	}
}

func TestQuantitiesFollowFromTheAssumptions(t *testing.T) {
	for _, tab := range tables(t) {
		size, _, region := strings.Cut(tab.heading, " employees, one of three regions")
		if !region {
			continue
		}
		// first returns the first numbers of a line, as in "disks: 3 × 100 GB".
		first := func(name string) []string {
			for _, row := range tab.rows {
				if rest, ok := strings.CutPrefix(row[0], name+": "); ok {
					return strings.Fields(strings.ReplaceAll(rest, "×", ""))
				}
			}
			t.Fatalf("%s: no line %s", tab.heading, name)
			return nil
		}
		disks := first("disks")
		servers := number(t, first("database")[0])
		if disks[0] != first("database")[0] {
			t.Errorf("%s: %s disks for %v servers", tab.heading, disks[0], servers)
		}
		checked := 0
		for name, want := range quantities(number(t, size), servers, number(t, disks[1]), number(t, first("NAT gateways")[0])) {
			for _, row := range tab.rows {
				if !strings.HasPrefix(row[0]+":", name+":") || strings.HasPrefix(row[0], "disks: ") && row[2] != "GB" {
					continue
				}
				checked++
				if got := number(t, row[1]); !same(got, want, 0.1) && got != math.Round(want) {
					t.Errorf("%s: %s: %v %s, computed %.2f", tab.heading, row[0], got, row[2], want)
				}
			}
		}
		if checked < 14 {
			t.Errorf("%s: only %d lines were computed", tab.heading, checked)
		}
	}
}

func TestStorageGrowthIsComputed(t *testing.T) {
	for _, tab := range tables(t) {
		if tab.heading != "Assumptions" || len(tab.rows[0]) != 5 {
			continue
		}
		for _, row := range tab.rows {
			punches := number(t, row[0]) * 4 * 22
			month := punches * 250 * 5 / 3 / 1e9
			if !same(number(t, row[1]), punches, 1) || !same(number(t, row[2]), month, 0.1) || !same(number(t, row[3]), 12*month, 0.1) {
				t.Errorf("%v, computed %.0f punches, %.1f and %.1f GB", row, punches, month, 12*month)
			}
		}
		return
	}
	t.Error("COST.md has no table of growth")
}

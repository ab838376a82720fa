package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/renameio/v2"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// introduction is the part of the report that no run changes.
//
//go:embed introduction.md
var introduction string

// engineNames are the columns of the report.
var engineNames = []struct{ id, name string }{{cluster.Postgres, "PostgreSQL"}, {cluster.Cockroach, "CockroachDB"}}

// writeReport writes the report and the plots from the results of all engines. It returns how many figures miss.
func (c *Command) writeReport() (missed int, err error) {
	var all []*results
	for _, e := range engineNames {
		r, err := readResults(c.Out, e.id)
		if err != nil {
			return 0, err
		}
		if len(r.Parts) > 0 {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("--out: %s holds no results", c.Out)
	}
	for _, r := range all {
		for name, plot := range map[string]string{"overload": plotOverload(r), "queues": plotQueues(r)} {
			if plot == "" {
				continue
			}
			if err := renameio.WriteFile(filepath.Join(c.Out, name+"-"+r.Engine+".svg"), []byte(plot), 0o644); err != nil {
				return 0, err
			}
		}
	}
	old, err := os.ReadFile(c.Report)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	folder, err := filepath.Rel(filepath.Dir(c.Report), c.Out)
	if err != nil {
		return 0, err
	}
	w := &reportWriter{results: all, notes: readNotes(string(old)), root: filepath.Dir(c.Report), folder: filepath.ToSlash(folder)}
	text := w.write()
	return w.missed, renameio.WriteFile(c.Report, []byte(text), 0o644)
}

// note marks text in the report that a person wrote. It stays when the report is written again.
var note = regexp.MustCompile(`(?s)<!-- note (\S+) -->\n(.*?)\n?<!-- end of note -->`)

func readNotes(report string) map[string]string {
	notes := make(map[string]string)
	for _, m := range note.FindAllStringSubmatch(report, -1) {
		notes[m[1]] = strings.TrimSpace(m[2])
	}
	return notes
}

type reportWriter struct {
	strings.Builder
	results []*results
	notes   map[string]string
	root    string // the folder of the report
	folder  string // of plots and profiles, from the report
	missed  int
}

func (w *reportWriter) line(format string, args ...any) {
	_, _ = fmt.Fprintf(&w.Builder, format+"\n", args...) // a Builder never fails
}

func (w *reportWriter) write() string {
	w.WriteString(introduction)
	w.plots()
	w.table()
	w.misses()
	for _, r := range w.results {
		w.details(r)
	}
	return strings.TrimSpace(w.String()) + "\n"
}

func nameOf(engine string) string {
	for _, e := range engineNames {
		if e.id == engine {
			return e.name
		}
	}
	return engine
}

func (w *reportWriter) plots() {
	for _, r := range w.results {
		if plotOverload(r) != "" {
			w.line("\n![Goodput over offered load on %s](%s/overload-%s.svg)", nameOf(r.Engine), w.folder, r.Engine)
		}
	}
	for _, r := range w.results {
		if plotQueues(r) != "" {
			w.line("\n![Punchclock and queues on %s](%s/queues-%s.svg)", nameOf(r.Engine), w.folder, r.Engine)
		}
	}
}

func (w *reportWriter) table() {
	w.line("\n## Results\n")
	head, rule := "| Measurement | Target |", "|---|---|"
	for _, r := range w.results {
		head, rule = head+" "+nameOf(r.Engine)+" |", rule+"---|"
	}
	w.line("%s\n%s", head, rule)
	for i := range targets {
		t := &targets[i]
		cells := []string{t.title, t.want()}
		for _, r := range w.results {
			cells = append(cells, t.cell(r))
		}
		w.line("| %s |", strings.Join(cells, " | "))
	}
}

func (t *target) cell(r *results) string {
	value, measured := r.value(t.part, t.key)
	switch f := r.figure(t.part, t.key); {
	case measured && f.Void != "":
		return t.format(value) + ", **void**"
	case !measured && r.Parts[t.part].Failure != "":
		return "the part failed"
	case !measured:
		return "not measured"
	case t.direction == stated:
		return t.format(value)
	case t.met(r.Engine, value):
		return t.format(value) + ", met"
	default:
		return t.format(value) + ", **missed**"
	}
}

// misses names each missed target, with the figures behind it, its profile and the note of a person.
func (w *reportWriter) misses() {
	w.line("\n## Missed targets")
	for _, r := range w.results {
		for i := range targets {
			t := &targets[i]
			value, measured := r.value(t.part, t.key)
			if !measured || t.met(r.Engine, value) {
				continue
			}
			w.missed++
			w.miss(r, t, value)
		}
	}
	if w.missed == 0 {
		w.line("\nNone of the measured figures misses its target.")
	}
}

func (w *reportWriter) miss(r *results, t *target, value float64) {
	w.line("\n### %s misses: %s\n", nameOf(r.Engine), t.title)
	w.paragraph(fmt.Sprintf("Target %s, measured %s.", t.want(), t.format(value)), "")
	for _, f := range r.Parts[t.part].Figures {
		if f.Key != t.key {
			continue
		}
		w.line("")
		w.paragraph(sentence(f.Text), "")
		if f.Void != "" {
			w.line("")
			w.paragraph("Void: "+sentence(f.Void), "")
		}
		w.profile(&f)
	}
	id := r.Engine + ":" + t.key
	w.line("\n<!-- note %s -->\n%s\n<!-- end of note -->", id, w.notes[id])
}

// profileLines is how many functions of a profile the report shows. The file has more.
const profileLines = 8

// profile shows where a node spent its CPU. The lines of a function begin after the head of pprof's table.
func (w *reportWriter) profile(f *figure) {
	if f.Profile == "" {
		return
	}
	file := filepath.ToSlash(f.Profile)
	text, err := os.ReadFile(filepath.Join(w.root, f.Profile))
	if err != nil {
		w.line("\nThe profile %s cannot be read.", file)
		return
	}
	w.line("\nFrom the [CPU profile of a node](%s):\n\n```", file)
	_, table, _ := strings.Cut(string(text), "flat%")
	lines := strings.Split(table, "\n")
	for _, line := range lines[1:min(len(lines), 1+profileLines)] {
		w.line("%s", strings.TrimRight(line[:min(len(line), width)], " "))
	}
	w.line("```")
}

// details lists the figures behind the ratios, part by part.
func (w *reportWriter) details(r *results) {
	w.line("\n## %s %s", nameOf(r.Engine), r.Version)
	for _, p := range parts {
		run, measured := r.Parts[p.name]
		if !measured {
			continue
		}
		w.line("\n### %s: %s\n", nameOf(r.Engine), p.name)
		w.item(fmt.Sprintf("Measured: %s UTC at commit %s, in %s", run.When.Format("2006-01-02 15:04"), run.Commit, run.Took.Round(time.Second)))
		w.item("Machine: " + run.Machine.String())
		w.item("Other processes: " + others(&run.Machine))
		if run.Ran != "" {
			w.item("Ran: " + run.Ran)
		}
		if run.Failure != "" {
			w.item("Failed: " + strings.ReplaceAll(oneLine(run.Failure), "|", "/"))
		}
		for i := range run.Figures {
			f := &run.Figures[i]
			w.item(f.String())
		}
	}
}

// String names the figure, its value and what is behind it. A figure without a target only explains.
func (f *figure) String() string {
	i := slices.IndexFunc(targets, func(t target) bool { return t.key == f.Key })
	if i < 0 {
		return f.Text
	}
	text := fmt.Sprintf("%s: %s. %s", capital(targets[i].title), targets[i].format(f.Value), capital(f.Text))
	if f.Void != "" {
		text += ". Void: " + f.Void
	}
	return text
}

func (m *machine) String() string {
	return fmt.Sprintf("%s, %d cores, %.0f GiB, Linux %s, %s", m.Processor, m.Cores, m.MemoryGB, m.Kernel, m.Go)
}

func others(m *machine) string {
	if len(m.Others) == 0 {
		return "none used more than 2 % of a core; load averages " + m.Load
	}
	return strings.Join(m.Others, ", ") + " of a core; load averages " + m.Load
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func sentence(s string) string { return capital(strings.TrimSuffix(s, ".")) + "." }

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), 200)]
}

func (w *reportWriter) item(text string) { w.paragraph("- "+text, "  ") }

// width leaves room below the limit of a document's lines.
const width = 116

// paragraph breaks text into lines. The lines after the first begin with the indent.
func (w *reportWriter) paragraph(text, indent string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			w.line("%s", line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	w.line("%s", line)
}

package drill

import (
	_ "embed"
	"html/template"
	"os"
	"strings"

	"github.com/punchclock/punchclock/node/lab/drill/audit"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"brief": brief}).Parse(pageText))

// ledgerRow is one number of the audit.
type ledgerRow struct {
	Name string
	N    int
	Bad  bool // a fault was found
}

// ledgerRows returns the numbers of an audit, or nil without an audit.
func ledgerRows(r *audit.Report) (rows []ledgerRow) {
	if r == nil {
		return nil
	}
	rows = []ledgerRow{
		{Name: "sent", N: r.Sent}, {Name: "acknowledged", N: r.Acknowledged},
		{Name: "refused", N: r.Refused, Bad: r.Refused > 0}, {Name: "unresolved", N: r.Unresolved},
	}
	for _, f := range audit.Faults() {
		n := r.Count(f)
		rows = append(rows, ledgerRow{Name: strings.ReplaceAll(string(f), "_", " "), N: n, Bad: n > 0})
	}
	return rows
}

// writePage writes the outcome as one page without further files.
func writePage(path string, o *Outcome) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	err = page.Execute(file, struct {
		*Outcome
		Passed     bool
		LedgerRows []ledgerRow
		Members    string
		Plot       template.HTML
	}{o, o.Verdict() == nil, ledgerRows(o.Ledger), o.members(), template.HTML(plot(o))}) //nolint:gosec // plot escapes what is text and writes numbers
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

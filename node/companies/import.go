// Package companies is the operator's import of companies from a file. It accounts for every line of the file. The
// companies themselves, and the fence around their homes, belong to node/crdb.
package companies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/punchclock/punchclock/node/crdb"
)

// Store is the database of companies.
type Store interface {
	CreateCompanies(ctx context.Context, list []crdb.Company) ([]error, error)
	ListCompanies(ctx context.Context, after string, limit int) ([]crdb.Company, error)
}

// Columns are the columns of an import file. Its header names them in any order.
var Columns = []string{"company", "name", "home_region", "time_zone"}

const (
	// batchSize is the number of companies in a transaction. A write to a global table takes up to a second, whatever
	// its size. A batch that must be retried should not be long.
	batchSize = 200
	// pageSize is the number of existing companies that a statement reads.
	pageSize = 1000
)

// Deps is what an import works with.
type Deps struct {
	Store   Store
	Regions []string // the regions of the database
	// Progress is told the bytes that were read. It may be nil.
	Progress func(bytes int64)
}

// Refusal is a line that was not imported, with the reason.
type Refusal struct {
	Line int // as an editor counts, from 1
	Err  error
}

func (r Refusal) Error() string { return fmt.Sprintf("line %d: %v", r.Line, r.Err) }

// Unwrap returns the reason.
func (r Refusal) Unwrap() error { return r.Err }

// Warning is a line that was imported, and that a person should look at.
type Warning struct {
	Line int
	Text string
}

func (w Warning) String() string { return fmt.Sprintf("line %d: warning: %s", w.Line, w.Text) }

// Result accounts for the lines of a file. Without an error, Created, Unchanged and the refusals add up to Lines.
type Result struct {
	Lines     int // lines below the header, without the empty ones
	Created   int
	Unchanged int // the company existed with the same values
	Refused   []Refusal
	Warnings  []Warning
}

// String says what happened to the lines.
func (r *Result) String() string {
	return fmt.Sprintf("%d lines read: %d companies created, %d unchanged, %d lines refused", r.Lines, r.Created, r.Unchanged, len(r.Refused))
}

// Import creates the companies of a CSV file. Each line is one company. A bad line is refused by its number, and the
// other lines are imported. An error concerns the file or the database as a whole. The result then tells what was
// created before it. Importing the file again is harmless.
func Import(ctx context.Context, file io.Reader, deps Deps) (Result, error) {
	if deps.Progress == nil {
		deps.Progress = func(int64) {}
	}
	lines := newLineReader(file)
	columns, err := readHeader(lines)
	if err != nil {
		return Result{}, err
	}
	in := &importer{deps: deps, columns: columns, names: newNames(), lines: make(map[string]int)}
	if err := in.readExisting(ctx); err != nil {
		return Result{}, fmt.Errorf("read the existing companies: %w", err)
	}
	err = in.readLines(ctx, lines)
	deps.Progress(lines.bytes())
	slices.SortStableFunc(in.result.Refused, func(a, b Refusal) int { return cmp.Compare(a.Line, b.Line) })
	return in.result, err
}

type importer struct {
	deps    Deps
	columns header
	names   names
	lines   map[string]int // company to its line in the file
	batch   []numbered
	result  Result
}

type numbered struct {
	line    int
	company crdb.Company
}

func (in *importer) readExisting(ctx context.Context) error {
	for after := ""; ; {
		page, err := in.deps.Store.ListCompanies(ctx, after, pageSize)
		if err != nil {
			return err
		}
		for _, c := range page {
			in.names.add(c, 0)
			after = c.ID
		}
		if len(page) < pageSize {
			return nil
		}
	}
}

func (in *importer) readLines(ctx context.Context, lines *lineReader) error {
	for {
		text, err := lines.next()
		if errors.Is(err, io.EOF) {
			return in.flush(ctx)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read the file after line %d: %w", lines.number, err), in.flush(ctx))
		}
		in.take(lines.number, text)
		if len(in.batch) == batchSize {
			if err := in.flush(ctx); err != nil {
				return err
			}
			in.deps.Progress(lines.bytes())
		}
	}
}

// take reads the company of a line into the batch, or refuses the line. It skips an empty line.
func (in *importer) take(number int, text line) {
	fields, err := in.columns.split(text)
	if err == nil && !slices.ContainsFunc(fields, func(s string) bool { return s != "" }) {
		return
	}
	in.result.Lines++
	var c crdb.Company
	if err == nil {
		c, err = in.columns.company(fields)
	}
	if err == nil {
		err = c.Validate(in.deps.Regions)
	}
	if first, twice := in.lines[c.ID]; err == nil && twice {
		err = fmt.Errorf("company %s is on line %d already", c.ID, first)
	}
	if err != nil {
		in.refuse(number, err)
		return
	}
	in.lines[c.ID] = number
	in.batch = append(in.batch, numbered{number, c})
}

func (in *importer) refuse(number int, err error) {
	in.result.Refused = append(in.result.Refused, Refusal{Line: number, Err: err})
}

func (in *importer) flush(ctx context.Context) error {
	if len(in.batch) == 0 {
		return nil
	}
	list := make([]crdb.Company, len(in.batch))
	for i, b := range in.batch {
		list[i] = b.company
	}
	outcomes, err := in.deps.Store.CreateCompanies(ctx, list)
	if err != nil {
		return fmt.Errorf("lines %d to %d may be imported or not, later lines are not; import the file again: %w",
			in.batch[0].line, in.batch[len(in.batch)-1].line, err)
	}
	for i, err := range outcomes {
		number, c := in.batch[i].line, in.batch[i].company
		switch {
		case err != nil:
			in.refuse(number, err)
			continue
		case in.names.exists(c.ID):
			in.result.Unchanged++
		default:
			in.result.Created++
		}
		for _, text := range in.names.add(c, number) {
			in.result.Warnings = append(in.result.Warnings, Warning{Line: number, Text: text})
		}
	}
	in.batch = in.batch[:0]
	return nil
}

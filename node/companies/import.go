// Package companies is the operator's side of companies: it brings in many
// from a file and prints what is there. The companies themselves, and the fence
// around their homes, are node/crdb's.
package companies

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/punchclock/punchclock/node/crdb"
)

// Store keeps companies.
type Store interface {
	CreateCompanies(ctx context.Context, list []crdb.Company) ([]error, error)
}

// Columns are the columns of an import file, named in its first line in any
// order.
var Columns = []string{"company", "name", "home_region", "time_zone"}

// batchSize is how many companies one transaction creates: a write to a global
// table takes up to a second whatever it writes, and a batch that has to be
// retried should not be long.
const batchSize = 200

// byteOrderMark is what spreadsheets put in front of the UTF-8 they export. It
// is not part of the first column's name.
const byteOrderMark = "\uFEFF"

// BadLine is a line that was not imported, and why.
type BadLine struct {
	Line int // as an editor counts, the header being line 1
	Err  error
}

func (b BadLine) Error() string { return fmt.Sprintf("line %d: %v", b.Line, b.Err) }

// Unwrap gives the reason.
func (b BadLine) Unwrap() error { return b.Err }

// Result says what became of a file.
type Result struct {
	Kept int // created, or there already with the same values
	Bad  []BadLine
}

type line struct {
	number  int
	company crdb.Company
}

// Import creates the companies of a CSV file. A bad line is reported and does
// not keep the others out. The error is for the file or the database as a
// whole; what was created until then is in the result, and importing again is
// harmless. progress is told the bytes that were read.
func Import(ctx context.Context, file io.Reader, regions []string, store Store, progress func(bytes int64)) (Result, error) {
	text := bufio.NewReader(file)
	skipped := int64(0)
	if start, _ := text.Peek(len(byteOrderMark)); string(start) == byteOrderMark { // an error comes back with the first line
		n, _ := text.Discard(len(byteOrderMark)) // just seen, so it is there
		skipped = int64(n)
	}
	reader := csv.NewReader(text)
	reader.ReuseRecord = true
	header, err := reader.Read()
	if err != nil {
		return Result{}, fmt.Errorf("line 1: must name the columns %v: %w", Columns, err)
	}
	order, err := columnOrder(header)
	if err != nil {
		return Result{}, fmt.Errorf("line 1: %w", err)
	}
	in := &importer{store: store, regions: regions, seen: make(map[string]int)}
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			err := in.flush(ctx)
			progress(skipped + reader.InputOffset())
			slices.SortFunc(in.result.Bad, func(a, b BadLine) int { return a.Line - b.Line })
			return in.result, err
		}
		if parse, bad := errors.AsType[*csv.ParseError](err); bad {
			in.bad(parse.StartLine, parse.Err)
			continue
		}
		if err != nil {
			return in.result, fmt.Errorf("read the file: %w", err)
		}
		number, _ := reader.FieldPos(0)
		in.take(number, record, order)
		if len(in.waiting) == batchSize {
			if err := in.flush(ctx); err != nil {
				return in.result, err
			}
			progress(skipped + reader.InputOffset())
		}
	}
}

func columnOrder(header []string) ([]int, error) {
	order := make([]int, len(Columns))
	for i, column := range Columns {
		at := slices.Index(header, column)
		if at < 0 {
			return nil, fmt.Errorf("the column %s is missing; the columns are %v", column, Columns)
		}
		order[i] = at
	}
	for _, name := range header {
		if !slices.Contains(Columns, name) {
			return nil, fmt.Errorf("%q is not a column; the columns are %v", name, Columns)
		}
	}
	return order, nil
}

type importer struct {
	store   Store
	regions []string
	seen    map[string]int // company to its line
	waiting []line
	result  Result
}

func (in *importer) bad(number int, err error) {
	in.result.Bad = append(in.result.Bad, BadLine{Line: number, Err: err})
}

func (in *importer) take(number int, record []string, order []int) {
	c := crdb.Company{ID: record[order[0]], Name: record[order[1]], HomeRegion: record[order[2]], TimeZone: record[order[3]]}
	if err := c.Validate(in.regions); err != nil {
		in.bad(number, err)
		return
	}
	if first, twice := in.seen[c.ID]; twice {
		in.bad(number, fmt.Errorf("company %s stands on line %d already", c.ID, first))
		return
	}
	in.seen[c.ID] = number
	in.waiting = append(in.waiting, line{number, c})
}

func (in *importer) flush(ctx context.Context) error {
	if len(in.waiting) == 0 {
		return nil
	}
	list := make([]crdb.Company, len(in.waiting))
	for i, l := range in.waiting {
		list[i] = l.company
	}
	outcomes, err := in.store.CreateCompanies(ctx, list)
	if err != nil {
		return fmt.Errorf("lines %d to %d: %w", in.waiting[0].number, in.waiting[len(in.waiting)-1].number, err)
	}
	for i, err := range outcomes {
		if err != nil {
			in.bad(in.waiting[i].number, err)
			continue
		}
		in.result.Kept++
	}
	in.waiting = in.waiting[:0]
	return nil
}

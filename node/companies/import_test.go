package companies

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/punch"
)

// shelf is a Store in memory that knows one company already.
type shelf struct {
	kept []crdb.Company
	fail error
}

func (s *shelf) CreateCompanies(_ context.Context, list []crdb.Company) ([]error, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	out := make([]error, len(list))
	for i, c := range list {
		if c.ID == "taken" {
			out[i] = punch.Errorf(punch.Conflict, "exists with other values")
			continue
		}
		s.kept = append(s.kept, c)
	}
	return out, nil
}

var regions = []string{"us-east", "eu-west"}

func TestBadLinesAreNamedAndGoodOnesKept(t *testing.T) {
	const file = `name,company,time_zone,home_region
Acme,acme,Europe/Berlin,eu-west
"Two
lines",two,Europe/Berlin,eu-west
Bad zone,zone,Mars/Base,eu-west
Bad region,region,UTC,mars
Too,few
Acme again,acme,UTC,us-east
Taken,taken,UTC,us-east
A "quote" astray,quote,UTC,us-east
Last,last,UTC,us-east
`
	s := &shelf{}
	var told int64
	result, err := Import(t.Context(), strings.NewReader(file), regions, s, func(n int64) { told = n })
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, c := range s.kept {
		kept = append(kept, c.ID)
	}
	if fmt.Sprint(kept) != "[acme two last]" || result.Kept != 3 || s.kept[0].Name != "Acme" || s.kept[1].HomeRegion != "eu-west" {
		t.Errorf("kept %v of %+v", kept, result)
	}
	var bad []int
	for _, b := range result.Bad {
		bad = append(bad, b.Line)
	}
	if fmt.Sprint(bad) != "[5 6 7 8 9 10]" {
		t.Errorf("bad lines %v", result.Bad)
	}
	if told != int64(len(file)) {
		t.Errorf("progress ended at %d of %d bytes", told, len(file))
	}
}

func TestAFileFromASpreadsheet(t *testing.T) {
	const file = "\uFEFFcompany,name,home_region,time_zone\r\nacme,Acme,us-east,UTC\r\n\uFEFFb,B,us-east,UTC\r\nc,C\xff,us-east,UTC\r\nd,D\x00,us-east,UTC\r\n"
	s := &shelf{}
	var told int64
	result, err := Import(t.Context(), strings.NewReader(file), regions, s, func(n int64) { told = n })
	if err != nil || result.Kept != 1 || s.kept[0].ID != "acme" || told != int64(len(file)) {
		t.Fatalf("%+v, %v, %d of %d bytes", result, err, told, len(file))
	}
	for i, field := range []string{"company", "name", "name"} { // only the file's own start may have a mark
		if b := result.Bad[i]; b.Line != 3+i || punch.AsError(b.Err).Field != field {
			t.Errorf("bad line %v, want line %d for its %s", b, 3+i, field)
		}
	}
}

func TestAFileWithoutItsColumnsIsRefused(t *testing.T) {
	for _, header := range []string{"", "company,name,home_region", "company,name,home_region,time_zone,colour"} {
		_, err := Import(t.Context(), strings.NewReader(header+"\n"), regions, &shelf{}, func(int64) {})
		if err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("header %q: %v", header, err)
		}
	}
}

func TestManyLinesGoInBatchesAndAFailureSaysWhere(t *testing.T) {
	var file strings.Builder
	file.WriteString("company,name,home_region,time_zone\n")
	for i := range 2*batchSize + 5 {
		fmt.Fprintf(&file, "c%d,x,us-east,UTC\n", i)
	}
	s := &shelf{}
	result, err := Import(t.Context(), strings.NewReader(file.String()), regions, s, func(int64) {})
	if err != nil || result.Kept != 2*batchSize+5 || len(s.kept) != result.Kept {
		t.Errorf("%+v, %v", result, err)
	}
	s.fail = errors.New("away")
	if _, err := Import(t.Context(), strings.NewReader(file.String()), regions, s, func(int64) {}); !errors.Is(err, s.fail) || !strings.Contains(err.Error(), "lines 2 to 201") {
		t.Errorf("a database that is away: %v", err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add("company,name,home_region,time_zone\na,b,us-east,UTC\n")
	f.Add("company,name,home_region,time_zone\n\"\n")
	f.Add("\uFEFFcompany,name,home_region,time_zone\na,b\x00,us-east,UTC\n")
	f.Fuzz(func(t *testing.T, file string) {
		s := &shelf{}
		result, err := Import(context.Background(), strings.NewReader(file), regions, s, func(int64) {})
		if err == nil && result.Kept != len(s.kept) {
			t.Errorf("%d kept, %d counted", len(s.kept), result.Kept)
		}
		for _, c := range s.kept {
			if err := c.Validate(regions); err != nil {
				t.Errorf("kept %+v: %v", c, err)
			}
		}
	})
}

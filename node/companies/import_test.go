package companies

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/encoding"
	utf "golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/punch"
)

// memory is a Store in memory. Company "taken" exists with other values than any file has.
type memory struct {
	kept  []crdb.Company
	calls int
	fail  error
}

func (m *memory) CreateCompanies(_ context.Context, list []crdb.Company) ([]error, error) {
	m.calls++
	if m.fail != nil {
		return nil, m.fail
	}
	out := make([]error, len(list))
	for i, c := range list {
		there := slices.IndexFunc(m.kept, func(k crdb.Company) bool { return k.ID == c.ID })
		switch {
		case c.ID == "taken" || there >= 0 && m.kept[there] != c:
			out[i] = punch.Errorf(punch.Conflict, "exists with other values")
		case there < 0:
			m.kept = append(m.kept, c)
		}
	}
	return out, nil
}

func (m *memory) ListCompanies(_ context.Context, after string, limit int) (page []crdb.Company, _ error) {
	sorted := slices.SortedFunc(slices.Values(m.kept), func(a, b crdb.Company) int { return strings.Compare(a.ID, b.ID) })
	for _, c := range sorted {
		if c.ID > after && len(page) < limit {
			page = append(page, c)
		}
	}
	return page, nil
}

func (m *memory) ids() (ids []string) {
	for _, c := range m.kept {
		ids = append(ids, c.ID)
	}
	return ids
}

var regions = []string{"us-east", "eu-west"}

func mustImport(t *testing.T, m *memory, file string) Result {
	t.Helper()
	var told int64
	result, err := Import(t.Context(), strings.NewReader(file), Deps{Store: m, Regions: regions, Progress: func(n int64) { told = n }})
	if err != nil {
		t.Fatal(err)
	}
	if told != int64(len(file)) {
		t.Errorf("progress ended at %d of %d bytes", told, len(file))
	}
	if sum := result.Created + result.Unchanged + len(result.Refused); sum != result.Lines {
		t.Errorf("%s: the counts add up to %d", &result, sum)
	}
	return result
}

func refusedLines(r Result) (numbers []int) {
	for _, b := range r.Refused {
		numbers = append(numbers, b.Line)
	}
	return numbers
}

func TestBadLinesAreRefusedByNumber(t *testing.T) {
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
Too,many,UTC,us-east,more

"Text" after,text,UTC,us-east
"A ""quote"", and a comma",quoted,UTC,us-east
Last,last,UTC,us-east
`
	m := &memory{}
	result := mustImport(t, m, file)
	if got := fmt.Sprint(m.ids()); got != "[acme quoted last]" || m.kept[1].Name != `A "quote", and a comma` || m.kept[0].HomeRegion != "eu-west" {
		t.Errorf("kept %+v", m.kept)
	}
	if got := fmt.Sprint(refusedLines(result)); got != "[3 4 5 6 7 8 9 10 11 13]" || result.Lines != 13 || result.Created != 3 {
		t.Errorf("%s: refused %v", &result, result.Refused)
	}
	if again := mustImport(t, m, file); again.Created != 0 || again.Unchanged != 3 || len(again.Refused) != len(result.Refused) {
		t.Errorf("the same file again: %s", &again)
	}
}

// TestAnUnclosedQuoteCostsOneLine is the fault that once dropped 989 of 1,001 lines in silence.
func TestAnUnclosedQuoteCostsOneLine(t *testing.T) {
	lines := []string{"company,name,home_region,time_zone"}
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("c%d,Company %d,us-east,UTC", i, i))
	}
	lines[11] = `c10,"Company 10,us-east,UTC`
	result := mustImport(t, &memory{}, strings.Join(lines, "\n"))
	if result.Lines != 1000 || result.Created != 999 || fmt.Sprint(refusedLines(result)) != "[12]" {
		t.Errorf("%s: %v; want line 12 refused", &result, result.Refused)
	}
}

// TestFilesOfSpreadsheets reads what spreadsheets write.
func TestFilesOfSpreadsheets(t *testing.T) {
	const plain = "company,name,home_region,time_zone\nacme,Acme & Söhne,us-east,UTC\nb,B,eu-west,Europe/Berlin\n"
	with := func(separator string) string { return strings.ReplaceAll(plain, ",", separator) }
	encode := func(e encoding.Encoding) string {
		s, err := e.NewEncoder().String(with(";"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, file := range map[string]string{
		"plain":                   plain,
		"semicolons":              with(";"),
		"tabs":                    with("\t"),
		"bars":                    with("|"),
		"sep=":                    "sep=;\n" + with(";"),
		"sep= in quotes":          "\"sep=;\"\r\n" + with(";"),
		"SEP= and a tab":          "SEP=\t\r\n" + with("\t"),
		"UTF-8 with a mark":       "\uFEFF" + plain,
		"a mark before sep=":      "\uFEFFsep=;\r\n" + with(";"),
		"UTF-16 LE":               encode(utf.UTF16(utf.LittleEndian, utf.UseBOM)),
		"UTF-16 BE":               encode(utf.UTF16(utf.BigEndian, utf.UseBOM)),
		"CR LF":                   strings.ReplaceAll(plain, "\n", "\r\n"),
		"CR":                      strings.ReplaceAll(plain, "\n", "\r"),
		"no end of the last line": strings.TrimSuffix(plain, "\n"),
		"a trailing column":       strings.ReplaceAll(plain, "\n", ",\n"),
		"trailing columns":        strings.ReplaceAll(with(";"), "\n", ";;; \n"),
		"an unnamed column":       strings.ReplaceAll(plain, "UTC\n", "UTC,,\n"),
		"spaces around fields":    strings.ReplaceAll(plain, ",", " , "),
		"spaces around quotes":    "company, name ,home_region,time_zone\nacme, \"Acme & Söhne\" ,us-east,UTC\n\"b\" ,\" B \",eu-west,Europe/Berlin\n",
		"spaces around tabs":      with(" \t "),
		"another order":           "time_zone;home_region;name;company\nUTC;us-east;Acme & Söhne;acme\nEurope/Berlin;eu-west;B;b\n",
		"names in capitals":       strings.Replace(plain, "company,name", "Company,NAME", 1),
		"empty lines":             strings.ReplaceAll(plain, "\n", "\n\n,,,\n"),
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{}
			result := mustImport(t, m, file)
			want := []crdb.Company{{ID: "acme", Name: "Acme & Söhne", HomeRegion: "us-east", TimeZone: "UTC"}, {ID: "b", Name: "B", HomeRegion: "eu-west", TimeZone: "Europe/Berlin"}}
			if !slices.Equal(m.kept, want) || result.Lines != 2 || result.Created != 2 {
				t.Errorf("%s: kept %+v, refused %v; want %+v", &result, m.kept, result.Refused, want)
			}
		})
	}
}

func TestUnreadableLinesAreRefused(t *testing.T) {
	file := "company,name,home_region,time_zone\r\nacme,Acme,us-east,UTC\r\n" +
		"\uFEFFb,B,us-east,UTC\r\n" + // only the start of the file may have a mark
		"c,C\xff,us-east,UTC\r\n" + "d,D\x00,us-east,UTC\r\n" + "e,\uFFFD,us-east,UTC\r\n" +
		"f," + strings.Repeat("x", 2*maxLine) + ",us-east,UTC\r\n" + "g,G,us-east,UTC"
	m := &memory{}
	result := mustImport(t, m, file)
	if fmt.Sprint(m.ids()) != "[acme g]" || fmt.Sprint(refusedLines(result)) != "[3 4 5 6 7]" || !errors.Is(result.Refused[4], errLongLine) {
		t.Errorf("kept %v, refused %.300s", m.ids(), fmt.Sprint(result.Refused))
	}
}

func TestNamesThatDifferInCaseAreAWarning(t *testing.T) {
	m := &memory{kept: []crdb.Company{{ID: "old", Name: "Straße", HomeRegion: "us-east", TimeZone: "UTC"}}}
	result := mustImport(t, m, "company,name,home_region,time_zone\n"+
		"acme,Acme,us-east,UTC\n"+
		"ACME,Other,us-east,UTC\n"+ // an id
		"two,ACME,us-east,UTC\n"+ // a name
		"three,STRASSE,us-east,UTC\n"+ // a name of the database
		"Old,New,us-east,UTC\n"+ // an id of the database
		"four,Acme,us-east,UTC\n"+ // the very same name
		"old,Straße,us-east,UTC\n") // the company itself
	var got []string
	for _, w := range result.Warnings {
		got = append(got, w.String())
	}
	want := []string{
		"line 3: warning: the id ACME differs only in case from company acme on line 2",
		`line 4: warning: the name "ACME" differs only in case from "Acme" of company acme on line 2`,
		`line 5: warning: the name "STRASSE" differs only in case from "Straße" of company old in the database`,
		"line 6: warning: the id Old differs only in case from company old in the database",
	}
	if !slices.Equal(got, want) || result.Created != 6 || result.Unchanged != 1 {
		t.Errorf("%s: %q, want %q", &result, got, want)
	}
}

func TestAFileWithoutItsColumnsIsRefused(t *testing.T) {
	for header, want := range map[string]string{
		"":                              "line 1: the file is empty",
		"\n":                            "line 1: the column company is missing",
		"company,name,home_region":      "line 1: the column time_zone is missing",
		"sep=;\ncompany;name;time_zone": "line 2: the column home_region is missing",
		"sep=;":                         "line 2: the columns",
		"company,name,home_region,time_zone,colour":    `line 1: "colour" is not a column`,
		"company,name,home_region,time_zone,name":      "line 1: a column is there twice",
		"company,,name,home_region,time_zone":          `line 1: "" is not a column`,
		"c\x00o\x00m\x00p\x00a\x00n\x00y\x00":          "line 1: the line contains a control character; save the file as CSV UTF-8",
		"company,name,home_region,\"time_zone":         "line 1: the quote is not closed",
		"company,name,home_region,time_zone\xff":       "line 1: the line is not valid UTF-8",
		"company;name;home_region;time_zone,x":         `line 1: "time_zone,x" is not a column`,
		"sep=,\ncompany;name;home_region;time_zone\nx": "line 2: ",
	} {
		m := &memory{}
		_, err := Import(t.Context(), strings.NewReader(header), Deps{Store: m, Regions: regions})
		if err == nil || !strings.Contains(err.Error(), want) || m.calls > 0 {
			t.Errorf("header %q: %v, want %q", header, err, want)
		}
	}
}

func TestManyLinesGoInBatchesAndAFailureSaysWhere(t *testing.T) {
	var file strings.Builder
	file.WriteString("company,name,home_region,time_zone\n")
	for i := range 2*batchSize + 5 {
		fmt.Fprintf(&file, "c%d,x,us-east,UTC\n", i)
	}
	m := &memory{}
	if result := mustImport(t, m, file.String()); result.Created != 2*batchSize+5 || m.calls != 3 {
		t.Errorf("%s in %d batches", &result, m.calls)
	}
	m.fail = errors.New("away")
	_, err := Import(t.Context(), strings.NewReader(file.String()), Deps{Store: m, Regions: regions})
	if !errors.Is(err, m.fail) || !strings.Contains(err.Error(), "lines 2 to 201") {
		t.Errorf("a database that is away: %v", err)
	}
}

// brokenFile fails after its text.
type brokenFile struct{ text io.Reader }

var errBroken = errors.New("the disk is gone")

func (b brokenFile) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if errors.Is(err, io.EOF) {
		err = errBroken
	}
	return n, err
}

// TestAFileThatBreaksOff imports the whole lines that were read, and says where the reading ended.
func TestAFileThatBreaksOff(t *testing.T) {
	m := &memory{}
	file := brokenFile{strings.NewReader("company,name,home_region,time_zone\na,A,us-east,UTC\nb,B,us-e")}
	result, err := Import(t.Context(), file, Deps{Store: m, Regions: regions})
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "after line 2") || result.Created != 1 || result.Lines != 1 {
		t.Errorf("%s, %v", &result, err)
	}
}

// TestFieldsAreThoseOfRFC4180 compares with what encoding/csv writes.
func TestFieldsAreThoseOfRFC4180(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		separator := rapid.SampledFrom([]byte(separators)).Draw(t, "separator")
		field := rapid.StringOf(rapid.SampledFrom([]rune(`ab ",;|ä` + "'"))).Filter(func(s string) bool { return strings.TrimSpace(s) == s })
		want := rapid.SliceOfN(field, 1, 6).Draw(t, "fields")
		var b strings.Builder
		w := csv.NewWriter(&b)
		w.Comma = rune(separator)
		if err := w.Write(want); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		h := header{separator: separator}
		got, err := h.split(line{text: strings.TrimSuffix(b.String(), "\n")})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q was split into %q, %v; want %q", b.String(), got, err, want)
		}
	})
}

// FuzzImport holds the accounting for any bytes: no line is counted twice, and no line with content is lost.
func FuzzImport(f *testing.F) {
	const columns = "company,name,home_region,time_zone\n"
	f.Add([]byte(columns + "a,b,us-east,UTC\n"))
	f.Add([]byte(columns + "\"\n\na,b,us-east,UTC\r\nA,\"b\"\"\",us-east,UTC,\r"))
	f.Add([]byte("\uFEFFsep=;\r\ncompany;name;home_region;time_zone\na;b\x00;us-east;UTC\n"))
	f.Add([]byte("\xff\xfec\x00o\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		m := &memory{}
		result, err := Import(context.Background(), strings.NewReader(string(file)), Deps{Store: m, Regions: regions})
		if err != nil {
			return // the header is wrong
		}
		if result.Created != len(m.kept) || result.Lines != result.Created+result.Unchanged+len(result.Refused) {
			t.Errorf("%s; the store has %d companies", &result, len(m.kept))
		}
		refused := refusedLines(result)
		if !slices.IsSorted(refused) || len(slices.Compact(slices.Clone(refused))) != len(refused) || len(refused) > 0 && refused[0] < 2 {
			t.Errorf("refused lines %v", refused)
		}
		for _, c := range m.kept {
			if err := c.Validate(regions); err != nil {
				t.Errorf("kept %+v: %v", c, err)
			}
		}
		if strings.HasPrefix(string(file), "\xff\xfe") || strings.HasPrefix(string(file), "\xfe\xff") {
			return // the lines below would have to be decoded
		}
		lines := strings.FieldsFunc(string(file), func(r rune) bool { return r == '\n' || r == '\r' })
		content := 0
		for _, l := range lines {
			if strings.ContainsFunc(l, func(r rune) bool { return !unicode.IsSpace(r) && !strings.ContainsRune(separators+`"`+"\uFEFF", r) }) {
				content++
			}
		}
		headers := 1
		if _, ok := namedSeparator(strings.TrimPrefix(lines[0], "\uFEFF")); ok {
			headers = 2
		}
		if result.Lines < content-headers || result.Lines > len(lines)-headers {
			t.Errorf("%s; the file has %d lines, %d with content, %d of them above the data", &result, len(lines), content, headers)
		}
	})
}

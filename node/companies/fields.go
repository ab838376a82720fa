package companies

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/punchclock/punchclock/node/crdb"
)

// separators are the characters that may separate fields.
const separators = ",;\t|"

// header is the layout of a file.
type header struct {
	separator byte
	order     []int // position of each of Columns
	width     int   // columns that have a name
}

// readHeader reads the header, and the line "sep=;" before it that some spreadsheets write and need.
func readHeader(lines *lineReader) (header, error) {
	text, err := lines.next()
	if errors.Is(err, io.EOF) {
		return header{}, fmt.Errorf("line 1: the file is empty; its first line must name the columns %s", strings.Join(Columns, ", "))
	}
	candidates := separators
	if named, ok := namedSeparator(text.text); ok && err == nil {
		candidates = named
		if text, err = lines.next(); errors.Is(err, io.EOF) {
			return header{}, fmt.Errorf("line 2: the columns %s are missing", strings.Join(Columns, ", "))
		}
	}
	if err != nil {
		return header{}, fmt.Errorf("read the file: %w", err)
	}
	// The names of the columns contain no separator, so the most frequent one is it.
	separator := slices.MaxFunc([]byte(candidates), func(a, b byte) int {
		return cmp.Compare(strings.Count(text.text, string(a)), strings.Count(text.text, string(b)))
	})
	h, err := parseHeader(text, separator)
	if err != nil {
		err = fmt.Errorf("line %d: %w", lines.number, err)
	}
	return h, err
}

// namedSeparator returns the separator of a line such as "sep=;".
func namedSeparator(text string) (string, bool) {
	name, ok := strings.CutPrefix(strings.ToLower(strings.Trim(text, `" `)), "sep=")
	if !ok || name == "" || strings.IndexByte(separators, name[0]) < 0 {
		return "", false
	}
	return name[:1], true
}

func parseHeader(text line, separator byte) (header, error) {
	h := header{separator: separator, order: make([]int, len(Columns))}
	fields, err := h.split(text)
	if err != nil {
		return h, err
	}
	for len(fields) > 0 && fields[len(fields)-1] == "" { // a spreadsheet's trailing empty columns
		fields = fields[:len(fields)-1]
	}
	h.width = len(fields)
	for i := range fields {
		fields[i] = strings.ToLower(fields[i])
		if !slices.Contains(Columns, fields[i]) {
			return h, fmt.Errorf("%q is not a column; the columns are %s", fields[i], strings.Join(Columns, ", "))
		}
	}
	for i, column := range Columns {
		h.order[i] = slices.Index(fields, column)
		if h.order[i] < 0 {
			return h, fmt.Errorf("the column %s is missing; the columns are %s", column, strings.Join(Columns, ", "))
		}
	}
	if h.width > len(Columns) {
		return h, fmt.Errorf("a column is there twice; the columns are %s", strings.Join(Columns, ", "))
	}
	return h, nil
}

// company reads the fields of a line by the header.
func (h *header) company(fields []string) (crdb.Company, error) {
	if len(fields) < h.width {
		return crdb.Company{}, fmt.Errorf("the line has %d fields, the header has %d", len(fields), h.width)
	}
	if slices.ContainsFunc(fields[h.width:], func(s string) bool { return s != "" }) {
		return crdb.Company{}, fmt.Errorf("the line has %d fields, the header has %d", len(fields), h.width)
	}
	return crdb.Company{ID: fields[h.order[0]], Name: fields[h.order[1]], HomeRegion: fields[h.order[2]], TimeZone: fields[h.order[3]]}, nil
}

// split returns the fields of a line, without the spaces around them. Quotes are those of RFC 4180.
func (h *header) split(text line) (fields []string, err error) {
	if text.err != nil {
		return nil, text.err
	}
	if !utf8.ValidString(text.text) || strings.ContainsRune(text.text, utf8.RuneError) {
		return nil, errors.New("the line is not valid UTF-8; save the file as CSV UTF-8")
	}
	rest := text.text
	for {
		var field string
		if field, rest, err = h.nextField(rest); err != nil {
			return nil, err
		}
		if strings.ContainsFunc(field, unicode.IsControl) {
			return nil, errors.New("the line contains a control character; save the file as CSV UTF-8")
		}
		fields = append(fields, field)
		if rest == "" {
			return fields, nil
		}
		rest = rest[1:] // the separator
	}
}

// nextField returns the first field of text, and the rest from the separator on.
func (h *header) nextField(text string) (field, rest string, err error) {
	end := func(s string) int {
		if i := strings.IndexByte(s, h.separator); i >= 0 {
			return i
		}
		return len(s)
	}
	// A tab that separates fields is no space.
	blank := func(r rune) bool { return unicode.IsSpace(r) && r != rune(h.separator) }
	text = strings.TrimLeftFunc(text, blank)
	if !strings.HasPrefix(text, `"`) {
		n := end(text)
		field = strings.TrimSpace(text[:n])
		if strings.Contains(field, `"`) {
			return "", "", errors.New(`a quote in a field without quotes; write "" inside of quotes`)
		}
		return field, text[n:], nil
	}
	var b strings.Builder
	for text = text[1:]; ; text = text[1:] {
		i := strings.IndexByte(text, '"')
		if i < 0 {
			return "", "", errors.New("the quote is not closed on this line; a field cannot continue on the next line")
		}
		b.WriteString(text[:i])
		text = text[i+1:]
		if !strings.HasPrefix(text, `"`) {
			break
		}
		b.WriteByte('"')
	}
	n := end(text)
	if strings.TrimFunc(text[:n], blank) != "" {
		return "", "", errors.New("there is text after the closing quote")
	}
	return strings.TrimSpace(b.String()), text[n:], nil
}

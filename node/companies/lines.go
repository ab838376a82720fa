package companies

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// maxLine bounds a line in bytes, and so the memory of an import. The longest valid line is far shorter.
const maxLine = 64 << 10

var errLongLine = errors.New("the line is longer than 64 KiB")

// line is the text of one line without its end, or the reason for which it cannot be read.
type line struct {
	text string
	err  error
}

// lineReader splits a file into lines. A line ends with LF, CR LF or CR. A quoted field cannot contain a line end: an
// unclosed quote would otherwise swallow the rest of the file.
type lineReader struct {
	number int // of the last line, from 1
	in     *bufio.Reader
	read   *countingReader
	buf    []byte
}

// newLineReader decodes UTF-8, with or without a byte order mark, and UTF-16 with a byte order mark. Spreadsheets write
// all of them. Bytes that are not UTF-8 stay as they are, so that their line can be refused.
func newLineReader(file io.Reader) *lineReader {
	counting := &countingReader{from: file}
	raw := bufio.NewReader(counting)
	start, _ := raw.Peek(3) // an error comes back with the first line
	var in io.Reader = raw
	switch {
	case bytes.HasPrefix(start, []byte("\xEF\xBB\xBF")):
		_, _ = raw.Discard(3) // they are in the buffer
	case bytes.HasPrefix(start, []byte("\xFF\xFE")):
		in = transform.NewReader(raw, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder())
	case bytes.HasPrefix(start, []byte("\xFE\xFF")):
		in = transform.NewReader(raw, unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewDecoder())
	}
	return &lineReader{in: bufio.NewReader(in), read: counting}
}

// bytes returns how much of the file was read.
func (r *lineReader) bytes() int64 { return r.read.n }

// next returns the next line. Its error is that of the file: io.EOF at the end.
func (r *lineReader) next() (line, error) {
	r.buf = r.buf[:0]
	var long error
	for started := false; ; started = true {
		b, err := r.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && started:
			r.number++
			return line{string(r.buf), long}, nil
		case err != nil:
			return line{}, err
		case b == '\r':
			if next, _ := r.in.Peek(1); len(next) == 1 && next[0] == '\n' { // an error comes back with the next line
				_, _ = r.in.Discard(1) // it is in the buffer
			}
			r.number++
			return line{string(r.buf), long}, nil
		case b == '\n':
			r.number++
			return line{string(r.buf), long}, nil
		case len(r.buf) == maxLine:
			long = errLongLine
		default:
			r.buf = append(r.buf, b)
		}
	}
}

type countingReader struct {
	from io.Reader
	n    int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n += int64(n)
	return n, err
}

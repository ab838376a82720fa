package httpapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/punch"
)

// trustedLength bounds the memory in bytes that Content-Length alone reserves. Otherwise thousands of callers could
// announce the largest body and send nothing.
const trustedLength = 16 << 10

// readBody reads the request's body into the call's buffer.
func (c *call) readBody(limit int64) error {
	if err := checkMedia(c.r.Header); err != nil {
		return err
	}
	if c.r.ContentLength > limit {
		return tooLarge(limit)
	}
	if c.r.ContentLength > 0 {
		// ReadFrom wants MinRead bytes beside the body.
		c.buf.Grow(int(min(c.r.ContentLength, trustedLength)) + bytes.MinRead)
	}
	_, err := c.buf.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, limit))
	var exceeded *http.MaxBytesError
	switch {
	case errors.As(err, &exceeded):
		return tooLarge(limit)
	case err != nil:
		return punch.Retryable(punch.Unavailable, time.Second, "the body did not arrive whole; send it again with the same ids", err)
	default:
		return nil
	}
}

func tooLarge(limit int64) error {
	return punch.Errorf(punch.TooLarge, "the body must be at most %d bytes", limit)
}

func checkMedia(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return punch.Errorf(punch.UnsupportedMedia, "the body must not be compressed")
	}
	contentType := h.Get("Content-Type")
	if contentType == "application/json" { // as nearly every caller sends it
		return nil
	}
	if mediaType, _, err := mime.ParseMediaType(contentType); err != nil || mediaType != "application/json" {
		return punch.Errorf(punch.UnsupportedMedia, "the body's Content-Type must be application/json")
	}
	return nil
}

// wirePunch is a punch as a caller sends it. The optional members are pointers, because an empty text differs from an
// absent one. A null counts as absent: many JSON libraries write it for a field that is not set.
type wirePunch struct {
	ID       string  `json:"id"`
	Employee string  `json:"employee"`
	Kind     string  `json:"kind"`
	At       *string `json:"at"`
	Source   *string `json:"source"`
	Note     *string `json:"note"`
}

var strict = json.RejectUnknownMembers(true)

// decodePunch reads and validates one punch. Its errors are Invalid and name the field.
func decodePunch(raw []byte, company string) (punch.Request, error) {
	var w wirePunch
	if jsontext.Value(raw).Kind() == jsontext.KindNull { // Unmarshal would leave w unchanged
		return punch.Request{}, punch.Errorf(punch.Invalid, "the punch must be a JSON object")
	}
	if err := json.Unmarshal(raw, &w, strict); err != nil {
		return punch.Request{}, decodeError(err)
	}
	request, err := w.toRequest(company)
	if err != nil {
		return punch.Request{}, err
	}
	return request, request.Validate()
}

func (w *wirePunch) toRequest(company string) (punch.Request, error) {
	c := punch.Request{Company: company, Employee: w.Employee, Kind: punch.Kind(w.Kind)}
	var err error
	if c.ID, err = punch.ParseID(w.ID); err != nil {
		return punch.Request{}, punch.InvalidField("id", "%s", punch.ErrNotUUIDv7)
	}
	if w.At != nil {
		if c.At, err = parseInstant(*w.At); err != nil {
			return punch.Request{}, punch.InvalidField("at", "must be an RFC 3339 time such as 2026-03-01T08:59:30.125+01:00")
		}
	}
	if w.Source != nil {
		if *w.Source == "" { // a device that lost its name must notice
			return punch.Request{}, punch.InvalidField("source", "must not be empty; leave it out instead")
		}
		c.Source = *w.Source
	}
	if w.Note != nil { // an empty note is the same as none
		c.Note = *w.Note
	}
	return c, nil
}

var errInstant = errors.New("not an RFC 3339 time")

// parseInstant reads an RFC 3339 time and truncates it to microseconds. It refuses three deviations that time.Parse
// accepts: hours of one digit, a comma before the fraction, and offsets that no zone has (go.dev/issue/54580).
func parseInstant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || s[len("2006-01-02T1")] == ':' || s[len("2006-01-02T15:04:05")] == ',' {
		return time.Time{}, errInstant
	}
	if zone := s[len(s)-len("07:00"):]; s[len(s)-1] != 'Z' && (zone[:2] > "23" || zone[3:] > "59") {
		return time.Time{}, errInstant
	}
	return punch.Microseconds(t), nil
}

// decodeError replaces the messages of the JSON package, which change between releases and quote the input.
func decodeError(err error) *punch.Error {
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		field := fieldOf(syntactic.JSONPointer)
		switch {
		case errors.Is(syntactic, jsontext.ErrDuplicateName):
			return punch.InvalidField(field, "must appear only once")
		case errors.Is(syntactic.Err, io.ErrUnexpectedEOF):
			return endsEarly(field)
		}
		return punch.InvalidField(field, "is not valid JSON in UTF-8, at byte %d", syntactic.ByteOffset)
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		field := fieldOf(semantic.JSONPointer)
		switch {
		case errors.Is(semantic.Err, json.ErrUnknownName):
			return punch.InvalidField(field, "is not a field of a punch")
		case field == "":
			return punch.Errorf(punch.Invalid, "the punch must be a JSON object")
		default:
			return punch.InvalidField(field, "must be a string")
		}
	}
	if errors.Is(err, io.EOF) {
		return endsEarly("")
	}
	return punch.Errorf(punch.Invalid, "the body is not valid JSON")
}

func endsEarly(field string) *punch.Error {
	return punch.InvalidField(field, "the JSON is empty or ends too early")
}

// fieldOf returns the name of the member at p. The caller chose it, so it is cut to the length of a name.
func fieldOf(p jsontext.Pointer) string {
	name := p.LastToken()
	return strings.ToValidUTF8(name[:min(len(name), punch.MaxName)], "")
}

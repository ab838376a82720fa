package client

import (
	"errors"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

func FuzzEntry(f *testing.F) {
	id := punch.IDAt(time.UnixMilli(1688000000000))
	for _, k := range []Entry{
		{Request: Request{ID: id, Employee: "anna", Kind: punch.In}, KeptAt: recordedAt, revision: 1},
		{
			Request: Request{ID: id, Employee: "b", Kind: "x", At: recordedAt, Source: "g", Note: "\x00\u2028"}, revision: 7,
			Refusal: &Refusal{At: recordedAt, Code: punch.Conflict, Status: 409},
		},
		{
			Request: Request{ID: id, Employee: "c", Kind: punch.In}, Corrects: id, revision: 2,
			Refusal: &Refusal{Code: punch.ClockAhead}, Correction: &Correction{ID: id.String(), PunchedAt: recordedAt},
		},
	} {
		content, err := k.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, 3, "anna", "note")
		f.Add(content[:len(content)-1], 70, "", "\xff")
	}
	f.Add([]byte("punchclock-punch 1 00000000\n"), 0, "a", "b")
	f.Add([]byte{}, 0, "", "")
	f.Fuzz(func(t *testing.T, content []byte, flip int, employee, note string) {
		k, err := decodeEntry(content, id)
		if err != nil && !errors.Is(err, errCorrupt) {
			t.Fatalf("%q: %v", content, err)
		}
		if err == nil {
			if again, err := k.encode(); err == nil { // a year without four digits cannot be encoded
				if k2, err := decodeEntry(again, id); err != nil || !sameContent(k2.Request, k.Request) || k2.revision != k.revision {
					t.Fatalf("%+v became %+v, %v", k, k2, err)
				}
			}
		}
		mine := Entry{Request: Request{ID: id, Employee: employee, Kind: punch.In, Note: note}, KeptAt: recordedAt, revision: 1}
		content, err = mine.encode()
		if err != nil {
			return
		}
		if k, err := decodeEntry(content, id); err != nil || !sameContent(k.Request, mine.Request) {
			t.Fatalf("%+v became %+v, %v", mine, k, err)
		}
		content[max(flip, -flip-1)%len(content)] ^= 1 << (uint(flip) % 8)
		if k, err := decodeEntry(content, id); err == nil {
			t.Fatalf("a flipped bit made %+v into %+v", mine, k)
		}
	})
}

// sameContent reports whether two requests agree in every field, which is more than equals asks for.
func sameContent(a, b Request) bool {
	x, y := toWire(a), toWire(b)
	equal := x.At.Equal(y.At)
	x.At, y.At = time.Time{}, time.Time{}
	return equal && x == y
}

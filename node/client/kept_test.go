package client

import (
	"errors"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

func FuzzKept(f *testing.F) {
	id := punch.IDAt(time.UnixMilli(1688000000000))
	for _, k := range []Kept{
		{Request: Request{ID: id, Employee: "anna", Kind: punch.In}, KeptAt: recordedAt, revision: 1},
		{Request: Request{ID: id, Employee: "b", Kind: "x", At: recordedAt, Source: "g", Note: "\x00\u2028"}, revision: 7, Refusal: &Refusal{At: recordedAt, Code: punch.Conflict, Status: 409}},
	} {
		content, err := encodeKept(&k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, 3, "anna", "note")
		f.Add(content[:len(content)-1], 70, "", "\xff")
	}
	f.Add([]byte("punchclock-punch 1 00000000\n"), 0, "a", "b")
	f.Add([]byte{}, 0, "", "")
	f.Fuzz(func(t *testing.T, content []byte, flip int, employee, note string) {
		k, err := decodeKept(content, id)
		if err != nil && !errors.Is(err, errCorrupt) {
			t.Fatalf("%q: %v", content, err)
		}
		if err == nil {
			if again, err := encodeKept(&k); err == nil { // times of other years than four digits cannot be
				if k2, err := decodeKept(again, id); err != nil || !k2.same(k.Request) || k2.revision != k.revision {
					t.Fatalf("%+v became %+v, %v", k, k2, err)
				}
			}
		}
		mine := Kept{Request: Request{ID: id, Employee: employee, Kind: punch.In, Note: note}, KeptAt: recordedAt, revision: 1}
		content, err = encodeKept(&mine)
		if err != nil {
			return
		}
		if k, err := decodeKept(content, id); err != nil || !k.same(mine.Request) {
			t.Fatalf("%+v became %+v, %v", mine, k, err)
		}
		content[max(flip, -flip-1)%len(content)] ^= 1 << (uint(flip) % 8)
		if k, err := decodeKept(content, id); err == nil {
			t.Fatalf("a flipped bit made %+v into %+v", mine, k)
		}
	})
}

package punch

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/google/uuid"
)

// ID is a UUIDv7 (RFC 9562). The caller makes it once for a punch and keeps it over all retries.
type ID [16]byte

// ErrNotUUIDv7 is returned for text that is not a UUID of version 7.
var ErrNotUUIDv7 = errors.New("must be a UUID of version 7, such as `punchclock new-id` prints")

// NewID makes an id from the system clock.
func NewID() ID { return IDAt(time.Now()) }

// IDAt makes an id whose time is t. It suits devices that know the time of the punch better than the system clock.
//
// The other 74 bits are random, without a counter. A monotonic generator (RFC 9562, section 6.2) would go on from its
// latest id after the clock was set back. Such ids lie in the future: a node refuses them, or stores the wrong hour.
func IDAt(t time.Time) ID {
	var id ID
	_, _ = rand.Read(id[6:]) // never fails: crypto/rand ends the program instead
	ms := uint64(max(t.UnixMilli(), 0))
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6] = 0x70 | id[6]&0x0f // version 7
	id[8] = 0x80 | id[8]&0x3f // the variant of RFC 9562
	return id
}

// ParseID reads the canonical 36-character form, in either case.
func ParseID(s string) (ID, error) {
	if len(s) != 36 { // uuid.Parse accepts braces and URNs as well; the API does not
		return ID{}, ErrNotUUIDv7
	}
	u, err := uuid.Parse(s)
	if err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
		return ID{}, ErrNotUUIDv7
	}
	return ID(u), nil
}

// String returns the canonical lower-case form.
func (id ID) String() string { return uuid.UUID(id).String() }

// Time returns the time inside the id, in whole milliseconds, UTC.
func (id ID) Time() time.Time {
	var ms uint64
	for _, b := range id[:6] {
		ms = ms<<8 | uint64(b)
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// Day returns the UTC date inside the id. It is part of the stored key. It depends on nothing but the id, so a retry
// always finds the row of its first attempt.
func (id ID) Day() time.Time { return id.Time().Truncate(24 * time.Hour) }

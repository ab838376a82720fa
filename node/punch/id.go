package punch

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// ID is a UUIDv7 (RFC 9562): the caller makes it once for a punch and keeps it
// over all retries.
type ID [16]byte

// ErrNotUUIDv7 is returned for text that is not a UUID of version 7.
var ErrNotUUIDv7 = errors.New("must be a UUID of version 7, such as the one `punchclock new-id` prints")

// NewID makes an id from the system clock.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// IDAt makes an id whose time is t, for devices that know the punch's time
// better than the system clock and for tests. The rest is random.
func IDAt(t time.Time) ID {
	id := NewID()
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	return id
}

// ParseID reads the canonical 36-character form, in either case.
func ParseID(s string) (ID, error) {
	if len(s) != 36 { // uuid.Parse takes braces and URNs too; the API does not
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

// Day returns the UTC date inside the id. It is part of the stored key and
// depends on nothing else, so a retry always meets its first attempt.
func (id ID) Day() time.Time { return id.Time().Truncate(24 * time.Hour) }

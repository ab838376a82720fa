package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Error is the one error of this package's calls. Final divides what a device
// does: a final error is set aside and shown to a person, with anything else
// the punch is kept and sent again under the same id.
type Error struct {
	ID     punch.ID // the punch, zero for reads
	Status int      // HTTP status of the last answer, 0 when there was none
	Code   punch.Code
	// Final says that the punch will be refused under this id whatever the
	// device does. Only Punchclock itself can say so: an error page of
	// something on the way is no answer.
	Final   bool
	Field   string // the offending field, for punch.Invalid
	Detail  string // written for people
	TraceID string // for whoever runs the service
	// RetryAfter is how long to wait before the next call, 0 when not known.
	RetryAfter time.Duration
	Endpoint   string // the endpoint of the last attempt
	Attempts   int    // requests sent, 0 when none could be
	Err        error  // why there was no answer; nil when there was one
}

func (e *Error) Error() string {
	s := string(e.Code)
	if e.Field != "" {
		s += ": " + e.Field
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Final {
		return s
	}
	return fmt.Sprintf("%s (not recorded as far as known, after %d attempts; keep it)", s, e.Attempts)
}

func (e *Error) Unwrap() error { return e.Err }

// IsFinal reports whether err says that the punch is refused for good. Every
// other error leaves open whether the punch was recorded.
func IsFinal(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Final
}

// again reports whether another attempt may succeed without anything being
// changed at the device: neither its token nor its clock gets right by itself.
func (e *Error) again() bool {
	return !e.Final && e.Code != punch.Unauthenticated && e.Code != punch.ClockAhead
}

// noAnswer makes the error of an attempt that settled nothing. status is 0
// when there was no response at all.
func noAnswer(status int, err error) *Error {
	return &Error{Status: status, Code: punch.Unavailable, Err: err}
}

// unsendable makes the error of a punch that JSON cannot carry unchanged.
func unsendable(id punch.ID, err error) *Error {
	return &Error{ID: id, Code: punch.Invalid, Final: true, Detail: "it cannot be sent as it is", Err: err}
}

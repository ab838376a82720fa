package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Error is the only error type of a Client's calls. Final decides what a device does. It sets a punch with a final error
// aside and shows it to a person. After any other error it keeps the punch and sends it again under the same id.
type Error struct {
	ID     punch.ID // the punch, zero for reads
	Status int      // HTTP status of the last answer, 0 without an answer
	Code   punch.Code
	// Final says that the punch will never be recorded under this id, whatever the device does. Two sources can say so:
	// a problem document of Punchclock, and two nodes that call the punch more than MaxClockAhead ahead. An error page
	// of a proxy cannot.
	Final bool
	// Confirmed says of punch.ClockAhead that a second node agrees. Without it the clock of the one node may be wrong,
	// and the device must not change its own.
	Confirmed bool
	Field     string // the invalid field, for punch.Invalid
	Detail    string // written for people
	TraceID   string // for the operator of the service
	// RetryAfter is how long to wait before the next call, 0 if unknown.
	RetryAfter time.Duration
	// UploadAfter is the time to wait before stored punches are uploaded, 0 if the answer does not say.
	UploadAfter time.Duration
	Endpoint    string // the endpoint of the last attempt
	Node        string // the node of the last answer; empty if the answer did not name it
	Attempts    int    // number of requests, 0 if none could be sent
	Err         error  // why there was no answer; nil if there was one

	slot bool // the service has a time for this batch, before which no attempt may follow
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
	switch {
	case e.Code == punch.ClockAhead && e.Confirmed:
		s += " (two nodes say so)"
	case e.Code == punch.ClockAhead && !e.Final: // a stored refusal does not say who confirmed it
		s += " (only one node says so, its own clock may be wrong)"
	}
	if e.Final {
		return s
	}
	return fmt.Sprintf("%s (not known to be recorded after %d attempts; keep the punch)", s, e.Attempts)
}

func (e *Error) Unwrap() error { return e.Err }

// IsFinal reports whether err says that the punch is refused for good. Any other error leaves open whether the service
// recorded the punch.
func IsFinal(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Final
}

// retryable reports whether another attempt may soon succeed although the device changes nothing. A bad token stays bad. A
// clock that two nodes call wrong stays wrong. A company is suspended for minutes and at every node, so the person at the
// gate hears at once that the device keeps the punch. A degraded region serves no reads for minutes. A
// batch with an upload slot waits for the slot.
func (e *Error) retryable() bool {
	return !e.Final && !e.Confirmed && !e.slot && e.Code != punch.Unauthenticated && e.Code != punch.Suspended && e.Code != punch.Degraded
}

// noAnswer makes the error of an attempt that settled nothing. status is 0 without a response.
func noAnswer(status int, err error) *Error {
	return &Error{Status: status, Code: punch.Unavailable, Err: err}
}

// unsendable makes the error of a punch that JSON cannot carry unchanged.
func unsendable(id punch.ID, err error) *Error {
	return &Error{ID: id, Code: punch.Invalid, Final: true, Detail: "the punch cannot be sent unchanged", Err: err}
}

package punch

import (
	"errors"
	"fmt"
	"time"
)

// Code names a refusal. Codes are part of the public API and of the protocol between nodes. New codes are added;
// existing codes are never renamed.
type Code string

// The codes. Code.Final says whether a device must give up.
const (
	Invalid          Code = "invalid"         // a field is wrong; Field names it
	Unauthenticated  Code = "unauthenticated" // no token, or an invalid one
	Forbidden        Code = "forbidden"       // the token does not allow it
	UnknownCompany   Code = "unknown_company" // only the database may say so, never a cache
	NotFound         Code = "not_found"       // no such punch or page
	MethodNotAllowed Code = "method_not_allowed"
	Conflict         Code = "conflict"          // the identity is used for another punch
	TooLarge         Code = "too_large"         // the body exceeds its bound
	UnsupportedMedia Code = "unsupported_media" // the body is not JSON
	ClockAhead       Code = "clock_ahead"       // the device's clock is ahead; passes later
	RateLimited      Code = "rate_limited"
	Overloaded       Code = "overloaded"  // a queue is full; nothing was written
	Degraded         Code = "degraded"    // not served at this level of degradation; never a punch
	Suspended        Code = "suspended"   // an operator has suspended the company; the device keeps its punches
	Unavailable      Code = "unavailable" // not committed as far as known; a retry settles it
	NotHome          Code = "not_home"    // routed under an old home; only between nodes
)

// Final says that the same id will be refused again, whatever the device does. The device sets the punch aside and
// shows it to a person. After any other code it keeps the punch and retries.
func (c Code) Final() bool {
	switch c {
	case Invalid, Forbidden, UnknownCompany, NotFound, MethodNotAllowed, Conflict, TooLarge, UnsupportedMedia:
		return true
	default:
		return false
	}
}

// Error is the one error that crosses packages and the wire. Message is shown to the caller. Err is for logs and is
// never shown.
type Error struct {
	Code       Code
	Field      string // the offending field, for Invalid
	Message    string
	RetryAfter time.Duration // earliest sensible retry, 0 when unknown; negative: another node at once
	Err        error
}

func (e *Error) Error() string {
	s := string(e.Code)
	if e.Field != "" {
		s += ": " + e.Field
	}
	s += ": " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error with a message for the caller.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// InvalidField makes an Invalid error that names the field.
func InvalidField(field, format string, args ...any) *Error {
	return &Error{Code: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Retryable makes an error of the given retryable code, with the time after which a retry makes sense and the cause for
// the log.
func Retryable(code Code, after time.Duration, message string, cause error) *Error {
	return &Error{Code: code, Message: message, RetryAfter: after, Err: cause}
}

// AsError returns err as an *Error. Any other error becomes Unavailable, because an unknown failure must never be final.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Retryable(Unavailable, time.Second, "the punch could not be confirmed; send it again with the same id", err)
}

// CodeOf returns the code of err, Unavailable for an error without a code, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return AsError(err).Code
}

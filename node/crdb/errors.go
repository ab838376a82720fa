package crdb

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	"github.com/jackc/pgx/v5/pgconn"
)

// cause is why an attempt failed, in the terms that decide what to do next. It
// is the label under which retries are counted.
type cause string

const (
	causeNone        cause = ""
	causeConflict    cause = "conflict"    // 40001, 40P01: not committed, run again
	causeAmbiguous   cause = "ambiguous"   // 40003: may be committed, run again to see
	causeConnection  cause = "connection"  // lost or refused: may be committed, another host
	causeTimeout     cause = "timeout"     // no answer in time: may be committed, another host
	causeDraining    cause = "draining"    // 57P01: the server goes, another host
	causeUnavailable cause = "unavailable" // ranges or resources away: wait
	causeLicence     cause = "licence"     // CockroachDB throttles for want of a licence
	causeStale       cause = "stale"       // XX000: a cached plan saw the regions change
	causeData        cause = "data"        // values that no database would store: the caller's fault
	causeConstraint  cause = "constraint"  // a rule of this schema refuses a row: not known to be the caller's fault
	causeNoRegion    cause = "no_region"   // the region is unknown, or is being added or removed
	causeRefused     cause = "refused"     // anything else the server will not do
	causeUnknown     cause = "unknown"     // not an answer and not the network's: run again, it says nothing of the host
	causeUnresolved  cause = "unresolved"  // no error, but some rows are still unexplained
)

// isAnswer reports whether the database said what it thinks of the statement
// itself: running it again changes nothing.
func (c cause) isAnswer() bool {
	return c == causeData || c == causeConstraint || c == causeRefused || c == causeNoRegion
}

// classify reads the error's class from its SQLSTATE and type, never from its
// text. What is not known for certain counts as maybe committed.
func classify(err error) cause {
	if err == nil {
		return causeNone
	}
	if _, ok := errors.AsType[*crdb.AmbiguousCommitError](err); ok {
		return causeAmbiguous // whatever SQLSTATE is inside: the commit was under way
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyState(pg.Code)
	}
	broken, network := errors.AsType[net.Error](err)
	_, unconnected := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err), network && broken.Timeout():
		return causeTimeout
	case errors.Is(err, context.Canceled): // by the caller
		return causeUnknown
	case network, unconnected,
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, pgconn.ErrConnClosed):
		return causeConnection
	default:
		return causeUnknown
	}
}

func classifyState(code string) cause {
	switch code {
	case "40001", "40P01":
		return causeConflict
	case "40003":
		return causeAmbiguous
	case "57014": // statement_timeout, or a cancel that overtook the answer
		return causeTimeout
	case "57P01", "57P02", "57P03":
		return causeDraining
	case "58C00", "58C01":
		return causeUnavailable
	case "XXC02":
		return causeLicence
	case "XX000":
		return causeStale
	// The region's label is the only text that a statement casts, so the route is at fault and not a row. 22P02: no such
	// label. 22023: CockroachDB is adding or removing the region, and its label is not public.
	case "22P02", "22023":
		return causeNoRegion
	// The only codes that may make a refusal final: each names a value that cannot be stored at all. A code that is not
	// in this list is retried, because a device would set a good punch aside for ever.
	case "22001", // too long
		"22003", // a number out of range
		"22007", // not a date or time
		"22008", // a date or time out of range
		"22021", // not in the encoding
		"22P05": // a character that the encoding does not have
		return causeData
	}
	switch {
	case strings.HasPrefix(code, "08"):
		return causeConnection
	case strings.HasPrefix(code, "53"):
		return causeUnavailable
	case strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"):
		return causeConstraint
	default:
		return causeRefused
	}
}

// backoff returns how long to wait before attempt n, counted from 1. Conflicts
// pass as soon as the other statement ends; everything else gives the database
// time to hand over leases, without letting seconds go by after it has. Half
// of each wait is random, so that lanes do not come back in step.
func backoff(why cause, n int) time.Duration {
	ceiling := 500 * time.Millisecond
	if why == causeConflict {
		ceiling = 50 * time.Millisecond
	}
	wait := min(5*time.Millisecond<<min(n, 10), ceiling)
	return wait/2 + rand.N(wait/2)
}

// sleep waits for d and reports whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

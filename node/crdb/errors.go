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

// cause is the reason why an attempt failed, as far as it decides the next step. It is the metric label of retries.
type cause string

const (
	causeNone        cause = ""
	causeConflict    cause = "conflict"    // 40001, 40P01: not committed; run it again
	causeAmbiguous   cause = "ambiguous"   // 40003: may be committed; run it again to find out
	causeConnection  cause = "connection"  // lost or refused: may be committed; use another gateway
	causeTimeout     cause = "timeout"     // no answer in time: may be committed; use another gateway
	causeDraining    cause = "draining"    // 57P01: the server shuts down; use another gateway
	causeUnavailable cause = "unavailable" // ranges or resources are unavailable; wait
	causeLicence     cause = "licence"     // CockroachDB throttles because it has no licence
	causeStale       cause = "stale"       // XX000: a cached plan is older than a change of regions
	causeData        cause = "data"        // a value that no database can store: the caller's fault
	causeConstraint  cause = "constraint"  // a rule of this schema refuses a row: maybe not the caller's fault
	causeNoRegion    cause = "no_region"   // the region is unknown, or is being added or removed
	causeRefused     cause = "refused"     // any other refusal of the server
	causeUnknown     cause = "unknown"     // neither an answer nor a network error: run it again; the gateway is not blamed
	causeUnresolved  cause = "unresolved"  // no error, but the outcome of some rows is unknown
)

// isAnswer reports whether the database judged the statement itself. Running the statement again would change nothing.
func (c cause) isAnswer() bool {
	return c == causeData || c == causeConstraint || c == causeRefused || c == causeNoRegion
}

// classify reads the cause from the SQLSTATE and the type of an error, never from its text. An error of an unknown kind
// counts as maybe committed.
func classify(err error) cause {
	if err == nil {
		return causeNone
	}
	if _, ok := errors.AsType[*crdb.AmbiguousCommitError](err); ok {
		return causeAmbiguous // for any SQLSTATE inside: the commit had begun
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyState(pg.Code)
	}
	broken, network := errors.AsType[net.Error](err)
	_, unconnected := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err), network && broken.Timeout():
		return causeTimeout
	case errors.Is(err, context.Canceled): // the caller left
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
	case "57014": // statement_timeout, or a cancel request that overtook the answer
		return causeTimeout
	case "57P01", "57P02", "57P03":
		return causeDraining
	case "58C00", "58C01":
		return causeUnavailable
	case "XXC02":
		return causeLicence
	case "XX000":
		return causeStale
	// The region's label is the only text that a statement casts. So the route is wrong, and no row. 22P02: there is no
	// such label. 22023: CockroachDB is adding or removing the region, and the label is not public.
	case "22P02", "22023":
		return causeNoRegion
	// Only these codes may make a refusal final. Each names a value that cannot be stored at all. Every other code is
	// retried, because a final refusal makes a device give up a good punch.
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

// backoff returns the wait before attempt n, counted from 1. A conflict passes when the other statement ends. Every
// other failure needs some time, such as for a transfer of leases. Half of each wait is random, so that batchers do not
// retry in step.
func backoff(reason cause, n int) time.Duration {
	ceiling := 500 * time.Millisecond
	if reason == causeConflict {
		ceiling = 50 * time.Millisecond
	}
	wait := min(5*time.Millisecond<<min(n, 10), ceiling)
	return wait/2 + rand.N(wait/2)
}

// sleep waits for d. It returns false when ctx ended first.
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

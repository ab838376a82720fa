package crdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestClassify(t *testing.T) {
	state := func(code string) error { return fmt.Errorf("insert: %w", &pgconn.PgError{Code: code}) }
	for _, c := range []struct {
		err  error
		want cause
	}{
		{nil, causeNone},
		{state("40001"), causeConflict}, {state("40P01"), causeConflict},
		{state("40003"), causeAmbiguous},
		{state("57014"), causeTimeout}, {context.DeadlineExceeded, causeTimeout},
		{state("57P01"), causeDraining},
		{state("08006"), causeConnection}, {io.ErrUnexpectedEOF, causeConnection},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, causeConnection}, {pgconn.ErrConnClosed, causeConnection},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, causeTimeout},
		{errors.New("?"), causeUnknown}, {fmt.Errorf("read: %w", context.Canceled), causeUnknown},
		{state("58C00"), causeUnavailable}, {state("53300"), causeUnavailable},
		{state("XXC02"), causeLicence}, {state("XX000"), causeStale},
		{state("22021"), causeData}, {state("23514"), causeData},
		{state("22P02"), causeNoRegion}, {state("42P01"), causeRefused}, {state("28000"), causeRefused},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("classify(%v) is %q, want %q", c.err, got, c.want)
		}
	}
}

func TestBackoffIsBounded(t *testing.T) {
	for n := range 100 {
		for _, why := range []cause{causeConflict, causeTimeout} {
			if d := backoff(why, n); d <= 0 || d > 500*time.Millisecond || (why == causeConflict && d > 50*time.Millisecond) {
				t.Fatalf("attempt %d after %s waits %s", n, why, d)
			}
		}
	}
}

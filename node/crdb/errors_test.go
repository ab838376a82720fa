package crdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
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
		{state("22021"), causeData}, {state("22001"), causeData}, {state("22P05"), causeData},
		{state("23514"), causeConstraint}, {state("23502"), causeConstraint}, {state("22012"), causeConstraint},
		{state("22P02"), causeNoRegion}, {state("22023"), causeNoRegion},
		{newAmbiguousCommit(t, "23505"), causeAmbiguous}, {state("42P01"), causeRefused}, {state("28000"), causeRefused},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("classify(%v) is %q, want %q", c.err, got, c.want)
		}
	}
}

// newAmbiguousCommit returns the error of cockroach-go when RELEASE fails with an error other than a conflict.
func newAmbiguousCommit(t *testing.T, code string) error {
	t.Helper()
	err := crdb.ExecuteInTx(t.Context(), releaseFails(code), func() error { return nil })
	if _, ok := errors.AsType[*crdb.AmbiguousCommitError](err); !ok {
		t.Fatalf("cockroach-go returned %v", err)
	}
	return err
}

// releaseFails is a transaction whose RELEASE fails with this SQLSTATE.
type releaseFails string

func (r releaseFails) Exec(_ context.Context, sql string, _ ...any) error {
	if strings.HasPrefix(sql, "RELEASE") {
		return &pgconn.PgError{Code: string(r)}
	}
	return nil
}
func (releaseFails) Commit(context.Context) error   { return nil }
func (releaseFails) Rollback(context.Context) error { return nil }

// TestFewCodesAreFinal tries every code of the two classes about values. A code that is not in the list must not make a
// device give up its punch.
func TestFewCodesAreFinal(t *testing.T) {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	var final []string
	for _, class := range []string{"22", "23"} {
		for n := range len(digits) * len(digits) * len(digits) {
			code := class + string([]byte{digits[n/36/36], digits[n/36%36], digits[n%36]})
			if classifyState(code) == causeData {
				final = append(final, code)
			}
		}
	}
	want := []string{"22001", "22003", "22007", "22008", "22021", "22P05"}
	if slices.Sort(final); !slices.Equal(final, want) {
		t.Errorf("%v make a refusal final, want %v: codes of a value that cannot be stored", final, want)
	}
}

func TestBackoffIsBounded(t *testing.T) {
	for n := range 100 {
		for _, reason := range []cause{causeConflict, causeTimeout} {
			if d := backoff(reason, n); d <= 0 || d > 500*time.Millisecond || (reason == causeConflict && d > 50*time.Millisecond) {
				t.Fatalf("attempt %d after %s waits %s", n, reason, d)
			}
		}
	}
}

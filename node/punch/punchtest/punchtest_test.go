package punchtest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/punch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestThePlainestRecorderPasses records each punch by a write of its own.
func TestThePlainestRecorderPasses(t *testing.T) {
	TestRecording(t, func(_ *testing.T, write Write) RecordBatch {
		return Each(func(ctx context.Context, p punch.Punch) (r punch.Receipt, err error) {
			defer func() {
				if recover() != nil {
					err = punch.Retryable(punch.Unavailable, time.Second, "panic", nil)
				}
			}()
			out := write(ctx, []punch.Item{{Ctx: ctx, Punch: p}})[0]
			return out.Receipt, out.Err
		})
	})
}

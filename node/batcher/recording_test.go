package batcher

import (
	"testing"

	"github.com/punchclock/punchclock/node/punch/punchtest"
)

func TestRecording(t *testing.T) {
	for name, open := range map[string]func(*Batcher) punchtest.RecordBatch{
		"Record":      func(b *Batcher) punchtest.RecordBatch { return punchtest.Each(b.Record) },
		"RecordBatch": func(b *Batcher) punchtest.RecordBatch { return b.RecordBatch },
	} {
		t.Run(name, func(t *testing.T) {
			punchtest.TestRecording(t, func(t *testing.T, write punchtest.Write) punchtest.RecordBatch {
				b := mustBatcher(t, Config{MaxItems: 10_000, MaxBytes: 10 << 20}, writerFunc(write))
				t.Cleanup(func() { mustClose(t, b) })
				return open(b)
			})
		})
	}
}

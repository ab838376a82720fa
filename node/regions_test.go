package node

import (
	"context"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// TestOnlyAnUnknownRegionIsAskedFor holds that a check of a known region neither reads the list nor puts off the next
// reading. Otherwise a busy node would never see that a region was removed.
func TestOnlyAnUnknownRegionIsAskedFor(t *testing.T) {
	reads := 0
	k := &knownRegions{read: func(context.Context) ([]string, error) {
		reads++
		return []string{"eu-west", "us-east"}, nil
	}}
	k.list = append(k.list, "eu-west")
	if err := k.check(t.Context(), "eu-west"); err != nil || reads > 0 || !k.readAt.IsZero() || !k.asked.IsZero() {
		t.Errorf("a known region: %v, %d reads, read at %s, asked at %s", err, reads, k.readAt, k.asked)
	}
	if err := k.check(t.Context(), "us-east"); err != nil || reads != 1 || time.Since(k.readAt) > time.Minute {
		t.Errorf("a region that was added: %v, %d reads, read at %s", err, reads, k.readAt)
	}
	if err := k.check(t.Context(), "ap-south"); punch.CodeOf(err) != punch.NotHome || reads != 1 {
		t.Errorf("a region that does not exist, asked for again within %s: %v, %d reads", regionsAskAgain, err, reads)
	}
}

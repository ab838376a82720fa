package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/region"
)

// TestPollingGoesOnWhenTheDatabaseIsSilent reads switches from a database that
// does not answer at first.
func TestPollingGoesOnWhenTheDatabaseIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		reads, learnt, began := 0, time.Duration(0), time.Now()
		pollSwitch(ctx, func(ctx context.Context) ([]region.Evacuation, error) {
			if reads++; reads < 3 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []region.Evacuation{{Region: "eu-west", On: true, Version: 1}}, nil
		}, func(list []region.Evacuation) {
			if len(list) > 0 {
				learnt = time.Since(began)
				cancel()
			}
		})
		if most := 3*pollSwitches + 2*pollTimeout; learnt == 0 || learnt > most {
			t.Errorf("learnt after %s, want at most %s", learnt, most)
		}
	})
}

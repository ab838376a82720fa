package rehome

import (
	"context"
	"slices"
	"time"

	"github.com/punchclock/punchclock/region"
)

// pauseInterval is how often a mover that waits reads the switches. An operator who ends a level expects the move to go on
// at once, and a read each second costs the database nothing.
const pauseInterval = time.Second

// awaitService returns when no operator has degraded one of the regions to a level without background work. Carried rows
// compete with punches for the same ranges and disks. A pause between two batches is safe: each state of a move may last.
func (m *Mover) awaitService(ctx context.Context, names ...region.Name) error {
	for told := false; ; told = true {
		list, err := m.store.Switches(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(s region.Switch) bool {
			return s.Kind == region.Degradation && s.LevelAt(time.Now()) >= region.NoBackground && slices.Contains(names, s.Region)
		})
		if i < 0 {
			return nil
		}
		if !told {
			m.deps.Log.WarnContext(ctx, "the move waits, because an operator has degraded a region", "target", string(list[i].Region),
				"level", list[i].Level, "until", list[i].Until)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pauseInterval):
		}
	}
}

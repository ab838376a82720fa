package crdb

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// rowOf names the row of each kind in controls. A row holds the switches of all regions, so that a rule over all of them
// is decided under one lock.
var rowOf = map[region.SwitchKind]string{region.Evacuation: "evacuations", region.Degradation: "degradations"}

// storedSwitch is the stored form of a region's switch. An evacuation also has On: a release before degradation levels
// reads no Level, and wrote none.
type storedSwitch struct {
	On      bool      `json:"on"`
	Level   uint8     `json:"level,omitzero"`
	Version int64     `json:"version"`
	Until   time.Time `json:"until,omitzero"`
}

func (s storedSwitch) of(kind region.SwitchKind, name string) region.Switch {
	if s.On && s.Level == 0 {
		s.Level = 1
	}
	return region.Switch{Kind: kind, Region: region.Name(name), Level: s.Level, Version: s.Version, Until: s.Until}
}

// Switches returns the stored switches of all kinds.
func (db *DB) Switches(ctx context.Context) (list []region.Switch, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		list = nil                                                     // of an attempt that failed
		rows, _ := pool.Query(ctx, `SELECT name, value FROM controls`) // CollectRows returns the error
		stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Value string }])
		if err != nil {
			return err
		}
		for _, row := range stored {
			for kind, name := range rowOf {
				if name != row.Name {
					continue
				}
				byRegion, err := decodeSwitches(row.Value)
				if err != nil {
					return err
				}
				for name, s := range byRegion {
					list = append(list, s.of(kind, name))
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the switches: %w", err)
	}
	return list, nil
}

func decodeSwitches(value string) (map[string]storedSwitch, error) {
	byRegion := make(map[string]storedSwitch)
	if value == "" {
		return byRegion, nil
	}
	if err := json.Unmarshal([]byte(value), &byRegion); err != nil {
		return nil, fmt.Errorf("the stored switches are not valid JSON: %w", err)
	}
	return byRegion, nil
}

// SetSwitches stores switches of one kind and returns them as stored. Their common version is above all stored versions of
// the kind and not below the given ones. SetSwitches refuses to evacuate the last region in service with Conflict.
func (db *DB) SetSwitches(ctx context.Context, kind region.SwitchKind, list []region.Switch) ([]region.Switch, error) {
	stored := make([]region.Switch, len(list))
	err := db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		copy(stored, list)
		// The row must exist before it is locked, so that two operators take turns.
		if _, err := tx.Exec(ctx, `INSERT INTO controls (name, value, version) VALUES ($1, '', 0) ON CONFLICT (name) DO NOTHING`,
			rowOf[kind]); err != nil {
			return err
		}
		var value string
		var version int64
		row := tx.QueryRow(ctx, `SELECT value, version FROM controls WHERE name = $1 FOR UPDATE`, rowOf[kind])
		if err := row.Scan(&value, &version); err != nil {
			return err
		}
		byRegion, err := decodeSwitches(value)
		if err != nil {
			return err
		}
		version++
		for _, s := range stored {
			version = max(version, s.Version)
		}
		for i := range stored {
			s := &stored[i]
			s.Kind, s.Version = kind, version
			byRegion[string(s.Region)] = storedSwitch{On: s.Level > 0, Level: s.Level, Version: version, Until: s.Until}
		}
		if err := checkSwitches(ctx, tx, db.Engine, stored, byRegion); err != nil {
			return err
		}
		b, err := json.Marshal(byRegion)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE controls SET value = $2, version = $3, updated_at = now() WHERE name = $1`,
			rowOf[kind], string(b), version)
		return err
	})
	return stored, err
}

// checkSwitches refuses an unknown region, and an evacuation that would leave no region in service.
func checkSwitches(ctx context.Context, tx pgx.Tx, engine Engine, list []region.Switch, byRegion map[string]storedSwitch) error {
	labels, err := labels(ctx, tx, engine)
	if err != nil {
		return err
	}
	for _, s := range list {
		if !slices.Contains(labels, string(s.Region)) {
			return punch.InvalidField("region", "must be one of the database's regions %v, is %q", labels, s.Region)
		}
		if s.Kind == region.Evacuation && !slices.ContainsFunc(labels, func(label string) bool {
			return byRegion[label].of(s.Kind, label).LevelAt(time.Now()) == 0
		}) {
			return punch.Errorf(punch.Conflict, "%s is the last region in service; restore another region first", s.Region)
		}
	}
	return nil
}

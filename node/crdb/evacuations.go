package crdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// evacuations is the name of the row in controls that holds the evacuations of all regions.
const evacuations = "evacuations"

// storedEvacuation is the stored form of a region's evacuation.
type storedEvacuation struct {
	On      bool      `json:"on"`
	Version int64     `json:"version"`
	Until   time.Time `json:"until,omitzero"`
}

// Evacuations returns the stored evacuations.
func (db *DB) Evacuations(ctx context.Context) ([]region.Evacuation, error) {
	var value string
	err := db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		return pool.QueryRow(ctx, `SELECT value FROM controls WHERE name = $1`, evacuations).Scan(&value)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the evacuations: %w", err)
	}
	byRegion, err := decodeEvacuations(value)
	if err != nil {
		return nil, err
	}
	list := make([]region.Evacuation, 0, len(byRegion))
	for name, e := range byRegion {
		list = append(list, region.Evacuation{Region: region.Name(name), On: e.On, Version: e.Version, Until: e.Until})
	}
	return list, nil
}

func decodeEvacuations(value string) (map[string]storedEvacuation, error) {
	byRegion := make(map[string]storedEvacuation)
	if value == "" {
		return byRegion, nil
	}
	if err := json.Unmarshal([]byte(value), &byRegion); err != nil {
		return nil, fmt.Errorf("the stored evacuations are not valid JSON: %w", err)
	}
	return byRegion, nil
}

// SetEvacuation stores an evacuation and returns it as stored. Its version is above all stored versions and not below
// the given version. SetEvacuation refuses to evacuate the last region in service with Conflict.
func (db *DB) SetEvacuation(ctx context.Context, e region.Evacuation) (region.Evacuation, error) {
	err := db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// The row must exist before it is locked, so that two operators take turns.
		if _, err := tx.Exec(ctx, `INSERT INTO controls (name, value, version) VALUES ($1, '', 0) ON CONFLICT (name) DO NOTHING`,
			evacuations); err != nil {
			return err
		}
		var value string
		var version int64
		row := tx.QueryRow(ctx, `SELECT value, version FROM controls WHERE name = $1 FOR UPDATE`, evacuations)
		if err := row.Scan(&value, &version); err != nil {
			return err
		}
		byRegion, err := decodeEvacuations(value)
		if err != nil {
			return err
		}
		e.Version = max(e.Version, version+1)
		byRegion[string(e.Region)] = storedEvacuation{On: e.On, Version: e.Version, Until: e.Until}
		if err := checkRemaining(ctx, tx, db.Engine, e, byRegion); err != nil {
			return err
		}
		b, err := json.Marshal(byRegion)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE controls SET value = $2, version = $3, updated_at = now() WHERE name = $1`,
			evacuations, string(b), e.Version)
		return err
	})
	return e, err
}

// checkRemaining refuses an unknown region, and an evacuation that would leave no region in service.
func checkRemaining(ctx context.Context, tx pgx.Tx, engine Engine, e region.Evacuation, byRegion map[string]storedEvacuation) error {
	labels, err := labels(ctx, tx, engine)
	if err != nil {
		return err
	}
	known, serving := false, 0
	for _, label := range labels {
		known = known || label == string(e.Region)
		stored := byRegion[label]
		if !(region.Evacuation{On: stored.On, Until: stored.Until}).ActiveAt(time.Now()) {
			serving++
		}
	}
	switch {
	case !known:
		return punch.InvalidField("region", "must be one of the database's regions %v, is %q", labels, e.Region)
	case serving == 0:
		return punch.Errorf(punch.Conflict, "%s is the last region in service; restore another region first", e.Region)
	default:
		return nil
	}
}

-- A row stands in the partition of its company's home. What the home was when
-- the punch was recorded is kept by a move that carries the row elsewhere; a row
-- that was never carried has it in crdb_region.

-- +goose Up
ALTER TABLE punches ADD COLUMN IF NOT EXISTS home_region TEXT;

-- +goose Down
ALTER TABLE punches DROP COLUMN IF EXISTS home_region;

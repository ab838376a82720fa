-- A row is in the partition of its company's home. A move that carries the row keeps the home at recording here. For a
-- row that was never carried crdb_region is the home at recording.

-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE punches ADD COLUMN IF NOT EXISTS home_region TEXT;

-- +goose Down
ALTER TABLE punches DROP COLUMN IF EXISTS home_region;

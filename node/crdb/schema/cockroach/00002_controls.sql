-- The operator's switches. One row holds all switches of a kind, so that a rule
-- over them, such as that one region must stay, is decided on one row.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS controls (
    name       TEXT PRIMARY KEY,
    value      TEXT NOT NULL,
    version    INT8 NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
) LOCALITY GLOBAL;

-- +goose Down
DROP TABLE IF EXISTS controls;

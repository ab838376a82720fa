-- The operator's switches. One row holds all switches of a kind. So a rule over all of them, such as the last region in
-- service, is decided on that row.

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

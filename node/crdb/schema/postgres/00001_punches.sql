-- PostgreSQL stands in for CockroachDB on one machine. It has the same tables, partitioned by the same column.
-- migrate.go adds labels and partitions for each region after the migrations.

-- +goose Up
CREATE TYPE crdb_internal_region AS ENUM ();

CREATE TABLE companies (
    company_id  TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    home_region crdb_internal_region NOT NULL,
    epoch       INT8 NOT NULL DEFAULT 1,
    moving_from crdb_internal_region,
    version     INT8 NOT NULL DEFAULT 1,
    time_zone   TEXT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE homes (
    crdb_region crdb_internal_region NOT NULL,
    company_id  TEXT NOT NULL,
    epoch       INT8 NOT NULL,
    moving_from crdb_internal_region,
    PRIMARY KEY (crdb_region, company_id)
) PARTITION BY LIST (crdb_region);

CREATE TABLE punches (
    crdb_region  crdb_internal_region NOT NULL,
    company_id   TEXT NOT NULL,
    day          DATE NOT NULL,
    employee_id  TEXT NOT NULL,
    punch_id     UUID NOT NULL,
    kind         TEXT NOT NULL,
    device_at    TIMESTAMPTZ,
    punched_at   TIMESTAMPTZ NOT NULL,
    received_at  TIMESTAMPTZ NOT NULL,
    recorded_at  TIMESTAMPTZ NOT NULL,
    zone         TEXT NOT NULL,
    utc_offset   INT4 NOT NULL,
    entry_region TEXT NOT NULL,
    source       TEXT,
    note         TEXT,
    late         BOOL NOT NULL,
    review       BOOL NOT NULL,
    trace_id     TEXT,
    fingerprint  BYTEA NOT NULL,
    PRIMARY KEY (crdb_region, company_id, day, employee_id, punch_id),
    CONSTRAINT punches_kind CHECK (kind IN ('in', 'out', 'break_start', 'break_end', 'auto')),
    CONSTRAINT punches_note CHECK (octet_length(note) <= 500),
    CONSTRAINT punches_fingerprint CHECK (octet_length(fingerprint) = 16)
) PARTITION BY LIST (crdb_region);

-- +goose Down
DROP TABLE punches;
DROP TABLE homes;
DROP TABLE companies;
DROP TYPE crdb_internal_region;

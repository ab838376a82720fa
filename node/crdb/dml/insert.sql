-- Inserts one batch for one home region. The join is the fence. A row is inserted only if the company's home is in this
-- region and has the epoch of the punch's route.
-- FOR SHARE keeps the fence closed until the commit on PostgreSQL. There READ COMMITTED would let a stalled statement
-- pass after a move. CockroachDB is serializable and needs no lock (see insertSQL).
-- The order avoids deadlocks of overlapping batches on PostgreSQL.
-- A company whose rows are still being carried here is left out. The writer first looks for its row at the old home,
-- and then runs this statement without the last condition.
INSERT INTO punches (
    crdb_region, company_id, day, employee_id, punch_id,
    kind, device_at, punched_at, received_at, recorded_at, zone, utc_offset,
    entry_region, source, note, late, review, trace_id, fingerprint
)
SELECT
    h.crdb_region, u.company_id, u.day, u.employee_id, u.punch_id,
    u.kind, u.device_at, u.punched_at, u.received_at, statement_timestamp(), u.zone, u.utc_offset,
    u.entry_region, u.source, u.note, u.late, u.review, u.trace_id, u.fingerprint
FROM unnest(
    $2::text[], $3::date[], $4::text[], $5::uuid[], $6::int8[],
    $7::text[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::int4[],
    $13::text[], $14::text[], $15::text[], $16::bool[], $17::bool[], $18::text[], $19::bytea[]
) AS u (
    company_id, day, employee_id, punch_id, epoch,
    kind, device_at, punched_at, received_at, zone, utc_offset,
    entry_region, source, note, late, review, trace_id, fingerprint
)
JOIN homes AS h
    ON h.crdb_region = $1::text::crdb_internal_region AND h.company_id = u.company_id AND h.epoch = u.epoch
    AND h.moving_from IS NULL
ORDER BY u.company_id, u.day, u.employee_id, u.punch_id
FOR SHARE OF h
ON CONFLICT (crdb_region, company_id, day, employee_id, punch_id) DO NOTHING
RETURNING company_id, day, employee_id, punch_id, recorded_at

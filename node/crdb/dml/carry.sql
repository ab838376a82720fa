-- Copies rows of company $3 from $1, the old home, to $2, the new home. It takes the rows from the given key on. These
-- are the newest, because the caller begins at the end. Every column is copied. A row that is carried for the first
-- time also keeps its home at recording.
INSERT INTO punches (
    crdb_region, company_id, day, employee_id, punch_id,
    kind, device_at, punched_at, received_at, recorded_at, zone, utc_offset,
    entry_region, source, note, late, review, trace_id, fingerprint, home_region
)
SELECT
    $2::text::crdb_internal_region, company_id, day, employee_id, punch_id,
    kind, device_at, punched_at, received_at, recorded_at, zone, utc_offset,
    entry_region, source, note, late, review, trace_id, fingerprint, coalesce(home_region, crdb_region::text)
FROM punches
WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $3
    AND (day, employee_id, punch_id) >= ($4::date, $5::text, $6::uuid)
ON CONFLICT (crdb_region, company_id, day, employee_id, punch_id) DO NOTHING

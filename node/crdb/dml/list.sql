-- One employee's punches. The days are spelled out so that each is a lookup by
-- key; the punch's time lies within 24 hours of its id's day.
SELECT employee_id, punch_id, kind, punched_at, received_at, recorded_at, zone, utc_offset,
    entry_region, late, review, trace_id, fingerprint
FROM punches
WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2
    AND day = ANY ($3::date[]) AND employee_id = $4
    AND punched_at >= $5 AND punched_at < $6
    AND (punched_at, punch_id) > ($7, $8)
ORDER BY punched_at, punch_id
LIMIT $9

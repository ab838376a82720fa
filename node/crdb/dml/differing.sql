-- Finds rows in the range of carry.sql whose key has an unlike row at the new home. There must be none.
SELECT old.employee_id, old.punch_id
FROM punches AS old
LEFT JOIN punches AS p
    ON p.crdb_region = $2::text::crdb_internal_region AND p.company_id = old.company_id
    AND p.day = old.day AND p.employee_id = old.employee_id AND p.punch_id = old.punch_id
WHERE old.crdb_region = $1::text::crdb_internal_region AND old.company_id = $3
    AND (old.day, old.employee_id, old.punch_id) >= ($4::date, $5::text, $6::uuid)
    AND (
        p.kind, p.device_at, p.punched_at, p.received_at, p.recorded_at, p.zone, p.utc_offset,
        p.entry_region, p.source, p.note, p.late, p.review, p.trace_id, p.fingerprint,
        coalesce(p.home_region, p.crdb_region::text)
    ) IS DISTINCT FROM (
        old.kind, old.device_at, old.punched_at, old.received_at, old.recorded_at, old.zone, old.utc_offset,
        old.entry_region, old.source, old.note, old.late, old.review, old.trace_id, old.fingerprint,
        coalesce(old.home_region, old.crdb_region::text)
    )
LIMIT 10

SELECT employee_id, punch_id, kind, punched_at, received_at, recorded_at, zone, utc_offset,
    entry_region, late, review, trace_id, fingerprint
FROM punches
WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2
    AND day = $3 AND employee_id = $4 AND punch_id = $5

-- One punch, where the company's home is: $1. While rows are still being carried
-- there, $2 is where from, and $1 again otherwise. One statement, so that fence
-- and row are of one moment. Nothing comes back when the home is elsewhere.
SELECT h.moving_from::text, p.employee_id, p.punch_id,
    coalesce(p.home_region, p.crdb_region::text), p.kind, p.punched_at,
    p.received_at, p.recorded_at, p.zone, p.utc_offset,
    p.entry_region, p.late, p.review, p.trace_id
FROM homes AS h
LEFT JOIN punches AS p
    ON p.crdb_region IN ($1::text::crdb_internal_region, $2::text::crdb_internal_region)
    AND p.company_id = $3 AND p.day = $4 AND p.employee_id = $5 AND p.punch_id = $6
WHERE h.crdb_region = $1::text::crdb_internal_region AND h.company_id = $3

-- Finds one punch at $1, the company's home. $2 is the old home while rows are carried, and $1 otherwise. One statement
-- reads fence and row at one moment. The result is empty when the home is in another region.
SELECT h.moving_from::text, p.employee_id, p.punch_id,
    coalesce(p.home_region, p.crdb_region::text), p.kind, p.punched_at,
    p.received_at, p.recorded_at, p.zone, p.utc_offset,
    p.entry_region, p.late, p.review, p.trace_id
FROM homes AS h
LEFT JOIN punches AS p
    ON p.crdb_region IN ($1::text::crdb_internal_region, $2::text::crdb_internal_region)
    AND p.company_id = $3 AND p.day = $4 AND p.employee_id = $5 AND p.punch_id = $6
WHERE h.crdb_region = $1::text::crdb_internal_region AND h.company_id = $3

-- Lists one employee's punches. $1 and $2 are as in find.sql. Each listed day is a lookup by key. A punch's time is
-- within 24 hours of its id's day.
SELECT h.moving_from::text, p.employee_id, p.punch_id,
    coalesce(p.home_region, p.crdb_region::text), p.kind, p.punched_at,
    p.received_at, p.recorded_at, p.zone, p.utc_offset,
    p.entry_region, p.late, p.review, p.trace_id
FROM homes AS h
LEFT JOIN (
    SELECT *
    FROM punches
    WHERE crdb_region IN ($1::text::crdb_internal_region, $2::text::crdb_internal_region) AND company_id = $3
        AND day = ANY ($4::date[]) AND employee_id = $5
        AND punched_at >= $6 AND punched_at < $7
        AND (punched_at, punch_id) > ($8, $9)
    ORDER BY punched_at, punch_id
    LIMIT $10
) AS p ON true
WHERE h.crdb_region = $1::text::crdb_internal_region AND h.company_id = $3
ORDER BY p.punched_at, p.punch_id

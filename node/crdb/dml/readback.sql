-- Reads back rows that the insert did not return: the company's home in this region, and the row of the key. The row is
-- at this home, or at the old home while rows are carried. It is never in both.
SELECT u.ord, h.epoch, h.moving_from IS NOT NULL,
    coalesce(p.home_region, p.crdb_region::text, old.home_region, old.crdb_region::text),
    coalesce(p.kind, old.kind), coalesce(p.punched_at, old.punched_at),
    coalesce(p.received_at, old.received_at), coalesce(p.recorded_at, old.recorded_at),
    coalesce(p.zone, old.zone), coalesce(p.utc_offset, old.utc_offset),
    coalesce(p.entry_region, old.entry_region), coalesce(p.late, old.late), coalesce(p.review, old.review),
    coalesce(p.trace_id, old.trace_id)
FROM unnest($2::text[], $3::date[], $4::text[], $5::uuid[])
    WITH ORDINALITY AS u (company_id, day, employee_id, punch_id, ord)
LEFT JOIN homes AS h
    ON h.crdb_region = $1::text::crdb_internal_region AND h.company_id = u.company_id
LEFT JOIN punches AS p
    ON p.crdb_region = $1::text::crdb_internal_region AND p.company_id = u.company_id
    AND p.day = u.day AND p.employee_id = u.employee_id AND p.punch_id = u.punch_id
LEFT JOIN punches AS old
    ON old.crdb_region = h.moving_from AND old.company_id = u.company_id
    AND old.day = u.day AND old.employee_id = u.employee_id AND old.punch_id = u.punch_id

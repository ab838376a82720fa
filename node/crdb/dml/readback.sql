-- What the database holds for rows that the insert did not return: the
-- company's home in this region, and the row under the key.
SELECT u.ord, h.epoch,
    p.kind, p.punched_at, p.received_at, p.recorded_at, p.zone, p.utc_offset,
    p.entry_region, p.late, p.review, p.trace_id, p.fingerprint
FROM unnest($2::text[], $3::date[], $4::text[], $5::uuid[])
    WITH ORDINALITY AS u (company_id, day, employee_id, punch_id, ord)
LEFT JOIN homes AS h
    ON h.crdb_region = $1::text::crdb_internal_region AND h.company_id = u.company_id
LEFT JOIN punches AS p
    ON p.crdb_region = $1::text::crdb_internal_region AND p.company_id = u.company_id
    AND p.day = u.day AND p.employee_id = u.employee_id AND p.punch_id = u.punch_id

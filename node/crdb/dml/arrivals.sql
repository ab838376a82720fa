-- Counts the punches of one id day at one home, by entry region, zone and minute of arrival in the company's zone. Minutes
-- are of the wall clock, so that last week's half past eight is next week's, also after a change of summer time.
-- The limit bounds what is read.
SELECT p.entry_region, p.zone, date_trunc('minute', (p.received_at AT TIME ZONE 'UTC') + p.utc_offset * interval '1 second') AS minute, count(*)
FROM (
    SELECT p.entry_region, p.zone, p.received_at, p.utc_offset
    FROM homes AS h
JOIN punches AS p
    ON p.crdb_region = $1::text::crdb_internal_region AND p.company_id = h.company_id AND p.day = $2
    WHERE h.crdb_region = $1::text::crdb_internal_region
    LIMIT $3
) AS p /* follower reads */
GROUP BY p.entry_region, p.zone, minute

-- Finds the companies of a home that had at least $4 punches in one minute of an id day. The limit bounds what is read.
SELECT m.company_id, max(m.punches)
FROM (
    SELECT p.company_id, count(*) AS punches
    FROM (
        SELECT p.company_id, p.received_at
        FROM homes AS h
JOIN punches AS p
        ON p.crdb_region = $1::text::crdb_internal_region AND p.company_id = h.company_id AND p.day = $2
        WHERE h.crdb_region = $1::text::crdb_internal_region
        LIMIT $3
    ) AS p
    GROUP BY p.company_id, date_trunc('minute', p.received_at)
) AS m /* follower reads */
GROUP BY m.company_id
HAVING max(m.punches) >= $4
ORDER BY m.company_id

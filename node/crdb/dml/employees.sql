-- Divides the employees of a company who punched on a day into $4 parts of equal size, and returns the first of each.
SELECT min(e.employee_id)
FROM (
    SELECT d.employee_id, ntile($4) OVER (ORDER BY d.employee_id) AS part
    FROM (
        SELECT DISTINCT employee_id FROM punches
        WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2 AND day = $3
    ) AS d
) AS e /* follower reads */
GROUP BY e.part
ORDER BY 1

-- Each region's rows are written to the bucket of that region, by its own
-- servers; the first bucket also takes what belongs to no region. Incremental
-- every ten minutes, full every night. The label tells schedules of other
-- places apart, and those go.
CREATE SCHEDULE IF NOT EXISTS '${label}' FOR BACKUP DATABASE clock
  INTO (${places})
  WITH revision_history, detached
  RECURRING '*/10 * * * *' FULL BACKUP '@daily'
  WITH SCHEDULE OPTIONS first_run = 'now', on_execution_failure = 'retry', on_previous_running = 'wait', ignore_existing_backups;
DROP SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label LIKE 'punchclock backup %' AND label <> '${label}';

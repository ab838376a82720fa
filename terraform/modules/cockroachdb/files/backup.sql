-- Each region's servers write its rows to the bucket of that region. The first bucket also takes
-- everything that belongs to no region. Incremental backups run every ten minutes, full backups
-- every night. The label separates these schedules from schedules for other places, which are
-- removed.
CREATE SCHEDULE IF NOT EXISTS '${label}' FOR BACKUP DATABASE clock
  INTO (${places})
  WITH revision_history, detached
  RECURRING '*/10 * * * *' FULL BACKUP '@daily'
  WITH SCHEDULE OPTIONS first_run = 'now', on_execution_failure = 'retry', on_previous_running = 'wait', ignore_existing_backups;
DROP SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label LIKE 'punchclock backup %' AND label <> '${label}';

-- What the cluster is told whenever the setup runs; each line may run again.
CREATE DATABASE IF NOT EXISTS clock;
SET CLUSTER SETTING cluster.organization = '${organisation}';
-- Reports of use are what the free licence asks for; others switch it off.
SET CLUSTER SETTING diagnostics.reporting.enabled = ${telemetry};
-- Lost buffered writes after savepoint errors in 25.4 and early 26.1.
SET CLUSTER SETTING kv.transaction.write_buffering.enabled = false;

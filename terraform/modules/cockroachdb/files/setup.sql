-- Settings of the cluster, applied whenever the setup runs. Each line may run again.
CREATE DATABASE IF NOT EXISTS clock;
SET CLUSTER SETTING cluster.organization = '${organisation}';
-- The free licence requires reports of use. Other licences switch them off.
SET CLUSTER SETTING diagnostics.reporting.enabled = ${telemetry};
-- Lost buffered writes after savepoint errors in 25.4 and early 26.1.
SET CLUSTER SETTING kv.transaction.write_buffering.enabled = false;

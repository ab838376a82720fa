-- The system's own ranges do not follow the database's survival goal. Their replicas are pinned to
-- three regions, at least one in each, so that the loss of any region leaves a quorum. Without
-- this, four regions or more might not.
ALTER RANGE meta CONFIGURE ZONE USING num_replicas = 5, constraints = '${spread}';
ALTER RANGE liveness CONFIGURE ZONE USING num_replicas = 5, constraints = '${spread}';
ALTER RANGE system CONFIGURE ZONE USING num_replicas = 5, constraints = '${spread}';
ALTER DATABASE system CONFIGURE ZONE USING num_replicas = 5, constraints = '${spread}';
-- Measurements: worth surviving a region, not worth five copies.
ALTER RANGE timeseries CONFIGURE ZONE USING num_replicas = 3, constraints = '${spread}';

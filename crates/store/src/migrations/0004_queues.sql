-- How much waits and runs in each queue, without a look at what has ended.
CREATE INDEX jobs_open ON jobs (queue_id, state) WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'STOPPING');

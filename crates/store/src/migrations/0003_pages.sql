-- Seats are counted at each invitation (seats.rs).
CREATE INDEX principals_seats ON principals (id) WHERE kind = 'user' AND state IN ('active', 'pending');
-- The audit of one workspace, newest first.
CREATE INDEX audit_events_workspace ON audit_events (workspace_id, id);

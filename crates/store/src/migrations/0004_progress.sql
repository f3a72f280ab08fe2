-- How far it is, in thousandths, as its job says; NULL: it has said nothing.
ALTER TABLE experiments ADD COLUMN progress BIGINT;

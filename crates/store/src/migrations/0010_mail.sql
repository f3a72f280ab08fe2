-- Where invitations and links are sent, and what may be signed in with beside the name. The key is it in small letters.
ALTER TABLE principals ADD COLUMN email TEXT;
ALTER TABLE principals ADD COLUMN email_key TEXT;
CREATE UNIQUE INDEX principals_email ON principals (email_key) WHERE state <> 'removed';

-- The audit log. Triggers refuse to change a row.

-- name: insert
INSERT INTO audit_entry (at, actor, action, target, address, request_id, role, "before", "after")
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s);

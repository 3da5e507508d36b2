-- A database of the program with schema version 1, as that program made it.
PRAGMA page_size = 8192;
PRAGMA journal_mode = wal;
CREATE TABLE schema_versions (version INTEGER PRIMARY KEY, applied_at_us INTEGER NOT NULL) STRICT;
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    previous INTEGER,
    deleted INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX log_by_resource ON log (resource);
CREATE TABLE objects (
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (resource, namespace, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    namespace TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (kind, idempotency_key)
) STRICT;
CREATE INDEX facts_by_kind ON facts (kind);
CREATE INDEX facts_by_namespace ON facts (kind, namespace);
CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO marks (name, value) VALUES ('compacted', 0);
INSERT INTO schema_versions (version, applied_at_us) VALUES (1, 1);
INSERT INTO log (revision, resource, namespace, name, previous, deleted, at_us, body) VALUES
    (1, 'pods', 'default', 'a', NULL, 0, 1, CAST('{"metadata":{"name":"a","resourceVersion":"1"}}' AS BLOB)),
    (2, 'pods', 'default', 'a', 1, 0, 2, CAST('{"metadata":{"labels":{"app":"first"},"name":"a","resourceVersion":"2"}}' AS BLOB));
INSERT INTO objects (resource, namespace, name, revision) VALUES ('pods', 'default', 'a', 2);
INSERT INTO facts (kind, idempotency_key, namespace, at_us, body) VALUES ('usage', 'a', 'default', 1, CAST('{}' AS BLOB));

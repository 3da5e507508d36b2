-- Finds objects by the labels of their newest version. See labels.rs for what is cut and why.
CREATE TABLE labels (
    resource TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (resource, key, value, namespace, name)
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO labels (resource, key, value, namespace, name)
SELECT objects.resource, substr(label.key, 1, 96), substr(label.atom, 1, 64), objects.namespace, objects.name
FROM objects CROSS JOIN log ON log.revision = objects.revision
CROSS JOIN json_each(CAST(log.body AS TEXT), '$.metadata.labels') AS label
WHERE label.type = 'text' AND typeof(label.key) = 'text';

-- Most objects change without their labels, and many have none: these are passed by without being
-- parsed where the word is not in them (X'...' is "labels" with its quotes).
CREATE TRIGGER labels_of_new_object AFTER INSERT ON objects
WHEN (SELECT instr(body, X'226C6162656C7322') FROM log WHERE revision = NEW.revision)
BEGIN
    INSERT OR IGNORE INTO labels (resource, key, value, namespace, name)
    SELECT NEW.resource, substr(label.key, 1, 96), substr(label.atom, 1, 64), NEW.namespace, NEW.name
    FROM log CROSS JOIN json_each(CAST(log.body AS TEXT), '$.metadata.labels') AS label
    WHERE log.revision = NEW.revision AND label.type = 'text' AND typeof(label.key) = 'text';
END;

CREATE TRIGGER labels_of_changed_object AFTER UPDATE OF revision ON objects
WHEN (SELECT CASE WHEN instr(body, X'226C6162656C7322') THEN json_extract(CAST(body AS TEXT), '$.metadata.labels') END
      FROM log WHERE revision = OLD.revision)
    IS NOT (SELECT CASE WHEN instr(body, X'226C6162656C7322') THEN json_extract(CAST(body AS TEXT), '$.metadata.labels') END
            FROM log WHERE revision = NEW.revision)
BEGIN
    DELETE FROM labels WHERE (resource, key, value, namespace, name) IN (
        SELECT OLD.resource, substr(label.key, 1, 96), substr(label.atom, 1, 64), OLD.namespace, OLD.name
        FROM log CROSS JOIN json_each(CAST(log.body AS TEXT), '$.metadata.labels') AS label
        WHERE log.revision = OLD.revision AND label.type = 'text' AND typeof(label.key) = 'text');
    INSERT OR IGNORE INTO labels (resource, key, value, namespace, name)
    SELECT NEW.resource, substr(label.key, 1, 96), substr(label.atom, 1, 64), NEW.namespace, NEW.name
    FROM log CROSS JOIN json_each(CAST(log.body AS TEXT), '$.metadata.labels') AS label
    WHERE log.revision = NEW.revision AND label.type = 'text' AND typeof(label.key) = 'text';
END;

CREATE TRIGGER labels_of_gone_object AFTER DELETE ON objects
WHEN (SELECT instr(body, X'226C6162656C7322') FROM log WHERE revision = OLD.revision)
BEGIN
    DELETE FROM labels WHERE (resource, key, value, namespace, name) IN (
        SELECT OLD.resource, substr(label.key, 1, 96), substr(label.atom, 1, 64), OLD.namespace, OLD.name
        FROM log CROSS JOIN json_each(CAST(log.body AS TEXT), '$.metadata.labels') AS label
        WHERE log.revision = OLD.revision AND label.type = 'text' AND typeof(label.key) = 'text');
END;

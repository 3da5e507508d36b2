-- Finds objects by the labels of their newest version. See labels.rs for what is cut and why.
CREATE TABLE labels (
    resource text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (resource, key, value, namespace, name)
);

-- The labels of a version, or null. Many have none: these are passed by without being parsed where the
-- word is not in them.
CREATE FUNCTION labels_in(body bytea, document json) RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN position('"labels"'::bytea IN body) > 0
        THEN coalesce(document, convert_from(body, 'UTF8')::json) #> '{metadata,labels}' END
$$;

-- The same as rows, as the table keeps them.
CREATE FUNCTION label_rows(body bytea, document json) RETURNS TABLE (key text, value text) LANGUAGE sql IMMUTABLE ROWS 4 AS $$
    SELECT left(label.key, 96), left(label.value #>> '{}', 64)
    FROM (SELECT labels_in(body, document) AS labels OFFSET 0) AS version,
        json_each(CASE WHEN json_typeof(version.labels) = 'object' THEN version.labels END) AS label
    WHERE json_typeof(label.value) = 'string'
$$;

CREATE FUNCTION labels_of_new_objects() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO labels (resource, key, value, namespace, name)
    SELECT added.resource, label.key, label.value, added.namespace, added.name
    FROM added JOIN log ON log.revision = added.revision, label_rows(log.body, log.document) AS label
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- The two sets of rows are joined by their keys, of which nobody has made an index: that takes a hash,
-- whatever the session thinks of one.
CREATE FUNCTION labels_of_changed_objects() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin TO on AS $$
DECLARE
    old_revisions bigint[];
    new_revisions bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM replacements) THEN
        RETURN NULL;
    END IF;
    -- Most objects change without their labels.
    SELECT array_agg(before.revision), array_agg(after.revision) INTO old_revisions, new_revisions
    FROM replaced AS before JOIN replacements AS after USING (resource, namespace, name)
    JOIN log AS log_before ON log_before.revision = before.revision
    JOIN log AS log_after ON log_after.revision = after.revision
    WHERE labels_in(log_before.body, log_before.document)::text IS DISTINCT FROM labels_in(log_after.body, log_after.document)::text;
    IF old_revisions IS NULL THEN
        RETURN NULL;
    END IF;
    DELETE FROM labels USING (
        SELECT log.resource, label.key, label.value, log.namespace, log.name
        FROM unnest(old_revisions) AS revision JOIN log USING (revision), label_rows(log.body, log.document) AS label
    ) AS gone
    WHERE labels.resource = gone.resource AND labels.key = gone.key AND labels.value = gone.value
        AND labels.namespace = gone.namespace AND labels.name = gone.name;
    INSERT INTO labels (resource, key, value, namespace, name)
    SELECT log.resource, label.key, label.value, log.namespace, log.name
    FROM unnest(new_revisions) AS revision JOIN log USING (revision), label_rows(log.body, log.document) AS label
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION labels_of_gone_objects() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM labels USING (
        SELECT removed.resource, label.key, label.value, removed.namespace, removed.name
        FROM removed JOIN log ON log.revision = removed.revision, label_rows(log.body, log.document) AS label
    ) AS gone
    WHERE labels.resource = gone.resource AND labels.key = gone.key AND labels.value = gone.value
        AND labels.namespace = gone.namespace AND labels.name = gone.name;
    RETURN NULL;
END $$;

-- Whoever writes objects waits here until all of it is committed, and then sets the triggers off.
LOCK TABLE objects IN SHARE ROW EXCLUSIVE MODE;

CREATE TRIGGER labels_of_new_objects AFTER INSERT ON objects
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION labels_of_new_objects();
CREATE TRIGGER labels_of_changed_objects AFTER UPDATE ON objects
    REFERENCING OLD TABLE AS replaced NEW TABLE AS replacements FOR EACH STATEMENT EXECUTE FUNCTION labels_of_changed_objects();
CREATE TRIGGER labels_of_gone_objects AFTER DELETE ON objects
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION labels_of_gone_objects();

INSERT INTO labels (resource, key, value, namespace, name)
SELECT objects.resource, label.key, label.value, objects.namespace, objects.name
FROM objects JOIN log ON log.revision = objects.revision, label_rows(log.body, log.document) AS label
ON CONFLICT DO NOTHING;

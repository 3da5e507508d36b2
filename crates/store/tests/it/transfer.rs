//! Backups, copies between databases, and the check.

use std::path::Path;

use fermion_store::{
    Commit, Copied, Error, Expect, Fact, FactQuery, Fence, Filter, Key, LabelIs, LabelTerm, ListQuery, Options, Place as Kept, Scope,
    Store, Write, copy, verify,
};
use fermion_testkit::Cluster;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;
use tempfile::TempDir;

use crate::scratch::{Database, On, Place, Scratch, delete, on_both, pod, put, within, write};

on_both!(
    copy_has_every_revision_event_and_fact,
    backup_of_a_store_in_use_is_of_one_moment_and_can_be_restored,
    copy_goes_only_where_there_is_no_store,
    damage_is_found_and_named,
);

fn kept(place: &Place) -> Kept {
    match place {
        Place::Directory(directory) => Kept::Directory(directory.path().to_owned()),
        Place::Database(Database(name)) => Kept::Postgres(Cluster::shared().url(name)),
    }
}

fn usage(key: usize) -> Fact {
    Fact { kind: "usage", idempotency_key: key.to_string(), namespace: "a".to_owned(), at: Timestamp::UNIX_EPOCH, body: json!({"n": key}) }
}

/// A history with everything in it: replaced, deleted and made again, compacted, facts, a lease.
async fn fill(store: &Store) -> Fence {
    for index in 0..40 {
        let key = Key::new(if index % 2 == 0 { "pods" } else { "nodes" }, "a", format!("x{}", index % 5));
        let write = if index % 7 == 6 { delete(&key, Expect::Any) } else { put(&key, Expect::Any, format!("{index} \0 é")) };
        // What is not there cannot be deleted; it takes no revision.
        let _ = store.commit(Commit { facts: vec![usage(index)], ..Commit::of(write) }).await;
    }
    store.compact(15).await.unwrap();
    store.lead("controllers", "a", Duration::from_mins(1)).await.unwrap().unwrap().fence()
}

/// Everything a caller can see of a store.
async fn seen(store: &Store) -> Vec<String> {
    let mut seen = vec![format!("{} {}", store.revision(), store.oldest_revision())];
    for resource in ["pods", "nodes"] {
        for revision in store.oldest_revision()..=store.revision() {
            let page = store.list(ListQuery { at_revision: Some(revision), ..ListQuery::all(Scope::all(resource)) }).await.unwrap();
            seen.push(format!("{:?}", page.items));
        }
        let mut watch = store.watch(Scope::all(resource), store.oldest_revision()).await.unwrap();
        within(async {
            while watch.progress() < store.revision() {
                match watch.next().now_or_never() {
                    Some(event) => seen.push(format!("{event:?}")),
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await;
    }
    let facts = store.facts(FactQuery { kind: "usage".to_owned(), ..FactQuery::default() }).await.unwrap();
    seen.push(format!("{:?}", facts.items));
    seen
}

async fn copy_has_every_revision_event_and_fact(on: On) {
    let scratch = Scratch::new(on).await;
    let fence = fill(&scratch.store).await;
    let expected = seen(&scratch.store).await;
    // There and back, through the other database.
    let other = Place::new(if on == On::Sqlite { On::Postgres } else { On::Sqlite });
    let copied = copy(&kept(&scratch.place), &kept(&other)).await.unwrap();
    assert_eq!((copied.revision, copied.facts > 30, copied.objects > 5), (scratch.store.revision(), true, true));
    let back = Place::new(on);
    assert_eq!(copy(&kept(&other), &kept(&back)).await.unwrap(), copied);
    for place in [&other, &back] {
        assert_eq!(verify(&kept(place)).await.unwrap().problems, [""; 0]);
        let store = place.open(Options::default()).await.unwrap();
        assert_eq!(seen(&store).await, expected);
        // It goes on where the first one was.
        let key = pod("next");
        assert_eq!(write(&store, put(&key, Expect::Absent, 1)).await.unwrap().revision, copied.revision + 1);
        store.commit(Commit { facts: vec![usage(3), usage(1_000)], ..Commit::default() }).await.unwrap();
        let facts = store.facts(FactQuery { kind: "usage".to_owned(), ..FactQuery::default() }).await.unwrap();
        assert_eq!(facts.items.len() as u64, copied.facts + 1);
        let leader = store.lead("controllers", "b", Duration::from_mins(1)).await.unwrap().unwrap();
        assert!(leader.token > fence.token, "who led the first does not lead the copy");
        store.close().await;
    }
}

async fn backup_of_a_store_in_use_is_of_one_moment_and_can_be_restored(on: On) {
    let scratch = Scratch::new(on).await;
    let store = scratch.store.clone();
    let writer = tokio::spawn(async move {
        for count in 0..300_usize {
            // Both or none of them are in a backup.
            let writes = vec![put(&pod("a"), Expect::Any, count), put(&pod("b"), Expect::Any, count)];
            store.commit(Commit { writes, facts: vec![usage(count)], ..Commit::default() }).await.unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let mut backups = 0;
    while !writer.is_finished() || backups == 0 {
        backups += 1;
        let file = Kept::File(folder.path().join(format!("{backups}.backup")));
        let Copied { revision, facts, .. } = copy(&kept(&scratch.place), &file).await.unwrap();
        assert_eq!(revision, facts * 2, "a commit is in a backup whole or not at all");
        assert_eq!(verify(&file).await.unwrap().problems, [""; 0]);
    }
    writer.await.unwrap();
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names.len(), backups, "nothing but backups is left: {names:?}");

    let last = Kept::File(folder.path().join("last.backup"));
    copy(&kept(&scratch.place), &last).await.unwrap();
    let restored = Place::new(on);
    copy(&last, &kept(&restored)).await.unwrap();
    assert_eq!(seen(&restored.open(Options::default()).await.unwrap()).await, seen(&scratch.store).await);
}

async fn copy_goes_only_where_there_is_no_store(on: On) {
    let scratch = Scratch::new(on).await;
    write(&scratch.store, put(&pod("a"), Expect::Absent, 1)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = Kept::File(folder.path().join("backup"));
    copy(&kept(&scratch.place), &file).await.unwrap();
    let refused = copy(&kept(&scratch.place), &file).await.unwrap_err();
    assert!(matches!(refused, Error::File { .. }), "{refused}");
    let used = Scratch::new(on).await;
    write(&used.store, put(&pod("b"), Expect::Absent, 1)).await.unwrap();
    let place = used.place;
    used.store.close().await;
    let refused = copy(&file, &kept(&place)).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    let store = place.open(Options::default()).await.unwrap();
    assert!(store.get(&pod("b")).await.unwrap().is_some());
    let missing = copy(&Kept::File(folder.path().join("nothing")), &kept(&place)).await.unwrap_err();
    assert!(matches!(missing, Error::File { .. }), "{missing}");
}

/// Runs statements on the tables themselves.
fn tamper(place: &Place, sql: &str) {
    match place {
        Place::Directory(directory) => rusqlite::Connection::open(directory.path().join("store.db")).unwrap().execute_batch(sql).unwrap(),
        Place::Database(Database(name)) => drop(Cluster::shared().psql(name, &format!("SET search_path TO fermion; {sql}"))),
    }
}

async fn damage_is_found_and_named(on: On) {
    let damages = [
        ("DELETE FROM log WHERE revision = 20", "the log goes from revision 19 to 21"),
        ("DELETE FROM objects WHERE name = 'x1'", "objects exist by the log"),
        ("UPDATE objects SET revision = 16 WHERE name = 'x1'", "is listed at revision 16"),
        ("UPDATE log SET previous = 3 WHERE revision = 30", "says that it replaced 3"),
        ("UPDATE facts SET body = '{' WHERE id = 2", "fact 2 is no JSON"),
        ("UPDATE log SET body = '{}' WHERE revision = 25", "says that it is at null"),
    ];
    for (damage, expected) in damages {
        let scratch = Scratch::new(on).await;
        fill(&scratch.store).await;
        let place = scratch.place;
        scratch.store.close().await;
        assert_eq!(verify(&kept(&place)).await.unwrap().problems, [""; 0]);
        let damage = if on == On::Sqlite {
            damage.replace("body = '{'", "body = x'7b'").replace("body = '{}'", "body = x'7b7d'")
        } else {
            damage.to_owned()
        };
        tamper(&place, &damage);
        let problems = verify(&kept(&place)).await.unwrap().problems;
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{damage}: {problems:?}");
    }
}

#[tokio::test]
async fn truncated_backup_is_found_out() {
    let scratch = Scratch::new(On::Sqlite).await;
    fill(&scratch.store).await;
    for index in 0..200 {
        write(&scratch.store, put(&pod(&format!("p{index}")), Expect::Absent, "x".repeat(500))).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    copy(&kept(&scratch.place), &Kept::File(path.clone())).await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    match verify(&Kept::File(path)).await {
        Ok(verified) => assert!(!verified.problems.is_empty()),
        Err(error) => assert!(matches!(error, Error::Corrupt { .. } | Error::Unavailable { .. }), "{error}"),
    }
}

/// The schema of the first release, and what its program wrote and went on writing.
const FIRST_SCHEMA: &str = include_str!("schema_1.sql");

fn first_release(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("store.db")).unwrap()
}

#[tokio::test]
async fn program_before_and_after_a_change_of_the_schema_share_a_database() {
    let directory: TempDir = tempfile::tempdir().unwrap();
    first_release(directory.path()).execute_batch(FIRST_SCHEMA).unwrap();
    assert_eq!(verify(&Kept::Directory(directory.path().to_owned())).await.unwrap().problems, [""; 0]);

    let store = Store::open(directory.path(), Options::default()).unwrap();
    assert_eq!(store.revision(), 2);
    assert_eq!(write(&store, put(&pod("new"), Expect::Absent, 3)).await.unwrap().revision, 3);
    store.close().await;
    // The program before looks at the version, and does what it always did.
    let before = first_release(directory.path());
    let version: u32 = before.query_row("SELECT max(version) FROM schema_versions", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1, "an addition does not keep the program before out");
    before
        .execute_batch(
            "INSERT INTO log (revision, resource, namespace, name, previous, deleted, at_us, body) VALUES \
             (4, 'pods', 'default', 'new', 3, 0, 0, \
              CAST('{\"metadata\":{\"labels\":{\"app\":\"web\"},\"resourceVersion\":\"4\"}}' AS BLOB)); \
             INSERT INTO objects (resource, namespace, name, revision) VALUES ('pods', 'default', 'new', 4) \
             ON CONFLICT DO UPDATE SET revision = excluded.revision;",
        )
        .unwrap();
    drop(before);
    let store = Store::open(directory.path(), Options::default()).unwrap();
    assert_eq!(store.get(&pod("new")).await.unwrap().unwrap().revision, 4);
    assert_eq!(labelled(&store, "web").await, ["new"]);
    assert_eq!(labelled(&store, "first").await, ["a"]);
    store.close().await;
    assert_eq!(verify(&Kept::Directory(directory.path().to_owned())).await.unwrap().problems, [""; 0]);
}

/// The names of the pods with this label.
async fn labelled(store: &Store, app: &str) -> Vec<String> {
    let term = LabelTerm { key: "app".to_owned(), is: LabelIs::In(vec![app.to_owned()]) };
    let filter = Filter { labels: vec![term], fields: vec![] };
    let page = store.list(ListQuery { filter, ..ListQuery::all(Scope::all("pods")) }).await.unwrap();
    page.items.iter().map(|stored| stored.key.name.to_string()).collect()
}

async fn put_labelled(store: &Store, name: &str, app: &str) {
    let object = json!({"metadata": {"name": name, "labels": {"app": app}}});
    write(store, Write::Put { key: pod(name), expect: Expect::Any, object }).await.unwrap();
}

#[tokio::test]
async fn labels_of_a_postgres_database_from_before_their_index_are_found() {
    let scratch = Scratch::new(On::Postgres).await;
    let url = scratch.place.address();
    put_labelled(&scratch.store, "a", "web").await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    // As it was before the step that added it.
    let before = "SET search_path TO fermion; DROP TABLE labels; \
                  DROP FUNCTION labels_of_new_objects, labels_of_changed_objects, labels_of_gone_objects, label_rows, labels_in CASCADE; \
                  DELETE FROM schema_additions WHERE step = 1";
    client.batch_execute(before).await.unwrap();
    put_labelled(&scratch.store, "b", "web").await;

    let after = Store::connect(&url, Options::default()).await.unwrap();
    assert_eq!(labelled(&after, "web").await, ["a", "b"]);
    // A program that does not know the index goes on writing the same statements as this one.
    put_labelled(&scratch.store, "a", "db").await;
    write(&scratch.store, delete(&pod("b"), Expect::Any)).await.unwrap();
    put_labelled(&scratch.store, "c", "db").await;
    assert_eq!((labelled(&after, "web").await.len(), labelled(&after, "db").await), (0, vec!["a".to_owned(), "c".to_owned()]));
    let left = client.query("SELECT value, name FROM labels ORDER BY name", &[]).await.unwrap();
    let left: Vec<(&str, &str)> = left.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(left, [("db", "a"), ("db", "c")]);
    connection.abort();
}

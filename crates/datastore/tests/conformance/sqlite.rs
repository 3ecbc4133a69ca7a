use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use margay_datastore::{Datastore, OpenError, Revision, SqliteOptions, SqliteStore, StoreError, WatchError, open};
use tempfile::TempDir;

use crate::Backend;
use crate::suite::next;

/// A file in a directory of its own.
pub(crate) struct Sqlite {
    directory: TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    fn open_with(&self, retained_events: u32) -> SqliteStore {
        SqliteStore::open(&self.path(), SqliteOptions { retained_events }).unwrap()
    }
}

impl Backend for Sqlite {
    async fn start() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    let backend = Sqlite::start().await;
    let store = backend.open();
    store.create("/t/a", b"1").await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(backend.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 2, "the file and its log");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("garbage.db"), b"this is no database, and long enough to look at".repeat(100)).unwrap();
    let foreign = rusqlite::Connection::open(at("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE other (x)").unwrap();
    for path in
        [at("garbage.db"), at("foreign.db"), at("missing/store.db"), "/proc/margay.db".into(), directory.path().into()]
    {
        let error = open(&format!("sqlite://{}", path.display())).unwrap_err();
        assert!(matches!(error, OpenError::File { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(std::fs::read(at("garbage.db")).unwrap().len(), 4700, "what isn't ours is left as it was");
}

#[tokio::test]
async fn damage_in_use_is_an_error_that_names_the_file() {
    let backend = Sqlite::start().await;
    {
        let store = backend.open();
        for n in 0..50 {
            store.create(&format!("/t/{n}"), &[b'x'; 2000]).await.unwrap();
        }
    }
    // The threads of the dropped store end by themselves; the last connection removes the log.
    let deadline = Instant::now() + Duration::from_secs(10);
    while backend.path().with_extension("db-wal").exists() {
        assert!(Instant::now() < deadline, "the log is left behind");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut bytes = std::fs::read(backend.path()).unwrap();
    bytes[4096 * 5..].fill(0xa5);
    std::fs::write(backend.path(), bytes).unwrap();
    let store = backend.open();
    let error = store.list("/t/").await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { what, .. } if what.contains("store.db")), "{error}");
    assert!(error.to_string().contains("restore it"), "{error}");
}

#[tokio::test]
async fn a_file_that_was_replaced_is_not_written_any_more() {
    let backend = Sqlite::start().await;
    let store = backend.open();
    store.create("/t/a", b"1").await.unwrap();
    let mut stream = store.watch("/t/", store.list("/t/").await.unwrap().revision).await.unwrap();
    std::fs::rename(backend.path(), backend.path().with_extension("old")).unwrap();
    assert!(matches!(next(&mut stream).await, Err(WatchError::Disconnected { .. })));
    let error = store.create("/t/b", b"1").await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("store.db was removed or replaced"), "{error}");
    std::fs::rename(backend.path().with_extension("old"), backend.path()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.create("/t/b", b"1").await.is_err() {
        assert!(Instant::now() < deadline, "the file is back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_log_stays_bounded_and_a_watcher_left_behind_is_told() {
    let backend = Sqlite::start().await;
    let store = backend.open_with(100);
    let mut revision = store.create("/t/a", b"0").await.unwrap();
    let first = revision;
    for n in 0..500 {
        revision = store.update("/t/a", format!("{n}").as_bytes(), revision).await.unwrap();
    }
    let connection = rusqlite::Connection::open(backend.path()).unwrap();
    let rows: i64 = connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap();
    assert!((100..=110).contains(&rows), "{rows} rows");
    let mut stream = store.watch("/t/", first).await.unwrap();
    assert!(matches!(next(&mut stream).await, Err(WatchError::Compacted { .. })));
    let mut stream = store.watch("/t/", Revision::new(revision.raw() - 50)).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().revision().raw(), revision.raw() - 49);
}

#[tokio::test]
async fn revisions_are_not_used_again_after_the_whole_log_is_gone() {
    let backend = Sqlite::start().await;
    let store = backend.open();
    let revision = store.create("/t/a", b"1").await.unwrap();
    store.delete("/t/a", Some(revision)).await.unwrap();
    let newest = store.list("/t/").await.unwrap().revision;
    store.compact(newest).await.unwrap();
    assert_eq!(store.list("/t/").await.unwrap().revision, newest);
    assert!(backend.open().create("/t/a", b"2").await.unwrap() > newest);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_delays_no_other_and_loses_nothing() {
    let backend = Sqlite::start().await;
    let store = std::sync::Arc::new(backend.open_with(100_000));
    let mut lazy = store.watch("/t/", Revision::ZERO).await.unwrap();
    let mut eager = store.watch("/t/", Revision::ZERO).await.unwrap();
    // More than a queue holds; written at once, so that they share transactions.
    let writers: Vec<_> = (0..3000)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.create(&format!("/t/{n}"), b"x").await.unwrap() })
        })
        .collect();
    for _ in 0..3000 {
        next(&mut eager).await.unwrap();
    }
    let mut last = Revision::ZERO;
    for _ in 0..3000 {
        let revision = next(&mut lazy).await.unwrap().revision();
        assert!(revision > last);
        last = revision;
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

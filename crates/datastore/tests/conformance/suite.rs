//! What every driver promises.

use std::collections::BTreeMap;
use std::time::Duration;

use margay_datastore::{
    MAX_VALUE_BYTES, PrefixEvent, Revision, StoreError, WatchError, WatchEvent, WatchStream, watch_prefix,
};

use crate::Backend;
use crate::worker::Worker;

const DEADLINE: Duration = Duration::from_secs(15);

pub(crate) async fn next(stream: &mut WatchStream) -> Result<WatchEvent, WatchError> {
    tokio::time::timeout(DEADLINE, stream.next()).await.expect("an event within the deadline")
}

fn key(text: &str) -> String {
    text.into()
}

pub(crate) async fn a_created_key_can_be_read_and_not_be_created_again(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(store.get("/t/a").await, Ok(None));
    let revision = store.create("/t/a", b"{\"n\":1}").await.unwrap();
    let found = store.get("/t/a").await.unwrap().unwrap();
    assert_eq!((found.key.as_str(), found.value.as_slice(), found.revision), ("/t/a", &b"{\"n\":1}"[..], revision));
    assert_eq!(store.create("/t/a", b"x").await, Err(StoreError::AlreadyExists { key: key("/t/a") }));
    assert_eq!(backend.open().get("/t/a").await.unwrap().unwrap(), found, "another program reads the same");
}

pub(crate) async fn an_update_needs_the_revision_of_the_last_write(backend: &impl Backend) {
    let store = backend.open();
    let first = store.create("/t/a", b"1").await.unwrap();
    let second = store.update("/t/a", b"2", first).await.unwrap();
    assert!(second > first);
    for stale in [first, Revision::ZERO, Revision::new(second.raw() + 1)] {
        let refused = store.update("/t/a", b"3", stale).await;
        assert_eq!(refused, Err(StoreError::Conflict { key: key("/t/a") }), "{stale}");
    }
    let found = store.get("/t/a").await.unwrap().unwrap();
    assert_eq!((found.value, found.revision), (b"2".to_vec(), second));
    for revision in [first, Revision::ZERO] {
        assert_eq!(store.update("/t/b", b"1", revision).await, Err(StoreError::NotFound { key: key("/t/b") }));
    }
}

pub(crate) async fn a_delete_with_another_revision_is_refused(backend: &impl Backend) {
    let store = backend.open();
    let first = store.create("/t/a", b"1").await.unwrap();
    let second = store.update("/t/a", b"2", first).await.unwrap();
    for stale in [first, Revision::ZERO] {
        assert_eq!(store.delete("/t/a", Some(stale)).await, Err(StoreError::Conflict { key: key("/t/a") }));
    }
    assert_eq!(store.delete("/t/a", Some(second)).await, Ok(()));
    assert_eq!(store.get("/t/a").await, Ok(None));
    for expected in [Some(second), Some(Revision::ZERO), None] {
        assert_eq!(store.delete("/t/a", expected).await, Err(StoreError::NotFound { key: key("/t/a") }));
    }
    store.create("/t/a", b"3").await.unwrap();
    assert_eq!(store.delete("/t/a", None).await, Ok(()));
}

pub(crate) async fn keys_prefixes_and_values_that_no_driver_takes_are_invalid(backend: &impl Backend) {
    let store = backend.open();
    let invalid = |error: StoreError| matches!(error, StoreError::Invalid { .. });
    for bad in ["", "a", "/a/", "/a\0"] {
        assert!(invalid(store.get(bad).await.unwrap_err()), "{bad:?}");
        assert!(invalid(store.create(bad, b"x").await.unwrap_err()), "{bad:?}");
    }
    assert!(invalid(store.list("/a").await.unwrap_err()));
    assert!(invalid(store.watch("/a", Revision::ZERO).await.unwrap_err()));
    assert!(invalid(store.create("/a", &vec![0; MAX_VALUE_BYTES + 1]).await.unwrap_err()));
    let bytes: Vec<u8> = (0..MAX_VALUE_BYTES).map(|n| n as u8).collect();
    store.create("/a", &bytes).await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, bytes);
}

pub(crate) async fn a_listing_holds_the_prefix_in_order_at_one_revision(backend: &impl Backend) {
    let store = backend.open();
    let empty = store.list("/t/").await.unwrap();
    assert!(empty.items.is_empty());
    for name in ["/t/b", "/t/a/x", "/t0", "/t", "/t/\u{fc}", "/t/a-b"] {
        store.create(name, name.as_bytes()).await.unwrap();
    }
    let listing = store.list("/t/").await.unwrap();
    let keys: Vec<_> = listing.items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["/t/a-b", "/t/a/x", "/t/b", "/t/\u{fc}"]);
    assert!(listing.items.iter().all(|item| item.value == item.key.as_bytes() && item.revision <= listing.revision));
    assert!(listing.revision > empty.revision);

    let mut stream = store.watch("/t/", listing.revision).await.unwrap();
    let revision = store.create("/t/c", b"x").await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().revision(), revision, "a watch continues where the listing ended");
}

pub(crate) async fn a_key_made_again_has_a_newer_revision(backend: &impl Backend) {
    let store = backend.open();
    let first = store.create("/t/a", b"1").await.unwrap();
    store.delete("/t/a", Some(first)).await.unwrap();
    let again = store.create("/t/a", b"2").await.unwrap();
    assert!(again > first);
    assert_eq!(store.update("/t/a", b"3", first).await, Err(StoreError::Conflict { key: key("/t/a") }));
}

pub(crate) async fn a_watch_delivers_all_later_events_in_order_without_a_gap(backend: &impl Backend) {
    let store = backend.open();
    for n in 0..20 {
        store.create(&format!("/t/old-{n}"), b"").await.unwrap();
    }
    let from = store.list("/t/").await.unwrap().revision;
    // Some before the watch begins, some while it runs; three writers with connections of their own.
    let mut writers = Vec::new();
    for writer in 0..3 {
        let store = backend.open();
        writers.push(tokio::spawn(async move {
            let mut written = Vec::new();
            for n in 0..60 {
                let key = format!("/t/{writer}-{}", n % 7);
                let found = store.get(&key).await.unwrap();
                match found.map(|item| item.revision) {
                    None => written.push((store.create(&key, b"v").await.unwrap(), key)),
                    Some(revision) if n % 3 != 0 => {
                        written.push((store.update(&key, format!("{n}").as_bytes(), revision).await.unwrap(), key));
                    }
                    Some(revision) => store.delete(&key, Some(revision)).await.unwrap(),
                }
            }
            written
        }));
        tokio::task::yield_now().await;
    }
    let first = store.watch("/t/", from).await.unwrap();
    let mut written = BTreeMap::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    let late = store.watch("/t/", from).await.unwrap();
    let last = store.create("/t/last", b"").await.unwrap();

    let mut histories = Vec::new();
    for mut stream in [first, late] {
        let mut events: Vec<WatchEvent> = Vec::new();
        while events.last().is_none_or(|event| event.revision() < last) {
            events.push(next(&mut stream).await.unwrap());
        }
        assert!(events.windows(2).all(|pair| pair[0].revision() < pair[1].revision()), "in order, none twice");
        assert_eq!(events.len(), 3 * 60 + 1, "each write shows once");
        let puts = events.iter().filter(|event| matches!(event, WatchEvent::Put(item) if item.key != "/t/last"));
        assert!(puts.map(|event| (event.revision(), key(event.key()))).eq(written.clone()));
        histories.push(events);
    }
    assert_eq!(histories[0], histories[1]);

    // The events applied to the old state give the new one.
    let mut state: BTreeMap<String, Vec<u8>> = (0..20).map(|n| (format!("/t/old-{n}"), Vec::new())).collect();
    for event in histories.remove(0) {
        match event {
            WatchEvent::Put(item) => drop(state.insert(item.key, item.value)),
            WatchEvent::Delete { key, .. } => assert!(state.remove(&key).is_some()),
        }
    }
    let listed = store.list("/t/").await.unwrap().items.into_iter().map(|item| (item.key, item.value)).collect();
    assert_eq!(state, listed);
}

pub(crate) async fn a_watch_sees_no_sibling_of_its_prefix(backend: &impl Backend) {
    let store = backend.open();
    let mut stream = store.watch("/t/node-1/", Revision::ZERO).await.unwrap();
    for name in ["/t/node-1", "/t/node-10/x", "/t/node-1-/x", "/t/node-1/x"] {
        store.create(name, b"").await.unwrap();
    }
    assert_eq!(next(&mut stream).await.unwrap().key(), "/t/node-1/x");
}

pub(crate) async fn a_watch_from_a_compacted_revision_says_so(backend: &impl Backend) {
    let store = backend.open();
    let first = store.create("/t/a", b"1").await.unwrap();
    let second = store.update("/t/a", b"2", first).await.unwrap();
    store.delete("/t/a", Some(second)).await.unwrap();
    let deleted = store.list("/t/").await.unwrap().revision;
    store.create("/t/b", b"1").await.unwrap();
    store.compact(deleted).await.unwrap();
    store.compact(deleted).await.unwrap();
    // `second` is just before the compacted deletion, which would be missed.
    for from in [Revision::ZERO, first, second] {
        let mut stream = store.watch("/t/", from).await.unwrap();
        assert!(matches!(next(&mut stream).await, Err(WatchError::Compacted { .. })), "{from}");
        assert!(matches!(next(&mut stream).await, Err(WatchError::Disconnected { .. })), "the stream has ended");
    }
    let mut stream = store.watch("/t/", deleted).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().key(), "/t/b", "what is later is still there");
    assert_eq!(store.list("/t/").await.unwrap().items.len(), 1, "current values stay");
}

pub(crate) async fn a_watch_at_the_newest_revision_survives_a_compaction(backend: &impl Backend) {
    let store = backend.open();
    let revision = store.create("/t/a", b"1").await.unwrap();
    let mut stream = store.watch("/t/", revision).await.unwrap();
    store.compact(revision).await.unwrap();
    let next_revision = store.create("/t/b", b"1").await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().revision(), next_revision);
    let mut stream = store.watch("/t/", revision).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().revision(), next_revision);
}

pub(crate) async fn a_watch_from_the_future_says_that_the_history_is_gone(backend: &impl Backend) {
    let store = backend.open();
    let revision = store.create("/t/a", b"1").await.unwrap();
    let mut stream = store.watch("/t/", Revision::new(revision.raw() + 1000)).await.unwrap();
    assert!(matches!(next(&mut stream).await, Err(WatchError::Compacted { .. })));
}

pub(crate) async fn of_two_processes_that_create_a_key_exactly_one_wins(backend: &impl Backend) {
    let store = backend.open();
    let workers = [Worker::race(&backend.url(), "one"), Worker::race(&backend.url(), "two")];
    let won = Worker::run_together(workers, &*store).await;
    let items = store.list("/race/").await.unwrap().items;
    assert_eq!(items.len(), Worker::RACES);
    for (name, won) in [("one", won[0]), ("two", won[1])] {
        assert_eq!(items.iter().filter(|item| item.value == name.as_bytes()).count(), won, "{name} knows what it won");
    }
    assert_eq!(won[0] + won[1], Worker::RACES);
}

pub(crate) async fn a_counter_of_two_processes_loses_no_increment(backend: &impl Backend) {
    let store = backend.open();
    let workers = [Worker::count(&backend.url(), "one"), Worker::count(&backend.url(), "two")];
    let done = Worker::run_together(workers, &*store).await;
    assert_eq!(done, [200, 200]);
    assert_eq!(store.get("/counter").await.unwrap().unwrap().value, b"400");
}

pub(crate) async fn a_prefix_watch_starts_with_a_snapshot_and_goes_on_with_changes(backend: &impl Backend) {
    let store = backend.open();
    store.create("/t/a", b"1").await.unwrap();
    let mut events = watch_prefix(store.clone(), "/t/");
    let item = store.get("/t/a").await.unwrap().unwrap();
    let mut next = async || tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, PrefixEvent::Snapshot(vec![item.clone()]));
    assert_eq!(next().await, PrefixEvent::InSync);
    store.delete("/t/a", Some(item.revision)).await.unwrap();
    assert!(matches!(next().await, PrefixEvent::Delete { key, .. } if key == "/t/a"));
    let revision = store.create("/t/b", b"2").await.unwrap();
    assert!(matches!(next().await, PrefixEvent::Put(item) if item.key == "/t/b" && item.revision == revision));
}

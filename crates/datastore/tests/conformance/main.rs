//! One and the same suite for every driver: SQLite in a temporary directory, and a real etcd on loopback.

#![allow(clippy::unwrap_used)]

mod etcd;
mod etcd_only;
mod sqlite;
mod suite;
mod worker;

use std::sync::Arc;

use margay_datastore::Datastore;

/// A store that a test has for itself.
pub(crate) trait Backend {
    /// Makes an empty store.
    async fn start() -> Self;

    /// Returns the URL for [`margay_datastore::open`].
    fn url(&self) -> String;

    /// Opens it anew, as another program would.
    fn open(&self) -> Arc<dyn Datastore> {
        margay_datastore::open(&self.url()).unwrap()
    }
}

macro_rules! conformance {
    ($backend:ty: $($test:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let backend = <$backend as crate::Backend>::start().await;
            crate::suite::$test(&backend).await;
        }
    )+};
}

macro_rules! conformance_of {
    ($module:ident, $backend:ty) => {
        mod $module {
            conformance! { $backend:
                a_created_key_can_be_read_and_not_be_created_again,
                an_update_needs_the_revision_of_the_last_write,
                a_delete_with_another_revision_is_refused,
                keys_prefixes_and_values_that_no_driver_takes_are_invalid,
                a_listing_holds_the_prefix_in_order_at_one_revision,
                a_key_made_again_has_a_newer_revision,
                a_watch_delivers_all_later_events_in_order_without_a_gap,
                a_watch_sees_no_sibling_of_its_prefix,
                a_watch_from_a_compacted_revision_says_so,
                a_watch_at_the_newest_revision_survives_a_compaction,
                a_watch_from_the_future_says_that_the_history_is_gone,
                of_two_processes_that_create_a_key_exactly_one_wins,
                a_counter_of_two_processes_loses_no_increment,
                a_prefix_watch_starts_with_a_snapshot_and_goes_on_with_changes,
            }
        }
    };
}

conformance_of!(on_sqlite, crate::sqlite::Sqlite);
conformance_of!(on_etcd, crate::etcd::Etcd);

use etcd_client::{GetOptions, GetResponse};

use super::{EtcdStore, key_value, revision_of};
use crate::error::StoreError;
use crate::key::prefix_end;
use crate::types::{Listing, Revision};

/// Keys per page: with values of a few kB a page stays small beside etcd's other answers.
const PAGE: i64 = 1000;
const ATTEMPTS: u32 = 3;

/// Reads all pages at the revision of the first.
pub(super) async fn list(store: &EtcdStore, prefix: &str) -> Result<Listing, StoreError> {
    for _ in 0..ATTEMPTS {
        if let Some(listing) = attempt(store, prefix).await? {
            return Ok(listing);
        }
    }
    Err(StoreError::Unavailable {
        what: format!("{prefix} was compacted during each of {ATTEMPTS} attempts to list it"),
        advice: "compact etcd less often".into(),
    })
}

/// Returns nothing when a compaction overtook the pages.
async fn attempt(store: &EtcdStore, prefix: &str) -> Result<Option<Listing>, StoreError> {
    let end = prefix_end(prefix);
    let mut listing = Listing { items: Vec::new(), revision: Revision::ZERO };
    let mut start = prefix.as_bytes().to_vec();
    loop {
        let (start_of_page, end, revision) = (&start, &end, listing.revision);
        let page = store
            .read(prefix, |session| async move {
                let options = GetOptions::new().with_range(end.as_str()).with_limit(PAGE).with_revision(revision.raw());
                match session.kv().get(start_of_page.as_slice(), Some(options)).await {
                    Ok(page) => Ok(Some(page)),
                    Err(error) if super::failure::Failure::of(&error) == super::failure::Failure::Compacted => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .await?;
        let Some(page): Option<GetResponse> = page else { return Ok(None) };
        if listing.revision == Revision::ZERO {
            listing.revision = revision_of(page.header());
        }
        listing.items.extend(page.kvs().iter().filter_map(key_value));
        match page.kvs().last() {
            // The next possible key after the last one.
            Some(last) if page.more() => {
                start = last.key().to_vec();
                start.push(0);
            }
            _ => return Ok(Some(listing)),
        }
    }
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use margay_net::Instant;

/// Names of interfaces by their index, asked for again after a second: an interface can be renamed.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    known: BTreeMap<u32, (Instant, Option<Arc<str>>)>,
}

const FRESH: Duration = Duration::from_secs(1);

impl Interfaces {
    pub(super) fn name(&mut self, index: u32, now: Instant) -> Option<Arc<str>> {
        match self.known.get(&index) {
            Some((asked, name)) if now.since(*asked) < FRESH => name.clone(),
            _ => {
                let name = nix::net::if_::if_indextoname(index).ok().and_then(|name| name.into_string().ok());
                let name: Option<Arc<str>> = name.map(Arc::from);
                // Interfaces come and go with pods.
                self.known.retain(|_, (asked, _)| now.since(*asked) < FRESH);
                self.known.insert(index, (now, name.clone()));
                name
            }
        }
    }
}

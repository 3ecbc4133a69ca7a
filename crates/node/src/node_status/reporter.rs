//! Fills in the CalicoNodeStatus objects that name this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use margay_api::RESOURCE_PREFIX;
use margay_bgp_core::{PeerView, RouteFilter};
use margay_datastore::{Datastore, KeyValue, PrefixEvent, StoreError};
use margay_felix_agent::FelixHandle;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{Class, NodeView, PeerKind, report};
use crate::actor::Message;
use crate::api::BgpApi;

/// Calico's default of `updatePeriodSeconds`; its 0 is never.
const PERIOD: u64 = 10;
/// Between looks at what is due.
const TICK: Duration = Duration::from_secs(1);

/// Reports as long as the daemon runs.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) node: Arc<str>,
    pub(crate) store: Arc<dyn Datastore>,
    pub(crate) bgp: BgpApi,
    pub(crate) felix: FelixHandle,
    pub(crate) actor: mpsc::Sender<Message>,
    pub(crate) started: SystemTime,
}

/// An object that names this node.
#[derive(Debug, Clone)]
struct Wanted {
    stored: KeyValue,
    json: Value,
    classes: BTreeSet<Class>,
    period: Option<Duration>,
    due: Instant,
}

impl Reporter {
    pub(crate) async fn run(self) {
        let prefix = format!("{RESOURCE_PREFIX}caliconodestatuses/");
        let mut events = margay_datastore::watch_prefix(self.store.clone(), prefix);
        let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut open = true;
        loop {
            tokio::select! {
                event = events.recv(), if open => match event {
                    Some(PrefixEvent::Snapshot(items)) => items.into_iter().for_each(|item| self.take(&mut wanted, item)),
                    Some(PrefixEvent::Put(item)) => self.take(&mut wanted, item),
                    Some(PrefixEvent::Delete { key, .. }) => drop(wanted.remove(&key)),
                    Some(_) => {}
                    None => open = false,
                },
                _ = ticks.tick() => {
                    let now = Instant::now();
                    for due in wanted.values_mut().filter(|wanted| wanted.due <= now) {
                        // Nobody waits for a report: what fails is tried again in its time.
                        due.due = now + due.period.unwrap_or(TICK);
                        if let Err(error) = self.write(due).await {
                            tracing::debug!(key = due.stored.key, %error, "a node status is not written");
                        }
                    }
                }
            }
        }
    }

    /// Takes an object in; one whose specification is as it was keeps its time.
    fn take(&self, wanted: &mut BTreeMap<String, Wanted>, stored: KeyValue) {
        let Some((json, classes, period)) = read(&stored.value, &self.node) else {
            wanted.remove(&stored.key);
            return;
        };
        let known = wanted.get(&stored.key).filter(|known| known.json["spec"] == json["spec"]);
        let first = if json["status"].is_null() || period.is_some() { Some(Instant::now()) } else { None };
        let due = match (known, first) {
            (Some(known), _) => known.due,
            (None, Some(now)) => now,
            // It has been reported once, and is not to be renewed.
            (None, None) => {
                wanted.remove(&stored.key);
                return;
            }
        };
        wanted.insert(stored.key.clone(), Wanted { stored, json, classes, period, due });
    }

    async fn write(&self, wanted: &mut Wanted) -> Result<(), StoreError> {
        let Some(status) = self.report(&wanted.classes).await else { return Ok(()) };
        wanted.json["status"] = status;
        let value = wanted.json.to_string().into_bytes();
        let revision = self.store.update(&wanted.stored.key, &value, wanted.stored.revision).await?;
        wanted.stored.revision = revision;
        if wanted.period.is_none() {
            wanted.due = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
        }
        Ok(())
    }

    /// The report; None while the daemon stops.
    async fn report(&self, classes: &BTreeSet<Class>) -> Option<Value> {
        let peers = self.bgp.speaker.peers().await.ok()?;
        let routes = match classes.contains(&Class::Routes) {
            true => self.bgp.speaker.routes(RouteFilter::default()).await.ok()?,
            false => Vec::new(),
        };
        let (answer, answered) = oneshot::channel();
        let question = Message::Ask(Box::new(move |cluster| {
            let is_global =
                |peer: &margay_api::kinds::BgpPeer| peer.spec.node.is_empty() && peer.spec.node_selector.is_empty();
            let named = cluster.peers.values().map(|peer| (peer.name().to_owned(), is_global(peer)));
            let names = named.collect();
            // An asker that is gone needs no answer.
            let _ = answer.send(names);
        }));
        self.actor.send(question).await.ok()?;
        let known: BTreeMap<String, bool> = answered.await.ok()?;
        let config = self.bgp.host.config();
        let view = NodeView {
            classes,
            config: config.as_deref(),
            peers: &peers,
            routes: &routes,
            kernel_in_sync: self.felix.status().await.in_sync,
            started: self.started,
            configured: self.bgp.host.configured().unwrap_or(self.started),
            now: SystemTime::now(),
        };
        Some(report(view, &|peer| kind(peer, &known)))
    }
}

/// Whose peering it is, by the names that a node's configuration gives its peers: `mesh-NODE`, or that of the BGPPeer with
/// what tells its peers apart behind it. `known`: the BGPPeers, and whether each is one of all nodes.
fn kind(peer: &PeerView, known: &BTreeMap<String, bool>) -> PeerKind {
    let name = peer.name.as_str();
    let is_of = |object: &str| name.strip_prefix(object).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let longest = known.iter().filter(|(object, _)| is_of(object)).max_by_key(|(object, _)| object.len());
    match longest {
        Some((_, true)) => PeerKind::Global,
        Some((_, false)) => PeerKind::Node,
        None if name.starts_with("mesh-") => PeerKind::Mesh,
        None => PeerKind::Node,
    }
}

/// The object, what it asks for and how often; None where it is another node's or not readable.
fn read(value: &[u8], node: &str) -> Option<(Value, BTreeSet<Class>, Option<Duration>)> {
    let json: Value = serde_json::from_slice(value).ok()?;
    let spec = &json["spec"];
    if spec["node"] != node {
        return None;
    }
    let class = |class: &Value| match class.as_str()? {
        "Agent" => Some(Class::Agent),
        "BGP" => Some(Class::Bgp),
        "Routes" => Some(Class::Routes),
        _ => None,
    };
    let classes = spec["classes"].as_array()?.iter().filter_map(class).collect();
    let period = spec["updatePeriodSeconds"].as_u64().unwrap_or(PERIOD);
    Some((json, classes, (period > 0).then(|| Duration::from_secs(period))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::bgp_view::tests::view;

    #[test]
    fn only_this_nodes_objects_are_read() {
        let json = br#"{"spec":{"node":"n1","classes":["BGP","Routes","Novel"],"updatePeriodSeconds":3}}"#;
        let (_, classes, period) = read(json, "n1").unwrap();
        assert_eq!(classes, BTreeSet::from([Class::Bgp, Class::Routes]));
        assert_eq!(period, Some(Duration::from_secs(3)));
        assert!(read(json, "n2").is_none() && read(b"{]", "n1").is_none());
        let never = br#"{"spec":{"node":"n1","classes":[],"updatePeriodSeconds":0}}"#;
        assert_eq!(read(never, "n1").unwrap().2, None);
    }

    #[test]
    fn peers_are_told_apart_by_their_names() {
        let now = SystemTime::UNIX_EPOCH;
        let known = BTreeMap::from([("spine".to_owned(), true), ("spine-2".to_owned(), false)]);
        for (name, wanted) in [
            ("mesh-n2", PeerKind::Mesh),
            ("spine", PeerKind::Global),
            ("spine-v6", PeerKind::Global),
            ("spine-2-v6", PeerKind::Node),
            ("spines", PeerKind::Node),
            ("tor-a1", PeerKind::Node),
        ] {
            assert_eq!(kind(&view(name, now + Duration::from_secs(1_000)), &known), wanted, "{name}");
        }
    }
}

//! What can't be followed leaves the last good configuration in force, and `margayctl` says why.

use anyhow::{Context, Result, ensure};
use margay_api::kinds::BgpPeerSpec;
use margay_api::resource_key;
use margay_lab::isolation;
use margay_net::Family;
use margay_tests::live::{self, Effect, Live};

use super::{object, warned};

/// The BGPPeer of the first router with a field more.
fn first_peer(live: &Live, field: &str) -> Result<String> {
    let peers = live::peers(&live.lab.options.topology, Family::V4);
    let first = peers.split("---\n").next().context("a BGPPeer")?;
    Ok(format!("{first}  {field}\n"))
}

fn no_warning(live: &Live) -> Result<()> {
    let warnings = live.status("node-a1")?.warnings;
    ensure!(warnings.is_empty(), "{warnings:?}");
    Ok(())
}

/// What `margayctl status` prints about an object on both nodes.
fn said(live: &Live, words: &[&str]) -> Result<()> {
    for node in live.lab.nodes() {
        let printed = node.margayctl(&["status"])?;
        for words in words {
            ensure!(printed.contains(words), "{} does not say '{words}':\n{printed}", node.name());
        }
    }
    Ok(())
}

/// Writes a value past `margayctl`, as another program of the datastore does.
fn write(live: &Live, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
    let key = resource_key::<BgpPeerSpec>(None, "tor-a1-ipv4");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = margay_datastore::open(live.lab.datastore_url())?;
        let present = store.get(&key).await?.context("the BGPPeer is stored")?;
        let mut value: serde_json::Value = serde_json::from_slice(&present.value)?;
        change(&mut value);
        store.update(&key, value.to_string().as_bytes(), present.revision).await?;
        Ok(())
    })
}

const HIDES: &str = "exportV4: [{action: Reject, matchOperator: Equal, cidr: 10.100.1.1/32}]";

#[test]
fn a_filter_that_is_not_there_leaves_the_sessions_and_their_rules() {
    isolation::isolated("unresolvable::a_filter_that_is_not_there_leaves_the_sessions_and_their_rules", || {
        let mut live = Live::start()?;
        let hidden = |live: &Live| live.no_route("tor-a1", "node-a1", "10.100.1.1/32");
        let unknown = first_peer(&live, "filters: [hides]")?;
        live.edit("a filter that nobody made", &unknown, &Effect::NONE, |live| {
            warned(
                live,
                "BGPPeer tor-a1-ipv4: spec.filters: there is no BGPFilter 'hides'; create it, or take it out",
            )?;
            said(live, &["there is no BGPFilter 'hides'", "the last good configuration of the session stays"])
        })?;
        let made = object("BGPFilter", "hides", HIDES);
        live.edit("the filter", &made, &Effect::moves(&["tor-a1 10.100.1.1/32"]), |live| {
            no_warning(live)?;
            hidden(live)
        })?;
        live.lab.margayctl(&["delete", "bgpfilter", "hides"])?;
        live.settled()?;
        live.compare("without the filter", &Effect::NONE, |live| {
            warned(live, "there is no BGPFilter 'hides'")?;
            hidden(live)
        })?;
        let without = first_peer(&live, "description: no filters")?;
        live.edit("a peer without filters", &without, &Effect::moves(&["tor-a1 10.100.1.1/32"]), |live| {
            no_warning(live)?;
            live.route("tor-a1", "node-a1", "10.100.1.1/32").map(drop)
        })
    });
}

#[test]
fn a_selector_that_is_not_valid_is_refused_and_one_that_is_stored_leaves_the_sessions() {
    let name = "unresolvable::a_selector_that_is_not_valid_is_refused_and_one_that_is_stored_leaves_the_sessions";
    isolation::isolated(name, || {
        let mut live = Live::start()?;
        let wrong = first_peer(&live, "description: wrong")?.replace("rack == 'a'", "rack ==");
        let refused = live.lab.apply(&wrong).err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("spec.nodeSelector"), "{refused}");
        live.compare("a refused selector", &Effect::NONE, no_warning)?;

        write(&live, |peer| peer["spec"]["nodeSelector"] = "rack ==".into())?;
        live.compare("a stored selector that is not valid", &Effect::NONE, |live| {
            warned(live, "tor-a1-ipv4")?;
            said(live, &["tor-a1-ipv4", "nodeSelector"])
        })?;
        let right = first_peer(&live, "description: right")?;
        live.edit("the selector repaired", &right, &Effect::NONE, |live| {
            no_warning(live)?;
            let description = live.neighbor("node-a1", "tor-a1-ipv4")?.peer.description;
            ensure!(description == "right", "{description}");
            Ok(())
        })
    });
}

//! IPPool: what of it is announced, and who may announce in it.

use anyhow::{Result, bail, ensure};
use margay_lab::{PodSpec, isolation, manifests, until};
use margay_net::{Cidr, Family};
use margay_tests::live::{Effect, Live, SOON};

use super::{NODES, ROUTERS, object};

/// The blocks of the pods that are there, with their nodes.
fn blocks(live: &Live, family: Family) -> Result<Vec<(String, String)>> {
    let size = if family == Family::V4 { 26 } else { 122 };
    let block =
        |pod: &margay_lab::Pod| Ok((pod.node.clone(), Cidr::truncated(pod.address(family)?, size)?.to_string()));
    live.lab.pods().map(block).collect()
}

fn announced(live: &Live, family: Family) -> Result<()> {
    for (node, block) in blocks(live, family)? {
        for router in ROUTERS {
            live.route(router, &node, &block)?;
        }
    }
    Ok(())
}

fn not_announced(live: &Live, family: Family) -> Result<()> {
    for (node, block) in blocks(live, family)? {
        for router in ROUTERS {
            live.no_route(router, &node, &block)?;
        }
    }
    Ok(())
}

const POOL: &str = "cidr: 10.65.0.0/16, blockSize: 26";
const CLOSED: &str = "disabled: true, assignmentMode: Manual, nodeSelector: \"rack == 'a'\"";
const POOL_V4: Effect = Effect::moves(&["10.65.0.0/16"]);

#[test]
fn an_edit_of_a_pool_moves_the_routes_in_it_and_resets_nothing() {
    isolation::isolated("pools::an_edit_of_a_pool_moves_the_routes_in_it_and_resets_nothing", || {
        let mut live = Live::start()?;
        for node in NODES {
            live.lab.add_pod(node, &PodSpec::new(manifests::NAMESPACE, &format!("first-{node}")))?;
        }
        for family in Family::ALL {
            until(SOON, "the blocks are announced", || announced(&live, family))?;
        }
        live.settled()?;
        let hidden = object("IPPool", "pods-ipv4", &format!("{POOL}, disableBGPExport: true"));
        live.edit("disableBGPExport", &hidden, &POOL_V4, |live| not_announced(live, Family::V4))?;
        let plain = object("IPPool", "pods-ipv4", POOL);
        live.edit("no disableBGPExport", &plain, &POOL_V4, |live| announced(live, Family::V4))?;

        let closed = object("IPPool", "pods-ipv4", &format!("{POOL}, {CLOSED}"));
        live.edit(CLOSED, &closed, &Effect::NONE, |_| Ok(()))?;
        let second = object("IPPool", "more", "cidr: 10.66.0.0/16, blockSize: 26");
        live.edit("a second pool", &second, &Effect::NONE, |_| Ok(()))?;
        let pod = until(SOON, "a pod gets an address of the second pool", || {
            let pod = live.lab.add_pod("node-a1", &PodSpec::new(manifests::NAMESPACE, "second"))?;
            let address = live.lab.pod(&pod)?.address(Family::V4)?;
            if "10.66.0.0/16".parse::<Cidr>()?.contains(address) {
                return Ok(pod);
            }
            live.lab.delete_pod(&pod)?;
            bail!("it got {address}")
        })?;
        let address = live.lab.pod(&pod)?.address(Family::V4)?;
        let block = Cidr::truncated(address, 26)?.to_string();
        live.compare("a block of the second pool", &Effect::moves(&["10.66.0.0/16"]), |live| {
            ROUTERS.iter().try_for_each(|router| live.route(router, "node-a1", &block).map(drop))
        })?;
        let moved = object("IPPool", "pods-ipv4", "cidr: 10.70.0.0/16, blockSize: 26");
        let refused = live.lab.apply(&moved).err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("spec.cidr: 10.65.0.0/16 cannot be changed"), "{refused}");

        // What is inside a pool is taken from owners alone; `cidr` is changed by a pool in its place.
        let usable = |live: &Live, is: bool| -> Result<()> {
            let path = live.from_peer("node-a1", "tor-a1-ipv4", "198.18.0.0/24")?;
            ensure!(path.rejected != is, "{path:?}");
            Ok(())
        };
        let over = object("IPPool", "over", "cidr: 198.18.0.0/20, blockSize: 26");
        live.edit("a pool over what routers announce", &over, &Effect::NONE, |live| usable(live, false))?;
        live.lab.margayctl(&["delete", "ippool", "over"])?;
        let beside = object("IPPool", "over", "cidr: 198.18.16.0/20, blockSize: 26");
        live.edit("the pool with another cidr", &beside, &Effect::NONE, |live| usable(live, true))
    });
}

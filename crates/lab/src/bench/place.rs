//! The two namespaces with the cable between them.

use anyhow::Result;

use super::shape::Plan;
use super::{Family, INTERFACE};
use crate::Netns;

/// Where the device is, and where all of its peers are.
pub(crate) struct Place {
    pub(crate) device: Netns,
    pub(crate) peers: Netns,
}

impl Place {
    pub(crate) fn new(plan: &Plan) -> Result<Place> {
        let (device, peers) = (Netns::create("device")?, Netns::create("peers")?);
        peers.ip(&format!("link add {INTERFACE} type veth peer name {INTERFACE} netns device"))?;
        let own = [Family::V4, Family::V6].map(|family| address_line(&family.subnet()));
        device.ip_batch(&[&own[..], &[format!("link set {INTERFACE} up")]].concat())?;
        let length = plan.shape.family().subnet_length();
        let address = |address| address_line(&format!("{address}/{length}"));
        let mut lines: Vec<String> = plan.peers.iter().map(|planned| address(planned.peer.address)).collect();
        lines.push(format!("link set {INTERFACE} up"));
        peers.ip_batch(&lines)?;
        Ok(Place { device, peers })
    }

    pub(crate) fn delete(self) -> Result<()> {
        self.peers.ip(&format!("link delete {INTERFACE}"))?;
        self.peers.delete()?;
        self.device.delete()
    }
}

fn address_line(address: &str) -> String {
    // Duplicate address detection would hold IPv6 addresses back for a second.
    let nodad = if address.contains(':') { " nodad" } else { "" };
    format!("address add {address} dev {INTERFACE}{nodad}")
}

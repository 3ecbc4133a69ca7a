//! The other speakers' configurations: all peers passive, accept-all in and out, no kernel routes, no log but errors.

use std::fmt::Write;
use std::path::Path;

use super::shape::{Peer, Plan};
use super::wire::HOLD_TIME;
use super::{DEVICE_ASN, Family};

/// What takes a line; a string takes all.
macro_rules! line {
    ($text:expr, $($arguments:tt)*) => {
        writeln!($text, $($arguments)*).expect("a string takes all")
    };
}

fn peers(plan: &Plan) -> impl Iterator<Item = &Peer> {
    plan.peers.iter().map(|planned| &planned.peer)
}

pub(crate) fn bird(plan: &Plan) -> String {
    let family = plan.shape.family();
    let (channel, address) = (if family == Family::V4 { "ipv4" } else { "ipv6" }, family.device());
    let mut text = format!(
        "log stderr {{ warning, error, fatal, bug }};\n\
         router id {};\n\
         protocol device {{ }}\n\
         template bgp harness {{\n\
           local {address} as {DEVICE_ASN}; direct; passive on; hold time {HOLD_TIME};\n\
           {channel} {{ import all; export all; }};\n\
         }}\n",
        Family::V4.device()
    );
    for (number, Peer { address, asn, .. }) in peers(plan).enumerate() {
        let client = if *asn == DEVICE_ASN { "rr client;" } else { "" };
        line!(text, "protocol bgp p{number} from harness {{ neighbor {address} as {asn}; {client} }}");
    }
    text
}

pub(crate) fn frr(plan: &Plan) -> String {
    let family = if plan.shape.family() == Family::V4 { "ipv4" } else { "ipv6" };
    let router_id = Family::V4.device();
    let mut text = format!(
        "frr defaults traditional\n\
         router bgp {DEVICE_ASN}\n \
         bgp router-id {router_id}\n \
         bgp cluster-id {router_id}\n \
         no bgp ebgp-requires-policy\n \
         no bgp network import-check\n \
         no bgp default ipv4-unicast\n \
         timers bgp {} {HOLD_TIME}\n",
        HOLD_TIME / 3
    );
    for Peer { address, asn, .. } in peers(plan) {
        line!(text, " neighbor {address} remote-as {asn}");
        line!(text, " neighbor {address} passive");
    }
    line!(text, " address-family {family} unicast");
    for peer in peers(plan) {
        line!(text, "  neighbor {} activate", peer.address);
        if peer.internal() {
            line!(text, "  neighbor {} route-reflector-client", peer.address);
        }
    }
    text + " exit-address-family\n"
}

pub(crate) fn gobgp(plan: &Plan) -> String {
    let family = if plan.shape.family() == Family::V4 { "ipv4" } else { "ipv6" };
    let router_id = Family::V4.device();
    let mut text = format!("[global.config]\nas = {DEVICE_ASN}\nrouter-id = \"{router_id}\"\nport = 179\n");
    for peer in peers(plan) {
        line!(text, "[[neighbors]]");
        line!(text, "[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}", peer.address, peer.asn);
        line!(text, "[neighbors.transport.config]\npassive-mode = true");
        line!(text, "[neighbors.timers.config]\nhold-time = {HOLD_TIME}\nkeepalive-interval = {}", HOLD_TIME / 3);
        if peer.internal() {
            line!(text, "[neighbors.route-reflector.config]\nroute-reflector-client = true");
            line!(text, "route-reflector-cluster-id = \"{router_id}\"");
        }
        line!(text, "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}-unicast\"");
    }
    text
}

pub(crate) fn openbgpd(plan: &Plan, socket: &Path) -> String {
    let family = if plan.shape.family() == Family::V4 { "IPv4" } else { "IPv6" };
    let router_id = Family::V4.device();
    let mut text = format!(
        "AS {DEVICE_ASN}\nrouter-id {router_id}\nfib-update no\nholdtime {HOLD_TIME}\nsocket \"{}\"\n",
        socket.display()
    );
    for peer in peers(plan) {
        line!(text, "neighbor {} {{\n  remote-as {}\n  passive\n  announce {family} unicast", peer.address, peer.asn);
        if peer.internal() {
            line!(text, "  route-reflector {router_id}");
        }
        line!(text, "}}");
    }
    text + "allow from any\nallow to any\n"
}

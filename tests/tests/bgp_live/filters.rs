//! BGPFilter: rules of both families and directions, for the sessions with one of two routers.

use anyhow::{Result, ensure};
use margay_lab::isolation;
use margay_net::Family;
use margay_tests::live::{self, Effect, Live};

use super::{Row, goes_by, object};

const FIRST: &str = "tor-a1 10.100.1.0/24";
const FIRST_V6: &str = "tor-a1 fd00:100:1::/64";

fn first_has(live: &Live, prefix: &str, attribute: &str, value: &str) -> Result<()> {
    live.route("tor-a1", "node-a1", prefix)?.has(attribute, value)
}

/// What node-a1 makes of a prefix of the first router.
fn taken(live: &Live, prefix: &str, is: bool) -> Result<()> {
    let peer = if prefix.contains("::") { "tor-a1-ipv6" } else { "tor-a1-ipv4" };
    let path = live.from_peer("node-a1", peer, prefix)?;
    ensure!(path.rejected != is, "{path:?}");
    Ok(())
}

/// Filters of the first router's sessions.
const FILTERS: &[Row] = &[
    (&["exportV4: [{action: Reject, matchOperator: Equal, cidr: 10.100.1.1/32}]"], Effect::moves(&[FIRST]), |live| {
        live.no_route("tor-a1", "node-a1", "10.100.1.1/32")
    }),
    (
        &[
            "exportV4: [{action: Accept, operations: [{addCommunity: {value: \"65001:1\"}}, {addCommunity: {value: \"65001:1:2\"}}]}]",
        ],
        // Accepted is then what is announced nowhere else: what came from the other router, too.
        Effect::moves(&["tor-a1 0.0.0.0/0"]),
        |live| {
            first_has(live, "10.100.1.1/32", "community", "(65001,1)")?;
            first_has(live, "10.100.1.1/32", "large_community", "(65001, 1, 2)")
        },
    ),
    (
        &["exportV4: [{action: Accept, matchOperator: In, cidr: 10.100.0.0/16, prefixLength: {min: 32, max: 32}, \
            operations: [{prependASPath: {prefix: [65010, 65011]}}]}]"],
        Effect::moves(&["tor-a1 0.0.0.0/0"]),
        |live| first_has(live, "10.100.1.1/32", "as_path", "64512 65010 65011"),
    ),
    (&["exportV4: [{action: Reject, matchOperator: NotIn, cidr: 10.100.1.0/24}]"], Effect::moves(&[FIRST]), |live| {
        live.no_route("tor-a1", "node-a1", "172.30.0.0/24")?;
        first_has(live, "10.100.1.1/32", "as_path", "64512")
    }),
    (
        &["exportV4: [{action: Reject, matchOperator: NotEqual, cidr: 10.100.1.2/32}]"],
        Effect::moves(&[FIRST]),
        |live| live.no_route("tor-a1", "node-a1", "10.100.1.1/32"),
    ),
    (&["exportV4: [{action: Reject, source: RemotePeers}]"], Effect::moves(&[FIRST]), |live| {
        first_has(live, "10.100.1.1/32", "as_path", "64512")
    }),
    (&["exportV4: [{action: Reject, peerType: eBGP, priority: 1024}]"], Effect::moves(&[FIRST]), |live| {
        live.no_route("tor-a1", "node-a1", "10.100.1.1/32")
    }),
    (&["exportV4: [{action: Reject, peerType: iBGP}]"], Effect::moves(&[FIRST]), |live| {
        first_has(live, "10.100.1.1/32", "as_path", "64512")
    }),
    (&["importV4: [{action: Reject, matchOperator: Equal, cidr: 198.18.0.0/24}]"], Effect::NONE, |live| {
        taken(live, "198.18.0.0/24", false)?;
        taken(live, "198.18.2.0/24", true)
    }),
    (&["importV4: [{action: Reject, communities: {values: [\"65100:1\"]}}]"], Effect::NONE, |live| {
        taken(live, "198.18.0.0/24", false)?;
        taken(live, "198.18.4.0/24", true)
    }),
    (&["importV4: [{action: Reject, asPathPrefix: [64711, 64900]}]"], Effect::NONE, |live| {
        taken(live, "198.18.0.0/24", true)?;
        taken(live, "198.18.4.0/24", false)
    }),
    (
        &["importV4: [{action: Reject, interface: uplink1, matchOperator: In, cidr: 198.18.0.0/16}]"],
        Effect::NONE,
        |live| {
            taken(live, "198.18.0.0/24", false)?;
            taken(live, "198.18.4.0/24", false)
        },
    ),
    (
        &[
            "importV4: [{action: Accept, matchOperator: In, cidr: 198.18.0.0/16, operations: [{setPriority: {value: 500}}]}]",
        ],
        Effect::NONE,
        |live| {
            taken(live, "198.18.4.0/24", true)?;
            // It is the better one, though its path is longer.
            goes_by(live, "198.18.4.0/24", &["10.101.1.1"])
        },
    ),
    (
        &[
            "importV4: [{action: Accept, operations: [{addCommunity: {value: \"65001:5\"}}, {prependASPath: {prefix: [65020]}}]}]",
        ],
        Effect::NONE,
        |live| {
            let path = live.from_peer("node-a1", "tor-a1-ipv4", "198.18.0.0/24")?;
            ensure!(path.as_path == "65020 64711" && path.communities.contains(&"65001:5".to_owned()), "{path:?}");
            // Its path is longer.
            goes_by(live, "198.18.0.0/24", &["10.101.1.2"])
        },
    ),
    (
        &["exportV6: [{action: Reject, matchOperator: Equal, cidr: \"fd00:100:1::1/128\"}]"],
        Effect::moves(&[FIRST_V6]),
        |live| {
            live.no_route("tor-a1", "node-a1", "fd00:100:1::1/128")?;
            goes_by(live, "198.18.4.0/24", &["10.101.1.2"])
        },
    ),
    (
        &[
            "exportV6: [{action: Accept, matchOperator: In, cidr: \"fd00:100::/32\", operations: [{addCommunity: {value: \"65001:6\"}}]}]",
        ],
        Effect::moves(&["tor-a1 ::/0"]),
        |live| first_has(live, "fd00:100:1::1/128", "community", "(65001,6)"),
    ),
    (&["importV6: [{action: Reject, matchOperator: In, cidr: \"fd00:198::/32\"}]"], Effect::NONE, |live| {
        taken(live, "fd00:198::/64", false)?;
        first_has(live, "fd00:100:1::1/128", "community", "")
    }),
    (&[], Effect::NONE, |live| taken(live, "fd00:198::/64", true)),
];

fn with_filter(live: &Live) -> String {
    let topology = &live.lab.options.topology;
    let peers: Vec<String> = Family::ALL.iter().map(|family| live::peers(topology, *family)).collect();
    let peers = peers.join("---\n");
    let of_first: Vec<&str> = peers.split("---\n").filter(|peer| peer.contains("name: tor-a1")).collect();
    of_first.iter().map(|peer| format!("{peer}  filters: [edited]\n---\n")).collect()
}

#[test]
fn an_edit_of_a_filter_moves_the_routes_of_its_peers_and_resets_nothing() {
    isolation::isolated("filters::an_edit_of_a_filter_moves_the_routes_of_its_peers_and_resets_nothing", || {
        let mut live = Live::start()?;
        let peers = with_filter(&live);
        let both = format!("{}---\n{peers}", object("BGPFilter", "edited", ""));
        live.edit("the filter", &both, &Effect::NONE, |live| taken(live, "198.18.0.0/24", true))?;
        for (rules, effect, shows) in FILTERS {
            let rules = rules.join(", ");
            live.edit(&rules, &object("BGPFilter", "edited", &rules), effect, shows)?;
        }
        Ok(())
    });
}

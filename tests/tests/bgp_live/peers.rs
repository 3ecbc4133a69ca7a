//! BGPPeer: which fields change on its running sessions, and which need new ones.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use margay_lab::isolation;
use margay_tests::live::{Effect, Live, SESSIONS};

use super::{NODES, Row, nothing, object};

const PEER: &str = "tor-a1-ipv4";

/// The sessions with the peer.
const OF_PEER: &[&str] = &["*/tor-a1-ipv4"];
const RESET: Effect = Effect::resets(OF_PEER);
/// As long as the router does not have the setting, too.
const REFUSED: Effect = Effect { ends: OF_PEER, sessions: SESSIONS - 2, ..RESET };
const MARKED: Effect = Effect::moves(&["tor-a1 10.100.1.0/24"]);

fn told(live: &Live, attribute: &str, value: &str) -> Result<()> {
    live.route("tor-a1", "node-a1", "10.100.1.1/32")?.has(attribute, value)
}

fn set(live: &Live, setting: &str) -> Result<()> {
    let settings = live.neighbor("node-a1", PEER)?.settings;
    ensure!(settings.contains_key(setting), "no {setting} in {settings:?}");
    Ok(())
}

/// Fields of a BGPPeer, in place of those of the row before.
const FIELDS: &[Row] = &[
    (&["keepaliveTime: 5s"], Effect::NONE, nothing),
    (&["connectRetry: 5s"], Effect::NONE, nothing),
    (&["numAllowedLocalASNumbers: 2"], Effect::NONE, nothing),
    (&["nextHopMode: Self"], Effect::NONE, nothing),
    (&["keepOriginalNextHop: true"], Effect::NONE, nothing),
    (&["filters: [no-default]"], Effect::NONE, nothing),
    (&["gracefulShutdown: true"], MARKED, |live| told(live, "community", "(65535,0)")),
    (&["bfd: {minTx: 300ms, minRx: 300ms, multiplier: 3}"], Effect::NONE, |live| {
        told(live, "community", "")?;
        set(live, "bfd")
    }),
    (&["maxPrefixes: {limit: 1000, warningPercent: 80, action: Warn}"], Effect::NONE, |live| {
        let limit = &live.neighbor("node-a1", PEER)?.families["ipv4"].limit;
        ensure!(limit.contains("1000"), "{limit}");
        Ok(())
    }),
    (&["peerIP: \"10.101.1.1:179\""], Effect::NONE, nothing),
    (&["holdTime: 30s"], RESET, nothing),
    (&["maxRestartTime: 60s"], RESET, nothing),
    (&["localASNumber: 65099"], RESET, |live| told(live, "as_path", "65099")),
    (&["families: [ipv4, ipv6]"], RESET, |live| told(live, "as_path", "64512")),
    (&["addPath: {receive: true, send: None}"], RESET, nothing),
    (&["sourceAddress: UseNodeIP"], RESET, nothing),
    // The router still connects to the node.
    (&["peerIP: \"10.101.1.1:1179\""], RESET, nothing),
    (&["ttlSecurity: 1"], REFUSED, nothing),
    (&["password: {secretKeyRef: {name: peer, key: password}}"], REFUSED, nothing),
    (&["adminState: Down"], REFUSED, nothing),
    (&["asNumber: 64799"], REFUSED, nothing),
    (&["nodeSelector: \"rack == 'b'\""], Effect { sessions: SESSIONS - 2, ..RESET }, nothing),
    (&[], Effect::NONE, nothing),
];

/// The BGPPeer with these fields in place of those that it begins with, and a text by which the edit is known.
fn peer(fields: &[&str], text: &str) -> String {
    let begin = [
        "nodeSelector: \"rack == 'a'\"",
        "peerIP: \"10.101.1.1\"",
        "asNumber: 64711",
        "sourceAddress: None",
        "numAllowedLocalASNumbers: 1",
        "connectRetry: 3s",
    ];
    let keyed = begin.iter().chain(fields).filter_map(|field| Some((field.split_once(':')?.0, *field)));
    let spec: BTreeMap<&str, &str> = keyed.collect();
    let spec: Vec<&str> = spec.into_values().collect();
    object("BGPPeer", PEER, &format!("{}, description: {text}", spec.join(", ")))
}

#[test]
fn an_edit_of_a_peer_resets_its_own_sessions_only_where_it_must() {
    isolation::isolated("peers::an_edit_of_a_peer_resets_its_own_sessions_only_where_it_must", || {
        let mut live = Live::start()?;
        for node in live.lab.nodes() {
            std::fs::create_dir_all(node.secrets().join("peer"))?;
            std::fs::write(node.secrets().join("peer/password"), "of the peer\n")?;
        }
        let filter = "importV4: [{action: Reject, matchOperator: Equal, cidr: 0.0.0.0/0}]";
        live.lab.apply(&object("BGPFilter", "no-default", filter))?;
        for (number, (fields, effect, shows)) in FIELDS.iter().enumerate() {
            let text = format!("edit-{number}");
            let gone = fields.iter().any(|field| field.starts_with("nodeSelector"));
            live.edit(&fields.join(", "), &peer(fields, &text), effect, |live| {
                for node in NODES {
                    let known = live.neighbor(node, PEER).map(|view| view.peer.description);
                    ensure!(gone == known.is_err() && known.is_ok_and(|known| known == text) != gone, "{node}");
                }
                shows(live)
            })?;
        }
        Ok(())
    });
}

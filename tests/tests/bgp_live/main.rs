//! An edit by `margayctl apply` reaches running daemons and touches the sessions and routes that it must, field by field.
//! [`margay_tests::live`] compares the rest.

mod configuration;
mod filters;
mod nodes;
mod peers;
mod pools;
mod services;
mod unresolvable;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use margay_tests::live::{Effect, Live};

const ROUTERS: [&str; 2] = ["tor-a1", "tor-a2"];
const NODES: [&str; 2] = ["node-a1", "node-a2"];
const MESH: &[&str] = &["*/mesh-*"];

/// An edit: what is written, what it may do, what is to be seen of it.
type Row = (&'static [&'static str], Effect, fn(&Live) -> Result<()>);

fn nothing(_: &Live) -> Result<()> {
    Ok(())
}

/// Both routers have a prefix from both nodes.
fn from_both(live: &Live, prefix: &str) -> Result<()> {
    for router in ROUTERS {
        for node in NODES {
            live.route(router, node, prefix)?;
        }
    }
    Ok(())
}

/// An attribute of a prefix, on both routers from one node.
fn both_have(live: &Live, node: &str, prefix: &str, attribute: &str, value: &str) -> Result<()> {
    ROUTERS.iter().try_for_each(|router| live.route(router, node, prefix)?.has(attribute, value))
}

fn listens(live: &Live, node: &str, socket: &str) -> Result<()> {
    let shown = live.lab.node(node)?.netns().run("ss", &["-Hltn"])?.stdout;
    let local: BTreeSet<&str> = shown.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    ensure!(local.contains(socket), "{node} listens on {local:?}");
    Ok(())
}

fn goes_by(live: &Live, prefix: &str, addresses: &[&str]) -> Result<()> {
    let hops = live.known("node-a1", prefix)?.next_hops;
    let found: BTreeSet<&str> = hops.iter().filter_map(|hop| hop.split('%').next()).collect();
    ensure!(found == addresses.iter().copied().collect(), "{prefix} goes by {hops:?}");
    Ok(())
}

fn warned(live: &Live, words: &str) -> Result<()> {
    let warnings = live.status("node-a1")?.warnings;
    ensure!(warnings.iter().any(|warning| warning.contains(words)), "no '{words}' in {warnings:?}");
    Ok(())
}

/// An object whose specification is given as YAML's flow text.
fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

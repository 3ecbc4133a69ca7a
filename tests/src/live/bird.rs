//! What the routers hold: BIRD's sessions and routes, with the times since when.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use margay_lab::bird::Router;
use margay_lab::isolation::LAB_DIR;
use margay_net::Cidr;

/// What the routers announce by themselves, each as the comment says.
const UPSTREAM: &str = "\
filter from_node {
  if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
  accept;
}
protocol static upstream_ipv4 {
  ipv4;
  # The same from both, with a community.
  route 198.18.0.0/24 blackhole { bgp_community.add((65100, 1)); };
  # A higher MED from the first.
  route 198.18.2.0/24 blackhole { if ROUTER = 1 then bgp_med = 50; else bgp_med = 10; };
  # A MED from the first alone.
  route 198.18.3.0/24 blackhole { if ROUTER = 1 then bgp_med = 50; };
  # A longer path from the first.
  route 198.18.4.0/24 blackhole { if ROUTER = 1 then bgp_path.prepend(64900); };
  # Inside the pool, and nobody's block.
  route 10.65.77.0/26 blackhole;
}
protocol static upstream_ipv6 {
  ipv6;
  route fd00:198::/64 blackhole { bgp_community.add((65100, 1)); };
}
";

/// Has a router take every AS number and every prefix from nodes, honour GRACEFUL_SHUTDOWN, announce [`UPSTREAM`], and be
/// back soon after a session's end.
pub(super) fn open(router: &Router) -> Result<()> {
    let path = Path::new(LAB_DIR).join(router.name()).join("bird.conf");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let number = router.name().chars().last().filter(char::is_ascii_digit).context("a router's number")?;
    let mut opened = String::new();
    for line in text.lines() {
        if line.starts_with("template bgp") {
            opened.push_str(&format!("define ROUTER = {number};\n{UPSTREAM}"));
        }
        let line = line.replace("error wait time 1, 4;", "error wait time 1, 1;");
        match (line.trim_start().strip_prefix("neighbor "), line.split_once("import where net ~ CLUSTER")) {
            (Some(neighbor), _) => {
                let address = neighbor.split(' ').next().unwrap_or_default();
                opened.push_str(&format!("    neighbor {address} external;\n"));
            }
            (None, Some((before, after))) => {
                let (_, export) = after.split_once("export where ").context("no export in bird.conf")?;
                // `&&` binds no stronger than `||` there.
                let (export, rest) = export.split_once(';').context("no end of the export in bird.conf")?;
                let export = format!("export where source = RTS_STATIC || ({export});{rest}");
                opened.push_str(&format!("{before}import filter from_node; {export}\n"));
            }
            (None, None) => opened.push_str(&format!("{line}\n")),
        }
    }
    std::fs::write(&path, &opened)?;
    let said = router.birdc("configure")?;
    ensure!(said.contains("Reconfigur"), "{said}\n{opened}");
    Ok(())
}

/// A route that a router holds from a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Learned {
    pub router: String,
    /// As the node calls it: `NODE/PEER`.
    pub session: String,
    pub prefix: Cidr,
    /// When it came or changed last.
    pub since: Time,
    /// As BIRD prints them, by name, as in `BGP.community`.
    pub attributes: BTreeMap<String, String>,
}

/// A time of the day, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u32);

impl Time {
    /// Reads what BIRD prints, as in `18:30:25.123`.
    fn parse(text: &str) -> Option<Time> {
        let (clock, fraction) = text.split_once('.')?;
        let seconds = clock.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u32>().ok()?))?;
        Some(Time(seconds * 1000 + fraction.parse::<u32>().ok()?))
    }

    /// The other one where both are the same but for the last digit.
    pub(super) fn align(self, other: Time) -> Time {
        if self.0.abs_diff(other.0) <= 2 { other } else { self }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Time(ms) = self;
        write!(f, "{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
    }
}

impl Learned {
    /// Which route it is, whatever it is like.
    pub(super) fn key(&self) -> (String, String, Cidr) {
        (self.router.clone(), self.session.clone(), self.prefix)
    }

    /// An attribute; empty where the route has none of that name.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(&format!("BGP.{name}")).map_or("", String::as_str)
    }

    /// Fails unless an attribute is so, as BIRD prints it.
    pub fn has(&self, name: &str, value: &str) -> Result<()> {
        ensure!(self.attribute(name) == value, "{self}: its {name} is not '{value}'");
        Ok(())
    }
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Learned { router, session, prefix, since, attributes } = self;
        write!(f, "{prefix} of {session} on {router} since {since} {attributes:?}")
    }
}

/// A session by BIRD's name, `node_a1_ipv4`, as the node calls it: `node-a1/tor-a1-ipv4`.
fn session(router: &str, name: &str) -> Option<String> {
    let (node, family) = name.rsplit_once('_')?;
    node.starts_with("node_").then(|| format!("{}/{router}-{family}", node.replace('_', "-")))
}

/// Since when each session with a node has been established.
pub(super) fn sessions(router: &Router) -> Result<BTreeMap<String, Time>> {
    let answer = router.birdc("show protocols")?;
    let lines = answer.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let up = lines.filter(|words| words.last() == Some(&"Established") && words.len() > 4);
    Ok(up.filter_map(|words| Some((session(router.name(), words[0])?, Time::parse(words[4])?))).collect())
}

/// All routes from nodes.
pub(super) fn routes(router: &Router) -> Result<Vec<Learned>> {
    Ok(parse(router.name(), &router.birdc("show route all")?))
}

/// The routes of one session, by BIRD's name.
pub(super) fn routes_of(router: &Router, session: &str) -> Result<Vec<Learned>> {
    Ok(parse(router.name(), &router.birdc(&format!("show route all protocol {session}"))?))
}

fn parse(router: &str, text: &str) -> Vec<Learned> {
    let (mut routes, mut prefix) = (Vec::<Learned>::new(), None);
    let mut skipped = true;
    for line in text.lines() {
        match (line.strip_prefix('\t'), line.split_once('[')) {
            (Some(attribute), _) => {
                if let (Some(route), Some((name, value)), false) =
                    (routes.last_mut(), attribute.split_once(": "), skipped)
                {
                    route.attributes.insert(name.to_owned(), value.trim().to_owned());
                }
            }
            (None, Some((head, rest))) => {
                if !head.starts_with(' ') {
                    prefix = head.split_whitespace().next().and_then(|word| word.parse().ok());
                }
                let mut words = rest.split(']').next().unwrap_or_default().split(' ');
                let from = words.next().and_then(|name| session(router, name));
                skipped = true;
                if let (Some(prefix), Some(session), Some(since)) = (prefix, from, words.next().and_then(Time::parse)) {
                    let (router, attributes) = (router.to_owned(), BTreeMap::new());
                    routes.push(Learned { router, session, prefix, since, attributes });
                    skipped = false;
                }
            }
            (None, None) => {}
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_from_nodes_are_read_with_their_times_and_attributes() {
        let text = "Table master4:\n\
            10.65.0.0/26         unicast [node_a1_ipv4 18:30:25.123] * (100) [AS64512i]\n\
            \tvia 10.100.1.1 on node1\n\tType: BGP univ\n\tBGP.as_path: 64512\n\tBGP.community: (65535,0) (1,2)\n\
            \x20                    unicast [node_a2_ipv4 18:30:26.005] (100) [AS64512i]\n\tBGP.as_path: 64513\n\
            198.18.0.0/24        blackhole [upstream_ipv4 18:30:20.1] * (200)\n\tType: static univ\n";
        let routes = parse("tor-a1", text);
        let found: Vec<String> =
            routes.iter().map(|r| format!("{} {} {}", r.session, r.since, r.attribute("as_path"))).collect();
        assert_eq!(found, ["node-a1/tor-a1-ipv4 18:30:25.123 64512", "node-a2/tor-a1-ipv4 18:30:26.005 64513"]);
        assert!(routes.iter().all(|route| route.prefix.to_string() == "10.65.0.0/26"));
        assert_eq!(routes[0].attribute("community"), "(65535,0) (1,2)");
        assert_eq!(routes[1].attribute("community"), "");
    }
}

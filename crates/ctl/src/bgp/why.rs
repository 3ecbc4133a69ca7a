use std::fmt::Write;

use margay_local_api::{BgpPathView, BgpWhy};

use super::neighbor::wait;

/// The prefix in sentences: its paths, then what each peer is told.
pub(super) fn render(view: &BgpWhy) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    match (&view.route, &view.covered_by) {
        (Some(route), _) if route.paths.is_empty() => line(format!("{} has no path", view.prefix)),
        (Some(route), _) => {
            line(format!("{}: {}", view.prefix, plural(route.paths.len(), "path")));
            if !route.next_hops.is_empty() {
                line(format!("  packets go to {}", route.next_hops.join(" and ")));
            }
            for path in &route.paths {
                line(format!("  {}", verdict(path)));
                line(format!("      {}", attributes(path)));
            }
        }
        (None, Some(covering)) => {
            line(format!("{} is not in the table; {covering} covers it, so packets follow that", view.prefix));
        }
        (None, None) => line(format!("{} is not in the table, and nothing that covers it", view.prefix)),
    }
    for waited in &view.waits {
        line(format!("the table {}", wait(waited)));
    }
    if !view.advertisements.is_empty() {
        line("told to".to_owned());
    }
    let width = view.advertisements.iter().map(|told| told.peer.chars().count()).max().unwrap_or_default();
    for told in &view.advertisements {
        let answer = if told.advertised { "yes" } else { "no " };
        line(format!("  {:<width$}  {answer}  {}", told.peer, told.reason));
        if let Some(path) = &told.path {
            line(format!("  {:<width$}       as {}", "", attributes(path)));
        }
    }
    out
}

fn verdict(path: &BgpPathView) -> String {
    let stale = if path.stale { ", stale: its peer restarts" } else { "" };
    match (path.best, path.multipath, path.rejected) {
        (true, ..) => format!("best, from {}{stale}", path.from),
        (false, true, _) => format!("used beside the best, from {}{stale}", path.from),
        (false, false, true) => format!("rejected, from {}: {}{stale}", path.from, path.reason),
        (false, false, false) if path.reason.is_empty() => format!("not used, from {}{stale}", path.from),
        (false, false, false) => format!("lost, from {}: {}{stale}", path.from, path.reason),
    }
}

fn attributes(path: &BgpPathView) -> String {
    let mut out = format!("next hop {}", path.next_hop);
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            out.push_str(&format!(", {name} {value}"));
        }
    };
    say("AS path", Some(path.as_path.clone()));
    say("local preference", path.local_pref.map(|value| value.to_string()));
    say("MED", path.med.map(|value| value.to_string()));
    say("origin", Some(path.origin.clone()));
    say("communities", Some(path.communities.join(" ")));
    say("originator", path.originator_id.clone());
    say("clusters", Some(path.cluster_list.join(" ")));
    out
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use margay_local_api::{BgpAdvertisement, BgpRouteView, BgpWait};

    use super::*;

    #[test]
    fn each_path_says_where_it_lost_and_each_peer_why_it_is_told() {
        let best = BgpPathView {
            from: "tor-a1".to_owned(),
            next_hop: "10.0.0.1".to_owned(),
            as_path: "65001 65002".to_owned(),
            origin: "igp".to_owned(),
            best: true,
            ..BgpPathView::default()
        };
        let lost = BgpPathView {
            from: "tor-a2".to_owned(),
            best: false,
            reason: "longer AS path".to_owned(),
            as_path: "65001 65001 65002".to_owned(),
            ..best.clone()
        };
        let told = BgpPathView { local_pref: Some(100), best: false, ..best.clone() };
        let view = BgpWhy {
            prefix: "10.1.0.0/24".to_owned(),
            route: Some(BgpRouteView {
                prefix: "10.1.0.0/24".to_owned(),
                paths: vec![best, lost],
                next_hops: vec!["10.0.0.1%eth0".to_owned()],
            }),
            covered_by: None,
            advertisements: vec![
                BgpAdvertisement {
                    peer: "n2".to_owned(),
                    advertised: true,
                    reason: "export policy accepts it by default".to_owned(),
                    path: Some(told),
                },
                BgpAdvertisement {
                    peer: "tor-a1".to_owned(),
                    advertised: false,
                    reason: "the best path came from it".to_owned(),
                    path: None,
                },
            ],
            waits: vec![BgpWait { what: "End-of-RIB of tor-a2".to_owned(), until_seconds: Some(61) }],
        };
        assert_eq!(
            render(&view),
            "10.1.0.0/24: 2 paths\n  \
             packets go to 10.0.0.1%eth0\n  \
             best, from tor-a1\n      \
             next hop 10.0.0.1, AS path 65001 65002, origin igp\n  \
             lost, from tor-a2: longer AS path\n      \
             next hop 10.0.0.1, AS path 65001 65001 65002, origin igp\n\
             the table waits for End-of-RIB of tor-a2, 1m1s left\n\
             told to\n  \
             n2      yes  export policy accepts it by default\n               \
             as next hop 10.0.0.1, AS path 65001 65002, local preference 100, origin igp\n  \
             tor-a1  no   the best path came from it\n"
        );
    }

    #[test]
    fn a_prefix_that_is_not_there_names_what_covers_it() {
        let view = BgpWhy {
            prefix: "10.1.2.3/32".to_owned(),
            covered_by: Some("10.1.0.0/16".to_owned()),
            ..BgpWhy::default()
        };
        assert!(render(&view).contains("10.1.0.0/16 covers it"));
    }
}

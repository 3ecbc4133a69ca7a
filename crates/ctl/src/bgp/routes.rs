use margay_local_api::{BgpPathView, BgpRoutes};

use crate::output::{Format, table};

/// A line for each path, the prefix on the first of each.
pub(super) fn render(view: &BgpRoutes, format: Format) -> String {
    let wide = format == Format::Wide;
    let mut header = vec!["PREFIX", "USED", "NEXT HOP", "FROM", "LOCALPREF", "MED", "AS PATH"];
    if wide {
        header.extend(["ORIGIN", "COMMUNITIES", "ORIGINATOR", "CLUSTERS"]);
    }
    header.push("LOST BY");
    let mut rows = Vec::new();
    for route in &view.routes {
        for (index, path) in route.paths.iter().enumerate() {
            let mut row = vec![if index == 0 { route.prefix.clone() } else { String::new() }, used(path)];
            row.extend([path.next_hop.clone(), path.from.clone()]);
            row.extend([number(path.local_pref), number(path.med), path.as_path.clone()]);
            if wide {
                let originator = path.originator_id.clone().unwrap_or_default();
                row.extend([path.origin.clone(), path.communities.join(" "), originator, path.cluster_list.join(" ")]);
            }
            row.push(path.reason.clone());
            rows.push(row);
        }
    }
    table(&header, &rows)
}

/// What becomes of the path, in a word or two.
pub(super) fn used(path: &BgpPathView) -> String {
    let flag = match (path.best, path.multipath, path.rejected) {
        (true, ..) => "best",
        (false, true, _) => "also used",
        (false, false, true) => "rejected",
        (false, false, false) => "",
    };
    if path.stale { format!("{flag} (stale)").trim_start().to_owned() } else { flag.to_owned() }
}

fn number(value: Option<u32>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use margay_local_api::BgpRouteView;

    use super::*;

    #[test]
    fn the_prefix_stands_once_and_each_path_says_what_becomes_of_it() {
        let path = |from: &str, best: bool, rejected: bool, reason: &str| BgpPathView {
            from: from.to_owned(),
            next_hop: "10.0.0.1".to_owned(),
            as_path: "65001".to_owned(),
            best,
            rejected,
            reason: reason.to_owned(),
            ..BgpPathView::default()
        };
        let paths = vec![path("a", true, false, ""), path("b", false, true, "own AS in AS_PATH")];
        let view =
            BgpRoutes { routes: vec![BgpRouteView { prefix: "10.1.0.0/24".to_owned(), paths, next_hops: Vec::new() }] };
        assert_eq!(
            render(&view, Format::Table),
            "PREFIX       USED      NEXT HOP  FROM  LOCALPREF  MED  AS PATH  LOST BY\n\
             10.1.0.0/24  best      10.0.0.1  a                     65001\n\
             \x20            rejected  10.0.0.1  b                     65001    own AS in AS_PATH\n"
        );
    }
}

use clap::{Args, Subcommand};
use margay_local_api::{BgpPeers, BgpRoutes, path};

use crate::output::{self, Format, age};
use crate::{Connection, Failure, OutputArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum BgpCommand {
    /// Shows the peers: state, since when, why not up, prefixes.
    Peers(OutputArgs),
    /// Shows every route that the speaker knows, with the reason why a path lost.
    Routes(RoutesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RoutesArgs {
    /// One prefix; all where absent.
    prefix: Option<margay_net::Cidr>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) fn run(connection: &Connection, command: &BgpCommand) -> Result<(), Failure> {
    match command {
        BgpCommand::Peers(args) => peers(connection, args.output),
        BgpCommand::Routes(args) => routes(connection, args),
    }
}

fn peers(connection: &Connection, format: Format) -> Result<(), Failure> {
    let view: BgpPeers = connection.daemon().get(path::BGP_PEERS)?;
    if let Some(printed) = output::machine(format, &view) {
        return printed;
    }
    let rows: Vec<Vec<String>> = view
        .peers
        .iter()
        .map(|peer| {
            vec![
                peer.name.clone(),
                peer.address.clone(),
                peer.asn.to_string(),
                peer.state.clone(),
                age(peer.since_seconds),
                peer.received.to_string(),
                peer.accepted.to_string(),
                peer.advertised.to_string(),
                if peer.reason.is_empty() { peer.last_error.clone() } else { peer.reason.clone() },
            ]
        })
        .collect();
    let header = ["PEER", "ADDRESS", "AS", "STATE", "SINCE", "IN", "ACCEPTED", "OUT", "WHY"];
    let mut text = output::table(&header, &rows);
    if !view.listener.is_empty() {
        text.push_str(&view.listener);
        text.push('\n');
    }
    output::text(&text)
}

fn routes(connection: &Connection, args: &RoutesArgs) -> Result<(), Failure> {
    let mut view: BgpRoutes = connection.daemon().get(path::BGP_ROUTES)?;
    if let Some(prefix) = args.prefix {
        let prefix = prefix.to_string();
        view.routes.retain(|route| route.prefix == prefix);
        if view.routes.is_empty() {
            return Err(Failure::Failed(format!("the speaker has no route for {prefix}")));
        }
    }
    if let Some(printed) = output::machine(args.output, &view) {
        return printed;
    }
    let mut rows = Vec::new();
    for route in &view.routes {
        for (index, path) in route.paths.iter().enumerate() {
            let flag = match (path.best, path.multipath) {
                (true, _) => "best",
                (false, true) => "also used",
                (false, false) => "",
            };
            rows.push(vec![
                if index == 0 { route.prefix.clone() } else { String::new() },
                if path.stale { format!("{flag} (stale)") } else { flag.to_owned() },
                path.next_hop.clone(),
                path.from.clone(),
                path.local_pref.map(|value| value.to_string()).unwrap_or_default(),
                path.med.map(|value| value.to_string()).unwrap_or_default(),
                path.as_path.clone(),
                path.reason.clone(),
            ]);
        }
    }
    let header = ["PREFIX", "USED", "NEXT HOP", "FROM", "LOCALPREF", "MED", "AS PATH", "LOST BY"];
    output::text(&output::table(&header, &rows))
}

use clap::{Args, Subcommand};
use margay_api::kinds::{IpPool, IpPoolSpec, WorkloadEndpoint, WorkloadEndpointSpec};
use margay_ipam_client::{CheckReport, IpamClient, Report};

use crate::output::{self, Format};
use crate::{Connection, Failure, OutputArgs, store};

#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// Shows pools and how full they are.
    Show(ShowArgs),
    /// Holds blocks, handles and endpoints against each other. Exit code 1 where they do not agree.
    Check(OutputArgs),
    /// Frees one address.
    Release(ReleaseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Show the blocks of each pool.
    #[arg(long)]
    show_blocks: bool,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The address to free.
    #[arg(long)]
    ip: std::net::IpAddr,
    /// Free it even though an endpoint uses it.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(connection: &Connection, command: &IpamCommand) -> Result<(), Failure> {
    let datastore = store::open(connection)?;
    store::block_on(async {
        let client = IpamClient::new(datastore.clone(), "");
        let pools: Vec<IpPool> =
            store::all::<IpPoolSpec>(&*datastore).await?.into_iter().map(|stored| stored.object).collect();
        let endpoints: Vec<WorkloadEndpoint> =
            store::all::<WorkloadEndpointSpec>(&*datastore).await?.into_iter().map(|stored| stored.object).collect();
        match command {
            IpamCommand::Show(args) => show(&client.report(&pools).await?, args),
            IpamCommand::Check(args) => check(&client.check(&endpoints).await?, args.output),
            IpamCommand::Release(args) => {
                let user = endpoints
                    .iter()
                    .find(|endpoint| endpoint.spec.ip_networks.iter().any(|network| network.addr() == args.ip));
                if let (Some(user), false) = (user, args.force) {
                    let pod = format!("{}/{}", user.namespace().unwrap_or_default(), user.spec.pod);
                    return Err(Failure::Failed(format!(
                        "{} is in use by {pod}; --force frees it all the same",
                        args.ip
                    )));
                }
                match client.release_address(args.ip).await? {
                    true => output::text(&format!("{} freed\n", args.ip)),
                    false => Err(Failure::Failed(format!("{} is not assigned", args.ip))),
                }
            }
        }
    })
}

fn show(report: &Report, args: &ShowArgs) -> Result<(), Failure> {
    if let Some(printed) = output::machine(args.output, report) {
        return printed;
    }
    let mut rows = Vec::new();
    for pool in &report.pools {
        let percent = pool.used * 100 / pool.size.max(1);
        rows.push(vec![
            "pool".to_owned(),
            pool.cidr.to_string(),
            pool.name.clone(),
            format!("{} ({percent}%)", pool.used),
            (pool.size - pool.used).to_string(),
            String::new(),
        ]);
        if args.show_blocks {
            rows.extend(pool.blocks.iter().map(block_row));
        }
    }
    rows.extend(report.strays.iter().map(block_row));
    output::text(&output::table(&["GROUP", "CIDR", "OWNER", "USED", "FREE", "BORROWED"], &rows))
}

fn block_row(block: &margay_ipam_client::BlockReport) -> Vec<String> {
    vec![
        "block".to_owned(),
        block.cidr.to_string(),
        block.node.clone().unwrap_or_else(|| "nobody".to_owned()),
        block.used.to_string(),
        block.free.to_string(),
        block.borrowed.to_string(),
    ]
}

fn check(report: &CheckReport, format: Format) -> Result<(), Failure> {
    match output::machine(format, report) {
        Some(printed) => printed?,
        None => {
            let mut text = format!(
                "{} addresses are assigned, {} are in use by endpoints\n",
                report.addresses_assigned, report.addresses_in_use
            );
            for (what, problems) in [
                ("leaked", &report.leaked),
                ("not assigned", &report.unassigned),
                ("used twice", &report.duplicates),
                ("handle", &report.handles),
                ("affinity", &report.affinities),
            ] {
                for problem in problems {
                    text.push_str(&format!("{what}: {problem}\n"));
                }
            }
            output::text(&text)?;
        }
    }
    if report.is_clean() { Ok(()) } else { Err(Failure::Failed("IPAM contradicts itself, see above".to_owned())) }
}

use clap::{Args, Subcommand};
use margay_api::kinds::{IpPool, IpPoolSpec, WorkloadEndpoint, WorkloadEndpointSpec};
use margay_datastore::Datastore;
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
        match command {
            IpamCommand::Show(args) => {
                let (pools, problems) = store::all::<IpPoolSpec>(&*datastore).await?;
                let pools: Vec<IpPool> = pools.into_iter().map(|stored| stored.object).collect();
                show(&client.report(&pools).await?, args)?;
                store::fail_with(problems)
            }
            IpamCommand::Check(args) => {
                let (endpoints, problems) = endpoints(&*datastore).await?;
                let checked = check(&client.check(&endpoints).await?, args.output);
                store::fail_with(problems).and(checked)
            }
            IpamCommand::Release(args) => release(&client, &endpoints(&*datastore).await?, args).await,
        }
    })
}

async fn endpoints(datastore: &dyn Datastore) -> Result<(Vec<WorkloadEndpoint>, Vec<String>), Failure> {
    let (stored, problems) = store::all::<WorkloadEndpointSpec>(datastore).await?;
    Ok((stored.into_iter().map(|stored| stored.object).collect(), problems))
}

async fn release(
    client: &IpamClient,
    (endpoints, problems): &(Vec<WorkloadEndpoint>, Vec<String>),
    args: &ReleaseArgs,
) -> Result<(), Failure> {
    let uses = |endpoint: &&WorkloadEndpoint| endpoint.spec.ip_networks.iter().any(|used| used.addr() == args.ip);
    let user = endpoints.iter().find(uses);
    let reason = match (user, problems.first()) {
        _ if args.force => None,
        (Some(user), _) => Some(format!("in use by {}/{}", user.namespace().unwrap_or_default(), user.spec.pod)),
        (None, Some(problem)) => Some(format!("perhaps in use: {problem}")),
        (None, None) => None,
    };
    if let Some(reason) = reason {
        return Err(Failure::Failed(format!("{} is {reason}; --force frees it all the same", args.ip)));
    }
    match client.release_address(args.ip).await? {
        true => output::text(&format!("{} freed\n", args.ip)),
        false => Err(Failure::Failed(format!("{} is not assigned", args.ip))),
    }
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
                ("corrupt", &report.corrupt),
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

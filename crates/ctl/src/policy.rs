use clap::{Args, Subcommand};
use margay_local_api::{ExplainRequest, ExplainResponse, path};

use crate::output::{self, Format};
use crate::{Connection, Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Says whether a connection passes, and which policies and rules decide it. Exit code 1 where it doesn't pass.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// NAMESPACE/POD or an address.
    #[arg(long)]
    from: String,
    /// NAMESPACE/POD or an address.
    #[arg(long)]
    to: String,
    /// PROTOCOL/PORT, as in tcp/5432.
    #[arg(long)]
    port: String,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) fn run(connection: &Connection, command: &PolicyCommand) -> Result<(), Failure> {
    let PolicyCommand::Explain(args) = command;
    let usage = || Failure::Usage(format!("--port takes PROTOCOL/PORT, as in tcp/5432, not '{}'", args.port));
    let (protocol, port) = args.port.split_once('/').ok_or_else(usage)?;
    let request = ExplainRequest {
        from: args.from.clone(),
        to: args.to.clone(),
        protocol: protocol.to_ascii_uppercase(),
        port: port.parse().map_err(|_| usage())?,
    };
    let explained: ExplainResponse = connection.daemon().post(path::POLICY_EXPLAIN, &request)?;
    match output::machine(args.output, &explained) {
        Some(printed) => printed?,
        None => output::text(&(explained.lines.join("\n") + "\n"))?,
    }
    if explained.allowed { Ok(()) } else { Err(Failure::Failed(String::new())) }
}

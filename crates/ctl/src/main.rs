//! `margayctl`: the operator's command.
//!
//! Exit codes: 0 done, 1 failed or a check not passed, 2 wrong usage, 3 the daemon or the datastore is not reachable.

mod bgp;
mod conditions;
mod drain;
mod failure;
mod ipam;
mod kinds;
mod output;
mod policy;
mod resources;
mod status;
mod store;
mod tor_config;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use failure::Failure;
use output::Format;

/// Edits Margay's resources and shows why a route, a peer or a packet is as it is.
#[derive(Debug, Parser)]
#[command(name = "margayctl", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

/// Where the datastore and the daemon are.
#[derive(Debug, Args)]
struct Connection {
    /// The datastore: sqlite:///PATH, etcd://HOST:PORT[,HOST:PORT] or etcds://...
    #[arg(long, env = "MARGAY_DATASTORE", global = true, hide_env_values = true)]
    datastore: Option<String>,
    /// The daemon's socket.
    #[arg(long, env = "MARGAY_SOCKET", global = true)]
    socket: Option<PathBuf>,
    /// The daemon's runtime directory, which holds its socket.
    #[arg(long = "run", env = "MARGAY_RUN", global = true, default_value = "/run/margay")]
    run_dir: PathBuf,
}

impl Connection {
    fn daemon(&self) -> margay_local_api::Client {
        let socket = self.socket.clone().unwrap_or_else(|| self.run_dir.join("margayd.sock"));
        margay_local_api::Client::new(socket)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates what is not there and replaces what is.
    Apply(resources::FileArgs),
    /// Creates resources; fails where one is there.
    Create(resources::FileArgs),
    /// Replaces resources; fails where one isn't there.
    Replace(resources::FileArgs),
    /// Deletes resources, named by a file or by kind and name.
    Delete(resources::DeleteArgs),
    /// Shows resources.
    Get(resources::GetArgs),
    /// Shows this node at a glance.
    Status(OutputArgs),
    /// Shows peers and routes of this node's speaker, and why they are as they are.
    #[command(subcommand)]
    Bgp(bgp::BgpCommand),
    /// Shows and checks the cluster's addresses.
    #[command(subcommand)]
    Ipam(ipam::IpamCommand),
    /// Explains verdicts.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// How to print: a table, json or yaml.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message().is_empty() {
                output::error(&format!("margayctl: {}", failure.message()));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let connection = &cli.connection;
    match &cli.command {
        Command::Apply(args) => resources::write(connection, args, resources::Mode::Apply),
        Command::Create(args) => resources::write(connection, args, resources::Mode::Create),
        Command::Replace(args) => resources::write(connection, args, resources::Mode::Replace),
        Command::Delete(args) => resources::delete(connection, args),
        Command::Get(args) => resources::get(connection, args),
        Command::Status(args) => status::show(connection, args.output),
        Command::Bgp(command) => bgp::run(connection, command),
        Command::Ipam(command) => ipam::run(connection, command),
        Command::Policy(command) => policy::run(connection, command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! `margayd`: the node daemon. It wires the houses together and serves the local API.

mod actor;
mod api;
mod bfd;
mod bgp_config;
mod bgp_events;
mod bgp_view;
mod changes;
mod cleanup;
mod cluster;
mod cni;
mod drain_record;
mod metrics;
mod node;
mod node_status;
mod object_status;
mod options;
mod ownership;
mod register;
mod registration;
mod restart;
mod secret;
mod shared;
mod standalone;
mod status;
mod tasks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use options::NodeOptions;

/// The network of a bare-metal cluster: BGP speaker, routing and policy agent, and IPAM client of one node.
#[derive(Debug, Parser)]
#[command(name = "margayd", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the node daemon.
    Node(Box<NodeOptions>),
    /// Runs a speaker of its own, configured by a file: a route reflector, a router of a lab.
    Bgp(standalone::SpeakerArgs),
    /// Runs BFD for the node daemon, as a process that outlives it.
    Bfd(bfd::BfdOptions),
    /// Lists or removes everything of Margay's in this machine's kernel.
    Cleanup(cleanup::CleanupOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    options::start_logging();
    let result = match cli.command {
        Command::Node(options) => node::run(*options),
        Command::Bgp(args) => standalone::run(args),
        Command::Bfd(options) => bfd::run(&options),
        Command::Cleanup(options) => cleanup::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("margayd: {}", exit.message);
            ExitCode::from(exit.code)
        }
    }
}

/// Why the daemon ends: 1 failed, 2 wrong usage or configuration.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    pub(crate) fn failed(message: impl Into<String>) -> Exit {
        Exit { code: 1, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Exit {
        Exit { code: 2, message: message.into() }
    }
}

//! `margay-cni`: the CNI plugin (specification 1.1.0).
//!
//! It makes the pod's link, asks `margayd` for addresses, policy and routes, and sets up the pod's end. It keeps no
//! state and speaks to nobody but the daemon. Results and errors go to standard output as the specification says.

mod add;
mod check;
mod config;
mod del;
mod environment;
mod error;
mod gc;
mod link;
mod result;
mod version;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use config::NetworkConfig;
use environment::{Command, Environment};
use error::CniError;
use version::Version;

fn main() -> ExitCode {
    let environment = match Environment::read(|name| std::env::var(name).ok()) {
        Ok(environment) => environment,
        Err(error) => return fail(Version::NEWEST, &error),
    };
    let Some(environment) = environment else {
        // Nobody is a runtime: say what this is.
        let versions: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
        eprintln!("margay-cni {}: CNI plugin, protocol versions {}", env!("CARGO_PKG_VERSION"), versions.join(", "));
        return ExitCode::SUCCESS;
    };
    let mut stdin = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut stdin) {
        return fail(Version::NEWEST, &CniError::io("cannot read the configuration from standard input", &error));
    }
    if environment.command == Command::Version {
        return answer(version::report(&stdin));
    }
    let config = match NetworkConfig::parse(&stdin) {
        Ok(config) => config,
        Err((version, error)) => return fail(version, &error),
    };
    match run(&environment, &config) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(result)) => answer(result),
        Err(error) => fail(config.version, &error),
    }
}

fn run(environment: &Environment, config: &NetworkConfig) -> Result<Option<serde_json::Value>, CniError> {
    environment.command.check_version(config.version)?;
    if let Some(netns) = environment.netns.as_deref()
        && matches!(environment.command, Command::Add | Command::Del)
        && !environment.allows_host_netns
    {
        link::refuse_host_netns(netns)?;
    }
    match environment.command {
        Command::Add => add::add(environment, config).map(Some),
        Command::Del => del::del(environment, config).map(|()| None),
        Command::Check => check::check(environment, config).map(|()| None),
        Command::Gc => gc::gc(config).map(|()| None),
        Command::Status => gc::status(config).map(|()| None),
        // Answered before the configuration is read.
        Command::Version => Ok(Some(version::report(&[]))),
    }
}

fn answer(value: serde_json::Value) -> ExitCode {
    match writeln!(io::stdout().lock(), "{value}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(version: Version, error: &CniError) -> ExitCode {
    eprintln!("margay-cni: {error}");
    // Where standard output is closed, the exit code still tells.
    let _ = writeln!(io::stdout().lock(), "{}", error.to_json(version));
    ExitCode::FAILURE
}

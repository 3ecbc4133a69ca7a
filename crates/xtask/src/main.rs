//! Tasks of Margay's developers: `cargo demo`, `cargo bench-bgp`, `cargo verify` and `cargo fuzz-bgp`, all aliases of this
//! program. It depends on nothing that takes long to build, since it installs what the build of the rest needs.

mod apt;
mod bench;
mod cargo;
mod demo;
mod fuzz;
mod packages;
mod suite;
mod tally;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

const USAGE: &str = "\
Tasks of Margay's developers.

  cargo demo [OPTIONS]                install what is missing, build, bring up a cluster and check it
      --keep                          leave it up
      --families ipv4|ipv6|dual       the address families
      --datastore sqlite|etcd         where the cluster keeps its resources
      --break tor-export              a mistake in the fabric, to see the checks find it (exit 1)
  cargo demo -- exec PLACE -- CMD     run a command in the cluster that was left up: at a node, pod, router or `hub`
  cargo demo -- down                  take it down
  cargo bench-bgp [-- OPTIONS]        install what is missing, build, measure BGP speakers side by side
      --shapes, --devices, --runs, --scale ...   as of `margay-lab bench-bgp --help`; without options all is measured,
                                      and docs/benchmarks/bgp.{md,json,svg} are made anew
  cargo verify [SUITE...]             install what is missing, build, then formatting, clippy and all tests
      --list                          name the suites
  cargo fuzz-bgp TARGET SECONDS       install what is missing, build, let libFuzzer try a decoder, the whole speaker or BFD

All but the last need root: they make network namespaces.";

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let task = if arguments.is_empty() { OsString::new() } else { arguments.remove(0) };
    // From `cargo demo -- down`.
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    if arguments.first().is_some_and(|first| first == "--help" || first == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let outcome = match task.to_str() {
        Some("demo") => demo::run(&arguments),
        Some("bench-bgp") => bench::run(&arguments),
        Some("verify") => verify::run(&arguments),
        Some("fuzz-bgp") => fuzz::run(&arguments),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

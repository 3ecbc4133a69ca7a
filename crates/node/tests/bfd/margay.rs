use std::path::PathBuf;
use std::time::Duration;

use crate::client::Client;
use crate::lab::{Lab, Netns, Process, within};

/// `margayd bfd` at our end of a lab.
pub struct Margay {
    pub process: Process,
    pub socket: PathBuf,
}

impl Margay {
    pub fn start(lab: &Lab) -> Margay {
        Margay::start_in(&lab.ours, lab, "run")
    }

    /// Starts one at any end of a lab, with a runtime directory of its own.
    pub fn start_in(netns: &Netns, lab: &Lab, name: &str) -> Margay {
        let run = lab.dir().join(name);
        let mut command = netns.command(env!("CARGO_BIN_EXE_margayd"));
        command.arg("bfd").arg("--run").arg(&run).env_remove("MARGAY_BFD_SOCKET").env("MARGAY_LOG", "debug");
        let process = Process::start(command, &lab.dir().join(format!("{name}.out")));
        let margay = Margay { process, socket: run.join("bfd.sock") };
        margay.connect();
        margay
    }

    pub fn connect(&self) -> Client {
        within(Duration::from_secs(10), "bfd.sock is served", || {
            Client::connect(&self.socket).map_err(|error| format!("{error}: {}", self.process.output()))
        })
    }

    /// A client that has said hello.
    pub fn attach(&self) -> Client {
        let mut client = self.connect();
        client.hello();
        client
    }
}

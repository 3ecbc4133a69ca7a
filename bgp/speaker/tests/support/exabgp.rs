use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::Ipv4Addr;

use margay_net::Family;
use nix::sys::stat::Mode;

use super::Lab;
use super::process::{Process, require};

/// ExaBGP at the peer's address, which says what it is told to say.
pub struct Exabgp {
    process: Process,
    /// Where what it reads as its API's process comes from.
    commands: File,
}

/// What its OPEN says, and the routes that it has from the start.
#[derive(Debug, Clone)]
pub struct Options {
    pub asn: u32,
    pub our_asn: u32,
    pub router_id: Ipv4Addr,
    pub families: Vec<Family>,
    /// The lines of its `capability` section.
    pub capabilities: &'static str,
    /// Each as in `route 10.0.0.0/24 next-hop 192.0.2.2`.
    pub routes: Vec<String>,
}

impl Exabgp {
    pub fn start(lab: &Lab, options: &Options) -> Exabgp {
        require("exabgp", "exabgp");
        let (file, pipe) = (lab.dir().join("exabgp.conf"), lab.dir().join("commands"));
        std::fs::write(&file, config(lab, options)).unwrap();
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        // Open both ways: nobody waits for the other end, and its reader ends when this end is closed.
        let commands = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let mut command = lab.theirs.command("exabgp");
        command.arg(file);
        for (name, value) in [
            ("daemon.user", "root"),
            ("daemon.daemonize", "false"),
            // Its command line, which has pipes of fixed names.
            ("api.cli", "false"),
            ("api.ack", "false"),
            // Where it says which NOTIFICATION it reads.
            ("log.level", "DEBUG"),
            ("log.all", "true"),
        ] {
            command.env(format!("exabgp.{name}"), value);
        }
        Exabgp { process: Process::start(command, &lab.dir().join("exabgp.out")), commands }
    }

    /// Has it say something, in the words of its API.
    pub fn say(&mut self, command: &str) {
        self.process.assert_running();
        writeln!(self.commands, "{command}").unwrap();
    }

    pub fn output(&self) -> String {
        self.process.output()
    }
}

fn config(lab: &Lab, options: &Options) -> String {
    let mut text = format!(
        "process commands {{\n run /bin/cat {};\n encoder text;\n}}\n\
         neighbor {} {{\n local-address {};\n router-id {};\n local-as {};\n peer-as {};\n hold-time 90;\n\
         capability {{ {} }}\n api {{ processes [ commands ]; }}\n family {{",
        lab.dir().join("commands").display(),
        lab.our_address(),
        lab.peer_address(),
        options.router_id,
        options.asn,
        options.our_asn,
        options.capabilities,
    );
    for family in &options.families {
        write!(text, " {family} unicast;").unwrap();
    }
    text.push_str(" }\n static {\n");
    for route in &options.routes {
        writeln!(text, "  {route};").unwrap();
    }
    text.push_str(" }\n}\n");
    text
}

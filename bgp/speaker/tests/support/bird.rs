use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use margay_net::{Cidr, Family};

use super::peer::{Notification, Peer, PeerOptions, Seen};
use super::process::{Process, read, require, run};
use super::{INTERFACE, Lab, PEER_ASN};

pub struct Bird {
    process: Process,
    family: Family,
    dir: PathBuf,
}

impl Bird {
    pub fn start(lab: &Lab, options: &PeerOptions) -> Bird {
        Bird::start_with(lab, options, &[])
    }

    /// Starts BIRD as after a crash: its forwarding state is said to be preserved.
    pub fn recover(lab: &Lab, options: &PeerOptions) -> Bird {
        Bird::start_with(lab, options, &["-R"])
    }

    fn start_with(lab: &Lab, options: &PeerOptions, flags: &[&str]) -> Bird {
        require("bird", "bird2");
        let dir = lab.dir().to_owned();
        std::fs::write(dir.join("bird.conf"), config(lab, options)).expect("BIRD's configuration");
        let mut command = lab.theirs.command("bird");
        command.args(flags).arg("-f").arg("-c").arg(dir.join("bird.conf")).arg("-s").arg(dir.join("s"));
        command.arg("-P").arg(dir.join("pid"));
        let process = Process::start(command, &dir.join("bird.out"));
        Bird { process, family: lab.family, dir }
    }

    /// Runs a command of BIRD's command line.
    pub fn command(&self, words: &str) -> Result<String, String> {
        let mut command = std::process::Command::new("birdc");
        command.arg("-s").arg(self.dir.join("s")).args(words.split(' '));
        run(command)
    }
}

impl Peer for Bird {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn received(&self) -> Result<BTreeMap<Cidr, Seen>, String> {
        let text = self.command("show route protocol margay all")?;
        let mut routes = BTreeMap::new();
        let mut current: Option<(Cidr, BTreeMap<String, String>)> = None;
        let finish = |route: Option<(Cidr, BTreeMap<String, String>)>, routes: &mut BTreeMap<Cidr, Seen>| {
            if let Some((prefix, attributes)) = route {
                routes.insert(prefix, seen(&attributes)?);
            }
            Ok::<(), String>(())
        };
        for line in text.lines() {
            if let Some((name, value)) = line.trim().strip_prefix("BGP.").and_then(|line| line.split_once(':')) {
                if let Some((_, attributes)) = &mut current {
                    attributes.insert(name.to_owned(), value.trim().to_owned());
                }
            } else if let Some(Ok(prefix)) = line.split(' ').next().map(str::parse::<Cidr>) {
                finish(current.replace((prefix, BTreeMap::new())), &mut routes)?;
            }
        }
        finish(current, &mut routes)?;
        assert!(routes.keys().all(|prefix| prefix.family() == self.family));
        Ok(routes)
    }

    fn withdraw(&self) {
        self.command("disable announced").expect("disabling the static routes");
    }

    fn log(&self) -> String {
        read(&self.dir.join("bird.log"))
    }

    fn words_for(&self, notification: Notification) -> &'static [&'static str] {
        match notification {
            Notification::HoldTimerExpired => &["margay: Received: Hold timer expired"],
            Notification::AdministrativeShutdown => &["margay: Received: Administrative shutdown"],
            Notification::BadPeerAs => &["margay: Received: Bad peer AS"],
        }
    }
}

fn seen(attributes: &BTreeMap<String, String>) -> Result<Seen, String> {
    let text = |name: &str| attributes.get(name).cloned().ok_or_else(|| format!("no {name} in {attributes:?}"));
    let first_next_hop = text("next_hop")?;
    let communities = attributes.get("community").map(String::as_str).unwrap_or_default();
    Ok(Seen {
        as_path: text("as_path")?,
        next_hop: first_next_hop
            .split(' ')
            .next()
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| format!("next hop '{first_next_hop}'"))?,
        origin: text("origin")?.to_lowercase(),
        med: attributes.get("med").and_then(|med| med.parse().ok()),
        communities: communities
            .split(' ')
            .filter(|community| !community.is_empty())
            .map(|community| community.trim_matches(['(', ')']).replace(',', ":"))
            .collect(),
    })
}

fn config(lab: &Lab, options: &PeerOptions) -> String {
    let channel = lab.family;
    let (ours, theirs, dir) = (lab.our_address(), lab.peer_address(), lab.dir().display());
    let mut text = format!(
        "log \"{dir}/bird.log\" all;\n\
         debug protocols {{ states, routes, events }};\n\
         router id 192.0.2.2;\n\
         protocol device {{ }}\n\
         protocol direct {{ {channel}; interface \"{INTERFACE}\"; }}\n\
         protocol static announced {{ {channel};\n"
    );
    for prefix in lab.peer_prefixes() {
        writeln!(text, "  route {prefix} blackhole;").expect("a string takes all");
    }
    let mut extra = String::new();
    if let Some(password) = options.password {
        write!(extra, "password \"{password}\"; ").expect("a string takes all");
    }
    if options.ttl_security {
        extra.push_str("ttl security on; ");
    }
    let restart = if options.graceful_restart { "on" } else { "off" };
    let passive = if options.active { "off" } else { "on" };
    let our_asn = options.our_asn;
    write!(
        text,
        "}}\n\
         protocol bgp margay {{\n\
           local {theirs} as {PEER_ASN}; neighbor {ours} as {our_asn}; passive {passive}; connect retry time 1; hold time 3; {extra}\n\
           error wait time 1, 1; graceful restart {restart}; graceful restart time 30;\n\
           {channel} {{ import all; export filter {{\n\
             if proto != \"announced\" then reject;\n\
             bgp_origin = ORIGIN_EGP; bgp_med = 77; bgp_community.add((65001,100)); accept;\n\
           }}; }};\n\
         }}\n"
    )
    .expect("a string takes all");
    text
}

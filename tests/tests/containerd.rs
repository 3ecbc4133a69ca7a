//! The plugin under a real containerd: it calls ADD before a container's process starts, and DEL, without a namespace, when it
//! has ended.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::{Binaries, DatastoreKind, Families, Lab, Process, isolation, process, until};
use margay_tests::{NODE, ipam_check, one_node};

const DIRECTORY: &str = "/run/lab/containerd";

/// Makes a folder of the host writable for this lab alone.
fn overlay(folder: &str) -> Result<()> {
    let [upper, work] = ["upper", "work"].map(|part| format!("/run/lab/overlay{folder}/{part}"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!("lowerdir={folder},upperdir={upper},workdir={work}");
    process::run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, folder]))?;
    Ok(())
}

/// Puts the plugin, its configuration and a root file system where containerd and its client look for them.
fn install(lab: &Lab) -> Result<()> {
    ["/etc", "/opt"].into_iter().try_for_each(overlay)?;
    fs::create_dir_all("/etc/cni/net.d")?;
    fs::create_dir_all("/opt/cni/bin")?;
    fs::copy(Binaries::locate()?.path("margay-cni")?, "/opt/cni/bin/margay-cni")?;
    let socket = lab.node(NODE)?.socket();
    let conflist = format!(
        r#"{{"cniVersion":"1.0.0","name":"margay","plugins":[{{"type":"margay-cni","socket":"{}"}}]}}"#,
        socket.display()
    );
    fs::write("/etc/cni/net.d/10-margay.conflist", conflist)?;
    let root = Path::new(DIRECTORY).join("rootfs");
    for folder in ["bin", "proc", "sys", "dev", "etc"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.context("busybox isn't there: install busybox-static")?, root.join("bin/busybox"))?;
    let config = format!(
        "version = 2\nroot = \"{DIRECTORY}/root\"\nstate = \"{DIRECTORY}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{DIRECTORY}/containerd.sock\"\n"
    );
    fs::write(Path::new(DIRECTORY).join("config.toml"), config)?;
    Ok(())
}

fn ctr(lab: &Lab, arguments: &[&str]) -> Result<process::Output> {
    let mut command = Command::new("ctr");
    command.args(["--address", &format!("{DIRECTORY}/containerd.sock")]).args(arguments);
    lab.node(NODE)?.netns().enter(|| process::run_any(&mut command, &[]))
}

#[test]
fn a_container_of_a_real_containerd_has_its_network_from_start_to_end() {
    isolation::isolated("a_container_of_a_real_containerd_has_its_network_from_start_to_end", || {
        let lab = Lab::start(one_node(Families::V4, DatastoreKind::Sqlite))?;
        install(&lab)?;
        let mut command = Command::new("containerd");
        command.args(["--config", &format!("{DIRECTORY}/config.toml")]);
        let log = Path::new(DIRECTORY).join("containerd.log");
        let mut containerd = Process::start("containerd", lab.node(NODE)?.netns(), &mut command, &log)?;
        until(Duration::from_secs(20), "containerd answers", || {
            containerd.check_running()?;
            let version = ctr(&lab, &["version"])?;
            if version.code == 0 { Ok(()) } else { bail!("{}", version.stderr) }
        })?;
        let script = "/bin/busybox ip -4 address show eth0 && /bin/busybox ping -c 1 -W 2 10.100.1.1";
        let root = format!("{DIRECTORY}/rootfs");
        let run = ["run", "--rm", "--cni", "--rootfs", &root, "box1", "/bin/busybox", "sh", "-c", script];
        let ran = ctr(&lab, &run)?;
        ensure!(ran.code == 0, "ctr run: {} {}\n{}", ran.stdout, ran.stderr, process::tail(&log, 20));
        ensure!(ran.stdout.contains("inet 10.65.") && ran.stdout.contains("0% packet loss"), "{}", ran.stdout);
        let check = ipam_check(&lab)?;
        ensure!(check["addresses_assigned"] == 0, "the address was not given back: {check}");
        let left = lab.margayctl(&["get", "workloadendpoints", "-A"])?;
        ensure!(!left.contains("box1"), "the endpoint is still there: {left}");
        Ok(())
    });
}

//! Dependencies between packages go one way; see `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each package may depend on, of the workspace's own and of what makes a package impure.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("margay-net", &[]),
    ("margay-api", &["margay-net"]),
    ("margay-bgp-core", &["margay-net"]),
    ("margay-bfd", &["margay-net"]),
    ("margay-felix-core", &["margay-net", "margay-api"]),
    ("margay-ipam-core", &["margay-net", "margay-api"]),
    ("margay-datastore", &["margay-net", "margay-api"]),
    ("margay-netlink", &["margay-net"]),
    ("margay-local-api", &["margay-net"]),
    ("margay-bgp-fuzz", &["margay-net", "margay-bfd", "margay-bgp-core"]),
    ("margay-bgp-speaker", &["margay-net", "margay-bgp-core", "margay-netlink"]),
    ("margay-felix-agent", &["margay-net", "margay-api", "margay-felix-core", "margay-netlink"]),
    ("margay-ipam-client", &["margay-net", "margay-api", "margay-ipam-core", "margay-datastore"]),
    ("margay-cni", &["margay-net", "margay-local-api", "margay-netlink"]),
    (
        "margay-ctl",
        &["margay-net", "margay-api", "margay-local-api", "margay-datastore", "margay-ipam-client", "margay-ipam-core"],
    ),
    (
        "margay-node",
        &[
            "margay-net",
            "margay-api",
            "margay-datastore",
            "margay-netlink",
            "margay-local-api",
            "margay-bfd",
            "margay-bgp-core",
            "margay-bgp-speaker",
            "margay-felix-core",
            "margay-felix-agent",
            "margay-ipam-core",
            "margay-ipam-client",
        ],
    ),
];

/// Packages that may see everything, and that nothing sees but themselves.
const TOPS: [&str; 3] = ["margay-lab", "margay-xtask", "margay-tests"];

const PURE: [&str; 7] = [
    "margay-net",
    "margay-api",
    "margay-bfd",
    "margay-bgp-core",
    "margay-bgp-fuzz",
    "margay-felix-core",
    "margay-ipam-core",
];

/// What would bring IO, an ambient clock or ambient randomness into a pure package.
const IMPURE_CRATES: [&str; 8] = ["tokio", "libc", "nix", "socket2", "rusqlite", "etcd-client", "axum", "tracing"];
const IMPURE_WORDS: [&str; 8] = [
    "Instant::now(",
    "SystemTime::now(",
    "thread_rng(",
    "rand::rng(",
    "std::fs::",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process::",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Each package's folder and its dependencies, those for tests left out.
fn packages() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let mut packages = BTreeMap::new();
    for house in ["bgp", "felix", "ipam", "crates", "."] {
        let house_path = root().join(house);
        for entry in std::fs::read_dir(&house_path).expect("the workspace's folders").flatten() {
            if house == "." && entry.file_name() != "tests" {
                continue;
            }
            let manifest = entry.path().join("Cargo.toml");
            let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
            let (name, dependencies) = read_manifest(&text);
            packages.insert(name, (entry.path(), dependencies));
        }
    }
    packages
}

fn read_manifest(text: &str) -> (String, BTreeSet<String>) {
    let (mut section, mut name, mut dependencies) = (String::new(), String::new(), BTreeSet::new());
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim().split('.').next().unwrap_or_default();
            match section.as_str() {
                "package" if key == "name" => name = value.trim().trim_matches('"').to_owned(),
                "dependencies" => {
                    dependencies.insert(key.to_owned());
                }
                _ => {}
            }
        }
    }
    (name, dependencies)
}

#[test]
fn every_arrow_between_packages_is_one_that_is_allowed() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, (_, dependencies)) in &packages {
        let own = dependencies.iter().filter(|dependency| packages.contains_key(*dependency));
        for dependency in own {
            let top = TOPS.contains(&name.as_str());
            let seen = allowed.get(name.as_str()).is_some_and(|allowed| allowed.contains(&dependency.as_str()));
            let sees_top = TOPS.contains(&dependency.as_str()) && !top;
            if sees_top || !(top || seen) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
        if !TOPS.contains(&name.as_str()) && !allowed.contains_key(name.as_str()) {
            wrong.push(format!("{name} is not in the table of this test"));
        }
    }
    assert!(wrong.is_empty(), "arrows that the plan does not have: {wrong:#?}");
}

#[test]
fn pure_packages_have_no_io_no_clock_and_no_chance() {
    let packages = packages();
    let mut wrong = Vec::new();
    for name in PURE {
        let (path, dependencies) = &packages[name];
        wrong.extend(IMPURE_CRATES.iter().filter(|c| dependencies.contains(**c)).map(|c| format!("{name} uses {c}")));
        for (file, text) in sources(&path.join("src")) {
            for word in IMPURE_WORDS {
                if text.contains(word) {
                    wrong.push(format!("{} has {word}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_lives_in_the_netlink_package_alone() {
    let mut wrong = Vec::new();
    for (name, (path, _)) in packages() {
        if name == "margay-netlink" {
            continue;
        }
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).expect("a manifest");
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{name} does not take the workspace's lints"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            found.push((path, text));
        }
    }
    found
}

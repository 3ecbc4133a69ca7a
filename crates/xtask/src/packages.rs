//! What builds and tests need from the system, and the Debian packages that have it.

/// A Debian package, recognised by a program of it: a name in the search path, or an absolute path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package { name, program }
}

/// For building: SQLite is C, and the etcd client is made from protocol files.
const BUILD: [Package; 3] = [
    package("build-essential", "cc"),
    package("protobuf-compiler", "protoc"),
    package("libprotobuf-dev", "/usr/include/google/protobuf/descriptor.proto"),
];

/// For the lab: routers, cables, probes.
const LAB: [Package; 5] = [
    package("bird2", "bird"),
    package("iproute2", "ip"),
    package("iputils-ping", "ping"),
    package("nftables", "nft"),
    package("tcpdump", "tcpdump"),
];

/// For tests against other people's programs.
const PEERS: [Package; 9] = [
    package("busybox-static", "/bin/busybox"),
    package("containerd", "containerd"),
    package("etcd-client", "etcdctl"),
    package("etcd-server", "etcd"),
    package("exabgp", "/usr/sbin/exabgp"),
    package("frr", "/usr/lib/frr/bgpd"),
    package("gobgpd", "gobgpd"),
    package("openbgpd", "/usr/sbin/bgpd"),
    package("runc", "runc"),
];

/// What the demo needs; `etcd` only on that datastore.
pub(crate) fn of_demo(etcd: bool) -> Vec<Package> {
    let mut packages = [&BUILD[..], &LAB].concat();
    packages.extend(PEERS.iter().filter(|package| etcd && package.name == "etcd-server"));
    packages
}

/// What all tests need.
pub(crate) fn of_verify() -> Vec<Package> {
    [&BUILD[..], &LAB, &PEERS].concat()
}

/// What libFuzzer is built with.
pub(crate) fn of_fuzz_bgp() -> Vec<Package> {
    vec![package("build-essential", "c++")]
}

/// What the benchmark of BGP speakers needs.
pub(crate) fn of_bench_bgp() -> Vec<Package> {
    let mut packages = [&BUILD[..], &LAB].concat();
    packages.extend(PEERS.iter().filter(|package| matches!(package.name, "frr" | "gobgpd" | "openbgpd")));
    packages
}

use super::super::*;
use super::bench::*;

fn pod(addresses: &[&str]) -> Input {
    Input::Endpoint { interface: POD_NAME.into(), endpoint: Some(endpoint(addresses)) }
}

fn no_pod() -> Input {
    Input::Endpoint { interface: POD_NAME.into(), endpoint: None }
}

fn blocks(blocks: &[&str]) -> Input {
    Input::OwnBlocks(blocks.iter().map(|block| cidr(block)).collect())
}

fn borrowed(addresses: &[&str]) -> Input {
    Input::BorrowedAddresses(addresses.iter().map(|addr| cidr(addr)).collect())
}

#[test]
fn blackholes_come_first_then_pods_then_announcements() {
    let mut bench = Bench::new();
    bench.feed([pod(&["10.65.0.1", "fd65::1"]), blocks(&["10.65.0.0/26", "fd65::/122"])]);
    assert_eq!(
        bench.take_log(),
        [
            "add blackhole 10.65.0.0/26",
            "add blackhole fd65::/122",
            "add workload route 10.65.0.1/32",
            "set neighbour 10.65.0.1",
            "add workload route fd65::1/128",
            "set neighbour fd65::1",
            "announce 10.65.0.0/26 Block",
            "announce fd65::/122 Block",
        ]
    );
    assert_eq!(bench.hops("10.65.0.1/32"), [(POD, String::new())]);
    assert_eq!(bench.reconciler.endpoint_state(POD_NAME), Ok(true));
    assert!(bench.reconciler.is_settled());
}

#[test]
fn a_withdrawal_is_told_before_the_route_goes() {
    let mut bench = Bench::new();
    bench.feed([borrowed(&["10.99.0.1/32"]), pod(&["10.99.0.1"]), blocks(&["10.65.0.0/26"])]);
    bench.take_log();
    bench.feed([borrowed(&[]), no_pod(), blocks(&[])]);
    assert_eq!(
        bench.take_log(),
        [
            "withdraw 10.65.0.0/26",
            "withdraw 10.99.0.1/32",
            "delete blackhole 10.65.0.0/26",
            "delete workload route 10.99.0.1/32",
            "delete neighbour 10.99.0.1",
        ]
    );
    assert!(bench.routes.is_empty() && bench.neighbours.is_empty());
}

#[test]
fn what_is_announced_and_why() {
    // Blocks, borrowed addresses, the pod's address, the pod's link is up; what is announced.
    type Case = (&'static [&'static str], &'static [&'static str], &'static str, bool, &'static [&'static str]);
    let block: &[&str] = &["10.65.0.0/26"];
    let borrow: &[&str] = &["10.65.0.64/32"];
    let cases: &[Case] = &[
        (block, &[], "10.65.0.1", true, &["10.65.0.0/26 Block"]),
        (block, &[], "10.65.0.1", false, &["10.65.0.0/26 Block"]),
        (block, borrow, "10.65.0.64", true, &["10.65.0.0/26 Block", "10.65.0.64/32 Workload"]),
        (block, borrow, "10.65.0.64", false, &["10.65.0.0/26 Block"]),
        (block, borrow, "10.65.0.1", true, &["10.65.0.0/26 Block"]),
        (block, &[], "10.65.0.64", true, &["10.65.0.0/26 Block"]),
        (&["10.65.0.1/32"], &[], "10.65.0.1", true, &["10.65.0.1/32 Block"]),
        (&["10.65.0.1/32"], &[], "10.65.0.1", false, &[]),
        (&["10.65.0.2/32"], &[], "10.65.0.1", false, &[]),
        (&["fd65::/122"], &["fd65::40/128"], "fd65::40", true, &["fd65::/122 Block", "fd65::40/128 Workload"]),
    ];
    for (own, lent, addr, up, expected) in cases {
        let mut bench = Bench::new();
        bench.feed([link(POD, POD_NAME, *up, *up), blocks(own), borrowed(lent), pod(&[addr])]);
        let told = bench.reconciler.announced().iter();
        let told: Vec<_> = told.map(|(prefix, source)| format!("{prefix} {source:?}")).collect();
        assert_eq!(told, *expected, "{own:?} {lent:?} {addr} {up}");
    }
}

#[test]
fn a_block_of_one_address_has_no_blackhole() {
    let mut bench = Bench::new();
    bench.feed([blocks(&["10.65.0.1/32"])]);
    assert_eq!(bench.take_log(), [""; 0]);
    bench.feed([pod(&["10.65.0.1"])]);
    assert_eq!(
        bench.take_log(),
        ["add workload route 10.65.0.1/32", "set neighbour 10.65.0.1", "announce 10.65.0.1/32 Block"]
    );
}

#[test]
fn the_nodes_address_on_the_loopback_is_announced() {
    let mut bench = Bench::new();
    bench.feed([address(1, "198.51.100.1", "198.51.100.1/32")]);
    assert_eq!(bench.take_log(), ["link lo running 2", "announce 198.51.100.1/32 Loopback"]);
    let gone = Input::AddressGone { interface: 1, addr: ip("198.51.100.1"), connected: cidr("198.51.100.1/32") };
    bench.feed([gone]);
    assert_eq!(bench.take_log(), ["link lo running 1", "withdraw 198.51.100.1/32"]);
}

#[test]
fn a_pods_route_waits_for_its_link() {
    let mut bench = Bench::new();
    bench.feed([Input::LinkGone { index: POD }, pod(&["10.65.0.1"])]);
    assert_eq!(bench.take_log(), [""; 0]);
    assert_eq!(bench.reconciler.endpoint_state(POD_NAME), Err(format!("interface {POD_NAME} isn't there")));
    bench.feed([link(POD + 1, POD_NAME, false, false)]);
    assert_eq!(bench.reconciler.endpoint_state(POD_NAME), Err(format!("interface {POD_NAME} is down")));
    bench.feed([link(POD + 1, POD_NAME, true, false)]);
    assert_eq!(bench.hops("10.65.0.1/32"), [(POD + 1, String::new())]);
    assert_eq!(bench.reconciler.endpoint_state(POD_NAME), Ok(true));
}

#[test]
fn two_pods_with_one_address_are_told_and_one_has_it() {
    let mut bench = Bench::new();
    let other = "cali9";
    bench.feed([
        pod(&["10.65.0.1"]),
        link(POD + 1, other, true, true),
        Input::Endpoint { interface: other.into(), endpoint: Some(endpoint(&["10.65.0.1"])) },
    ]);
    assert_eq!(bench.hops("10.65.0.1/32"), [(POD, String::new())]);
    assert_eq!(
        bench.reconciler.endpoint_state(other),
        Err(format!("address 10.65.0.1 of interface {other} is also that of {POD_NAME}"))
    );
    bench.feed([no_pod()]);
    assert_eq!(bench.hops("10.65.0.1/32"), [(POD + 1, String::new())]);
    assert_eq!(bench.neighbours.keys().copied().collect::<Vec<_>>(), [(POD + 1, ip("10.65.0.1"))]);
}

#[test]
fn nothing_happens_before_the_datastore_is_in_sync() {
    let left = KernelRoute::blackhole(cidr("10.64.0.0/26"));
    let mut bench = Bench::before_sync(vec![left]);
    bench.log.clear();
    bench.feed([pod(&["10.65.0.1"]), blocks(&["10.65.0.0/26"]), fib(1, &[("10.1.0.0/26", &["192.0.2.2"])], false)]);
    assert_eq!(bench.take_log(), [""; 0]);
    assert!(!bench.reconciler.is_settled());
    bench.feed([Input::InSync]);
    assert_eq!(
        bench.take_log(),
        [
            "add blackhole 10.65.0.0/26",
            "add workload route 10.65.0.1/32",
            "set neighbour 10.65.0.1",
            "announce 10.65.0.0/26 Block",
            "delete blackhole 10.64.0.0/26",
            "add BGP route 10.1.0.0/26",
            "applied 1",
        ]
    );
}

#[test]
fn a_refused_route_is_tried_again_and_not_announced_meanwhile() {
    let mut bench = Bench::new();
    bench.refused.insert(cidr("10.65.0.0/26"));
    bench.feed([blocks(&["10.65.0.0/26"])]);
    assert_eq!(bench.take_log(), [""; 0]);
    assert_eq!(bench.reconciler.failures().collect::<Vec<_>>(), ["add blackhole 10.65.0.0/26: refused"]);
    let pauses: Vec<_> = (0..3).map(|_| bench.retry().as_millis()).collect();
    assert_eq!(pauses, [20, 40, 80]);
    bench.refused.clear();
    bench.retry();
    assert_eq!(bench.take_log(), ["add blackhole 10.65.0.0/26", "announce 10.65.0.0/26 Block"]);
    assert_eq!(bench.reconciler.failures().count(), 0);
    assert_eq!(bench.reconciler.poll_timeout(), None);
}

use margay_net::Family;

use super::*;
use crate::wire::{AsPath, SegmentKind};

const POOL: &str = "10.0.0.0/16";

fn prefix(text: &str) -> Cidr {
    text.parse().expect("a prefix")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn owner(node: &str, peers_from: &str, router_id: Option<&str>, asn: Option<u32>) -> Arc<Owner> {
    Arc::new(Owner {
        node: node.to_owned(),
        addresses: BTreeSet::from([address(peers_from), address(&format!("fd00::{}", &peers_from[8..]))]),
        router_id: router_id.map(|id| id.parse().expect("a router id")),
        asn: asn.map(Asn),
    })
}

/// Two nodes with a block each, the second one with an address borrowed from the first one's block; a third node shares
/// its AS number and has an unknown router id.
fn table() -> Ownership {
    let one = owner("one", "192.0.2.1", Some("1.1.1.1"), Some(65001));
    let two = owner("two", "192.0.2.2", Some("2.2.2.2"), Some(65002));
    let three = owner("three", "192.0.2.3", None, None);
    let owned = [
        ("10.0.1.0/26", &one),
        ("10.0.1.7/32", &two),
        ("10.0.2.0/26", &two),
        ("10.0.3.0/26", &three),
        ("fd01::/122", &one),
        ("192.0.2.1/32", &one),
        ("192.0.2.2/32", &two),
    ];
    Ownership {
        pools: [POOL, "fd01::/64", "10.99.0.0/26"].map(prefix).into(),
        owned: owned
            .into_iter()
            .map(|(cidr, owner)| (prefix(cidr), owner.clone()))
            .chain([(prefix("10.99.0.0/26"), one.clone())])
            .collect(),
    }
}

fn guard() -> Guard {
    let mut guard = Guard::default();
    assert!(!guard.replace(table().into()).is_empty());
    guard
}

fn path(asns: &[u32]) -> Attributes {
    Attributes { as_path: AsPath::sequence(asns.iter().copied().map(Asn)), ..Attributes::default() }
}

fn judge(check: OwnershipCheck, peer: &str, cidr: &str, attributes: &Attributes) -> Result<(), RejectReason> {
    guard().judge(Announcer { check, address: address(peer) }, prefix(cidr), attributes)
}

#[test]
fn a_node_announces_what_is_its_own_and_nothing_else_of_the_pools() {
    let table = [
        ("10.0.1.0/26", "192.0.2.1", Ok(())),
        ("10.0.1.8/32", "192.0.2.1", Ok(())), // in its own block
        ("10.0.1.7/32", "192.0.2.1", Err(RejectReason::NotOwner)), // lent to two
        ("10.0.1.7/32", "192.0.2.2", Ok(())),
        ("10.0.1.8/32", "192.0.2.2", Err(RejectReason::NotOwner)),
        ("10.0.1.0/26", "192.0.2.2", Err(RejectReason::NotOwner)),
        ("10.0.1.0/27", "192.0.2.2", Err(RejectReason::NotOwner)),
        ("10.0.1.0/26", "192.0.2.9", Err(RejectReason::NotOwner)), // a stranger
        ("10.0.1.0/26", "fd00::1", Ok(())),
        ("fd01::/122", "fd00::1", Ok(())),
        ("fd01::/122", "fd00::2", Err(RejectReason::NotOwner)),
        ("10.0.4.0/26", "192.0.2.1", Err(RejectReason::NotAllocated)),
        ("10.0.0.0/23", "192.0.2.1", Err(RejectReason::NotAllocated)), // covers its block
        (POOL, "192.0.2.1", Err(RejectReason::NotAllocated)),
        ("10.99.0.0/26", "192.0.2.1", Ok(())), // a block as large as its pool
        ("10.0.0.0/15", "192.0.2.1", Err(RejectReason::CoversPool)),
        ("0.0.0.0/0", "192.0.2.1", Err(RejectReason::CoversPool)),
        ("::/0", "192.0.2.1", Err(RejectReason::CoversPool)),
        ("172.16.0.0/12", "192.0.2.1", Ok(())), // not guarded
        ("192.0.2.1/32", "192.0.2.1", Ok(())),
        ("192.0.2.1/32", "192.0.2.2", Err(RejectReason::NotOwner)),
        ("192.0.2.0/31", "192.0.2.1", Ok(())), // covers its own address alone
        ("192.0.2.0/30", "192.0.2.1", Err(RejectReason::NotOwner)),
        ("192.0.2.3/32", "192.0.2.1", Ok(())), // nobody's address, as far as the table says
    ];
    for (cidr, peer, expected) in table {
        assert_eq!(judge(OwnershipCheck::Node, peer, cidr, &path(&[])), expected, "{cidr} from {peer}");
    }
}

#[test]
fn a_node_that_plays_the_reflector_is_refused_whatever_it_names() {
    for originator in ["1.1.1.1", "2.2.2.2"] {
        let attributes = Attributes { originator_id: originator.parse().ok(), ..path(&[]) };
        for cidr in ["10.0.1.0/26", "172.16.0.0/12", "0.0.0.0/0"] {
            let judged = judge(OwnershipCheck::Node, "192.0.2.1", cidr, &attributes);
            assert_eq!(judged, Err(RejectReason::ForgedOriginator), "{cidr}");
        }
    }
}

#[test]
fn a_reflector_passes_on_what_belongs_to_the_originator_or_itself() {
    let from = |originator: Option<&str>| Attributes {
        originator_id: originator.map(|id| id.parse().expect("a router id")),
        ..path(&[])
    };
    let table = [
        ("10.0.1.0/26", Some("1.1.1.1"), Ok(())),
        ("10.0.1.9/32", Some("1.1.1.1"), Ok(())),
        ("10.0.1.7/32", Some("2.2.2.2"), Ok(())),
        ("10.0.1.7/32", Some("1.1.1.1"), Err(RejectReason::NotOwner)),
        ("10.0.1.0/26", Some("2.2.2.2"), Err(RejectReason::NotOwner)),
        ("10.0.1.0/26", None, Err(RejectReason::NotOwner)),
        ("10.0.2.0/26", None, Ok(())), // the reflector's own block
        ("10.0.2.0/26", Some("2.2.2.2"), Ok(())),
        ("10.0.3.0/26", Some("3.3.3.3"), Err(RejectReason::NotOwner)), // nobody knows whose id it is
        (POOL, Some("1.1.1.1"), Err(RejectReason::NotAllocated)),
        ("0.0.0.0/0", Some("1.1.1.1"), Err(RejectReason::CoversPool)),
        ("172.16.0.0/12", Some("1.1.1.1"), Ok(())),
        ("192.0.2.1/32", Some("1.1.1.1"), Ok(())),
        ("192.0.2.1/32", Some("2.2.2.2"), Err(RejectReason::NotOwner)),
        ("192.0.2.2/32", None, Ok(())), // the reflector's own
    ];
    for (cidr, originator, expected) in table {
        let judged = judge(OwnershipCheck::Reflector, "192.0.2.2", cidr, &from(originator));
        assert_eq!(judged, expected, "{cidr} of {originator:?}");
    }
}

#[test]
fn a_router_passes_on_what_is_allocated_exactly_so_and_comes_from_the_owners_as() {
    let mut aggregate = path(&[64512]);
    aggregate.as_path.push(SegmentKind::Set, &[Asn(65001)]);
    let table = [
        ("10.0.1.0/26", path(&[64512, 65001]), Ok(())),
        ("10.0.1.7/32", path(&[64512, 65002]), Ok(())),
        ("10.0.1.7/32", path(&[64512, 65001]), Err(RejectReason::WrongOriginAs)),
        ("10.0.1.8/32", path(&[64512, 65001]), Err(RejectReason::NotAllocated)),
        ("10.0.1.0/27", path(&[64512, 65001]), Err(RejectReason::NotAllocated)),
        ("10.0.1.0/26", path(&[64512, 65002]), Err(RejectReason::WrongOriginAs)),
        ("10.0.1.0/26", path(&[64512]), Err(RejectReason::WrongOriginAs)),
        ("10.0.1.0/26", aggregate, Err(RejectReason::WrongOriginAs)),
        ("10.0.3.0/26", path(&[64512, 65009]), Ok(())), // an AS number that several nodes have
        ("10.0.4.0/26", path(&[64512, 65001]), Err(RejectReason::NotAllocated)),
        (POOL, path(&[64512]), Err(RejectReason::NotAllocated)),
        ("10.0.0.0/15", path(&[64512]), Ok(())),
        ("0.0.0.0/0", path(&[64512]), Ok(())),
        ("::/0", path(&[64512]), Ok(())),
        ("172.16.0.0/12", path(&[64512]), Ok(())),
        ("192.0.2.1/32", path(&[64512]), Ok(())), // a router may know the way to a node itself
    ];
    for (cidr, attributes, expected) in table {
        let judged = judge(OwnershipCheck::External, "198.51.100.1", cidr, &attributes);
        assert_eq!(judged, expected, "{cidr} by {:?}", attributes.as_path);
    }
}

#[test]
fn without_a_check_everything_passes() {
    for cidr in ["10.0.1.0/26", "0.0.0.0/0", POOL] {
        assert_eq!(judge(OwnershipCheck::Off, "192.0.2.9", cidr, &path(&[])), Ok(()));
    }
}

#[test]
fn the_words_name_the_owner_and_who_announced() {
    let guard = guard();
    let words = |check, peer: &str, cidr: &str, attributes: &Attributes| {
        let announcer = Announcer { check, address: address(peer) };
        let reason = guard.judge(announcer, prefix(cidr), attributes).expect_err("a reason");
        guard.words(reason, announcer, prefix(cidr), attributes).expect("words")
    };
    let node = OwnershipCheck::Node;
    assert_eq!(
        words(node, "192.0.2.2", "10.0.1.9/32", &path(&[])),
        "10.0.1.9/32 lies in 10.0.1.0/26, which belongs to node one, and it comes from 192.0.2.2, node two"
    );
    assert_eq!(
        words(node, "192.0.2.9", "10.0.1.0/26", &path(&[])),
        "10.0.1.0/26 belongs to node one, and it comes from 192.0.2.9"
    );
    assert_eq!(
        words(node, "192.0.2.2", "192.0.2.1/32", &path(&[])),
        "192.0.2.1/32 is the address of node one, and it comes from 192.0.2.2, node two"
    );
    assert_eq!(
        words(node, "192.0.2.1", "192.0.2.0/24", &path(&[])),
        "192.0.2.0/24 covers 192.0.2.2, the address of node two, and it comes from 192.0.2.1, node one"
    );
    let forged = Attributes { originator_id: "2.2.2.2".parse().ok(), ..path(&[]) };
    assert_eq!(
        words(OwnershipCheck::Reflector, "192.0.2.2", "10.0.1.0/26", &forged),
        "10.0.1.0/26 belongs to node one, and it comes from ORIGINATOR_ID 2.2.2.2, node two"
    );
    assert_eq!(
        words(node, "192.0.2.1", "10.0.1.0/26", &forged),
        "ORIGINATOR_ID 2.2.2.2 from 192.0.2.1, which is a node and no reflector"
    );
    assert_eq!(
        words(node, "192.0.2.1", POOL, &path(&[])),
        "10.0.0.0/16 in pool 10.0.0.0/16 is neither a block nor a borrowed address of any node"
    );
    assert_eq!(
        words(node, "192.0.2.1", "0.0.0.0/0", &path(&[])),
        "0.0.0.0/0 covers pool 10.0.0.0/16, which only routers outside the cluster may announce"
    );
    assert_eq!(
        words(OwnershipCheck::External, "198.51.100.1", "10.0.1.0/26", &path(&[64512, 65002])),
        "10.0.1.0/26 belongs to node one of AS 65001, and originates in AS 65002"
    );
}

#[test]
fn a_new_table_affects_what_lies_under_the_differences() {
    let mut guard = guard();
    let affected = |guard: &mut Guard, change: &dyn Fn(&mut Ownership)| {
        let mut next = Ownership::clone(&guard.table);
        change(&mut next);
        let affected = guard.replace(next.into());
        let all =
            ["10.0.1.0/26", "10.0.1.7/32", "10.0.1.8/32", "10.0.2.0/26", "10.0.5.0/26", "0.0.0.0/0", "11.0.0.0/8"];
        all.into_iter().filter(|cidr| affected.contains(prefix(cidr))).collect::<Vec<_>>()
    };
    assert!(affected(&mut guard, &|_| {}).is_empty());
    // The same owner, told anew.
    let again = owner("two", "192.0.2.2", Some("2.2.2.2"), Some(65002));
    assert!(affected(&mut guard, &|table| drop(table.owned.insert(prefix("10.0.2.0/26"), again.clone()))).is_empty());
    let moved = owner("three", "192.0.2.3", None, None);
    let after = affected(&mut guard, &|table| drop(table.owned.insert(prefix("10.0.1.0/26"), moved.clone())));
    assert_eq!(after, ["10.0.1.0/26", "10.0.1.7/32", "10.0.1.8/32"]);
    let judged = guard.judge(
        Announcer { check: OwnershipCheck::Node, address: address("192.0.2.3") },
        prefix("10.0.1.0/26"),
        &path(&[]),
    );
    assert_eq!(judged, Ok(()));
    let after = affected(&mut guard, &|table| drop(table.owned.remove(&prefix("10.0.1.7/32"))));
    assert_eq!(after, ["10.0.1.7/32"]);
    let after = affected(&mut guard, &|table| drop(table.owned.insert(prefix("10.0.5.0/26"), moved.clone())));
    assert_eq!(after, ["10.0.5.0/26"]);
    // A node's own address concerns what covers it, too.
    let after = affected(&mut guard, &|table| drop(table.owned.insert(prefix("11.0.0.1/32"), moved.clone())));
    assert_eq!(after, ["0.0.0.0/0", "11.0.0.0/8"]);
    let after = affected(&mut guard, &|table| assert!(table.pools.remove(&prefix(POOL))));
    assert_eq!(after.len(), 6, "all of the pool and what covers it: {after:?}");
    assert_eq!(guard.pools.iter().filter(|(pool, ())| pool.family() == Family::V4).count(), 1);
}

#[test]
fn a_table_of_sixty_thousand_blocks_is_taken_by_difference() {
    let owners: Vec<_> = (0..10_000u32)
        .map(|node| {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 + node));
            let addresses = BTreeSet::from([address]);
            Arc::new(Owner { node: format!("node-{node}"), addresses, router_id: None, asn: None })
        })
        .collect();
    let block = |at: u32| Cidr::new(Ipv4Addr::from_bits(0x0a00_0000 + (at << 6)).into(), 26).expect("canonical");
    let owned = (0..60_000).map(|at| (block(at), owners[at as usize % owners.len()].clone())).collect();
    let mut table = Ownership { pools: [prefix("10.0.0.0/8")].into(), owned };
    let mut guard = Guard::default();
    guard.replace(table.clone().into());
    table.owned.insert(block(5), owners[9].clone());
    table.owned.remove(&block(59_999));
    table.owned.insert(block(60_000), owners[0].clone());
    let affected = guard.replace(table.into());
    let concerned: Vec<u32> = (0..60_001).filter(|&at| affected.contains(block(at))).collect();
    assert_eq!(concerned, [5, 59_999, 60_000]);
    let by = |node: usize, at| {
        let address = *owners[node].addresses.first().expect("an address");
        guard.judge(Announcer { check: OwnershipCheck::Node, address }, block(at), &Attributes::default())
    };
    assert_eq!((by(9, 5), by(5, 5)), (Ok(()), Err(RejectReason::NotOwner)));
    assert_eq!((by(5, 10_005), by(0, 60_000), by(9_999, 59_999)), (Ok(()), Ok(()), Err(RejectReason::NotAllocated)));
}

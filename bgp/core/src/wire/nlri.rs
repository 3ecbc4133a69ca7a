//! Prefixes as a length in bits and as many octets as it needs (RFC 4271 section 4.3), with a path identifier before it
//! where ADD-PATH is in use (RFC 7911 section 3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::{Cidr, Family};

/// A route to be put in an UPDATE: its prefix and, where the session has ADD-PATH for the family, which of the prefix's
/// paths it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    pub prefix: Cidr,
    pub path_id: Option<u32>,
}

impl From<Cidr> for Nlri {
    fn from(prefix: Cidr) -> Nlri {
        Nlri { prefix, path_id: None }
    }
}

/// What a field of prefixes holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Routes {
    pub(super) prefixes: Vec<Cidr>,
    /// One for each prefix with ADD-PATH, none without.
    pub(super) path_ids: Vec<u32>,
}

impl Routes {
    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }
}

const PATH_ID: usize = 4;

/// The most octets of a prefix of the family, its length included.
pub(super) fn max_octets(family: Family, with_path_id: bool) -> usize {
    1 + usize::from(family.bits() / 8) + if with_path_id { PATH_ID } else { 0 }
}

/// Reads prefixes up to the end of `bytes`, each behind its path identifier with `add_path`; `None` where a length is
/// beyond the family's or the octets end early. Bits beyond the length are irrelevant and cleared.
pub(super) fn read(family: Family, bytes: &[u8], add_path: bool) -> Option<Routes> {
    match family {
        Family::V4 => read_as(family, bytes, add_path, |octets| IpAddr::V4(Ipv4Addr::from(octets))),
        Family::V6 => read_as(family, bytes, add_path, |octets| IpAddr::V6(Ipv6Addr::from(octets))),
    }
}

fn read_as<const N: usize>(
    family: Family,
    bytes: &[u8],
    add_path: bool,
    address: impl Fn([u8; N]) -> IpAddr,
) -> Option<Routes> {
    let count = count(family, bytes, add_path)?;
    let mut prefixes = Vec::with_capacity(count);
    let mut path_ids = Vec::with_capacity(if add_path { count } else { 0 });
    let mut rest = bytes;
    while !rest.is_empty() {
        if add_path {
            let (&path_id, after) = rest.split_first_chunk::<PATH_ID>()?;
            path_ids.push(u32::from_be_bytes(path_id));
            rest = after;
        }
        let (&len, after) = rest.split_first()?;
        // What follows the prefix is masked away, so that only the last prefixes are copied octet by octet.
        let octets = match after.first_chunk::<N>() {
            Some(&octets) => octets,
            None => padded(after)?,
        };
        prefixes.push(Cidr::truncated(address(octets), len).ok()?);
        rest = after.get(self::octets(len)..)?;
    }
    Some(Routes { prefixes, path_ids })
}

fn padded<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut padded = [0; N];
    padded.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(padded)
}

/// Counts the prefixes and checks that they are well-formed, so that the vector is allocated once.
fn count(family: Family, bytes: &[u8], add_path: bool) -> Option<usize> {
    let mut rest = bytes;
    let mut count = 0;
    while !rest.is_empty() {
        let (&len, after) = rest.get(if add_path { PATH_ID } else { 0 }..)?.split_first()?;
        if len > family.bits() {
            return None;
        }
        rest = after.get(octets(len)..)?;
        count += 1;
    }
    Some(count)
}

fn octets(len: u8) -> usize {
    usize::from(len.div_ceil(8))
}

/// Appends a prefix behind its path identifier, where it has one.
pub(super) fn write(buf: &mut Vec<u8>, nlri: Nlri) {
    let Nlri { prefix, path_id } = nlri;
    if let Some(path_id) = path_id {
        buf.extend_from_slice(&path_id.to_be_bytes());
    }
    let octets = octets(prefix.len());
    buf.push(prefix.len());
    match prefix.addr() {
        IpAddr::V4(addr) => buf.extend_from_slice(&addr.octets()[..octets]),
        IpAddr::V6(addr) => buf.extend_from_slice(&addr.octets()[..octets]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a prefix")
    }

    #[test]
    fn a_prefix_has_as_many_octets_as_its_length_needs() {
        let prefixes = ["0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/8", "10.128.0.0/9", "10.1.2.3/32"].map(cidr);
        let mut buf = Vec::new();
        prefixes.iter().for_each(|&prefix| write(&mut buf, prefix.into()));
        assert_eq!(buf, [0, 1, 128, 8, 10, 9, 10, 128, 32, 10, 1, 2, 3]);
        assert_eq!(prefixes_of(Family::V4, &buf), Some(prefixes.to_vec()));
    }

    #[test]
    fn a_path_identifier_goes_before_each_prefix() {
        let mut buf = Vec::new();
        for (prefix, path_id) in [("10.0.0.0/8", 1), ("10.0.0.0/8", 2), ("0.0.0.0/0", u32::MAX)] {
            write(&mut buf, Nlri { prefix: cidr(prefix), path_id: Some(path_id) });
        }
        assert_eq!(buf, [0, 0, 0, 1, 8, 10, 0, 0, 0, 2, 8, 10, 255, 255, 255, 255, 0]);
        let routes = read(Family::V4, &buf, true).expect("well-formed");
        assert_eq!(routes.prefixes, ["10.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0"].map(cidr));
        assert_eq!(routes.path_ids, [1, 2, u32::MAX]);
    }

    #[test]
    fn a_path_identifier_that_is_cut_or_has_no_prefix_is_refused() {
        for bytes in [&[0][..], &[0, 0, 0], &[0, 0, 0, 1], &[0, 0, 0, 1, 8], &[0, 0, 0, 1, 33, 1, 2, 3, 4, 5]] {
            assert_eq!(read(Family::V4, bytes, true), None, "{bytes:?}");
        }
        assert_eq!(read(Family::V4, &[], true), Some(Routes::default()));
    }

    fn prefixes_of(family: Family, bytes: &[u8]) -> Option<Vec<Cidr>> {
        read(family, bytes, false).map(|routes| routes.prefixes)
    }

    #[test]
    fn bits_beyond_the_length_are_cleared() {
        assert_eq!(prefixes_of(Family::V4, &[9, 10, 0xff]), Some(vec![cidr("10.128.0.0/9")]));
        assert_eq!(prefixes_of(Family::V6, &[3, 0xff]), Some(vec![cidr("e000::/3")]));
    }

    #[test]
    fn a_length_beyond_the_family_or_the_octets_is_refused() {
        assert_eq!(prefixes_of(Family::V4, &[33, 1, 2, 3, 4, 5]), None);
        assert_eq!(prefixes_of(Family::V6, &[129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(prefixes_of(Family::V4, &[24, 1, 2]), None);
        assert_eq!(prefixes_of(Family::V4, &[255]), None);
    }
}

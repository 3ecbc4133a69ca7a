//! Prefixes as a length in bits and as many octets as it needs (RFC 4271 section 4.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::{Cidr, Family};

/// The most octets of a prefix of the family, its length included.
pub(super) fn max_octets(family: Family) -> usize {
    1 + usize::from(family.bits() / 8)
}

/// Reads prefixes up to the end of `bytes`; `None` where a length is beyond the family's or the octets end early. Bits
/// beyond the length are irrelevant and cleared.
pub(super) fn read(family: Family, bytes: &[u8]) -> Option<Vec<Cidr>> {
    match family {
        Family::V4 => read_as(family, bytes, |octets| IpAddr::V4(Ipv4Addr::from(octets))),
        Family::V6 => read_as(family, bytes, |octets| IpAddr::V6(Ipv6Addr::from(octets))),
    }
}

fn read_as<const N: usize>(family: Family, bytes: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Option<Vec<Cidr>> {
    let mut prefixes = Vec::with_capacity(count(family, bytes)?);
    let mut rest = bytes;
    while let Some((&len, after)) = rest.split_first() {
        // What follows the prefix is masked away, so that only the last prefixes are copied octet by octet.
        let octets = match after.first_chunk::<N>() {
            Some(&octets) => octets,
            None => padded(after)?,
        };
        prefixes.push(Cidr::truncated(address(octets), len).ok()?);
        rest = after.get(self::octets(len)..)?;
    }
    Some(prefixes)
}

fn padded<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut padded = [0; N];
    padded.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(padded)
}

/// Counts the prefixes and checks that they are well-formed, so that the vector is allocated once.
fn count(family: Family, bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let mut count = 0;
    while let Some((&len, after)) = rest.split_first() {
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

/// Appends a prefix.
pub(super) fn write(buf: &mut Vec<u8>, prefix: Cidr) {
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
        prefixes.iter().for_each(|&prefix| write(&mut buf, prefix));
        assert_eq!(buf, [0, 1, 128, 8, 10, 9, 10, 128, 32, 10, 1, 2, 3]);
        assert_eq!(read(Family::V4, &buf), Some(prefixes.to_vec()));
    }

    #[test]
    fn bits_beyond_the_length_are_cleared() {
        assert_eq!(read(Family::V4, &[9, 10, 0xff]), Some(vec![cidr("10.128.0.0/9")]));
        assert_eq!(read(Family::V6, &[3, 0xff]), Some(vec![cidr("e000::/3")]));
    }

    #[test]
    fn a_length_beyond_the_family_or_the_octets_is_refused() {
        assert_eq!(read(Family::V4, &[33, 1, 2, 3, 4, 5]), None);
        assert_eq!(read(Family::V6, &[129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(read(Family::V4, &[24, 1, 2]), None);
        assert_eq!(read(Family::V4, &[255]), None);
    }
}

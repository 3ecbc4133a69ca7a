use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a field of a set's key, or a map's data, means. The kernel only needs its length; `nft` prints elements by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datatype {
    /// An IPv4 address, network order.
    Ipv4Addr,
    /// An IPv6 address, network order.
    Ipv6Addr,
    /// An IP protocol number, one byte.
    InetProto,
    /// A port, network order.
    InetService,
    /// A packet mark, host order.
    Mark,
    /// A queueing class as `meta priority` holds it, host order; `nft` prints it as major:minor in hexadecimal.
    ClassId,
    /// An interface name, 16 bytes, zero-filled.
    Ifname,
    /// Another type, by number and length in bytes.
    Other { number: u32, len: u32 },
}

impl Datatype {
    /// Length in bytes, without the padding that a field of a concatenation has.
    pub fn len(self) -> u32 {
        match self {
            Datatype::Ipv4Addr | Datatype::Mark | Datatype::ClassId => 4,
            Datatype::Ipv6Addr | Datatype::Ifname => 16,
            Datatype::InetProto => 1,
            Datatype::InetService => 2,
            Datatype::Other { len, .. } => len,
        }
    }

    /// Tells whether the type has no bytes, as only [`Datatype::Other`] can.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The order of its bytes as `nft` numbers it: 1 for this machine's, 2 for the network's.
    pub(crate) fn byte_order(self) -> u32 {
        match self {
            Datatype::Mark | Datatype::ClassId | Datatype::Ifname => 1,
            _ => 2,
        }
    }

    /// The number that `nft` knows the type by.
    pub fn number(self) -> u32 {
        match self {
            Datatype::Ipv4Addr => 7,
            Datatype::Ipv6Addr => 8,
            Datatype::InetProto => 12,
            Datatype::InetService => 13,
            Datatype::Mark => 19,
            Datatype::ClassId => 23,
            Datatype::Ifname => 41,
            Datatype::Other { number, .. } => number,
        }
    }
}

/// Length of a key of these fields: a concatenation pads each to four bytes, a single field stays as it is.
pub(crate) fn key_len(fields: &[Datatype]) -> u32 {
    match fields {
        [one] => one.len(),
        _ => fields.iter().map(|f| f.len().next_multiple_of(4)).sum(),
    }
}

/// The type number of a concatenation: six bits for each field, the first field highest.
pub(crate) fn concat_type(fields: &[Datatype]) -> u32 {
    fields.iter().fold(0, |number, field| (number << 6) | (field.number() & 0x3f))
}

/// The user data by which `nft` knows the byte order of a set's key and of a map's data; zero for concatenations, whose
/// fields have their own.
pub(crate) fn byte_orders(key: &[Datatype], data: Option<&[Datatype]>) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, fields) in [(0, Some(key)), (1, data)] {
        let Some(fields) = fields else { continue };
        let order = if let [field] = fields { field.byte_order() } else { 0 };
        out.extend_from_slice(&[kind, 4]);
        out.extend_from_slice(&order.to_ne_bytes());
    }
    out
}

/// Builds the key of an element, or the data of a map, field by field.
///
/// A key of one field has no padding; each field of a concatenation is padded to four bytes: start with
/// [`Key::single`] or [`Key::concat`] accordingly.
#[derive(Debug, Clone, Default)]
pub struct Key {
    bytes: Vec<u8>,
    padded: bool,
}

impl Key {
    /// Starts a key of exactly one field.
    pub fn single() -> Key {
        Key::default()
    }

    /// Starts a key of several fields.
    pub fn concat() -> Key {
        Key { bytes: Vec::with_capacity(32), padded: true }
    }

    /// Appends an interface name; what exceeds the kernel's 15 bytes is cut.
    pub fn ifname(self, name: &str) -> Key {
        let mut field = [0; 16];
        let len = name.len().min(15);
        field[..len].copy_from_slice(&name.as_bytes()[..len]);
        self.raw(&field)
    }

    pub fn addr(self, addr: IpAddr) -> Key {
        match addr {
            IpAddr::V4(addr) => self.ipv4(addr),
            IpAddr::V6(addr) => self.ipv6(addr),
        }
    }

    pub fn ipv4(self, addr: Ipv4Addr) -> Key {
        self.raw(&addr.octets())
    }

    pub fn ipv6(self, addr: Ipv6Addr) -> Key {
        self.raw(&addr.octets())
    }

    /// Appends a number in host order: [`Datatype::Mark`] or [`Datatype::ClassId`].
    pub fn u32(self, value: u32) -> Key {
        self.raw(&value.to_ne_bytes())
    }

    /// Appends a number in network order, as a host-order type must be in an interval set: ranges are compared byte by
    /// byte. The rule swaps the loaded value with [`Expr::Byteorder`](super::Expr::Byteorder).
    pub fn u32_be(self, value: u32) -> Key {
        self.raw(&value.to_be_bytes())
    }

    /// Appends an IP protocol number.
    pub fn proto(self, value: u8) -> Key {
        self.raw(&[value])
    }

    /// Appends a port.
    pub fn port(self, value: u16) -> Key {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a field's bytes as they are.
    pub fn raw(mut self, field: &[u8]) -> Key {
        self.bytes.extend_from_slice(field);
        while self.padded && !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        self
    }

    /// The finished key.
    pub fn build(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_concatenation_are_padded_and_a_single_field_is_not() {
        assert_eq!(Key::single().port(80).build(), [0, 80]);
        assert_eq!(Key::concat().proto(6).port(80).build(), [6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(key_len(&[Datatype::InetService]), 2);
        assert_eq!(key_len(&[Datatype::InetProto, Datatype::InetService]), 8);
    }

    #[test]
    fn the_type_of_a_concatenation_has_six_bits_a_field() {
        assert_eq!(concat_type(&[Datatype::Ifname, Datatype::Ipv4Addr]), (41 << 6) | 7);
    }
}

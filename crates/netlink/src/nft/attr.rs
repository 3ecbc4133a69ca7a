//! Attributes of nf_tables messages: 16-bit length and type, padded to four bytes, integers big-endian.

use super::uapi::NLA_F_NESTED;
use crate::message::Attrs;

/// The most bytes that one attribute can hold, header included.
pub(crate) const ATTRIBUTE_MAX: usize = u16::MAX as usize;

/// Appends attributes to a buffer.
pub(crate) trait PutAttr {
    fn put_bytes(&mut self, kind: u16, value: &[u8]);
    fn put_u32(&mut self, kind: u16, value: u32);
    fn put_u64(&mut self, kind: u16, value: u64);
    /// Appends a string with its terminating zero.
    fn put_str(&mut self, kind: u16, value: &str);
    /// Appends an attribute that holds what `fill` appends. What is filled in must stay below [`ATTRIBUTE_MAX`].
    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>));
}

impl PutAttr for Vec<u8> {
    fn put_bytes(&mut self, kind: u16, value: &[u8]) {
        debug_assert!(value.len() + 4 <= ATTRIBUTE_MAX);
        self.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.extend_from_slice(&kind.to_ne_bytes());
        self.extend_from_slice(value);
        pad(self);
    }

    fn put_u32(&mut self, kind: u16, value: u32) {
        self.put_bytes(kind, &value.to_be_bytes());
    }

    fn put_u64(&mut self, kind: u16, value: u64) {
        self.put_bytes(kind, &value.to_be_bytes());
    }

    fn put_str(&mut self, kind: u16, value: &str) {
        self.extend_from_slice(&((value.len() + 5) as u16).to_ne_bytes());
        self.extend_from_slice(&kind.to_ne_bytes());
        self.extend_from_slice(value.as_bytes());
        self.push(0);
        pad(self);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.len();
        self.extend_from_slice(&[0; 4]);
        fill(self);
        let len = self.len() - start;
        debug_assert!(len <= ATTRIBUTE_MAX);
        self[start..start + 2].copy_from_slice(&(len as u16).to_ne_bytes());
        self[start + 2..start + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
    }
}

fn pad(buffer: &mut Vec<u8>) {
    while !buffer.len().is_multiple_of(4) {
        buffer.push(0);
    }
}

/// Reads the big-endian integers of nf_tables.
pub(crate) trait ReadAttr {
    fn be32(self, kind: u16) -> Option<u32>;
    fn be64(self, kind: u16) -> Option<u64>;
}

impl ReadAttr for Attrs<'_> {
    fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }
}

/// Appends one entry of a user-data list (8-bit type, 8-bit length), the format in which `nft` keeps comments.
pub(crate) fn put_comment(buffer: &mut Vec<u8>, kind: u8, comment: &str) {
    let bytes = &comment.as_bytes()[..comment.len().min(254)];
    buffer.push(kind);
    buffer.push(bytes.len() as u8 + 1);
    buffer.extend_from_slice(bytes);
    buffer.push(0);
}

/// Finds the comment of this type in a user-data list.
pub(crate) fn find_comment(mut data: &[u8], kind: u8) -> Option<String> {
    while let [entry, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *entry == kind {
            return Some(String::from_utf8_lossy(value.split(|b| *b == 0).next()?).into_owned());
        }
        data = rest.get(usize::from(*len)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let mut buffer = Vec::new();
        buffer.put_str(1, "abc");
        buffer.nest(2, |b| {
            b.put_u32(1, 7);
            b.put_bytes(2, &[9]);
        });
        buffer.put_u64(3, 8);
        assert_eq!(buffer.len(), 8 + 4 + 8 + 8 + 12);
        let attrs = Attrs(&buffer);
        assert_eq!(attrs.string(1).as_deref(), Some("abc"));
        assert_eq!(attrs.nested(2).and_then(|n| n.be32(1)), Some(7));
        assert_eq!(attrs.nested(2).and_then(|n| n.find(2)), Some(&[9][..]));
        assert_eq!(attrs.be64(3), Some(8));
    }

    #[test]
    fn a_comment_is_found_after_other_user_data() {
        let mut data = vec![9, 2, 1, 1];
        put_comment(&mut data, 0, "why");
        assert_eq!(find_comment(&data, 0).as_deref(), Some("why"));
        assert_eq!(find_comment(&data, 5), None);
        assert_eq!(find_comment(&[0, 9, 1], 0), None);
    }
}

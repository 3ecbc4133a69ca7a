//! Messages and attributes (`linux/netlink.h`): a header of 16 bytes, a fixed part that depends on the type, then
//! attributes of 16-bit length and type, each padded to four bytes.

use crate::KernelError;

pub(crate) const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The type without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;
const NLA_F_NESTED: u16 = 1 << 15;
/// `NLM_F_CAPPED`: the acknowledgement holds the request's header alone.
const NLM_F_CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow in the acknowledgement.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// One or more requests in a row, to be sent at once.
///
/// Sequence numbers are given by the socket. Integers are in host byte order but where the name says otherwise.
#[derive(Debug, Default, Clone)]
pub struct MessageBuilder {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl MessageBuilder {
    /// Starts without messages.
    pub fn new() -> MessageBuilder {
        MessageBuilder::default()
    }

    /// Begins a message of a type with flags (`NLM_F_REQUEST` is added) and its fixed part.
    pub fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Self {
        self.seal();
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.raw(fixed)
    }

    /// Appends bytes and pads them to four.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an attribute.
    ///
    /// # Panics
    ///
    /// If the value has more than 65,531 bytes, which no attribute used here comes near.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + ATTRIBUTE_HEADER_LEN).expect("an attribute is shorter than 64 KiB");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// Appends an attribute of one byte.
    pub fn attr_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    /// Appends a number in host byte order.
    pub fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order.
    pub fn attr_u32_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a string with its terminating zero.
    pub fn attr_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends an attribute that holds what `fill` appends, marked `NLA_F_NESTED`.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.hold(kind | NLA_F_NESTED, fill)
    }

    /// Appends an attribute that holds what `fill` appends, without the mark: for structures that aren't attributes.
    pub fn hold(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.attr(kind, &[]);
        fill(self);
        self.patch_len(start);
        self
    }

    /// Appends a structure whose first field is its own length in 16 bits, followed by what `fill` appends
    /// (`struct rtnexthop`). `fixed` includes the two bytes of the length.
    pub(crate) fn sized(&mut self, fixed: &[u8], fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.raw(fixed);
        fill(self);
        self.patch_len(start);
        self
    }

    /// The number of messages.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Tells whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Forgets the messages and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Numbers the messages from `first`, asks for an acknowledgement of the last if `acknowledge`, and returns the bytes.
    pub(crate) fn finish(&mut self, first: u32, acknowledge: bool) -> &[u8] {
        self.seal();
        for (sequence, start) in (0u32..).zip(&self.starts) {
            let number = first.wrapping_add(sequence);
            self.bytes[start + 8..start + 12].copy_from_slice(&number.to_ne_bytes());
        }
        if acknowledge && let Some(&start) = self.starts.last() {
            let flags = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]) | libc::NLM_F_ACK as u16;
            self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        &self.bytes
    }

    fn seal(&mut self) {
        if let Some(&start) = self.starts.last() {
            let len = (self.bytes.len() - start) as u32;
            self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        }
    }

    fn patch_len(&mut self, start: usize) {
        let len = u16::try_from(self.bytes.len() - start).expect("an attribute is shorter than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// The port of the socket whose request caused it; zero where the kernel acts by itself.
    pub port: u32,
    /// The fixed part and the attributes.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after a fixed part of `len` bytes.
    pub fn attrs(&self, len: usize) -> Attrs<'a> {
        Attrs(self.body.get(len..).unwrap_or_default())
    }

    /// The first `N` bytes, if there are so many.
    pub fn fixed<const N: usize>(&self) -> Option<[u8; N]> {
        self.body.get(..N)?.try_into().ok()
    }

    /// What an `NLMSG_ERROR` says: `Some(Ok)` for an acknowledgement, `None` for another type of message.
    pub fn outcome(&self) -> Option<Result<(), KernelError>> {
        if self.kind != libc::NLMSG_ERROR as u16 {
            return None;
        }
        let errno = i32::from_ne_bytes(self.fixed()?).saturating_neg();
        if errno == 0 {
            return Some(Ok(()));
        }
        let attrs = if self.flags & NLM_F_ACK_TLVS == 0 {
            Attrs(&[])
        } else if self.flags & NLM_F_CAPPED != 0 {
            self.attrs(4 + HEADER_LEN)
        } else {
            let request = self.body.get(4..8).and_then(|len| len.try_into().ok()).map_or(0, u32::from_ne_bytes);
            self.attrs(4 + (request as usize).next_multiple_of(4))
        };
        Some(Err(KernelError {
            errno,
            message: attrs.find(NLMSGERR_ATTR_MSG).map(text),
            offset: attrs.u32(NLMSGERR_ATTR_OFFS),
        }))
    }
}

/// The messages in a received buffer; ends at the first one that is cut.
#[derive(Debug, Clone)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let len = word(0)? as usize;
        let body = bytes.get(HEADER_LEN..len)?;
        self.0 = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: half(4)?, flags: half(6)?, sequence: word(8)?, port: word(12)?, body })
    }
}

/// A row of attributes; iterates over type (without flags) and value, and ends at the first that is cut.
#[derive(Debug, Clone, Copy)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The value of the first attribute of the type.
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The number of the first attribute of the type, if it has four bytes.
    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.try_into().ok()?))
    }

    /// A string up to its terminating zero; bytes that aren't UTF-8 are replaced.
    pub fn string(self, kind: u16) -> Option<String> {
        self.find(kind).map(text)
    }

    /// The attributes inside an attribute.
    pub fn nested(self, kind: u16) -> Option<Attrs<'a>> {
        self.find(kind).map(Attrs)
    }
}

impl<'a> IntoIterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = AttrIter<'a>;

    fn into_iter(self) -> AttrIter<'a> {
        AttrIter(self.0)
    }
}

/// See [`Attrs`].
#[derive(Debug, Clone)]
pub struct AttrIter<'a>(&'a [u8]);

impl<'a> Iterator for AttrIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let bytes = self.0;
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & ATTRIBUTE_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER_LEN..len)?;
        self.0 = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_as_they_were_built() {
        let mut builder = MessageBuilder::new();
        builder.begin(16, 0, &[1, 2, 3, 4]).attr_str(3, "lo").nest(18, |m| {
            m.attr_u32(1, 7);
            m.attr_u8(2, 9);
        });
        builder.begin(17, 0, &[]);
        let bytes = builder.finish(41, true).to_vec();
        let messages: Vec<_> = Messages(&bytes).collect();
        assert_eq!(
            messages.iter().map(|m| (m.kind, m.sequence, m.flags)).collect::<Vec<_>>(),
            [(16, 41, 1), (17, 42, 5)]
        );
        let attrs = messages[0].attrs(4);
        assert_eq!(attrs.string(3).as_deref(), Some("lo"));
        let nested = attrs.nested(18).expect("nested");
        assert_eq!((nested.u32(1), nested.find(2)), (Some(7), Some(&[9][..])));
    }

    #[test]
    fn what_is_cut_is_not_read() {
        let mut builder = MessageBuilder::new();
        builder.begin(16, 0, &[0; 16]).attr_u32(1, 7);
        let bytes = builder.finish(1, false).to_vec();
        for len in 0..bytes.len() {
            assert_eq!(Messages(&bytes[..len]).count(), 0);
        }
        let attrs = [8, 0, 1, 0, 7, 0, 0, 0];
        for len in 0..attrs.len() {
            assert_eq!(Attrs(&attrs[..len]).into_iter().count(), 0);
        }
        assert_eq!(Attrs(&[0; 8]).into_iter().count(), 0, "a length below the header's ends the row");
    }
}

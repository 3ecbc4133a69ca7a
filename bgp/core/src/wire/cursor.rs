/// A reader of octets that knows where in the message it is; what it can't give is `None`, and it stays where it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes`, which begin `offset` octets after the start of the message.
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Cursor<'a> {
        Cursor { rest: bytes, offset }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns what is left without reading it.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        self.offset += N;
        Some(*array)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Cuts off the next `len` octets as a reader of their own.
    pub(super) fn take(&mut self, len: usize) -> Option<Cursor<'a>> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        let taken = Cursor { rest: taken, offset: self.offset };
        self.rest = rest;
        self.offset += len;
        Some(taken)
    }
}

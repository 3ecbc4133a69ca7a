/// Octets of what happens, read without an end: after the last one there are zeros.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Script<'a> {
        Script(octets)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn octet(&mut self) -> u8 {
        let Some((&octet, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        octet
    }

    /// As many octets as the next one says.
    pub(crate) fn octets(&mut self) -> Vec<u8> {
        let len = usize::from(self.octet()).min(self.0.len());
        let (octets, rest) = self.0.split_at(len);
        self.0 = rest;
        octets.to_vec()
    }
}

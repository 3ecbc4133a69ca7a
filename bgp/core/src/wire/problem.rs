use std::fmt;

use super::attributes::AttributeType;

/// What a malformed attribute leads to (RFC 7606 section 2). The third treatment, session reset, is the NOTIFICATION
/// that [`super::decode`] returns as its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Treatment {
    /// The attribute is dropped, the message otherwise taken.
    AttributeDiscard,
    /// All routes that the message announces are withdrawn.
    TreatAsWithdraw,
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Treatment::AttributeDiscard => "attribute discarded",
            Treatment::TreatAsWithdraw => "treated as withdraw",
        })
    }
}

/// One thing that was wrong with an UPDATE and didn't end the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeProblem {
    pub attribute: AttributeType,
    /// Where the attribute begins, in octets from the start of the message's header; for a missing one, where the
    /// attributes end.
    pub offset: usize,
    pub treatment: Treatment,
    pub reason: ProblemReason,
}

impl fmt::Display for AttributeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}: {}; {}", self.attribute, self.offset, self.reason, self.treatment)
    }
}

/// What exactly is wrong with an attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProblemReason {
    #[error("flags 0x{0:02x} contradict the type")]
    Flags(u8),
    #[error("length {0} is not allowed")]
    Length(usize),
    #[error("there is one already")]
    Duplicate,
    #[error("it is missing")]
    Missing,
    #[error("{value} is no value of it")]
    Value { value: String },
    #[error("octet {at} of its value: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("AS number 0 (RFC 7607)")]
    AsZero,
    #[error("an external peer must not send it")]
    FromExternalPeer,
    #[error("a peer with four-octet AS numbers must not send it")]
    FromFourOctetPeer,
    #[error("it ends beyond the attributes, which have {left} octets left")]
    Truncated { left: usize },
    #[error("{0} is not negotiated")]
    NotNegotiated(super::AfiSafi),
}

use etcd_client::Error;

use crate::error::StoreError;

/// A failed call, sorted by who has to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The member, or the way to it.
    Away(String),
    /// The operator: credentials or rights.
    Denied(String),
    /// The operator: etcd's space is used up.
    Full(String),
    /// The caller of the driver.
    Refused(String),
    /// The requested revision is no longer there.
    Compacted,
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        let Error::GRpcStatus(status) = error else {
            return match error {
                Error::InvalidArgs(text) => Self::Refused(text.clone()),
                other => Self::Away(other.to_string()),
            };
        };
        Self::of_status(i32::from(status.code()), status.message())
    }

    /// Sorts a gRPC status by its number and by etcd's text, where the number alone is not enough
    /// (etcd `api/v3rpc/rpctypes/error.go`).
    fn of_status(code: i32, message: &str) -> Self {
        let text = message.to_owned();
        match code {
            // InvalidArgument
            3 if ["authentication failed", "user name is empty"].iter().any(|part| message.contains(part)) => {
                Self::Denied(text)
            }
            3 => Self::Refused(text),
            // PermissionDenied, Unauthenticated
            7 | 16 => Self::Denied(text),
            // ResourceExhausted: of space, or of requests per second, where waiting helps
            8 if message.contains("space") => Self::Full(text),
            // FailedPrecondition
            9 if message.contains("authentication is not enabled") => Self::Denied(text),
            // OutOfRange
            11 if message.contains("compacted") => Self::Compacted,
            11 => Self::Refused(text),
            _ => Self::Away(text),
        }
    }

    /// Tells whether another attempt, perhaps on another member, may do.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Denied(_))
    }

    /// Tells whether the connection, or its token, is better thrown away.
    pub(super) fn spoils_session(&self) -> bool {
        self.is_transient()
    }

    pub(super) fn into_store_error(self, key: &str, endpoints: &str) -> StoreError {
        let (reason, advice) = match self {
            Self::Away(reason) => (reason, "check that it runs, has a leader and can be reached"),
            Self::Denied(reason) => {
                (reason, "check MARGAY_ETCD_USERNAME and MARGAY_ETCD_PASSWORD, and the rights of that user")
            }
            Self::Full(reason) => (reason, "compact and defragment it, then run: etcdctl alarm disarm"),
            Self::Compacted => ("it was compacted during the call".to_owned(), "retry"),
            Self::Refused(reason) => {
                return StoreError::Invalid { key: key.into(), reason: format!("etcd says: {reason}") };
            }
        };
        StoreError::Unavailable { what: format!("etcd at {endpoints}: {reason}"), advice: advice.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_by_who_has_to_act() {
        let kind = |code, message| Failure::of_status(code, message);
        assert!(matches!(kind(14, "transport error"), Failure::Away(_)));
        assert!(matches!(kind(4, "etcdserver: request timed out"), Failure::Away(_)));
        assert!(matches!(
            kind(3, "etcdserver: authentication failed, invalid user ID or password"),
            Failure::Denied(_)
        ));
        assert!(matches!(kind(16, "etcdserver: invalid auth token"), Failure::Denied(_)));
        assert!(matches!(kind(7, "etcdserver: permission denied"), Failure::Denied(_)));
        assert!(matches!(kind(3, "etcdserver: request is too large"), Failure::Refused(_)));
        assert!(matches!(kind(8, "etcdserver: mvcc: database space exceeded"), Failure::Full(_)));
        assert!(matches!(kind(8, "etcdserver: too many requests"), Failure::Away(_)));
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(kind(11, compacted), Failure::Compacted);
    }

    #[test]
    fn what_the_caller_did_wrong_is_not_retryable_and_the_rest_is() {
        let error = |failure: Failure| failure.into_store_error("/k", "http://h:1");
        assert!(!error(Failure::Refused("request is too large".into())).is_retryable());
        for failure in [Failure::Away("x".into()), Failure::Denied("x".into()), Failure::Full("x".into())] {
            let error = error(failure);
            assert!(error.is_retryable() && error.to_string().contains("http://h:1"), "{error}");
        }
    }
}

//! The one table from librdkafka's codes to the ports' errors.

use ports::{ErrorKind, PortError, Retry};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// The kind of a code.
pub(super) fn kind(code: Code) -> ErrorKind {
    match code {
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::GroupIdNotFound => ErrorKind::NotFound,
        Code::TopicAlreadyExists => ErrorKind::AlreadyExists,
        Code::NonEmptyGroup => ErrorKind::Conflict,
        // A rebalance is under way (`IllegalGeneration` is that too): whether the partition is still
        // owned is for the gate to say, not for this code.
        Code::UnknownMemberId | Code::FencedInstanceId | Code::FencedMemberEpoch | Code::AssignmentLost => {
            ErrorKind::Fenced
        }
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation => ErrorKind::OutOfRange,
        Code::InvalidArgument
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidGroupId
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation => ErrorKind::Invalid,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::OffsetMetadataTooLarge => {
            ErrorKind::TooLarge
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed => ErrorKind::Denied,
        Code::QueueFull | Code::ThrottlingQuotaExceeded => ErrorKind::Throttled,
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
            ErrorKind::Timeout
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::NotImplemented => ErrorKind::Unsupported,
        Code::BadMessage | Code::InvalidMessage | Code::BadCompression => ErrorKind::Corrupt,
        Code::Application | Code::Inconsistent | Code::InvalidType | Code::Underflow => ErrorKind::Unexpected,
        // What is left is a broker that does not serve, or a leader or coordinator that is moving.
        _ => ErrorKind::Unavailable,
    }
}

/// The error for a code, with a transient code's retry.
pub(super) fn of_code(code: Code, operation: &'static str, what: &str) -> PortError {
    let error = PortError::new(kind(code), operation, format!("{what}: {code}"));
    match code {
        Code::LeaderNotAvailable | Code::NotLeaderForPartition | Code::ReassignmentInProgress => {
            error.with_retry(Retry::Transient { after: None })
        }
        _ => error,
    }
}

/// The error for whatever the client crate gave.
pub(super) fn of(error: &KafkaError, operation: &'static str, what: &str) -> PortError {
    let code = match error {
        // The client crate knows the code of this one and does not say it.
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    match code {
        Some(code) => of_code(code, operation, what),
        None => PortError::new(ErrorKind::Invalid, operation, format!("{what}: {error}")),
    }
}

/// A delivery that failed: whether the record may be in the log all the same.
pub(super) fn of_delivery(code: Code) -> PortError {
    const OPERATION: &str = "event_log.append";
    let refused = matches!(
        code,
        // Never left this process.
        Code::PurgeQueue | Code::QueueFull | Code::UnknownPartition | Code::UnknownTopic
        // Refused by the leader before it wrote.
        | Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidTopic | Code::InvalidRecord
        | Code::InvalidMessage | Code::InvalidTimestamp | Code::PolicyViolation | Code::NotEnoughReplicas
        | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed
    );
    let error = match code {
        Code::MessageTimedOut => {
            PortError::new(ErrorKind::Timeout, OPERATION, "no broker confirmed the record in time")
        }
        Code::InvalidMessage => {
            PortError::new(ErrorKind::Invalid, OPERATION, "the broker refuses the record")
        }
        code => of_code(code, OPERATION, "the record was not confirmed"),
    };
    if refused { error } else { error.effect_unknown() }
}

/// A delivery that no broker confirmed, and that the client takes for done.
pub(super) fn inferred() -> PortError {
    let what = "no broker confirmed the record, though later ones were";
    PortError::new(ErrorKind::Unavailable, "event_log.append", what).effect_unknown()
}

/// The error of a blocking call that was not finished.
pub(super) fn aborted(operation: &'static str) -> PortError {
    PortError::new(ErrorKind::Unavailable, operation, "the client is shutting down").effect_unknown()
}

#[cfg(test)]
mod tests {
    use super::{Code, KafkaError, of};
    use ports::ErrorKind;

    #[test]
    fn an_administrative_request_that_fails_as_a_whole_is_what_its_code_says() {
        for (code, kind) in [
            (Code::OperationTimedOut, ErrorKind::Timeout),
            (Code::BrokerTransportFailure, ErrorKind::Unavailable),
            (Code::InvalidConfig, ErrorKind::Invalid),
        ] {
            let error = of(&KafkaError::AdminOp(code), "topic_admin.describe", "the settings");
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}

//! Decisions that arrived together, as one call; what became of each, by request.
//!
//! Invariants (checked by the tests below):
//! 1. Every request is answered once, in the order in which they were taken, with one status a decision in
//!    its own order or with the error of the request.
//! 2. A request that is malformed fails alone.
//! 3. A delivery that one request decides and another decides otherwise is never in one group with both: the
//!    later decision comes after the earlier one.

use crate::{
    convert,
    error::item,
    proto::{self, DecisionStatus, Extend, Reject, Retry, SubscribeDecisions, SubscribeResult},
};
use domain::{
    Error, ErrorCode, Result,
    delivery::Status,
    subscriptions::{AckRequest, RejectItem, RetryItem},
};
use prost::Message as _;
use std::{collections::HashMap, time::Duration};

/// The most bytes of the requests of a group, but that one request is always taken.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// The most bytes of a reason.
const REASON_BYTES_MAX: usize = 4 << 10;
/// The longest that a delivery can be extended by at once, which is what the domain allows: said here, so
/// that what arrived together does not fail together.
const EXTEND_MAX: Duration = Duration::from_secs(12 * 3600);
/// The longest that a retry can be put off.
const AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// How many lists of decisions there are.
const LISTS: usize = 5;

/// What is decided about a delivery, as far as it matters whether two say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ack,
    Retry,
    Reject,
    Extend,
    Release,
}

impl Kind {
    const ALL: [Self; LISTS] = [Self::Ack, Self::Retry, Self::Reject, Self::Extend, Self::Release];
}

/// A request that was taken, and how many decisions each of its lists has.
#[derive(Debug)]
struct Asked {
    request_id: u64,
    counts: std::result::Result<[usize; LISTS], proto::Error>,
}

/// Requests that are applied by one call.
#[derive(Debug, Default)]
pub(super) struct Group {
    request: AckRequest,
    asked: Vec<Asked>,
    bytes: usize,
    /// What is decided about which delivery, once there are decisions of two kinds.
    kinds: Option<HashMap<String, Kind>>,
}

impl Group {
    /// Whether nothing was asked.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether another request may be taken.
    pub(super) fn has_room(&self, decisions_max: usize) -> bool {
        self.bytes < GROUP_BYTES_MAX && self.count() < decisions_max && self.asked.len() < decisions_max
    }

    /// Whether it waits for dead letters, which may take long.
    pub(super) fn is_slow(&self) -> bool {
        !self.request.reject.is_empty()
    }

    #[allow(clippy::result_large_err, reason = "what is given back is the request itself")]
    /// Takes a request; gives it back where it has to wait for this group. The first is always taken.
    pub(super) fn take(
        &mut self,
        said: SubscribeDecisions,
        decisions_max: usize,
    ) -> std::result::Result<(), SubscribeDecisions> {
        let counts =
            [said.ack.len(), said.retry.len(), said.reject.len(), said.extend.len(), said.release.len()];
        let count: usize = counts.iter().sum();
        let bytes = said.encoded_len();
        let fits = self.count() + count <= decisions_max && self.bytes + bytes <= GROUP_BYTES_MAX;
        if !self.is_empty() && !fits {
            return Err(said);
        }
        if let Err(error) = check(&said, count, decisions_max) {
            self.asked.push(Asked { request_id: said.request_id, counts: Err(item(&error)) });
            return Ok(());
        }
        if !self.agrees(&said, counts) {
            return Err(said);
        }
        self.bytes += bytes;
        self.asked.push(Asked { request_id: said.request_id, counts: Ok(counts) });
        self.append(said);
        Ok(())
    }

    fn count(&self) -> usize {
        let AckRequest { ack, retry, reject, extend, release } = &self.request;
        ack.len() + retry.len() + reject.len() + extend.len() + release.len()
    }

    fn lists(&self) -> [usize; LISTS] {
        let AckRequest { ack, retry, reject, extend, release } = &self.request;
        [ack.len(), retry.len(), reject.len(), extend.len(), release.len()]
    }

    /// Whether no delivery is decided in one way here and in another there. Remembers what is, but only where
    /// there are two ways: most groups are acknowledgements alone.
    fn agrees(&mut self, said: &SubscribeDecisions, counts: [usize; LISTS]) -> bool {
        let here = self.lists();
        let both = std::array::from_fn::<bool, LISTS, _>(|list| here[list] + counts[list] > 0);
        if both.iter().filter(|there| **there).count() < 2 {
            return true;
        }
        let kinds = match &mut self.kinds {
            Some(kinds) => kinds,
            None => {
                let known = named(&self.request).map(|(id, kind)| (id.to_owned(), kind)).collect();
                self.kinds.insert(known)
            }
        };
        if said_of(said).any(|(id, kind)| kinds.get(id).is_some_and(|known| *known != kind)) {
            return false;
        }
        kinds.extend(said_of(said).map(|(id, kind)| (id.to_owned(), kind)));
        true
    }

    fn append(&mut self, said: SubscribeDecisions) {
        let SubscribeDecisions { request_id: _, ack, retry, reject, extend, release } = said;
        let request = &mut self.request;
        request.ack.extend(ack);
        request.retry.extend(retry.into_iter().map(|Retry { ack_id, after, reason }| RetryItem {
            ack_id,
            after: after.and_then(|after| convert::duration("after", after).ok()),
            reason: Some(reason).filter(|reason| !reason.is_empty()),
        }));
        request.reject.extend(reject.into_iter().map(|Reject { ack_id, reason }| RejectItem {
            ack_id,
            reason: Some(reason).filter(|reason| !reason.is_empty()),
        }));
        request.extend.extend(extend.into_iter().map(|Extend { ack_id, by }| {
            let by = by.and_then(|by| convert::duration("by", by).ok()).unwrap_or_default();
            (ack_id, by)
        }));
        request.release.extend(release);
    }

    /// The call to make, and what its answer is to be given to.
    pub(super) fn into_call(self) -> (AckRequest, Call) {
        let lists = self.lists();
        let extensions = self.request.extend.iter().map(|(_, by)| *by).collect();
        (self.request, Call { asked: self.asked, lists, extensions })
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Call {
    asked: Vec<Asked>,
    lists: [usize; LISTS],
    extensions: Vec<Duration>,
}

impl Call {
    /// What became of each request; tells `decided` what became of each delivery, with the time that it was
    /// asked to be extended by.
    pub(super) fn answered(
        self,
        answer: Result<Vec<(String, Status)>>,
        mut decided: impl FnMut(&str, Status, Option<Duration>),
    ) -> Vec<SubscribeResult> {
        let count: usize = self.lists.iter().sum();
        let answer = answer.and_then(|answer| {
            let whole = answer.len() == count;
            let detail = "not every decision was answered";
            if whole { Ok(answer) } else { Err(Error::new(ErrorCode::Internal, detail)) }
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let failed = item(&error);
                let result = |Asked { request_id, counts }| SubscribeResult {
                    request_id,
                    statuses: Vec::new(),
                    error: Some(counts.err().unwrap_or_else(|| failed.clone())),
                };
                return self.asked.into_iter().map(result).collect();
            }
        };
        let first_extension = self.lists[..3].iter().sum::<usize>();
        for (index, (ack_id, status)) in answer.iter().enumerate() {
            let by = index.checked_sub(first_extension).and_then(|index| self.extensions.get(index));
            decided(ack_id, *status, by.copied());
        }
        // Where the next request's decisions stand in each list.
        let mut next = [0; LISTS];
        for list in 1..LISTS {
            next[list] = next[list - 1] + self.lists[list - 1];
        }
        let mut results = Vec::with_capacity(self.asked.len());
        for Asked { request_id, counts } in self.asked {
            let (statuses, error) = match counts {
                Err(error) => (Vec::new(), Some(error)),
                Ok(counts) => {
                    let mut statuses = Vec::with_capacity(counts.iter().sum());
                    for (next, count) in next.iter_mut().zip(counts) {
                        let of_list = answer.iter().skip(*next).take(count);
                        statuses.extend(of_list.map(|(_, status)| wire(*status) as i32));
                        *next += count;
                    }
                    (statuses, None)
                }
            };
            results.push(SubscribeResult { request_id, statuses, error });
        }
        results
    }
}

fn wire(status: Status) -> DecisionStatus {
    match status {
        Status::Ok => DecisionStatus::Ok,
        Status::Expired => DecisionStatus::Expired,
        Status::Superseded => DecisionStatus::Superseded,
        Status::Unknown => DecisionStatus::Unknown,
        Status::Unavailable => DecisionStatus::Unavailable,
    }
}

fn named(request: &AckRequest) -> impl Iterator<Item = (&str, Kind)> {
    let AckRequest { ack, retry, reject, extend, release } = request;
    let [of_ack, of_retry, of_reject, of_extend, of_release] = Kind::ALL;
    (ack.iter().map(move |id| (id.as_str(), of_ack)))
        .chain(retry.iter().map(move |item| (item.ack_id.as_str(), of_retry)))
        .chain(reject.iter().map(move |item| (item.ack_id.as_str(), of_reject)))
        .chain(extend.iter().map(move |(id, _)| (id.as_str(), of_extend)))
        .chain(release.iter().map(move |id| (id.as_str(), of_release)))
}

fn said_of(said: &SubscribeDecisions) -> impl Iterator<Item = (&str, Kind)> {
    let [of_ack, of_retry, of_reject, of_extend, of_release] = Kind::ALL;
    (said.ack.iter().map(move |id| (id.as_str(), of_ack)))
        .chain(said.retry.iter().map(move |item| (item.ack_id.as_str(), of_retry)))
        .chain(said.reject.iter().map(move |item| (item.ack_id.as_str(), of_reject)))
        .chain(said.extend.iter().map(move |item| (item.ack_id.as_str(), of_extend)))
        .chain(said.release.iter().map(move |id| (id.as_str(), of_release)))
}

/// Whether a request can be read; what cannot be is named by its path in the message.
fn check(said: &SubscribeDecisions, count: usize, decisions_max: usize) -> Result<()> {
    if count > decisions_max {
        let detail = format!("must hold at most {decisions_max} decisions, holds {count}");
        return Err(Error::invalid("decisions", detail));
    }
    let reason = |list: &str, index: usize, reason: &str| {
        if reason.len() > REASON_BYTES_MAX {
            let (field, bytes) = (format!("decisions.{list}[{index}].reason"), reason.len());
            return Err(Error::invalid(
                field,
                format!("must have at most {REASON_BYTES_MAX} bytes, has {bytes}"),
            ));
        }
        Ok(())
    };
    for (index, retry) in said.retry.iter().enumerate() {
        reason("retry", index, &retry.reason)?;
        if let Some(after) = retry.after {
            let field = format!("decisions.retry[{index}].after");
            if convert::duration(&field, after)? > AFTER_MAX {
                return Err(Error::invalid(field, "must be at most 366 days"));
            }
        }
    }
    for (index, reject) in said.reject.iter().enumerate() {
        reason("reject", index, &reject.reason)?;
    }
    for (index, extend) in said.extend.iter().enumerate() {
        let field = format!("decisions.extend[{index}].by");
        let by = extend.by.ok_or_else(|| Error::invalid(&field, "must be given"))?;
        let by = convert::duration(&field, by)?;
        if by.is_zero() || by > EXTEND_MAX {
            return Err(Error::invalid(field, "must be more than 0 s and at most 12 h"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 20;

    #[allow(clippy::unnecessary_wraps, reason = "as a message has it")]
    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn retry(ack_id: &str) -> Retry {
        Retry { ack_id: ack_id.into(), after: seconds(5), reason: "why".into() }
    }

    fn reject(ack_id: &str) -> Reject {
        Reject { ack_id: ack_id.into(), reason: String::new() }
    }

    fn extend(ack_id: &str, by: i64) -> Extend {
        Extend { ack_id: ack_id.into(), by: seconds(by) }
    }

    fn acks(request_id: u64, ids: &[&str]) -> SubscribeDecisions {
        let ack = ids.iter().map(|id| (*id).to_owned()).collect();
        SubscribeDecisions { request_id, ack, ..SubscribeDecisions::default() }
    }

    /// The status that stands for an id in these tests.
    fn status_of(id: &str) -> Status {
        [Status::Ok, Status::Expired, Status::Superseded, Status::Unknown, Status::Unavailable]
            [id.len() % LISTS]
    }

    fn answer(request: &AckRequest) -> Vec<(String, Status)> {
        named(request).map(|(id, _)| (id.to_owned(), status_of(id))).collect()
    }

    #[test]
    fn what_arrives_together_is_one_call_that_says_everything() {
        let mut group = Group::default();
        group.take(acks(1, &["a", "b"]), MAX).unwrap();
        let rest = SubscribeDecisions {
            request_id: 2,
            retry: vec![retry("c")],
            reject: vec![reject("d")],
            extend: vec![extend("e", 9)],
            release: vec!["f".into()],
            ack: vec!["g".into()],
        };
        group.take(rest, MAX).unwrap();
        assert!(group.is_slow());
        let (request, call) = group.into_call();
        let expected = AckRequest {
            ack: vec!["a".into(), "b".into(), "g".into()],
            retry: vec![RetryItem {
                ack_id: "c".into(),
                after: Some(Duration::from_secs(5)),
                reason: Some("why".into()),
            }],
            reject: vec![RejectItem { ack_id: "d".into(), reason: None }],
            extend: vec![("e".into(), Duration::from_secs(9))],
            release: vec!["f".into()],
        };
        assert_eq!(request, expected);
        let mut told = Vec::new();
        let results = call.answered(Ok(answer(&request)), |id, _, by| told.push((id.to_owned(), by)));
        assert_eq!(
            results.iter().map(|r| (r.request_id, r.statuses.len())).collect::<Vec<_>>(),
            [(1, 2), (2, 5)]
        );
        assert_eq!(
            told.iter().filter(|(_, by)| by.is_some()).collect::<Vec<_>>(),
            [&("e".to_owned(), Some(Duration::from_secs(9)))]
        );
    }

    #[test]
    fn a_malformed_request_fails_alone_and_names_its_field() {
        let long = || "x".repeat(REASON_BYTES_MAX + 1);
        let of = |change: fn(&mut SubscribeDecisions)| {
            let mut said = SubscribeDecisions { request_id: 7, ..SubscribeDecisions::default() };
            change(&mut said);
            said
        };
        let mut too_long = of(|said| said.retry = vec![retry("a"), retry("b")]);
        too_long.retry[1].reason = long();
        let mut rejected_too_long = of(|said| said.reject = vec![reject("a")]);
        rejected_too_long.reject[0].reason = long();
        let bad = [
            (of(|said| said.ack = vec![String::new(); MAX + 1]), "decisions"),
            (too_long, "decisions.retry[1].reason"),
            (rejected_too_long, "decisions.reject[0].reason"),
            (
                of(|said| said.retry = vec![Retry { after: seconds(-1), ..retry("a") }]),
                "decisions.retry[0].after",
            ),
            (
                of(|said| said.retry = vec![Retry { after: seconds(i64::MAX), ..retry("a") }]),
                "decisions.retry[0].after",
            ),
            (of(|said| said.extend = vec![extend("a", 1), extend("b", 0)]), "decisions.extend[1].by"),
            (of(|said| said.extend = vec![extend("a", 12 * 3600 + 1)]), "decisions.extend[0].by"),
            (of(|said| said.extend = vec![Extend { by: None, ..extend("a", 1) }]), "decisions.extend[0].by"),
        ];
        for (said, field) in bad {
            let mut group = Group::default();
            group.take(acks(1, &["a"]), MAX).unwrap();
            if let Err(said) = group.take(said, MAX) {
                // What is too much for the rest of a group is looked at in the next.
                group = Group::default();
                group.take(said, MAX).unwrap();
            }
            let (request, call) = group.into_call();
            let results = call.answered(Ok(answer(&request)), |_, _, _| ());
            let (failed, others) = results.split_last().unwrap();
            let error = failed.error.as_ref().unwrap();
            assert_eq!((error.code.as_str(), error.errors[0].field.as_str()), ("invalid_request", field));
            assert!(failed.statuses.is_empty());
            assert!(others.iter().all(|result| result.error.is_none()), "{others:?}");
        }
    }

    #[test]
    fn a_call_that_fails_fails_each_of_its_requests() {
        let mut group = Group::default();
        group.take(acks(1, &["a"]), MAX).unwrap();
        group.take(acks(2, &[]), MAX).unwrap();
        let (_, call) = group.into_call();
        let failed = call.answered(Err(Error::new(ErrorCode::Unavailable, "gone")), |_, _, _| unreachable!());
        assert_eq!(failed.iter().map(|result| result.request_id).collect::<Vec<_>>(), [1, 2]);
        assert!(failed.iter().all(|result| result.error.as_ref().unwrap().code == "unavailable"));
    }

    #[test]
    fn a_delivery_that_is_named_again_otherwise_waits_for_the_next_group() {
        let mut group = Group::default();
        let extended = SubscribeDecisions { extend: vec![extend("a", 1)], ..acks(1, &[]) };
        group.take(extended.clone(), MAX).unwrap();
        group.take(extended, MAX).unwrap();
        group.take(acks(2, &["b"]), MAX).unwrap();
        assert_eq!(group.take(acks(3, &["c", "a"]), MAX), Err(acks(3, &["c", "a"])));
        // Said alike twice, it may stand twice.
        group.take(acks(4, &["b"]), MAX).unwrap();
    }

    #[test]
    fn a_group_is_bounded_and_takes_at_least_one() {
        let mut group = Group::default();
        let wide = "x".repeat(GROUP_BYTES_MAX);
        group.take(acks(1, &[&wide]), MAX).unwrap();
        assert!(!group.has_room(MAX));
        assert!(group.take(acks(2, &["a"]), MAX).is_err());
        let mut group = Group::default();
        group.take(acks(1, &["a"; MAX - 1]), MAX).unwrap();
        assert!(group.has_room(MAX));
        assert!(group.take(acks(2, &["a", "b"]), MAX).is_err());
        group.take(acks(3, &["a"]), MAX).unwrap();
        assert!(!group.has_room(MAX));
    }

    fn request() -> impl Strategy<Value = SubscribeDecisions> {
        let id = || "[a-z]{1,7}";
        let ids = || prop::collection::vec(id(), 0..3);
        (any::<u64>(), ids(), ids(), ids(), ids(), ids()).prop_map(
            |(request_id, ack, retried, rejected, extended, release)| SubscribeDecisions {
                request_id,
                ack,
                retry: retried.iter().map(|id| retry(id)).collect(),
                reject: rejected.iter().map(|id| reject(id)).collect(),
                extend: extended.iter().map(|id| extend(id, 3)).collect(),
                release,
            },
        )
    }

    proptest! {
        #[test]
        fn each_request_is_answered_as_if_it_were_alone(requests in prop::collection::vec(request(), 1..12)) {
            let mut results = Vec::new();
            let mut group = Group::default();
            let mut told = 0;
            let mut apply = |group: Group, results: &mut Vec<SubscribeResult>| {
                let (request, call) = group.into_call();
                results.extend(call.answered(Ok(answer(&request)), |id, status, _| {
                    assert_eq!(status, status_of(id));
                    told += 1;
                }));
            };
            for said in requests.clone() {
                if let Err(said) = group.take(said, MAX) {
                    apply(std::mem::take(&mut group), &mut results);
                    prop_assert_eq!(group.take(said, MAX), Ok(()));
                }
            }
            apply(group, &mut results);
            let expected: Vec<_> = requests
                .iter()
                .map(|said| SubscribeResult {
                    request_id: said.request_id,
                    statuses: said_of(said).map(|(id, _)| wire(status_of(id)) as i32).collect(),
                    error: None,
                })
                .collect();
            prop_assert_eq!(told, expected.iter().map(|result| result.statuses.len()).sum::<usize>());
            prop_assert_eq!(results, expected);
        }
    }
}

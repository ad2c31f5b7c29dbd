//! Decisions that arrived together, as one call; what became of each, by request.
//!
//! Invariants (checked by the tests below):
//! 1. Every request is answered once, in the order in which they were taken, with one status a decision in
//!    its own order or with the error of the request.
//! 2. A request that is malformed fails alone.
//! 3. A delivery that one request decides and another decides otherwise is never in one group with both: the
//!    later decision comes after the earlier one.

#[cfg(test)]
mod tests;

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

    /// Takes a request; gives it back where it has to wait for this group. The first is always taken.
    pub(super) fn take(
        &mut self,
        said: SubscribeDecisions,
        decisions_max: usize,
    ) -> Option<SubscribeDecisions> {
        let counts =
            [said.ack.len(), said.retry.len(), said.reject.len(), said.extend.len(), said.release.len()];
        let count: usize = counts.iter().sum();
        let bytes = said.encoded_len();
        let fits = self.count() + count <= decisions_max && self.bytes + bytes <= GROUP_BYTES_MAX;
        if !self.is_empty() && !fits {
            return Some(said);
        }
        if let Err(error) = check(&said, count, decisions_max) {
            self.asked.push(Asked { request_id: said.request_id, counts: Err(item(&error)) });
            return None;
        }
        if !self.agrees(&said, counts) {
            return Some(said);
        }
        self.bytes += bytes;
        self.asked.push(Asked { request_id: said.request_id, counts: Ok(counts) });
        self.append(said);
        None
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

//! How far a group is behind, and whether that is getting better.

use super::{Groups, Position};
use crate::{
    error::Result,
    lag::Verdict,
    subscriptions::{Cause, State, SubscriptionView},
};
use ports::GroupName;
use std::time::Duration;

/// A group's lag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LagView {
    /// The group.
    pub group: GroupName,
    /// The sum of what is known of its partitions' lag.
    pub total_lag: u64,
    /// The longest of its partitions' lags in time, where one is known.
    pub lag_time: Option<Duration>,
    /// The worst of its partitions' verdicts; `None` where it is not sampled.
    pub verdict: Option<Verdict>,
    /// Why it is behind, where it belongs to a subscription and that has a reason.
    pub cause: Option<Cause>,
    /// How many samples the verdicts are by, at most a window.
    pub samples: usize,
    /// Its partitions.
    pub partitions: Vec<PartitionLag>,
}

/// The lag of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// How far the group has come there, as of now.
    pub position: Position,
    /// The verdict by the last samples; `None` where it is not sampled.
    pub verdict: Option<Verdict>,
}

impl Groups {
    /// A group's lag: positions and ends as of now, verdicts by the samples of the last window.
    ///
    /// # Errors
    /// As [`Groups::get`].
    pub async fn lag(&self, group: &str) -> Result<LagView> {
        let view = self.get(group).await?;
        let total_lag = view.total_lag();
        let name = view.info.name;
        let mut judged = self.monitor.as_ref().map(|monitor| monitor.verdicts(&name)).unwrap_or_default();
        let partition = |position: Position| {
            let verdict = judged.partitions.remove(&position.at);
            PartitionLag { position, verdict }
        };
        let partitions: Vec<_> = view.positions.into_iter().map(partition).collect();
        let cause = if view.is_subscription { self.cause(&name).await } else { None };
        Ok(LagView {
            total_lag,
            lag_time: partitions.iter().filter_map(|it| it.position.lag_time).max(),
            verdict: partitions.iter().filter_map(|it| it.verdict).max(),
            cause,
            samples: judged.samples,
            partitions,
            group: name,
        })
    }

    async fn cause(&self, name: &GroupName) -> Option<Cause> {
        // It may have been deleted meanwhile.
        let view = self.subscriptions.get(name.as_str()).await.ok()?;
        cause(&view, self.clock.wall())
    }
}

/// What holds a subscription up, by its own state: what stops it as a whole first.
fn cause(view: &SubscriptionView, now: ports::Timestamp) -> Option<Cause> {
    let named = |code: &str| view.causes.iter().find(|cause| cause.code == code).cloned();
    let whole = match view.state {
        State::Paused => named("paused"),
        State::NoMembers => Some(Cause {
            code: "no-members",
            since: now,
            detail: "no replica reads it at the moment".to_owned(),
        }),
        State::Active | State::CircuitOpen | State::Degraded => None,
    };
    let held = (view.held > 0).then(|| Cause {
        code: "held-by-retries",
        since: now,
        detail: format!(
            "{} events wait because they, or earlier ones of their key, are tried again",
            view.held
        ),
    });
    whole.or_else(|| view.causes.first().cloned()).or(held)
}

//! `Replays`: what lies in a topic is written once more.

use crate::{
    Services, convert,
    error::status,
    proto::{
        CreateReplayRequest, GetReplayRequest, ListReplaysRequest, ListReplaysResponse, Replay, ReplayBound,
        ReplaySpan, TryReplayResponse, replay_bound, replays_server,
    },
};
use domain::{
    Error, Result,
    jobs::{Bound, Job, NewReplay, Progress, State, Trial},
};
use futures::{StreamExt as _, stream, stream::BoxStream};
use ports::Timestamp;
use std::{collections::HashMap, time::Duration};
use tonic::{Request, Response, Status};

/// How often a replay that is watched is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(crate) struct Replays(pub(crate) Services);

impl Replays {
    fn answer(&self, job: Result<Job>) -> Result<Response<Replay>, Status> {
        let job = job.map_err(|e| status(&e))?;
        Ok(Response::new(shown(&job, self.0.jobs.now())))
    }
}

#[tonic::async_trait]
impl replays_server::Replays for Replays {
    async fn create_replay(&self, request: Request<CreateReplayRequest>) -> Result<Response<Replay>, Status> {
        let new = said(request.into_inner()).map_err(|e| status(&e))?;
        self.answer(self.0.jobs.replay(new).await)
    }

    async fn try_replay(
        &self,
        request: Request<CreateReplayRequest>,
    ) -> Result<Response<TryReplayResponse>, Status> {
        let new = said(request.into_inner()).map_err(|e| status(&e))?;
        let trial = self.0.jobs.try_replay(new).await.map_err(|e| status(&e))?;
        Ok(Response::new(tried(&self.0, trial).await))
    }

    async fn list_replays(
        &self,
        _request: Request<ListReplaysRequest>,
    ) -> Result<Response<ListReplaysResponse>, Status> {
        let jobs = self.0.jobs.list().await.map_err(|e| status(&e))?;
        let now = self.0.jobs.now();
        let replays = jobs.iter().map(|job| shown(job, now)).collect();
        Ok(Response::new(ListReplaysResponse { replays }))
    }

    async fn get_replay(&self, request: Request<GetReplayRequest>) -> Result<Response<Replay>, Status> {
        self.answer(self.0.jobs.get(&request.into_inner().id).await)
    }

    type WatchReplayStream = BoxStream<'static, Result<Replay, Status>>;

    async fn watch_replay(
        &self,
        request: Request<GetReplayRequest>,
    ) -> Result<Response<Self::WatchReplayStream>, Status> {
        let id = request.into_inner().id;
        let first = self.0.jobs.get(&id).await.map_err(|e| status(&e))?;
        let services = self.0.clone();
        let looks = stream::unfold(Some(first), move |job| {
            let (services, id) = (services.clone(), id.clone());
            async move {
                let job = job?;
                let now = services.jobs.now();
                if job.state != State::Running {
                    return Some((Ok(shown(&job, now)), None));
                }
                let replay = shown(&job, now);
                let next = tokio::select! {
                    next = services.jobs.wait(&id, WATCH_EVERY) => next.ok(),
                    // Whoever watches asks again, elsewhere.
                    () = services.draining.cancelled() => None,
                };
                Some((Ok(replay), next))
            }
        });
        Ok(Response::new(looks.boxed()))
    }

    async fn pause_replay(&self, request: Request<GetReplayRequest>) -> Result<Response<Replay>, Status> {
        self.answer(self.0.jobs.pause(&request.into_inner().id).await)
    }

    async fn resume_replay(&self, request: Request<GetReplayRequest>) -> Result<Response<Replay>, Status> {
        self.answer(self.0.jobs.resume(&request.into_inner().id).await)
    }

    async fn cancel_replay(&self, request: Request<GetReplayRequest>) -> Result<Response<Replay>, Status> {
        self.answer(self.0.jobs.cancel(&request.into_inner().id).await)
    }
}

fn said(request: CreateReplayRequest) -> Result<NewReplay> {
    let bound = |field: &str, bound: Option<ReplayBound>| -> Result<Option<Bound>> {
        let Some(bound) = bound else { return Ok(None) };
        Ok(Some(match bound.bound {
            Some(replay_bound::Bound::Timestamp(time)) => {
                Bound::Time(convert::timestamp(&format!("{field}.timestamp"), time)?)
            }
            Some(replay_bound::Bound::Offsets(offsets)) => {
                let offsets = offsets.offsets.into_iter();
                Bound::Offsets(offsets.map(|(partition, offset)| (partition.to_string(), offset)).collect())
            }
            Some(replay_bound::Bound::Last(last)) => Bound::Last(last),
            None => {
                return Err(Error::invalid(field, "must hold one of `timestamp`, `offsets` and `last`"));
            }
        }))
    };
    Ok(NewReplay {
        topic: request.topic,
        from: bound("from", request.from)?,
        to: bound("to", request.to)?,
        filter: request.filter,
        target_topic: Some(request.target_topic).filter(|topic| !topic.is_empty()),
        target_subscription: Some(request.target_subscription).filter(|name| !name.is_empty()),
        rate_per_second: request.rate_per_second,
        bytes_per_second: request.bytes_per_second,
        speed: request.speed,
        batch_size: request.batch_size,
    })
}

/// What a dry run found.
pub(crate) async fn tried(services: &Services, trial: Trial) -> TryReplayResponse {
    let values = services.schemas.shown(&trial.sample).await;
    let sample = trial.sample.iter().zip(&values);
    let sample = sample.map(|(of, value)| convert::outgoing(&of.topic, of.partition, &of.record, value));
    let name = |of: Option<String>| of.unwrap_or_else(|| "(other)".to_owned());
    let Progress { read, matched, filter_errors, .. } = trial.progress;
    TryReplayResponse {
        complete: trial.complete,
        read: read as i64,
        matched: matched as i64,
        total: trial.progress.total() as i64,
        filter_errors: filter_errors as i64,
        sample: sample.collect(),
        partitions: spans(&trial.progress),
        matched_by_partition: trial.by_partition.into_iter().map(|(p, count)| (p, count as i64)).collect(),
        matched_by_type: trial.by_type.into_iter().map(|(of, count)| (name(of), count as i64)).collect(),
    }
}

pub(crate) fn shown(job: &Job, now: Timestamp) -> Replay {
    let progress = &job.progress;
    let target = &job.task.target;
    let text = |of: Option<&str>| of.unwrap_or_default().to_owned();
    Replay {
        id: job.id.to_string(),
        kind: job.kind.as_str().to_owned(),
        state: job.state.as_str().to_owned(),
        topic: job.task.topic.clone(),
        filter: job.task.filter.clone(),
        target_topic: text(target.topic()),
        target_subscription: text(target.subscription()),
        read: progress.read as i64,
        matched: progress.matched as i64,
        written: progress.written as i64,
        total: progress.total() as i64,
        filter_errors: progress.filter_errors as i64,
        started_at: Some(convert::time(job.started_at())),
        finished_at: job.finished_at().map(convert::time),
        estimated_end: job.outlook(now).map(|outlook| convert::time(outlook.ends_at)),
        error: job.error.clone(),
        partitions: spans(progress),
    }
}

fn spans(progress: &Progress) -> HashMap<u32, ReplaySpan> {
    let span = |span: &domain::jobs::Span| ReplaySpan {
        from: span.from as i64,
        to: span.to as i64,
        next: span.next as i64,
        gone: span.gone as i64,
    };
    progress.partitions.iter().map(|(partition, of)| (*partition, span(of))).collect()
}

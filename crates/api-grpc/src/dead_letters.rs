//! `DeadLetters`: what subscriptions could not handle.

use crate::{
    Services, convert,
    error::status,
    proto::{
        DeadLetter, DeadLetterDecision, DeadLetterDetail, DeadLetterError, DiscardDeadLetterRequest,
        EditDeadLetterRequest, GetDeadLetterRequest, ListDeadLettersRequest, ListDeadLettersResponse,
        RedriveDeadLettersRequest, Replay, SummarizeDeadLettersRequest, SummarizeDeadLettersResponse,
        TryReplayResponse, dead_letters_server,
    },
    replays,
};
use bytes::Bytes;
use domain::{
    Error, Result,
    dead_letters::{EditData, EditLetter, Letter, LetterDetail, ListLetters, Recorded, Selection},
    jobs::NewRedrive,
};
use ports::Header;
use std::collections::{BTreeMap, HashMap};
use tonic::{Request, Response, Status};

#[derive(Clone, Debug)]
pub(crate) struct DeadLetters(pub(crate) Services);

#[tonic::async_trait]
impl dead_letters_server::DeadLetters for DeadLetters {
    async fn redrive_dead_letters(
        &self,
        request: Request<RedriveDeadLettersRequest>,
    ) -> Result<Response<Replay>, Status> {
        let (name, new) = redrive(request.into_inner()).map_err(|e| status(&e))?;
        let job = self.0.jobs.redrive(&name, new).await.map_err(|e| status(&e))?;
        Ok(Response::new(replays::shown(&job, self.0.jobs.now())))
    }

    async fn try_redrive_dead_letters(
        &self,
        request: Request<RedriveDeadLettersRequest>,
    ) -> Result<Response<TryReplayResponse>, Status> {
        let (name, new) = redrive(request.into_inner()).map_err(|e| status(&e))?;
        let trial = self.0.jobs.try_redrive(&name, new).await.map_err(|e| status(&e))?;
        Ok(Response::new(replays::tried(&self.0, trial).await))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let ListDeadLettersRequest { subscription, limit, cursor, error, status: of, filter } =
            request.into_inner();
        let list = ListLetters { limit, cursor, error, status: of, filter };
        let page = self.0.dead_letters.list(&subscription, list).await.map_err(|e| status(&e))?;
        Ok(Response::new(ListDeadLettersResponse {
            dead_letters: page.letters.iter().map(shown).collect(),
            cursor: page.cursor,
            filter_errors: page.filter_errors as i64,
            not_listed: page.unlisted as i64,
        }))
    }

    async fn summarize_dead_letters(
        &self,
        request: Request<SummarizeDeadLettersRequest>,
    ) -> Result<Response<SummarizeDeadLettersResponse>, Status> {
        let SummarizeDeadLettersRequest { subscription, status: of } = request.into_inner();
        let summary = self.0.dead_letters.summary(&subscription, of.as_deref()).await;
        let summary = summary.map_err(|e| status(&e))?;
        let counts = |counts: BTreeMap<String, u64>| -> HashMap<String, i64> {
            counts.into_iter().map(|(name, count)| (name, count as i64)).collect()
        };
        let statuses = summary.statuses.into_iter().map(|(of, count)| (of.as_str().to_owned(), count as i64));
        Ok(Response::new(SummarizeDeadLettersResponse {
            statuses: statuses.collect(),
            kinds: counts(summary.kinds),
            types: counts(summary.types),
            not_listed: summary.unlisted as i64,
        }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Result<Response<DeadLetterDetail>, Status> {
        let GetDeadLetterRequest { subscription, id } = request.into_inner();
        let detail = self.0.dead_letters.get(&subscription, &id).await.map_err(|e| status(&e))?;
        Ok(Response::new(in_full(&detail)))
    }

    async fn edit_dead_letter(
        &self,
        request: Request<EditDeadLetterRequest>,
    ) -> Result<Response<DeadLetterDetail>, Status> {
        let request = request.into_inner();
        let (subscription, id) = (request.subscription.clone(), request.id.clone());
        let edit = said(request).map_err(|e| status(&e))?;
        let detail = self.0.dead_letters.edit(&subscription, &id, edit).await.map_err(|e| status(&e))?;
        Ok(Response::new(in_full(&detail)))
    }

    async fn discard_dead_letter(
        &self,
        request: Request<DiscardDeadLetterRequest>,
    ) -> Result<Response<()>, Status> {
        let DiscardDeadLetterRequest { subscription, id, reason } = request.into_inner();
        let reason = reason.filter(|reason| !reason.is_empty());
        self.0.dead_letters.discard(&subscription, &id, reason).await.map_err(|e| status(&e))?;
        Ok(Response::new(()))
    }
}

fn said(request: EditDeadLetterRequest) -> Result<EditLetter> {
    let data = match (request.data, request.data_json) {
        (Some(_), Some(_)) => return Err(Error::invalid("data_json", "must not be given beside `data`")),
        (Some(data), None) => Some(data.value.map_or(EditData::Null, EditData::Bytes)),
        (None, Some(json)) => {
            let read: Result<serde_json::Value, _> = serde_json::from_str(&json);
            read.map_err(|error| Error::invalid("data_json", format!("must be JSON: {error}")))?;
            Some(EditData::Json(Bytes::from(json)))
        }
        (None, None) => None,
    };
    let header = |header: crate::proto::Header| Header { name: header.name.into(), value: header.value };
    Ok(EditLetter {
        key: request.key.map(|key| key.value),
        data,
        headers: request.headers.map(|said| said.headers.into_iter().map(header).collect()),
    })
}

fn in_full(detail: &LetterDetail) -> DeadLetterDetail {
    let unedited = detail.original.as_ref();
    DeadLetterDetail {
        dead_letter: Some(shown(&detail.letter)),
        unedited: unedited
            .map(|(was, value)| convert::outgoing(&was.topic, was.partition, &was.record, value)),
        history: detail.history.iter().map(decision).collect(),
    }
}

fn shown(letter: &Letter) -> DeadLetter {
    let event = &letter.event;
    DeadLetter {
        id: letter.id.to_string(),
        status: letter.status.as_str().to_owned(),
        edited: letter.edited,
        error: Some(DeadLetterError {
            kind: letter.error.kind.clone(),
            message: letter.error.message.clone(),
            chain: letter.error.chain.clone(),
        }),
        attempts: letter.attempts,
        first_failed_at: letter.first_failed_at.map(convert::time),
        last_failed_at: Some(convert::time(letter.last_failed_at)),
        previous: letter.previous.clone(),
        topic: letter.topic.as_str().to_owned(),
        partition: letter.partition,
        offset: letter.offset as i64,
        event: Some(convert::outgoing(&event.topic, event.partition, &event.record, &letter.value)),
    }
}

fn decision(recorded: &Recorded) -> DeadLetterDecision {
    DeadLetterDecision {
        decision: recorded.kind.as_str().to_owned(),
        at: Some(convert::time(recorded.at)),
        by: recorded.by.clone(),
        reason: recorded.reason.clone(),
        job: recorded.job.clone(),
    }
}

/// Which dead letters are meant, of which subscription.
fn redrive(request: RedriveDeadLettersRequest) -> Result<(String, NewRedrive)> {
    let RedriveDeadLettersRequest { subscription, ids, filter, all, rate_per_second } = request;
    let selection = match (ids.is_empty(), filter, all) {
        (false, None, false) => Selection::Ids(ids),
        (true, Some(filter), false) => Selection::Filter(filter),
        (true, None, true) => Selection::All,
        _ => return Err(Error::invalid("ids", "or `filter`, or `all` must be said, and one of them alone")),
    };
    Ok((subscription, NewRedrive { selection, rate_per_second }))
}

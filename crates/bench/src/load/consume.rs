//! One stream of deliveries, each acknowledged by itself. Of a delivery no more is looked at than its
//! `ackId`; what is said is bytes written by hand, as a light client would.

use super::grpc::{Ready, refused, varint};
use crate::Outcome;
use api_grpc::proto::{
    DecisionStatus, SubscribeRequest, SubscribeResponse, SubscribeStart, subscribe_request,
    subscribe_response::Message,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};

const METHOD: &str = "/eventstreaming.v1.Subscriber/Subscribe";
/// Field 1, with a length: `deliveries` of an answer and of its list, and `ack_id` of one.
const FIRST: u8 = 1 << 3 | 2;

/// How the acknowledgements are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acks {
    /// Those of what came in one message, in one request.
    Together,
    /// Each in a request of its own.
    OneByOne,
}

/// From the first delivery to the last confirmation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

/// Takes `events` deliveries of a subscription and acknowledges each; returns when all acknowledgements were
/// answered with `ok`.
pub(crate) async fn all(
    address: &str,
    subscription: &str,
    credits: u32,
    acks: Acks,
    events: u64,
) -> Outcome<Span> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|e| format!("no address: {e}"))?;
    let channel = endpoint.tcp_nodelay(true).connect().await.map_err(|e| format!("no connection: {e}"))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|e| format!("no connection: {e}"))?;

    // It holds a request for all that may be out, so that saying one never waits.
    let (sender, receiver) = mpsc::channel(credits as usize + 1);
    let send = |message| sender.try_send(message).map_err(|_| "the stream takes nothing more".to_owned());
    let start = SubscribeStart { subscription: subscription.to_owned(), credits, release_on_close: false };
    let start = SubscribeRequest { message: Some(subscribe_request::Message::Start(start)) };
    send(start.encode_to_vec().into())?;
    let request = Request::new(ReceiverStream::new(receiver));
    let answers = client.streaming(request, PathAndQuery::from_static(METHOD), Ready).await;
    let mut answers = answers.map_err(|status| refused(&status))?.into_inner();
    let mut done = 0;
    let mut first = None;
    while done < events {
        let answer = answers.message().await.map_err(|status| refused(&status))?;
        let answer = answer.ok_or("the stream ended before its last answer")?;
        if let Some(ids) = delivered(&answer) {
            first.get_or_insert_with(Instant::now);
            for said in ids.chunks(if acks == Acks::Together { ids.len() } else { 1 }) {
                send(acknowledgement(said))?;
            }
        } else {
            done += confirmed(answer)?;
        }
    }
    match first {
        Some(first) if done == events => Ok(Span { first, last: Instant::now() }),
        _ => Err(format!("{done} deliveries of {events} events were confirmed")),
    }
}

/// The `ackId`s of a message of deliveries; none of another message.
fn delivered(answer: &[u8]) -> Option<Vec<&[u8]>> {
    let (deliveries, _) = first(answer)?;
    let mut rest = deliveries;
    let mut ids = Vec::with_capacity(1024);
    while !rest.is_empty() {
        let (delivery, behind) = first(rest)?;
        let (id, _) = first(delivery)?;
        ids.push(id);
        rest = behind;
    }
    Some(ids)
}

/// What the first field holds, and what stands behind it, where that is field 1 with a length.
fn first(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&FIRST, rest) = message.split_first()? else { return None };
    let (length, rest) = varint(rest)?;
    rest.split_at_checked(length)
}

/// A request that acknowledges these.
fn acknowledgement(ids: &[&[u8]]) -> Bytes {
    const DECISIONS: u8 = 3 << 3 | 2;
    const ACK: u8 = 2 << 3 | 2;
    let length = |length: usize| prost::length_delimiter_len(length) + length;
    let body: usize = ids.iter().map(|id| 1 + length(id.len())).sum();
    let mut message = BytesMut::with_capacity(1 + length(body));
    message.put_u8(DECISIONS);
    prost::encoding::encode_varint(body as u64, &mut message);
    for id in ids {
        message.put_u8(ACK);
        prost::encoding::encode_varint(id.len() as u64, &mut message);
        message.put_slice(id);
    }
    message.freeze()
}

/// How many decisions a message of results confirms; anything but that is an error.
fn confirmed(answer: Bytes) -> Outcome<u64> {
    let answer = SubscribeResponse::decode(answer).map_err(|e| format!("an answer cannot be read: {e}"))?;
    let Some(Message::Results(results)) = &answer.message else {
        return Err(format!("the service answered {answer:?}"));
    };
    let mut count = 0;
    for result in &results.results {
        if result.error.is_some() || result.statuses().any(|status| status != DecisionStatus::Ok) {
            return Err(format!("an acknowledgement was answered with {result:?}"));
        }
        count += result.statuses.len() as u64;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_grpc::proto::{
        Delivery, SubscribeDecisions, SubscribeDeliveries, SubscribeDraining, SubscribeResult,
        SubscribeResults,
    };

    fn response(message: Message) -> Bytes {
        SubscribeResponse { message: Some(message) }.encode_to_vec().into()
    }

    #[test]
    fn the_ids_of_deliveries_are_found_and_said_again() {
        let names: Vec<String> = (0..300).map(|n| format!("{n:0>200}")).collect();
        let of = |ack_id: &String| Delivery { ack_id: ack_id.clone(), attempt: 1, ..Delivery::default() };
        let deliveries = names.iter().map(of).collect();
        let message = response(Message::Deliveries(SubscribeDeliveries { deliveries }));
        let ids = delivered(&message).unwrap();
        assert_eq!(ids, names.iter().map(String::as_bytes).collect::<Vec<_>>());
        let said = SubscribeRequest::decode(acknowledgement(&ids)).unwrap();
        let expected = SubscribeDecisions { ack: names, ..SubscribeDecisions::default() };
        assert_eq!(said.message, Some(subscribe_request::Message::Decisions(expected)));
        assert_eq!(delivered(&response(Message::Results(SubscribeResults::default()))), None);
    }

    #[test]
    fn only_what_is_ok_is_confirmed() {
        let results = |statuses: &[DecisionStatus]| {
            let statuses = statuses.iter().map(|status| i32::from(*status)).collect();
            let results = vec![SubscribeResult { statuses, ..SubscribeResult::default() }];
            response(Message::Results(SubscribeResults { results }))
        };
        assert_eq!(confirmed(results(&[DecisionStatus::Ok; 2])), Ok(2));
        assert!(confirmed(results(&[DecisionStatus::Ok, DecisionStatus::Expired])).is_err());
        assert!(confirmed(response(Message::Draining(SubscribeDraining {}))).is_err());
    }
}

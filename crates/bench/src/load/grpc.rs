//! Streams of publishing, each with a bound on what is on its way. Messages are ready-made bytes, and of
//! an answer no more is looked at than whether each event has its receipt.

use crate::{
    Outcome,
    measure::{Tally, Window},
};
use bytes::{Buf as _, BufMut as _, Bytes};

use std::{collections::VecDeque, sync::Arc};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Endpoint,
};

const METHOD: &str = "/eventstreaming.v1.Publisher/PublishStream";

/// Sends `messages` of `batch` events each over so many streams, each with so many messages on their way,
/// until the window ends.
pub(crate) async fn streams(
    address: &str,
    messages: Vec<Bytes>,
    batch: usize,
    (streams, in_flight): (usize, usize),
    window: Window,
) -> Outcome<Tally> {
    let messages = Arc::new(messages);
    let mut tasks = JoinSet::new();
    for number in 0..streams {
        let first = number * messages.len() / streams;
        tasks.spawn(one(address.to_owned(), messages.clone(), first, batch, in_flight, window));
    }
    let mut all = Tally::new();
    while let Some(tally) = tasks.join_next().await {
        all.add(&tally.map_err(|e| e.to_string())??);
    }
    Ok(all)
}

async fn one(
    address: String,
    messages: Arc<Vec<Bytes>>,
    first: usize,
    batch: usize,
    in_flight: usize,
    window: Window,
) -> Outcome<Tally> {
    let endpoint = Endpoint::from_shared(address).map_err(|e| format!("no address: {e}"))?;
    let channel = endpoint.tcp_nodelay(true).connect().await.map_err(|e| format!("no connection: {e}"))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|e| format!("no connection: {e}"))?;

    let mut next = messages.iter().cycle().skip(first);
    // It holds all that may be on its way, so that sending never waits.
    let (sender, receiver) = mpsc::channel(in_flight);
    let mut sent = VecDeque::with_capacity(in_flight);
    let mut send = |sent: &mut VecDeque<Instant>, at: Instant| {
        let message = next.next().cloned().unwrap_or_default();
        sent.push_back(at);
        sender.try_send(message).map_err(|_| "the stream takes nothing more".to_owned())
    };
    for _ in 0..in_flight {
        send(&mut sent, Instant::now())?;
    }
    let request = Request::new(ReceiverStream::new(receiver));
    let answers = client.streaming(request, PathAndQuery::from_static(METHOD), Ready).await;
    let mut answers = answers.map_err(|status| refused(&status))?.into_inner();
    let mut tally = Tally::new();
    // The oldest that is not answered yet: answers come in the order of messages.
    while let Some(since) = sent.pop_front() {
        let answer = answers.message().await.map_err(|status| refused(&status))?;
        let answer = answer.ok_or("the stream ended before its last answer")?;
        let now = Instant::now();
        if receipts(&answer) != Some(batch) {
            return Err(format!("a message of {batch} events was not answered by as many receipts"));
        }
        tally.acknowledged(&window, batch as u64, since, now);
        if now < window.end {
            send(&mut sent, now)?;
        }
    }
    Ok(tally)
}

/// How many results a `PublishStreamResponse` holds, when each of them is a receipt.
fn receipts(mut answer: &[u8]) -> Option<usize> {
    /// Field 1, with a length: `results` of the answer, and `receipt` of a result.
    const FIRST: u8 = 1 << 3 | 2;
    let mut count = 0;
    while let Some((&tag, rest)) = answer.split_first() {
        let (length, rest) = varint(rest)?;
        if tag != FIRST || rest.first() != Some(&FIRST) {
            return None;
        }
        answer = rest.get(length..)?;
        count += 1;
    }
    Some(count)
}

pub(super) fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

pub(super) fn refused(status: &Status) -> String {
    format!("the stream was ended: {status}")
}

/// Messages that are bytes already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready;

impl Codec for Ready {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Ready {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Ready {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_grpc::proto::{Error, PublishResult, PublishStreamResponse, Receipt, publish_result::Outcome};
    use prost::Message as _;

    fn result(outcome: Outcome) -> PublishResult {
        PublishResult { outcome: Some(outcome) }
    }

    #[test]
    fn an_answer_counts_when_all_its_results_are_receipts() {
        let receipt =
            result(Outcome::Receipt(Receipt { id: "x".repeat(200), offset: 7, ..Receipt::default() }));
        let answer =
            |results: &[PublishResult]| PublishStreamResponse { results: results.to_vec() }.encode_to_vec();
        assert_eq!(receipts(&answer(&[])), Some(0));
        assert_eq!(receipts(&answer(&[receipt.clone(), receipt.clone()])), Some(2));
        let failure = result(Outcome::Error(Error { code: "unavailable".to_owned(), ..Error::default() }));
        assert_eq!(receipts(&answer(&[receipt, failure])), None);
        assert_eq!(receipts(&[10, 5, 10]), None);
    }
}

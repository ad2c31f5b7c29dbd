//! Whatever a client sends, the answer is its own mistake at worst.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod support;

use api_grpc::proto::{Event, Header, PublishBatchRequest, PublishStreamRequest, publish_result::Outcome};
use bytes::{Buf, BufMut, Bytes};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use support::{Front, TOPIC, event};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};
use tonic_types::StatusExt;

/// Messages that are bytes.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
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

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn client(front: &Front) -> Grpc<tonic::transport::Channel> {
    let mut client = Grpc::new(front.channel.clone());
    client.ready().await.unwrap();
    client
}

#[track_caller]
fn assert_refused(status: &Status, reason: &str) {
    let info = status.get_details_error_info();
    assert_eq!((status.code(), info.unwrap().reason.as_str()), (Code::InvalidArgument, reason), "{status:?}");
}

#[tokio::test]
async fn a_message_that_is_no_protocol_buffer_is_the_clients_mistake() {
    let front = Front::start().await;
    // A length beyond the end; text that is no UTF-8; a group that does not end.
    for bad in [&b"\x0a\xff\x01a"[..], b"\x0a\x02\xff\xfe", b"\x0b"] {
        for method in ["Publisher/Publish", "Publisher/PublishBatch", "Subscriber/Pull", "Topics/CreateTopic"]
        {
            let path = PathAndQuery::try_from(format!("/eventstreaming.v1.{method}")).unwrap();
            let bad = Request::new(Bytes::from_static(bad));
            let error = client(&front).await.unary(bad, path, Raw).await.unwrap_err();
            assert_refused(&error, "invalid_request");
        }
    }
}

#[tokio::test]
async fn a_stream_ends_at_a_message_that_cannot_be_read_after_the_earlier_are_answered() {
    let front = Front::start().await;
    let good = PublishStreamRequest { topic: TOPIC.into(), events: vec![event(1)] }.encode_to_vec();
    let many = PublishStreamRequest { topic: TOPIC.into(), events: vec![event(1); 10_001] }.encode_to_vec();
    let path = PathAndQuery::from_static("/eventstreaming.v1.Publisher/PublishStream");
    for (bad, reason) in
        [(vec![0x0b], "invalid_request"), (vec![0; 9 << 20], "request_too_large"), (many, "invalid_request")]
    {
        let messages = [good.clone(), good.clone(), bad].map(Bytes::from);
        let messages = Request::new(tokio_stream::iter(messages));
        let mut answers =
            client(&front).await.streaming(messages, path.clone(), Raw).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());
        assert!(answers.message().await.unwrap().is_some());
        assert_refused(&answers.message().await.unwrap_err(), reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    use tokio::io::AsyncReadExt as _;
    let front = Front::start().await;
    let mut silent = tokio::net::TcpStream::connect(front.address).await.unwrap();
    let mut said = Vec::new();
    // What the server says first, and then its end.
    let _ = silent.read_to_end(&mut said).await;
    assert!(said.len() < 200, "{said:?}");
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof![any::<String>(), "[a-z]{0,9}", Just("x".repeat(5000))])
}

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..40).prop_map(Bytes::from))
}

prop_compose! {
    fn any_event()(
        texts in proptest::array::uniform12(text()),
        key in bytes(),
        data in bytes(),
        partition in option::of(prop_oneof![0..4_u32, any::<u32>()]),
        time in option::of((any::<i64>(), any::<i32>())),
        headers in vec((any::<String>(), bytes()), 0..4),
        extensions in proptest::collection::hash_map("[a-z0-9A-Z]{0,21}", any::<String>(), 0..4),
    ) -> Event {
        let [id, source, subject, kind, content, schema, tenant, user, correlation, causation, parent, state] = texts;
        Event {
            id, source, subject, r#type: kind, datacontenttype: content, dataschema: schema, tenantid: tenant,
            userid: user, correlationid: correlation, causationid: causation, traceparent: parent,
            tracestate: state, key, data, partition, extensions,
            time: time.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
            headers: headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
            ..Event::default()
        }
    }
}

#[test]
fn any_event_is_published_or_refused_by_name_and_its_neighbours_are_published() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let front = runtime.block_on(Front::start());
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in vec(any_event(), 1..8))| {
        let count = events.len();
        // Neighbours without a key follow no other.
        let plain = Event { key: None, ..event(1) };
        let events = std::iter::once(plain.clone()).chain(events).chain([plain]).collect();
        let batch = PublishBatchRequest { topic: TOPIC.into(), events };
        let answer = runtime.block_on(front.publisher().publish_batch(batch)).unwrap().into_inner();
        prop_assert_eq!(answer.results.len(), count + 2);
        prop_assert_eq!(answer.published + answer.failed, count as u32 + 2);
        for index in [0, count + 1] {
            prop_assert!(matches!(answer.results[index].outcome, Some(Outcome::Receipt(_))));
        }
        for result in answer.results {
            if let Some(Outcome::Error(error)) = result.outcome {
                let named = error.code == "invalid_request" && !error.errors.is_empty();
                prop_assert!(named || error.code == "predecessor_failed", "{:?}", error);
            }
        }
    });
}

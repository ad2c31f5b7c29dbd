//! The crate `schema_registry_converter`, with librdkafka for the way.

use super::{Format, Orders, Place, schema_text};
use event_streaming_tests::PATIENCE;
use futures::future::join_all;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use schema_registry_converter::prost_reflect::{DynamicMessage, SerializeOptions};
use schema_registry_converter::{
    async_impl::{
        avro::{AvroDecoder, AvroEncoder},
        json::{JsonDecoder, JsonEncoder},
        proto_decoder::ProtoDecoder,
        proto_encoder::ProtoEncoder,
        schema_registry::SrSettings,
    },
    schema_registry_common::{SchemaType, SubjectNameStrategy, SuppliedReference, SuppliedSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Copy, Debug)]
pub(super) struct RustClient;

impl Orders for RustClient {
    async fn produce(&self, place: &Place, format: Format, orders: &[Value]) {
        let settings = SrSettings::new(place.registry.clone());
        let schema = schema_of_orders(format);
        let subject =
            || SubjectNameStrategy::TopicNameStrategyWithSchema(place.topic.clone(), false, schema.clone());
        let mut config = ClientConfig::new();
        let producer: FutureProducer =
            config.set("bootstrap.servers", &place.brokers).create().expect("a producer");
        let proto = ProtoEncoder::new(settings.clone());
        let avro = AvroEncoder::new(settings.clone());
        let json = JsonEncoder::new(settings);
        for order in orders {
            let value = match format {
                Format::Protobuf => proto.encode_json(order, "shop.Order", &subject()).await,
                Format::Avro => {
                    let order: Order = serde_json::from_value(order.clone()).expect("an order");
                    avro.encode_struct(order, &subject()).await
                }
                Format::Json => json.encode(order, subject()).await,
            };
            let value = value.expect("it is serialized");
            let record = FutureRecord::<(), _>::to(&place.topic).payload(&value);
            producer.send(record, PATIENCE).await.expect("it is written");
        }
    }

    async fn consume(&self, place: &Place, format: Format, count: usize) -> Vec<Value> {
        let settings = SrSettings::new(place.registry.clone());
        let values = values_in(&place.brokers, &place.topic, count).await;
        match format {
            Format::Protobuf => {
                let decoder = ProtoDecoder::new(settings);
                let orders = values.iter().map(|value| decoder.decode_with_context(Some(value)));
                let orders = join_all(orders).await;
                orders
                    .into_iter()
                    .map(|order| json_of(&order.expect("it is read").expect("a message").value))
                    .collect()
            }
            Format::Avro => {
                let decoder = AvroDecoder::new(settings);
                let orders = join_all(values.iter().map(|value| decoder.decode(Some(value)))).await;
                let json =
                    |order: apache_avro::types::Value| Value::try_from(order).expect("it has a JSON form");
                orders.into_iter().map(|order| json(order.expect("it is read").value)).collect()
            }
            Format::Json => {
                let decoder = JsonDecoder::new(settings);
                let orders = join_all(values.iter().map(|value| decoder.decode(Some(value)))).await;
                orders.into_iter().map(|order| order.expect("it is read").expect("a value").value).collect()
            }
        }
    }
}

/// An order as an application would have it.
#[derive(Debug, Deserialize, Serialize)]
struct Order {
    id: String,
    cents: i32,
    items: Vec<Item>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Item {
    sku: String,
    count: i32,
}

fn schema_of_orders(format: Format) -> SuppliedSchema {
    match format {
        Format::Protobuf => {
            let item = SuppliedReference::new(
                "shop/item.proto".into(),
                "shop/item.proto".into(),
                schema_text("shop/item.proto"),
            );
            SuppliedSchema::new(None, SchemaType::Protobuf, schema_text("shop/order.proto"))
                .with_references(vec![item])
        }
        Format::Avro => SuppliedSchema::new(None, SchemaType::Avro, schema_text("order.avsc")),
        Format::Json => SuppliedSchema::new(None, SchemaType::Json, schema_text("order.json")),
    }
}

/// What lies in a topic of one partition, from its start.
pub(super) async fn values_in(brokers: &str, topic: &str, count: usize) -> Vec<Vec<u8>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "none").set("enable.auto.commit", "false");
    let consumer: StreamConsumer = config.create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&assignment).expect("it is assigned");
    let mut values = Vec::new();
    while values.len() < count {
        let message = tokio::time::timeout(PATIENCE, consumer.recv()).await.expect("it comes in time");
        values.push(message.expect("a message").payload().expect("a value").to_vec());
    }
    values
}

fn json_of(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).expect("it has a JSON form")
}

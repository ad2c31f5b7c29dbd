"""Orders by Confluent's Python client, with its serializers, through Kafka.

    serdes.py produce PROTOBUF|AVRO|JSON          orders as a JSON array on stdin
    serdes.py consume PROTOBUF|AVRO|JSON COUNT    the topic's first ones as a JSON array on stdout

The environment says where: REGISTRY, BROKERS, TOPIC, SCHEMAS (the folder of the schemas).
"""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc_tools import protoc

SCHEMAS = Path(os.environ["SCHEMAS"])
TOPIC = os.environ["TOPIC"]
PATIENCE_S = 60


def generated_order():
    """The class that protoc makes of shop.Order."""
    out = tempfile.mkdtemp()
    files = [str(path) for path in sorted((SCHEMAS / "shop").glob("*.proto"))]
    assert protoc.main(["protoc", f"-I{SCHEMAS}", f"--python_out={out}", *files]) == 0
    sys.path.insert(0, out)
    return importlib.import_module("shop.order_pb2").Order


def serdes(kind, registry):
    """(dict -> bytes, bytes -> dict), each with the context that a client gives them."""
    if kind == "PROTOBUF":
        order = generated_order()
        serialize = ProtobufSerializer(order, registry, {"auto.register.schemas": True})
        deserialize = ProtobufDeserializer(order, schema_registry_client=registry)
        return (
            lambda value, ctx: serialize(ParseDict(value, order()), ctx),
            lambda value, ctx: MessageToDict(deserialize(value, ctx), preserving_proto_field_name=True),
        )
    if kind == "AVRO":
        text = (SCHEMAS / "order.avsc").read_text()
        return AvroSerializer(registry, text), AvroDeserializer(registry)
    text = (SCHEMAS / "order.json").read_text()
    return JSONSerializer(text, registry), JSONDeserializer(None, schema_registry_client=registry)


def produce(serialize, context):
    lost = []
    producer = Producer({"bootstrap.servers": os.environ["BROKERS"]})
    for order in json.load(sys.stdin):
        value = serialize(order, context)
        producer.produce(TOPIC, value, on_delivery=lambda error, _: error and lost.append(error))
    assert producer.flush(PATIENCE_S) == 0, "not delivered in time"
    assert not lost, lost


def consume(deserialize, context, count):
    # What it consumes is assigned: it has no use for a group.
    consumer = Consumer({"bootstrap.servers": os.environ["BROKERS"], "group.id": "none", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    orders = []
    while len(orders) < count:
        message = consumer.poll(PATIENCE_S)
        assert message is not None, f"{len(orders)} of {count} came"
        assert message.error() is None, message.error()
        orders.append(deserialize(message.value(), context))
    consumer.close()
    json.dump(orders, sys.stdout)


def main():
    what, kind = sys.argv[1:3]
    with SchemaRegistryClient({"url": os.environ["REGISTRY"]}) as registry:
        serialize, deserialize = serdes(kind, registry)
        context = SerializationContext(TOPIC, MessageField.VALUE)
        if what == "produce":
            produce(serialize, context)
        else:
            consume(deserialize, context, int(sys.argv[3]))


main()

// Orders by Confluent's registry client for Node.js, with its serializers, through Kafka. The Kafka client is kafkajs:
// Confluent's own is a prebuilt binary that npm does not carry.
//
//     serdes.cjs produce PROTOBUF|AVRO|JSON          orders as a JSON array on stdin
//     serdes.cjs consume PROTOBUF|AVRO|JSON COUNT    the topic's first ones as a JSON array on stdout
//
// The environment says where: REGISTRY, BROKERS, TOPIC, SCHEMAS (the folder of the schemas), DESCRIPTORS (a file with
// the descriptors of the Protobuf ones).
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { createFileRegistry, createMutableRegistry, fromBinary, fromJson, toJson } = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");
const registry = require("@confluentinc/schemaregistry");
const { Kafka, logLevel } = require("kafkajs");

const { REGISTRY, BROKERS, TOPIC, SCHEMAS, DESCRIPTORS } = process.env;
const PATIENCE_MS = 60_000;

/** [object => bytes, bytes => object], both asynchronous. */
async function serdes(kind, client) {
  const value = registry.SerdeType.VALUE;
  if (kind === "PROTOBUF") {
    const files = createFileRegistry(fromBinary(FileDescriptorSetSchema, fs.readFileSync(DESCRIPTORS)));
    const order = files.getMessage("shop.Order");
    const config = { autoRegisterSchemas: true, registry: createMutableRegistry(...files) };
    const serializer = new registry.ProtobufSerializer(client, value, config);
    const deserializer = new registry.ProtobufDeserializer(client, value, {});
    return [
      (it) => serializer.serialize(TOPIC, fromJson(order, it)),
      async (bytes) => toJson(order, await deserializer.deserialize(TOPIC, bytes)),
    ];
  }
  const file = kind === "AVRO" ? "order.avsc" : "order.json";
  const schema = { schemaType: kind, schema: fs.readFileSync(path.join(SCHEMAS, file), "utf8") };
  await client.register(`${TOPIC}-value`, schema);
  const config = { autoRegisterSchemas: false, useLatestVersion: true };
  const [serializer, deserializer] =
    kind === "AVRO"
      ? [new registry.AvroSerializer(client, value, config), new registry.AvroDeserializer(client, value, {})]
      : [new registry.JsonSerializer(client, value, config), new registry.JsonDeserializer(client, value, {})];
  return [(it) => serializer.serialize(TOPIC, it), (bytes) => deserializer.deserialize(TOPIC, bytes)];
}

async function produce(kafka, serialize) {
  const orders = JSON.parse(fs.readFileSync(0, "utf8"));
  const messages = await Promise.all(orders.map(async (order) => ({ value: await serialize(order) })));
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: TOPIC, acks: -1, messages });
  await producer.disconnect();
}

async function consume(kafka, deserialize, count) {
  const consumer = kafka.consumer({ groupId: `${TOPIC}-${process.pid}` });
  await consumer.connect();
  await consumer.subscribe({ topic: TOPIC, fromBeginning: true });
  const orders = [];
  await new Promise((done, failed) => {
    setTimeout(() => failed(new Error(`${orders.length} of ${count} came`)), PATIENCE_MS).unref();
    consumer.on(consumer.events.CRASH, ({ payload }) => failed(payload.error));
    const eachMessage = async ({ message }) => {
      // An error here would be tried again for ever.
      await deserialize(message.value).then((order) => orders.push(order), failed);
      if (orders.length === count) done();
    };
    consumer.run({ autoCommit: false, eachMessage }).catch(failed);
  });
  await consumer.disconnect();
  process.stdout.write(JSON.stringify(orders));
}

async function main([what, kind, count]) {
  const client = new registry.SchemaRegistryClient({ baseURLs: [REGISTRY] });
  const [serialize, deserialize] = await serdes(kind, client);
  const kafka = new Kafka({ brokers: BROKERS.split(","), logLevel: logLevel.ERROR });
  if (what === "produce") await produce(kafka, serialize);
  else await consume(kafka, deserialize, Number(count));
  client.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});

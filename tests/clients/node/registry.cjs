// What Confluent's registry client for Node.js can ask of a registry, one after the other. REGISTRY says of which; it
// is empty.
"use strict";

const assert = require("node:assert/strict");
const { Compatibility, SchemaRegistryClient } = require("@confluentinc/schemaregistry");

const client = new SchemaRegistryClient({ baseURLs: [process.env.REGISTRY], maxRetries: 0 });

const proto = (text, references = []) => ({
  schemaType: "PROTOBUF",
  schema: `syntax = "proto3"; package shop; ${text}`,
  references,
});

/** The call is refused, with this status and code; gives the message. */
async function refused(status, code, call) {
  const error = await call().then(
    (answer) => assert.fail(`it was not refused: ${JSON.stringify(answer)}`),
    (error) => error,
  );
  assert.deepEqual([error.status, error.errorCode], [status, code], String(error));
  return error.message;
}

async function registersAndFinds() {
  const item = proto("message Item { string sku = 1; }");
  const id = await client.register("shop/item.proto", item, false);
  client.clearCaches();
  const full = await client.registerFullResponse("shop/item.proto", item, false);
  assert.equal(full.id, id);
  assert.equal((await client.getBySubjectAndId("shop/item.proto", id)).schemaType, "PROTOBUF");
  assert.match((await client.getByGuid(full.guid)).schema, /sku/);
  client.clearCaches();
  assert.equal(await client.getId("shop/item.proto", item, false), id);
  assert.equal(await client.getVersion("shop/item.proto", item, false, false), 1);
  assert.equal((await client.getSchemaMetadata("shop/item.proto", 1, false)).id, id);
  assert.equal((await client.getLatestSchemaMetadata("shop/item.proto")).version, 1);
  // It does not escape the slash of a subject here.
  await client.register("items-value", item, false);
  assert.deepEqual(await client.getAllVersions("items-value"), [1]);
  assert.deepEqual(await client.getAllSubjects(), ["items-value", "shop/item.proto"]);
  await refused(404, 40401, () => client.getAllVersions("nobody"));
  await refused(404, 40402, () => client.getSchemaMetadata("shop/item.proto", 7, false));
  await refused(422, 42201, () => client.register("shop/item.proto", proto("message Item { sku = 1; }"), false));
}

async function references() {
  const text = 'import "shop/item.proto"; message Order { string id = 1; repeated Item items = 2; }';
  const reference = { name: "shop/item.proto", subject: "shop/item.proto", version: 1 };
  const id = await client.register("orders-value", proto(text, [reference]), false);
  client.clearCaches();
  assert.deepEqual((await client.getBySubjectAndId("orders-value", id)).references, [reference]);
  await refused(422, 42206, () => client.deleteSubjectVersion("shop/item.proto", 1, false));
}

async function compatibility() {
  assert.equal(await client.getDefaultCompatibility(), Compatibility.FULL_TRANSITIVE);
  const more = proto("message Payment { string id = 1; int32 cents = 2; }");
  const other = proto("message Payment { int32 id = 1; }");
  await client.register("payments-value", proto("message Payment { string id = 1; }"), false);
  assert.equal(await client.testSubjectCompatibility("payments-value", more), true);
  assert.equal(await client.testCompatibility("payments-value", 1, other), false);
  const message = await refused(409, 40901, () => client.register("payments-value", other, false));
  assert.match(message, /FIELD_SCALAR_KIND_CHANGED/);
  await client.register("payments-value", more, false);
  await client.updateCompatibility("payments-value", Compatibility.BACKWARD);
  assert.equal(await client.getCompatibility("payments-value"), Compatibility.BACKWARD);
  await client.updateConfig("payments-value", { compatibility: Compatibility.FULL, normalize: true });
  const config = await client.getConfig("payments-value");
  assert.deepEqual([config.compatibilityLevel, config.normalize], [Compatibility.FULL, true]);
  await client.updateDefaultCompatibility(Compatibility.NONE);
  assert.equal((await client.getDefaultConfig()).compatibilityLevel, Compatibility.NONE);
}

async function deletes() {
  assert.equal(await client.deleteSubjectVersion("payments-value", 1, false), 1);
  client.clearCaches();
  assert.deepEqual(await client.getAllVersions("payments-value"), [2]);
  assert.deepEqual(await client.deleteSubject("payments-value", false), [2]);
  assert.deepEqual(await client.deleteSubject("payments-value", true), [1, 2]);
  assert.deepEqual(await client.getAllSubjects(), ["items-value", "orders-value", "shop/item.proto"]);
}

async function main() {
  for (const step of [registersAndFinds, references, compatibility, deletes]) {
    console.error(step.name);
    await step();
  }
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

"""What Confluent's Python client can ask of a registry, one after the other. REGISTRY says of which; it is empty."""

import os

from confluent_kafka.schema_registry import ConfigCompatibilityLevel as Level
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry.error import SchemaRegistryError

client = SchemaRegistryClient({"url": os.environ["REGISTRY"]})


def proto(text, references=()):
    return Schema(f'syntax = "proto3"; package shop; {text}', "PROTOBUF", list(references))


def refused(status, code, call, *arguments, **named):
    """The call is refused, with this status and code; gives the message."""
    try:
        answer = call(*arguments, **named)
    except SchemaRegistryError as error:
        assert (error.http_status_code, error.error_code) == (status, code), error
        return error.error_message
    raise AssertionError(f"it was not refused: {answer}")


def registers_and_finds():
    item = proto("message Item { string sku = 1; }")
    first = client.register_schema("shop/item.proto", item)
    assert client.register_schema("shop/item.proto", item) == first
    client.clear_caches()
    assert client.register_schema("shop/item.proto", item) == first
    full = client.register_schema_full_response("shop/item.proto", item)
    assert full.schema_id == first and full.guid
    assert client.get_schema(first).schema_type == "PROTOBUF"
    assert "sku" in client.get_schema_by_guid(full.guid).schema_str
    found = client.lookup_schema("shop/item.proto", item)
    assert (found.subject, found.version, found.schema_id) == ("shop/item.proto", 1, first)
    assert client.get_version("shop/item.proto", 1).schema_id == first
    assert client.get_latest_version("shop/item.proto").version == 1
    assert client.get_subjects_by_schema_id(first) == ["shop/item.proto"]
    assert [(it.subject, it.version) for it in client.get_schema_versions(first)] == [("shop/item.proto", 1)]
    assert set(client.get_schema_types()) == {"PROTOBUF", "AVRO", "JSON"}
    assert client.get_contexts() == ["."]
    refused(404, 40401, client.get_versions, "nobody")
    refused(404, 40402, client.get_version, "shop/item.proto", 7)
    refused(404, 40403, client.get_schema, 4711)
    message = refused(422, 42201, client.register_schema, "shop/item.proto", proto("message Item { sku = 1; }"))
    assert "Item" in message or "sku" in message or "line" in message, message


def references():
    text = 'import "shop/item.proto"; message Order { string id = 1; repeated Item items = 2; }'
    order = proto(text, [SchemaReference("shop/item.proto", "shop/item.proto", 1)])
    ident = client.register_schema("orders-value", order)
    client.clear_caches()
    kept = client.get_schema(ident).references
    assert [(it.name, it.subject, it.version) for it in kept] == [("shop/item.proto", "shop/item.proto", 1)]
    assert client.get_referenced_by("shop/item.proto", 1) == [ident]
    refused(422, 42206, client.delete_version, "shop/item.proto", 1)
    message = refused(422, 42201, client.register_schema, "lost-value", proto(text))
    assert "shop/item.proto" in message, message


def compatibility():
    assert client.get_compatibility() == "FULL_TRANSITIVE"
    first = proto("message Payment { string id = 1; }")
    more = proto("message Payment { string id = 1; int32 cents = 2; }")
    other = proto("message Payment { int32 id = 1; }")
    client.register_schema("payments-value", first)
    assert client.test_compatibility("payments-value", more)
    assert client.test_compatibility_all_versions("payments-value", more)
    assert not client.test_compatibility("payments-value", other)
    message = refused(409, 40901, client.register_schema, "payments-value", other)
    assert "FIELD_SCALAR_KIND_CHANGED" in message, message
    client.register_schema("payments-value", more)
    assert client.get_versions("payments-value") == [1, 2]
    client.set_compatibility("payments-value", "NONE")
    assert client.get_compatibility("payments-value") == "NONE"
    client.register_schema("payments-value", other)
    client.set_config("payments-value", ServerConfig(compatibility=Level.BACKWARD))
    config = client.get_config("payments-value")
    assert config.compatibility_level == "BACKWARD", config
    client.delete_config("payments-value")
    refused(404, 40408, client.get_compatibility, "payments-value")
    client.set_compatibility(level="BACKWARD")
    assert client.get_compatibility() == "BACKWARD"
    refused(422, 42203, client.set_compatibility, "payments-value", "SIDEWAYS")


def modes():
    assert client.get_global_mode() == "READWRITE"
    client.update_mode("payments-value", "READONLY")
    assert client.get_mode("payments-value") == "READONLY"
    refused(422, 42205, client.register_schema, "payments-value", proto("message Payment { string id = 9; }"))
    client.delete_mode("payments-value")
    client.update_global_mode("READONLY")
    assert client.get_global_mode() == "READONLY"
    client.update_global_mode("READWRITE")
    refused(422, 42204, client.update_mode, "payments-value", "SIDEWAYS")


def deletes():
    gone = client.get_version("payments-value", 1).schema_id
    assert client.delete_version("payments-value", 1) == 1
    client.clear_caches()
    refused(404, 40402, client.get_version, "payments-value", 1)
    assert client.get_version("payments-value", 1, deleted=True).version == 1
    # Events that were written by it are still read.
    assert "Payment" in client.get_schema(gone).schema_str
    assert client.delete_subject("payments-value") == [2, 3]
    assert "payments-value" not in client.get_subjects()
    assert "payments-value" in client.get_subjects(deleted=True)
    assert client.delete_subject("payments-value", permanent=True) == [1, 2, 3]
    client.clear_caches()
    assert "payments-value" not in client.get_subjects(deleted=True)
    refused(404, 40403, client.get_schema, gone)


for step in (registers_and_finds, references, compatibility, modes, deletes):
    try:
        step()
    except BaseException as error:
        error.add_note(f"while it {step.__name__}")
        raise

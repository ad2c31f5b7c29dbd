//! Confluent's Schema Registry API, over the backend in memory and without a network.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use domain::Limits;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Answer, Front};

const V1: &str = "application/vnd.schemaregistry.v1+json";
const ORDER: &str = "syntax = \"proto3\"; package shop; message Order { string id = 1; }";
const ORDER_2: &str = "syntax = \"proto3\"; package shop; message Order { string id = 1; int32 count = 2; }";
/// Another type at a number that is used.
const ORDER_BROKEN: &str = "syntax = \"proto3\"; package shop; message Order { int32 id = 1; }";
const CART: &str =
    "syntax = \"proto3\"; package shop; import \"order.proto\"; message Cart { Order order = 1; }";

struct Registry(Front);

impl Registry {
    async fn new() -> Self {
        Self(Front::new().await)
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let path = format!("/schema-registry{path}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.0.send(method, &path, &[("content-type", V1)], body).await
    }

    async fn get(&self, path: &str) -> Value {
        self.send("GET", path, &Value::Null).await.expect(200)
    }

    async fn delete(&self, path: &str) -> Value {
        self.send("DELETE", path, &Value::Null).await.expect(200)
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", path, body).await.expect(200)
    }

    async fn put(&self, path: &str, body: &Value) -> Value {
        self.send("PUT", path, body).await.expect(200)
    }

    async fn register(&self, subject: &str, text: &str) -> Value {
        self.post(&format!("/subjects/{subject}/versions"), &schema(text)).await["id"].clone()
    }

    /// The code of a request that is refused; its status is what the code begins with.
    #[track_caller]
    fn code(answer: &Answer) -> u64 {
        let code = answer.body["error_code"].as_u64().unwrap();
        assert!(code.to_string().starts_with(answer.status.as_str()), "{code} with {}", answer.status);
        assert!(answer.body["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(answer.headers["content-type"], V1);
        code
    }

    async fn refused(&self, method: &str, path: &str, body: &Value) -> u64 {
        Self::code(&self.send(method, path, body).await)
    }
}

fn schema(text: &str) -> Value {
    json!({"schemaType": "PROTOBUF", "schema": text})
}

fn cart(version: i64) -> Value {
    let references = json!([{"name": "order.proto", "subject": "order", "version": version}]);
    json!({"schemaType": "PROTOBUF", "schema": CART, "references": references})
}

#[tokio::test]
async fn a_schema_is_registered_found_and_shown() {
    let registry = Registry::new().await;
    let registered = registry.post("/subjects/order/versions", &schema(ORDER)).await;
    assert_eq!((&registered["id"], &registered["version"]), (&json!(1), &json!(1)));
    let guid = registered["guid"].as_str().unwrap().to_owned();
    assert_eq!(registry.get("/subjects").await, json!(["order"]));
    assert_eq!(registry.get("/subjects/order/versions").await, json!([1]));
    let shown = json!({
        "subject": "order", "version": 1, "id": 1, "guid": guid, "schemaType": "PROTOBUF", "schema": ORDER
    });
    for version in ["1", "latest", "-1"] {
        assert_eq!(registry.get(&format!("/subjects/order/versions/{version}")).await, shown);
    }
    assert_eq!(registry.post("/subjects/order", &schema(ORDER)).await, shown);
    assert_eq!(registry.get("/subjects/order/versions/1/schema").await, ORDER);
    assert_eq!(registry.get("/schemas").await, json!([shown]));
    let by_id = json!({"guid": guid, "schemaType": "PROTOBUF", "schema": ORDER});
    assert_eq!(registry.get("/schemas/ids/1").await, by_id);
    assert_eq!(registry.get("/schemas/ids/1?fetchMaxId=true").await["maxId"], 1);
    assert_eq!(registry.get("/schemas/ids/1/schema").await, ORDER);
    assert_eq!(registry.get("/schemas/ids/1/subjects").await, json!(["order"]));
    assert_eq!(registry.get("/schemas/ids/1/versions").await, json!([{"subject": "order", "version": 1}]));
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}")).await, by_id);
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}/ids")).await, json!([{"context": ".", "id": 1}]));
    assert_eq!(registry.get("/schemas/types").await, json!(["AVRO", "JSON", "PROTOBUF"]));
    assert_eq!(registry.get("").await, json!({}));
    assert!(registry.get("/v1/metadata/id").await["scope"].is_object());
    assert!(registry.get("/v1/metadata/version").await["version"].is_string());
}

#[tokio::test]
async fn both_types_are_spoken() {
    let registry = Registry::new().await;
    let body = schema(ORDER).to_string();
    for kind in [V1, "application/vnd.schemaregistry+json", "application/json; charset=utf-8"] {
        let headers = [("content-type", kind), ("accept", "application/json")];
        let answer =
            registry.0.send("POST", "/schema-registry/subjects/a/versions", &headers, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
    }
    let headers = [("content-type", "text/plain")];
    let answer = registry.0.send("POST", "/schema-registry/subjects/a/versions", &headers, body).await;
    assert_eq!(Registry::code(&answer), 415);
}

#[tokio::test]
async fn an_incompatible_schema_is_refused_with_its_reason() {
    let registry = Registry::new().await;
    registry.register("order", ORDER).await;
    let answer = registry.send("POST", "/subjects/order/versions", &schema(ORDER_BROKEN)).await;
    assert_eq!(Registry::code(&answer), 40901);
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("FIELD_SCALAR_KIND_CHANGED") && message.contains("order"), "{message}");
    for path in ["latest", "1", ""] {
        let path = format!("/compatibility/subjects/order/versions/{path}");
        let path = path.trim_end_matches('/');
        assert_eq!(registry.post(path, &schema(ORDER_BROKEN)).await, json!({"is_compatible": false}));
        let verbose = registry.post(&format!("{path}?verbose=true"), &schema(ORDER_BROKEN)).await;
        let messages = verbose["messages"].as_array().unwrap();
        assert!(messages[0].as_str().unwrap().contains("FIELD_SCALAR_KIND_CHANGED"), "{verbose}");
        let good = registry.post(&format!("{path}?verbose=true"), &schema(ORDER_2)).await;
        assert_eq!(good, json!({"is_compatible": true, "messages": []}));
    }
    let latest = "/compatibility/subjects/new/versions/latest";
    assert_eq!(registry.post(latest, &schema(ORDER)).await, json!({"is_compatible": true}));
    assert_eq!(
        registry.refused("POST", "/compatibility/subjects/new/versions/1", &schema(ORDER)).await,
        40401
    );
    assert_eq!(
        registry.refused("POST", "/compatibility/subjects/order/versions/7", &schema(ORDER)).await,
        40402
    );
}

#[tokio::test]
async fn levels_and_modes_are_set_and_taken_back() {
    let registry = Registry::new().await;
    assert_eq!(registry.get("/config").await, json!({"compatibilityLevel": "FULL_TRANSITIVE"}));
    assert_eq!(registry.refused("GET", "/config/order", &Value::Null).await, 40408);
    assert_eq!(
        registry.get("/config/order?defaultToGlobal=true").await,
        json!({"compatibilityLevel": "FULL_TRANSITIVE"})
    );
    let backward = json!({"compatibility": "BACKWARD"});
    assert_eq!(registry.put("/config/order", &backward).await, backward);
    assert_eq!(registry.get("/config/order").await, json!({"compatibilityLevel": "BACKWARD"}));
    assert_eq!(
        registry.put("/config", &json!({"compatibility": "none"})).await,
        json!({"compatibility": "NONE"})
    );
    assert_eq!(registry.get("/config").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(registry.delete("/config/order").await, json!({"compatibilityLevel": "BACKWARD"}));
    assert_eq!(registry.refused("DELETE", "/config/order", &Value::Null).await, 40401);
    assert_eq!(registry.delete("/config").await, json!({"compatibilityLevel": "NONE"}));
    assert_eq!(registry.refused("PUT", "/config", &json!({"compatibility": "ALL"})).await, 42203);

    assert_eq!(registry.get("/mode").await, json!({"mode": "READWRITE"}));
    assert_eq!(registry.refused("GET", "/mode/order", &Value::Null).await, 40409);
    let read_only = json!({"mode": "READONLY"});
    assert_eq!(registry.put("/mode/order", &read_only).await, read_only);
    assert_eq!(registry.get("/mode/order").await, read_only);
    assert_eq!(registry.refused("POST", "/subjects/order/versions", &schema(ORDER)).await, 42205);
    assert_eq!(registry.delete("/mode/order").await, read_only);
    registry.register("order", ORDER).await;
    assert_eq!(registry.refused("PUT", "/mode", &json!({"mode": "IMPORT"})).await, 42205);
    registry.put("/mode?force=true", &json!({"mode": "IMPORT"})).await;
    let imported = json!({"schemaType": "PROTOBUF", "schema": ORDER_2, "id": 50, "version": 9});
    assert_eq!(registry.post("/subjects/other/versions", &imported).await["id"], 50);
    let elsewhere = json!({"schemaType": "PROTOBUF", "schema": ORDER_2, "id": 51, "version": 9});
    assert_eq!(registry.refused("POST", "/subjects/other/versions", &elsewhere).await, 42207);
    assert_eq!(registry.refused("PUT", "/mode", &json!({"mode": "WRITEONLY"})).await, 42204);
}

#[tokio::test]
async fn deleting_takes_two_steps() {
    let registry = Registry::new().await;
    registry.register("order", ORDER).await;
    registry.register("order", ORDER_2).await;
    let refused = async |path: &str| registry.refused("DELETE", path, &Value::Null).await;
    assert_eq!(refused("/subjects/order/versions/1?permanent=true").await, 40407);
    assert_eq!(registry.delete("/subjects/order/versions/1").await, 1);
    assert_eq!(refused("/subjects/order/versions/1").await, 40406);
    assert_eq!(refused("/subjects/order/versions/5").await, 40402);
    assert_eq!(refused("/subjects/order/versions/x").await, 42202);
    assert_eq!(refused("/subjects/none/versions/1").await, 40401);
    assert_eq!(registry.get("/subjects/order/versions").await, json!([2]));
    assert_eq!(registry.get("/subjects/order/versions?deleted=true").await, json!([1, 2]));
    assert_eq!(registry.get("/subjects/order/versions?deletedOnly=true").await, json!([1]));
    assert_eq!(registry.refused("GET", "/subjects/order/versions/1", &Value::Null).await, 40402);
    assert_eq!(registry.get("/subjects/order/versions/1?deleted=true").await["deleted"], true);
    assert_eq!(registry.refused("POST", "/subjects/order", &schema(ORDER)).await, 40403);
    assert_eq!(registry.post("/subjects/order?deleted=true", &schema(ORDER)).await["version"], 1);
    assert_eq!(refused("/subjects/order?permanent=true").await, 40405);
    assert_eq!(registry.delete("/subjects/order").await, json!([2]));
    assert_eq!(refused("/subjects/order").await, 40404);
    assert_eq!(registry.get("/subjects").await, json!([]));
    assert_eq!(registry.get("/subjects?deleted=true").await, json!(["order"]));
    assert_eq!(registry.get("/schemas/ids/2").await["schema"], ORDER_2);
    assert_eq!(registry.delete("/subjects/order?permanent=true").await, json!([1, 2]));
    assert_eq!(refused("/subjects/order").await, 40401);
    assert_eq!(registry.refused("GET", "/schemas/ids/2", &Value::Null).await, 40403);
}

#[tokio::test]
async fn references_are_shown_from_both_sides_and_protected() {
    let registry = Registry::new().await;
    assert_eq!(registry.refused("POST", "/subjects/cart/versions", &cart(1)).await, 42201);
    registry.register("order", ORDER).await;
    assert_eq!(registry.post("/subjects/cart/versions", &cart(-1)).await["id"], 2);
    let shown = registry.get("/schemas/ids/2").await;
    assert_eq!(shown["references"], json!([{"name": "order.proto", "subject": "order", "version": 1}]));
    assert_eq!(registry.get("/subjects/order/versions/1/referencedby").await, json!([2]));
    assert_eq!(registry.refused("DELETE", "/subjects/order/versions/1", &Value::Null).await, 42206);
    assert_eq!(registry.refused("DELETE", "/subjects/order", &Value::Null).await, 42206);
    registry.delete("/subjects/cart").await;
    assert_eq!(registry.get("/subjects/order/versions/1/referencedby").await, json!([]));
    registry.delete("/subjects/order").await;
}

#[tokio::test]
async fn contexts_are_apart() {
    let registry = Registry::new().await;
    registry.register("order", ORDER).await;
    assert_eq!(registry.register("%3A.eu%3Aorder", ORDER_2).await, 1);
    assert_eq!(registry.get("/contexts").await, json!([".", ".eu"]));
    assert_eq!(registry.get("/subjects").await, json!([":.eu:order", "order"]));
    assert_eq!(registry.get("/subjects?subjectPrefix=%3A.eu%3A").await, json!([":.eu:order"]));
    assert_eq!(registry.get("/subjects?subjectPrefix=").await, json!(["order"]));
    assert_eq!(registry.get("/subjects?limit=1&offset=1").await, json!(["order"]));
    assert_eq!(registry.get("/schemas/ids/1?subject=%3A.eu%3A").await["schema"], ORDER_2);
    assert_eq!(registry.get("/schemas/ids/1?subject=order").await["schema"], ORDER);
    assert_eq!(registry.get("/schemas?latestOnly=true&subjectPrefix=ord").await[0]["subject"], "order");
}

#[tokio::test]
async fn a_protobuf_schema_may_come_and_go_as_its_descriptor() {
    let registry = Registry::new().await;
    registry.register("order", ORDER).await;
    let serialized = registry.get("/schemas/ids/1?format=serialized").await["schema"].clone();
    let sent = json!({"schemaType": "PROTOBUF", "schema": serialized});
    let found = registry.post("/subjects/order?normalize=true", &sent).await;
    assert_eq!(found["id"], 1);
    assert_eq!(registry.refused("GET", "/schemas/ids/1?format=resolved", &Value::Null).await, 422);
}

#[tokio::test]
async fn avro_and_json_schemas_are_registered_and_compared_too() {
    let registry = Registry::new().await;
    let record = |fields: &str| {
        let text = format!(r#"{{"type": "record", "name": "Order", "fields": [{fields}]}}"#);
        json!({"schema": text})
    };
    let id = r#"{"name": "id", "type": "string"}"#;
    let registered = registry.post("/subjects/avro/versions", &record(id)).await;
    let shown = registry.get("/subjects/avro/versions/latest").await;
    assert_eq!((&shown["id"], shown.get("schemaType")), (&registered["id"], None), "Avro is not named");
    let with_default = format!(r#"{id}, {{"name": "count", "type": "int", "default": 0}}"#);
    assert_eq!(registry.post("/subjects/avro/versions", &record(&with_default)).await["version"], 2);
    let without = format!(r#"{id}, {{"name": "count", "type": "int"}}"#);
    assert_eq!(registry.refused("POST", "/subjects/avro/versions", &record(&without)).await, 40901);
    let object = |of: &str| {
        let text = json!({"type": "object", "properties": {"id": {"type": of}}}).to_string();
        json!({"schemaType": "JSON", "schema": text})
    };
    assert_eq!(registry.post("/subjects/json/versions", &object("string")).await["version"], 1);
    assert_eq!(registry.get("/subjects/json/versions/1").await["schemaType"], "JSON");
    assert_eq!(registry.refused("POST", "/subjects/json/versions", &object("integer")).await, 40901);
    assert_eq!(registry.refused("POST", "/subjects/avro/versions", &object("string")).await, 40901);
}

#[tokio::test]
async fn what_is_wrong_has_its_code() {
    let registry = Registry::new().await;
    registry.register("order", ORDER).await;
    let none = Value::Null;
    for (method, path, body, code) in [
        ("GET", "/subjects/none/versions", &none, 40401),
        ("GET", "/subjects/none/versions/1", &none, 40401),
        ("GET", "/subjects/order/versions/9", &none, 40402),
        ("GET", "/subjects/order/versions/0", &none, 42202),
        ("GET", "/subjects/order/versions/x/schema", &none, 42202),
        ("GET", "/schemas/ids/9", &none, 40403),
        ("GET", "/schemas/ids/-1/versions", &none, 40403),
        ("GET", "/schemas/ids/x", &none, 404),
        ("GET", "/schemas/guids/x", &none, 40403),
        ("GET", "/associations/subjects/order", &none, 404),
        ("GET", "/nothing", &none, 404),
        ("PATCH", "/subjects/order", &none, 405),
        ("GET", "/subjects?deleted=maybe", &none, 422),
        ("POST", "/subjects/order", &json!({}), 42201),
        ("POST", "/subjects/order", &schema("nonsense"), 42201),
        ("POST", "/subjects/none", &schema(ORDER), 40401),
        ("POST", "/subjects/order", &schema(ORDER_2), 40403),
        ("POST", "/subjects/order/versions", &json!({"schema": ORDER, "schemaType": "XML"}), 42201),
        ("POST", "/subjects/order/versions", &json!({"schem": ORDER}), 422),
        ("POST", "/subjects/__GLOBAL/versions", &schema(ORDER), 42208),
        ("POST", "/subjects/a%0Ab/versions", &schema(ORDER), 42208),
        ("POST", "/subjects/order/versions", &schema(&"x".repeat((1 << 20) + 1)), 42209),
        ("POST", "/subjects/order/versions", &json!({"schema": "", "ruleSet": []}), 42201),
        (
            "POST",
            "/subjects/order/versions",
            &json!({"schema": ORDER, "schemaType": "PROTOBUF", "ruleSet": 1}),
            42210,
        ),
        (
            "POST",
            "/subjects/order/versions",
            &json!({"schema": ORDER_2, "schemaType": "PROTOBUF", "version": 7}),
            42202,
        ),
        (
            "POST",
            "/subjects/order/versions",
            &json!({"schema": ORDER_2, "schemaType": "PROTOBUF", "id": 7}),
            42205,
        ),
    ] {
        assert_eq!(registry.refused(method, path, body).await, code, "{method} {path} {body}");
    }
    let answer = registry.send("PATCH", "/subjects/order/versions", &Value::Null).await;
    assert_eq!(answer.headers["allow"], "GET, POST");
    let small = Registry(Front::with(Limits { request_bytes_max: 100, ..Limits::default() }).await);
    assert_eq!(small.refused("POST", "/subjects/order/versions", &schema(ORDER)).await, 413);
}

#[tokio::test]
async fn what_there_is_is_counted() {
    let registry = Registry::new().await;
    registry.register("order", ORDER).await;
    registry.register("order", ORDER_2).await;
    registry.register("other", ORDER).await;
    let stats = registry.0.get("/v1/schemas/stats").await.expect(200);
    assert_eq!(
        (&stats["subjects"], &stats["versions"], &stats["deletedVersions"]),
        (&json!(2), &json!(3), &json!(0))
    );
    assert_eq!(stats["versionsByType"], json!({"AVRO": 0, "JSON": 0, "PROTOBUF": 3}));
    assert!(stats["cache"]["hitRate"].is_number());
    registry.0.post("/v1/schemas/stats", &json!({})).await.expect(405);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_request_leads_to_a_5xx(
        method in "GET|POST|PUT|DELETE",
        path in "/(subjects|schemas/ids|config|mode|compatibility/subjects)(/(a|1|latest|%3A\\.x%3A|%00)){0,1}(/versions){0,1}(/(1|x|latest)){0,1}",
        body in "\\PC{0,40}|\\{\"(schema|mode|compatibility)\":\"[^\"\\\\]{0,20}\"\\}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let registry = Registry::new().await;
            let answer = registry.0.send(&method, &format!("/schema-registry{path}"), &[], body.clone()).await;
            prop_assert!(answer.status.as_u16() < 500, "{method} {path} {body}: {}", answer.body);
            Ok(())
        })?;
    }
}

//! Schemas in a registry outside: a second instance of the service, behind TLS and a password.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Authority, Client, Log, Service, Setup, TlsFront, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

const SUBJECT: &str = "/schema-registry/subjects/orders-value";
const VERSIONS: &str = "/schema-registry/subjects/orders-value/versions";
const USER: &str = "streaming";
const PASSWORD: &str = "hunter2";

fn order(fields: &str) -> Value {
    let text = format!("syntax = \"proto3\"; package shop; message Order {{ {fields} }}");
    json!({"schemaType": "PROTOBUF", "schema": text})
}

/// A registry: a service of its own, and what stands before it.
struct Outside {
    authority: Authority,
    service: Service,
    front: TlsFront,
    _data: TempDir,
}

impl Outside {
    async fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let service = Setup::on(&Log::embedded()).start(data.path()).await;
        let authority = Authority::new();
        let front = TlsFront::before(service.http(), &authority, USER, PASSWORD, None).await;
        Self { authority, service, front, _data: data }
    }

    /// A service whose schemas are there, and who gives this password.
    fn used_with(&self, password: &str) -> Setup {
        let file = self.authority.secret_file(password, password);
        let registry = format!("{}/schema-registry", self.service.http());
        Setup::on(&Log::embedded())
            .set("schema-registry.url", &self.front.url(&registry))
            .set("schema-registry.tls.ca-file", &self.authority.ca_file().display().to_string())
            .set("schema-registry.username", USER)
            .set("schema-registry.password-file", &file.display().to_string())
            .set("schema-registry.retry-delay", "10ms")
    }

    fn client(&self) -> Client {
        self.service.client()
    }
}

async fn component(client: &Client) -> Value {
    client.get("/actuator/health").await.expect(200)["components"]["schemaRegistry"].clone()
}

/// Makes the values of a topic follow its subject.
async fn follow(client: &Client, topic: &str) {
    client.create_topic(topic, 1).await;
    let schema = json!({"schema": {"required": true}});
    let request = client.request(reqwest::Method::PATCH, &format!("/v1/topics/{topic}")).json(&schema);
    client.send(request).await.expect(200);
}

/// Publishing and reading, where no schema is needed.
async fn publishes(client: &Client, topic: &str) {
    client.create_topic(topic, 1).await;
    client.publish(topic, &json!({"data": {"n": 1}})).await;
    assert_eq!(client.browse_all(topic).await.len(), 1);
    client.get("/actuator/health/readiness").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_those_of_the_registry_and_so_are_its_verdicts() {
    let outside = Outside::start().await;
    let there = outside.client();
    let data = tempfile::tempdir().expect("a folder");
    let service = outside.used_with(PASSWORD).start(data.path()).await;
    let here = service.client();
    assert!(service.output().contains("confluent"), "{}", service.output());
    assert!(!service.output().contains(PASSWORD));

    // What is registered at one is there at the other.
    let first = order("string id = 1;");
    let registered = here.post(VERSIONS, &first).await.expect(200);
    assert_eq!((&registered["id"], &registered["version"]), (&json!(1), &json!(1)));
    assert_eq!(there.get(VERSIONS).await.expect(200), json!([1]));
    let second = order("string id = 1; int32 count = 2;");
    there.post(VERSIONS, &second).await.expect(200);
    assert_eq!(here.get(&format!("{VERSIONS}/latest")).await.expect(200)["version"], 2);
    assert_eq!(here.get("/schema-registry/subjects").await.expect(200), json!(["orders-value"]));
    for path in ["/schema-registry/schemas/ids/1", "/schema-registry/schemas/ids/2/versions"] {
        assert_eq!(here.get(path).await.expect(200), there.get(path).await.expect(200));
    }
    assert_eq!(here.post(SUBJECT, &second).await.expect(200), there.post(SUBJECT, &second).await.expect(200));

    // Both say no with the same words.
    let broken = order("int32 id = 1;");
    for (path, body) in
        [(VERSIONS, &broken), (VERSIONS, &order("strange")), (SUBJECT, &order("int64 x = 9;"))]
    {
        let [told, said] = [here.post(path, body).await, there.post(path, body).await];
        assert_eq!((told.status, told.body), (said.status, said.body));
    }
    assert_eq!(here.post(VERSIONS, &broken).await.expect(409)["error_code"], 40901);
    let check = "/schema-registry/compatibility/subjects/orders-value/versions?verbose=true";
    let checked = here.post(check, &broken).await.expect(200);
    assert_eq!(checked["is_compatible"], false);
    assert_eq!(checked, there.post(check, &broken).await.expect(200));

    // What is the operator's is done there.
    let refused = here.delete(SUBJECT).await.expect(501);
    assert!(refused["message"].as_str().is_some_and(|it| it.contains("schema-registry.url")), "{refused}");
    assert_eq!(there.get(VERSIONS).await.expect(200), json!([1, 2]));

    let found = eventually("the subject is counted", async || {
        let found = component(&here).await;
        found["details"]["totalSubjects"].is_number().then_some(found)
    })
    .await;
    assert_eq!((&found["status"], &found["details"]["backend"]), (&json!("UP"), &json!("confluent")));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_written_and_read_by_the_registrys_schemas() {
    let outside = Outside::start().await;
    let data = tempfile::tempdir().expect("a folder");
    let service = outside.used_with(PASSWORD).start(data.path()).await;
    let here = service.client();
    follow(&here, "orders").await;
    let events = "/v1/topics/orders/events";
    let unknown = here.post(events, &json!({"data": {"id": "a"}})).await.expect(422);
    assert_eq!(unknown["code"], "schema_rejected");

    outside.client().post(VERSIONS, &order("string id = 1;")).await.expect(200);
    here.publish("orders", &json!({"data": {"id": "a"}})).await;
    let misfit = here.post(events, &json!({"data": {"id": 7}})).await.expect(422);
    assert_eq!(misfit["code"], "schema_rejected");
    // What is registered here counts for what is published next.
    here.post(VERSIONS, &order("string id = 1; int32 count = 2;")).await.expect(200);
    here.publish("orders", &json!({"data": {"id": "b", "count": 3}})).await;

    let schema = |number: u32| json!({"id": number, "subject": "orders-value", "version": number, "message": "shop.Order"});
    let browsed = here.browse_all("orders").await;
    let seen: Vec<_> = browsed.iter().map(|event| (&event["data"], &event["schema"])).collect();
    let expected = [(json!({"id": "a"}), schema(1)), (json!({"id": "b", "count": 3}), schema(2))];
    assert_eq!(seen, expected.iter().map(|(data, schema)| (data, schema)).collect::<Vec<_>>());
    here.subscribe("readers", "orders", &json!({})).await;
    let pulled = here.pull_count("readers", 2).await;
    assert_eq!(pulled[1]["event"]["data"], expected[1].0);
    here.ack("readers", &pulled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_goes_away_is_missed_by_nobody_who_needs_no_schema() {
    let outside = Outside::start().await;
    let data = tempfile::tempdir().expect("a folder");
    let service = outside.used_with(PASSWORD).start(data.path()).await;
    let here = service.client();
    here.post(VERSIONS, &order("string id = 1;")).await.expect(200);
    follow(&here, "orders").await;
    here.publish("orders", &json!({"data": {"id": "a"}})).await;
    assert_eq!(here.browse_all("orders").await.len(), 1);
    let Outside { authority, service: registry, front, _data: kept } = outside;
    let port = front.port();
    front.close().await;

    let refused = here.post(VERSIONS, &order("string id = 1; int32 n = 2;")).await.expect(500);
    assert_eq!(refused["error_code"], 50001);
    eventually("the health knows", async || (component(&here).await["status"] == "DOWN").then_some(())).await;
    publishes(&here, "plain").await;
    // What was known is known.
    here.get("/schema-registry/schemas/ids/1").await.expect(200);
    assert_eq!(here.browse_all("orders").await[0]["data"], json!({"id": "a"}));
    let events = "/v1/topics/orders/events";
    let waits = eventually("what was known of the subject is too old", async || {
        let answer = here.post(events, &json!({"data": {"id": "b"}})).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(waits.expect(503)["effect"], "none");

    let _front = TlsFront::before(registry.http(), &authority, USER, PASSWORD, Some(port)).await;
    eventually("the circuit closes", async || {
        let answer = here.post(VERSIONS, &order("string id = 1; int32 n = 2;")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    eventually("the health knows", async || (component(&here).await["status"] == "UP").then_some(())).await;
    here.publish("orders", &json!({"data": {"id": "c"}})).await;
    drop(kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_know_the_service_keeps_it_from_nothing_else() {
    let outside = Outside::start().await;
    let data = tempfile::tempdir().expect("a folder");
    let service = outside.used_with("wrong").start(data.path()).await;
    let client = service.client();
    let refused = client.post(VERSIONS, &order("string id = 1;")).await.expect(500);
    assert_eq!(refused["error_code"], 50001);
    assert!(refused["message"].as_str().is_some_and(|it| it.contains("password")), "{refused}");
    assert_eq!(component(&client).await["status"], "DOWN");
    publishes(&client, "plain").await;
    assert_eq!(outside.client().get("/schema-registry/subjects").await.expect(200), json!([]));
}

//! The schema registry of the real binary: its own API beside Confluent's, replicas that share a store, and a kill.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

use event_streaming_tests::{Client, Log, Server, Service, Setup, unique};
use futures::future::join_all;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

const SUBJECT: &str = "/schema-registry/subjects/orders-value";
const CALLS: usize = 50;

/// A message with one field, which no other of these has: all of them may follow each other in any order.
fn nth(n: usize) -> Value {
    let number = n + 1;
    let text = format!("syntax = \"proto3\"; package shop; message Order {{ string f{number} = {number}; }}");
    json!({"schemaType": "PROTOBUF", "schema": text})
}

fn order(fields: &str) -> Value {
    let text = format!("syntax = \"proto3\"; package shop; message Order {{ {fields} }}");
    json!({"schemaType": "PROTOBUF", "schema": text})
}

async fn register(client: &Client, schema: &Value) -> (u64, u64) {
    let answer = client.post(&format!("{SUBJECT}/versions"), schema).await.expect(200);
    let number = |name: &str| answer[name].as_u64().expect("a number");
    (number("id"), number("version"))
}

fn numbers(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_evolves_and_outlives_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&Log::embedded());
    let service = setup.start(data.path()).await;
    let client = service.client();
    let first = order("string id = 1;");
    assert_eq!(register(&client, &first).await, (1, 1));
    assert_eq!(register(&client, &order("string id = 1; int32 count = 2;")).await, (2, 2));
    let refused = client.post(&format!("{SUBJECT}/versions"), &order("int32 id = 1;")).await.expect(409);
    assert_eq!(refused["error_code"], 40901);
    let message = refused["message"].as_str().expect("a sentence");
    assert!(message.contains("FIELD_SCALAR_KIND_CHANGED"), "{message}");
    assert_eq!(service.stop().await.code(), Some(0));

    let service = setup.start(data.path()).await;
    let client = service.client();
    assert_eq!(client.get(&format!("{SUBJECT}/versions")).await.expect(200), json!([1, 2]));
    assert_eq!(client.get("/schema-registry/schemas/ids/1").await.expect(200)["schema"], first["schema"]);
    assert_eq!(register(&client, &first).await, (1, 1));
    let health = client.get("/actuator/health").await.expect(200);
    let registry = &health["components"]["schemaRegistry"];
    assert_eq!(*registry, json!({"status": "UP", "details": {"totalSubjects": 1, "totalVersions": 2}}));
    let stats = client.get("/v1/schemas/stats").await.expect(200);
    assert_eq!(stats["versionsByType"]["PROTOBUF"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_where_none_is_set_is_configured() {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&Log::embedded()).set("schema-registry.compatibility", "NONE");
    let service = setup.start(data.path()).await;
    let config = service.client().get("/schema-registry/config").await.expect(200);
    assert_eq!(config, json!({"compatibilityLevel": "NONE"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_kill_and_versions_have_no_gap() {
    let data = tempfile::tempdir().expect("a folder");
    let setup = Setup::on(&Log::embedded());
    let service = setup.start(data.path()).await;
    let client = service.client();
    let answered = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..CALLS)
        .map(|n| {
            let (client, answered) = (client.clone(), answered.clone());
            tokio::spawn(async move {
                let request = client.request(reqwest::Method::POST, &format!("{SUBJECT}/versions"));
                let answer = client.try_send(request.json(&nth(n))).await.filter(|it| it.status == 200)?;
                answered.fetch_add(1, SeqCst);
                Some((n, answer.body["id"].as_u64()?, answer.body["version"].as_u64()?))
            })
        })
        .collect();
    while answered.load(SeqCst) < CALLS / 4 {
        tokio::task::yield_now().await;
    }
    service.kill().await;
    let told: Vec<(usize, u64, u64)> =
        join_all(calls).await.into_iter().filter_map(|call| call.expect("the call ends")).collect();
    assert!(told.len() >= CALLS / 4);

    let service = setup.start(data.path()).await;
    let client = service.client();
    for (n, id, version) in &told {
        let found = client.post(SUBJECT, &nth(*n)).await.expect(200);
        assert_eq!((found["id"].as_u64(), found["version"].as_u64()), (Some(*id), Some(*version)));
    }
    let versions = client.get(&format!("{SUBJECT}/versions")).await.expect(200);
    let kept = versions.as_array().map_or(0, Vec::len) as u64;
    assert_eq!(versions, json!(numbers(1, kept)));
    // The rest is said again, as clients do, and nothing is there twice.
    let given = join_all((0..CALLS).map(|n| {
        let client = client.clone();
        async move { register(&client, &nth(n)).await }
    }));
    let given: BTreeSet<(u64, u64)> = given.await.into_iter().collect();
    assert_eq!(given.into_iter().collect::<Vec<_>>(), (1..=CALLS as u64).map(|n| (n, n)).collect::<Vec<_>>());
}

/// A server that two services share.
struct Shared {
    settings: Vec<(&'static str, String)>,
    _server: Arc<Server>,
}

impl Shared {
    async fn redis() -> Self {
        let server = event_streaming_tests::redis().await;
        let url = reqwest::Url::parse(&server.address).expect("a URL");
        let settings = vec![
            ("state.backend", "redis".to_owned()),
            ("redis.host", url.host_str().expect("a host").to_owned()),
            ("redis.port", url.port().unwrap_or(6379).to_string()),
            ("redis.database", url.path().trim_start_matches('/').to_owned()),
            ("redis.key-prefix", format!("{}:", unique("test"))),
        ];
        Self { settings, _server: server }
    }

    async fn postgres() -> Self {
        let server = event_streaming_tests::postgres().await;
        let schema = unique("schemas").replace('-', "_");
        let settings = vec![
            ("state.backend", "postgres".to_owned()),
            ("postgres.url", server.address.clone()),
            ("postgres.schema", schema.chars().take(40).collect()),
        ];
        Self { settings, _server: server }
    }

    async fn start(&self, data: &Path) -> Service {
        let setup = Setup::on(&Log::embedded());
        self.settings.iter().fold(setup, |setup, (key, value)| setup.set(key, value)).start(data).await
    }
}

/// Services that share a store share its subjects, ids and versions, whoever registers what at the same time.
async fn replicas_register_at_once(shared: Shared) {
    let data = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let services = [shared.start(data[0].path()).await, shared.start(data[1].path()).await];
    let clients: Vec<Client> = services.iter().map(Service::client).collect();
    let given = join_all((0..CALLS).map(|n| {
        let client = clients[n % 2].clone();
        async move { register(&client, &nth(n)).await }
    }));
    let given: BTreeSet<(u64, u64)> = given.await.into_iter().collect();
    let all: Vec<(u64, u64)> = (1..=CALLS as u64).map(|n| (n, n)).collect();
    assert_eq!(given.into_iter().collect::<Vec<_>>(), all);
    for client in &clients {
        let versions = client.get(&format!("{SUBJECT}/versions")).await.expect(200);
        assert_eq!(versions, json!(numbers(1, CALLS as u64)));
    }
    // What one writes the other reads.
    clients[0].delete(SUBJECT).await.expect(200);
    let found = clients[1].get(&format!("{SUBJECT}/versions")).await.expect(404);
    assert_eq!(found["error_code"], 40401);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_on_redis_register_at_once() {
    replicas_register_at_once(Shared::redis().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_on_postgres_register_at_once() {
    replicas_register_at_once(Shared::postgres().await).await;
}

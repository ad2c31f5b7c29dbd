//! What is asked, and what is made of the answers.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use common::{Reply, Scripted, client, config, kind, ok, refusal, refused, schema};
use ports::{ErrorKind, RegistryAgainst, RegistryReference, SchemaId, SchemaKey, VersionKey};
use serde_json::json;

fn key(context: &str, id: u32) -> SchemaKey {
    SchemaKey { context: context.to_owned(), id: SchemaId(id) }
}

#[tokio::test]
async fn each_call_asks_as_the_api_says_and_gives_who_asks() {
    let registry = Scripted::new(|_, request| {
        let line = request.line.as_str();
        ok(match line {
            "GET /sr/schemas/types" => json!(["PROTOBUF"]),
            "GET /sr/subjects?deleted=true" => json!(["b", ":.eu:a", "b"]),
            "GET /sr/subjects/a%2Fb/versions" => json!([2, 1]),
            "GET /sr/schemas/ids/7" => json!({"schema": "text", "schemaType": "PROTOBUF"}),
            "GET /sr/schemas/ids/7?subject=%3A.eu%3A" => json!({"schema": "of the context"}),
            "GET /sr/schemas/ids/7/versions" => {
                json!([{"subject": "b", "version": 2}, {"subject": "a", "version": 1}])
            }
            _ if line.starts_with("POST /sr/compatibility/") => {
                json!({"is_compatible": false, "messages": ["why"]})
            }
            _ => json!({"subject": "a", "version": 3, "id": 7, "schema": "text"}),
        })
    })
    .await;
    let asked = client(&adapters_registry::RegistryConfig {
        username: Some("me".to_owned()),
        password: Some("hunter2".to_owned()),
        ..config(&[format!("{}/sr/", registry.url())])
    });
    asked.ping().await.expect("it serves");
    assert_eq!(asked.subjects(true).await.expect("names"), [":.eu:a", "b"]);
    assert_eq!(asked.versions("a/b", false).await.expect("versions"), [1, 2]);
    let found = asked.schema(&key(".", 7)).await.expect("a schema");
    assert_eq!((found.schema_type.as_str(), found.text.as_str()), ("PROTOBUF", "text"));
    assert_eq!(asked.schema(&key(".eu", 7)).await.expect("a schema").text, "of the context");
    let uses = asked.uses(&key(".", 7), false).await.expect("uses");
    let of = |subject: &str, version| VersionKey { subject: subject.to_owned(), version };
    assert_eq!(uses, [of("a", 1), of("b", 2)]);
    assert_eq!(asked.version("a", None, false).await.expect("a version").version, 3);
    assert_eq!(asked.version("a", Some(3), true).await.expect("a version").id, SchemaId(7));
    let mut new = schema("text");
    new.references.push(RegistryReference { name: "n".to_owned(), subject: "s".to_owned(), version: None });
    assert_eq!(asked.lookup("a", &new, true, true).await.expect("a version").version, 3);
    for against in [RegistryAgainst::Level, RegistryAgainst::Latest, RegistryAgainst::Version(2)] {
        let checked = asked.check("a", &new, against, false).await.expect("a verdict");
        assert!(!checked.is_compatible && checked.messages == ["why"]);
    }

    let requests = registry.requests();
    let lines: Vec<&str> = requests.iter().skip(6).map(|request| request.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /sr/subjects/a/versions/latest",
            "GET /sr/subjects/a/versions/3?deleted=true",
            "POST /sr/subjects/a?normalize=true&deleted=true",
            "POST /sr/compatibility/subjects/a/versions?verbose=true",
            "POST /sr/compatibility/subjects/a/versions/latest?verbose=true",
            "POST /sr/compatibility/subjects/a/versions/2?verbose=true",
        ]
    );
    for request in &requests {
        assert_eq!(request.header("authorization"), "Basic bWU6aHVudGVyMg==");
    }
    let posted = &requests[8];
    assert_eq!(posted.header("content-type"), "application/vnd.schemaregistry.v1+json");
    let reference = json!([{"name": "n", "subject": "s", "version": -1}]);
    assert_eq!(posted.body, json!({"schema": "text", "schemaType": "PROTOBUF", "references": reference}));
}

#[tokio::test]
async fn a_verdict_is_handed_on_with_its_code_and_asked_for_once() {
    for code in [40401, 40402, 40403, 409, 40901, 422, 42201, 42205, 40301] {
        let registry = Scripted::new(move |_, _| refused(code, "because")).await;
        let told = refusal(registry.client().register("a", &schema("x"), false).await);
        assert_eq!((told.code, told.message.as_str()), (code, "because"));
        assert_eq!(registry.requests().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn who_registers_finds_what_was_registered_also_where_a_replica_lags() {
    let registry = Scripted::new(|number, request| match (number, request.line.as_str()) {
        (0, "POST /subjects/a/versions") => ok(json!({"id": 7})),
        // This replica has not heard of it.
        (1, "POST /subjects/a") => refused(40401, "no such subject"),
        (2, "POST /subjects/a") => refused(40403, "no such schema"),
        (3, "POST /subjects/a") => ok(json!({"subject": "a", "version": 2, "id": 7, "schema": "x"})),
        _ => Reply::Close,
    })
    .await;
    let found = registry.client().register("a", &schema("x"), false).await.expect("it is registered");
    assert_eq!((found.version, found.id), (2, SchemaId(7)));
}

#[tokio::test]
async fn what_was_registered_and_is_not_there_is_no_verdict() {
    let registry = Scripted::new(|number, _| match number {
        0 => ok(json!({"id": 7})),
        _ => refused(40403, "no such schema"),
    })
    .await;
    let error = common::failure(registry.client().register("a", &schema("x"), false).await);
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, ports::Effect::Unknown));
    assert_eq!(registry.requests().len(), 4, "as often as is configured");
}

#[tokio::test]
async fn an_id_that_changes_is_not_believed() {
    let registry = Scripted::new(|number, _| match number {
        0 => ok(json!({"id": 7})),
        _ => ok(json!({"subject": "a", "version": 1, "id": 8, "schema": "x"})),
    })
    .await;
    let error = common::failure(registry.client().register("a", &schema("x"), false).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.detail().contains('7') && error.detail().contains('8'), "{error}");
}

#[tokio::test]
async fn what_cannot_be_an_answer_is_an_outage_and_not_a_verdict() {
    let replies: [fn() -> Reply; 9] = [
        || Reply::With(200, "content-type: text/html", "<html>log in</html>".to_owned()),
        || ok(json!([])),
        || ok(json!({"subject": "a", "version": 2, "id": 7, "schema": "of another version"})),
        || ok(json!({"subject": "a", "version": 1, "id": -7, "schema": "x"})),
        || Reply::With(404, "content-type: text/html", "<html>not here</html>".to_owned()),
        || refused(404, "HTTP 404 Not Found"),
        || Reply::With(422, "x: y", "no".to_owned()),
        || Reply::With(302, "location: http://127.0.0.1:1/", String::new()),
        || Reply::With(204, "x: y", String::new()),
    ];
    for (number, reply) in replies.into_iter().enumerate() {
        let registry = Scripted::new(move |_, _| reply()).await;
        let error = common::failure(registry.client().version("a", Some(1), false).await);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{number}: {error}");
        assert!(error.detail().contains("127.0.0.1"), "{error}");
        assert_eq!(registry.requests().len(), 1, "{number}: {:?}", registry.lines());
    }
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    let endless = Scripted::new(|_, _| Reply::Endless).await;
    let large = Scripted::new(|_, _| ok(json!("x".repeat(2000)))).await;
    let refusing = Scripted::new(|_, _| refused(42201, &"x".repeat(3000))).await;
    for registry in [&endless, &large, &refusing] {
        let client = client(&adapters_registry::RegistryConfig {
            response_bytes_max: 1000,
            ..config(&[registry.url()])
        });
        let error = common::failure(client.subjects(false).await);
        assert!(error.detail().contains("1000 bytes"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    // And so has a sentence.
    let told = refusal(refusing.client().subjects(false).await);
    assert_eq!(told.message.len(), 2000);
}

#[tokio::test]
async fn who_is_not_known_is_told_so_at_once() {
    let registry = Scripted::new(|_, _| refused(401, "Unauthorized")).await;
    assert_eq!(kind(registry.client().subjects(false).await), ErrorKind::Denied);
    assert_eq!(registry.requests().len(), 1);
}

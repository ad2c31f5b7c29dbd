//! Settings by Kafka's names.

use crate::{
    conformance::{
        Backend,
        backend::{expect_kind, spec},
    },
    fixtures,
};
use ports::{ErrorKind, TopicName};
use std::collections::BTreeMap;

async fn setting(backend: &Backend, topic: &TopicName, key: &str) -> Option<String> {
    let info = backend.admin().describe(topic).await.expect("it can be asked").expect("the topic exists");
    info.config.get(key).cloned()
}

fn changes(of: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    of.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
}

pub(super) async fn settings_are_taken_at_creation(backend: Backend) {
    let config = [("retention.ms", "123456"), ("max.message.bytes", "54321"), ("retention.bytes", "-1")];
    let topic = backend.topic_with(1, &config).await;
    for (key, value) in config {
        assert_eq!(setting(&backend, &topic, key).await.as_deref(), Some(value), "{key}");
    }
}

pub(super) async fn a_setting_can_be_changed_and_reset(backend: Backend) {
    let topic = backend.topic_with(1, &[("max.message.bytes", "54321")]).await;
    let before = setting(&backend, &topic, "retention.ms").await;
    assert!(before.is_some(), "a setting that was not set is described with its default");
    let set = changes(&[("retention.ms", Some("123456"))]);
    backend.admin().alter(&topic, &set).await.expect("a setting can be changed");
    assert_eq!(setting(&backend, &topic, "retention.ms").await.as_deref(), Some("123456"));
    assert_eq!(setting(&backend, &topic, "max.message.bytes").await.as_deref(), Some("54321"), "others stay");
    let reset = changes(&[("retention.ms", None)]);
    backend.admin().alter(&topic, &reset).await.expect("a setting can be reset");
    assert_eq!(setting(&backend, &topic, "retention.ms").await, before);
    assert_eq!(setting(&backend, &topic, "max.message.bytes").await.as_deref(), Some("54321"), "others stay");
}

pub(super) async fn a_bad_setting_is_refused_by_name_at_creation(backend: Backend) {
    for (key, value) in [("retention.ms", "soon"), ("no.such.setting", "1"), ("max.message.bytes", "-5")] {
        let topic = fixtures::topic_name("conformance");
        let config = [(key.to_owned(), value.to_owned())].into();
        let error = expect_kind(backend.admin().create(spec(&topic, 1, config)).await, ErrorKind::Invalid);
        assert!(error.detail().contains(key), "{error}");
        assert!(
            backend.admin().describe(&topic).await.expect("it can be asked").is_none(),
            "nothing was created"
        );
    }
}

pub(super) async fn changes_are_made_all_or_none(backend: Backend) {
    let topic = backend.topic_with(1, &[("max.message.bytes", "54321")]).await;
    for (key, value) in [("retention.ms", "soon"), ("no.such.setting", "1")] {
        let set = changes(&[("max.message.bytes", Some("12345")), (key, Some(value))]);
        let error = expect_kind(backend.admin().alter(&topic, &set).await, ErrorKind::Invalid);
        assert!(error.detail().contains(key), "{error}");
        assert_eq!(setting(&backend, &topic, "max.message.bytes").await.as_deref(), Some("54321"));
    }
}

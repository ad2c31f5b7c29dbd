use super::*;
use std::{io::Write as _, time::Duration};

fn set(settings: &[&str]) -> Sources {
    Sources { set: settings.iter().map(|&s| s.to_owned()).collect(), ..Sources::default() }
}

fn environment(variables: &[(&str, &str)]) -> Sources {
    let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    Sources { environment: variables.iter().map(own).collect(), ..Sources::default() }
}

/// The sources with a file of this text; the file lives as long as what is given back.
fn file(text: &str) -> (tempfile::NamedTempFile, Sources) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("it can be written");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    (file, sources)
}

fn refused(sources: &Sources) -> String {
    load(sources).expect_err("it must be refused").to_string()
}

#[test]
fn the_defaults_alone_are_a_configuration() {
    let loaded = load(&Sources::default()).expect("the defaults are good");
    assert_eq!(loaded.config.server.http.to_string(), "127.0.0.1:8085");
    assert_eq!(loaded.config.log.backend, LogBackend::Embedded);
    assert!(loaded.without_effect.is_empty());
}

#[test]
fn every_default_has_its_comment() {
    let mut commented = false;
    for line in DEFAULTS.lines() {
        let text = line.trim();
        let is_leaf = text.split_once(": ").is_some_and(|(key, _)| !key.contains(' '));
        // A group of names that say themselves, and a second of two that share a sentence.
        let exempt =
            ["username:", "password:", "producer:", "consumer:"].iter().any(|key| text.starts_with(key))
                || text.starts_with("topics: []");
        assert!(text.starts_with('#') || !is_leaf || commented || exempt, "no comment before: {line}");
        commented = text.starts_with('#');
    }
}

#[test]
fn a_file_beats_the_defaults_the_environment_a_file_and_set_all() {
    let (_file, mut sources) = file("server: {shutdown-timeout: 1s}\ntopics.partitions: 7\nlimits:\n");
    let loaded = load(&sources).expect("good");
    assert_eq!(loaded.config.server.shutdown_timeout.0, Duration::from_secs(1));
    assert_eq!(loaded.config.topics.partitions.0, 7);
    sources.environment = environment(&[("EVENT_STREAMING__SERVER__SHUTDOWN_TIMEOUT", "2s")]).environment;
    assert_eq!(load(&sources).expect("good").config.server.shutdown_timeout.0, Duration::from_secs(2));
    sources.set = vec!["server.shutdown-timeout=3s".to_owned(), "server.shutdown-timeout=4s".to_owned()];
    assert_eq!(load(&sources).expect("good").config.server.shutdown_timeout.0, Duration::from_secs(4));
}

#[test]
fn a_mistyped_key_names_the_nearest_and_where_it_stands() {
    let text = refused(&set(&["limits.request-byte-max=1MiB"]));
    assert_eq!(
        text,
        "--set: there is no setting `limits.request-byte-max`; did you mean `limits.request-bytes-max`?"
    );
    let text = refused(&environment(&[("EVENT_STREAMING__EMBEDDED__DATADIR", "x")]));
    assert!(
        text.starts_with("EVENT_STREAMING__EMBEDDED__DATADIR: ") && text.contains("embedded.data-dir"),
        "{text}"
    );
    let (_file, sources) = file("request-bytes-max: 1MiB\n");
    assert!(refused(&sources).contains("`limits.request-bytes-max`"));
    assert!(refused(&set(&["xyzzy=1"])).ends_with("`xyzzy`"), "nothing is near");
}

#[test]
fn a_group_is_no_setting() {
    let text = refused(&set(&["server=here"]));
    assert!(text.contains("`server` is a group") && text.contains("server.base-path"), "{text}");
    let (_file, sources) = file("embedded: {data-dir: {path: x}}\n");
    assert!(refused(&sources).contains("embedded.data-dir"));
}

#[test]
fn a_wrong_value_names_its_key_and_place() {
    for (setting, word) in [
        ("server.http=here", "server.http"),
        ("server.shutdown-timeout=30", "500ms, 30s or 5m"),
        ("limits.request-bytes-max=8MB", "8MiB"),
        ("limits.batch-events-max=-1", "limits.batch-events-max"),
        ("limits.batch-events-max=0", "not between"),
        ("limits.request-bytes-max=64MiB", "embedded.queue-bytes-max"),
        ("topics.auto-create=perhaps", "topics.auto-create"),
        ("topics.replication-factor=many", "topics.replication-factor"),
        ("log.backend=redis", "embedded"),
        ("state.backend=kafka", "state.backend"),
        ("server.base-path=events/", "server.base-path"),
        ("kafka.delivery-timeout=1s", "30s"),
        ("kafka.security-protocol=tls", "sasl_ssl"),
        ("kafka.security-protocol=sasl_ssl", "kafka.sasl.mechanism"),
        ("publish.routes=[{topic: a, typ: b}]", "typ"),
        ("publish.routes=[", "YAML"),
    ] {
        let text = refused(&set(&[setting]));
        assert!(text.contains(word), "{setting}: {text}");
    }
    assert!(refused(&set(&["server.http"])).contains("key=value"));
    assert!(refused(&file("just words").1).contains("configuration file"));
}

#[test]
fn listening_beyond_this_machine_must_be_meant() {
    let text = refused(&set(&["server.http=0.0.0.0:8085"]));
    assert!(text.contains("security.anonymous=allow"), "{text}");
    load(&set(&["server.http=0.0.0.0:8085", "security.anonymous=allow"])).expect("it is meant");
}

#[test]
fn naming_kafkas_servers_selects_it_unless_a_backend_is_said() {
    let chosen = |sources: &Sources| {
        let loaded = load(sources).expect("good");
        (loaded.config.log.backend, loaded.config.kafka.bootstrap_servers.clone(), loaded.log_because)
    };
    let brokers = environment(&[("KAFKA_BROKERS", "a:1"), ("UNRELATED", "x")]);
    let (backend, servers, because) = chosen(&brokers);
    assert_eq!((backend, servers.as_str()), (LogBackend::Kafka, "a:1"));
    assert!(because.contains("KAFKA_BROKERS"), "{because}");
    // The more exact name wins, and the command line over both.
    let both = environment(&[("EVENT_STREAMING__KAFKA__BOOTSTRAP_SERVERS", "b:1"), ("KAFKA_BROKERS", "a:1")]);
    assert_eq!(chosen(&both).1, "b:1");
    let said = Sources { set: vec!["log.backend=embedded".to_owned()], ..brokers };
    assert_eq!(chosen(&said).0, LogBackend::Embedded);
    assert_eq!(chosen(&environment(&[("KAFKA_BROKERS", "")])).0, LogBackend::Embedded);
}

#[test]
fn a_file_of_a_spring_service_is_taken_and_what_has_no_effect_is_said() {
    let (_file, sources) = file(
        "spring.kafka:\n  bootstrap-servers: broker:9092\n  producer:\n    acks: all\n    compression-type: snappy\n  \
         consumer: {isolation-level: read_committed}\nspring.redis: {host: cache, timeout: 1s}\n\
         event-streaming:\n  dlq:\n    max-retries: 7\n",
    );
    let loaded = load(&sources).expect("good");
    assert_eq!(loaded.config.log.backend, LogBackend::Kafka);
    let kafka = loaded.config.kafka().expect("good");
    assert_eq!(kafka.bootstrap_servers, "broker:9092");
    assert_eq!(kafka.producer["compression.type"], "snappy");
    assert_eq!(kafka.consumer["isolation.level"], "read_committed");
    assert!(loaded.without_effect.is_empty());
    assert_eq!(loaded.config.delivery().defaults.retry.max_retries, Some(7));
    let redis = loaded.config.servers().expect("good").redis.expect("a Redis is named");
    assert_eq!((redis.host.as_str(), redis.request_timeout), ("cache", Duration::from_secs(1)));
}

#[test]
fn a_file_of_a_team_that_has_everything_is_taken_as_it_is() {
    let (_file, sources) = file(
        "spring.kafka:\n  bootstrap-servers: localhost:9092\n\
         schema.registry:\n  url: http://localhost:8081\n  compatibility: FULL_TRANSITIVE\n\
         spring.redis:\n  host: localhost\n  port: 6379\n  database: 5\n  lettuce: {pool: {max-active: 8}}\n\
         event-streaming:\n  dlq:\n    enabled: true\n    max-retries: 3\n    retry-delay-ms: 5000\n  \
         consumer:\n    idempotency:\n      enabled: true\n      ttl: 3600\n  \
         monitoring:\n    metrics-enabled: true\n",
    );
    let loaded = load(&sources).expect("good");
    let defaults = load(&Sources::default()).expect("good").config;
    assert_eq!(loaded.config.delivery(), defaults.delivery());
    assert!(loaded.config.servers().expect("good").redis.is_some(), "a Redis is named");
    let registry = loaded.config.servers().expect("good").registry.expect("a registry is named");
    assert_eq!(registry.urls, ["http://localhost:8081"]);
    let pool = "spring.redis.lettuce.pool.max-active";
    let monitoring = "event-streaming.monitoring.metrics-enabled";
    assert_eq!(loaded.without_effect, [monitoring, pool, "schema-registry.compatibility"]);
}

#[test]
fn open_groups_take_names_with_dots_from_everywhere() {
    let (_file, mut sources) = file("kafka: {properties: {ssl: {ca: {location: /ca.pem}}}}\n");
    sources.set = vec!["kafka.properties.socket.keepalive.enable=true".to_owned()];
    sources.environment =
        environment(&[("EVENT_STREAMING__KAFKA__PRODUCER__COMPRESSION_TYPE", "zstd")]).environment;
    let kafka = load(&sources).expect("good").config.kafka().expect("good");
    assert_eq!(kafka.common["ssl.ca.location"], "/ca.pem");
    assert_eq!(kafka.common["socket.keepalive.enable"], "true");
    assert_eq!(kafka.producer["compression.type"], "zstd");
}

#[test]
fn secrets_are_taken_and_never_shown() {
    let mut password_file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(password_file, "hunter2").expect("it can be written");
    let path = password_file.path().display().to_string();
    let loaded = load(&set(&[&format!("kafka.sasl.password-file={path}")])).expect("good");
    assert_eq!(loaded.config.kafka().expect("good").common["sasl.password"], "hunter2");
    assert!(loaded.show().contains(&path));

    let loaded = load(&set(&["kafka.sasl.password=hunter2", "kafka.properties.ssl.key.password=hunter2"]))
        .expect("good");
    assert_eq!(loaded.config.kafka().expect("good").common["ssl.key.password"], "hunter2");
    let shown = format!("{}{loaded:?}", loaded.show());
    assert!(shown.contains("(hidden)") && !loaded.show().contains("hunter2"), "{shown}");
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));

    let (_file, sources) = file("kafka: {sasl: {password: [hunter2]}}\n");
    assert!(!refused(&sources).contains("hunter2"));
    let missing = load(&set(&["kafka.sasl.password-file=/nowhere/at/all"])).expect("good");
    let wrong = missing.config.kafka().expect_err("there is no such file");
    assert!(missing.wrong(wrong).to_string().contains("/nowhere/at/all"));
}

#[test]
fn what_is_shown_is_a_file_that_means_the_same() {
    let loaded =
        load(&set(&["server.http=127.0.0.1:1", "kafka.producer.compression-type=zstd"])).expect("good");
    let shown = loaded.show();
    assert!(shown.contains("  http: \"127.0.0.1:1\"   # --set\n"), "{shown}");
    let (_file, sources) = file(&shown);
    let again = load(&sources).expect("what is shown can be read");
    // Only where each value was set is another.
    let values = |text: &str| {
        text.lines().map(|line| line.split("   # ").next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(values(&again.show()), values(&shown));
}

#[test]
fn the_documentation_shows_the_defaults_as_they_are() {
    let page = include_str!("../../../../docs/configuration.md");
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```\n").next());
    assert_eq!(block, Some(DEFAULTS), "copy crates/app/config.default.yaml into docs/configuration.md");
}

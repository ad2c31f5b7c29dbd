//! A long backlog and a slow client.

use base64::Engine as _;
use event_streaming_tests::{Log, Setup, unique};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const EVENT_BYTES: usize = 256 << 10;
const BACKLOG_BYTES: usize = 1 << 30;
/// 100 MiB, less what the program's own pages take in a build for users.
const RESIDENT_MAX: u64 = (100 - 20) << 20;
/// So many events are handled, ten of them a second at most.
const HANDLED: u32 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_of_backlog_and_a_slow_client_take_less_than_100_mebibytes() {
    let data = tempfile::tempdir().expect("a folder");
    let service = Setup::on(&Log::embedded()).start(data.path()).await;
    let client = service.client();
    let (topic, name) = (unique("backlog"), unique("sub"));
    client.create_topic(&topic, 3).await;
    client.subscribe(&name, &topic, &json!({"payload": "bytes"})).await;
    let path = format!("/v1/topics/{topic}/events");
    let publishers = (0..4).map(|publisher| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            for n in 0..BACKLOG_BYTES / EVENT_BYTES / 4 {
                let key = format!("{publisher}-{}", n % 100);
                let headers =
                    [("content-type", "application/octet-stream"), ("ce-partitionkey", key.as_str())];
                client.post_bytes(&path, &headers, vec![n as u8; EVENT_BYTES]).await.expect(200);
            }
        }
    });
    futures::future::join_all(publishers).await;
    println!("{} MiB after publishing", service.resident_bytes() >> 20);

    let began = Instant::now();
    let mut most = 0;
    for handled in 1..=HANDLED {
        let out = client.pull(&name, 1, "5s").await;
        let data = out[0]["event"]["data_base64"].as_str().expect("bytes");
        let value = base64::engine::general_purpose::STANDARD.decode(data).expect("base 64");
        assert_eq!(value.len(), EVENT_BYTES);
        client.ack(&name, &out).await;
        most = service.resident_bytes().max(most);
        tokio::time::sleep((Duration::from_millis(100) * handled).saturating_sub(began.elapsed())).await;
    }
    println!("at most {} MiB in {} s", most >> 20, began.elapsed().as_secs());
    assert!(most < RESIDENT_MAX, "{} MiB", most >> 20);
}

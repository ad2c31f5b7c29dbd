//! Publishes a tenant's message and welcomes the tenant. Ends by itself, and keeps nothing on the embedded log.
//!
//! `cargo run -p event-streaming-examples --bin tenant_created [KAFKA]`

use event_streaming::KafkaConfig;
use event_streaming_examples::tenant_created::{Running, tenant_created};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let kafka = std::env::args()
        .nth(1)
        .map(|bootstrap_servers| KafkaConfig { bootstrap_servers, ..KafkaConfig::default() });
    let topic = "nnipa.events.tenant.created";
    let mut running = Running::start(folder.path(), kafka, topic, "welcome").await?;
    let receipt = running.publish(&tenant_created("t-1", "e-1"), "t-1").await?;
    println!("published {} to {} at {}:{}", receipt.id, receipt.topic, receipt.partition, receipt.offset);
    let welcomed = running.welcomed.recv().await.ok_or("the handler has ended")?;
    let tenant = welcomed.data.tenant.unwrap_or_default();
    println!("welcome, {} ({}), by {:?}", tenant.name, tenant.id, welcomed.event.user_id.as_deref());
    println!("stopped in order: {}", running.service.shutdown().await);
    Ok(())
}

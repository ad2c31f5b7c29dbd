//! The clients of Python and of Node.js, each by its scripts in `tests/clients`.

use super::{Format, Orders, Place};
use event_streaming_tests::{foreign_clients, node, python, run_foreign};
use schema_registry_converter::prost_reflect::prost::Message as _;
use serde_json::Value;
use tokio::process::Command;

#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Python,
    Node,
}

impl Script {
    /// Asks the registry, which is empty, everything.
    pub(super) async fn ask(self, registry: &str) {
        let mut command = self.command("registry");
        command.env("REGISTRY", registry);
        run_foreign(command, b"").await;
    }

    fn command(self, script: &str) -> Command {
        let (mut command, file) = match self {
            Self::Python => (python(), format!("python/{script}.py")),
            Self::Node => (node(), format!("node/{script}.cjs")),
        };
        command.arg(foreign_clients().join(file));
        command
    }

    async fn serdes(self, place: &Place, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let schemas = foreign_clients().join("schemas");
        let descriptors = tempfile::NamedTempFile::new().expect("a file");
        let set = protox::compile(["shop/order.proto"], [&schemas]).expect("the schemas compile");
        std::fs::write(descriptors.path(), set.encode_to_vec()).expect("it can be written");
        let mut command = self.command("serdes");
        command
            .args(arguments)
            .env("REGISTRY", &place.registry)
            .env("BROKERS", &place.brokers)
            .env("TOPIC", &place.topic)
            .env("SCHEMAS", &schemas)
            .env("DESCRIPTORS", descriptors.path());
        run_foreign(command, input).await
    }
}

impl Orders for Script {
    async fn produce(&self, place: &Place, format: Format, orders: &[Value]) {
        let input = serde_json::to_vec(orders).expect("JSON");
        self.serdes(place, &["produce", format.name()], &input).await;
    }

    async fn consume(&self, place: &Place, format: Format, count: usize) -> Vec<Value> {
        let said = self.serdes(place, &["consume", format.name(), &count.to_string()], b"").await;
        serde_json::from_slice(&said).expect("an array of orders")
    }
}

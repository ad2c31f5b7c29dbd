//! The client: the port's calls as requests, and their answers.

mod error;
mod requests;
mod tls;
mod wire;

use crate::config::RegistryConfig;
use async_trait::async_trait;
use bytes::Bytes;
use error::About;
use ports::{
    Asked, ErrorKind, PortError, RegistryAgainst, RegistryCheck, RegistryError, RegistryRefusal,
    RegistrySchema, RegistryVersion, Result, SchemaKey, SchemaRegistry, VersionKey,
};
use requests::{Ask, Http, Path};
use std::sync::Arc;
use wire::Wrong;

/// The context of subjects that name none.
const DEFAULT_CONTEXT: &str = ".";

/// A registry that speaks Confluent's API. Clones share one client.
#[derive(Clone, Debug)]
pub struct ConfluentRegistry {
    http: Arc<Http>,
}

impl ConfluentRegistry {
    /// Makes the client. Reads the system's certificates, and connects to nothing.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be right: an address that is none, a user without a password, certificates
    /// that are none.
    pub fn open(config: &RegistryConfig) -> Result<Self> {
        Ok(Self { http: Arc::new(Http::open(config)?) })
    }

    /// The registry.
    pub fn registry(&self) -> Arc<dyn SchemaRegistry> {
        Arc::new(self.clone())
    }

    /// Where it is. No secrets.
    pub fn urls(&self) -> Vec<String> {
        self.http.urls()
    }

    async fn get<T>(
        &self,
        operation: &'static str,
        path: Path,
        read: impl FnOnce(&[u8]) -> Result<T, Wrong> + Send,
    ) -> Asked<T> {
        let ask = Ask { operation, path, body: None, changes: false };
        self.asked(&ask, read).await
    }

    async fn post<T>(
        &self,
        operation: &'static str,
        path: Path,
        schema: &RegistrySchema,
        changes: bool,
        read: impl FnOnce(&[u8]) -> Result<T, Wrong> + Send,
    ) -> Asked<T> {
        let body = wire::given(schema).map_err(|error| {
            let detail = format!("metadata and rules must be JSON: {error}");
            PortError::new(ErrorKind::Invalid, operation, detail)
        })?;
        let ask = Ask { operation, path, body: Some(Bytes::from(body)), changes };
        self.asked(&ask, read).await
    }

    async fn asked<T>(&self, ask: &Ask, read: impl FnOnce(&[u8]) -> Result<T, Wrong> + Send) -> Asked<T> {
        let body = self.http.ask(ask).await?;
        read(&body).map_err(|wrong| self.nonsense(ask.operation, ask.changes, &wrong))
    }

    fn nonsense(&self, operation: &'static str, changes: bool, wrong: &str) -> RegistryError {
        About { operation, host: self.http.host(), changes }.nonsense(wrong)
    }
}

#[async_trait]
impl SchemaRegistry for ConfluentRegistry {
    async fn ping(&self) -> Asked<()> {
        self.get("schema_registry.ping", Path::new(&["schemas", "types"]), |body| wire::names(body).map(drop))
            .await
    }

    async fn schema(&self, key: &SchemaKey) -> Asked<RegistrySchema> {
        let path = Path::new(&["schemas", "ids", &key.id.to_string()]);
        self.get("schema_registry.schema", in_context(path, key), wire::schema).await
    }

    async fn version(&self, subject: &str, version: Option<u32>, deleted: bool) -> Asked<RegistryVersion> {
        const OPERATION: &str = "schema_registry.version";
        let number = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
        let path = Path::new(&["subjects", subject, "versions", &number]).flag("deleted", deleted);
        let found = self.get(OPERATION, path, wire::version).await?;
        if version.is_some_and(|version| version != found.version) {
            let wrong = format!("it was asked for version {number}, and gave {}", found.version);
            return Err(self.nonsense(OPERATION, false, &wrong));
        }
        Ok(found)
    }

    async fn versions(&self, subject: &str, deleted: bool) -> Asked<Vec<u32>> {
        let path = Path::new(&["subjects", subject, "versions"]).flag("deleted", deleted);
        self.get("schema_registry.versions", path, wire::versions).await
    }

    async fn uses(&self, key: &SchemaKey, deleted: bool) -> Asked<Vec<VersionKey>> {
        let path = Path::new(&["schemas", "ids", &key.id.to_string(), "versions"]).flag("deleted", deleted);
        self.get("schema_registry.uses", in_context(path, key), wire::uses).await
    }

    async fn subjects(&self, deleted: bool) -> Asked<Vec<String>> {
        let path = Path::new(&["subjects"]).flag("deleted", deleted);
        self.get("schema_registry.subjects", path, wire::names).await
    }

    async fn lookup(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
        deleted: bool,
    ) -> Asked<RegistryVersion> {
        let path = Path::new(&["subjects", subject]).flag("normalize", normalize).flag("deleted", deleted);
        self.post("schema_registry.lookup", path, schema, false, wire::version).await
    }

    async fn register(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        normalize: bool,
    ) -> Asked<RegistryVersion> {
        const OPERATION: &str = "schema_registry.register";
        let path = Path::new(&["subjects", subject, "versions"]).flag("normalize", normalize);
        let id = self.post(OPERATION, path, schema, true, wire::registered).await?;
        // What it is there as. A replica that has not heard of it yet is asked again.
        let mut attempt = 1;
        let found = loop {
            match self.lookup(subject, schema, normalize, false).await {
                Err(RegistryError::Refused(refusal)) if refusal.status() == 404 => {
                    if attempt >= self.http.attempts() {
                        return Err(self.unseen(OPERATION, &refusal));
                    }
                    tokio::time::sleep(self.http.delay(attempt)).await;
                    attempt += 1;
                }
                found => break found?,
            }
        };
        if found.id != id {
            let wrong = format!("it registered a schema as {id}, and has it as {}", found.id);
            return Err(self.nonsense(OPERATION, true, &wrong));
        }
        Ok(found)
    }

    async fn check(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        against: RegistryAgainst,
        normalize: bool,
    ) -> Asked<RegistryCheck> {
        let number;
        let mut segments = vec!["compatibility", "subjects", subject, "versions"];
        match against {
            RegistryAgainst::Level => {}
            RegistryAgainst::Latest => segments.push("latest"),
            RegistryAgainst::Version(version) => {
                number = version.to_string();
                segments.push(&number);
            }
        }
        let path = Path::new(&segments).with("verbose", "true").flag("normalize", normalize);
        self.post("schema_registry.check", path, schema, false, wire::checked).await
    }
}

impl ConfluentRegistry {
    /// What was registered cannot be found.
    fn unseen(&self, operation: &'static str, refusal: &RegistryRefusal) -> RegistryError {
        self.nonsense(operation, true, &format!("what it registered is not there: {refusal}"))
    }
}

/// Says whose id it is; ids of the default context are everybody's.
fn in_context(path: Path, key: &SchemaKey) -> Path {
    if key.context == DEFAULT_CONTEXT { path } else { path.with("subject", &format!(":{}:", key.context)) }
}

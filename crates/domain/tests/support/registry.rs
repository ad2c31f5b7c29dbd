//! A registry outside, which does what a test says.

use async_trait::async_trait;
use parking_lot::Mutex;
use ports::{
    Asked, ErrorKind, PortError, RegistryAgainst, RegistryCheck, RegistryError, RegistryRefusal,
    RegistrySchema, RegistryVersion, SchemaId, SchemaKey, SchemaRegistry, VersionKey,
};
use std::{collections::BTreeMap, future};

/// A registry that takes whatever it is given, and notes what it is asked.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) schemas: Vec<RegistrySchema>,
    /// Version and id, by subject.
    pub(crate) subjects: BTreeMap<String, BTreeMap<u32, u32>>,
    pub(crate) asked: Vec<String>,
    /// What every call is told.
    pub(crate) failure: Option<fn() -> RegistryError>,
    pub(crate) guid: Option<[u8; 16]>,
    hangs: bool,
}

pub(crate) fn refused(code: u32) -> RegistryError {
    RegistryError::Refused(RegistryRefusal { code, message: format!("because of {code}") })
}

pub(crate) fn away() -> RegistryError {
    PortError::new(ErrorKind::Unavailable, "schema_registry.call", "connection refused").into()
}

impl Fake {
    async fn ask(&self, what: String) -> Asked<()> {
        let (hangs, failure) = {
            let mut state = self.state.lock();
            state.asked.push(what);
            (state.hangs, state.failure)
        };
        if hangs {
            future::pending::<()>().await;
        }
        failure.map_or(Ok(()), |failure| Err(failure()))
    }

    /// Whether it answers nothing from now on.
    pub(crate) fn hang(&self, hangs: bool) {
        self.state.lock().hangs = hangs;
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().asked)
    }

    pub(crate) fn fail(&self, failure: Option<fn() -> RegistryError>) {
        self.state.lock().failure = failure;
    }

    pub(crate) fn put(&self, subject: &str, version: u32, schema: RegistrySchema) -> u32 {
        let mut state = self.state.lock();
        let id = state.schemas.iter().position(|there| there.text == schema.text);
        let id = id.unwrap_or_else(|| {
            state.schemas.push(schema);
            state.schemas.len() - 1
        }) as u32
            + 1;
        state.subjects.entry(subject.to_owned()).or_default().insert(version, id);
        id
    }

    fn answer(&self, subject: &str, version: u32, id: u32) -> RegistryVersion {
        let state = self.state.lock();
        let mut schema = state.schemas[id as usize - 1].clone();
        schema.guid = state.guid;
        let subject = subject.to_owned();
        RegistryVersion { subject, version, id: SchemaId(id), deleted: false, schema }
    }

    fn of(&self, subject: &str) -> Asked<BTreeMap<u32, u32>> {
        self.state.lock().subjects.get(subject).cloned().ok_or_else(|| refused(40401))
    }
}

#[async_trait]
impl SchemaRegistry for Fake {
    async fn ping(&self) -> Asked<()> {
        self.ask("ping".to_owned()).await
    }

    async fn schema(&self, key: &SchemaKey) -> Asked<RegistrySchema> {
        self.ask(format!("schema {} {}", key.context, key.id)).await?;
        let state = self.state.lock();
        state.schemas.get(key.id.0 as usize - 1).cloned().ok_or_else(|| refused(40403))
    }

    async fn version(&self, subject: &str, version: Option<u32>, _deleted: bool) -> Asked<RegistryVersion> {
        let shown = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
        self.ask(format!("version {subject} {shown}")).await?;
        let versions = self.of(subject)?;
        let number = version.or_else(|| versions.keys().next_back().copied());
        let found = number.and_then(|number| Some((number, *versions.get(&number)?)));
        let (version, id) = found.ok_or_else(|| refused(40402))?;
        Ok(self.answer(subject, version, id))
    }

    async fn versions(&self, subject: &str, deleted: bool) -> Asked<Vec<u32>> {
        self.ask(format!("versions {subject}{}", if deleted { " deleted" } else { "" })).await?;
        Ok(self.of(subject)?.into_keys().collect())
    }

    async fn uses(&self, key: &SchemaKey, _deleted: bool) -> Asked<Vec<VersionKey>> {
        self.ask(format!("uses {}", key.id)).await?;
        let state = self.state.lock();
        if key.id.0 as usize > state.schemas.len() {
            return Err(refused(40403));
        }
        let versions = state.subjects.iter().flat_map(|(subject, versions)| {
            let of = versions.iter().filter(|(_, id)| **id == key.id.0);
            of.map(|(version, _)| VersionKey { subject: subject.clone(), version: *version })
        });
        Ok(versions.collect())
    }

    async fn subjects(&self, deleted: bool) -> Asked<Vec<String>> {
        self.ask(format!("subjects{}", if deleted { " deleted" } else { "" })).await?;
        let mut names: Vec<String> = self.state.lock().subjects.keys().cloned().collect();
        names.extend(deleted.then(|| "gone".to_owned()));
        names.sort();
        Ok(names)
    }

    async fn lookup(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        _normalize: bool,
        _deleted: bool,
    ) -> Asked<RegistryVersion> {
        self.ask(format!("lookup {subject}")).await?;
        let found = self
            .of(subject)?
            .into_iter()
            .find(|(_, id)| self.state.lock().schemas[*id as usize - 1].text == schema.text);
        let (version, id) = found.ok_or_else(|| refused(40403))?;
        Ok(self.answer(subject, version, id))
    }

    async fn register(
        &self,
        subject: &str,
        schema: &RegistrySchema,
        _normalize: bool,
    ) -> Asked<RegistryVersion> {
        self.ask(format!("register {subject}")).await?;
        let version =
            self.of(subject).map_or(0, |versions| versions.keys().next_back().copied().unwrap_or(0)) + 1;
        let mut schema = schema.clone();
        for reference in &mut schema.references {
            let latest = self.of(&reference.subject)?.into_keys().next_back();
            reference.version = reference.version.or(latest);
        }
        let id = self.put(subject, version, schema);
        Ok(self.answer(subject, version, id))
    }

    async fn check(
        &self,
        subject: &str,
        _schema: &RegistrySchema,
        against: RegistryAgainst,
        _normalize: bool,
    ) -> Asked<RegistryCheck> {
        self.ask(format!("check {subject} {against:?}")).await?;
        self.of(subject)?;
        Ok(RegistryCheck { is_compatible: false, messages: vec!["why".to_owned()] })
    }
}

pub(crate) fn text(field: &str) -> String {
    format!("syntax = \"proto3\"; package shop; message Order {{ string {field} = 1; }}")
}

/// The same as the registry has it.
pub(crate) fn kept(field: &str) -> RegistrySchema {
    RegistrySchema {
        schema_type: "PROTOBUF".to_owned(),
        text: text(field),
        references: Vec::new(),
        metadata: None,
        rule_set: None,
        guid: None,
    }
}

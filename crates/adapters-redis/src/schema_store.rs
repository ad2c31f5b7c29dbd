//! Schemas on Redis: four hashes and an index, which `schema_change.lua` describes and alone changes.
//!
//! # Why of changes at one revision one wins
//!
//! A change is one script, and a server runs one script at a time: the revision is compared and moved, and all the
//! rest done, with nothing in between.
//!
//! # Why a change may be sent twice
//!
//! Each carries a random token, and the last one's is kept with its answer: what was sent on a connection that
//! broke is sent once more, and answered as the first time. Only where somebody else has changed the schemas in
//! between it is a conflict, which is true by then; whoever made it reads anew and finds what it did.
//!
//! # Keys
//!
//! All have the hash tag `{schemas}` behind the prefix, so that they lie in one slot of a cluster.

use crate::{config::RedisConfig, connection::Connection, error};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{
    ErrorKind, Fingerprint, PortError, RegisteredSchema, Result, Revision, SchemaChange, SchemaChanged,
    SchemaId, SchemaKey, SchemaSetting, SchemaStore, StoredSchema, StoredSubject, SubjectVersion, VersionKey,
};
use redis::{Cmd, Script};
use std::{fmt, sync::Arc};
use uuid::Uuid;

const SCRIPT: &str = include_str!("schema_change.lua");

/// The bytes of a version in a subject's row.
const ENTRY: usize = 10;

const REVISION: &str = "schema_store.revision";
const SCHEMAS: &str = "schema_store.schemas";
const FIND: &str = "schema_store.find";
const SUBJECTS: &str = "schema_store.subjects";
const LIST: &str = "schema_store.list";
const USES: &str = "schema_store.uses";
const REFERRERS: &str = "schema_store.referrers";
const SETTINGS: &str = "schema_store.settings";
const CHANGE: &str = "schema_store.change";

/// The store.
pub(crate) struct Schemas {
    connection: Arc<Connection>,
    /// Head, schemas, subjects, index, settings.
    keys: [String; 5],
    script: Script,
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemas")
            .field("connection", &self.connection)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Schemas {
    pub(crate) fn new(connection: Arc<Connection>, config: &RedisConfig) -> Self {
        let key = |name| format!("{}{{schemas}}:{name}", config.key_prefix);
        let keys = ["head", "schemas", "subjects", "index", "settings"].map(key);
        Self { connection, keys, script: Script::new(SCRIPT) }
    }

    /// The fields of a hash, each in its place.
    async fn fields(
        &self,
        key: &str,
        fields: &[Vec<u8>],
        operation: &'static str,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = Cmd::new();
        command.arg("HMGET").arg(key).arg(fields);
        let found: Vec<Option<Vec<u8>>> = self.connection.ask(command, operation).await?;
        if found.len() != fields.len() {
            return Err(error::corrupt(operation, "another number of fields than were asked for"));
        }
        Ok(found)
    }

    /// What stands in the index behind `with`, split where names end.
    async fn behind<const N: usize>(&self, with: &[u8], operation: &'static str) -> Result<Vec<[String; N]>> {
        let mut command = Cmd::new();
        command.arg("ZRANGEBYLEX").arg(&self.keys[3]);
        command.arg([b"[", with, b"\0"].concat()).arg([b"(", with, b"\x01"].concat());
        let members: Vec<Vec<u8>> = self.connection.ask(command, operation).await?;
        let read = |member: Vec<u8>| {
            let text = std::str::from_utf8(member.get(with.len() + 1..)?).ok()?;
            let parts: Vec<String> = text.split('\0').map(str::to_owned).collect();
            parts.try_into().ok()
        };
        let unreadable =
            || error::corrupt(operation, "the index of the schemas is not as this program made it");
        members.into_iter().map(|member| read(member).ok_or_else(unreadable)).collect()
    }

    async fn run(&self, expected: Revision, change: &SchemaChange) -> Result<Vec<u8>> {
        let token = Uuid::new_v4();
        let command = |name_of_script: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(name_of_script).arg(script).arg(self.keys.len()).arg(&self.keys);
            command.arg(expected.0).arg(token.as_bytes());
            pack(change, &mut command);
            command
        };
        let mut answer = self.connection.one(command("EVALSHA", self.script.get_hash()), CHANGE).await?;
        // The server was restarted, or another one answers by now.
        if error::is_unknown_script(&answer) {
            answer = self.connection.one(command("EVAL", SCRIPT), CHANGE).await?;
        }
        self.connection.read(answer, CHANGE)
    }
}

#[async_trait]
impl SchemaStore for Schemas {
    async fn revision(&self) -> Result<Revision> {
        let mut command = Cmd::new();
        command.arg("HGET").arg(&self.keys[0]).arg("revision");
        let found: Option<u64> = self.connection.ask(command, REVISION).await?;
        Ok(Revision(found.unwrap_or_default()))
    }

    async fn schemas(&self, keys: Vec<SchemaKey>) -> Result<Vec<Option<StoredSchema>>> {
        let fields: Vec<Vec<u8>> = keys.iter().map(|key| field(key).into_bytes()).collect();
        let found = self.fields(&self.keys[1], &fields, SCHEMAS).await?;
        let read = |(key, row): (SchemaKey, Option<Vec<u8>>)| {
            let Some(row) = row else { return Ok(None) };
            let fingerprint = row.first_chunk::<16>().copied().map(Fingerprint);
            let fingerprint = fingerprint.ok_or_else(|| error::corrupt(SCHEMAS, "a schema is cut off"))?;
            Ok(Some(StoredSchema { key, fingerprint, value: Bytes::from(row).slice(16..) }))
        };
        keys.into_iter().zip(found).map(read).collect()
    }

    async fn find(&self, fingerprint: Fingerprint) -> Result<Vec<SchemaKey>> {
        let found = self.behind::<2>(&[b"f", &fingerprint.0[..]].concat(), FIND).await?;
        found.into_iter().map(|[context, id]| key(context, &id, FIND)).collect()
    }

    async fn subjects(&self, names: Vec<String>) -> Result<Vec<Option<StoredSubject>>> {
        let fields: Vec<Vec<u8>> = names.iter().map(|name| name.clone().into_bytes()).collect();
        let found = self.fields(&self.keys[2], &fields, SUBJECTS).await?;
        let read = |(name, row): (String, Option<Vec<u8>>)| {
            let unreadable = || error::corrupt(SUBJECTS, "a subject is not as this program made it");
            row.map(|row| subject(name, &row).ok_or_else(unreadable)).transpose()
        };
        names.into_iter().zip(found).map(read).collect()
    }

    async fn list(&self, prefix: &str, after: Option<String>, limit: usize) -> Result<Vec<StoredSubject>> {
        let mut found = Vec::new();
        let mut from = match after {
            Some(after) if after.as_str() >= prefix => format!("(s{after}"),
            _ => format!("[s{prefix}"),
        };
        let to = [b"(s", prefix.as_bytes(), b"\xff"].concat();
        // Those that are purged between the two questions are made up for by others.
        while found.len() < limit {
            let wanted = limit - found.len();
            let mut command = Cmd::new();
            command.arg("ZRANGEBYLEX").arg(&self.keys[3]).arg(&from).arg(&to).arg("LIMIT").arg(0).arg(wanted);
            let members: Vec<String> = self.connection.ask(command, LIST).await?;
            let names: Vec<String> = members.iter().map(|member| member[1..].to_owned()).collect();
            let Some(last) = members.last() else { break };
            from = format!("({last}");
            let is_last = names.len() < wanted;
            found.extend(self.subjects(names).await?.into_iter().flatten());
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    async fn uses(&self, key: &SchemaKey) -> Result<Vec<VersionKey>> {
        let found = self.behind::<2>(format!("u{}", field(key)).as_bytes(), USES).await?;
        let read =
            |[subject, version]: [String; 2]| Ok(VersionKey { subject, version: number(&version, USES)? });
        found.into_iter().map(read).collect()
    }

    async fn referrers(&self, subject: &str) -> Result<Vec<(u32, SchemaKey)>> {
        let found = self.behind::<3>(format!("b{subject}").as_bytes(), REFERRERS).await?;
        let read = |[version, context, id]: [String; 3]| {
            Ok((number(&version, REFERRERS)?, key(context, &id, REFERRERS)?))
        };
        found.into_iter().map(read).collect()
    }

    async fn settings(&self, setting: SchemaSetting, scopes: Vec<String>) -> Result<Vec<Option<Bytes>>> {
        let fields: Vec<Vec<u8>> =
            scopes.iter().map(|scope| setting_field(setting, scope).into_bytes()).collect();
        let found = self.fields(&self.keys[4], &fields, SETTINGS).await?;
        Ok(found.into_iter().map(|value| value.map(Bytes::from)).collect())
    }

    async fn change(&self, expected: Revision, change: SchemaChange) -> Result<SchemaChanged> {
        change.check()?;
        let answer = self.run(expected, &change).await?;
        let invalid = |detail: String| Err(PortError::new(ErrorKind::Invalid, CHANGE, detail));
        match (answer.split_first(), &change) {
            (Some((b'D', [revision @ .., a, b, c, d])), _) if revision.len() == 8 => {
                let id = u32::from_be_bytes([*a, *b, *c, *d]);
                let revision = revision.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                Ok(SchemaChanged { revision: Revision(revision), id: (id > 0).then_some(SchemaId(id)) })
            }
            (Some((b'C', found)), _) => {
                let found = found.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                let detail = format!("the schemas are at revision {found}, expected was {}", expected.0);
                Err(PortError::new(ErrorKind::Conflict, CHANGE, detail))
            }
            (Some((b'V', _)), SchemaChange::Register { subject, version, .. }) => {
                invalid(format!("the subject {subject:?} has a version {version} already"))
            }
            (Some((b'I', _)), SchemaChange::Register { context, .. }) => {
                invalid(format!("the context {context:?} has a schema of that id already"))
            }
            (Some((b'U', _)), SchemaChange::Register { context, .. }) => {
                invalid(format!("the context {context:?} has no schema of that id"))
            }
            _ => Err(error::corrupt(CHANGE, "an answer to a change is none")),
        }
    }
}

/// What a change says to the script.
fn pack(change: &SchemaChange, into: &mut Cmd) {
    match change {
        SchemaChange::Register { context, subject, version, tag, schema } => {
            into.arg("R").arg(context).arg(subject).arg(*version).arg(*tag);
            match schema {
                RegisteredSchema::Known(id) => _ = into.arg("K").arg(id.0),
                RegisteredSchema::New { id, fingerprint, value, references } => {
                    let id = id.map_or_else(String::new, |id| id.to_string());
                    into.arg("N").arg(id).arg(&fingerprint.0).arg(&value[..]);
                    for to in references {
                        into.arg(&to.subject).arg(to.version);
                    }
                }
            }
        }
        SchemaChange::Delete { subject, versions } => _ = into.arg("D").arg(subject).arg(versions),
        SchemaChange::Purge { subject, versions } => _ = into.arg("P").arg(subject).arg(versions),
        SchemaChange::Set { setting, scope, value } => {
            into.arg("S").arg(setting_field(*setting, scope));
            match value {
                Some(value) => _ = into.arg("W").arg(&value[..]),
                None => _ = into.arg("D"),
            }
        }
    }
}

fn field(key: &SchemaKey) -> String {
    format!("{}\0{:08x}", key.context, key.id.0)
}

fn setting_field(setting: SchemaSetting, scope: &str) -> String {
    format!("{}\0{scope}", setting.as_str())
}

fn number(text: &str, operation: &'static str) -> Result<u32> {
    u32::from_str_radix(text, 16).map_err(|_| error::corrupt(operation, "a number is none"))
}

fn key(context: String, id: &str, operation: &'static str) -> Result<SchemaKey> {
    Ok(SchemaKey { context, id: SchemaId(number(id, operation)?) })
}

fn subject(name: String, row: &[u8]) -> Option<StoredSubject> {
    let end = row.iter().position(|&byte| byte == 0)?;
    let context = std::str::from_utf8(&row[..end]).ok()?.to_owned();
    let (entries, rest) = row[end + 1..].as_chunks::<ENTRY>();
    let read = |&[a, b, c, d, e, f, g, h, deleted, tag]: &[u8; ENTRY]| SubjectVersion {
        version: u32::from_be_bytes([a, b, c, d]),
        id: SchemaId(u32::from_be_bytes([e, f, g, h])),
        deleted: deleted != 0,
        tag,
    };
    rest.is_empty().then(|| StoredSubject { name, context, versions: entries.iter().map(read).collect() })
}

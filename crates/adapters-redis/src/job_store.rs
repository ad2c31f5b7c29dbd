//! Documents on Redis: one hash a kind, one field a document.
//!
//! # Why of changes at the same time one wins
//!
//! A change is one script, and a server runs one script at a time: what is there is compared with what is
//! expected and replaced with nothing in between.
//!
//! # Why no version is given twice
//!
//! Versions are counted over all documents of a kind, in a field of the same hash, and never back: a document
//! that is deleted leaves the count. Whatever forgets the count (a flush, an eviction, a crash that loses what was
//! not written) forgets the documents with it.
//!
//! # Why a change may be sent twice
//!
//! Each carries a random token. A document keeps the token of what wrote it, and a deletion leaves its own for a
//! while, so that what was sent on a connection that broke is sent once more, and answered as the first time
//! instead of as a conflict with itself. Only where somebody else has changed the document in between it is one,
//! which is true by then.
//!
//! # Keys
//!
//! All have the hash tag `{state}` behind the prefix, so that they lie in one slot of a cluster. A list is read in
//! pages, as the server does nothing else meanwhile; what is there from its beginning to its end is in it.

use crate::{config::RedisConfig, connection::Connection, error};
use async_trait::async_trait;
use bytes::Bytes;
use ports::{ErrorKind, Expected, JobKind, JobStore, PortError, Result, Stored};
use redis::{Cmd, Script};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// The script that changes a document.
const CHANGE: &str = include_str!("change.lua");

/// The largest document.
const VALUE_BYTES_MAX: usize = 16 << 20;
/// About how many documents a page of a list has.
const PAGE: usize = 64;
/// How long a deletion is remembered: longer than any call takes.
const DELETION_REMEMBERED: Duration = Duration::from_mins(10);
/// What stands before a document's value: its version, and the token of what wrote it.
const HEAD: usize = 8 + 16;
/// What a document's field begins with, which the field of the count does not.
const DOCUMENT: char = ':';

const GET: &str = "job_store.get";
const LIST: &str = "job_store.list";
const PUT: &str = "job_store.put";
const DELETE: &str = "job_store.delete";

/// The store.
pub(crate) struct Documents {
    connection: Arc<Connection>,
    /// What stands before every key, with the hash tag.
    prefix: String,
    change: Script,
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents")
            .field("connection", &self.connection)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Documents {
    pub(crate) fn new(connection: Arc<Connection>, config: &RedisConfig) -> Self {
        let prefix = format!("{}{{state}}:", config.key_prefix);
        Self { connection, prefix, change: Script::new(CHANGE) }
    }

    fn key(&self, kind: JobKind) -> String {
        format!("{}{}", self.prefix, kind.as_str())
    }

    /// Changes a document by the script; gives its new version.
    async fn change(
        &self,
        (kind, name): (JobKind, &str),
        expected: Expected,
        becomes: Becomes<'_>,
        operation: &'static str,
    ) -> Result<u64> {
        let token = Uuid::new_v4();
        let keys = [self.key(kind), format!("{}deleted:{}", self.prefix, token.simple())];
        let wanted = match expected {
            Expected::Absent => vec![b'A'],
            Expected::Version(version) => [b"V", &version.to_be_bytes()[..]].concat(),
        };
        let becomes = match becomes {
            Becomes::Value(value) => [b"W", value].concat(),
            Becomes::Nothing => vec![b'D'],
        };
        let command = |name_of_script: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(name_of_script).arg(script).arg(keys.len()).arg(&keys);
            command.arg(field(name)).arg(&wanted).arg(token.as_bytes()).arg(&becomes);
            command.arg(DELETION_REMEMBERED.as_millis() as u64);
            command
        };
        let mut answer = self.connection.one(command("EVALSHA", self.change.get_hash()), operation).await?;
        // The server was restarted, or another one answers by now.
        if error::is_unknown_script(&answer) {
            answer = self.connection.one(command("EVAL", CHANGE), operation).await?;
        }
        let answer: Vec<u8> = self.connection.read(answer, operation)?;
        let version = || version(&answer[1..]);
        match answer.first() {
            Some(b'D') => Ok(version().unwrap_or_default()),
            Some(b'C') => {
                let found =
                    version().map_or("is not there".to_owned(), |found| format!("is at version {found}"));
                let wanted = match expected {
                    Expected::Absent => "none was expected".to_owned(),
                    Expected::Version(version) => format!("version {version} was expected"),
                };
                let detail = format!("{} {name:?} {found}, and {wanted}", kind.as_str());
                Err(PortError::new(ErrorKind::Conflict, operation, detail))
            }
            _ => Err(error::corrupt(operation, "an answer to a change is none")),
        }
    }
}

/// What a document becomes.
enum Becomes<'a> {
    Value(&'a [u8]),
    Nothing,
}

#[async_trait]
impl JobStore for Documents {
    async fn get(&self, kind: JobKind, name: &str) -> Result<Option<Stored>> {
        let mut command = Cmd::new();
        command.arg("HGET").arg(self.key(kind)).arg(field(name));
        let found: Option<Vec<u8>> = self.connection.ask(command, GET).await?;
        found.map(|found| stored(name.to_owned(), found, GET)).transpose()
    }

    async fn list(&self, kind: JobKind) -> Result<Vec<Stored>> {
        let mut documents = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut command = Cmd::new();
            command.arg("HSCAN").arg(self.key(kind)).arg(&cursor).arg("COUNT").arg(PAGE);
            let (next, page): (String, Vec<(Vec<u8>, Vec<u8>)>) = self.connection.ask(command, LIST).await?;
            for (field, value) in page {
                let Some(name) = field.strip_prefix(&[DOCUMENT as u8]) else { continue };
                let name = String::from_utf8(name.to_vec())
                    .map_err(|_| error::corrupt(LIST, "the name of a document is no UTF-8"))?;
                let found = stored(name, value, LIST)?;
                // A page may repeat what one before it had.
                match documents.entry(found.name.clone()) {
                    Entry::Vacant(entry) => _ = entry.insert(found),
                    Entry::Occupied(mut entry) if entry.get().version < found.version => {
                        entry.insert(found);
                    }
                    Entry::Occupied(_) => {}
                }
            }
            if next == "0" {
                return Ok(documents.into_values().collect());
            }
            cursor = next;
        }
    }

    async fn put(&self, kind: JobKind, name: &str, expected: Expected, value: Bytes) -> Result<u64> {
        if value.len() > VALUE_BYTES_MAX {
            let (bytes, kind) = (value.len(), kind.as_str());
            let text = format!("{kind} {name:?} has {bytes} bytes; it may have {VALUE_BYTES_MAX}");
            return Err(PortError::new(ErrorKind::TooLarge, PUT, text));
        }
        self.change((kind, name), expected, Becomes::Value(&value), PUT).await
    }

    async fn delete(&self, kind: JobKind, name: &str, version: u64) -> Result<()> {
        let expected = Expected::Version(version);
        self.change((kind, name), expected, Becomes::Nothing, DELETE).await.map(drop)
    }
}

fn field(name: &str) -> String {
    format!("{DOCUMENT}{name}")
}

fn version(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn stored(name: String, value: Vec<u8>, operation: &'static str) -> Result<Stored> {
    let head = value.get(..HEAD).and_then(|head| version(&head[..8]));
    let version = head.ok_or_else(|| error::corrupt(operation, "a document has no version"))?;
    Ok(Stored { name, version, value: Bytes::from(value).slice(HEAD..) })
}

//! Small files that are read at once and replaced as a whole: a first line with kind and version, fields
//! a line each, and a checksum over it all. Text, so that a person can read them.

use super::{
    fault::Fault,
    file::{FileSystem, remove_if_there},
};
use ports::ErrorKind;
use std::{
    fmt::Write as _,
    io::{self, IoSlice},
    path::Path,
};

const PRODUCT: &str = "event-streaming";
/// The version of all these files.
const VERSION: u32 = 1;
/// The ending of a file that is not finished yet.
pub(crate) const TEMPORARY_EXTENSION: &str = "tmp";
/// No such file is larger; what is, is none of ours.
const LEN_MAX: u64 = 1 << 20;

/// The lines `name value` of such a file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a field. Neither name nor value may hold a line end, nor the name a space.
    pub(crate) fn add(mut self, name: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    /// The first field `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All fields `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn encode(&self, kind: &str) -> String {
        let mut text = format!("{PRODUCT} {kind} {VERSION}\n");
        for (name, value) in &self.0 {
            debug_assert!(!name.contains([' ', '\n']) && !value.contains('\n'), "{name} {value}");
            text.push_str(name);
            text.push(' ');
            text.push_str(value);
            text.push('\n');
        }
        let crc = crc32c::crc32c(text.as_bytes());
        // Writing to a text does not fail.
        let _ = writeln!(text, "crc32c {crc:08x}");
        text
    }

    /// The fields of `text`, whether or not its checksum is right.
    fn lenient(text: &str) -> Self {
        let pairs = text.lines().skip(1).filter_map(|line| line.split_once(' '));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// What a file held that is not what was written.
#[derive(Debug)]
pub(crate) struct Damaged {
    pub(crate) fault: Fault,
    /// What can be made out in it; not to be relied on.
    pub(crate) fields: Fields,
}

/// Reads the file of `kind` at `path`; `None` where there is none.
pub(crate) fn read(fs: &dyn FileSystem, path: &Path, kind: &str) -> Result<Option<Fields>, Damaged> {
    let bytes = match read_all(fs, path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Damaged { fault: Fault::io("read", path, &error), fields: Fields::new() });
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let damaged = |fault| Damaged { fault, fields: Fields::lenient(&text) };
    let checksum = text.trim_end().rfind('\n').map(|end| text.split_at(end + 1)).and_then(|(body, last)| {
        let given = u32::from_str_radix(last.trim_end().strip_prefix("crc32c ")?, 16).ok()?;
        (crc32c::crc32c(body.as_bytes()) == given).then_some(body)
    });
    let Some(body) = checksum else {
        return Err(damaged(Fault::corrupt(path, 0, "its checksum is wrong")));
    };
    let first = body.lines().next().unwrap_or_default();
    match first.strip_prefix(&format!("{PRODUCT} {kind} ")).and_then(|version| version.parse::<u32>().ok()) {
        Some(version) if version <= VERSION && version > 0 => Ok(Some(Fields::lenient(body))),
        Some(version) => Err(damaged(Fault::new(
            ErrorKind::Corrupt,
            format!(
                "{} has format version {version}, this program reads up to {VERSION}; use the program that wrote it",
                path.display()
            ),
        ))),
        None => Err(damaged(Fault::corrupt(path, 0, "it is no file of this kind"))),
    }
}

fn read_all(fs: &dyn FileSystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let mut bytes = vec![0; file.len()?.min(LEN_MAX) as usize];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Puts the file of `kind` at `path` in place of what was there. Once it returns, it survives a loss of
/// power; when it fails, either the old or the new file is there, whole.
pub(crate) fn write(fs: &dyn FileSystem, path: &Path, kind: &str, fields: &Fields) -> Result<(), Fault> {
    let temporary = path.with_extension(TEMPORARY_EXTENSION);
    let written = || {
        let file = fs.create(&temporary)?;
        file.write_at(0, &mut [IoSlice::new(fields.encode(kind).as_bytes())])?;
        file.sync_data()?;
        fs.rename(&temporary, path)?;
        fs.sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    written().map_err(|error| {
        let _ = remove_if_there(fs, &temporary);
        Fault::io("write", path, &error)
    })
}

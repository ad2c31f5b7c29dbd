//! The files that an application's messages are defined in, as its build script keeps them.

use domain::{Error, ErrorCode, Result, schemas::protobuf::text_of_serialized};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use std::collections::HashMap;

/// Google's well-known types and what else every schema may import without a reference.
const BUILT_IN: [&str; 3] = ["google/protobuf/", "google/type/", "confluent/"];

/// What an application knows of its messages.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    files: HashMap<String, File>,
    /// The file of each message, by its full name.
    messages: HashMap<String, String>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct File {
    /// Its text.
    pub(crate) text: String,
    /// What it imports beside what is built in.
    pub(crate) imports: Vec<String>,
}

impl Descriptors {
    /// Adds the files of a serialized `FileDescriptorSet`. One that is there already stays.
    ///
    /// # Errors
    /// `invalid_request`: the bytes are no such set, or a file of it is none.
    pub(crate) fn add(&mut self, set: &[u8]) -> Result<()> {
        let wrong = |message: String| Error::invalid("messages", message);
        let set = FileDescriptorSet::decode(set)
            .map_err(|error| wrong(format!("must be a serialized FileDescriptorSet: {error}")))?;
        for file in set.file {
            let name = file.name().to_owned();
            if is_built_in(&name) || self.files.contains_key(&name) {
                continue;
            }
            let text = text_of_serialized(&file.encode_to_vec())
                .map_err(|problem| wrong(format!("holds `{name}`, which is no file: {}", problem.message)))?;
            let package = file.package().to_owned();
            self.note(&name, &package, &file.message_type);
            let FileDescriptorProto { dependency, .. } = file;
            let imports = dependency.into_iter().filter(|import| !is_built_in(import)).collect();
            self.files.insert(name, File { text, imports });
        }
        Ok(())
    }

    fn note(&mut self, file: &str, scope: &str, messages: &[DescriptorProto]) {
        // The decoder has bounded how deep they are.
        for message in messages {
            let dot = if scope.is_empty() { "" } else { "." };
            let full_name = format!("{scope}{dot}{}", message.name());
            self.note(file, &full_name, &message.nested_type);
            self.messages.insert(full_name, file.to_owned());
        }
    }

    /// The file of a message with all that it imports, each behind what it imports itself; the message's own is
    /// the last.
    ///
    /// # Errors
    /// `invalid_request`: the message, or a file that is imported, was not given to the builder.
    pub(crate) fn files_of(&self, message: &str) -> Result<Vec<(&str, &File)>> {
        let Some(file) = self.messages.get(message) else {
            let wrong = format!(
                "`{message}` is not among the messages that `Builder::messages` was given; add its file"
            );
            return Err(Error::invalid("messages", wrong));
        };
        let mut ordered: Vec<(&str, &File)> = Vec::new();
        // Each file is opened once, and closed when all that it imports is.
        let mut seen: Vec<&str> = vec![file];
        let mut open: Vec<(&str, usize)> = vec![(file, 0)];
        while let Some((name, next)) = open.last_mut() {
            let Some((name, file)) =
                self.files.get_key_value(*name).map(|(name, file)| (name.as_str(), file))
            else {
                let wrong = format!("lack the file `{name}`, which the file of `{message}` imports; add it");
                return Err(Error::invalid("messages", wrong));
            };
            match file.imports.get(*next) {
                Some(import) => {
                    *next += 1;
                    if !seen.contains(&import.as_str()) {
                        seen.push(import);
                        open.push((import, 0));
                    }
                }
                None => {
                    ordered.push((name, file));
                    open.pop();
                }
            }
        }
        Ok(ordered)
    }
}

fn is_built_in(path: &str) -> bool {
    BUILT_IN.iter().any(|folder| path.starts_with(folder))
}

/// An error that only a defect can bring.
pub(crate) fn defect(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, imports: &[&str], messages: &[&str]) -> FileDescriptorProto {
        FileDescriptorProto {
            name: Some(name.to_owned()),
            package: Some("shop".to_owned()),
            dependency: imports.iter().map(|&import| import.to_owned()).collect(),
            message_type: messages
                .iter()
                .map(|&name| DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() })
                .collect(),
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        }
    }

    fn descriptors(files: Vec<FileDescriptorProto>) -> Descriptors {
        let mut descriptors = Descriptors::default();
        descriptors.add(&FileDescriptorSet { file: files }.encode_to_vec()).expect("files");
        descriptors
    }

    #[test]
    fn what_a_file_imports_comes_before_it_and_once() {
        let known = descriptors(vec![
            file("c.proto", &[], &["C"]),
            file("b.proto", &["c.proto", "google/protobuf/timestamp.proto"], &["B"]),
            file("a.proto", &["c.proto", "b.proto"], &["A"]),
        ]);
        let of = |message| {
            let files = known.files_of(message).expect("files");
            files.into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of("shop.A"), ["c.proto", "b.proto", "a.proto"]);
        assert_eq!(of("shop.C"), ["c.proto"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let known = descriptors(vec![file("a.proto", &["gone.proto"], &["A"])]);
        for (message, word) in [("shop.B", "shop.B"), ("shop.A", "gone.proto")] {
            let error = known.files_of(message).expect_err("it is not there");
            assert_eq!(error.code(), ErrorCode::InvalidRequest);
            assert!(error.detail().contains(word), "{error}");
        }
        let error = Descriptors::default().add(b"\xff").expect_err("no set");
        assert_eq!(error.fields()[0].field, "messages");
    }

    #[test]
    fn files_that_import_each_other_end() {
        let known =
            descriptors(vec![file("a.proto", &["b.proto"], &["A"]), file("b.proto", &["a.proto"], &["B"])]);
        assert_eq!(known.files_of("shop.A").expect("files").len(), 2);
    }
}

//! What is opened is a database of ours, and nobody else's at the time.

use super::super::{
    FILE_NAME, Tables,
    schema::{FORMAT, META, META_FORMAT},
};
use crate::disk::DirLock;
use ports::ErrorKind;

#[test]
fn a_database_that_is_open_is_not_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::open(dir.path()).unwrap();
    assert_eq!(Tables::open(dir.path()).unwrap_err().kind(), ErrorKind::Conflict);
    drop(tables);
    Tables::open(dir.path()).unwrap();
}

/// Whoever waits for the directory must find the database closed: a service that is started anew in its process would
/// not start now and then.
#[test]
fn a_directory_is_held_until_the_database_in_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::open_locked(DirLock::acquire(dir.path()).unwrap()).unwrap();
    let handle = tables.clone();
    drop(tables);
    assert_eq!(DirLock::acquire(dir.path()).unwrap_err().kind(), ErrorKind::Unavailable);
    drop(handle);
    Tables::open_locked(DirLock::acquire(dir.path()).unwrap()).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_corrupt_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let content = vec![7; 10_000];
    std::fs::write(&path, &content).unwrap();
    let error = Tables::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(std::fs::read(&path).unwrap() == content);
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Tables::open(dir.path()).unwrap());
    let database = redb::Database::open(dir.path().join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(META_FORMAT, FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Tables::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.detail().contains("format"), "{error}");
}

#[test]
fn a_directory_that_does_not_exist_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let error = Tables::open(dir.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

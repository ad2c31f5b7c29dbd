//! What every `JobStore` must do.

use super::conformance_list;

conformance_list! {
    ($)
    /// Stamps the list of `JobStore` on a backend that has one:
    /// `testkit::job_store_conformance!(module_name, make_backend);`.
    job_store_conformance in job_store::entries {
        tests:
            a_document_is_made_once_and_read_back,
            a_change_wants_the_version_that_is_there,
            a_deletion_wants_the_version_that_is_there,
            a_document_made_again_never_has_an_old_version,
            documents_are_listed_by_kind_and_name,
            names_and_values_are_kept_as_they_are,
            of_concurrent_changes_exactly_one_wins,
            of_concurrent_creations_exactly_one_wins,
            what_was_written_survives_a_restart;
    }
}

mod tests {
    use crate::{
        conformance::{Backend, backend::expect_kind},
        fixtures,
    };
    use bytes::Bytes;
    use ports::{ErrorKind, Expected, JobKind, Stored};

    const KIND: JobKind = JobKind::Subscription;

    async fn put(backend: &Backend, name: &str, expected: Expected, value: &'static str) -> u64 {
        let value = Bytes::from_static(value.as_bytes());
        backend.jobs().put(KIND, name, expected, value).await.expect("what is expected is there")
    }

    async fn get(backend: &Backend, name: &str) -> Option<Stored> {
        backend.jobs().get(KIND, name).await.expect("it can be asked")
    }

    fn stored(name: &str, version: u64, value: &'static str) -> Stored {
        Stored { name: name.to_owned(), version, value: Bytes::from_static(value.as_bytes()) }
    }

    pub(super) async fn a_document_is_made_once_and_read_back(backend: Backend) {
        let name = fixtures::unique("job");
        assert_eq!(get(&backend, &name).await, None);
        let version = put(&backend, &name, Expected::Absent, "one").await;
        assert_eq!(get(&backend, &name).await, Some(stored(&name, version, "one")));
        let again = backend.jobs().put(KIND, &name, Expected::Absent, Bytes::from_static(b"two")).await;
        expect_kind(again, ErrorKind::Conflict);
        assert_eq!(get(&backend, &name).await, Some(stored(&name, version, "one")));
    }

    pub(super) async fn a_change_wants_the_version_that_is_there(backend: Backend) {
        let name = fixtures::unique("job");
        let nothing = backend.jobs().put(KIND, &name, Expected::Version(1), Bytes::new()).await;
        expect_kind(nothing, ErrorKind::Conflict);
        let first = put(&backend, &name, Expected::Absent, "one").await;
        let second = put(&backend, &name, Expected::Version(first), "two").await;
        assert!(second > first, "versions grow: {second} after {first}");
        for wrong in [first, second + 1, 0, u64::MAX] {
            let refused = backend.jobs().put(KIND, &name, Expected::Version(wrong), Bytes::new()).await;
            expect_kind(refused, ErrorKind::Conflict);
        }
        assert_eq!(get(&backend, &name).await, Some(stored(&name, second, "two")));
    }

    pub(super) async fn a_deletion_wants_the_version_that_is_there(backend: Backend) {
        let name = fixtures::unique("job");
        expect_kind(backend.jobs().delete(KIND, &name, 1).await, ErrorKind::Conflict);
        let first = put(&backend, &name, Expected::Absent, "one").await;
        let second = put(&backend, &name, Expected::Version(first), "two").await;
        expect_kind(backend.jobs().delete(KIND, &name, first).await, ErrorKind::Conflict);
        assert_eq!(get(&backend, &name).await, Some(stored(&name, second, "two")));
        backend.jobs().delete(KIND, &name, second).await.expect("that version is there");
        assert_eq!(get(&backend, &name).await, None);
        expect_kind(backend.jobs().delete(KIND, &name, second).await, ErrorKind::Conflict);
    }

    pub(super) async fn a_document_made_again_never_has_an_old_version(backend: Backend) {
        let name = fixtures::unique("job");
        let mut last = 0;
        for _ in 0..5 {
            let made = put(&backend, &name, Expected::Absent, "one").await;
            assert!(made > last, "{made} is newer than {last}");
            last = put(&backend, &name, Expected::Version(made), "two").await;
            assert!(last > made);
            backend.jobs().delete(KIND, &name, last).await.expect("that version is there");
        }
        let made = put(&backend, &name, Expected::Absent, "three").await;
        let refused = backend.jobs().put(KIND, &name, Expected::Version(last), Bytes::new()).await;
        expect_kind(refused, ErrorKind::Conflict);
        assert_eq!(get(&backend, &name).await, Some(stored(&name, made, "three")));
    }

    pub(super) async fn documents_are_listed_by_kind_and_name(backend: Backend) {
        let prefix = fixtures::unique("job");
        let names: Vec<_> = ["a", "b", "ba", "c"].iter().map(|end| format!("{prefix}-{end}")).collect();
        for name in [&names[2], &names[0], &names[3], &names[1]] {
            put(&backend, name, Expected::Absent, "value").await;
        }
        let other =
            backend.jobs().put(JobKind::Shared, &names[0], Expected::Absent, Bytes::from_static(b"other"));
        other.await.expect("names are unique within a kind only");
        let version = get(&backend, &names[1]).await.expect("it is there").version;
        backend.jobs().delete(KIND, &names[1], version).await.expect("that version is there");
        let ours = |kind| {
            let (backend, prefix) = (&backend, &prefix);
            async move {
                let list = backend.jobs().list(kind).await.expect("documents can be listed");
                assert!(list.is_sorted_by(|one, next| one.name < next.name), "by name, each once");
                list.into_iter().filter(|it| it.name.starts_with(prefix)).collect::<Vec<_>>()
            }
        };
        let listed = ours(KIND).await;
        assert_eq!(listed.iter().map(|it| &it.name).collect::<Vec<_>>(), [&names[0], &names[2], &names[3]]);
        for it in listed {
            assert_eq!(get(&backend, &it.name).await, Some(it));
        }
        let shared = ours(JobKind::Shared).await;
        assert_eq!(shared.len(), 1);
        assert_eq!(shared[0].value, "other");
    }

    pub(super) async fn names_and_values_are_kept_as_they_are(backend: Backend) {
        let prefix = fixtures::unique("job");
        let mut rng = fixtures::rng(7);
        let names = [format!("{prefix}/ä\u{1F600}"), format!("{prefix}%2F"), format!("{prefix}/'; --")];
        let values = [Bytes::new(), fixtures::payload(&mut rng, 100_000), Bytes::from_static(&[0, 255, 0])];
        for (name, value) in names.iter().zip(&values) {
            let version =
                backend.jobs().put(KIND, name, Expected::Absent, value.clone()).await.expect("it is new");
            let expected = Stored { name: name.clone(), version, value: value.clone() };
            assert_eq!(get(&backend, name).await, Some(expected));
        }
    }

    /// How many of some calls at once with the same expectation succeed.
    async fn race(backend: &Backend, name: &str, expected: Expected) -> usize {
        let mut calls = Vec::new();
        for nth in 0..16_u8 {
            let (jobs, name) = (backend.jobs().clone(), name.to_owned());
            let value = Bytes::copy_from_slice(&[nth]);
            calls.push(tokio::spawn(async move { (nth, jobs.put(KIND, &name, expected, value).await) }));
        }
        let mut winners = Vec::new();
        for call in calls {
            match call.await.expect("the call ends") {
                (nth, Ok(version)) => winners.push((nth, version)),
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        let there = get(backend, name).await.expect("it is there");
        assert!(winners.contains(&(there.value[0], there.version)), "what is there was written by who won");
        winners.len()
    }

    pub(super) async fn of_concurrent_changes_exactly_one_wins(backend: Backend) {
        let name = fixtures::unique("job");
        let mut version = put(&backend, &name, Expected::Absent, "one").await;
        for _ in 0..5 {
            assert_eq!(race(&backend, &name, Expected::Version(version)).await, 1);
            version = get(&backend, &name).await.expect("it is there").version;
        }
    }

    pub(super) async fn of_concurrent_creations_exactly_one_wins(backend: Backend) {
        for _ in 0..5 {
            assert_eq!(race(&backend, &fixtures::unique("job"), Expected::Absent).await, 1);
        }
    }

    pub(super) async fn what_was_written_survives_a_restart(backend: Backend) {
        let (kept, deleted) = (fixtures::unique("job"), fixtures::unique("job"));
        let first = put(&backend, &kept, Expected::Absent, "one").await;
        let version = put(&backend, &kept, Expected::Version(first), "two").await;
        let gone = put(&backend, &deleted, Expected::Absent, "gone").await;
        backend.jobs().delete(KIND, &deleted, gone).await.expect("that version is there");
        let backend = backend.reopened().await;
        assert_eq!(get(&backend, &kept).await, Some(stored(&kept, version, "two")));
        assert_eq!(get(&backend, &deleted).await, None);
        let made = put(&backend, &deleted, Expected::Absent, "new").await;
        assert!(made > gone, "a version is not used again after a restart");
    }
}

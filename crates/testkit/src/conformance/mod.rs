//! One list a port of what every backend must do.
//!
//! A backend gives an async function that makes a [`Backend`], and stamps a list on it by one line, the
//! first word of which names the module that the tests are put into:
//!
//! ```ignore
//! async fn memory() -> testkit::Backend { … }
//! testkit::event_log_conformance!(memory_event_log, memory);
//! testkit::topic_admin_conformance!(memory_topic_admin, memory);
//! testkit::group_membership_conformance!(memory_group_membership, memory);
//! testkit::offset_store_conformance!(memory_offset_store, memory);
//! testkit::group_admin_conformance!(memory_group_admin, memory);
//! testkit::job_store_conformance!(memory_job_store, memory);
//! testkit::idempotency_store_conformance!(memory_idempotency_store, memory);
//! testkit::schema_store_conformance!(memory_schema_store, memory);
//! ```
//!
//! Each test makes a backend, and topics and groups of names that nobody else has, so that all can share
//! one server. `EventLog::capabilities` decides what may differ from one backend to the next. Waits are
//! for conditions, with a generous end; nothing asserts how long something took.

mod backend;
pub mod event_log;
pub mod groups;
pub mod idempotency_store;
pub mod job_store;
pub mod schema_store;
pub mod topic_admin;

pub use backend::{Backend, PATIENCE, run, within};

/// The one place where a list is kept: names each test by the room (module) that it is in, and makes of
/// them the macro that stamps the list. A test that is in no list is dead code, which the compiler tells.
macro_rules! conformance_list {
    (($d:tt) $(#[$doc:meta])* $stamp:ident in $path:ident::$entries:ident { $($room:ident: $($name:ident),+ ;)+ }) => {
        /// The list, each entry a test that takes a backend of its own.
        pub mod $entries {
            $($(
                #[doc = concat!("`", stringify!($name), "`, which its name says.")]
                pub async fn $name(backend: $crate::Backend) {
                    super::$room::$name(backend).await;
                }
            )+)+
        }

        $(#[$doc])*
        #[macro_export]
        macro_rules! $stamp {
            ($d module:ident, $d fixture:expr) => {
                mod $d module {
                    #[allow(unused_imports, reason = "the fixture may be named by a path")]
                    use super::*;
                    $($(
                        #[test]
                        fn $name() {
                            $crate::conformance::run($d fixture, $crate::conformance::$path::$entries::$name);
                        }
                    )+)+
                }
            };
        }
    };
}
pub(crate) use conformance_list;

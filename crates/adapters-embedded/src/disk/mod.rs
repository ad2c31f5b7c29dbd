//! The durable log of one process, in one directory.
//!
//! [`DiskLog`] keeps topics as segmented files of checksummed frames, one batch a frame, and answers an
//! append once its frame is synced. Appends that come while a sync is under way share the next one.
//! `docs/on-disk-format.md` says byte by byte what lies in the directory.

mod log;

pub use log::{DirLock, DiskConfig, DiskLimits, DiskLog};

//! Whether groups keep up: a verdict by the last samples, not by a threshold.
//!
//! [`window`] judges one partition of one group, a state machine without I/O; [`monitor`] takes the samples
//! of all groups.

mod monitor;
mod window;

pub use monitor::{LagConfig, LagMonitor, Verdicts};
pub use window::{Sample, Verdict, Window};

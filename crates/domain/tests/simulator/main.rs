//! The simulator: the whole delivery engine over memory ports and paused time, from one seed.
//!
//! Every call of a port may fail before its effect or after it, or be late; processes are stopped and killed
//! and come again, one or two at a time; clients acknowledge, fail, hang, forget, acknowledge late, twice, and
//! at another process than the one that delivered; handlers fail, hang and panic; filters and keys of
//! deduplication are expressions, some of which fail. An oracle watches what goes
//! over every port (`oracle.rs`), and in the end, when the faults are over, everything must have come to its
//! end.
//!
//! `SEEDS=5000 cargo test -p event-streaming-domain --test simulator` runs more of them (`make soak` does),
//! `SEED=17` runs one, as often as wanted, always the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be done fails the run"
)]

mod clients;
mod oracle;
mod ports_spied;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// So many seeds where nobody asks for more.
const SEEDS: u64 = 500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn run(seed: u64) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(world::simulate(seed));
}

/// What is promised of delivery, whatever fails: see the oracle.
#[test]
fn everything_comes_to_its_end_once_and_in_order_whatever_fails() {
    if let Some(seed) = number("SEED") {
        return run(seed);
    }
    let count = number("SEEDS").unwrap_or(SEEDS);
    for seed in 0..count {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!(
                "seed {seed} failed; to run it again:\n  SEED={seed} cargo test -p event-streaming-domain --test simulator"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

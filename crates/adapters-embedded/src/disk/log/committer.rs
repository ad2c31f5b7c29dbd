//! The threads that write. A partition that has something to write is taken by one of them at a time, so
//! that order is kept, and different partitions are written and synced side by side.
//!
//! What is appended to a partition while it is being synced waits in its queue and shares the next sync:
//! this is the group commit, and its groups grow by themselves with the load and the slowness of the disk.

use super::{
    call::Share,
    fault::Fault,
    partition::{Closed, Partition},
};
use parking_lot::{Condvar, Mutex};
use ports::ErrorKind;
use std::{collections::VecDeque, sync::Arc};

/// About so many bytes are written before a sync.
const GROUP_BYTES_MAX: u64 = 8 << 20;

/// Partitions with something to write, and who waits for one.
#[derive(Debug, Default)]
pub(crate) struct Committers {
    ready: Mutex<Ready>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Ready {
    partitions: VecDeque<Arc<Partition>>,
    stopping: bool,
}

impl Committers {
    /// Hands a share over to be written. Its ticket reports what became of it.
    pub(crate) fn submit(&self, partition: &Arc<Partition>, share: Share) {
        match partition.enqueue(share) {
            Ok(true) => self.push(partition.clone()),
            Ok(false) => {}
            Err(share) => share.ticket.report(Err(Closed.fault(&partition.name))),
        }
    }

    fn push(&self, partition: Arc<Partition>) {
        self.ready.lock().partitions.push_back(partition);
        self.wake.notify_one();
    }

    /// Writes until [`Committers::stop`], and then until nothing is left.
    pub(crate) fn run(&self) {
        while let Some(partition) = self.pop() {
            let group = partition.dequeue(GROUP_BYTES_MAX);
            partition.commit(group);
            if partition.reschedule() {
                self.push(partition);
            }
        }
    }

    fn pop(&self) -> Option<Arc<Partition>> {
        let mut ready = self.ready.lock();
        loop {
            if let Some(partition) = ready.partitions.pop_front() {
                return Some(partition);
            }
            if ready.stopping {
                return None;
            }
            self.wake.wait(&mut ready);
        }
    }

    /// Lets the threads end once all that was handed over is written.
    pub(crate) fn stop(&self) {
        self.ready.lock().stopping = true;
        self.wake.notify_all();
    }
}

/// The answer when the queue has had no room for the whole of a caller's time.
pub(crate) fn no_room(queue_bytes_max: usize) -> Fault {
    Fault::new(
        ErrorKind::Throttled,
        format!(
            "{queue_bytes_max} bytes wait to be written already and none went in time; send less or wait longer"
        ),
    )
}

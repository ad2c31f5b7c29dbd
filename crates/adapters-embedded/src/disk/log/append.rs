//! Appending: sorts a request by partition, encodes one frame for each, and waits for all of them.

use super::{
    DiskLog,
    call::{Call, Share, ShareResult},
    committer::no_room,
    fault::Fault,
    frame::{FrameBuilder, encoded_max},
    partition::Partition,
    topic::Topic,
};
use ports::{
    AppendRequest, AppendResult, Appended, ErrorKind, Monotonic, PartitionId, PortError, Record, Result,
    Timestamp,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};

const OPERATION: &str = "event_log.append";

/// What a request comes to.
struct Plan {
    slots: Vec<Slot>,
    shares: Vec<Draft>,
    bytes: usize,
}

/// A record of the request, by its place there.
enum Slot {
    Refused(PortError),
    Taken(Taken),
}

/// A record that is in a frame.
#[derive(Clone, Copy)]
struct Taken {
    share: usize,
    /// Its place in the frame.
    nth: u32,
    timestamp: Timestamp,
}

/// A frame to make.
struct Draft {
    partition: Arc<Partition>,
    bytes: usize,
    count: u32,
}

impl Plan {
    fn of(topic: &Topic, records: &[(PartitionId, Record)], frame_bytes_max: usize) -> Self {
        let message_bytes_max = topic.settings.read().max_message_bytes;
        let partitions = topic.partitions.read();
        let mut plan = Self { slots: Vec::with_capacity(records.len()), shares: Vec::new(), bytes: 0 };
        // By partition, its share; as a topic has a bounded number of them, a table beats a map.
        let mut share_of = vec![usize::MAX; partitions.len()];
        for (number, record) in records {
            let size = record.size();
            let slot = if size > message_bytes_max {
                let detail = format!(
                    "the record has {size} bytes, {} takes at most {message_bytes_max} (max.message.bytes)",
                    topic.name
                );
                Slot::Refused(PortError::new(ErrorKind::TooLarge, OPERATION, detail))
            } else {
                match topic.pick(&partitions, *number) {
                    Err(fault) => Slot::Refused(fault.of(OPERATION)),
                    Ok(partition) => {
                        let share = &mut share_of[*number as usize];
                        if *share == usize::MAX {
                            *share = plan.shares.len();
                            plan.shares.push(Draft { partition: partition.clone(), bytes: 0, count: 0 });
                        }
                        let draft = &mut plan.shares[*share];
                        draft.bytes += encoded_max(record);
                        draft.count += 1;
                        Slot::Taken(Taken {
                            share: *share,
                            nth: draft.count - 1,
                            timestamp: record.timestamp,
                        })
                    }
                }
            };
            plan.slots.push(slot);
        }
        drop(partitions);
        plan.bytes = plan.shares.iter().map(|draft| draft.bytes).sum();
        plan.refuse_large_frames(frame_bytes_max);
        plan
    }

    /// A frame has a bound too, as it is written and read as a whole.
    fn refuse_large_frames(&mut self, bytes_max: usize) {
        for (at, draft) in self.shares.iter_mut().enumerate().filter(|(_, draft)| draft.bytes > bytes_max) {
            let detail = format!(
                "the batch has {} bytes for partition {}, a batch may have {bytes_max} for each; send smaller batches",
                draft.bytes, draft.partition.name.partition
            );
            let error = PortError::new(ErrorKind::TooLarge, OPERATION, detail);
            for slot in &mut self.slots {
                if matches!(slot, Slot::Taken(taken) if taken.share == at) {
                    *slot = Slot::Refused(error.duplicate());
                }
            }
            self.bytes -= draft.bytes;
            draft.count = 0;
        }
    }

    /// Encodes the frames of the records that are taken, each with its partition. A share that was
    /// refused has none.
    fn encode(&self, records: Vec<(PartitionId, Record)>) -> Vec<Option<FrameBuilder>> {
        let builder = |draft: &Draft| (draft.count > 0).then(|| FrameBuilder::with_capacity(draft.bytes));
        let mut builders: Vec<_> = self.shares.iter().map(builder).collect();
        for (slot, (_, record)) in self.slots.iter().zip(records) {
            if let Slot::Taken(taken) = slot
                && let Some(builder) = &mut builders[taken.share]
            {
                debug_assert_eq!(builder.count(), taken.nth, "offsets follow the order of the request");
                builder.push(&record);
            }
        }
        builders
    }

    fn refuse_all(self, fault: &Fault) -> AppendResult {
        let refuse = |slot| match slot {
            Slot::Refused(error) => Err(error),
            Slot::Taken(_) => Err(fault.of(OPERATION)),
        };
        AppendResult::complete(self.slots.into_iter().map(refuse).collect())
    }
}

fn outcome(result: &ShareResult, taken: Taken) -> Result<Appended> {
    match result {
        Ok(base) => Ok(Appended { offset: base + u64::from(taken.nth), timestamp: taken.timestamp }),
        Err(fault) => Err(fault.of(OPERATION)),
    }
}

fn timed_out(timeout: Duration) -> PortError {
    let detail = format!("not known to be on disk within {timeout:?}; it may still get there");
    PortError::new(ErrorKind::Timeout, OPERATION, detail).effect_unknown()
}

impl DiskLog {
    pub(super) async fn append_request(&self, request: AppendRequest) -> AppendResult {
        let AppendRequest { topic, records, timeout } = request;
        let deadline = self.clock().monotonic() + timeout;
        let plan = match self.0.catalog.topic(&topic) {
            Ok(topic) => Plan::of(&topic, &records, self.0.limits.frame_bytes_max),
            Err(fault) => {
                return AppendResult::complete(records.iter().map(|_| Err(fault.of(OPERATION))).collect());
            }
        };
        if plan.bytes == 0 {
            return plan.refuse_all(&no_room(0));
        }
        let room = match self.room(plan.bytes, deadline).await {
            Ok(room) => room,
            Err(fault) => return plan.refuse_all(&fault),
        };
        let frames = plan.encode(records);
        let (call, tickets, mut finished) = Call::new(plan.shares.len(), room);
        for ((draft, builder), ticket) in plan.shares.iter().zip(frames).zip(tickets) {
            match builder {
                Some(builder) => {
                    self.0.committers.submit(&draft.partition, Share { frame: builder.finish(), ticket });
                }
                // No record of the request looks at it.
                None => ticket.report(Ok(0)),
            }
        }
        tokio::select! {
            biased;
            _ = &mut finished => {}
            () = self.clock().sleep_until(deadline) => {}
        }
        let results = call.results();
        let mut open = Vec::new();
        let mut outcomes = Vec::with_capacity(plan.slots.len());
        for (at, slot) in plan.slots.into_iter().enumerate() {
            outcomes.push(match slot {
                Slot::Refused(error) => Err(error),
                Slot::Taken(taken) => match &results[taken.share] {
                    Some(result) => outcome(result, taken),
                    None => {
                        open.push((at, taken));
                        Err(timed_out(timeout))
                    }
                },
            });
        }
        if open.is_empty() {
            return AppendResult::complete(outcomes);
        }
        let late = async move {
            // An error is the end too: each share has reported by then.
            let _ = finished.await;
            let results = call.results();
            let told = open.into_iter().filter_map(|(at, taken)| {
                results[taken.share].as_ref().map(|result| (at, outcome(result, taken)))
            });
            told.collect()
        };
        AppendResult { outcomes, late: Some(Box::pin(late)) }
    }

    /// Waits until `bytes` more may be queued.
    async fn room(&self, bytes: usize, deadline: Monotonic) -> Result<OwnedSemaphorePermit, Fault> {
        let bytes_max = self.0.limits.queue_bytes_max;
        // A request that is larger than the queue has it to itself.
        let permits = bytes.min(bytes_max) as u32;
        let ended = || Fault::new(ErrorKind::Unavailable, "the log has ended");
        match self.0.room.clone().try_acquire_many_owned(permits) {
            Ok(room) => return Ok(room),
            Err(TryAcquireError::Closed) => return Err(ended()),
            Err(TryAcquireError::NoPermits) => {}
        }
        tokio::select! {
            biased;
            room = self.0.room.clone().acquire_many_owned(permits) => room.map_err(|_| ended()),
            () = self.clock().sleep_until(deadline) => Err(no_room(bytes_max)),
        }
    }
}

//! Lanes: events that keep an order among themselves, and the order in which lanes have their turn.
//!
//! A lane is the list of its undecided events in the order of their offsets. What is out of it is its
//! beginning, one run: while anything of a lane is out, nothing else of it is given. An event that has no
//! order with others has a lane of its own.

use slab::Slab;
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

/// No event.
pub(super) const NONE: u32 = u32::MAX;

/// So many lanes that are gone may stand in the queue, however few others do.
const STALE_MAX: usize = 64;

/// A lane.
#[derive(Debug)]
pub(super) struct Lane {
    /// What its events share; `None` for an event by itself.
    key: Option<u64>,
    /// Its first and its last event.
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// How many of its events are out.
    pub(super) out: usize,
    /// How many of its events wait for a time to come.
    pub(super) held: usize,
    /// The event of the run whose clock runs.
    pub(super) clock: u32,
    /// How many of the run were delivered, and what the run is called.
    pub(super) turn: u32,
    pub(super) run: u64,
    /// Whether it stands in the queue, or aside.
    queued: bool,
    parked: bool,
    /// Tells it from a lane that had its place before, and from itself at another place in the queue.
    born: u64,
}

/// All lanes of a partition.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Slab<Lane>,
    by_key: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    /// Lanes that may have something to give, in their turn. One that is gone stays until it is met, or there
    /// are more of these than of others.
    ready: VecDeque<(u32, u64)>,
    /// Lanes that are passed over while nothing new is taken in.
    parked: Vec<(u32, u64)>,
    /// How many of both are gone, or stand elsewhere by now.
    stale: usize,
    births: u64,
}

/// Keys are hashes already, by a secret of the engine's, so that users cannot make them fall together. All
/// that is left is to spread them over all bits (Knuth's multiplicative hashing).
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write_u64(&mut self, key: u64) {
        self.0 = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Lanes {
    /// The lane of a key, or one for an event by itself.
    pub(super) fn of(&mut self, key: Option<u64>) -> u32 {
        if let Some(id) = key.and_then(|key| self.by_key.get(&key)) {
            return *id;
        }
        self.births += 1;
        let id = self.all.insert(Lane {
            key,
            head: NONE,
            tail: NONE,
            events: 0,
            bytes: 0,
            out: 0,
            held: 0,
            clock: NONE,
            turn: 0,
            run: 0,
            queued: false,
            parked: false,
            born: self.births,
        }) as u32;
        if let Some(key) = key {
            self.by_key.insert(key, id);
        }
        id
    }

    pub(super) fn get(&self, id: u32) -> &Lane {
        &self.all[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut Lane {
        &mut self.all[id as usize]
    }

    /// Forgets a lane without events.
    pub(super) fn forget(&mut self, id: u32) {
        let lane = self.all.remove(id as usize);
        if let Some(key) = lane.key {
            self.by_key.remove(&key);
        }
        self.stale += usize::from(lane.queued);
        self.drop_stale();
    }

    /// Lets go of what is gone when it is the most. What that costs is paid by those that went.
    fn drop_stale(&mut self) {
        if self.stale > STALE_MAX && 2 * self.stale > self.ready.len() + self.parked.len() {
            let all = &self.all;
            let is_there =
                |(id, born): &(u32, u64)| all.get(*id as usize).is_some_and(|lane| lane.born == *born);
            self.ready.retain(is_there);
            self.parked.retain(is_there);
            self.stale = 0;
        }
    }

    /// Puts a lane at the end of the queue, or, where it had its turn and could not use it, at its front.
    pub(super) fn enqueue(&mut self, id: u32, in_front: bool) {
        let lane = &mut self.all[id as usize];
        if lane.queued {
            return;
        }
        lane.queued = true;
        let entry = (id, lane.born);
        if in_front { self.ready.push_front(entry) } else { self.ready.push_back(entry) }
    }

    /// The lane whose turn it is.
    pub(super) fn next(&mut self) -> Option<u32> {
        while let Some((id, born)) = self.ready.pop_front() {
            if let Some(lane) = self.all.get_mut(id as usize).filter(|lane| lane.born == born) {
                lane.queued = false;
                return Some(id);
            }
            self.stale -= 1;
        }
        None
    }

    /// Puts a lane aside until [`Self::unpark`].
    pub(super) fn park(&mut self, id: u32) {
        let lane = &mut self.all[id as usize];
        if !lane.queued {
            (lane.queued, lane.parked) = (true, true);
            self.parked.push((id, lane.born));
        }
    }

    /// Lets one lane have its turn first, if it was put aside.
    pub(super) fn unpark_one(&mut self, id: u32) {
        let lane = &mut self.all[id as usize];
        if std::mem::take(&mut lane.parked) {
            self.births += 1;
            lane.born = self.births;
            self.ready.push_front((id, lane.born));
            self.stale += 1;
            self.drop_stale();
        }
    }

    /// Lets those that were put aside have their turn first.
    pub(super) fn unpark(&mut self) {
        for (id, born) in self.parked.drain(..).rev() {
            if let Some(lane) = self.all.get_mut(id as usize).filter(|lane| lane.born == born) {
                lane.parked = false;
                self.ready.push_front((id, born));
            } else {
                self.stale -= 1;
            }
        }
    }

    /// How many stand in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn clear_queue(&mut self) {
        self.ready.clear();
        self.parked.clear();
        self.stale = 0;
    }
}

//! Lanes: events that keep an order among themselves, and the order in which lanes have their turn.
//!
//! A lane is the list of its undecided events in the order of their offsets. What is out of it is its
//! beginning, one run: while anything of a lane is out, nothing else of it is given. An event that has no
//! order with others has a lane of its own.

use slab::Slab;
use std::collections::{HashMap, VecDeque};

/// No event.
pub(super) const NONE: u32 = u32::MAX;

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
    /// Whether it stands in the queue.
    queued: bool,
    /// Tells it from a lane that had its place before.
    born: u64,
}

/// All lanes of a partition.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Slab<Lane>,
    by_key: HashMap<u64, u32>,
    /// Lanes that may have something to give, in their turn. One that is gone stays until it is met.
    ready: VecDeque<(u32, u64)>,
    /// Lanes that are passed over while nothing new is taken in.
    parked: Vec<(u32, u64)>,
    births: u64,
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
        if let Some(key) = self.all.remove(id as usize).key {
            self.by_key.remove(&key);
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
        }
        None
    }

    /// Puts a lane aside until [`Self::unpark`].
    pub(super) fn park(&mut self, id: u32) {
        let lane = &mut self.all[id as usize];
        if !lane.queued {
            lane.queued = true;
            self.parked.push((id, lane.born));
        }
    }

    /// Lets those that were put aside have their turn first.
    pub(super) fn unpark(&mut self) {
        for entry in self.parked.drain(..).rev() {
            self.ready.push_front(entry);
        }
    }

    /// How many stand in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn clear_queue(&mut self) {
        self.ready.clear();
        self.parked.clear();
    }
}

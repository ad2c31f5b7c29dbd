//! The index against a list of all that was written.

use super::{
    decision::DecisionKind,
    lane::Entry,
    letter::{LetterId, LetterStatus},
    table::{Fact, Found, Table, Want},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Ids of which two share a half, so that a clash is met.
fn id(n: u8) -> LetterId {
    let mut bytes = [0; 16];
    bytes[0] = n;
    bytes[15] = n / 2;
    LetterId::from_bytes(bytes)
}

const KINDS: [&str; 3] = ["timeout", "rejected", "undecodable"];

#[derive(Clone, Debug)]
enum Step {
    Letter { id: u8, partition: u32, time: i64 },
    Decision { id: u8, kind: DecisionKind },
    Trim { partition: u32, count: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind =
        prop_oneof![Just(DecisionKind::Edited), Just(DecisionKind::Discarded), Just(DecisionKind::Redriven)];
    let step = prop_oneof![
        6 => (0..20_u8, 0..3_u32, 0..50_i64).prop_map(|(id, partition, time)| Step::Letter { id, partition, time }),
        3 => (0..20_u8, kind).prop_map(|(id, kind)| Step::Decision { id, kind }),
        1 => (0..3_u32, 0..4_u64).prop_map(|(partition, count)| Step::Trim { partition, count }),
    ];
    proptest::collection::vec(step, 0..80)
}

/// The earliest offset of a partition, and the ids and times of what lies there from offset 0 on.
type Lies = (u64, Vec<(u8, i64)>);

/// What was written, without any cleverness.
#[derive(Default)]
struct World {
    /// By partition.
    partitions: BTreeMap<u32, Lies>,
    decisions: Vec<(u8, DecisionKind)>,
}

type Seen = HashMap<u8, (u32, u64, LetterStatus, Option<u64>)>;

impl World {
    /// Copies lie in one partition, and not long after each other.
    fn may_write(&self, id: u8, partition: u32) -> bool {
        let lies = |(at, (earliest, letters)): (&u32, &Lies)| {
            let last = letters.iter().rposition(|(other, _)| *other == id)?;
            Some(*at == partition && last as u64 >= *earliest)
        };
        self.partitions.iter().find_map(lies).unwrap_or(true)
    }

    fn scan(&self) -> Seen {
        let mut seen = Seen::new();
        for (partition, (earliest, letters)) in &self.partitions {
            for (offset, (id, _)) in letters.iter().enumerate().skip(*earliest as usize) {
                seen.insert(*id, (*partition, offset as u64, LetterStatus::Parked, None));
            }
        }
        for (offset, (id, kind)) in self.decisions.iter().enumerate() {
            let Some((_, _, status, edit)) = seen.get_mut(id) else { continue };
            match (kind, *status) {
                (DecisionKind::Redriven, _) => *status = LetterStatus::Redriven,
                (DecisionKind::Discarded, LetterStatus::Parked) => *status = LetterStatus::Discarded,
                (DecisionKind::Edited, LetterStatus::Parked) => *edit = Some(offset as u64),
                _ => {}
            }
        }
        seen
    }
}

fn found(id_of: u8, partition: u32, offset: u64, time: i64) -> Found<'static> {
    let kind = KINDS[usize::from(id_of) % KINDS.len()];
    Found { id: id(id_of), partition, offset, time, kind, event_type: None, bytes: 100 }
}

/// The place of the edit that holds is written into later decisions, as a writer that is caught up does.
fn fold(table: &mut Table, offset: u64, id_of: u8, kind: DecisionKind) {
    let edited_at = table.get(&id(id_of)).and_then(|(_, entry)| entry.edit());
    table.fold(&Fact { id: id(id_of), offset, kind, edited_at, bytes: 10 });
}

/// All pages of so many, as ids.
fn pages(table: &Table, want: Want, count: usize) -> Vec<(u32, Entry)> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let picked = table.newest(before.as_ref(), want, count, usize::MAX);
        all.extend(picked.entries.iter().copied());
        if picked.rest.is_empty() {
            return all;
        }
        assert!(!picked.entries.is_empty());
        before = Some(picked.rest);
    }
}

fn check(table: &Table, scan: &Seen, page: usize) -> Result<(), TestCaseError> {
    let listed = pages(table, Want::default(), page);
    prop_assert_eq!(listed.len(), scan.len());
    for n in 0..20 {
        let expected = scan.get(&n).copied();
        let is = table.get(&id(n)).map(|(p, of)| (p, of.offset, of.status().unwrap(), of.edit()));
        prop_assert_eq!(is, expected, "{}", n);
    }
    for pair in listed.windows(2) {
        if pair[0].0 == pair[1].0 {
            prop_assert!(pair[0].1.offset > pair[1].1.offset);
        }
    }
    for status in LetterStatus::ALL {
        let expected = scan.values().filter(|(_, _, of, _)| *of == status).count();
        prop_assert_eq!(pages(table, Want { kind: None, status: Some(status) }, page).len(), expected);
        prop_assert_eq!(
            table.count(status).statuses.get(&status).copied().unwrap_or_default(),
            expected as u64
        );
        for (at, kind) in KINDS.iter().enumerate() {
            let expected = scan.iter().filter(|(n, it)| usize::from(**n) % 3 == at && it.2 == status).count();
            let counted = table.count(status).kinds.get(*kind).copied().unwrap_or_default();
            prop_assert_eq!(counted, expected as u64);
            let kind = table.kind(kind);
            if kind.is_some() {
                prop_assert_eq!(pages(table, Want { kind, status: Some(status) }, page).len(), expected);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_index_is_what_reading_all_anew_would_give(steps in steps(), page in 1..5_usize) {
        let (mut world, mut table) = (World::default(), Table::new(1_000));
        for step in steps {
            match step {
                Step::Letter { id, partition, time } => {
                    if !world.may_write(id, partition) {
                        continue;
                    }
                    let letters = &mut world.partitions.entry(partition).or_default().1;
                    let offset = letters.len() as u64;
                    letters.push((id, time));
                    table.insert([found(id, partition, offset, time)]);
                }
                Step::Decision { id, kind } => {
                    // One is made of what is there alone.
                    if !world.scan().contains_key(&id) {
                        continue;
                    }
                    fold(&mut table, world.decisions.len() as u64, id, kind);
                    world.decisions.push((id, kind));
                }
                Step::Trim { partition, count } => {
                    let (earliest, letters) = world.partitions.entry(partition).or_default();
                    *earliest = (*earliest + count).min(letters.len() as u64);
                    table.trim(partition, *earliest);
                }
            }
        }
        let scan = world.scan();
        check(&table, &scan, page)?;
        let mut anew = Table::new(1_000);
        for (partition, (earliest, letters)) in &world.partitions {
            anew.trim(*partition, *earliest);
            let letters = letters.iter().enumerate().skip(*earliest as usize);
            anew.insert(letters.map(|(offset, (id, time))| found(*id, *partition, offset as u64, *time)));
        }
        for (offset, (id, kind)) in world.decisions.iter().enumerate() {
            fold(&mut anew, offset as u64, *id, *kind);
        }
        check(&anew, &scan, page)?;
    }
}

#[test]
fn beyond_the_bound_the_oldest_are_let_go_and_counted() {
    let mut table = Table::new(10);
    for n in 0..20_u8 {
        table.insert([found(n, u32::from(n % 2), u64::from(n / 2), i64::from(n))]);
    }
    let times: Vec<i64> = pages(&table, Want::default(), 3).iter().map(|(_, entry)| entry.time).collect();
    assert_eq!(times, (10..20).rev().collect::<Vec<_>>());
    assert_eq!(
        (table.unlisted(), table.get(&id(9)).is_none(), table.get(&id(10)).is_some()),
        (10, true, true)
    );
}

#[test]
fn a_page_holds_no_more_bytes_than_it_may_but_one_dead_letter_at_least() {
    let mut table = Table::new(10);
    table.insert((0..6_u8).map(|n| Found { bytes: 1 << 10, ..found(n, 0, u64::from(n), 0) }));
    assert_eq!(table.newest(None, Want::default(), 6, 3 << 10).entries.len(), 3);
    assert_eq!(table.newest(None, Want::default(), 6, 1).entries.len(), 1);
}

#[test]
fn what_was_only_looked_at_in_part_goes_on_behind_that() {
    let mut table = Table::new(10);
    table.insert((0..6_u8).map(|n| found(n, u32::from(n % 2), u64::from(n / 2), i64::from(n))));
    let picked = table.newest(None, Want::default(), 6, usize::MAX);
    let rest = table.newest(Some(&picked.after(2)), Want::default(), 6, usize::MAX);
    let times: Vec<i64> = rest.entries.iter().map(|(_, entry)| entry.time).collect();
    assert_eq!(times, [3, 2, 1, 0]);
    assert!(picked.after(6).is_empty());
}

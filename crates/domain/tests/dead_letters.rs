//! Dead letters as a resource, over the reference model: what is listed is what lies there, decisions hold, and an
//! index can be thrown away at any time.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use bytes::Bytes;
use domain::{
    ErrorCode, Limits,
    dead_letter::header,
    dead_letters::{
        DeadLetterPorts, DeadLetters, DeadLettersConfig, DecisionKind, EditData, EditLetter, Letter,
        LetterStatus, ListLetters, Selection,
    },
    topics::{TopicDefaults, Topics},
};
use ports::{EventLog, Header, PartitionId, Record, Timestamp, TopicName};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use support::consuming::{NAME, Process, World, pass, rejection};
use testkit::fault::{Faults, FaultyLog};

const DEAD: &str = "mail.dlq";
const DECISIONS: &str = "mail.dlq.decisions";

fn letters_over(
    world: &World,
    process: &Process,
    log: Arc<dyn EventLog>,
    index_max: usize,
) -> Arc<DeadLetters> {
    let limits = Arc::new(Limits::default());
    let defaults = TopicDefaults { auto_create: false, partitions: 1, replication_factor: None };
    let clock = world.clock.clone();
    let topics = Topics::new(world.memory.admin(), log.clone(), clock.clone(), limits.clone(), defaults);
    let ports = DeadLetterPorts { log, clock };
    let config = DeadLettersConfig { index_max };
    DeadLetters::new(ports, process.subscriptions.clone(), topics, limits, None, config)
}

fn letters(world: &World, process: &Process) -> Arc<DeadLetters> {
    letters_over(world, process, world.memory.log(), 1_000)
}

/// A subscription without an event, and its dead letter topic.
async fn with_topic(partitions: u32) -> (World, Process) {
    let world = World::new(1).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    world.create(DEAD, partitions).await;
    (world, process)
}

/// A dead letter of the number `n`.
fn dead(n: u32, failed_at: i64) -> Record {
    let id = uuid(n);
    let kind = ["timeout", "rejected"][n as usize % 2];
    let said = [
        (header::ID, id),
        (header::TOPIC, "orders".to_owned()),
        (header::PARTITION, "0".to_owned()),
        (header::OFFSET, n.to_string()),
        (header::TIMESTAMP, "77".to_owned()),
        (header::SUBSCRIPTION, NAME.to_owned()),
        (header::ATTEMPTS, "3".to_owned()),
        (header::LAST_FAILED_AT, failed_at.to_string()),
        (header::ERROR_KIND, kind.to_owned()),
        (header::ERROR_MESSAGE, "it says no".to_owned()),
        (header::ERROR_CHAIN, "first\nsecond".to_owned()),
    ];
    let mut headers = vec![Header::new("ce_type", "created"), Header::new("x-origin", "web")];
    headers.extend(said.into_iter().map(|(name, value)| Header::new(name, value)));
    Record {
        key: Some(Bytes::from(format!("k{n}"))),
        value: Some(Bytes::from(format!("{{\"n\":{n}}}"))),
        headers,
        timestamp: Timestamp(77),
    }
}

fn uuid(n: u32) -> String {
    format!("00000000-0000-8000-8000-{n:012x}")
}

fn number(letter: &Letter) -> u32 {
    u32::from_str_radix(&letter.id.to_string()[24..], 16).unwrap()
}

async fn list(letters: &DeadLetters, list: ListLetters) -> Vec<Letter> {
    let (mut all, mut cursor) = (Vec::new(), list.cursor.clone());
    loop {
        let page = letters.list(NAME, ListLetters { cursor, ..list.clone() }).await.unwrap();
        all.extend(page.letters);
        if page.cursor.is_none() {
            return all;
        }
        cursor = page.cursor;
    }
}

async fn numbers(letters: &DeadLetters, of: ListLetters) -> Vec<u32> {
    list(letters, of).await.iter().map(number).collect()
}

fn text<T: From<&'static str>>(text: &'static str) -> T {
    text.into()
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_rejects_is_listed_with_its_context_as_soon_as_that_is_answered() {
    let world = World::new(2).await;
    world.publish(0..6, 2).await;
    let process = world.process().await;
    process.create(|_| {}).await;
    let letters = letters(&world, &process);
    assert!(list(&letters, ListLetters::default()).await.is_empty(), "there is no topic yet");
    let out = process.pull_all(6).await;
    process.decide(rejection(&out[..2])).await;
    assert_eq!(list(&letters, ListLetters::default()).await.len(), 2);
    process.decide(rejection(&out[2..])).await;
    let all = list(&letters, ListLetters::default()).await;
    assert_eq!(all.len(), 6);
    let letter = &all[0];
    assert_eq!((letter.status, letter.edited, letter.attempts), (LetterStatus::Parked, false, Some(1)));
    assert_eq!((letter.topic.as_str(), letter.error.kind.as_str()), (DEAD, "rejected"));
    let original = letter.original.clone().unwrap();
    assert_eq!(original.topic.as_str(), "orders");
    assert_eq!(letter.event.record.offset, original.offset);
    assert!(letter.event.record.record.headers.iter().all(|of| !of.name.starts_with("es_dlq_")));
    let detail = letters.get(NAME, &letter.id.to_string()).await.unwrap();
    assert_eq!((detail.letter.id, detail.history.len(), detail.original.is_none()), (letter.id, 0, true));
}

#[tokio::test(start_paused = true)]
async fn pages_are_the_newest_first_and_do_not_shift_when_more_comes() {
    let (world, process) = with_topic(3).await;
    world.append_to(DEAD, (0..30).map(|n| (n % 3, dead(n, 1_000 + i64::from(n)))).collect()).await;
    let letters = letters(&world, &process);
    let first = letters.list(NAME, ListLetters { limit: Some(7), ..ListLetters::default() }).await.unwrap();
    assert_eq!(first.letters.iter().map(number).collect::<Vec<_>>(), (23..30).rev().collect::<Vec<_>>());
    world.append_to(DEAD, (30..40).map(|n| (n % 3, dead(n, 2_000))).collect()).await;
    let rest = ListLetters { limit: Some(7), cursor: first.cursor, ..ListLetters::default() };
    assert_eq!(numbers(&letters, rest).await, (0..23).rev().collect::<Vec<_>>());
    assert_eq!(numbers(&letters, ListLetters::default()).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_narrowed_by_kind_status_and_filter() {
    let (world, process) = with_topic(2).await;
    world.append_to(DEAD, (0..20).map(|n| (n % 2, dead(n, i64::from(n)))).collect()).await;
    let letters = letters(&world, &process);
    letters.discard(NAME, &uuid(4), Some(text("known"))).await.unwrap();
    let by = |change: fn(&mut ListLetters)| {
        let mut list = ListLetters { limit: Some(3), ..ListLetters::default() };
        change(&mut list);
        list
    };
    let kind = numbers(&letters, by(|list| list.error = Some(text("timeout")))).await;
    assert_eq!(kind, (0..20).filter(|n| n % 2 == 0).rev().collect::<Vec<_>>());
    assert_eq!(numbers(&letters, by(|list| list.status = Some(text("discarded")))).await, [4]);
    assert!(numbers(&letters, by(|list| list.error = Some(text("no such")))).await.is_empty());
    let filter = by(|list| list.filter = Some(text("data.n > 15 && topic == 'orders' && offset < 19")));
    assert_eq!(numbers(&letters, filter).await, [18, 17, 16]);
    let filter = by(|list| {
        list.filter = Some(text("headers.es_dlq_error_kind == 'timeout'"));
        list.status = Some(text("parked"));
    });
    assert_eq!(numbers(&letters, filter).await.len(), 9);
    let unclear = letters.list(NAME, by(|list| list.filter = Some(text("data.missing > 1")))).await.unwrap();
    assert_eq!((unclear.letters.len(), unclear.filter_errors), (0, 20));
    for (list, field) in [
        (by(|list| list.limit = Some(0)), "limit"),
        (by(|list| list.cursor = Some(text("x"))), "cursor"),
        (by(|list| list.status = Some(text("lost"))), "status"),
        (by(|list| list.filter = Some(text("data."))), "filter"),
    ] {
        assert_eq!(letters.list(NAME, list).await.unwrap_err().fields()[0].field, field);
    }
}

#[tokio::test(start_paused = true)]
async fn a_summary_counts_by_kind_type_and_status() {
    let (world, process) = with_topic(2).await;
    world.append_to(DEAD, (0..9).map(|n| (n % 2, dead(n, 0))).collect()).await;
    let letters = letters(&world, &process);
    letters.discard(NAME, &uuid(0), None).await.unwrap();
    let summary = letters.summary(NAME, None).await.unwrap();
    assert_eq!(summary.kinds, BTreeMap::from([("rejected".into(), 4), ("timeout".into(), 4)]));
    assert_eq!(summary.types, BTreeMap::from([("created".into(), 8)]));
    assert_eq!(summary.statuses, BTreeMap::from([(LetterStatus::Parked, 8), (LetterStatus::Discarded, 1)]));
    let discarded = letters.summary(NAME, Some("discarded")).await.unwrap();
    assert_eq!(discarded.kinds, BTreeMap::from([("timeout".into(), 1)]));
    assert_eq!(letters.summary(NAME, Some("x")).await.unwrap_err().fields()[0].field, "status");
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_what_is_shown_and_what_it_was_is_kept_over_restarts() {
    let (world, process) = with_topic(1).await;
    world.append_to(DEAD, vec![(0, dead(1, 5))]).await;
    let id = uuid(1);
    let first = letters(&world, &process);
    let key = EditLetter { key: Some(Some(Bytes::from("other"))), ..EditLetter::default() };
    first.edit(NAME, &id, key).await.unwrap();
    let data = EditLetter {
        data: Some(EditData::Json(Bytes::from("{\"n\":2}"))),
        headers: Some(vec![Header::new("x-mended", "yes")]),
        ..EditLetter::default()
    };
    let detail = first.edit(NAME, &id, data).await.unwrap();
    let check = |detail: &domain::dead_letters::LetterDetail| {
        assert!(detail.letter.edited && detail.letter.status == LetterStatus::Parked);
        let record = &detail.letter.event.record.record;
        assert_eq!(
            (record.key.as_deref(), record.value.as_deref()),
            (Some(&b"other"[..]), Some(&b"{\"n\":2}"[..]))
        );
        let names: Vec<&str> = record.headers.iter().map(|of| &*of.name).collect();
        assert_eq!(names, ["ce_type", "x-mended"], "its own fields stay, the rest is what was said");
        let was = &detail.original.as_ref().unwrap().0.record.record;
        assert_eq!((was.key.as_deref(), was.value.as_deref()), (Some(&b"k1"[..]), Some(&b"{\"n\":1}"[..])));
        let kinds: Vec<_> = detail.history.iter().map(|of| of.kind).collect();
        assert_eq!(kinds, [DecisionKind::Edited, DecisionKind::Edited]);
        assert_eq!(detail.history[0].by, "anonymous");
    };
    check(&detail);
    let next = letters(&world, &process);
    check(&next.get(NAME, &id).await.unwrap());
    let seen = ListLetters { filter: Some(text("data.n == 2 && key == 'other'")), ..ListLetters::default() };
    assert_eq!(numbers(&next, seen).await, [1], "a filter sees what it was edited to");
    let topic = world.memory.admin().describe(&TopicName::new(DECISIONS).unwrap()).await.unwrap().unwrap();
    assert_eq!((topic.partitions.len(), topic.config["retention.ms"].as_str()), (1, "-1"));
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_for_good_is_not_edited_and_says_why() {
    let (world, process) = with_topic(1).await;
    world.append_to(DEAD, (0..4).map(|n| (0, dead(n, 5))).collect()).await;
    let letters = letters(&world, &process);
    let edit = || EditLetter { key: Some(None), ..EditLetter::default() };
    letters.edit(NAME, &uuid(0), edit()).await.unwrap();
    letters.discard(NAME, &uuid(0), Some(text("not needed"))).await.unwrap();
    letters.discard(NAME, &uuid(0), Some(text("again"))).await.unwrap();
    let detail = letters.get(NAME, &uuid(0)).await.unwrap();
    assert_eq!((detail.letter.status, detail.letter.edited), (LetterStatus::Discarded, true));
    let history: Vec<_> = detail.history.iter().map(|of| (of.kind, of.reason.as_deref())).collect();
    assert_eq!(history, [(DecisionKind::Edited, None), (DecisionKind::Discarded, Some("not needed"))]);
    let ids: Vec<_> = list(&letters, ListLetters::default()).await.iter().map(|of| of.id).collect();
    letters.record_redriven(NAME, &ids[1..3], "anonymous", "job-1").await.unwrap();
    let redriven = letters.get(NAME, &uuid(1)).await.unwrap();
    assert_eq!(redriven.history[0].job.as_deref(), Some("job-1"));
    assert_eq!(letters.status_of(NAME, &redriven.letter.id).await.unwrap(), Some(LetterStatus::Redriven));
    for refused in [
        letters.edit(NAME, &uuid(0), edit()).await.unwrap_err(),
        letters.edit(NAME, &uuid(1), edit()).await.unwrap_err(),
        letters.discard(NAME, &uuid(1), None).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), ErrorCode::Conflict, "{refused}");
    }
    for (unknown, code) in [
        (letters.get(NAME, &uuid(9)).await.map(drop), ErrorCode::DeadLetterNotFound),
        (letters.get(NAME, "nonsense").await.map(drop), ErrorCode::DeadLetterNotFound),
        (letters.discard(NAME, &uuid(9), None).await, ErrorCode::DeadLetterNotFound),
        (letters.get("nobody", &uuid(0)).await.map(drop), ErrorCode::SubscriptionNotFound),
        (letters.edit(NAME, &uuid(2), EditLetter::default()).await.map(drop), ErrorCode::InvalidRequest),
        (letters.discard(NAME, &uuid(2), Some("x".repeat(1_001))).await, ErrorCode::InvalidRequest),
    ] {
        assert_eq!(unknown.unwrap_err().code(), code);
    }
    let reserved = EditLetter { headers: Some(vec![Header::new("ce_id", "x")]), ..EditLetter::default() };
    assert_eq!(letters.edit(NAME, &uuid(2), reserved).await.unwrap_err().fields()[0].field, "headers.ce_id");
    let large = EditLetter { data: Some(EditData::Bytes(vec![0; 2 << 20].into())), ..EditLetter::default() };
    assert_eq!(letters.edit(NAME, &uuid(3), large).await.unwrap_err().code(), ErrorCode::EventTooLarge);
}

/// Two replicas that do not see each other decide about one dead letter; whoever comes first is right.
#[tokio::test(start_paused = true)]
async fn of_two_decisions_that_exclude_each_other_one_is_refused_and_all_replicas_say_the_same() {
    for n in 0..20_u32 {
        let (world, process) = with_topic(1).await;
        world.append_to(DEAD, vec![(0, dead(n, 5))]).await;
        let (one, other) = (letters(&world, &process), letters(&world, &process));
        let id = uuid(n);
        let edit = EditLetter { key: Some(None), ..EditLetter::default() };
        let (edited, discarded) = tokio::join!(one.edit(NAME, &id, edit), other.discard(NAME, &id, None));
        assert!(discarded.is_ok(), "an edit does not keep anybody from discarding");
        let seen = one.get(NAME, &id).await.unwrap().letter;
        assert_eq!(seen.status, LetterStatus::Discarded);
        assert_eq!(other.get(NAME, &id).await.unwrap().letter.edited, seen.edited);
        if let Err(refused) = edited {
            assert_eq!(refused.code(), ErrorCode::Conflict);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_others_are_left_to_them_and_those_that_name_nobody_are_shown() {
    let (world, process) = with_topic(1).await;
    let mut others = dead(1, 5);
    others
        .headers
        .iter_mut()
        .filter(|of| of.name == header::SUBSCRIPTION)
        .for_each(|of| of.value = Some("sms".into()));
    let spring = Record {
        value: Some(Bytes::from("1")),
        headers: vec![
            Header::new("kafka_dlt-original-topic", "orders"),
            Header::new("kafka_dlt-original-partition", Bytes::copy_from_slice(&0_i32.to_be_bytes())),
            Header::new("kafka_dlt-original-offset", Bytes::copy_from_slice(&8_i64.to_be_bytes())),
            Header::new("kafka_dlt-exception-fqcn", "java.io.IOException"),
        ],
        ..Record::default()
    };
    world.append_to(DEAD, vec![(0, others), (0, spring), (0, dead(2, 5))]).await;
    let letters = letters(&world, &process);
    let all = list(&letters, ListLetters::default()).await;
    assert_eq!(all.len(), 2);
    let foreign = all.iter().find(|letter| letter.error.kind == "java.io.IOException").unwrap();
    assert_eq!((foreign.attempts, foreign.original.as_ref().map(|of| of.offset)), (None, Some(8)));
    let id = foreign.id.to_string();
    letters.discard(NAME, &id, None).await.unwrap();
    let anew = self::letters(&world, &process);
    assert_eq!(anew.get(NAME, &id).await.unwrap().letter.status, LetterStatus::Discarded);
}

#[tokio::test(start_paused = true)]
async fn a_selection_names_what_is_to_be_read_and_unknown_ids() {
    let (world, process) = with_topic(2).await;
    let letters = letters(&world, &process);
    world.append_to(DEAD, (0..10).map(|n| (n % 2, dead(n, 5))).collect()).await;
    let edit = EditLetter { data: Some(EditData::Null), ..EditLetter::default() };
    letters.edit(NAME, &uuid(4), edit).await.unwrap();
    let ids = Selection::Ids(vec![uuid(4), uuid(8), uuid(5)]);
    let selected = letters.select(NAME, &ids).await.unwrap().unwrap();
    assert_eq!(selected.places.unwrap(), BTreeSet::from([(0, 2), (0, 4), (1, 2)]));
    assert_eq!((selected.spans[&0].from, selected.spans[&0].to), (2, 5));
    let unknown = letters.select(NAME, &Selection::Ids(vec![uuid(1), uuid(77)])).await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.fields()[0].field.as_str()),
        (ErrorCode::DeadLetterNotFound, "ids[1]")
    );
    assert!(unknown.detail().contains(&uuid(77)));
    let all = letters.select(NAME, &Selection::All).await.unwrap().unwrap();
    assert_eq!(all.spans.values().map(|span| span.to - span.from).sum::<u64>(), 10);
    let filter = letters.select(NAME, &Selection::Filter("data == null".into())).await.unwrap().unwrap();
    let mut records = Vec::new();
    for partition in 0..2 {
        let stored = world.records_in(DEAD, partition).await;
        records.extend(stored.into_iter().map(|stored| (partition, stored)));
    }
    let opened = letters.open(NAME, records).await.unwrap();
    assert_eq!(opened.len(), 10);
    let (matching, errors) = letters.sift(&filter.filter.unwrap(), opened).await.unwrap();
    assert_eq!((matching.iter().map(|(_, of)| number(of)).collect::<Vec<_>>(), errors), (vec![4], 0));
    let bad = letters.select(NAME, &Selection::Filter("data ==".into())).await.unwrap_err();
    assert_eq!(bad.fields()[0].field, "filter");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_listed_any_more_is_said() {
    let (world, process) = with_topic(2).await;
    world.append_to(DEAD, (0..50).map(|n| (n % 2, dead(n, i64::from(n)))).collect()).await;
    let letters = letters_over(&world, &process, world.memory.log(), 20);
    let page = letters.list(NAME, ListLetters::default()).await.unwrap();
    assert_eq!((page.letters.len(), page.unlisted), (20, 30));
    assert_eq!(page.letters.iter().map(number).min(), Some(30));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_made_anew_is_read_anew() {
    let (world, process) = with_topic(1).await;
    world.append_to(DEAD, (0..5).map(|n| (0, dead(n, 5))).collect()).await;
    let letters = letters(&world, &process);
    assert_eq!(numbers(&letters, ListLetters::default()).await.len(), 5);
    let topic = TopicName::new(DEAD).unwrap();
    world.memory.admin().delete(&topic).await.unwrap();
    pass(11).await;
    assert!(numbers(&letters, ListLetters::default()).await.is_empty());
    world.create(DEAD, 2).await;
    world.append_to(DEAD, vec![(1, dead(7, 5))]).await;
    assert_eq!(numbers(&letters, ListLetters::default()).await, [7]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_is_an_error_and_nothing_is_missed_afterwards() {
    let (world, process) = with_topic(1).await;
    world.append_to(DEAD, (0..5).map(|n| (0, dead(n, 5))).collect()).await;
    let log = FaultyLog::new(
        world.memory.log(),
        world.clock.clone(),
        7,
        Faults { error_before: 1.0, ..Faults::default() },
    );
    let letters = letters_over(&world, &process, Arc::new(log.clone()), 1_000);
    let failed = letters.list(NAME, ListLetters::default()).await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::Unavailable);
    log.set(Faults { error_before: 0.3, ..Faults::default() });
    for n in 5..30 {
        world.append_to(DEAD, vec![(0, dead(n, 5))]).await;
        let _ = letters.list(NAME, ListLetters::default()).await;
    }
    log.set(Faults::default());
    assert_eq!(numbers(&letters, ListLetters::default()).await, (0..30).rev().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_index_that_nobody_needs_is_given_up_and_made_again_when_somebody_does() {
    let (world, process) = with_topic(1).await;
    world.append_to(DEAD, vec![(0, dead(1, 5))]).await;
    let letters = letters(&world, &process);
    assert_eq!(numbers(&letters, ListLetters::default()).await, [1]);
    assert_eq!(letters.indexes(), 1);
    pass(300).await;
    assert_eq!(letters.indexes(), 1);
    pass(320).await;
    assert_eq!(letters.indexes(), 0);
    world.append_to(DEAD, vec![(0, dead(2, 6))]).await;
    assert_eq!(numbers(&letters, ListLetters::default()).await, [2, 1]);
    letters.shutdown();
    assert_eq!(letters.list(NAME, ListLetters::default()).await.unwrap_err().code(), ErrorCode::Unavailable);
}

#[derive(Clone, Debug)]
enum Step {
    /// New dead letters.
    Write {
        count: u32,
    },
    /// One of the last ones once more, as after a crash.
    Copy {
        of: u32,
    },
    Discard {
        of: u32,
    },
    Edit {
        of: u32,
    },
    Redrive {
        of: u32,
    },
    Trim {
        partition: PartitionId,
        count: u64,
    },
    Restart,
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5_u32).prop_map(|count| Step::Write { count }),
        2 => (0..4_u32).prop_map(|of| Step::Copy { of }),
        2 => any::<u32>().prop_map(|of| Step::Discard { of }),
        2 => any::<u32>().prop_map(|of| Step::Edit { of }),
        2 => any::<u32>().prop_map(|of| Step::Redrive { of }),
        1 => (0..3_u32, 1..4_u64).prop_map(|(partition, count)| Step::Trim { partition, count }),
        1 => Just(Step::Restart),
        2 => Just(Step::Look),
    ];
    proptest::collection::vec(step, 1..25)
}

/// What lies there, read as a whole, and what was decided about it.
async fn scan(world: &World) -> HashMap<u32, (LetterStatus, bool)> {
    let mut seen = HashMap::new();
    for partition in 0..3 {
        for stored in world.records_in(DEAD, partition).await {
            let id = stored.record.headers.iter().find(|of| of.name == header::ID).unwrap();
            let id = String::from_utf8(id.value.clone().unwrap().to_vec()).unwrap();
            seen.insert(u32::from_str_radix(&id[24..], 16).unwrap(), (LetterStatus::Parked, false));
        }
    }
    for stored in world.records_in(DECISIONS, 0).await {
        let key = String::from_utf8(stored.record.key.unwrap().to_vec()).unwrap();
        let Some(seen) = seen.get_mut(&u32::from_str_radix(&key[24..], 16).unwrap()) else { continue };
        let said = String::from_utf8(stored.record.headers[0].value.clone().unwrap().to_vec()).unwrap();
        match seen.0 {
            _ if said.contains("\"redriven\"") => seen.0 = LetterStatus::Redriven,
            LetterStatus::Parked if said.contains("\"discarded\"") => seen.0 = LetterStatus::Discarded,
            LetterStatus::Parked => seen.1 = true,
            _ => {}
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_happens_a_list_is_what_a_scan_of_the_topics_gives(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (world, process) = with_topic(3).await;
            let mut letters = letters(&world, &process);
            let (mut next, mut clock) = (0, 0);
            for step in steps {
                match step {
                    Step::Write { count } => {
                        let new = (next..next + count).map(|n| (n % 3, dead(n, clock + i64::from(n % 2)))).collect();
                        world.append_to(DEAD, new).await;
                        next += count;
                        clock += 1;
                    }
                    Step::Copy { of } => {
                        let Some(n) = next.checked_sub(of + 1) else { continue };
                        if scan(&world).await.contains_key(&n) {
                            world.append_to(DEAD, vec![(n % 3, dead(n, clock))]).await;
                        }
                    }
                    Step::Discard { of } => {
                        let _ = letters.discard(NAME, &uuid(of % (next + 1)), None).await;
                    }
                    Step::Edit { of } => {
                        let edit = EditLetter { key: Some(None), ..EditLetter::default() };
                        let _ = letters.edit(NAME, &uuid(of % (next + 1)), edit).await;
                    }
                    Step::Redrive { of } => {
                        if let Ok(detail) = letters.get(NAME, &uuid(of % (next + 1))).await {
                            letters.record_redriven(NAME, &[detail.letter.id], "a", "job").await.unwrap();
                        }
                    }
                    Step::Trim { partition, count } => {
                        let there = world.records_in(DEAD, partition).await;
                        let Some(last) = there.get(count as usize - 1) else { continue };
                        let topic = TopicName::new(DEAD).unwrap();
                        let before = [(partition, last.offset + 1)];
                        world.memory.admin().trim(&topic, &before).await.unwrap();
                    }
                    Step::Restart => letters = self::letters(&world, &process),
                    Step::Look => {
                        let all = list(&letters, ListLetters { limit: Some(3), ..ListLetters::default() }).await;
                        let listed: HashMap<u32, _> =
                            all.iter().map(|of| (number(of), (of.status, of.edited))).collect();
                        assert_eq!(listed.len(), all.len(), "each is listed once");
                        assert_eq!(listed, scan(&world).await);
                    }
                }
            }
            let all = list(&letters, ListLetters::default()).await;
            let listed: HashMap<u32, _> = all.iter().map(|of| (number(of), (of.status, of.edited))).collect();
            assert_eq!(listed, scan(&world).await);
        });
    }
}

/// Time passes only where somebody waits for it.
#[tokio::test(start_paused = true)]
async fn a_caught_up_index_answers_without_waiting() {
    let (world, process) = with_topic(1).await;
    world.append_to(DEAD, (0..5).map(|n| (0, dead(n, 5))).collect()).await;
    let letters = letters(&world, &process);
    numbers(&letters, ListLetters::default()).await;
    let before = world.clock.monotonic();
    for n in 5..10 {
        world.append_to(DEAD, vec![(0, dead(n, 5))]).await;
        assert_eq!(numbers(&letters, ListLetters::default()).await.len() as u32, n + 1);
    }
    assert_eq!(world.clock.monotonic().since(before), Duration::ZERO);
}

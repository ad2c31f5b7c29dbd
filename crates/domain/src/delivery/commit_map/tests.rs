use super::*;
use proptest::prelude::*;

const EPOCH: Epoch = Epoch { counter: 300, id: Uuid::from_u128(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF) };

/// Progress as a list of what follows `next`: undecided events (with attempts or none), then done ones.
type Story = Vec<(Vec<u32>, u64, u64)>;

fn story(most: usize) -> impl Strategy<Value = Story> {
    let attempts = prop_oneof![4 => Just(0_u32), 2 => 1_u32..4, 1 => 5_u32..12, 1 => any::<u32>()];
    let gap = prop_oneof![4 => Just(0_u64), 1 => 1_u64..300, 1 => 1_u64..1 << 40];
    let length = prop_oneof![4 => 1_u64..3, 2 => 1_u64..300, 1 => 1_u64..1 << 40];
    prop::collection::vec((prop::collection::vec(attempts, 1..5), gap, length), 0..most)
}

fn tell(next: Offset, story: &Story) -> (DoneSet, BTreeMap<Offset, u32>) {
    let (mut done, mut attempts) = (DoneSet::default(), BTreeMap::new());
    let mut at = next;
    for (undecided, gap, length) in story {
        for tried in undecided {
            if *tried > 0 {
                attempts.insert(at, *tried);
            }
            at += 1;
        }
        at += gap;
        done.insert(at..at + length);
        at += length;
    }
    (done, attempts)
}

fn encode_all(next: Offset, done: &DoneSet, attempts: &BTreeMap<Offset, u32>, bytes_max: usize) -> Encoded {
    let attempts = attempts.iter().map(|(offset, tried)| (*offset, *tried));
    encode(Progress { log: 9, epoch: EPOCH, next, done: done.ranges(), attempts }, bytes_max)
}

fn sealed(body: &[u8]) -> String {
    let sealed = [body, &crc32c::crc32c(body).to_be_bytes()].concat();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed))
}

proptest! {
    #[test]
    fn what_was_told_is_read_back(next in 0_u64..1 << 60, story in story(300), log in any::<u64>(), counter in any::<u64>(), id in any::<u128>()) {
        let (done, attempts) = tell(next, &story);
        let epoch = Epoch { counter, id: Uuid::from_u128(id) };
        let progress = Progress { log, epoch, next, done: done.ranges(), attempts: attempts.clone() };
        let map = encode(progress, BYTES_LIMIT);
        prop_assert!(!map.full && map.text.is_ascii() && map.used == map.text.len() && is_ours(&map.text));
        prop_assert_eq!(decode(&map.text), Ok(Decoded { log, epoch, next, done, attempts }));
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end(
        next in 0_u64..1 << 40, story in story(400), bytes_max in 0_usize..1500,
    ) {
        let (done, attempts) = tell(next, &story);
        let map = encode_all(next, &done, &attempts, bytes_max);
        prop_assert!(map.text.len() <= bytes_max.max(BYTES_MIN));
        let read = decode(&map.text).unwrap();
        if !map.full {
            prop_assert_eq!((&read.done, &read.attempts), (&done, &attempts));
            return Ok(());
        }
        let told = (read.done.len(), read.attempts.len());
        prop_assert!(told != (done.len(), attempts.len()), "nothing was left out");
        // There is an offset below which all is told, and above which nothing is.
        let end = read.done.end().unwrap_or(next).max(read.attempts.keys().last().map_or(next, |last| last + 1));
        prop_assert!(done.ranges().filter(|range| range.end <= end).eq(read.done.ranges()));
        prop_assert!(attempts.range(..end).eq(read.attempts.iter()));
        prop_assert!(done.ranges().all(|range| range.end <= end || range.start >= end));
        prop_assert!(map.text.len() + 40 > bytes_max, "{} of {bytes_max} bytes", map.text.len());
    }

    #[test]
    fn the_estimate_is_never_less_than_what_it_takes_and_little_more(
        next in 0_u64..1 << 60, story in story(300),
    ) {
        let (done, attempts) = tell(next, &story);
        let used = encode_all(next, &done, &attempts, BYTES_LIMIT).used;
        let estimate = estimate(next, done.ranges(), attempts);
        prop_assert!((used..=used + 30).contains(&estimate), "{estimate} for {used}");
    }

    #[test]
    fn a_changed_character_is_noticed(
        next in 0_u64..1000, story in story(40), place in any::<prop::sample::Index>(), with in "[A-Za-z0-9_é=-]",
    ) {
        let (done, attempts) = tell(next, &story);
        let map = encode_all(next, &done, &attempts, BYTES_MAX).text;
        let at = place.index(map.len());
        let changed = format!("{}{with}{}", &map[..at], &map[at + 1..]);
        prop_assert!(changed == map || decode(&changed).is_err());
        prop_assert!(decode(&map[..at]).is_err(), "cut off");
    }

    #[test]
    fn any_text_is_read_without_harm(text in "(es[0-9]\\.)?[A-Za-z0-9_-]{0,100}|.{0,100}") {
        prop_assert!(decode(&text).is_err());
    }

    #[test]
    fn any_body_with_a_right_checksum_is_read_without_harm(
        next in prop_oneof![any::<u64>(), Just(u64::MAX - 20), Just(0)],
        tail in prop::collection::vec(prop_oneof![any::<u8>(), 0_u8..8, Just(0xFF_u8)], 0..80),
        cut in 0_usize..120,
    ) {
        let mut body = [0; LOG + 1 + UUID].to_vec();
        varint::put(&mut body, next);
        body.extend_from_slice(&tail);
        let text = sealed(&body);
        if let Ok(read) = decode(&text) {
            prop_assert_eq!(read.next, next);
            prop_assert!(read.done.ranges().all(|range| range.start >= next));
            prop_assert!(read.attempts.iter().all(|(offset, tried)| *offset >= next && *tried > 0));
            prop_assert!(read.done.len() <= tail.len() * blocks::INTERVALS_A_BYTE);
            prop_assert!(read.attempts.len() <= tail.len());
        }
        let _ = decode(&sealed(&body[..cut.min(body.len())]));
    }
}

/// What is told backwards, twice or of what is before the position is never told wrongly.
#[test]
fn what_is_out_of_order_is_left_out() {
    let progress = Progress {
        log: 1,
        epoch: EPOCH,
        next: 10,
        done: [2..4, 8..13, 12..15, 20..20, 11..12, 30..31],
        attempts: [(3, 1), (17, 2), (16, 1), (17, 3), (18, 0), (19, 4)],
    };
    let read = decode(&encode(progress, BYTES_MAX).text).unwrap();
    assert_eq!(read.done.ranges().collect::<Vec<_>>(), [10..15, 30..31]);
    assert_eq!(read.attempts, BTreeMap::from([(17, 2), (19, 4)]));
}

#[test]
fn the_bytes_are_those_that_the_format_says() {
    let progress = Progress {
        log: 0x0102_0304_0506_0708,
        epoch: EPOCH,
        next: 1000,
        done: [1001..1002, 1003..1004, 1005..1006, 1007..1008, 1009..1010, 5000..5_000_000],
        attempts: [(1000, 1), (1002, 7), (1004, 300)],
    };
    let text = encode(progress, BYTES_MAX).text;
    let body = URL_SAFE_NO_PAD.decode(text.strip_prefix("es2.").unwrap()).unwrap();
    let expected: &[&[u8]] = &[
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[0xAC, 2],
        &[0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF],
        &[0xE8, 7],
        // A bitmap of two bytes: 1001, 1003, … 1009.
        &[2 << 1 | 1, 0b1010_1010, 0b0000_0010],
        // One run: 3990 that are not done, 4,995,000 that are.
        &[1 << 1, 0x96, 0x1F, 0xB8, 0xEF, 0xB0, 2],
        &[0],
        // One attempt at 1000, seven at 1002, 300 at 1004.
        &[0],
        &[1 << 3 | 6],
        &[1 << 3 | 7, 0xA4, 2],
    ];
    let (read, checksum) = body.split_last_chunk::<4>().unwrap();
    assert_eq!(read, expected.concat());
    assert_eq!(u32::from_be_bytes(*checksum), crc32c::crc32c(read));
    assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283, "Castagnoli's");
}

#[test]
fn kafkas_default_has_room_for_twenty_thousand_offsets_of_which_every_other_is_done() {
    let done: DoneSet = (0..10_000).map(|i| 2 * i + 1..2 * i + 2).collect();
    let map = encode_all(0, &done, &BTreeMap::new(), BYTES_MAX);
    assert!(!map.full && map.used < 3500, "{}", map.used);
    let attempts = (0..1000).map(|i| (2 * i, 3)).collect();
    assert!(!encode_all(0, &done, &attempts, 2 * BYTES_MAX).full);
}

#[test]
fn more_than_could_ever_fit_is_not_even_looked_at() {
    let endless = || (0_u64..).map(|i| 2 * i + 1..2 * i + 2);
    let progress =
        Progress { log: 1, epoch: EPOCH, next: 0, done: endless(), attempts: (0_u64..).map(|i| (2 * i, 1)) };
    let map = encode(progress, BYTES_MAX);
    assert!(map.full && map.used > BYTES_MAX - 40);
    assert!(estimate(0, endless(), []) > BYTES_LIMIT);
}

#[test]
fn metadata_of_others_is_told_apart_from_damage_and_from_other_versions() {
    for foreign in ["", "es", "es.", "esx.AAAA", "hello", "es2", "2.", "{\"es2.\":1}"] {
        assert!(!is_ours(foreign), "{foreign}");
        assert_eq!(decode(foreign), Err(Unreadable::NotOurs), "{foreign}");
    }
    for damaged in ["es2.", "es1.AAAA", "es2.AAAA", "es30.AAAA", &format!("es2.{}", "A".repeat(BYTES_LIMIT))]
    {
        assert!(is_ours(damaged));
        assert_eq!(decode(damaged), Err(Unreadable::Damaged));
    }
}

#[test]
fn blocks_that_break_the_format_are_not_believed() {
    let read = |next: Offset, tail: &[u8]| {
        let mut body = [0; LOG + 1 + UUID].to_vec();
        varint::put(&mut body, next);
        body.extend_from_slice(tail);
        decode(&sealed(&body))
    };
    assert!(read(5, &[END]).is_ok());
    for wrong in [
        &[][..],                  // no end
        &[1, END],                // an empty bitmap
        &[2, 1, 0, END],          // a run of nothing
        &[4, 1, 1, END],          // fewer runs than it says
        &[5, 1, 0, END],          // a bitmap that ends with nothing
        &[0xFF, 0xFF, 3, 1, END], // a bitmap longer than the text
        &[END, 7],                // attempts that do not follow
        &[END, 0x80],             // a number that does not end
    ] {
        assert_eq!(read(5, wrong), Err(Unreadable::Damaged), "{wrong:?}");
    }
    assert!(read(u64::MAX - 3, &[2, 1, 2, END]).is_ok());
    assert_eq!(read(u64::MAX - 3, &[2, 1, 9, END]), Err(Unreadable::Damaged), "beyond the last offset");
    assert_eq!(read(u64::MAX - 3, &[3, 0xFF, END]), Err(Unreadable::Damaged), "beyond the last offset");
    assert_eq!(read(u64::MAX, &[END, 0, 0]), Err(Unreadable::Damaged), "beyond the last offset");
}

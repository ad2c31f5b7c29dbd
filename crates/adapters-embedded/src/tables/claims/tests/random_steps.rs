//! Random steps on the tables and on the reference model give the same answers.

use super::{HandClock, key, open, rows};
use crate::memory::MemoryIdempotency;
use bytes::Bytes;
use ports::{ClaimKey, ClaimRequest, Ground, IdempotencyStore, Settlement, Token};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const KEYS: u64 = 5;

/// One of the last tokens of the key, from the newest on, or where there are not so many, a new one.
type Back = usize;

#[derive(Clone, Debug)]
enum OnGround {
    Free,
    Own(Back, bool),
    TakeOver(bool),
}

#[derive(Clone, Debug)]
struct Ask {
    token: Option<Back>,
    lease: Duration,
    keep: Duration,
    ground: OnGround,
    note: Bytes,
}

#[derive(Clone, Debug)]
enum Step {
    Claim(BTreeMap<u64, Ask>),
    Settle(BTreeMap<u64, (Back, Settlement)>),
    Pass(Duration),
    Restart,
}

/// Times that meet and miss one another, and some that are much longer than the others.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(0),
        8 => 1..6_u64,
        2 => Just(100_000),
        1 => Just(10_000_000),
    ]
    .prop_map(|tens| Duration::from_millis(10 * tens))
}

fn text() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from)
}

fn ask() -> impl Strategy<Value = Ask> {
    let ground = prop_oneof![
        4 => Just(OnGround::Free),
        2 => (0..3_usize, any::<bool>()).prop_map(|(back, counted)| OnGround::Own(back, counted)),
        1 => any::<bool>().prop_map(OnGround::TakeOver),
    ];
    let token = prop::option::weighted(0.3, 0..2_usize);
    (token, time(), time(), ground, text()).prop_map(|(token, lease, keep, ground, note)| Ask {
        token,
        lease,
        keep,
        ground,
        note,
    })
}

fn settlement() -> impl Strategy<Value = (Back, Settlement)> {
    let settlement = prop_oneof![
        2 => (text(), time()).prop_map(|(outcome, keep)| Settlement::Complete { outcome, keep }),
        2 => time().prop_map(|lease| Settlement::Extend { lease }),
        3 => any::<bool>().prop_map(|counted| Settlement::Release { counted }),
    ];
    (prop_oneof![4 => Just(0_usize), 1 => 1..4_usize], settlement)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::btree_map(0..KEYS, ask(), 1..4).prop_map(Step::Claim),
        5 => prop::collection::btree_map(0..KEYS, settlement(), 1..4).prop_map(Step::Settle),
        4 => time().prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// The tokens that were drawn, a key.
#[derive(Default)]
struct Tokens {
    of: BTreeMap<u64, Vec<Token>>,
    last: u64,
}

impl Tokens {
    fn draw(&mut self, number: u64) -> Token {
        self.last += 1;
        self.of.entry(number).or_default().push(Token(self.last));
        Token(self.last)
    }

    fn back(&mut self, number: u64, back: Back) -> Token {
        let drawn = self.of.get(&number).and_then(|drawn| drawn.iter().rev().nth(back));
        drawn.copied().unwrap_or_else(|| self.draw(number))
    }

    fn request(&mut self, number: u64, ask: Ask) -> ClaimRequest {
        let ground = match ask.ground {
            OnGround::Free => Ground::Free,
            OnGround::Own(back, counted) => Ground::Own { token: self.back(number, back), counted },
            OnGround::TakeOver(counted) => Ground::TakeOver { counted },
        };
        let token = ask.token.map(|back| self.back(number, back));
        let token = token.unwrap_or_else(|| self.draw(number));
        let Ask { lease, keep, note, .. } = ask;
        ClaimRequest { key: key(number), token, lease, keep, ground, note }
    }
}

async fn drive(steps: Vec<Step>) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let model = MemoryIdempotency::new(Arc::new(clock.clone()));
    let (mut tables, mut claims) = open(dir.path(), &clock);
    let mut tokens = Tokens::default();
    for step in steps {
        match step {
            Step::Claim(asks) => {
                let requests: Vec<_> =
                    asks.into_iter().map(|(number, ask)| tokens.request(number, ask)).collect();
                let expected = model.claim(requests.clone()).await.unwrap();
                assert_eq!(claims.claim(requests.clone()).await.unwrap(), expected, "{requests:?}");
            }
            Step::Settle(settlements) => {
                let batch: Vec<(ClaimKey, Token, Settlement)> = settlements
                    .into_iter()
                    .map(|(number, (back, it))| (key(number), tokens.back(number, back), it))
                    .collect();
                let expected = model.settle(batch.clone()).await.unwrap();
                assert_eq!(claims.settle(batch.clone()).await.unwrap(), expected, "{batch:?}");
            }
            Step::Pass(time) => clock.pass(time),
            Step::Restart => {
                rows(&tables).await;
                drop((tables, claims));
                (tables, claims) = open(dir.path(), &clock);
            }
        }
    }
    // In the end nothing is left: what is far off was taken along when it moved, or comes up twice.
    for _ in 0..2 {
        clock.pass(Duration::from_hours(1000));
        let nothing = vec![(key(KEYS), Token(0), Settlement::Release { counted: true })];
        claims.settle(nothing).await.unwrap();
    }
    assert_eq!(rows(&tables).await, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_answer_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(drive(steps));
    }
}

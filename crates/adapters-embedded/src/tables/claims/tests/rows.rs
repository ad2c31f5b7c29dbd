//! Rows read back as they were written, and anything else is refused.

use super::super::row::{self, Known, Lease, Row};
use bytes::Bytes;
use ports::Token;
use proptest::prelude::*;

fn bytes(length_max: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..100),
        1 => prop::collection::vec(any::<u8>(), length_max),
    ]
    .prop_map(Bytes::from)
}

fn some_row() -> impl Strategy<Value = Row> {
    let done = (any::<u64>(), any::<u64>(), bytes(64 << 10)).prop_map(|(token, forgotten_at, outcome)| {
        Known::Done { token: Token(token), forgotten_at, outcome }
    });
    let released = prop::option::of(any::<bool>());
    let lease = (any::<(u64, u32, u64, u64)>(), released, bytes(1024), bytes(1024));
    let leased = lease.prop_map(|((token, attempt, ends, forgotten_at), released, received, note)| {
        Known::Leased(Lease { token: Token(token), attempt, ends, forgotten_at, released, received, note })
    });
    (any::<u64>(), prop_oneof![done, leased]).prop_map(|(queued, known)| Row { queued, known })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_reads_back_as_it_was_written(row in some_row(), queued: u64) {
        let mut bytes = vec![7; 3];
        row.encode(&mut bytes);
        prop_assert_eq!(Row::decode(&bytes), Ok(row.clone()));
        prop_assert_eq!(row::times(&bytes), Ok((row.known.forgotten_at(), row.queued)));
        row::set_queued(&mut bytes, queued);
        prop_assert_eq!(Row::decode(&bytes), Ok(Row { queued, ..row }));
    }

    #[test]
    fn any_bytes_are_a_row_or_refused(row in some_row(), cut in 0..100_usize, at in 0..60_usize, with: u8) {
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        // What is taken for a row is written as one again.
        if let Ok(row) = Row::decode(&bytes) {
            let mut again = Vec::new();
            row.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let leased = |length: u16| [&[1, 1][..], &[0; 36], &length.to_be_bytes(), &[0; 10]].concat();
    let cases = [
        (vec![], "it is empty"),
        (vec![2; 40], "its version is 2, this program knows 1"),
        (vec![1; 25], "it has 25 bytes, a row has at least 26"),
        ([&[1, 4][..], &[0; 24]].concat(), "its state is 4, 0 to 3 are known"),
        ([&[1, 1][..], &[0; 37]].concat(), "it has 39 bytes, a lease has at least 40"),
        (leased(11), "its received note has 11 bytes, at most 10 are possible"),
        ([leased(0), vec![0; 1015]].concat(), "its note has 1025 bytes, at most 1024 are possible"),
        (
            [&[1, 0][..], &[0; 24], &vec![0; 65537]].concat(),
            "its outcome has 65537 bytes, at most 65536 are possible",
        ),
    ];
    for (bytes, what) in cases {
        assert_eq!(Row::decode(&bytes), Err(what.to_owned()));
    }
}

//! Confluent's frame around a value: a zero byte, the schema's id as four bytes in network order, for Protobuf
//! the message's index, and the payload.
//!
//! The message's index is the way to the message through the file: its place among the top level messages, then
//! its place among the nested ones of that, and so on. On the wire that is the number of steps and each step as
//! zigzag varints; `[0]`, which is by far the most frequent, is one zero byte.

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// The first byte of a frame.
pub const MAGIC: u8 = 0;

/// Bytes before the message's index or the payload.
pub const HEADER_BYTES: usize = 5;

/// Steps of a message's index: as deep as messages may be nested.
const STEPS_MAX: usize = 32;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameProblem {
    /// Fewer bytes than a frame has.
    TooShort {
        /// What was there.
        bytes: usize,
    },
    /// The first byte is another than zero.
    Magic(u8),
    /// The message's index cannot be read.
    Index(&'static str),
}

impl fmt::Display for FrameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { bytes } => write!(
                f,
                "{bytes} bytes are too few for a frame, which begins with a zero byte and the schema's id in four"
            ),
            Self::Magic(byte) => write!(
                f,
                "the first byte is 0x{byte:02x}, where a frame begins with 0x00; is the value framed at all?"
            ),
            Self::Index(what) => write!(f, "the message index after the schema's id is not valid: {what}"),
        }
    }
}

impl std::error::Error for FrameProblem {}

/// Puts a frame around a payload. `index` is given for Protobuf, and for no other format.
pub fn frame(schema_id: u32, index: Option<&[i32]>, payload: &[u8]) -> Bytes {
    let steps = index.map_or(0, |steps| 1 + steps.len());
    let mut framed = BytesMut::with_capacity(HEADER_BYTES + steps * 2 + payload.len());
    framed.put_u8(MAGIC);
    framed.put_u32(schema_id);
    if let Some(index) = index {
        put_index(&mut framed, index);
    }
    framed.put_slice(payload);
    framed.freeze()
}

/// The schema's id of a frame and what follows it: for Protobuf the message's index and the payload, else the
/// payload. The rest shares the frame's bytes.
///
/// # Errors
/// Fewer than five bytes, or another first byte than zero.
pub fn unframe(framed: &Bytes) -> Result<(u32, Bytes), FrameProblem> {
    match framed.first() {
        Some(&byte) if byte != MAGIC => return Err(FrameProblem::Magic(byte)),
        _ => {}
    }
    let Some((header, _)) = framed.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FrameProblem::TooShort { bytes: framed.len() });
    };
    let [_, id @ ..] = *header;
    Ok((u32::from_be_bytes(id), framed.slice(HEADER_BYTES..)))
}

/// The message's index at the start of what follows a Protobuf schema's id, and the payload behind it.
///
/// # Errors
/// Bytes that are no index: cut off, negative, longer than a message can be nested, or a varint that does not
/// end.
pub fn split_index(rest: &Bytes) -> Result<(Vec<i32>, Bytes), FrameProblem> {
    let mut at = 0;
    let count = read_varint(rest, &mut at)?;
    if count == 0 {
        return Ok((vec![0], rest.slice(at..)));
    }
    let steps = usize::try_from(count).map_err(|_| {
        FrameProblem::Index("the number of steps is negative; are its numbers zigzag encoded?")
    })?;
    if steps > STEPS_MAX {
        return Err(FrameProblem::Index("it has more steps than messages can be nested"));
    }
    let mut index = Vec::with_capacity(steps);
    for _ in 0..steps {
        let step = read_varint(rest, &mut at)?;
        if step < 0 {
            return Err(FrameProblem::Index("a step is negative; are its numbers zigzag encoded?"));
        }
        index.push(step);
    }
    Ok((index, rest.slice(at..)))
}

/// Appends a message's index as it stands on the wire.
pub fn put_index(buffer: &mut impl BufMut, index: &[i32]) {
    if index == [0] {
        buffer.put_u8(0);
        return;
    }
    put_varint(buffer, index.len() as i32);
    for step in index {
        put_varint(buffer, *step);
    }
}

fn put_varint(buffer: &mut impl BufMut, value: i32) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        buffer.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(rest as u8);
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Result<i32, FrameProblem> {
    let mut value: u32 = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*at).ok_or(FrameProblem::Index("it is cut off"))?;
        *at += 1;
        if shift == 28 && byte > 0x0f {
            break;
        }
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i32 ^ -((value & 1) as i32));
        }
    }
    Err(FrameProblem::Index("a number has more than 32 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index_bytes(index: &[i32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_index(&mut bytes, index);
        bytes
    }

    /// What Confluent's own serializers write.
    const KNOWN: [(&[i32], &[u8]); 10] = [
        (&[0], &[0x00]),
        (&[1], &[0x02, 0x02]),
        (&[127, 8, 9], &[0x06, 0xfe, 0x01, 0x10, 0x12]),
        (&[128], &[0x02, 0x80, 0x02]),
        (&[1, 0], &[0x04, 0x02, 0x00]),
        (&[0, 0], &[0x04, 0x00, 0x00]),
        (&[0, 1], &[0x04, 0x00, 0x02]),
        (&[2, 1, 3], &[0x06, 0x04, 0x02, 0x06]),
        (&[15, 1], &[0x04, 0x1e, 0x02]),
        (&[4, 0, 1, 2], &[0x08, 0x08, 0x00, 0x02, 0x04]),
    ];

    #[test]
    fn a_message_index_is_written_and_read_as_confluents_clients_do() {
        for (index, bytes) in KNOWN {
            assert_eq!(index_bytes(index), bytes, "{index:?}");
            let mut with_payload = bytes.to_vec();
            with_payload.extend(b"rest");
            let (read, rest) = split_index(&with_payload.into()).unwrap();
            assert_eq!((read.as_slice(), rest.as_ref()), (index, b"rest".as_slice()));
        }
    }

    #[test]
    fn the_long_form_of_the_first_message_is_read_too() {
        let (index, rest) = split_index(&Bytes::from_static(&[0x02, 0x00, 0x09])).unwrap();
        assert_eq!((index, rest.as_ref()), (vec![0], [0x09].as_slice()));
    }

    #[test]
    fn indexes_that_are_no_indexes_are_refused_with_a_reason() {
        for (bytes, reason) in [
            (&[0x01, 0x01][..], "negative"),
            (&[0x02, 0x01], "a step is negative"),
            (&[], "cut off"),
            (&[0x04, 0x02], "cut off"),
            (&[0x80, 0x80], "cut off"),
            (&[0xff, 0xff, 0xff, 0xff, 0x7f], "32 bits"),
            (&[0x80, 0x02], "more steps"),
        ] {
            let problem = split_index(&Bytes::from_static(bytes)).unwrap_err();
            assert!(problem.to_string().contains(reason), "{bytes:?}: {problem}");
        }
    }

    #[test]
    fn a_frame_is_a_zero_byte_the_id_the_index_and_the_payload() {
        let framed = frame(1, Some(&[1, 2, 3]), b"p");
        assert_eq!(framed.as_ref(), [0, 0, 0, 0, 1, 6, 2, 4, 6, b'p']);
        assert_eq!(frame(0x0102_0304, None, b"p").as_ref(), [0, 1, 2, 3, 4, b'p']);
    }

    #[test]
    fn what_is_no_frame_is_refused_with_a_reason() {
        for (bytes, reason) in
            [(&b"{}"[..], "0x7b"), (b"", "0 bytes"), (b"\0\0\0\0", "4 bytes"), (b"\x01\0\0\0\x01", "0x01")]
        {
            let problem = unframe(&Bytes::from_static(bytes)).unwrap_err();
            assert!(problem.to_string().contains(reason), "{bytes:?}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn every_frame_is_read_as_it_was_written(
            id: u32, index in prop::collection::vec(0..=i32::MAX, 1..=STEPS_MAX), payload: Vec<u8>,
        ) {
            let (read, rest) = unframe(&frame(id, Some(&index), &payload)).unwrap();
            prop_assert_eq!(read, id);
            let (read, rest) = split_index(&rest).unwrap();
            prop_assert_eq!(read, index);
            prop_assert_eq!(rest.as_ref(), payload.as_slice());
        }

        #[test]
        fn arbitrary_bytes_are_a_frame_or_a_problem(bytes: Vec<u8>) {
            if let Ok((_, rest)) = unframe(&bytes.into()) {
                let _ = split_index(&rest);
            }
        }
    }
}

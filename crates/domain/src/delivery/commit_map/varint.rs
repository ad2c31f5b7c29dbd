//! Unsigned LEB128: seven bits a byte, lowest first; the highest bit says that another byte follows.

/// The most bytes of a number.
pub(super) const BYTES_MAX: usize = 10;

/// How many bytes a number takes.
pub(super) fn bytes(number: u64) -> u64 {
    u64::from((u64::BITS - (number | 1).leading_zeros()).div_ceil(7))
}

/// Appends a number.
pub(super) fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Takes a number off the front; `None` where it does not end, or has more than 64 bits.
pub(super) fn get(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7F);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_is_read_back_and_its_length_is_known(number in any::<u64>(), shift in 0_u32..64) {
            let number = number >> shift;
            let mut written = Vec::new();
            put(&mut written, number);
            prop_assert_eq!(written.len() as u64, bytes(number));
            prop_assert!(written.len() <= BYTES_MAX);
            let mut rest = &written[..];
            prop_assert_eq!(get(&mut rest), Some(number));
            prop_assert!(rest.is_empty());
            prop_assert_eq!(get(&mut &written[..written.len() - 1]), None);
        }
    }

    #[test]
    fn more_than_64_bits_is_no_number() {
        assert_eq!(get(&mut &[0xFF; 10][..]), None);
        assert_eq!(get(&mut &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2][..]), None);
        assert_eq!(get(&mut &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1][..]), Some(u64::MAX));
    }
}

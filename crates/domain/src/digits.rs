//! Numbers as text, for names that are made of every event: without what a format string costs.

/// Appends so many hexadecimal digits, at most 16, of a number.
pub(crate) fn push_hex(out: &mut String, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = (value >> (4 * place) & 0xf) as u8;
        out.push(char::from(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }));
    }
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(out: &mut String, mut value: u64) {
    // As many digits as `u64::MAX` has.
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    digits[from..].iter().for_each(|digit| out.push(char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_formatting_writes_them(value in prop_oneof![any::<u64>(), 0..100_u64]) {
            let mut out = String::new();
            push_hex(&mut out, value, 16);
            push_hex(&mut out, value, 8);
            push_decimal(&mut out, value);
            prop_assert_eq!(out, format!("{value:016x}{:08x}{value}", value as u32));
        }
    }
}

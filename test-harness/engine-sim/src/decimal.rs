//! Numbers as text, appended to a byte buffer without a detour through the formatter.

/// Appends `value` in base 10.
pub(crate) fn push_decimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + low_byte(rest % 10);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` in base 16, lower case, as llama-server writes the size of a chunk.
pub(crate) fn push_hex(out: &mut Vec<u8>, value: usize) {
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    let mut rest = value as u64;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[usize::from(low_byte(rest % 16))];
        rest /= 16;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

//! Numbers as text, appended to a byte buffer without a detour through the formatter.

/// `00` to `99`, so that a division yields two digits.
const PAIRS: &[u8; 200] = b"\
0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// Appends `value` in base 10.
pub(crate) fn push_decimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    while rest >= 10 {
        let pair = 2 * usize::from(low_byte(rest % 100));
        rest /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + low_byte(rest);
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` in base 16, as the size of a chunk is written.
pub(crate) fn push_hex(out: &mut Vec<u8>, value: usize, upper: bool) {
    let alphabet = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    let mut rest = value as u64;
    loop {
        at -= 1;
        digits[at] = alphabet[usize::from(low_byte(rest % 16))];
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

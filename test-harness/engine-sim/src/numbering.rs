//! The numbered text: token k of an answer is ` k`, so that a lost, doubled or reordered token is
//! visible to whoever reads it. Also the tokenizer, which only counts.

use crate::decimal::push_decimal;

pub(crate) const BOS: u32 = 1;
pub(crate) const EOS: u32 = 2;
/// Token k of an answer has the id `FIRST_ANSWER_ID + k`; prompt tokens lie below.
pub(crate) const FIRST_ANSWER_ID: u64 = 1000;
pub(crate) const VOCABULARY: u64 = 1 << 31;

const BYTES_PER_TOKEN: usize = 4;

/// How the text of a token looks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// ` ☃ké` instead of ` k`.
    pub(crate) multi_byte: bool,
    /// Bytes that the text is padded to with dots.
    pub(crate) pad: usize,
}

/// Appends the text of token `number`. It needs no escaping in JSON.
pub(crate) fn push_text(out: &mut Vec<u8>, number: u64, style: Style) {
    let start = out.len();
    if style.multi_byte {
        out.extend_from_slice(" ☃".as_bytes());
        push_decimal(out, number);
        out.extend_from_slice("é".as_bytes());
    } else {
        out.push(b' ');
        push_decimal(out, number);
    }
    if out.len() - start < style.pad {
        out.resize(start + style.pad, b'.');
    }
}

/// The number an answer to `prompt` starts with: one more than the answer that the prompt ends in, so
/// that a resumed generation goes on where it was cut.
pub(crate) fn first_number(prompt: &str) -> u64 {
    let bare = prompt.trim_end_matches('.');
    let bare = bare.strip_suffix('é').unwrap_or(bare);
    let before = bare.trim_end_matches(|it: char| it.is_ascii_digit());
    let digits = &bare[before.len()..];
    if before.ends_with(' ') || before.ends_with(" ☃") {
        digits.parse::<u64>().map_or(0, |last| last + 1)
    } else {
        0
    }
}

/// Tokens of `text`, special ones apart.
pub(crate) fn count(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}

/// The ids of `text`, special ones apart: as many as [`count`] says, all below the answers' ids.
pub(crate) fn ids(text: &str) -> impl Iterator<Item = u32> + '_ {
    pieces(text).map(|piece| 3 + piece.iter().map(|&byte| u32::from(byte)).sum::<u32>() % 900)
}

/// The bytes of each token of `text`.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &[u8]> + '_ {
    text.as_bytes().chunks(BYTES_PER_TOKEN)
}

/// The ids of a prompt.
pub(crate) fn prompt_ids(text: &str, special: bool) -> Vec<u64> {
    special.then_some(BOS).into_iter().chain(ids(text)).map(u64::from).collect()
}

/// The text of `ids`, where those of prompts are question marks.
pub(crate) fn text_of(ids: &[u64]) -> String {
    let mut text = Vec::new();
    for id in ids {
        match id.checked_sub(FIRST_ANSWER_ID) {
            Some(number) => push_text(&mut text, number, Style::default()),
            None => text.push(b'?'),
        }
    }
    String::from_utf8(text).expect("numbered text is UTF-8")
}

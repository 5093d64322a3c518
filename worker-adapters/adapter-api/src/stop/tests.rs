//! Whatever the pieces, the text ends before the first stop sequence.

use proptest::prelude::*;

use super::StopFilter;
use crate::TokenPiece;

fn piece(text: &str) -> TokenPiece {
    TokenPiece { text: text.into(), count: 1, ids: vec![7] }
}

/// The text that comes out, its tokens, and what was found.
fn run(stop: &[&str], pieces: &[&str]) -> (String, u32, Option<String>) {
    let mut filter = StopFilter::new(stop.iter().map(|it| (*it).to_owned()).collect());
    let (mut text, mut count) = (String::new(), 0);
    for it in pieces {
        let (said, found) = filter.push(piece(it));
        text += &said.text;
        count += said.count;
        assert_eq!(said.ids.len(), said.count as usize, "ids go with their tokens");
        if found.is_some() {
            return (text, count, found);
        }
    }
    let (rest, found) = filter.finish();
    (text + &rest.text, count + rest.count, found)
}

fn told(text: &str, count: u32, found: Option<&str>) -> (String, u32, Option<String>) {
    (text.to_owned(), count, found.map(str::to_owned))
}

// OC-ADAPT-5010
#[test]
fn the_first_in_the_text_counts_and_not_the_first_in_the_list() {
    assert_eq!(run(&["c", "b"], &["a b c"]), told("a ", 1, Some("b")));
    assert_eq!(run(&["ab", "abc"], &["xabcd"]), told("x", 1, Some("abc")));
    assert_eq!(run(&["abc", "ab"], &["xabcd"]), told("x", 1, Some("abc")));
    // It began first, and it is told by what comes later whether it is one.
    assert_eq!(run(&["xaa", "a"], &["xxa", "a"]), told("x", 2, Some("xaa")));
    assert_eq!(run(&["xaa", "a"], &["xxa", "b"]), told("xx", 2, Some("a")));
    assert_eq!(run(&["xaa", "a"], &["xxa"]), told("xx", 1, Some("a")));
}

#[test]
fn a_sequence_over_several_tokens_is_found_and_its_beginning_never_said() {
    assert_eq!(run(&["<end>"], &["a<", "en", "d>b"]), told("a", 3, Some("<end>")));
    assert_eq!(run(&["<end>"], &["a<", "en", "t>"]), told("a<ent>", 3, None));
    assert_eq!(run(&["<end>"], &["a<", "en"]), told("a<en", 2, None));
}

#[test]
fn characters_stay_whole() {
    assert_eq!(run(&["é!"], &["☃é", "?"]), told("☃é?", 2, None));
    assert_eq!(run(&["é!"], &["☃é", "!"]), told("☃", 2, Some("é!")));
    assert_eq!(run(&[""], &["a"]), told("a", 1, None));
}

proptest! {
    #[test]
    fn the_split_into_tokens_does_not_matter(
        text in "[ab☃]{0,24}",
        stop in prop::collection::vec("[ab☃]{1,4}", 0..4),
        cuts in prop::collection::vec(0_usize..24, 0..8),
    ) {
        let words: Vec<&str> = stop.iter().map(String::as_str).collect();
        let mut bounds: Vec<usize> = text.char_indices().map(|it| it.0).collect();
        bounds.retain(|it| cuts.contains(it));
        bounds.push(text.len());
        let mut start = 0;
        let pieces: Vec<&str> = bounds
            .iter()
            .map(|end| &text[std::mem::replace(&mut start, *end)..*end])
            .collect();
        let (said, _, found) = run(&words, &pieces);
        let first = words.iter().filter_map(|it| text.find(it)).min();
        // A longer sequence at the same place may be complete a token later: then the shorter counts.
        prop_assert_eq!(&said, &text[..first.unwrap_or(text.len())]);
        prop_assert_eq!(found.is_some(), first.is_some());
    }
}

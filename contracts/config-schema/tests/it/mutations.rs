//! Whatever is done to a valid document, it is a configuration or a list of problems.

use config_schema::parse;
use proptest::prelude::*;

const VALID: &str = include_str!("../../../../config/home.yaml");

#[derive(Debug, Clone)]
enum Mutation {
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    Repeat(prop::sample::Index, prop::sample::Index),
    Uncomment(prop::sample::Index),
    Value(prop::sample::Index, String),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    let piece = prop_oneof![
        "[-:#&*!|>%@`?{}\\[\\],'\" \n\t~<0-9a-z]{1,6}",
        any::<String>(),
        Just("\u{0}".to_owned()),
    ];
    let value = prop_oneof![
        Just("[]"),
        Just("{}"),
        Just("~"),
        Just("-1"),
        Just("1e400"),
        Just("18446744073709551616"),
        Just("''"),
        Just("[[[]]]"),
        Just("&a *a"),
        Just("!!int x"),
        Just("0.0.0.0:1"),
        Just("yes"),
    ];
    prop_oneof![
        (index(), 1..20_usize).prop_map(|(at, count)| Mutation::Delete(at, count)),
        (index(), piece).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (index(), index()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        index().prop_map(Mutation::Uncomment),
        (index(), value).prop_map(|(at, text)| Mutation::Value(at, text.to_owned())),
    ]
}

fn apply(mutation: &Mutation, text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match mutation {
        Mutation::Delete(at, count) => {
            let at = at.index(characters.len() + 1);
            let end = (at + count).min(characters.len());
            characters.drain(at..end);
            return characters.into_iter().collect();
        }
        Mutation::Insert(at, piece) => {
            let at = at.index(characters.len() + 1);
            characters.splice(at..at, piece.chars());
            return characters.into_iter().collect();
        }
        Mutation::Repeat(from, to) if !lines.is_empty() => {
            let line = lines[from.index(lines.len())].clone();
            lines.insert(to.index(lines.len()), line);
        }
        Mutation::Uncomment(at) if !lines.is_empty() => {
            let at = at.index(lines.len());
            lines[at] = lines[at].replacen("# ", "", 1);
        }
        Mutation::Value(at, value) if !lines.is_empty() => {
            let at = at.index(lines.len());
            if let Some((key, _)) = lines[at].split_once(':') {
                lines[at] = format!("{key}: {value}");
            }
        }
        Mutation::Repeat(..) | Mutation::Uncomment(_) | Mutation::Value(..) => {}
    }
    lines.join("\n")
}

proptest! {
    #[test]
    fn a_mutated_document_is_a_configuration_or_a_list_of_problems(
        mutations in prop::collection::vec(mutation(), 1..12)
    ) {
        let text = mutations.iter().fold(VALID.to_owned(), |text, it| apply(it, &text));
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems.is_empty());
            let lines = text.lines().count() as u64 + 1;
            for problem in error.problems {
                prop_assert!(problem.line.is_none_or(|it| (1..=lines).contains(&it)), "{problem}");
                prop_assert!(!problem.found.is_empty() && !problem.expected.is_empty());
                prop_assert!(problem.to_string().lines().count() == 1, "{problem}");
                // The schema is generated from the types and leaves nothing for serde to find.
                prop_assert!(problem.found != "a value that cannot be used", "{problem}");
            }
        }
    }
}

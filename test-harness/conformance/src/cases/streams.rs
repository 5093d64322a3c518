//! Generations that end well.

use adapter_api::{Constraint, EngineError, FinishReason, Generate, Prompt};
use pool_api::{Engine, TritonFields};
use serde_json::Value;

use super::{PROMPT, Support};
use crate::{Heard, Subject, hear, request, submit};

async fn heard(subject: &Subject, request: Generate) -> Heard {
    hear(submit(subject.adapter.as_ref(), request).await.unwrap()).await
}

/// Whether the engine says how many tokens a prompt has, and each piece of an answer.
fn counts(subject: &Subject) -> bool {
    match &subject.engine {
        Engine::Llamacpp | Engine::Vllm | Engine::Tgi => true,
        Engine::Triton(model) => model.fields == TritonFields::Vllm,
    }
}

/// Every token arrives, in order, and is counted once.
pub async fn a_generation_streams_to_its_end(subject: &Subject) -> Support {
    for tokens in [1, 2, 17] {
        let heard = heard(subject, request(PROMPT, tokens)).await;
        assert_eq!(heard.reason(), &FinishReason::Length, "{heard:?}");
        assert_eq!((heard.count, heard.usage().output_tokens), (tokens, tokens), "{heard:?}");
        assert!(!heard.text.is_empty(), "{heard:?}");
        let prompt_tokens = heard.usage().prompt_tokens;
        assert_eq!(0 < prompt_tokens, counts(subject), "{heard:?}");
    }
    if counts(subject) { Support::Yes } else { Support::Emulated }
}

/// Greedy answers, and answers of one seed, are the same each time.
pub async fn a_seed_gives_the_same_answer_again(subject: &Subject) -> Support {
    let features = subject.adapter.features();
    for temperature in [0.0, if features.takes("temperature") { 1.0 } else { 0.0 }] {
        let mut asked = request(PROMPT, 24);
        asked.sampling.temperature = temperature;
        let first = heard(subject, asked.clone()).await;
        let second = heard(subject, asked).await;
        assert_eq!((&first.text, first.count), (&second.text, second.count), "{temperature}");
    }
    if features.takes("seed") { Support::Yes } else { Support::No }
}

/// A simulated answer does not depend on its seed.
pub async fn seeds_differ(subject: &Subject) -> Support {
    let mut answers = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let mut asked = request(PROMPT, 24);
        (asked.sampling.temperature, asked.seed) = (1.0, seed);
        answers.insert(heard(subject, asked).await.text);
    }
    assert!(6 <= answers.len(), "{answers:?}");
    Support::Yes
}

/// The text ends before the first of them in it, wherever tokens begin and end.
pub async fn stop_sequences_end_the_text(subject: &Subject) -> Support {
    let whole = heard(subject, request(PROMPT, 24)).await.text;
    let letters: Vec<(usize, char)> = whole.char_indices().collect();
    let piece = |from: usize, length: usize| -> String {
        letters[from..(from + length).min(letters.len())].iter().map(|it| it.1).collect()
    };
    let early = piece(letters.len() / 4, 4);
    let end = whole.find(&early).unwrap() + early.len();
    // One that comes later, whatever the model repeats.
    let mut later = (0..letters.len()).map(|it| piece(it, 5));
    let late = later.find(|it| end < whole.find(it).unwrap()).unwrap();
    let never = ["\u{1}a", "\u{1}b", "\u{1}c", "\u{1}d", "\u{1}e"];
    for words in [vec![&*late], vec![&*late, &*early], [&never[..], &[&*early]].concat()] {
        let mut asked = request(PROMPT, 24);
        asked.stop = words.iter().map(|it| (*it).to_owned()).collect();
        let heard = heard(subject, asked).await;
        let found = words.iter().filter_map(|it| Some((whole.find(it)?, it)));
        let (at, word) =
            found.min_by_key(|(at, word)| (*at, std::cmp::Reverse(word.len()))).unwrap();
        assert_eq!(heard.text, whole[..at], "{words:?} in {whole:?}");
        assert_eq!(heard.reason(), &FinishReason::StopSequence((*word).to_owned()));
        assert_eq!(heard.count, heard.usage().output_tokens, "{heard:?}");
        assert_eq!(0 < heard.usage().prompt_tokens, counts(subject), "{heard:?}");
    }
    let native = subject.engine == Engine::Llamacpp;
    if native { Support::Yes } else { Support::Emulated }
}

/// A beginning of a stop sequence that comes to nothing is said after all. llama.cpp alone forgets it
/// where the answer ends in it: it holds the text back, and ends.
pub async fn what_only_begins_like_a_stop_sequence_is_said(subject: &Subject) -> Support {
    let whole = heard(subject, request(PROMPT, 12)).await.text;
    let mut asked = request(PROMPT, 12);
    let last = whole.chars().next_back().unwrap();
    asked.stop = vec![format!("{last}\u{1}")];
    let heard = heard(subject, asked).await;
    assert_eq!(heard.reason(), &FinishReason::Length);
    if subject.engine == Engine::Llamacpp {
        assert_eq!(heard.usage().output_tokens, 12);
        assert!(whole.starts_with(&heard.text) && heard.text.len() < whole.len(), "{heard:?}");
        return Support::No;
    }
    assert_eq!((heard.text.as_str(), heard.count), (whole.as_str(), 12));
    Support::Yes
}

/// They go as ids, or are refused.
pub async fn prompts_of_token_ids(subject: &Subject) -> Support {
    let features = subject.adapter.features();
    let mut asked = request("", 3);
    if !features.token_ids {
        asked.prompt = Prompt::TokenIds(vec![5, 6, 7]);
        let refused = submit(subject.adapter.as_ref(), asked).await.err();
        assert!(matches!(refused, Some(EngineError::Unsupported { .. })), "{refused:?}");
        return Support::No;
    }
    let ids = subject.adapter.tokenize(PROMPT).await.unwrap();
    let count = u32::try_from(ids.len()).unwrap();
    asked.prompt = Prompt::TokenIds(ids);
    let by_ids = heard(subject, asked).await;
    assert_eq!((by_ids.count, by_ids.usage().prompt_tokens), (3, count), "{by_ids:?}");
    if subject.sim.is_none() {
        assert_eq!(by_ids.text, heard(subject, request(PROMPT, 3)).await.text);
    }
    Support::Yes
}

/// As many as there are tokens, where they are asked for, and none where they are not.
pub async fn token_ids_of_the_answer(subject: &Subject) -> Support {
    for wanted in [true, false] {
        let mut asked = request(PROMPT, 6);
        asked.answer_ids = wanted;
        let heard = heard(subject, asked).await;
        let expected = wanted && subject.adapter.features().answer_ids;
        if wanted {
            assert_eq!(heard.ids.len(), if expected { 6 } else { 0 }, "{heard:?}");
        }
    }
    if subject.adapter.features().answer_ids { Support::Yes } else { Support::No }
}

/// Values outside the neutral ones reach the engine, or are refused; none is ignored.
pub async fn settings_are_taken_or_refused(subject: &Subject) -> Support {
    let features = subject.adapter.features();
    let mut all = true;
    for setting in adapter_api::SETTINGS {
        let mut asked = request(PROMPT, 2);
        asked.sampling.temperature = 0.7;
        let sampling = &mut asked.sampling;
        match setting {
            "temperature" | "seed" => {}
            "top_p" => sampling.top_p = 0.9,
            "top_k" => sampling.top_k = 5,
            "min_p" => sampling.min_p = 0.1,
            "repeat_penalty" => sampling.repeat_penalty = 1.1,
            "presence_penalty" => sampling.presence_penalty = 0.5,
            "frequency_penalty" => sampling.frequency_penalty = 0.5,
            other => panic!("no case for {other}"),
        }
        let samples = features.takes("temperature");
        if !samples {
            asked.sampling.temperature = 0.0;
        }
        if !samples && ["top_p", "top_k"].contains(&setting) {
            // Of the likeliest token alone they choose nothing.
            continue;
        }
        let taken = submit(subject.adapter.as_ref(), asked).await;
        if features.takes(setting) || setting == "seed" {
            assert_eq!(hear(taken.unwrap()).await.reason(), &FinishReason::Length, "{setting}");
        } else if setting != "temperature" {
            let refused = taken.err();
            assert!(
                matches!(refused, Some(EngineError::Unsupported { .. })),
                "{setting}: {refused:?}"
            );
        }
        all &= features.takes(setting);
    }
    if all { Support::Yes } else { Support::No }
}

/// A real model of a few megabytes would fill an object with white space; it is asked for one of two
/// words.
pub async fn answers_follow_a_json_schema(subject: &Subject) -> Support {
    let words = r#"{"enum":["alpha","beta"]}"#;
    let object = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":8},
        "ok":{"type":"boolean"}},"required":["name","ok"],"additionalProperties":false}"#;
    let mut asked = request("Answer in JSON: ", 200);
    let schema = if subject.sim.is_some() { object } else { words };
    asked.constraint = Some(Constraint::JsonSchema(schema.into()));
    if !subject.adapter.features().json_schema {
        let refused = submit(subject.adapter.as_ref(), asked).await.err();
        assert!(matches!(refused, Some(EngineError::Unsupported { .. })), "{refused:?}");
        return Support::No;
    }
    let heard = heard(subject, asked).await;
    let value: Value = serde_json::from_str(&heard.text).unwrap_or_else(|_| panic!("{heard:?}"));
    match value.as_object() {
        Some(object) => {
            assert!(value["name"].is_string() && value["ok"].is_boolean(), "{value}");
            assert_eq!(object.len(), 2, "{value}");
        }
        None => assert!(value == "alpha" || value == "beta", "{value}"),
    }
    assert_eq!(heard.reason(), &FinishReason::EndOfText);
    Support::Yes
}

//! Every case against every dialect of engine-sim, and, where one is named, against real servers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use conformance::cases::Support;
use conformance::{Setup, Subject, cases};
use pool_api::{Engine, TritonCustom, TritonFields, TritonModel, TritonSettings};

/// Calls a macro with what is given, then a list: `more`, and the cases that any server can be asked for.
macro_rules! of_any_server {
    ($then:ident!($($given:tt)*), [$($more:ident),* $(,)?]) => {
        $then! { $($given)* [
            $($more,)*
            it_says_what_it_is,
            a_generation_streams_to_its_end,
            a_seed_gives_the_same_answer_again,
            stop_sequences_end_the_text,
            what_only_begins_like_a_stop_sequence_is_said,
            prompts_of_token_ids,
            token_ids_of_the_answer,
            settings_are_taken_or_refused,
            answers_follow_a_json_schema,
            its_tokenizer_counts_as_it_does,
            messages_go_through_its_template,
            a_full_context_is_no_length,
            dropping_a_generation_frees_its_slot,
            generations_run_side_by_side,
        ] }
    };
}

mod real;

fn triton(fields: TritonFields) -> Engine {
    Engine::Triton(TritonModel { model: "tiny".into(), fields })
}

/// A model whose inputs and outputs are named by hand.
fn custom() -> Engine {
    let names = [("max_tokens", "max_tokens")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    triton(TritonFields::Custom(Box::new(TritonCustom {
        prompt: "text_input".into(),
        stream: Some("stream".into()),
        settings: TritonSettings::Inputs(names.into()),
        constant: [].into(),
        text: "text_output".into(),
        cumulative: false,
        finish_reason: None,
        prompt_tokens: None,
        output_tokens: None,
    })))
}

/// What each dialect is started with.
fn dialects() -> Vec<(Engine, Vec<&'static str>)> {
    vec![
        (Engine::Llamacpp, Vec::new()),
        (Engine::Vllm, Vec::new()),
        (Engine::Tgi, Vec::new()),
        (triton(TritonFields::Vllm), Vec::new()),
        (triton(TritonFields::Tensorrtllm), vec!["--backend", "trtllm"]),
        (triton(TritonFields::TensorrtllmEnsemble), vec!["--backend", "ensemble"]),
        (custom(), vec!["--backend", "python"]),
    ]
}

// OC-ADAPT-5080, OC-ADAPT-5040, OC-ADAPT-5060, OC-ADAPT-5061
#[tokio::test]
async fn every_dialect_streams_and_frees_what_is_left() {
    for (engine, flags) in dialects() {
        let subject = Subject::simulated(&engine, Setup { flags: &flags, ..Setup::default() });
        cases::a_generation_streams_to_its_end(&subject).await;
        cases::frames_cut_or_merged_anywhere_give_the_same_text(&subject).await;
        cases::dropping_a_generation_frees_its_slot(&subject).await;
    }
}

// OC-ADAPT-5010, OC-ADAPT-5081, ORCH-3058
#[tokio::test]
async fn one_text_is_the_same_from_every_dialect() {
    let mut answers = Vec::new();
    for (engine, flags) in dialects() {
        let subject = Subject::simulated(&engine, Setup { flags: &flags, ..Setup::default() });
        let mut asked = conformance::request("[[sim:utf8=1]] x 3", 9);
        asked.stop = vec!["é ☃9".into(), "never".into()];
        let generation = conformance::submit(subject.adapter.as_ref(), asked).await.unwrap();
        let heard = conformance::hear(generation).await;
        answers.push((heard.text.clone(), heard.reason().clone()));
    }
    let first = answers[0].clone();
    assert_eq!(first.0, " ☃4é ☃5é ☃6é ☃7é ☃8");
    assert!(answers.iter().all(|it| *it == first), "{answers:#?}");
}

/// One test for each case, so that a failure has a name.
macro_rules! conforms {
    ($dialect:ident, $engine:expr, $flags:expr, [$($case:ident),* $(,)?]) => {
        mod $dialect {
            use super::*;

            fn subject() -> Subject {
                Subject::simulated(&$engine, Setup { flags: &$flags, ..Setup::default() })
            }

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    cases::$case(&subject()).await;
                }
            )*

            #[tokio::test]
            async fn the_key_is_sent_and_never_shown() {
                let setup = Setup { key: Some("k-e-y"), flags: &$flags, ..Setup::default() };
                // Triton has no keys of its own.
                if !matches!($engine, Engine::Triton(_)) {
                    let subject = Subject::simulated(&$engine, setup);
                    cases::the_key_is_sent_and_never_shown(&subject, "k-e-y").await;
                }
            }
        }
    };
}

/// Those that every engine must pass whatever it can and cannot do.
macro_rules! conforms_as_any {
    ($dialect:ident, $engine:expr, $flags:expr, [$($more:ident),* $(,)?]) => {
        of_any_server!(conforms!($dialect, $engine, $flags,), [
            $($more,)*
            connections_are_kept,
            a_reset_is_broken_whatever_came_before,
            a_frame_that_is_not_json_breaks_the_protocol,
            frames_cut_or_merged_anywhere_give_the_same_text,
            a_closed_door_is_tried_again,
            an_engine_that_is_gone_is_unreachable,
            a_hung_generation_is_left_by_dropping_it,
        ]);
    };
}

/// Those that need a word from the engine at the end of a stream.
macro_rules! conforms_fully {
    ($dialect:ident, $engine:expr, $flags:expr) => {
        conforms_as_any!(
            $dialect,
            $engine,
            $flags,
            [
                a_prompt_beyond_the_context_is_told,
                a_cut_stream_is_broken_and_keeps_its_tokens,
                all_tokens_without_the_last_word_are_no_success,
                nothing_is_sent_again_after_the_first_token,
                tokens_that_arrive_while_the_stream_breaks_are_not_lost,
            ]
        );
    };
}

conforms_fully!(llamacpp, Engine::Llamacpp, []);
conforms_fully!(vllm, Engine::Vllm, []);
conforms_fully!(tgi, Engine::Tgi, []);
conforms_as_any!(
    triton_vllm,
    triton(TritonFields::Vllm),
    [],
    [
        a_cut_stream_is_broken_and_keeps_its_tokens,
        all_tokens_without_the_last_word_are_no_success,
        nothing_is_sent_again_after_the_first_token,
        tokens_that_arrive_while_the_stream_breaks_are_not_lost,
    ]
);
conforms_as_any!(
    triton_tensorrtllm,
    triton(TritonFields::Tensorrtllm),
    ["--backend", "trtllm"],
    [all_tokens_without_the_last_word_are_no_success]
);
conforms_as_any!(
    triton_ensemble,
    triton(TritonFields::TensorrtllmEnsemble),
    ["--backend", "ensemble"],
    []
);
conforms_as_any!(triton_custom, custom(), ["--backend", "python"], []);

/// With as little room as the engine can have beside its slots.
macro_rules! says_that_it_is_full {
    ($dialect:ident, $engine:expr, $flags:expr) => {
        #[tokio::test]
        async fn $dialect() {
            let setup = Setup { slots: 1, flags: &$flags, ..Setup::default() };
            cases::no_room_is_told_as_that(&Subject::simulated(&$engine, setup)).await;
        }
    };
}

says_that_it_is_full!(a_full_vllm_says_so, Engine::Vllm, ["--max-num-queued-reqs", "1"]);
says_that_it_is_full!(a_full_tgi_says_so, Engine::Tgi, []);
says_that_it_is_full!(a_full_triton_says_so, triton(TritonFields::Vllm), ["--max-queue-size", "1"]);

// OC-ADAPT-5080
#[tokio::test]
async fn none_is_ready_while_it_loads() {
    let setup = Setup { flags: &["--load-ms", "3600000"], ..Setup::default() };
    let subject = Subject::simulated(&Engine::Llamacpp, setup);
    cases::while_it_loads_it_is_not_ready(subject.adapter.as_ref()).await;
    // The others refuse connections.
    for engine in [Engine::Vllm, Engine::Tgi, triton(TritonFields::Vllm)] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let adapter = engines::connect(&engine, &url, None);
        cases::while_it_loads_it_is_not_ready(adapter.as_ref()).await;
    }
}

// OC-ADAPT-5012
#[tokio::test]
async fn vectors_and_scores_are_in_their_places() {
    for (engine, embeds, ranks) in [
        (Engine::Llamacpp, vec!["--embeddings"], vec!["--reranking"]),
        (Engine::Vllm, vec!["--runner", "pooling"], vec!["--runner", "pooling"]),
    ] {
        let subject =
            |flags: &[&str]| Subject::simulated(&engine, Setup { flags, ..Setup::default() });
        assert_eq!(cases::texts_become_vectors(&subject(&embeds)).await, Support::Yes);
        let ranked = cases::documents_are_scored_in_their_places(&subject(&ranks)).await;
        assert_eq!(ranked, Support::Yes);
        // An engine that was not started for it says so.
        assert_eq!(cases::texts_become_vectors(&subject(&[])).await, Support::No);
        assert_eq!(cases::documents_are_scored_in_their_places(&subject(&[])).await, Support::No);
    }
    for engine in [Engine::Tgi, triton(TritonFields::Vllm)] {
        let subject = Subject::simulated(&engine, Setup::default());
        assert_eq!(cases::texts_become_vectors(&subject).await, Support::No);
        assert_eq!(cases::documents_are_scored_in_their_places(&subject).await, Support::No);
    }
}

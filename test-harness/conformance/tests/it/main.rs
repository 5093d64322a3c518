//! Every case against every dialect of engine-sim, and, where one is named, against real servers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use conformance::{Setup, Subject, cases};
use pool_api::{Engine, TritonCustom, TritonFields, TritonModel, TritonSettings};

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

/// One test for each case, so that a failure has a name.
macro_rules! conforms {
    ($dialect:ident, $engine:expr, $flags:expr, [$($case:ident),* $(,)?]) => {
        mod $dialect {
            use super::*;

            fn subject() -> Subject {
                Subject::simulated(&$engine, Setup { flags: &$flags, ..Setup::default() })
            }

            $(
                // OC-ADAPT-5080
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    cases::$case(&subject()).await;
                }
            )*

            // OC-ADAPT-5083
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
        conforms!($dialect, $engine, $flags, [
            $($more,)*
            a_generation_streams_to_its_end,
            a_seed_gives_the_same_answer_again,
            stop_sequences_end_the_text,
            what_only_begins_like_a_stop_sequence_is_said,
            prompts_of_token_ids,
            token_ids_of_the_answer,
            settings_are_taken_or_refused,
            it_says_what_it_is,
            its_tokenizer_counts_as_it_does,
            messages_go_through_its_template,
            connections_are_kept,
            a_full_context_is_no_length,
            dropping_a_generation_frees_its_slot,
            generations_run_side_by_side,
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

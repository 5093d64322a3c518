//! `/tokenize` and `/detokenize`.

use serde::Deserialize;
use serde_json::json;

use super::answers::{self, Refusal};
use crate::engine::Engine;
use crate::http::Ask;
use crate::numbering;
use crate::template::{self, Message};
use crate::wire::{Gone, Then, Wire};

#[derive(Deserialize)]
struct TokenizeBody {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    #[serde(default = "yes")]
    add_special_tokens: bool,
    #[serde(default)]
    return_token_strs: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn tokenize(engine: &Engine, wire: &mut Wire, ask: &Ask) -> Result<Then, Gone> {
    let parsed = serde_json::from_slice(wire.request_bytes(ask.body.clone()));
    let body: TokenizeBody = match parsed {
        Ok(body) => body,
        Err(error) => return invalid(wire, &error).await,
    };
    let text = match (body.prompt, body.messages) {
        (Some(prompt), _) => prompt,
        (None, messages) => template::apply(&messages.unwrap_or_default()),
    };
    let tokens = numbering::prompt_ids(&text, body.add_special_tokens);
    let strings = body.return_token_strs.then(|| vec!["?"; tokens.len()]);
    let answer = json!({
        "count": tokens.len(),
        "max_model_len": engine.args.slot_context,
        "tokens": tokens,
        "token_strs": strings,
    });
    answers::json(wire, &answer.to_string()).await
}

#[derive(Deserialize)]
struct DetokenizeBody {
    tokens: Vec<u64>,
}

pub(super) async fn detokenize(wire: &mut Wire, ask: &Ask) -> Result<Then, Gone> {
    let parsed = serde_json::from_slice(wire.request_bytes(ask.body.clone()));
    let DetokenizeBody { tokens } = match parsed {
        Ok(body) => body,
        Err(error) => return invalid(wire, &error).await,
    };
    let answer = json!({ "prompt": numbering::text_of(&tokens) });
    answers::json(wire, &answer.to_string()).await
}

async fn invalid(wire: &mut Wire, error: &serde_json::Error) -> Result<Then, Gone> {
    let what = format!("{{'type': 'value_error', 'loc': 'body', 'msg': '{error}'}}");
    answers::refuse(wire, &Refusal::validation(Some("body"), &what)).await
}

//! Which input of a model is what: the protocol says nothing of it, each backend has its own names.

use std::collections::BTreeMap;

/// The names of a model's inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// Input that takes the prompt's text.
    pub prompt: String,
    /// Input, a boolean, that asks for a stream; `None` where every answer is one.
    pub stream: Option<String>,
    pub settings: Settings,
    /// Further inputs, all booleans.
    pub constant: BTreeMap<String, bool>,
    /// Output with the answer's text.
    pub text: String,
    /// Each frame repeats the text before it.
    pub cumulative: bool,
    /// Output that says why the answer ended; `None` where nothing does but the end of the stream.
    pub finish_reason: Option<String>,
    /// Output with the number of the prompt's tokens.
    pub prompt_tokens: Option<String>,
    /// Output with the number of tokens that the frame adds; `None`: one for each frame with text.
    pub output_tokens: Option<String>,
}

/// How a model is told `max_tokens`, `temperature`, `top_p`, `top_k`, `min_p`, `seed`,
/// `repeat_penalty`, `presence_penalty` and `frequency_penalty`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// All in one input, as the text of a JSON object with vLLM's names.
    Json(String),
    /// Each in an input of its own, whose name stands behind ours.
    Inputs(BTreeMap<String, String>),
}

impl Settings {
    /// Whether there is a place for the setting that we call so.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Self::Json(_) => true,
            Self::Inputs(names) => names.contains_key(name),
        }
    }
}

fn inputs(names: &[(&str, &str)]) -> Settings {
    let owned = |(ours, theirs): &(&str, &str)| ((*ours).to_owned(), (*theirs).to_owned());
    Settings::Inputs(names.iter().map(owned).collect())
}

fn constant(names: &[&str]) -> BTreeMap<String, bool> {
    names.iter().map(|it| ((*it).to_owned(), true)).collect()
}

impl Fields {
    /// The vLLM backend (<https://github.com/triton-inference-server/vllm_backend>).
    #[must_use]
    pub fn vllm() -> Self {
        Self {
            prompt: "text_input".into(),
            stream: Some("stream".into()),
            settings: Settings::Json("sampling_parameters".into()),
            constant: constant(&[
                "exclude_input_in_output",
                "return_finish_reason",
                "return_num_input_tokens",
                "return_num_output_tokens",
            ]),
            text: "text_output".into(),
            cumulative: false,
            finish_reason: Some("finish_reason".into()),
            prompt_tokens: Some("num_input_tokens".into()),
            output_tokens: Some("num_output_tokens".into()),
        }
    }

    /// TensorRT-LLM's LLM-API model, whose frames repeat the text so far.
    #[must_use]
    pub fn tensorrtllm() -> Self {
        Self {
            prompt: "text_input".into(),
            stream: Some("streaming".into()),
            settings: inputs(&[
                ("max_tokens", "sampling_param_max_tokens"),
                ("temperature", "sampling_param_temperature"),
                ("top_p", "sampling_param_top_p"),
                ("top_k", "sampling_param_top_k"),
                ("seed", "sampling_param_seed"),
                ("presence_penalty", "sampling_param_presence_penalty"),
                ("frequency_penalty", "sampling_param_frequency_penalty"),
            ]),
            constant: constant(&[
                "sampling_param_exclude_input_from_output",
                "return_finish_reason",
            ]),
            text: "text_output".into(),
            cumulative: true,
            finish_reason: Some("finish_reason".into()),
            prompt_tokens: None,
            output_tokens: None,
        }
    }

    /// TensorRT-LLM's older ensemble of engine files.
    #[must_use]
    pub fn tensorrtllm_ensemble() -> Self {
        Self {
            prompt: "text_input".into(),
            stream: Some("stream".into()),
            settings: inputs(&[
                ("max_tokens", "max_tokens"),
                ("temperature", "temperature"),
                ("top_p", "top_p"),
                ("top_k", "top_k"),
                ("seed", "seed"),
                ("repeat_penalty", "repetition_penalty"),
                ("presence_penalty", "presence_penalty"),
                ("frequency_penalty", "frequency_penalty"),
            ]),
            constant: BTreeMap::new(),
            text: "text_output".into(),
            cumulative: false,
            finish_reason: None,
            prompt_tokens: None,
            output_tokens: None,
        }
    }
}

//! The chat template of the model that every dialect pretends to serve.

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(crate) struct Message {
    role: String,
    content: Value,
}

/// The prompt that `messages` come to.
pub(crate) fn apply(messages: &[Message]) -> String {
    let mut prompt = String::new();
    for Message { role, content } in messages {
        prompt.push_str("<|");
        prompt.push_str(role);
        prompt.push_str("|>");
        push_content(&mut prompt, content);
        prompt.push_str("<|end|>");
    }
    prompt.push_str("<|assistant|>");
    prompt
}

/// A content is a text or a list of parts, of which the texts count.
fn push_content(prompt: &mut String, content: &Value) {
    match content {
        Value::String(text) => prompt.push_str(text),
        Value::Array(parts) => {
            for text in parts.iter().filter_map(|part| part.get("text")?.as_str()) {
                prompt.push_str(text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
}

//! Server-sent events as they stand in a body.

use serde_json::Value;

/// One event. Comments are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<u64>,
    /// `message` where there is no `event:` field.
    pub name: String,
    pub data: Value,
}

/// The events of a whole stream.
///
/// # Errors
/// A line that our daemons never write: they keep to one `data:` line of JSON per event.
pub fn frames(text: &str) -> Result<Vec<Frame>, String> {
    let blocks = text.split_inclusive("\n\n");
    blocks.filter_map(|it| frame(it).transpose()).collect()
}

fn frame(block: &str) -> Result<Option<Frame>, String> {
    let Some(lines) = block.strip_suffix("\n\n") else {
        return Err(format!("the stream breaks off within `{block}`"));
    };
    let (mut id, mut name, mut data) = (None, None, None);
    for line in lines.lines().filter(|it| !it.starts_with(':')) {
        match line.split_once(": ") {
            Some(("id", text)) if id.is_none() => {
                id = Some(text.parse().map_err(|_| format!("`{line}` is no id"))?);
            }
            Some(("event", text)) if name.is_none() => name = Some(text.to_owned()),
            Some(("data", text)) if data.is_none() => {
                data = Some(serde_json::from_str(text).map_err(|it| format!("`{text}`: {it}"))?);
            }
            _ => return Err(format!("`{line}` is no line of an event")),
        }
    }
    match data {
        Some(data) => Ok(Some(Frame { id, name: name.unwrap_or("message".into()), data })),
        None if id.is_none() && name.is_none() => Ok(None),
        None => Err(format!("`{block}` has no data")),
    }
}

#[cfg(test)]
mod tests;

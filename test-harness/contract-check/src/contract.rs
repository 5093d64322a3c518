//! The check itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::closing::close_all;
use crate::document::{Operation, members, operations, resolve};
use crate::{Exchange, Frame, Route, frames};

/// What the router and the guard may answer to a request that fits no operation.
const UNMATCHED: [u16; 6] = [401, 403, 404, 405, 415, 431];

/// A document to hold answers against.
#[derive(Debug)]
pub struct Contract {
    /// As committed.
    document: Value,
    /// Its schemas, closed.
    schemas: Value,
    /// By the text of the schema.
    validators: Mutex<BTreeMap<String, Arc<Validator>>>,
}

impl Contract {
    /// # Panics
    /// If the document has no schemas.
    #[must_use]
    pub fn new(document: Value) -> Self {
        let schemas = document["components"]["schemas"].as_object();
        let mut schemas = schemas.expect("an OpenAPI document with schemas").clone();
        close_all(&mut schemas);
        Self { document, schemas: schemas.into(), validators: Mutex::default() }
    }

    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        operations(&self.document)
    }

    #[must_use]
    pub fn routes(&self) -> BTreeSet<Route> {
        self.operations().map(|it| (it.method.to_owned(), it.path.to_owned())).collect()
    }

    /// What is wrong with an exchange; nothing if it is as documented.
    #[must_use]
    pub fn check(&self, exchange: &Exchange<'_>) -> Vec<String> {
        let findings = match self.find(exchange.method, exchange.target) {
            Some(operation) => self.answer(operation, exchange),
            None => self.unmatched(exchange),
        };
        let shown = format!("{} {} → {}", exchange.method, exchange.target, exchange.status);
        findings.into_iter().map(|it| format!("{shown}: {it}")).collect()
    }

    /// What is wrong with one event of a stream that `method target` opened.
    #[must_use]
    pub fn check_event(&self, method: &str, target: &str, frame: &Frame) -> Vec<String> {
        let Some(operation) = self.find(method, target) else {
            return vec![format!("{method} {target} is not documented")];
        };
        let stream = &operation.value["responses"]["200"]["content"]["text/event-stream"];
        let mut findings = self.event(stream, frame);
        findings.iter_mut().for_each(|it| *it = format!("{method} {target}: {it}"));
        findings
    }

    /// What is wrong with a value under a schema of this document.
    ///
    /// # Panics
    /// If the schema is none.
    #[must_use]
    pub fn validate(&self, schema: &Value, value: &Value) -> Vec<String> {
        let validator = self.validator(schema);
        let errors = validator.iter_errors(value);
        errors.map(|it| format!("at `{}`: {it}", it.instance_path())).collect()
    }

    /// What is wrong with a text of a media type under what is documented for it.
    #[must_use]
    pub fn validate_content(&self, kind: &str, media: &Value, text: &str) -> Vec<String> {
        match kind {
            "text/event-stream" => match frames(text) {
                Ok(frames) => frames.iter().flat_map(|it| self.event(media, it)).collect(),
                Err(problem) => vec![problem],
            },
            "application/json" => match serde_json::from_str(text) {
                Ok(value) => self.validate(&media["schema"], &value),
                Err(error) => vec![format!("the body is no JSON: {error}")],
            },
            _ => self.validate(&media["schema"], &text.into()),
        }
    }

    fn answer(&self, operation: Operation<'_>, exchange: &Exchange<'_>) -> Vec<String> {
        let status = exchange.status.to_string();
        let Some(answer) = operation.value["responses"].get(&status) else {
            return vec!["this status is not documented".into()];
        };
        let answer = resolve(&self.document, answer);
        let mut findings = self.headers(answer, exchange);
        let is_head = exchange.method == "HEAD";
        match (exchange.kind(), answer["content"].as_object()) {
            (None, None) => {
                if exchange.body.is_some_and(|it| !it.is_empty()) {
                    findings.push("a body, where none is documented".into());
                }
            }
            (Some(kind), Some(content)) => match (content.get(kind), exchange.body) {
                (None, _) => findings.push(format!("content type `{kind}` is not documented")),
                (Some(media), Some(body)) if !is_head => {
                    findings.extend(self.validate_content(kind, media, body));
                    findings.extend(undocumented_code(&answer["x-error-codes"], body));
                }
                (Some(_), _) => {}
            },
            (kind, _) => findings.push(format!("content type {kind:?} is not as documented")),
        }
        if exchange.status < 300 {
            let request = &operation.value["requestBody"]["content"]["application/json"];
            if let (Some(text), Some(_)) = (exchange.request, request.get("schema")) {
                let wrong = self.validate_content("application/json", request, text);
                findings.extend(wrong.iter().map(|it| format!("the request was accepted: {it}")));
            }
        }
        findings
    }

    /// An answer of the router or the guard: the envelope, whatever was asked for.
    fn unmatched(&self, exchange: &Exchange<'_>) -> Vec<String> {
        let mut findings = Vec::new();
        if !UNMATCHED.contains(&exchange.status) {
            findings.push("no operation is documented here".into());
        }
        if exchange.header("x-correlation-id").is_none() {
            findings.push("no X-Correlation-Id".into());
        }
        if exchange.status == 405 && exchange.header("allow").is_none() {
            findings.push("no Allow".into());
        }
        let envelope = ["ErrorEnvelope", "ErrorBody"];
        let envelope = envelope.iter().find(|it| self.schemas.get(**it).is_some());
        let schema = json!({"$ref": format!("#/components/schemas/{}", envelope.unwrap_or(&""))});
        if exchange.method == "HEAD" {
            return findings;
        }
        match exchange.kind() {
            Some("application/json") => {
                let body = exchange.body.unwrap_or_default();
                let media = json!({"schema": schema});
                findings.extend(self.validate_content("application/json", &media, body));
            }
            other => findings.push(format!("content type {other:?} is not application/json")),
        }
        findings
    }

    fn headers(&self, answer: &Value, exchange: &Exchange<'_>) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, header) in members(&answer["headers"]) {
            match exchange.header(name) {
                Some(text) => {
                    let number = header["schema"]["type"] == "integer";
                    let number = text.parse::<u64>().ok().filter(|_| number).map(Value::from);
                    let value = number.unwrap_or_else(|| text.into());
                    let wrong = self.validate(&header["schema"], &value);
                    findings.extend(wrong.iter().map(|it| format!("header {name}: {it}")));
                }
                None if header["required"] == true => findings.push(format!("no header {name}")),
                None => {}
            }
        }
        findings
    }

    fn event(&self, stream: &Value, frame: &Frame) -> Vec<String> {
        let Some(schema) = stream["x-sse-events"].get(&frame.name) else {
            return vec![format!("event `{}` is not documented", frame.name)];
        };
        let wrong = self.validate(schema, &frame.data);
        let mut findings: Vec<_> =
            wrong.iter().map(|it| format!("event `{}` {it}", frame.name)).collect();
        if frame.name == "error" {
            findings.extend(undocumented_code(&stream["x-error-codes"], &frame.data.to_string()));
        }
        findings
    }

    /// The operation that a target means; a literal segment beats a parameter.
    fn find(&self, method: &str, target: &str) -> Option<Operation<'_>> {
        let method = if method == "HEAD" { "GET" } else { method };
        let path = target.split('?').next().unwrap_or_default();
        let fits = |it: &Operation<'_>| {
            it.method == method
                && it.path.split('/').count() == path.split('/').count()
                && it.path.split('/').zip(path.split('/')).all(|(pattern, segment)| {
                    pattern == segment || (pattern.starts_with('{') && !segment.is_empty())
                })
        };
        let found = self.operations().filter(fits);
        found.min_by_key(|it| it.path.matches('{').count())
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        // A panic in a test that holds the lock leaves nothing half done.
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let build = || {
            let mut root = schema.clone();
            root["components"] = json!({"schemas": self.schemas});
            let built = jsonschema::draft202012::new(&root);
            Arc::new(built.unwrap_or_else(|error| panic!("{schema} is no schema: {error}")))
        };
        Arc::clone(validators.entry(schema.to_string()).or_insert_with(build))
    }
}

/// A code that is in the table, but not documented for this answer.
fn undocumented_code(documented: &Value, body: &str) -> Option<String> {
    let documented = documented.as_array()?;
    let body: Value = serde_json::from_str(body).ok()?;
    let code = &body["code"];
    (!documented.contains(code)).then(|| format!("code {code} is not documented here"))
}

#[cfg(test)]
mod tests;

//! What a task works on, and what its answer must look like.

use api_types::{ChatMessage, OutputFormat, PromptInput, TaskRequest, Workload};

use super::Findings;

const TEXTS_MAX: usize = 256;
const CONSTRAINT_BYTES_MAX: usize = 1 << 16;

impl Findings {
    /// Fields of later work are refused by name, never ignored.
    pub(super) fn not_yet(&mut self, request: &TaskRequest) {
        const LATER: &str = "nothing: this is not supported yet";
        const NEVER: &str = "nothing: this is not part of version 1";
        self.absent(&request.ctx, "/ctx", LATER);
        self.absent(&request.tools, "/tools", NEVER);
        self.absent(&request.tool_choice, "/tool_choice", NEVER);
        self.absent(&request.logprobs, "/logprobs", NEVER);
        self.absent(&request.n, "/n", NEVER);
        self.absent(&request.images, "/images", NEVER);
        self.absent(&request.audio, "/audio", NEVER);
    }

    /// Each workload has its own input, and no other.
    pub(super) fn input(&mut self, request: &TaskRequest) {
        match request.workload {
            Workload::Completion => {
                const WHY: &str = "nothing beside workload completion";
                self.absent(&request.inputs, "/inputs", WHY);
                self.absent(&request.query, "/query", WHY);
                self.absent(&request.documents, "/documents", WHY);
                self.prompt(request);
            }
            Workload::Embedding => {
                self.no_answer(request);
                self.absent(&request.query, "/query", "nothing beside workload embedding");
                self.absent(&request.documents, "/documents", "nothing beside workload embedding");
                self.list(request.inputs.as_deref(), "/inputs");
            }
            Workload::Rerank => {
                self.no_answer(request);
                self.absent(&request.inputs, "/inputs", "nothing beside workload rerank");
                let query = request.query.as_deref().unwrap_or_default();
                self.check(!query.is_empty(), "/query", "nothing", "what is asked");
                self.list(request.documents.as_deref(), "/documents");
            }
        }
    }

    fn prompt(&mut self, request: &TaskRequest) {
        const ONE: &str = "exactly one of `prompt` and `messages`";
        match (&request.prompt, &request.messages) {
            (Some(_), Some(_)) => self.check(false, "", "`prompt` and `messages`", ONE),
            (None, None) => self.check(false, "", "neither `prompt` nor `messages`", ONE),
            (Some(PromptInput::TokenIds(ids)), None) => {
                self.check(!ids.is_empty(), "/prompt", "no token ids", "at least one token id");
            }
            (Some(PromptInput::Text(_)), None) => {}
            (None, Some(messages)) => self.messages(messages),
        }
    }

    fn messages(&mut self, messages: &[ChatMessage]) {
        self.check(!messages.is_empty(), "/messages", "none", "at least one message");
        for (index, message) in messages.iter().enumerate() {
            self.check(
                ["system", "user", "assistant"].contains(&message.role.as_str()),
                &format!("/messages/{index}/role"),
                &message.role,
                "system, user or assistant",
            );
        }
    }

    /// Vectors and scores are no text.
    fn no_answer(&mut self, request: &TaskRequest) {
        let why = format!("nothing: workload {} generates no text", request.workload.as_str());
        self.absent(&request.prompt, "/prompt", &why);
        self.absent(&request.messages, "/messages", &why);
        self.absent(&request.max_tokens, "/max_tokens", &why);
        self.absent(&request.expected_tokens, "/expected_tokens", &why);
        self.absent(&request.sampling, "/sampling", &why);
        self.absent(&request.stop, "/stop", &why);
        self.absent(&request.output, "/output", &why);
        self.check(!request.return_token_ids, "/return_token_ids", true, &why);
    }

    fn list(&mut self, texts: Option<&[String]>, pointer: &str) {
        let texts = texts.unwrap_or_default();
        let found = format!("{} texts", texts.len());
        self.check((1..=TEXTS_MAX).contains(&texts.len()), pointer, found, "1 to 256 texts");
        for (index, text) in texts.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            self.check(!text.is_empty(), &pointer, "an empty text", "a text");
        }
    }

    /// A schema goes with JSON, a grammar with text.
    pub(super) fn output(&mut self, request: &TaskRequest) {
        let Some(output) = &request.output else { return };
        let json = output.format == OutputFormat::Json;
        if let Some(schema) = &output.json_schema {
            self.check(json, "/output/format", "text", "json, beside `json_schema`");
            let found = match schema.as_object() {
                Some(_) => schema.to_string().len(),
                None => usize::MAX,
            };
            let holds = found <= CONSTRAINT_BYTES_MAX;
            let told =
                if schema.is_object() { format!("{found} bytes") } else { "no object".into() };
            self.check(holds, "/output/json_schema", told, "an object of at most 65536 bytes");
        }
        if let Some(grammar) = &output.grammar {
            self.check(!json, "/output/format", "json", "text, beside `grammar`");
            let holds = (1..=CONSTRAINT_BYTES_MAX).contains(&grammar.len());
            let found = format!("{} bytes", grammar.len());
            self.check(holds, "/output/grammar", found, "1 to 65536 bytes");
        }
    }
}

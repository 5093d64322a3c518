//! The sabotages, and the gates that must catch them.

/// One small harm to the project.
pub(super) struct Sabotage {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// Stands exactly once in the file.
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) gate: Gate,
}

#[derive(Clone, Copy)]
pub(super) enum Gate {
    Tidy,
    Regen,
    Configuration,
    Http,
    Metrics,
}

impl Gate {
    pub(super) const ALL: [Self; 5] =
        [Self::Tidy, Self::Regen, Self::Configuration, Self::Http, Self::Metrics];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tidy => "cargo xtask tidy",
            Self::Regen => "cargo xtask regen --check (code)",
            Self::Configuration => "tests of config-schema",
            Self::Http => "HTTP tests of orchestratord",
            Self::Metrics => "scrape tests of orchestratord",
        }
    }

    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Tidy => &["run", "--quiet", "--package", "xtask", "--", "tidy"],
            Self::Regen => &["run", "--quiet", "--package", "regen", "--", "--check"],
            Self::Configuration => &["test", "--quiet", "--package", "config-schema"],
            Self::Http => &[
                "test",
                "--quiet",
                "--package",
                "orchestratord",
                "--lib",
                "--test",
                "it",
                "--",
                "admission",
                "errors",
                "contract",
                "openapi",
            ],
            Self::Metrics => {
                &["test", "--quiet", "--package", "orchestratord", "--test", "it", "--", "metrics"]
            }
        }
    }
}

pub(super) const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "drop a header",
        file: "orchestratord/src/api/front.rs",
        from: "    response.headers_mut().insert(CORRELATION_HEADER, value);\n",
        to: "    drop((value, CORRELATION_HEADER));\n",
        gate: Gate::Http,
    },
    Sabotage {
        name: "rename a field",
        file: "contracts/api-types/src/task.rs",
        from: "    pub backoff_ms: u64,\n",
        to: "    #[serde(rename = \"backoff\")]\n    pub backoff_ms: u64,\n",
        gate: Gate::Http,
    },
    Sabotage {
        name: "200 for 202",
        file: "orchestratord/src/api/tasks.rs",
        from: "(StatusCode::ACCEPTED, Json(&admission))",
        to: "(StatusCode::OK, Json(&admission))",
        gate: Gate::Http,
    },
    Sabotage {
        name: "undocumented route",
        file: "orchestratord/src/api.rs",
        from: "        .route(\"/healthz\", get(system::healthz))\n",
        to: "        .route(\"/healthz\", get(system::healthz))\n        .route(\"/v1/secret\", \
             get(system::healthz))\n",
        gate: Gate::Http,
    },
    Sabotage {
        name: "unknown metric label",
        file: "contracts/metrics/src/declared.rs",
        from: "        labels: &[\"engine\", \"policy\"],\n",
        to: "        labels: &[\"engine\", \"version\"],\n",
        gate: Gate::Metrics,
    },
    Sabotage {
        name: "counter moved on scrape",
        file: "orchestratord/src/telemetry.rs",
        from: "        self.exposition.render()\n",
        to: "        self.enqueued.with(&[\"llamacpp\", \"batch\"]).inc();\n        \
             self.exposition.render()\n",
        gate: Gate::Metrics,
    },
    Sabotage {
        name: "duplicate id",
        file: ".specs/control.md",
        from: "# HTTP contract\n",
        to: "# HTTP contract\n\n- **OC-CTRL-2010** (MUST) Something else holds.\n",
        gate: Gate::Tidy,
    },
    Sabotage {
        name: "look-alike hyphen",
        file: ".specs/control.md",
        from: "**OC-CTRL-2010**",
        to: "**OC\u{2011}CTRL-2010**",
        gate: Gate::Tidy,
    },
    Sabotage {
        name: "unknown config field accepted",
        file: "contracts/config-schema/src/document.rs",
        from: "#[serde(deny_unknown_fields, default)]\npub struct QueueDoc {",
        to: "#[serde(default)]\npub struct QueueDoc {",
        gate: Gate::Configuration,
    },
    Sabotage {
        name: "stale generated file",
        file: "contracts/schemas/config.schema.json",
        from: "\"title\": \"Configuration of llama-orch\"",
        to: "\"title\": \"Configuration\"",
        gate: Gate::Regen,
    },
];

//! What can be said of engines and of samplers.

use expect_test::expect;

// OC-CONFIG-6003
#[test]
fn an_engine_is_told_what_it_can_be_told() {
    let told = |pool: &str| {
        let text = format!("pool_manager:\n  pools:\n  - {pool}");
        let error = config_schema::parse(&text).unwrap_err();
        let problems = error.problems.iter().map(|it| format!("{}: {}", it.pointer, it.expected));
        problems.collect::<Vec<_>>().join("\n").replace("/pool_manager/pools/0", "")
    };
    let external = "external: {url: 'http://127.0.0.1:1'}";
    expect![[r#"
        /slots: a number: an external vllm server does not say its own"#]]
    .assert_eq(&told(&format!("{{id: a, engine: vllm, model: {{id: m}}, {external}}}")));
    expect![[r#"
        /model/context_tokens: a number: an external triton server does not say its own
        /slots: a number: an external triton server does not say its own
        /triton: the model in the server's repository: `triton: {model: …}`"#]]
    .assert_eq(&told(&format!("{{id: a, engine: triton, model: {{id: m}}, {external}}}")));
    expect![[r#"
        /model/workload: completion, or engine llamacpp or vllm
        /split: it beside engine llamacpp only: the others divide a model evenly
        /triton: it beside engine triton only"#]]
    .assert_eq(&told(
        "{id: a, engine: tgi, split: [1], triton: {model: m}, model: {id: m, path: p, workload: rerank}}",
    ));
    let triton = "id: a, engine: triton, model: {id: m, path: p}, triton: {model: m";
    expect![[r#"
        /triton/custom: the names, beside `fields: custom`"#]]
    .assert_eq(&told(&format!("{{{triton}, fields: custom}}}}")));
    expect![[r#"
        /triton/custom: `custom` beside `fields: custom` only"#]]
    .assert_eq(&told(&format!("{{{triton}, custom: {{prompt: a, text: b}}}}}}")));
    expect![[r#"
        /triton/custom/inputs/temprature: a setting: max_tokens, temperature, top_p, top_k, min_p, seed, repeat_penalty, presence_penalty, frequency_penalty
        /triton/custom/json_input: one of `inputs` and `json_input`"#]]
    .assert_eq(&told(&format!(
        "{{{triton}, fields: custom, custom: {{prompt: a, text: b, json_input: c, inputs: {{temprature: t}}}}}}}}"
    )));
}

// OC-CONFIG-6003
#[test]
fn what_a_profile_means_is_said_once() {
    let text = "sampler_profiles: [{id: v1}, {id: a, top_p: 0}, {id: a}]";
    let error = config_schema::parse(text).unwrap_err();
    let pointers: Vec<&str> = error.problems.iter().map(|it| it.pointer.as_str()).collect();
    let expected =
        ["/sampler_profiles/0/id", "/sampler_profiles/1/top_p", "/sampler_profiles/2/id"];
    assert_eq!(pointers, expected);
}

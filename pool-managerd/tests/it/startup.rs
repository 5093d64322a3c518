//! What is said, and with which exit code, before anything runs.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use crate::rig::{Pid, Place, program, wait_until};

/// Exit code and stderr of a daemon that must end by itself.
fn run(arguments: &[&str], config: Option<&Path>) -> (i32, String) {
    let mut command = program();
    command.args(arguments).stderr(Stdio::piped());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let child = command.spawn().unwrap();
    // Fails where waiting for the output of a daemon that serves would never end.
    Pid::from_child(&child).wait_gone("the daemon");
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

// OC-CONFIG-6001
#[test]
fn a_bad_configuration_is_told_whole_before_a_port_is_opened() {
    let place = Place::new();
    // A daemon that came as far as its port would complain about the port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = place.write(
        "bad.yaml",
        &format!(
            "pool_manager:\n  bind: ['{}']\n  pools:\n    - {{id: 'a b', engine: llamacpp, model: \
             {{id: m, path: x}}}}\n    - {{id: q, engine: llamacpp, slots: 0, model: {{id: m, \
             path: x}}}}\n",
            taken.local_addr().unwrap()
        ),
    );
    let (code, said) = run(&[], Some(&config));
    assert_eq!(code, 64, "{said}");
    let problems: Vec<&str> =
        said.lines().filter_map(|it| Some(it.split_once("bad.yaml:")?.1)).collect();
    let [id, slots] = problems[..] else { panic!("{said}") };
    assert!(id.starts_with("4: /pool_manager/pools/0/id: found \"a b\", expected an id"), "{said}");
    assert!(slots.starts_with("5: /pool_manager/pools/1/slots: found 0, expected"), "{said}");
    assert_eq!(run(&["--check-config"], Some(&config)), (64, said));
}

#[test]
fn a_configuration_that_cannot_be_read_is_one_sentence() {
    let (code, said) = run(&[], Some(Path::new("/nonexistent/config.yaml")));
    assert_eq!(code, 64);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("/nonexistent/config.yaml"), "{said}");
}

#[test]
fn no_configuration_is_told_how_to_give_one() {
    let (code, said) = run(&[], None);
    assert_eq!(code, 64);
    assert!(said.contains("--config FILE"), "{said}");
}

// OC-CTRL-2040
#[test]
fn a_token_that_can_be_guessed_is_refused() {
    let place = Place::new();
    let token = place.write("token", "  \n");
    let config = place.config(&format!("  token_file: '{}'\n", token.display()), "");
    let (code, said) = run(&[], Some(&config));
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("token"), "{said}");
}

#[test]
fn a_taken_port_is_one_sentence_that_names_it() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "pool_manager:\n  bind: ['{address}']\n  data_dir: '{}'\n",
        place.path("data").display()
    );
    let (code, said) = run(&[], Some(&place.write("taken.yaml", &text)));
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("{address} is already in use")), "{said}");
}

#[test]
fn checking_a_configuration_starts_nothing() {
    let place = Place::new();
    let config = place.config(&place.pool(""), "");
    let mut command = program();
    command.stdout(Stdio::piped()).arg("--check-config").arg("--config").arg(config);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"configuration is valid\n");
    assert!(output.stderr.is_empty());
    assert!(!place.path("data").exists());
}

#[test]
fn the_version_is_told() {
    let output = program().arg("--version").stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, concat!("pool-managerd ", env!("CARGO_PKG_VERSION"), "\n"));
}

// OC-CONFIG-6003, OC-POOL-3007
#[test]
fn pinned_models_that_do_not_fit_together_are_refused_before_a_port_is_opened() {
    let place = Place::new();
    let engine = engine_sim::binary_path().unwrap().display();
    let model = place.model().display().to_string();
    let manager = |residency: &str, path: &str| {
        format!(
            "  devices: [{{id: d, kind: cpu, memory_mib: 50}}]\n  pools:\n  - {{id: a, engine: llamacpp, \
             bin: '{engine}', model: {{id: a, path: '{model}'}}}}\n  - {{id: b, engine: llamacpp, bin: \
             '{engine}', residency: {residency}, model: {{id: b, path: '{path}'}}}}\n"
        )
    };
    let check = |manager: &str| run(&["--check-config"], Some(&place.config(manager, "")));
    let (code, said) = check(&manager("pinned", &model));
    assert_eq!(code, 64, "{said}");
    assert_eq!(
        said.split_once("config.yaml:").unwrap().1.trim(),
        "/pool_manager/pools/1/model/path: found a model of about 33 MiB, with 17 MiB of `d` left by \
         the pinned models before it, expected pinned models that fit together; did you mean \
         `residency: on_demand`?"
    );
    assert_eq!(check(&manager("on_demand", &model)).0, 0);
    // What cannot be read is the replica's to tell.
    assert_eq!(check(&manager("pinned", "/nowhere")).0, 0);
}

// OC-POOL-3007, ORCH-3020
#[test]
fn a_draft_model_counts_with_the_model_that_it_drafts_for() {
    const DRAFT_MIB: u64 = 10;
    let place = Place::new();
    let draft = place.path("draft.gguf");
    std::fs::copy(place.model(), &draft).unwrap();
    std::fs::File::options().write(true).open(&draft).unwrap().set_len(DRAFT_MIB << 20).unwrap();
    let engine = engine_sim::binary_path().unwrap().display();
    let model = place.model().display().to_string();
    let manager = |flags: &str| {
        let pool = |id: &str, flags: &str| {
            format!(
                "  - {{id: {id}, engine: llamacpp, bin: '{engine}', flags: [{flags}], model: {{id: \
                 {id}, path: '{model}'}}}}\n"
            )
        };
        let devices = "  devices: [{id: d, kind: cpu, memory_mib: 70}]\n  pools:\n";
        format!("{devices}{}{}", pool("a", ""), pool("b", flags))
    };
    let flags = format!("'--model-draft', '{}'", draft.display());
    let check = |flags: &str| run(&["--check-config"], Some(&place.config(&manager(flags), "")));
    assert_eq!(check("").0, 0);
    let (code, said) = check(&flags);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("a model of about 43 MiB, with 37 MiB of `d` left"), "{said}");
    // And where it runs.
    let daemon = place.start(&manager(&flags).replace("memory_mib: 70", "memory_mib: 90"));
    let needs = |pool: usize| -> u64 {
        let memory = daemon.pools()[pool].replicas[0].memory.clone();
        memory.iter().map(|it| it.bytes).sum()
    };
    wait_until("both are known", || 0 < needs(0).min(needs(1)));
    assert_eq!(needs(1) - needs(0), DRAFT_MIB << 20);
}

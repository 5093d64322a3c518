//! The program as an operator starts it: wrong files, taken ports, signals.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

fn start(config: &str, flags: &[&str]) -> Output {
    let file = std::env::temp_dir().join(format!("orchestratord-{}.yaml", uuid::Uuid::new_v4()));
    std::fs::write(&file, config).unwrap();
    let output = command().arg("--config").arg(&file).args(flags).output().unwrap();
    std::fs::remove_file(file).unwrap();
    output
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_orchestratord"))
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

// ORCH-3030 OC-CONFIG-6001
#[test]
fn bad_configuration_exits_64_with_every_problem_before_a_port_opens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bad = format!(
        "bind: ['{free}', '0.0.0.0:1']\nqueue: {{capcity: 0}}\ndrain: 5\nlog: {{level: loud}}\n"
    );
    for flags in [&[][..], &["--check-config"]] {
        let output = start(&bad, flags);
        assert_eq!(output.status.code(), Some(64));
        assert!(output.stdout.is_empty());
        let said = said(&output);
        let problems: Vec<&str> =
            said.lines().filter_map(|it| Some(it.split_once(".yaml:")?.1)).collect();
        let [bind, capacity, drain, level] = problems[..] else { panic!("{said}") };
        assert!(bind.starts_with("1: /bind/1: found 0.0.0.0:1 (which other machines"), "{said}");
        assert!(capacity.starts_with("2: /queue/capcity: found key `capcity`"), "{said}");
        assert!(capacity.ends_with("; did you mean `capacity`?"), "{said}");
        assert!(drain.starts_with("3: /drain: found key `drain`, expected one of"), "{said}");
        assert!(level.starts_with("4: /log/level: found \"loud\", expected a log"), "{said}");
        assert!(TcpStream::connect(free).is_err());
    }
}

#[test]
fn a_configuration_that_cannot_be_read_exits_64() {
    let missing = command().args(["--config", "/nonexistent.yaml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(64));
    let sentence = "cannot read the configuration `/nonexistent.yaml`: No such file or directory";
    assert!(said(&missing).starts_with(sentence), "{}", said(&missing));
    assert_eq!(said(&missing).lines().count(), 1);
}

// OC-CTRL-2081
#[test]
fn an_address_that_others_reach_is_refused_without_a_key() {
    let output = start("bind: ['0.0.0.0:0']", &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("which other machines can reach"), "{}", said(&output));
}

#[test]
fn a_configuration_can_be_checked_without_serving() {
    // A daemon that came as far as its port would complain about the port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = format!("bind: ['{}']", taken.local_addr().unwrap());
    let output = start(&good, &["--check-config"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"configuration is valid\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_taken_port_is_one_sentence_with_the_fix() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let output = start(&format!("bind: ['{address}']\njournal: {{durability: memory}}"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("{address} is already in use")), "{said}");
}

// OC-CTRL-2082
#[test]
fn a_signal_stops_the_daemon_in_order() {
    let config = std::env::temp_dir().join(format!("orchestratord-{}.yaml", uuid::Uuid::new_v4()));
    std::fs::write(&config, "bind: ['127.0.0.1:0']\njournal: {durability: memory}").unwrap();
    let mut daemon = command().arg("--config").arg(&config).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
    let serving = lines.next().unwrap().unwrap();
    assert!(serving.contains(r#""message":"serving""#), "{serving}");
    let killed = Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    let last = lines.map_while(Result::ok).last().unwrap();
    assert!(last.contains(r#""message":"stopped""#), "{last}");
    std::fs::remove_file(config).unwrap();
}

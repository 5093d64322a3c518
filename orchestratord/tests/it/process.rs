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

#[test]
fn bad_configuration_exits_64_with_every_problem_before_a_port_opens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = start(&format!("bind: ['{free}']\nqueue: {{capacity: 0}}\ndrain: 5"), &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("/drain: unknown field"), "{}", said(&output));
    let output =
        start(&format!("bind: ['{free}']\nqueue: {{capacity: 0}}\nwatchdog: {{idle_ms: 0}}"), &[]);
    assert_eq!(output.status.code(), Some(64));
    for problem in ["/queue/capacity: 0 is too small", "/watchdog/idle_ms: 0 is too small"] {
        assert!(said(&output).contains(problem), "{}", said(&output));
    }
    assert!(TcpStream::connect(free).is_err());
    let missing = command().args(["--config", "/nonexistent.yaml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(64));
    assert!(said(&missing).contains("cannot read the configuration `/nonexistent.yaml`"));
}

// OC-CTRL-2081
#[test]
fn an_address_that_others_reach_is_refused_without_a_key() {
    let output = start("bind: ['0.0.0.0:0']", &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("can be reached from other machines"), "{}", said(&output));
}

#[test]
fn a_configuration_can_be_checked_without_serving() {
    assert_eq!(start("profile: team", &["--check-config"]).status.code(), Some(0));
    assert_eq!(start("profile: castle", &["--check-config"]).status.code(), Some(64));
}

#[test]
fn a_taken_port_is_one_sentence_with_the_fix() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let output = start(&format!("bind: ['{address}']"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("{address} is already in use")), "{said}");
}

// OC-CTRL-2082
#[test]
fn a_signal_stops_the_daemon_in_order() {
    let config = std::env::temp_dir().join(format!("orchestratord-{}.yaml", uuid::Uuid::new_v4()));
    std::fs::write(&config, "bind: ['127.0.0.1:0']").unwrap();
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

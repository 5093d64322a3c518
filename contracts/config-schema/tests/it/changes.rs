//! What is told of a changed document.

use config_schema::changes;
use expect_test::expect;

fn told(before: &str, after: &str) -> String {
    changes(before, after).iter().map(|it| format!("{it}\n")).collect()
}

// ORCH-3031
#[test]
fn each_value_that_differs_is_told_and_no_secret() {
    let before = "log: {level: info}\npool_manager:\n  pools:\n  - {id: a, slots: 1, env: {A: secret}}\n  \
                  - {id: b}\n";
    let after = "# A comment.\npool_manager:\n  pools:\n  - {slots: 2, id: a, env: {A: other}}\n";
    expect![[r#"
        /log: a section → nothing
        /pool_manager/pools/0/env/A: a text of 6 characters → a text of 5 characters
        /pool_manager/pools/0/slots: 1 → 2
        /pool_manager/pools/1: a section → nothing
    "#]]
    .assert_eq(&told(before, after));
    assert_eq!(told(before, before), "");
    let reordered = "a: 1\nb: 2";
    assert_eq!(told(reordered, "b: 2\n\n# nothing\na: 1"), "");
}

//! Files as they lie about: absent, not text, too long; and those that this project ships.

use std::path::Path;

use config_schema::load;

fn told(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, bytes).unwrap();
    let error = load(&file).expect_err("the file is wrong").to_string();
    error.replace(&folder.path().display().to_string(), "")
}

#[test]
fn problems_are_listed_as_compilers_list_them() {
    assert_eq!(
        told(b"queue:\n  capcity: 1\ndrain_ms: soon\n"),
        "/config.yaml:2: /queue/capcity: found key `capcity`, expected one of capacity, \
         full_policy, interactive_headroom_slots, unready_wait_ms; did you mean `capacity`?\n\
         /config.yaml:3: /drain_ms: found \"soon\", expected a whole number from 0 to 1099511627776"
    );
}

#[test]
fn a_file_that_is_no_text_is_one_problem() {
    let utf8 = "/config.yaml:2: found a byte that is not UTF-8, expected UTF-8 text";
    assert_eq!(told(b"# \xc3\xa4\ndrain_ms: \xff"), utf8);
    assert_eq!(
        told(&vec![b'#'; 10 << 20]),
        "/config.yaml: found a longer file, expected at most 1048576 bytes"
    );
    assert_eq!(told(&[0; 100]).lines().count(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    for path in ["/nonexistent/config.yaml", "/"] {
        let error = load(Path::new(path)).expect_err("it cannot be read");
        assert_eq!(error.to_string(), format!("cannot read the configuration `{path}`"));
        assert!(std::error::Error::source(&error).is_some());
    }
}

// OC-CONFIG-6002
#[test]
fn every_example_validates() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    for (folder, up) in [(folder.clone(), "../"), (folder.join("engines"), "../../")] {
        let mut checked = 0;
        for file in std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()) {
            if file.is_dir() {
                continue;
            }
            load(&file).unwrap_or_else(|it| panic!("{it}"));
            let text = std::fs::read_to_string(&file).unwrap();
            let schema = format!(
                "# yaml-language-server: $schema={up}contracts/schemas/config.schema.json\n"
            );
            assert!(text.starts_with(&schema), "{} does not name its schema", file.display());
            checked += 1;
        }
        assert!(checked > 0);
    }
}

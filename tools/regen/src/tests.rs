//! What is committed is what the code says.

use crate::{GENERATED, run};

// ORCH-3044
#[test]
fn every_generated_file_is_fresh() {
    assert_eq!(run(true).unwrap(), 0, "run `cargo xtask regen`");
}

#[test]
fn the_same_code_gives_the_same_bytes() {
    for (path, generate) in GENERATED {
        assert_eq!(generate(), generate(), "{path}");
    }
}

//! `cargo xtask validate-config FILE`.

use std::path::Path;
use std::process::ExitCode;

/// `EX_USAGE` of sysexits(3), as the daemons exit.
const BAD_CONFIG: u8 = 64;

pub(crate) fn run(file: &Path) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("cannot read `{}`: {error}", file.display());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match config_schema::parse(&text) {
        Ok(_) => {
            println!("{} is valid", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            for problem in error.problems {
                eprintln!("{}: {problem}", file.display());
            }
            ExitCode::from(BAD_CONFIG)
        }
    }
}

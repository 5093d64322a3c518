//! `cargo xtask validate-config FILE...`.

use std::path::PathBuf;
use std::process::ExitCode;

/// `EX_USAGE` of sysexits(3), as the daemons exit.
const BAD_CONFIG: u8 = 64;

/// Checks every file, whatever is wrong with those before it.
pub(crate) fn run(files: &[PathBuf]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        match config_schema::load(file) {
            Ok(_) => println!("{}: configuration is valid", file.display()),
            Err(error) => {
                eprintln!("{:#}", anyhow::Error::new(error));
                code = ExitCode::from(BAD_CONFIG);
            }
        }
    }
    code
}

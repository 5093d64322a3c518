//! Text or a file in, [`Config`] or every problem out.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::config::Config;
use crate::document::Document;
use crate::problem::{ConfigError, LoadError, Problem};
use crate::{check, schema, structure, tree};

/// Larger files are mistakes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and checks a file.
///
/// # Errors
/// Says which file cannot be read, or every problem in it.
pub fn load(file: &Path) -> Result<Config, LoadError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|it| it.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| LoadError::Read { file: file.into(), source })?;
    let config =
        text(&bytes).map_err(|problem| ConfigError { problems: vec![problem] }).and_then(parse);
    config.map_err(|error| LoadError::Invalid { file: file.into(), problems: error.problems })
}

fn text(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let expected = format!("at most {FILE_BYTES_MAX} bytes");
        return Err(Problem::of_document(None, "a longer file", expected));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().fold(1, |line, it| line + u64::from(*it == b'\n'));
        Problem::of_document(Some(line), "a byte that is not UTF-8", "UTF-8 text")
    })
}

/// Parses and checks a YAML document (JSON is YAML too).
///
/// # Errors
/// What is no YAML is reported alone; of anything else, every problem is reported at once.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let mut tree = match tree::read(text, &mut problems) {
        Ok(tree) => tree,
        Err(problem) => return Err(ConfigError { problems: vec![problem] }),
    };
    structure::check(&schema::structure(), &mut tree, &mut problems);
    check::check(&tree, &mut problems);
    if problems.is_empty() {
        match serde_path_to_error::deserialize::<_, Document>(&tree.value) {
            Ok(document) => return Ok(Config::resolve(document)),
            // The schema is generated from the same types; this is for what it cannot say.
            Err(error) => problems.push(Problem {
                pointer: pointer(error.path()),
                line: tree.line(&pointer(error.path())),
                found: "a value that cannot be used".into(),
                expected: error.inner().to_string(),
                suggestion: None,
            }),
        }
    }
    problems.sort_by(|a, b| (a.line, &a.pointer).cmp(&(b.line, &b.pointer)));
    Err(ConfigError { problems })
}

/// The JSON Pointer (RFC 6901) of where a deserialisation failed.
#[must_use]
pub fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |at, segment| match segment {
        Segment::Seq { index } => tree::join(&at, &index.to_string()),
        Segment::Map { key } => tree::join(&at, key),
        Segment::Enum { variant } => tree::join(&at, variant),
        Segment::Unknown => at,
    })
}

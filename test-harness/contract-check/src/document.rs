//! The committed documents, as they are read.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::Contract;

/// Both planes of orchestratord.
pub static ORCHESTRATORD: LazyLock<Contract> = LazyLock::new(|| {
    let (mut merged, control) = (committed("data"), committed("control"));
    for (section, parts) in [
        ("/paths", &control["paths"]),
        ("/components/schemas", &control["components"]["schemas"]),
        ("/components/responses", &control["components"]["responses"]),
    ] {
        let into = merged.pointer_mut(section).and_then(Value::as_object_mut);
        let into = into.expect("the document of the data plane has this section");
        for (name, part) in parts.as_object().into_iter().flatten() {
            let known = into.insert(name.clone(), part.clone());
            let same = known.as_ref().is_none_or(|it| it == part);
            assert!(same, "{section}/{name} differs between data.yaml and control.yaml");
        }
    }
    Contract::new(merged)
});

pub static POOL_MANAGERD: LazyLock<Contract> = LazyLock::new(|| Contract::new(committed("pool")));

/// The document `contracts/openapi/{name}.yaml`.
///
/// # Panics
/// If it is missing or no YAML.
#[must_use]
pub fn committed(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/openapi");
    let path = folder.join(name).with_extension("yaml");
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    pub path: &'a str,
    /// In capitals.
    pub method: &'a str,
    pub value: &'a Value,
}

const METHODS: [(&str, &str); 5] =
    [("get", "GET"), ("put", "PUT"), ("post", "POST"), ("delete", "DELETE"), ("patch", "PATCH")];

/// Every operation of a document.
pub(crate) fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |(key, method)| {
            Some(Operation { path, method, value: item.get(key)? })
        })
    })
}

/// Follows `$ref`, if there is one.
pub(crate) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let found = reference.strip_prefix('#').and_then(|it| document.pointer(it));
    found.unwrap_or_else(|| panic!("`{reference}` points nowhere"))
}

/// The members of an object; none of anything else.
pub(crate) fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE).iter()
}

//! Which routes there are, told by the router and by the document.

use std::collections::BTreeSet;

/// A method, in capitals, and a path with its parameters in braces.
pub type Route = (String, String);

/// The paths of an axum router, out of its `Debug` text, which lists what was really mounted as
/// `RouteId(3): "/v1/tasks"`.
#[must_use]
pub fn mounted_paths(router: &str) -> BTreeSet<String> {
    // What follows are the fallbacks, for whatever was not mounted.
    let mounted = router.split("fallback_router: ").next().unwrap_or_default();
    let entries = mounted.split("RouteId(").filter_map(|it| it.split_once("): \""));
    let of_an_id = |(id, _): &(&str, &str)| id.bytes().all(|it| it.is_ascii_digit());
    let path = |(_, rest): (&str, &str)| rest.split('"').next().map(str::to_owned);
    entries.filter(of_an_id).filter_map(path).collect()
}

/// A target that fits a path: every parameter is `x`.
#[must_use]
pub fn filled(path: &str) -> String {
    let segments = path.split('/').map(|it| if it.starts_with('{') { "x" } else { it });
    segments.collect::<Vec<_>>().join("/")
}

//! Which routes there are, told by the router and by the document.

use std::collections::BTreeSet;

/// A method, in capitals, and a path with its parameters in braces.
pub type Route = (String, String);

/// The paths of an axum router, out of its `Debug` text, which lists what was really mounted.
#[must_use]
pub fn mounted_paths(router: &str) -> BTreeSet<String> {
    // `RouteId(3): "/v1/tasks"`; the routes themselves have no quote there.
    let entries = router.split("RouteId(").skip(1);
    let path = |entry: &str| {
        let text = entry.split_once("): \"")?.1;
        let id_ends = entry.find(')')?;
        // The quote belongs to this id only if nothing stands between.
        (entry.find("): \"")? == id_ends).then(|| text.split('"').next().map(str::to_owned))?
    };
    // Fallbacks are routes of the router's own.
    entries.filter_map(path).filter(|it| !it.contains("__private__axum_fallback")).collect()
}

/// A target that fits a path: every parameter is `x`.
#[must_use]
pub fn filled(path: &str) -> String {
    let segments = path.split('/').map(|it| if it.starts_with('{') { "x" } else { it });
    segments.collect::<Vec<_>>().join("/")
}

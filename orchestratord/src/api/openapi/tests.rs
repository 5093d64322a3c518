//! What the router has mounted is what the committed document has, and the other way round.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use contract_check::{ORCHESTRATORD, filled, mounted_paths};
use http::Request;
use http::header::{ALLOW, HOST};
use http_shell::{Credentials, Guard};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::api::{App, Settings, Shared};
use crate::driver;
use crate::fleet::Directory;
use crate::telemetry::Telemetry;

/// Nothing runs behind it.
fn app() -> App {
    let config = config_schema::parse("").unwrap();
    let telemetry = Arc::new(Telemetry::new());
    let tenants = Arc::new(crate::tenants::Tenants::new(&config));
    let (driver, handle) = driver::build(
        &config,
        Directory::new(Vec::new(), std::iter::empty(), 0),
        Arc::clone(&telemetry),
        (TaskTracker::new(), crate::clock::Clock::start()),
        (Arc::clone(&tenants), None, None),
    );
    App::new(Shared {
        driver: handle,
        fleet: driver.fleet(),
        telemetry,
        guard: Guard::new(&[], &[], Credentials::Open),
        tenants,
        archive: None,
        artifacts: None,
        outbox: None,
        settings: Settings::new(&config),
        sampler_profiles: config.sampler_profiles.clone(),
    })
}

/// The router's own word: its paths from its `Debug` text, their methods from the `Allow` of a refusal.
// OC-CTRL-2080
#[tokio::test]
async fn exactly_the_documented_routes_are_mounted() {
    let router = super::super::router(app());
    let paths = mounted_paths(&format!("{router:?}"));
    assert!(paths.contains("/healthz"), "the router shows its paths in another form: {router:?}");
    let mut mounted = BTreeSet::new();
    for path in paths {
        let request = Request::builder().method("PURGE").uri(filled(&path));
        let request = request.header(HOST, "localhost").body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let allow = answer.headers().get(ALLOW);
        let allow = allow.unwrap_or_else(|| panic!("{path} takes any method")).to_str().unwrap();
        // Every GET takes HEAD too, which no document repeats.
        let methods = allow.split(',').filter(|it| *it != "HEAD");
        mounted.extend(methods.map(|it| (it.to_owned(), path.clone())));
    }
    assert_eq!(mounted, ORCHESTRATORD.routes());
}

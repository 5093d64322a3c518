//! What the router has mounted is what the committed document has, and the other way round.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use contract_check::{POOL_MANAGERD, filled, mounted_paths};
use http::header::{ALLOW, HOST};
use http::{Request, StatusCode};
use http_shell::{Credentials, Guard};
use tower::ServiceExt;

use crate::api::App;
use crate::app;
use crate::engine::Environment;

/// Nothing runs behind it.
fn app() -> App {
    let config = config_schema::parse("pool_manager: {data_dir: /nowhere}").unwrap();
    App {
        site: Arc::new(app::site(config.pool_manager, Environment::new()).0),
        guard: Arc::new(Guard::new(&[], &[], Credentials::Open)),
    }
}

/// The router's own word: its paths from its `Debug` text, their methods from the `Allow` of a 405.
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
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path} takes any method");
        let allow = answer.headers()[ALLOW].to_str().unwrap();
        // Every GET takes HEAD too, which no document repeats.
        let methods = allow.split(',').filter(|it| *it != "HEAD");
        mounted.extend(methods.map(|it| (it.to_owned(), path.clone())));
    }
    assert_eq!(mounted, POOL_MANAGERD.routes());
}

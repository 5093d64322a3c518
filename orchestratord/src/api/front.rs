//! What every request passes: correlation id, head size, guard; and every error leaves through.

use api_types::ErrorCode;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_shell::{CORRELATION_HEADER, Refusal, correlation_id};

use super::App;
use super::error::ApiError;
use crate::tenants::Tenant;

/// The request's id, for handlers that log or pass it on.
#[derive(Clone)]
pub(super) struct CorrelationId(pub(super) String);

pub(super) async fn front(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = correlation_id(request.headers());
    let mut response = match admit(&app, &request) {
        Ok(tenant) => {
            request.extensions_mut().insert(tenant);
            request.extensions_mut().insert(CorrelationId(id.clone()));
            let mut response = next.run(request).await;
            match response.extensions_mut().remove::<ApiError>() {
                Some(error) => render(error, &id, &response),
                None => response,
            }
        }
        Err(error) => error.render(&id),
    };
    let value = HeaderValue::try_from(id).expect("a correlation id is plain ASCII");
    response.headers_mut().insert(CORRELATION_HEADER, value);
    response
}

/// The error as an answer, with the one header that the router gives to refusals.
fn render(error: ApiError, id: &str, refused: &Response) -> Response {
    let mut response = error.render(id);
    if let Some(methods) = refused.headers().get(ALLOW) {
        response.headers_mut().insert(ALLOW, methods.clone());
    }
    response
}

/// Whose request it is.
fn admit(app: &App, request: &Request) -> Result<Tenant, ApiError> {
    let size = head_bytes(request.uri(), request.headers());
    let limit = app.settings.header_bytes;
    if limit < size {
        let message = format!("the request head has {size} bytes, expected at most {limit}");
        return Err(ApiError::new(ErrorCode::HeadersTooLarge, message));
    }
    match app.guard.check(request.method(), request.uri(), request.headers()) {
        Ok(caller) => Ok(app.tenants.of(&caller).clone()),
        Err(refusal) => Err(refused(&refusal)),
    }
}

/// As on the wire: `name: value` and a line end each, after the request line.
fn head_bytes(uri: &Uri, headers: &HeaderMap) -> usize {
    let target = uri.path_and_query().map_or(0, |it| it.as_str().len());
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    target + fields.sum::<usize>()
}

fn refused(refusal: &Refusal) -> ApiError {
    let code = match refusal {
        Refusal::ForeignHost { .. } | Refusal::ForeignOrigin { .. } => ErrorCode::Forbidden,
        Refusal::UnsupportedMediaType { .. } => ErrorCode::UnsupportedMediaType,
        Refusal::Unauthenticated => ErrorCode::Unauthenticated,
    };
    ApiError::new(code, refusal.to_string())
}

pub(super) async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(ErrorCode::MethodNotAllowed, message)
}

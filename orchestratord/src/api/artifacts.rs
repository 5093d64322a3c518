//! `POST /v1/artifacts`, `GET /v1/artifacts/{id}`.

use api_types::{Artifact, ArtifactRequest, Detail, ErrorCode, MediaType};
use artifact_store::BlobId;
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::value::{RawValue, to_raw_value};

use super::App;
use super::error::ApiError;
use super::extract::Id;
use super::tasks::read;
use crate::admission::{Refusal, parse};
use crate::artifacts::{Artifacts, Draft, Facts, KeepError, Kept};
use crate::tenants::Tenant;

const TAGS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 256;
const PARENTS_MAX: usize = 16;
const AN_ID: &str = "`sha256:` and 64 lower-case hex digits";

/// Stores a document. Its id is the digest of its content: where the tenant has that content already,
/// nothing is stored, and kind, tags and parents stay as they are; its time to live begins anew.
#[utoipa::path(
    post, path = "/v1/artifacts", operation_id = "store_artifact", tag = "data",
    request_body = ArtifactRequest,
    responses(
        (status = 201, description = "It is stored.", body = Artifact),
        (status = 200, description = "It was there; what is told of it.", body = Artifact),
    ),
    extensions(("x-req-id" = json!(["ORCH-3097", "ORCH-3098", "OC-CTRL-2065"]))),
)]
pub(super) async fn store(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    body: Body,
) -> Result<Response, ApiError> {
    let body = read(&app, body).await?;
    let draft = draft(parse(&body)?)?;
    drop(body);
    let kept = app.artifacts()?.keep(&tenant, draft).await.map_err(refused)?;
    let Kept { id, facts, is_new } = kept;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("/v1/artifacts/{id}")).expect("a path of hex");
    let headers = [(LOCATION, location), (ETAG, etag(&id))];
    Ok((status, headers, Json(told(&id, &facts, None))).into_response())
}

/// A document with its content, unless the caller has it.
#[utoipa::path(
    get, path = "/v1/artifacts/{id}", operation_id = "get_artifact", tag = "data",
    params(
        ("id" = String, Path, description = "Its `artifact_id`."),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the caller has, or `*`."),
    ),
    responses(
        (status = 200, description = "The document.", body = Artifact),
        (status = 304, description = "The caller has it."),
    ),
    extensions(("x-req-id" = json!(["ORCH-3097", "ORCH-3098", "OC-CTRL-2066"]))),
)]
pub(super) async fn show(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
    headers: HeaderMap,
    Id(text): Id,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::new(ErrorCode::NotFound, format!("there is no artifact `{text}`"));
    let id: BlobId = text.parse().map_err(|_| unknown())?;
    let artifacts = app.artifacts.as_ref().ok_or_else(unknown)?;
    let facts = artifacts.find(&tenant, &id).ok_or_else(unknown)?;
    // Who may see it is decided anew each time, and by no cache for another caller.
    let private = HeaderValue::from_static("private, no-cache");
    let validators = [(ETAG, etag(&id)), (CACHE_CONTROL, private)];
    if is_known(&headers, &etag(&id)) {
        return Ok((StatusCode::NOT_MODIFIED, validators).into_response());
    }
    let content = match artifacts.read(&tenant, id).await {
        Ok(content) => shown(content, facts.media_type).map_err(|it| unreadable(&id, &it))?,
        // Its time was over between the two looks.
        Err(_) if artifacts.find(&tenant, &id).is_none() => return Err(unknown()),
        Err(error) => return Err(unreadable(&id, &error)),
    };
    Ok((validators, Json(told(&id, &facts, Some(content)))).into_response())
}

impl App {
    fn artifacts(&self) -> Result<&Artifacts, ApiError> {
        self.artifacts.as_ref().ok_or_else(|| {
            let message = "artifacts need a journal on a disk, and `journal.durability` is memory";
            ApiError::new(ErrorCode::StorageFull, message)
        })
    }
}

/// What is wrong with the request is told at once, as far as it can be known from the request.
fn draft(request: ArtifactRequest) -> Result<Draft, Refusal> {
    let ArtifactRequest { kind, content, tags, parents } = request;
    let mut details = Vec::new();
    let mut check = |holds: bool, pointer: String, found: String, expected: &str| {
        if !holds {
            details.push(Detail { pointer, found, expected: expected.into() });
        }
    };
    let many = |count: usize| format!("{count} of them");
    check(tags.len() <= TAGS_MAX, "/tags".into(), many(tags.len()), "at most 16");
    check(parents.len() <= PARENTS_MAX, "/parents".into(), many(parents.len()), "at most 16");
    for (index, tag) in tags.iter().enumerate() {
        let (holds, found) =
            ((1..=TAG_BYTES_MAX).contains(&tag.len()), format!("{} bytes", tag.len()));
        check(holds, format!("/tags/{index}"), found, "1 to 256 bytes");
    }
    for (index, parent) in parents.iter().enumerate() {
        let pointer = format!("/parents/{index}");
        check(parent.parse::<BlobId>().is_ok(), pointer.clone(), parent.clone(), AN_ID);
        let again = parents[..index].contains(parent);
        check(!again, pointer, format!("{parent} again"), "each id once");
    }
    let text = serde_json::from_str::<String>(content.get());
    let (media_type, content) = match text {
        Ok(text) => (MediaType::Text, text.into_bytes()),
        Err(error) => {
            let is_text = content.get().starts_with('"');
            check(!is_text, "/content".into(), error.to_string(), "a text of Unicode characters");
            (MediaType::Json, String::from(Box::<str>::from(content)).into_bytes())
        }
    };
    if !details.is_empty() {
        return Err(Refusal::invalid(details));
    }
    let parents = parents.iter().filter_map(|it| it.parse().ok()).collect();
    Ok(Draft { kind, media_type, content: content.into(), tags, parents, task_id: None })
}

pub(super) fn refused(error: KeepError) -> ApiError {
    match error {
        KeepError::UnknownParents(places) => {
            let detail = |place| Detail {
                pointer: format!("/parents/{place}"),
                found: "an id that there is no artifact of".into(),
                expected: "an artifact that was stored before".into(),
            };
            Refusal::invalid(places.into_iter().map(detail).collect()).into()
        }
        KeepError::OverQuota { quota_bytes, never: true, .. } => {
            let message = format!("the artifact alone exceeds the tenant's {quota_bytes} bytes");
            ApiError::new(ErrorCode::PayloadTooLarge, message)
        }
        KeepError::OverQuota { quota_bytes, never: false, retry_after_ms } => {
            let message = format!("the tenant's {quota_bytes} bytes of artifacts are used up");
            ApiError {
                policy_label: Some("quota-artifacts"),
                retry_after_ms: Some(retry_after_ms),
                ..ApiError::new(ErrorCode::AdmissionReject, message)
            }
        }
        KeepError::Unwritten => {
            let message = "artifacts cannot be written: their disk is full or broken";
            ApiError::new(ErrorCode::StorageFull, message)
        }
    }
}

/// Not `NOT_FOUND`: it was acknowledged, and an operator should know.
fn unreadable(id: &BlobId, error: &dyn std::error::Error) -> ApiError {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%id, %error, cause, "an artifact cannot be read");
    let message = format!("the artifact `{id}` is damaged or cannot be read; store it again");
    ApiError::new(ErrorCode::Internal, message)
}

/// A content as it was sent.
fn shown(content: Vec<u8>, media_type: MediaType) -> Result<Box<RawValue>, Unlike> {
    let text = String::from_utf8(content).map_err(|_| Unlike)?;
    let shown = match media_type {
        MediaType::Text => to_raw_value(&text),
        MediaType::Json => RawValue::from_string(text),
    };
    shown.map_err(|_| Unlike)
}

/// The file is whole, and the journal tells something else of it.
#[derive(Debug, thiserror::Error)]
#[error("the content is not what the journal says that it is")]
struct Unlike;

fn told(id: &BlobId, facts: &Facts, content: Option<Box<RawValue>>) -> Artifact {
    Artifact {
        artifact_id: id.to_string(),
        kind: facts.kind,
        media_type: facts.media_type,
        bytes: facts.bytes,
        created_at_ms: facts.created_at_ms,
        tags: facts.tags.clone(),
        parents: facts.parents.iter().map(ToString::to_string).collect(),
        task_id: facts.task_id,
        content,
    }
}

fn etag(id: &BlobId) -> HeaderValue {
    HeaderValue::try_from(format!("\"{id}\"")).expect("hex digits in quotes")
}

/// RFC 9110, 13.1.2: a list of tags or `*`, compared weakly. No tag of ours has a comma in it.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    let mut tags = lists.flat_map(|it| it.split(',')).map(str::trim);
    tags.any(|it| it == "*" || it.strip_prefix("W/").unwrap_or(it) == *etag)
}

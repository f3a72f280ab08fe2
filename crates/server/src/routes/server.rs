//! What the server says of itself.

use bailiwick_api::server::ServerInfo;
use bailiwick_store::jobs;

use crate::access::{AnyJson, Anyone, Content, Done, Html, Json, Monitor, NoInput, PlainText};
use crate::failure::Failure;

/// Anyone: says only that the process lives.
pub async fn health(_: Anyone, _: NoInput) -> Result<Json<Done>, Failure> {
    Ok(Json(Done {}))
}

/// Anyone: load balancers ask without a key.
pub async fn ready(door: Anyone, _: NoInput) -> Result<Json<Done>, Failure> {
    if *door.context.shared.parts.hub.ending.borrow() {
        return Err(Failure::unavailable("the server is ending"));
    }
    door.context.ping().await?;
    Ok(Json(Done {}))
}

/// Anyone: the description is the same for every installation.
pub async fn openapi(door: Anyone, _: NoInput) -> Result<Content<AnyJson>, Failure> {
    let text = door
        .context
        .shared
        .parts
        .openapi
        .get_or_init(|| crate::openapi::document().to_string());
    Ok(Content::new(text.clone()))
}

/// Anyone: as `openapi`.
pub async fn docs(door: Anyone, _: NoInput) -> Result<Content<Html>, Failure> {
    let page = door
        .context
        .shared
        .parts
        .docs_page
        .get_or_init(|| crate::pages::api_docs::page_for(&crate::openapi::document()));
    Ok(Content::new(page.clone()))
}

pub async fn metrics(door: Monitor, _: NoInput) -> Result<Content<PlainText>, Failure> {
    let counts = jobs::counts(&door.system).await?;
    Ok(Content::new(door.context.shared.parts.metrics.page(&counts)))
}

/// Anyone: what a client must know to speak with this server at all.
pub async fn info(door: Anyone, _: NoInput) -> Result<Json<ServerInfo>, Failure> {
    let parts = &door.context.shared.parts;
    Ok(Json(ServerInfo {
        product: "Bailiwick".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        access: parts.mode,
        max_code_bytes: parts.code.max_bytes,
    }))
}

//! Styles, scripts and pictures of the pages: built into the program, each under a name that changes with its content, so that a browser keeps it for good.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bailiwick_api::key;
use serde_json::{Value, json};

use crate::access::{Anyone, NoInput, Output};
use crate::failure::Failure;

pub struct Asset {
    name: &'static str,
    media: &'static str,
    bytes: &'static [u8],
    /// `/static/app-0123456789.css`
    path: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let script = "text/javascript; charset=utf-8";
    let files: [(&str, &str, &[u8]); 4] = [
        (
            "app.css",
            "text/css; charset=utf-8",
            include_bytes!("../static/app.css"),
        ),
        ("app.js", script, include_bytes!("../static/app.js")),
        ("htmx.js", script, include_bytes!("../static/htmx.js")),
        ("mark.svg", "image/svg+xml", include_bytes!("../static/mark.svg")),
    ];
    let asset = |(name, media, bytes): (&'static str, &'static str, &'static [u8])| {
        let (stem, kind) = name.split_once('.').expect("an asset has a kind");
        let hash = &key::sha256_hex(bytes)[..12];
        let path = format!("/static/{stem}-{hash}.{kind}");
        Asset {
            name,
            media,
            bytes,
            path,
        }
    };
    files.into_iter().map(asset).collect()
});

/// Where a browser finds it.
pub fn path(name: &str) -> &'static str {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    &found.expect("pages name assets that there are").path
}

/// Anyone: constants.
pub async fn file(door: Anyone, _: NoInput) -> Result<&'static Asset, Failure> {
    let wanted = format!("/static/{}", door.context.path("file"));
    let found = ASSETS.iter().find(|asset| asset.path == wanted);
    found.ok_or_else(|| Failure::not_found("file", wanted))
}

impl Output for &'static Asset {
    fn respond(self) -> Response {
        let mut response = Response::new(Body::from(self.bytes));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        let for_good = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, for_good);
        response
    }
    fn describe(operation: &mut Value, _: &mut schemars::SchemaGenerator) {
        operation["responses"]["200"] = json!({"description": "the file"});
    }
}

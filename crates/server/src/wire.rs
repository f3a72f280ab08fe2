//! What goes over the wire: the inputs that a handler may take, bounded in size, and the outputs that it may give, each with its part of the OpenAPI
//! description.

use std::marker::PhantomData;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::Failure;

/// What a handler is given besides the door.
pub trait Input: Sized + Send + 'static {
    fn read(request: &Parts, body: Body) -> impl Future<Output = Result<Self, Failure>> + Send;
    /// Adds itself to an OpenAPI operation.
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator);
}

pub struct NoInput;

impl Input for NoInput {
    async fn read(_: &Parts, _: Body) -> Result<Self, Failure> {
        Ok(NoInput)
    }
    fn describe(_: &mut Value, _: &mut SchemaGenerator) {}
}

/// Largest JSON body, in bytes.
const JSON_MAX: usize = 2 * 1024 * 1024;

/// A JSON body, as input or as output.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Json<T> {
    async fn read(_: &Parts, body: Body) -> Result<Self, Failure> {
        let bytes = whole(body, JSON_MAX).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        refuse_zero(bytes)?;
        serde_json::from_slice(bytes)
            .map(Json)
            .map_err(|why| match why.classify() {
                serde_json::error::Category::Data => Failure::invalid(format!("the request body does not fit: {why}")),
                _ => Failure::malformed(format!("the request body is not JSON: {why}")),
            })
    }
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator) {
        let schema = schemas.subschema_for::<T>();
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
}

/// A query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Query<T> {
    async fn read(request: &Parts, _: Body) -> Result<Self, Failure> {
        if request.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(zero_character());
        }
        let query = axum::extract::Query::<T>::try_from_uri(&request.uri);
        query
            .map(|query| Query(query.0))
            .map_err(|why| Failure::invalid(format!("the query does not fit: {}", unfit(&why))))
    }
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator) {
        let schema = schemas.root_schema_for::<T>();
        let schema = schema.as_value();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let parameters = operation["parameters"]
            .as_array_mut()
            .expect("every operation has a list of parameters");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let mut property = property.clone();
            let text = property
                .as_object_mut()
                .and_then(|property| property.remove("description"));
            parameters.push(json!({"name": name, "in": "query", "required": required.contains(&json!(name)), "schema": property, "description": text}));
        }
    }
}

/// A query string and a body as it comes.
pub struct Raw<Q> {
    pub query: Q,
    pub body: Body,
}

impl<Q: DeserializeOwned + JsonSchema + Send + 'static> Input for Raw<Q> {
    async fn read(request: &Parts, body: Body) -> Result<Self, Failure> {
        let Query(query) = Query::<Q>::read(request, Body::empty()).await?;
        Ok(Raw { query, body })
    }
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator) {
        Query::<Q>::describe(operation, schemas);
        operation["requestBody"] = json!({"required": true, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}});
    }
}

/// Largest form of a page, in bytes.
pub const FORM_MAX: usize = 64 * 1024;

/// A form of a page.
pub struct Form<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Form<T> {
    async fn read(_: &Parts, body: Body) -> Result<Self, Failure> {
        let bytes = whole(body, FORM_MAX).await?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| Failure::malformed("the form is not UTF-8"))?;
        if text.contains("%00") {
            return Err(zero_character());
        }
        let uri: axum::http::Uri = format!("/?{text}")
            .parse()
            .map_err(|_| Failure::malformed("the form cannot be read"))?;
        let form = axum::extract::Query::<T>::try_from_uri(&uri);
        form.map(|form| Form(form.0))
            .map_err(|why| Failure::invalid(format!("the form does not fit: {}", unfit(&why))))
    }
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator) {
        let schema = schemas.subschema_for::<T>();
        operation["requestBody"] =
            json!({"required": true, "content": {"application/x-www-form-urlencoded": {"schema": schema}}});
    }
}

/// Which field it is, and what about it.
fn unfit(why: &axum::extract::rejection::QueryRejection) -> String {
    let text = why.body_text();
    text.trim_start_matches("Failed to deserialize query string: ")
        .to_owned()
}

fn zero_character() -> Failure {
    Failure::invalid("a text contains a zero character (U+0000), which can be part of no name")
}

/// PostgreSQL cannot keep U+0000 in a text, and nothing here has a use for it.
fn refuse_zero(json: &[u8]) -> Result<(), Failure> {
    fn has_zero(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_zero),
            Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_zero(value)),
            _ => false,
        }
    }
    // JSON can only write it as an escape; the rare text that holds those characters is looked at closely.
    if !json.windows(6).any(|window| window == b"\\u0000") {
        return Ok(());
    }
    match serde_json::from_slice(json) {
        Ok(value) if has_zero(&value) => Err(zero_character()),
        _ => Ok(()),
    }
}

/// The whole body, at most `most` bytes.
pub async fn whole(body: Body, most: usize) -> Result<Bytes, Failure> {
    use futures_util::StreamExt;
    let too_large = || Failure::too_large(format!("the request body is larger than {most} bytes"));
    // What is announced too large is not waited for.
    if HttpBody::size_hint(&body).lower() > most as u64 {
        return Err(too_large());
    }
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|why| Failure::malformed(format!("the request body broke off: {why}")))?;
        if bytes.len() + piece.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

/// What a handler gives.
pub trait Output: Send + 'static {
    fn respond(self) -> Response;
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator);
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for Json<T> {
    fn respond(self) -> Response {
        axum::Json(self.0).into_response()
    }
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator) {
        let schema = schemas.subschema_for::<T>();
        operation["responses"]["200"] =
            json!({"description": "done", "content": {"application/json": {"schema": schema}}});
    }
}

/// An empty object: done, and nothing to say.
#[derive(Debug, Serialize, serde::Deserialize, JsonSchema)]
pub struct Done {}

/// What kind of answer that is not JSON of ours.
pub trait Media: Send + 'static {
    const TYPE: &'static str;
}

macro_rules! media {
    ($($name:ident = $text:literal),*) => {$(pub struct $name; impl Media for $name { const TYPE: &'static str = $text; })*};
}
media!(
    Gzip = "application/gzip",
    EventStream = "text/event-stream",
    NdJson = "application/x-ndjson",
    Csv = "text/csv; charset=utf-8",
    Html = "text/html; charset=utf-8",
    PlainText = "text/plain; version=0.0.4; charset=utf-8",
    Script = "text/javascript; charset=utf-8",
    Css = "text/css; charset=utf-8",
    AnyJson = "application/json"
);

/// A page, or the way to one.
pub struct Answer(Response);

impl Answer {
    /// Scripts, styles, pictures and data come from this server alone, and nothing is written into the page that could act; no other site frames it.
    const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

    pub fn page(html: String) -> Answer {
        Answer::with_status(StatusCode::OK, html)
    }

    pub fn with_status(status: StatusCode, html: String) -> Answer {
        let mut response = (status, html).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, Html::TYPE),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, Self::POLICY),
            (header::REFERRER_POLICY, "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Answer(response)
    }

    /// To be looked at with GET at this path of our own, as after each form.
    pub fn see(path: &str) -> Answer {
        let mut response = StatusCode::SEE_OTHER.into_response();
        let place = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
        response.headers_mut().insert(header::LOCATION, place);
        Answer(response)
    }

    pub fn with_cookie(mut self, cookie: String) -> Answer {
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            self.0.headers_mut().append(header::SET_COOKIE, cookie);
        }
        self
    }

    pub fn response(self) -> Response {
        self.0
    }
}

impl Output for Answer {
    fn respond(self) -> Response {
        self.0
    }
    fn describe(operation: &mut Value, _: &mut SchemaGenerator) {
        operation["responses"]["200"] = json!({"description": "a page", "content": {"text/html": {"schema": {}}}});
        operation["responses"]["303"] = json!({"description": "done; look at the page named"});
    }
}

/// A body of some media type.
pub struct Content<M> {
    body: Body,
    /// Where it is to be kept as a file.
    name: Option<String>,
    media: PhantomData<M>,
}

impl<M> Content<M> {
    pub fn new(body: impl Into<Body>) -> Self {
        Content {
            body: body.into(),
            name: None,
            media: PhantomData,
        }
    }

    /// A file to be kept under this name, of letters, digits and `-._` alone.
    pub fn named(self, name: String) -> Self {
        let name = Some(name);
        Content { name, ..self }
    }
}

impl<M: Media> Output for Content<M> {
    fn respond(self) -> Response {
        let mut response = Response::new(self.body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(M::TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let disposition = self.name.map(|name| format!("attachment; filename=\"{name}\""));
        if let Some(Ok(disposition)) = disposition.map(HeaderValue::try_from) {
            headers.insert(header::CONTENT_DISPOSITION, disposition);
        }
        if M::TYPE.starts_with("text/html") {
            let policy = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        response
    }
    fn describe(operation: &mut Value, _: &mut SchemaGenerator) {
        let media = M::TYPE.split(';').next().expect("split gives at least one part");
        operation["responses"]["200"] = json!({"description": "done", "content": {media: {"schema": {}}}});
    }
}

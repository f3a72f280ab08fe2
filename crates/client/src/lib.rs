//! Typed HTTP client over `bailiwick-api`; used by the command line, the agent and the tests.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use bailiwick_api::{ErrorBody, ErrorEnvelope, key};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

pub mod access;
pub mod agents;
pub mod calls;
pub mod document;
pub mod groups;
pub mod requests;
pub mod roles;
pub mod service_accounts;
pub mod vaults;
pub mod workspaces;

/// A server, and how to sign requests to it.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    server: String,
    bearer: Option<String>,
    /// See [`Client::break_glass_until`]; µs, 0 for never.
    break_glass: Arc<AtomicI64>,
}

/// Why a call did not give what was asked for.
#[derive(Debug)]
pub enum Error {
    /// The server answered with a refusal or failure.
    Refused { status: u16, body: ErrorBody },
    /// No (whole) answer: the server is not there, the network broke, time ran out.
    Unreachable(String),
    /// An answer that is not of our API.
    Unexpected(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Refused { body, .. } => f.write_str(&body.message),
            Error::Unreachable(why) | Error::Unexpected(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The stable word of a refusal: `not_found`, `lease_lost`, …
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Refused { body, .. } => Some(&body.code),
            _ => None,
        }
    }

    /// What to do next, where the server has said.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Refused { body, .. } => body.hint.as_deref(),
            _ => None,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

impl Client {
    /// `server` is `http://HOST:PORT` or `https://HOST:PORT`; `key` an API key or session token. What is sent is its hash, never the key.
    /// `ca` holds PEM certificates to trust besides the usual ones.
    pub fn new(server: &str, key: Option<&str>, ca: Option<&[u8]>) -> Result<Client> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ml/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true)
            // A bearer must not follow a redirect to another place.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|why| Error::Unexpected(format!("the certificates to trust cannot be read: {why}")))?;
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder
            .build()
            .map_err(|why| Error::Unexpected(format!("cannot make an HTTP client: {why}")))?;
        let server = server.trim_end_matches('/').to_owned();
        if !(server.starts_with("http://") || server.starts_with("https://")) {
            return Err(Error::Unexpected(format!(
                "`{server}` is not a server URL: it begins with http:// or https://"
            )));
        }
        Ok(Client {
            http,
            server,
            bearer: key.map(wire),
            break_glass: Arc::default(),
        })
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    /// The same server with another key.
    pub fn with_key(&self, key: Option<&str>) -> Client {
        Client {
            bearer: key.map(wire),
            break_glass: Arc::default(),
            ..self.clone()
        }
    }

    /// A request to `path` (beginning with `/`, its parts already percent-encoded: see [`segment`]), signed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server));
        match &self.bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(self.request(Method::GET, path)).await
    }

    pub async fn get_with<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T> {
        self.json(self.request(Method::GET, &format!("{path}{}", query_string(query))))
            .await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(self.request(Method::DELETE, path)).await
    }

    /// Sends and reads a JSON answer.
    pub async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|why| self.unreachable(why))?;
        serde_json::from_slice(&bytes)
            .map_err(|why| Error::Unexpected(format!("{} answered with something unexpected: {why}", self.server)))
    }

    /// Sends; gives the answer if it is a success, for reading as a stream.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|why| self.unreachable(why))?;
        self.note_break_glass(&response);
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        match serde_json::from_str::<ErrorEnvelope>(&text) {
            Ok(envelope) => Error::Refused {
                status: status.as_u16(),
                body: envelope.error,
            },
            Err(_) if status.is_server_error() => Error::Unreachable(format!(
                "{} answered with status {status}; is it behind a proxy that cannot reach it?",
                self.server
            )),
            Err(_) => Error::Unexpected(format!(
                "{} answered with status {status} and is perhaps not a Bailiwick server",
                self.server
            )),
        }
    }

    fn unreachable(&self, why: reqwest::Error) -> Error {
        let mut cause: &dyn std::error::Error = &why;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let mut words = format!("cannot reach {}: {cause}", self.server);
        // What `openssl req -x509` makes unless told otherwise; the verifier's own words help nobody.
        if words.contains("CaUsedAsEndEntity") {
            words.push_str(" (its certificate calls itself an authority's: make it with -addext basicConstraints=critical,CA:FALSE)");
        } else if words.contains("UnknownIssuer") {
            words.push_str(" (nobody who is trusted here signed its certificate; trust it with --ca FILE)");
        }
        Error::Unreachable(words)
    }
}

/// Our own secrets travel as their hash; anything else (a placeholder from an example) is sent as it is, to be refused.
fn wire(secret: &str) -> String {
    if key::is_well_formed(secret) {
        key::wire_form(secret)
    } else {
        secret.to_owned()
    }
}

/// Percent-encodes one part of a path.
pub fn segment(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(byte as char),
            // A part of dots alone would be taken for a step in the path.
            b'.' if !part.bytes().all(|byte| byte == b'.') => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn query_string(query: &impl Serialize) -> String {
    let value = serde_json::to_value(query).expect("queries are plain structures");
    let mut pairs = Vec::new();
    for (name, value) in value.as_object().expect("queries are structures") {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => pairs.push(format!("{name}={}", segment(text))),
            other => pairs.push(format!("{name}={}", segment(&other.to_string()))),
        }
    }
    if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    }
}

/// Whether a status says that nothing of the kind is there (for callers that ask).
pub fn is_missing<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Refused { status, .. }) if *status == StatusCode::NOT_FOUND.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_anything_in_them_stay_one_part_of_the_path() {
        assert_eq!(segment("a/b c?d#e%"), "a%2Fb%20c%3Fd%23e%25");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("v1.2"), "v1.2");
    }
}

//! What a browser keeps of us: the session, which signs its requests for pages, and a mark by which our own forms are told from foreign ones.

use axum::body::Body;
use axum::http::{HeaderMap, Method, header};
use bailiwick_api::key;

use crate::access::{Context, FORM_MAX, whole};
use crate::failure::Failure;

/// The session's bearer. No script reads it, and it is sent with no request that another site makes, except where somebody follows a link.
pub const SESSION: &str = "ml_session";
/// A random mark for forms that are filled in before anybody is signed in.
const VISIT: &str = "ml_visit";
/// The hidden field of every form.
pub const FIELD: &str = "form_token";

pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|one| one.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// A cookie for this server's pages, for so many seconds (0: to be forgotten; `None`: until the browser is closed).
fn cookie(context: &Context, name: &str, value: &str, seconds: Option<i64>) -> String {
    let secure = if context.shared.parts.public_url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    let age = seconds
        .map(|seconds| format!("; Max-Age={seconds}"))
        .unwrap_or_default();
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}")
}

pub fn session(context: &Context, token: &str, seconds: i64) -> String {
    cookie(context, SESSION, token, Some(seconds.max(1)))
}

pub fn no_session(context: &Context) -> String {
    cookie(context, SESSION, "", Some(0))
}

/// What the forms of a page carry, and the cookie that must be set with it, if any. It follows from the session, so that a form of one session is nothing to
/// another.
pub fn form_token(context: &Context) -> (String, Option<String>) {
    match mark(context) {
        Some(mark) => (token_of(mark), None),
        None => {
            let mark = key::hex(&key::random_bytes());
            (token_of(&mark), Some(cookie(context, VISIT, &mark, None)))
        }
    }
}

fn mark(context: &Context) -> Option<&str> {
    let set = |name| context.cookie(name).filter(|value| !value.is_empty());
    set(SESSION).or(set(VISIT))
}

fn token_of(mark: &str) -> String {
    key::sha256_hex(format!("a form of {mark}").as_bytes())
}

/// A form that changes something must have been given out by us to this very browser. Requests that sign themselves cannot be made by a foreign page.
///
/// # Errors
/// It was not.
pub async fn refuse_foreign_form(context: &Context, body: Body) -> Result<Body, Failure> {
    let method = &context.request.method;
    let signs_itself = context.request.headers.contains_key(header::AUTHORIZATION);
    if !context.is_page() || signs_itself || matches!(*method, Method::GET | Method::HEAD) {
        return Ok(body);
    }
    let bytes = whole(body, FORM_MAX).await?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let given = text
        .split('&')
        .filter_map(|one| one.split_once('='))
        .find_map(|(name, value)| (name == FIELD).then_some(value));
    let mark = mark(context);
    let ours = |given: &str| mark.is_some_and(|mark| same(token_of(mark).as_bytes(), given.as_bytes()));
    match given.is_some_and(ours) {
        true => Ok(bytes.into()),
        false => Err(Failure::forbidden(
            "this form is not from a page of this server, or is too old: nothing was changed",
        )
        .hint("open the page anew and try again")),
    }
}

/// In a time that does not tell how much of it is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

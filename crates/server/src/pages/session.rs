//! Signing in and out with a browser.

use askama::Template;
use axum::http::StatusCode;
use bailiwick_api::users::Login;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Frame;
use crate::access::{Answer, Anyone, Done, Form, Json, Query, Stranger};
use crate::cookies;
use crate::failure::Failure;
use crate::routes;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    name: String,
    next: String,
    problem: Option<String>,
    hint: Option<String>,
    providers: &'static [Provider],
    /// Whom to ask for a link, as the operator wrote it down.
    contact: Option<String>,
}

/// A way to sign in that is not a password of ours.
pub struct Provider {
    pub name: &'static str,
    /// Where signing in with it begins; it is told where to go on to as `next`.
    pub path: &'static str,
}

/// Each is a button above the form; as long as there is none, nothing shows.
const PROVIDERS: &[Provider] = &[];

/// Where to go once signed in.
#[derive(Deserialize, JsonSchema)]
pub struct Next {
    next: Option<String>,
}

/// A path of our own; what could lead elsewhere is not followed.
fn own_path(next: Option<&str>) -> &str {
    let next = next.unwrap_or("/");
    let mut chars = next.chars();
    let is_path = chars.next() == Some('/') && !matches!(chars.next(), Some('/' | '\\'));
    let is_plain = next.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    if is_path && is_plain { next } else { "/" }
}

/// A path as it may stand in a query string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Anyone, to sign in.
pub async fn show(door: Anyone, Query(next): Query<Next>) -> Result<Answer, Failure> {
    let page = SignInPage {
        frame: Frame::of(&door.context, None, "", "Sign in"),
        name: String::new(),
        next: own_path(next.next.as_deref()).to_owned(),
        problem: None,
        hint: None,
        providers: PROVIDERS,
        contact: door.context.shared.parts.contact.clone(),
    };
    page.frame.answer(&page)
}

/// What the form sends.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SignIn {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Anyone, to sign in.
pub async fn sign_in(door: Stranger, Form(given): Form<SignIn>) -> Result<Answer, Failure> {
    let login = Login {
        name: given.name.trim().to_owned(),
        password: given.password,
    };
    let next = own_path(Some(&given.next)).to_owned();
    let context = &door.context;
    match context.ask(routes::users::login, &[], Json(login)).await {
        Ok(Json(session)) => {
            let seconds = (session.expires_at.0 - door.access.now().0) / 1_000_000;
            // A session of its own, whatever the browser brought along.
            Ok(Answer::see(&next).with_cookie(cookies::session(context, &session.token, seconds)))
        }
        Err(failure) if failure.status.is_client_error() => {
            let page = SignInPage {
                frame: Frame::of(context, None, "", "Sign in"),
                name: given.name,
                next,
                problem: Some(failure.message),
                // What to do without a password stands below the form, whoever it is.
                hint: failure.hint.filter(|_| failure.status != StatusCode::UNAUTHORIZED),
                providers: PROVIDERS,
                contact: context.shared.parts.contact.clone(),
            };
            page.frame.answer_with(failure.status, &page)
        }
        Err(failure) => Err(failure),
    }
}

/// Anyone: whoever is signed in is not any more.
pub async fn sign_out(door: Anyone, _: Form<Done>) -> Result<Answer, Failure> {
    let context = &door.context;
    let ended = context.ask(routes::users::logout, &[], Json(Done {})).await;
    match ended {
        Err(failure) if failure.status.is_server_error() => Err(failure),
        _ => Ok(Answer::see("/sign-in").with_cookie(cookies::no_session(context))),
    }
}

//! The page behind an activation or sign-in link. The link's secret stands after `#` and so never reaches a server's or proxy's log; a small script puts it
//! into the form, and without script it is pasted there.

use askama::Template;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Frame;
use crate::access::{Answer, Anyone, Context, Form, NoInput, Stranger};
use crate::cookies;
use crate::failure::Failure;
use crate::routes::use_link;

#[derive(Template)]
#[template(path = "activate.html")]
struct ActivatePage {
    frame: Frame,
    problem: Option<String>,
    hint: Option<String>,
    /// The code that was sent, so that only the password is typed again.
    token: String,
}

fn form(context: &Context, token: &str, problem: Option<(String, Option<String>)>) -> Result<Answer, Failure> {
    let (status, problem, hint) = match problem {
        None => (StatusCode::OK, None, None),
        Some((problem, hint)) => (StatusCode::UNPROCESSABLE_ENTITY, Some(problem), hint),
    };
    let page = ActivatePage {
        frame: Frame::of(context, None, "", "Welcome to Bailiwick"),
        problem,
        hint,
        token: token.to_owned(),
    };
    page.frame.answer_with(status, &page)
}

/// Anyone: whoever was sent a link opens it here.
pub async fn show(door: Anyone, _: NoInput) -> Result<Answer, Failure> {
    form(&door.context, "", None)
}

/// What the form sends. Without the secret of a link nothing happens.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Activation {
    token: String,
    password: String,
    again: String,
}

/// Anyone, with a link.
pub async fn submit(door: Stranger, Form(given): Form<Activation>) -> Result<Answer, Failure> {
    let context = &door.context;
    if given.password != given.again {
        return form(context, &given.token, Some(("The two passwords differ.".into(), None)));
    }
    // A whole link may be pasted, too.
    let token = given.token.trim().rsplit('#').next().unwrap_or_default();
    match use_link(&door, token, Some(&given.password)).await {
        Ok(session) => {
            let seconds = (session.expires_at.0 - door.access.now().0) / 1_000_000;
            Ok(Answer::see("/").with_cookie(cookies::session(context, &session.token, seconds)))
        }
        Err(failure) if failure.status.is_client_error() => {
            form(context, &given.token, Some((failure.message, failure.hint)))
        }
        Err(failure) => Err(failure),
    }
}

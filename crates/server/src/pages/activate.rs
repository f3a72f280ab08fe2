//! The page behind an activation or sign-in link. The link's secret stands after `#` and so never reaches a server's or proxy's log; a small script puts it
//! into the form, and without script it is pasted there.

use askama::Template;
use axum::http::StatusCode;
use bailiwick_api::users::ChangeUser;
use bailiwick_store::principals;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Frame;
use super::told::{Problem, status};
use crate::access::{Answer, Anyone, Context, Form, Json, NoInput, Stranger};
use crate::cookies;
use crate::failure::Failure;
use crate::routes::{use_link, users};

#[derive(Template)]
#[template(path = "activate.html")]
struct ActivatePage {
    frame: Frame,
    problem: Option<Problem>,
    /// The code that was sent, so that only the password is typed again.
    token: String,
    display_name: String,
}

fn form(context: &Context, given: Activation, problem: Option<Failure>) -> Result<Answer, Failure> {
    let problem = problem.map(Problem::of).transpose()?;
    let page = ActivatePage {
        frame: Frame::of(context, None, "", "Welcome to Bailiwick"),
        problem,
        token: given.token,
        display_name: given.display_name,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Anyone: whoever was sent a link opens it here.
pub async fn show(door: Anyone, _: NoInput) -> Result<Answer, Failure> {
    form(&door.context, Activation::default(), None)
}

/// What the form sends. Without the secret of a link nothing happens.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
pub struct Activation {
    token: String,
    password: String,
    again: String,
    /// How others shall see one; empty: as before.
    #[serde(default)]
    display_name: String,
}

/// Anyone, with a link.
pub async fn submit(door: Stranger, Form(given): Form<Activation>) -> Result<Answer, Failure> {
    let context = &door.context;
    if given.password != given.again {
        return form(context, given, Some(Failure::invalid("the two passwords differ")));
    }
    let display_name = given.display_name.trim().to_owned();
    // Before the link is used up.
    if let Err(why) = principals::check_display_name(&display_name) {
        return form(context, given, Some(why.into()));
    }
    // A whole link may be pasted, too.
    let token = given.token.trim().rsplit('#').next().unwrap_or_default();
    match use_link(&door, token, Some(&given.password)).await {
        Ok(session) => {
            if !display_name.is_empty() {
                let change = ChangeUser {
                    display_name: Some(display_name),
                    ..ChangeUser::default()
                };
                let path = [("user", session.name.as_str())];
                let theirs = context.signed_by(&session.token);
                theirs.ask(users::change, &path, Json(change)).await?;
            }
            let seconds = (session.expires_at.0 - door.access.now().0) / 1_000_000;
            Ok(Answer::see("/").with_cookie(cookies::session(context, &session.token, seconds)))
        }
        Err(mut failure) => {
            // Not to be sent to the way in, which asks for the password that is being chosen here.
            if failure.status.is_client_error() {
                failure.status = StatusCode::UNPROCESSABLE_ENTITY;
            }
            form(context, given, Some(failure))
        }
    }
}

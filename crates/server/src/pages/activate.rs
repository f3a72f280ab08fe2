//! The page behind an activation or sign-in link. The link's secret stands after `#` and so never reaches a server's or proxy's log; a small script puts it
//! into the form, and without script it is pasted there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{escape, page};
use crate::access::{Anyone, Content, Form, Html, NoInput, Script, Stranger};
use crate::failure::Failure;
use crate::routes::use_link;

/// Anyone: whoever was sent a link opens it here.
pub async fn show(_: Anyone, _: NoInput) -> Result<Content<Html>, Failure> {
    Ok(Content::new(form("")))
}

fn form(problem: &str) -> String {
    let problem = if problem.is_empty() {
        String::new()
    } else {
        format!("<p role=\"alert\" class=\"problem\">{}</p>", escape(problem))
    };
    let content = format!(
        "<p>Choose your password. It has at least 12 characters, or at least 8 that are hard to guess.</p>{problem}\
         <form method=\"post\" action=\"/activate\" autocomplete=\"off\">\
         <label for=\"token\">The code from your link (what stands after #)</label><input id=\"token\" name=\"token\" required autocomplete=\"off\">\
         <label for=\"password\">New password</label><input id=\"password\" name=\"password\" type=\"password\" required minlength=\"8\" autocomplete=\"new-password\">\
         <label for=\"again\">The same again</label><input id=\"again\" name=\"again\" type=\"password\" required minlength=\"8\" autocomplete=\"new-password\">\
         <button>Set password</button></form>"
    );
    page("Welcome to Bailiwick", &content, Some("/static/activate.js"))
}

/// What the form sends. Its token is the secret of the link: without it nothing happens, so the form needs no other protection.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Activation {
    token: String,
    password: String,
    again: String,
}

/// Anyone, with a link.
pub async fn submit(door: Stranger, Form(given): Form<Activation>) -> Result<Content<Html>, Failure> {
    if given.password != given.again {
        return Ok(Content::new(form("The two passwords differ.")));
    }
    // A whole link may be pasted, too.
    let token = given.token.trim().rsplit('#').next().unwrap_or_default();
    match use_link(&door, token, Some(&given.password)).await {
        Ok(session) => {
            let server = &door.context.shared.parts.public_url;
            let command = escape(&format!("ml login {} --server {server}", session.name));
            let content = format!(
                "<p>Your password is set, {}. Sign in from your terminal:</p><pre>{command}</pre>",
                escape(&session.name)
            );
            Ok(Content::new(page("Done", &content, None)))
        }
        Err(failure) if failure.status.is_client_error() => Ok(Content::new(form(&failure.message))),
        Err(failure) => Err(failure),
    }
}

/// Anyone: a constant.
pub async fn script(_: Anyone, _: NoInput) -> Result<Content<Script>, Failure> {
    Ok(Content::new(include_str!("../static/activate.js")))
}

/// Anyone: a constant.
pub async fn style(_: Anyone, _: NoInput) -> Result<Content<crate::access::Css>, Failure> {
    Ok(Content::new(include_str!("../static/plain.css")))
}

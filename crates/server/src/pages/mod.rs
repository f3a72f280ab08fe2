//! Pages for people. A page asks the handlers of the interface through their own doors (`Context::ask`), so it shows and does what the same person could
//! see and do there, and nothing else. The templates are in `templates/`; what they are given is made here.

use askama::Template;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bailiwick_api::access::Explain;
use bailiwick_api::server::AccessMode;
use bailiwick_api::{Permission, Time};
use bailiwick_store::access::Actor;

use crate::access::{Answer, Context, Json, SignedIn};
use crate::cookies;
use crate::failure::{Failure, Lacks};
use crate::routes;

pub mod activate;
pub mod agents;
pub mod api_docs;
pub mod assets;
pub mod assignments;
pub mod audit;
pub mod code;
pub mod experiment;
pub mod explorer;
pub mod groups;
pub mod held;
pub mod models;
pub mod places;
pub mod queues;
pub mod roles;
pub mod session;
pub mod settings;
pub mod sharing;
pub mod stacks;
pub mod told;
pub mod users;
pub mod vaults;
pub mod work;
pub mod yaml;

/// What stands around every page.
pub struct Frame {
    pub title: String,
    /// Which entry of the menu this page belongs to; empty for none.
    pub here: &'static str,
    /// Who is signed in.
    pub me: Option<String>,
    /// For the hidden field of every form.
    pub token: String,
    pub mode: AccessMode,
    pub reads_audit: bool,
    /// To be set together with `token`.
    cookie: Option<String>,
}

impl Frame {
    pub fn new(door: &SignedIn, here: &'static str, title: impl Into<String>) -> Frame {
        Frame::of(&door.context, Some(&*door.actor), here, title)
    }

    pub fn of(context: &Context, actor: Option<&Actor>, here: &'static str, title: impl Into<String>) -> Frame {
        let (token, cookie) = cookies::form_token(context);
        let audit = |actor: &Actor| {
            let visible = actor.visible(Permission::AuditRead, bailiwick_access::ObjectKind::Experiment);
            !visible.is_nothing()
        };
        Frame {
            title: title.into(),
            here,
            me: actor.map(|actor| actor.name().to_string()),
            token,
            mode: context.shared.parts.mode,
            reads_audit: actor.is_some_and(audit),
            cookie,
        }
    }

    /// The page in this frame.
    pub fn answer(&self, page: &impl Template) -> Result<Answer, Failure> {
        self.answer_with(StatusCode::OK, page)
    }

    pub fn answer_with(&self, status: StatusCode, page: &impl Template) -> Result<Answer, Failure> {
        let html = page.render().map_err(|why| Failure::internal(why.to_string()))?;
        let answer = Answer::with_status(status, html);
        Ok(match &self.cookie {
            Some(cookie) => answer.with_cookie(cookie.clone()),
            None => answer,
        })
    }

    /// For templates: where a style or script is.
    pub fn asset(&self, name: &str) -> &'static str {
        assets::path(name)
    }

    /// For templates: marks the entry of the menu that one is at.
    pub fn at(&self, here: &str) -> &'static str {
        if self.here == here { "page" } else { "false" }
    }

    pub fn is_open(&self) -> bool {
        self.mode == AccessMode::Off
    }

    pub fn is_shadow(&self) -> bool {
        self.mode == AccessMode::Shadow
    }
}

#[derive(Template)]
#[template(path = "failed.html")]
struct FailedPage {
    frame: Frame,
    status: u16,
    message: String,
    hint: Option<String>,
    lacks: Option<Lacking>,
    request_id: String,
}

/// What is told about a right that was missing.
struct Lacking {
    /// In words: `change experiments`.
    meaning: &'static str,
    /// Who could give it, at most ten.
    could_give: Vec<String>,
    /// Queries of the pages that say why, and that ask for it.
    why: String,
    ask: Option<String>,
}

impl Lacking {
    /// As the interface explains it to the same person; nothing is recorded.
    async fn of(context: &Context, lacks: &Lacks) -> Option<Lacking> {
        let question = Explain {
            who: None,
            permission: lacks.permission.name().to_owned(),
            on: lacks.on.clone(),
        };
        let asked = context.ask(routes::access::explain, &[], Json(question)).await;
        let one = asked.ok()?.0.answers.into_iter().next()?;
        let ask = one.ask.as_deref();
        Some(Lacking {
            meaning: lacks.permission.meaning(),
            ask: ask.map(|command| explorer::way_to_ask(command, lacks.permission.name(), &lacks.on)),
            could_give: one.could_give,
            why: told::question(lacks),
        })
    }
}

/// A failure as a page. Whoever is not signed in is shown the way in, and comes back from there.
pub async fn failed(context: &Context, failure: Failure) -> Response {
    let path = context.request.uri.path_and_query().map_or("/", |path| path.as_str());
    if failure.status == StatusCode::UNAUTHORIZED && context.route != "/sign-in" {
        let next = match context.request.method {
            Method::GET if path != "/" => format!("/sign-in?next={}", session::quoted(path)),
            _ => "/sign-in".to_owned(),
        };
        return Answer::see(&next).with_cookie(cookies::no_session(context)).response();
    }
    let actor = context.who().await;
    let title = match failure.status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        status if status.is_server_error() => "Something failed",
        _ => "That did not work",
    };
    let lacks = match (&failure.lacks, &actor) {
        (Some(lacks), Some(_)) => Lacking::of(context, lacks).await,
        _ => None,
    };
    let page = FailedPage {
        frame: Frame::of(context, actor.as_ref(), "", title),
        status: failure.status.as_u16(),
        message: told::without_commands(&failure.message).unwrap_or_else(|| failure.message.clone()),
        // A page leads there by a link, not by a command.
        hint: failure
            .hint
            .as_deref()
            .filter(|_| lacks.is_none())
            .and_then(told::without_commands),
        lacks,
        request_id: context.origin.request_id.to_string(),
    };
    let status = failure.status;
    // Its line in the log, and its headers.
    let plain = failure.respond(&page.request_id);
    match page.frame.answer_with(status, &page) {
        Ok(answer) => {
            let mut response = answer.response();
            if let Some(wait) = plain.headers().get(axum::http::header::RETRY_AFTER) {
                response
                    .headers_mut()
                    .insert(axum::http::header::RETRY_AFTER, wait.clone());
            }
            response
        }
        Err(_) => plain,
    }
}

/// `3 min ago`, for people; the exact moment stands beside it in the page.
pub fn ago(then: Time, now: Time) -> String {
    let seconds = (now.0 - then.0).max(0) / 1_000_000;
    match seconds {
        0..5 => "just now".into(),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// `2026-11-22 16:53:47`, in UTC as everywhere.
pub fn to_the_second(at: &Time) -> String {
    let whole = at.to_string();
    let seconds = whole.get(..19).unwrap_or(&whole);
    seconds.replace('T', " ")
}

/// `1 h 05 min`
pub fn lasted(from: Time, to: Time) -> String {
    let seconds = (to.0 - from.0).max(0) / 1_000_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Text as it may stand in HTML, between tags or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// A page of fixed content, without menu and forms.
pub fn page(title: &str, content: &str) -> String {
    let (title, style) = (escape(title), assets::path("app.css"));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title} · Bailiwick</title><link rel=\"stylesheet\" href=\"{style}\"></head><body><main id=\"main\" class=\"plain\"><h1>{title}</h1>{content}</main></body></html>"
    )
}

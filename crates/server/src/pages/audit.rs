//! The audit: who did what to which object.

use askama::Template;
use axum::http::StatusCode;
use bailiwick_api::audit::{AuditEvent, AuditFilter, AuditVerdict, Outcome};
use bailiwick_api::{Page, Permission, Time};
use schemars::JsonSchema;
use serde::Deserialize;

use super::explorer::unknown_act;
use super::told::{self, Problem, given};
use super::{Frame, ago, held, to_the_second};
use crate::access::{Answer, Done, Form, Json, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;

/// What the form above the table asks for; a field left empty asks for nothing.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Wanted {
    #[serde(default)]
    user: String,
    /// A permission, a verb, or `sign-in`.
    #[serde(default)]
    action: String,
    /// `experiment 12`, or only `experiment`.
    #[serde(default)]
    object: String,
    /// Name or number.
    #[serde(default)]
    workspace: String,
    /// `24h`, `7d`, a date.
    #[serde(default)]
    since: String,
    /// A date, that day included; or so long ago.
    #[serde(default)]
    until: String,
    /// `allowed`, `denied` or `failed`.
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    after: String,
}

impl Wanted {
    fn filter(&self, now: Time) -> Result<AuditFilter, Failure> {
        let since = given(&self.since).map(|since| Time::parse_since(&since, now).map_err(Failure::invalid));
        let until = given(&self.until).map(|until| Time::parse_through(&until, now).map_err(Failure::invalid));
        let outcome = match self.outcome.as_str() {
            "" => None,
            word => {
                let found = Outcome::ALL.into_iter().find(|outcome| outcome.name() == word);
                Some(found.ok_or_else(|| Failure::invalid(format!("there is no outcome `{word}`")))?)
            }
        };
        Ok(AuditFilter {
            user: given(&self.user),
            action: given(&self.action),
            object: given(&self.object),
            since: since.transpose()?,
            until: until.transpose()?,
            workspace: given(&self.workspace),
            outcome,
            denied: None,
            after: held::position(&self.after)?.map(|after| after.to_string()),
            limit: Some(50),
        })
    }

    fn query(&self, after: &str) -> String {
        told::query(&[
            ("user", &self.user),
            ("action", &self.action),
            ("object", &self.object),
            ("workspace", &self.workspace),
            ("since", &self.since),
            ("until", &self.until),
            ("outcome", &self.outcome),
            ("after", after),
        ])
    }
}

/// The same events for a program: a moment in place of a time from now.
fn export_query(filter: &AuditFilter) -> String {
    let since = filter.since.map(|since| since.to_string()).unwrap_or_default();
    let until = filter.until.map(|until| until.to_string()).unwrap_or_default();
    told::query(&[
        ("user", filter.user.as_deref().unwrap_or_default()),
        ("action", filter.action.as_deref().unwrap_or_default()),
        ("object", filter.object.as_deref().unwrap_or_default()),
        ("workspace", filter.workspace.as_deref().unwrap_or_default()),
        ("since", &since),
        ("until", &until),
        ("outcome", filter.outcome.map_or("", Outcome::name)),
    ])
}

/// An event as a line of the table.
pub struct Row {
    it: AuditEvent,
    /// To the second, as an auditor compares it with other records.
    at: String,
    ago: String,
}

impl Row {
    fn new(it: AuditEvent, now: Time) -> Row {
        Row {
            at: to_the_second(&it.time),
            ago: ago(it.time, now),
            it,
        }
    }

    /// What was done, in a word or two.
    fn what(&self) -> &str {
        match (self.it.action.as_str(), self.it.verb.as_str()) {
            ("sign-in", "password") => "sign in with a password",
            ("sign-in", "link") => "sign in with a link",
            ("sign-in", "key") => "sign in with a key",
            (_, verb) => verb,
        }
    }

    fn outcome(&self) -> (&'static str, &'static str) {
        match self.it.outcome {
            Outcome::Allowed => ("yes", "allowed"),
            Outcome::Denied => ("no", "denied"),
            Outcome::Failed => ("wait", "failed"),
        }
    }

    /// What is known besides, one thing a line.
    fn detail(&self) -> Vec<(String, String)> {
        let plain = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match &self.it.detail {
            serde_json::Value::Null => Vec::new(),
            serde_json::Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
            other => vec![("detail".into(), plain(other))],
        }
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    wanted: Wanted,
    problem: Option<Problem>,
    verdict: Option<AuditVerdict>,
    rows: Vec<Row>,
    permissions: &'static [Permission],
    outcomes: [Outcome; 3],
    workspaces: Vec<String>,
    may_verify: bool,
    export: String,
    first: String,
    next: Option<String>,
}

impl AuditPage {
    /// The history of this one object is shown.
    fn one_object(&self) -> Option<&str> {
        let object = self.wanted.object.trim();
        object.contains(' ').then_some(object)
    }
}

pub async fn show(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    page(&door, wanted, None).await
}

async fn page(door: &SignedIn, wanted: Wanted, verdict: Option<AuditVerdict>) -> Result<Answer, Failure> {
    let now = door.actor.now();
    let (filter, problem) = match Problem::or(wanted.filter(now))? {
        Ok(filter) => (filter, None),
        Err(problem) => (
            AuditFilter {
                limit: Some(50),
                ..Default::default()
            },
            Some(problem),
        ),
    };
    let export = export_query(&filter);
    let names_workspace = filter.workspace.is_some();
    let found = door.context.ask(routes::audit::list, &[], Query(filter)).await;
    let (found, problem) = match found {
        Ok(Json(found)) => (found, problem),
        // No such workspace: that is told beside the form.
        Err(failure) if names_workspace && failure.status == StatusCode::NOT_FOUND => {
            let nothing = Page {
                items: Vec::new(),
                next: None,
            };
            (nothing, Some(Problem::of(failure)?))
        }
        Err(failure) => return Err(failure),
    };
    let page = AuditPage {
        frame: Frame::new(door, "audit", "Audit"),
        first: wanted.query(""),
        next: found.next.map(|next| wanted.query(&next)),
        rows: found.items.into_iter().map(|it| Row::new(it, now)).collect(),
        permissions: Permission::ALL,
        outcomes: Outcome::ALL,
        workspaces: held::workspaces(door, "")
            .await?
            .into_iter()
            .map(|(_, name)| name)
            .collect(),
        may_verify: door.actor.may(Permission::AuditRead, &Default::default()).is_some(),
        export,
        wanted,
        verdict,
        problem,
    };
    page.frame.answer_with(told::status(page.problem.as_ref()), &page)
}

/// What the button sends.
#[derive(Deserialize, JsonSchema)]
pub struct Act {
    act: String,
}

/// Checks the chain, and shows what came of it above the newest events.
pub async fn verify(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    if act.act != "verify" {
        return Err(unknown_act(&act.act));
    }
    let Json(verdict) = door.context.ask(routes::audit::verify, &[], Json(Done {})).await?;
    page(&door, Wanted::default(), Some(verdict)).await
}

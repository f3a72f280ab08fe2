//! My work: the experiments that one may see.

use askama::Template;
use bailiwick_api::experiments::{Experiment, ExperimentFilter, State};
use bailiwick_api::{Time, ids};
use schemars::JsonSchema;
use serde::Deserialize;

use super::session::quoted;
use super::{Frame, ago, lasted};
use crate::access::{Answer, Done, Form, Json, Query, SignedIn};
use crate::failure::Failure;
use crate::routes::experiments;

/// What the form above the table asks for; a field left empty asks for nothing.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Wanted {
    /// `mine`: only one's own.
    #[serde(default)]
    show: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    after: String,
}

impl Wanted {
    fn filter(&self) -> Result<ExperimentFilter, Failure> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let parsed = |text: &str| text.parse().map_err(Failure::invalid);
        Ok(ExperimentFilter {
            name: text(&self.name),
            state: text(&self.state)
                .map(|state| state.parse().map_err(Failure::invalid))
                .transpose()?,
            mine: (self.show == "mine").then_some(true),
            workspace: text(&self.workspace),
            project: text(&self.project),
            sort: match self.sort.as_str() {
                "" => None,
                sort => Some(parsed(sort)?),
            },
            after: text(&self.after),
            limit: Some(50),
        })
    }

    /// The same, from the row after `after`.
    fn query(&self, after: &str) -> String {
        let fields = [
            ("show", &self.show),
            ("state", &self.state),
            ("workspace", &self.workspace),
            ("project", &self.project),
            ("name", &self.name),
            ("sort", &self.sort),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let mut parts: Vec<String> = given.map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        if !after.is_empty() {
            parts.push(format!("after={}", quoted(after)));
        }
        parts.join("&")
    }

    fn is_anything(&self) -> bool {
        !self.query(&self.after).is_empty()
    }
}

/// A row of the table.
pub struct Row {
    pub it: Experiment,
    pub created: String,
    pub lasted: String,
}

impl Row {
    pub fn new(it: Experiment, now: Time) -> Row {
        Row {
            created: ago(it.created_at, now),
            lasted: it
                .started_at
                .map(|from| lasted(from, it.ended_at.unwrap_or(now)))
                .unwrap_or_default(),
            it,
        }
    }
}

/// The word that styles a state.
pub fn class(state: &State) -> &'static str {
    match state {
        State::Queued => "queued",
        State::Starting | State::Running => "running",
        State::Stopping => "stopping",
        State::Completed => "completed",
        State::Error => "error",
        State::Canceled => "canceled",
    }
}

#[derive(Template)]
#[template(path = "work.html")]
struct WorkPage {
    frame: Frame,
    wanted: Wanted,
    rows: Vec<Row>,
    /// The query of this very page, of its first one, and of the one after it.
    here: String,
    first: String,
    next: Option<String>,
    states: [State; 7],
    sorts: [(&'static str, &'static str); 2],
    server: String,
}

pub async fn show(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    let filter = wanted.filter()?;
    let Json(page) = door.context.ask(experiments::list, &[], Query(filter)).await?;
    let now = door.actor.now();
    let page = WorkPage {
        frame: Frame::new(&door, "work", "Experiments"),
        here: wanted.query(&wanted.after),
        first: wanted.query(""),
        next: page.next.map(|next| wanted.query(&next)),
        rows: page.items.into_iter().map(|it| Row::new(it, now)).collect(),
        wanted,
        states: State::ALL,
        sorts: [("newest", "newest first"), ("name", "by name")],
        server: door.context.shared.parts.public_url.clone(),
    };
    page.frame.answer(&page)
}

/// What is to be done to the rows that are ticked.
#[derive(Deserialize, JsonSchema)]
pub struct Bulk {
    /// The numbers, apart by commas.
    #[serde(default)]
    ids: String,
}

/// Most experiments that one form may name.
const BULK_MAX: usize = 200;

/// Cancels one after the other; what cannot be canceled is told at the end.
pub async fn cancel(door: SignedIn, Form(bulk): Form<Bulk>) -> Result<Answer, Failure> {
    let ids: Vec<&str> = bulk
        .ids
        .split(',')
        .map(str::trim)
        .filter(|id| ids::as_number(id).is_some())
        .collect();
    if ids.is_empty() {
        return Err(Failure::invalid("no experiment was ticked"));
    }
    if ids.len() > BULK_MAX {
        return Err(Failure::invalid(format!(
            "more than {BULK_MAX} experiments are named at once"
        )));
    }
    let mut failures = Vec::new();
    for id in &ids {
        let path = [("experiment", *id)];
        if let Err(failure) = door.context.ask(experiments::cancel, &path, Json(Done {})).await {
            if failure.status.is_server_error() {
                return Err(failure);
            }
            failures.push(failure.message);
        }
    }
    match failures.as_slice() {
        [] => Ok(Answer::see("/")),
        some => Err(Failure::conflict(
            "conflict",
            format!(
                "{} of {} were canceled; {}",
                ids.len() - some.len(),
                ids.len(),
                some.join("; ")
            ),
        )),
    }
}

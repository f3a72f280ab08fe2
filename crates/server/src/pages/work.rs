//! My work: the experiments that one may see.

use askama::Template;
use axum::http::StatusCode;
use bailiwick_api::experiments::{Experiment, ExperimentFilter, State};
use bailiwick_api::workspaces::PlaceFilter;
use bailiwick_api::{Page, Time, ids};
use schemars::JsonSchema;
use serde::Deserialize;

use super::session::quoted;
use super::{Frame, ago, lasted};
use crate::access::{Answer, Done, Form, Json, Query, SignedIn};
use crate::failure::Failure;
use crate::routes::{experiments, workspaces};

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
    owner: String,
    /// How the name begins.
    #[serde(default)]
    name: String,
    #[serde(default)]
    sort: String,
    /// Anything: the archived ones.
    #[serde(default)]
    archived: String,
    #[serde(default)]
    after: String,
    /// `rows`: only the table, as the page asks for it again and again.
    #[serde(default)]
    part: String,
}

impl Wanted {
    fn filter(&self) -> Result<ExperimentFilter, Failure> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let name_begins = text(&self.name);
        Ok(ExperimentFilter {
            state: text(&self.state)
                .map(|state| state.parse().map_err(Failure::invalid))
                .transpose()?,
            mine: (self.show == "mine").then_some(true),
            owner: text(&self.owner),
            archived: self.is_archived().then_some(true),
            workspace: text(&self.workspace),
            project: text(&self.project),
            sort: match self.sort.as_str() {
                "" => None,
                // Names that begin alike stand together.
                _ if name_begins.is_some() => None,
                sort => Some(sort.parse().map_err(Failure::invalid)?),
            },
            name_begins,
            name: None,
            after: text(&self.after),
            limit: Some(50),
        })
    }

    fn is_archived(&self) -> bool {
        !self.archived.is_empty()
    }

    /// The same, from the row after `after`.
    fn query(&self, after: &str) -> String {
        let fields = [
            ("show", &self.show),
            ("state", &self.state),
            ("workspace", &self.workspace),
            ("project", &self.project),
            ("owner", &self.owner),
            ("name", &self.name),
            ("sort", &self.sort),
            ("archived", &self.archived),
        ];
        let is_usual = |key, value: &str| value.is_empty() || (key, value) == ("sort", "newest");
        let given = fields.into_iter().filter(|(key, value)| !is_usual(*key, value));
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
    pub started: String,
    pub lasted: String,
}

impl Row {
    pub fn new(it: Experiment, now: Time) -> Row {
        Row {
            created: ago(it.created_at, now),
            started: it.started_at.map(|at| ago(at, now)).unwrap_or_default(),
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
    problem: Option<String>,
    rows: Vec<Row>,
    /// The query of this very page, of its first one, and of the one after it.
    here: String,
    first: String,
    next: Option<String>,
    states: [State; 7],
    sorts: [(&'static str, &'static str); 2],
    /// Names to choose from.
    workspaces: Vec<String>,
    server: String,
}

pub async fn show(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    let context = &door.context;
    let list = async |filter| Ok::<_, Failure>(context.ask(experiments::list, &[], Query(filter)).await?.0);
    let listed = match wanted.filter() {
        Ok(filter) => list(filter).await,
        Err(failure) => Err(failure),
    };
    let (page, problem) = match listed {
        Ok(page) => (page, None),
        // What was typed stays, to be mended.
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let nothing = Page {
                items: Vec::new(),
                next: None,
            };
            (nothing, Some(failure.message))
        }
        Err(failure) => return Err(failure),
    };
    let workspaces = match wanted.part.is_empty() {
        true => {
            let filter = PlaceFilter::default();
            let Json(page) = context.ask(workspaces::list, &[], Query(filter)).await?;
            page.items.into_iter().map(|workspace| workspace.name).collect()
        }
        false => Vec::new(),
    };
    let now = door.actor.now();
    let status = match problem {
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        None => StatusCode::OK,
    };
    let page = WorkPage {
        frame: Frame::new(&door, "work", "Experiments"),
        problem,
        here: wanted.query(&wanted.after),
        first: wanted.query(""),
        next: page.next.map(|next| wanted.query(&next)),
        rows: page.items.into_iter().map(|it| Row::new(it, now)).collect(),
        wanted,
        states: State::ALL,
        sorts: [("newest", "newest first"), ("name", "by name")],
        workspaces,
        server: door.context.shared.parts.public_url.clone(),
    };
    page.frame.answer_with(status, &page)
}

/// What is to be done to the rows that are ticked.
#[derive(Deserialize, JsonSchema)]
pub struct Bulk {
    /// `cancel`, `archive` or `unarchive`.
    act: String,
    /// The numbers, apart by commas.
    #[serde(default)]
    ids: String,
    /// The query of the page that it came from.
    #[serde(default)]
    here: String,
}

/// Most experiments that one form may name.
const BULK_MAX: usize = 200;

/// One after the other; what cannot be done is told at the end.
pub async fn act(door: SignedIn, Form(bulk): Form<Bulk>) -> Result<Answer, Failure> {
    let done = match bulk.act.as_str() {
        "cancel" => "canceled",
        "archive" => "archived",
        "unarchive" => "taken back",
        other => {
            return Err(Failure::invalid(format!(
                "there is nothing called `{other}` to do here"
            )));
        }
    };
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
        let (context, path) = (&door.context, [("experiment", *id)]);
        let outcome = match bulk.act.as_str() {
            "cancel" => context.ask(experiments::cancel, &path, Json(Done {})).await,
            "archive" => context.ask(experiments::archive, &path, Json(Done {})).await,
            _ => context.ask(experiments::unarchive, &path, Json(Done {})).await,
        };
        if let Err(failure) = outcome {
            if failure.status.is_server_error() {
                return Err(failure);
            }
            failures.push(failure.message);
        }
    }
    match failures.as_slice() {
        [] if bulk.here.is_empty() => Ok(Answer::see("/")),
        [] => Ok(Answer::see(&format!("/?{}", bulk.here))),
        some => Err(Failure::conflict(
            "conflict",
            format!(
                "{} of {} were {done}; {}",
                ids.len() - some.len(),
                ids.len(),
                some.join("; ")
            ),
        )),
    }
}

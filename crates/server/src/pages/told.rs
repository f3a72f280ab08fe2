//! What several pages tell alike: a failure beside the form that led to it, permissions in words, places in paths.

use std::borrow::Borrow;

use axum::http::StatusCode;
use bailiwick_access::ObjectKind;
use bailiwick_api::access::Ability;
use bailiwick_api::server::AccessMode;
use bailiwick_api::{Permission, Time};
use bailiwick_store::access::Actor;

use super::session::quoted;
use crate::failure::{Failure, Lacks};

/// A failure that is told above a form, which keeps what was typed.
pub struct Problem {
    pub status: StatusCode,
    pub message: String,
    pub hint: Option<String>,
    /// The query of the page that says why, and who could give it.
    pub why: Option<String>,
}

/// Words of the interface for whoever reads them on a page: what they say of commands is left out.
pub fn without_commands(text: &str) -> Option<String> {
    let parts = text.split("; ").filter_map(|part| match part.find("`ml ") {
        None => Some(part),
        // `sign in with …, or …`: what to do stays, how it is typed goes.
        Some(at) => part[..at].strip_suffix(" with "),
    });
    let kept: Vec<&str> = parts.collect();
    (!kept.is_empty()).then(|| kept.join("; "))
}

/// The question why somebody lacks this right.
pub fn question(lacks: &Lacks) -> String {
    query(&[("permission", lacks.permission.name()), ("on", &lacks.on)])
}

impl Problem {
    /// What somebody can mend stays on the page; the rest becomes a page of its own: a fault of the server, and that nobody is signed in.
    pub fn of(failure: Failure) -> Result<Problem, Failure> {
        let elsewhere = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&failure.status);
        if failure.status.is_server_error() || elsewhere {
            return Err(failure);
        }
        Ok(Problem {
            status: failure.status,
            why: failure.lacks.as_deref().map(question),
            message: without_commands(&failure.message).unwrap_or(failure.message),
            // A page leads there by a link, not by a command.
            hint: failure
                .hint
                .filter(|_| failure.lacks.is_none())
                .and_then(|hint| without_commands(&hint)),
        })
    }

    /// The answer, or what to tell in its place.
    pub fn or<T>(outcome: Result<T, Failure>) -> Result<Result<T, Problem>, Failure> {
        match outcome {
            Ok(value) => Ok(Ok(value)),
            Err(failure) => Problem::of(failure).map(Err),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure {
            status: problem.status,
            hint: problem.hint,
            ..Failure::invalid(problem.message)
        }
    }
}

/// The status of a page with or without a problem.
pub fn status(problem: Option<&Problem>) -> StatusCode {
    problem.map_or(StatusCode::OK, |problem| problem.status)
}

/// A field that was left empty asks for nothing.
pub fn given(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A name as one part of a path.
pub fn segment(name: &str) -> String {
    quoted(name).replace('/', "%2F")
}

/// A query string of those fields that are not empty.
pub fn query(fields: &[(&str, &str)]) -> String {
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    let parts: Vec<String> = given.map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    parts.join("&")
}

/// Of how many places one page says in words what may be done there: each takes up to 5 kB.
pub const PLACES: i64 = 25;

/// What one may do at a place, for people: one line for each kind of thing.
pub struct InWords {
    pub place: String,
    /// Every permission there is.
    pub everything: bool,
    pub lines: Vec<Line>,
}

/// `experiments: submit experiments; delete experiments (only one's own)`.
pub struct Line {
    pub resource: &'static str,
    pub can: Vec<Can>,
}

pub struct Can {
    pub permission: Permission,
    pub own: bool,
}

impl InWords {
    pub fn of(ability: &Ability) -> InWords {
        let mut lines: Vec<Line> = Vec::new();
        let mut over_all = 0;
        for text in &ability.permissions {
            let (name, own) = match text.strip_suffix(":own") {
                Some(name) => (name, true),
                None => (text.as_str(), false),
            };
            let Some(permission) = Permission::find(name) else {
                continue;
            };
            over_all += usize::from(!own);
            let can = Can { permission, own };
            match lines.iter_mut().find(|line| line.resource == permission.resource()) {
                Some(line) => line.can.push(can),
                None => lines.push(Line {
                    resource: permission.resource(),
                    can: vec![can],
                }),
            }
        }
        InWords {
            place: capital(&ability.place),
            everything: over_all == Permission::ALL.len(),
            lines,
        }
    }
}

/// A sentence begins with it.
pub fn capital(text: impl AsRef<str>) -> String {
    let mut chars = text.as_ref().chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

pub fn mode_word(mode: &AccessMode) -> &'static str {
    bailiwick_store::questions::mode_word(*mode)
}

/// Whether roles may be looked at anywhere at all.
pub fn reads_roles_somewhere(actor: &Actor) -> bool {
    let kinds = [ObjectKind::Experiment, ObjectKind::Queue];
    kinds
        .into_iter()
        .any(|kind| !actor.visible(Permission::RolesRead, kind).is_nothing())
}

pub fn reads_roles_everywhere(actor: &Actor) -> bool {
    actor.may(Permission::RolesRead, &Default::default()).is_some()
}

/// For templates: how long ago.
pub fn since(then: impl Borrow<Time>, now: impl Borrow<Time>) -> String {
    super::ago(*then.borrow(), *now.borrow())
}

/// For templates: `in 3 h`, or how long ago.
pub fn ends(end: impl Borrow<Time>, now: impl Borrow<Time>) -> String {
    let (end, now) = (*end.borrow(), *now.borrow());
    match end > now {
        true => format!("in {}", super::lasted(now, end)),
        false => super::ago(end, now),
    }
}

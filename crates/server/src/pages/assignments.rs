//! Role assignments: who holds which role, where, until when.

use askama::Template;
use bailiwick_api::roles::{Assignment, AssignmentChange, AssignmentFilter};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Frame;
use super::held::{self, Giving, Held, Offer, Row, position, until};
use super::told::{Problem, given, query, status};
use super::users::unknown;
use crate::access::{Answer, Form, Json, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;

/// How many stand on a page.
const PAGE: i64 = 50;

/// What the form above the table asks for; a field left empty asks for nothing.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Wanted {
    #[serde(default)]
    user: String,
    /// `yes`: with what reaches the user through groups.
    #[serde(default)]
    through: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    workspace: String,
    /// `yes`: those past their end too.
    #[serde(default)]
    ended: String,
    #[serde(default)]
    after: String,
    /// The number of the one that is to be changed.
    #[serde(default)]
    change: String,
}

impl Wanted {
    fn filter(&self) -> Result<AssignmentFilter, Failure> {
        let user = given(&self.user);
        Ok(AssignmentFilter {
            through_groups: (user.is_some() && self.through == "yes").then_some(true),
            user,
            group: given(&self.group),
            role: given(&self.role),
            on: given(&self.workspace).map(|name| format!("workspace:{name}")),
            all: (self.ended == "yes").then_some(true),
            after: position(&self.after)?,
            limit: Some(PAGE),
        })
    }

    fn query(&self, after: &str) -> String {
        query(&[
            ("user", &self.user),
            ("through", &self.through),
            ("group", &self.group),
            ("role", &self.role),
            ("workspace", &self.workspace),
            ("ended", &self.ended),
            ("after", after),
        ])
    }

    fn is_anything(&self) -> bool {
        !self.query("").is_empty()
    }
}

/// Which of the pages about roles one is at.
pub fn at(frame: &Frame, title: &str) -> &'static str {
    if frame.title == title { "page" } else { "false" }
}

#[derive(Template)]
#[template(path = "assignments.html")]
struct AssignmentsPage {
    frame: Frame,
    wanted: Wanted,
    held: Held,
    first: String,
    next: Option<String>,
    problem: Option<Problem>,
    offer: Option<Offer>,
    roles: Vec<String>,
    workspaces: Vec<String>,
    people: Vec<String>,
}

/// Signed in; what may be seen decides what is listed.
pub async fn list(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    if !wanted.change.is_empty() {
        return change(&door, &wanted.change).await;
    }
    let filter = wanted.filter()?;
    let (items, next, problem) =
        match Problem::or(door.context.ask(routes::assignments::list, &[], Query(filter)).await)? {
            Ok(Json(page)) => (page.items, page.next, None),
            Err(problem) => (Vec::new(), None, Some(problem)),
        };
    let offer = Offer::to(&door).await?;
    let page = AssignmentsPage {
        frame: Frame::new(&door, "roles", "Assignments"),
        held: Held {
            rows: held::rows(&door.actor, items),
            who: true,
            role: true,
            from: false,
            path: "/assignments".into(),
            nothing: match wanted.is_anything() {
                true => "Nothing fits these filters.",
                false => "Nobody holds a role, as far as you may see.",
            },
        },
        first: wanted.query(""),
        next: next.map(|next| wanted.query(&next)),
        wanted,
        problem,
        offer,
        roles: held::roles(&door).await?.into_iter().map(|role| role.name).collect(),
        workspaces: held::workspaces(&door)
            .await?
            .into_iter()
            .map(|(_, name)| name)
            .collect(),
        people: held::people(&door, "").await?,
    };
    let status = status(page.problem.as_ref());
    page.frame.answer_with(status, &page)
}

#[derive(Template)]
#[template(path = "assignment.html")]
struct AssignmentPage {
    frame: Frame,
    row: Row,
    roles: Vec<String>,
}

async fn one(door: &SignedIn, id: &str) -> Result<Assignment, Failure> {
    let missing = || Failure::not_found("assignment", id);
    let number = bailiwick_api::ids::as_number(id).ok_or_else(missing)?;
    let filter = AssignmentFilter {
        after: Some(number - 1),
        limit: Some(1),
        ..AssignmentFilter::default()
    };
    let Json(page) = door.context.ask(routes::assignments::list, &[], Query(filter)).await?;
    page.items
        .into_iter()
        .find(|one| one.id.0 == number)
        .ok_or_else(missing)
}

async fn change(door: &SignedIn, id: &str) -> Result<Answer, Failure> {
    let it = one(door, id).await?;
    let mut roles: Vec<String> = match Offer::to(door).await? {
        Some(offer) => offer.roles.into_iter().map(|role| role.name).collect(),
        None => Vec::new(),
    };
    if !roles.contains(&it.role) {
        roles.insert(0, it.role.clone());
    }
    let row = held::rows(&door.actor, vec![it])
        .pop()
        .ok_or_else(|| Failure::not_found("assignment", id))?;
    let page = AssignmentPage {
        frame: Frame::new(door, "roles", "Change an assignment"),
        row,
        roles,
    };
    page.frame.answer(&page)
}

/// What a form sends.
#[derive(Deserialize, JsonSchema)]
pub struct AssignmentForm {
    act: String,
    #[serde(default)]
    assignment: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    on: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    no_end: String,
    #[serde(default)]
    reason: String,
}

/// Signed in; each act asks for what it needs.
pub async fn act(door: SignedIn, Form(form): Form<AssignmentForm>) -> Result<Answer, Failure> {
    let context = &door.context;
    match form.act.as_str() {
        "give" => {
            let giving = Giving {
                user: given(&form.user),
                group: given(&form.group),
                role: &form.role,
                on: &form.on,
                until: &form.until,
                reason: &form.reason,
            };
            held::give(&door, giving).await?;
            Ok(Answer::see("/assignments"))
        }
        "change" => {
            let now = one(&door, &form.assignment).await?;
            let change = AssignmentChange {
                role: given(&form.role).filter(|role| *role != now.role),
                until: until(&form.until, door.actor.now())?,
                lifetime_ms: None,
                no_end: (form.no_end == "yes").then_some(true),
            };
            let path = [("assignment", form.assignment.as_str())];
            context.ask(routes::assignments::change, &path, Json(change)).await?;
            let back = match (now.user_id, now.group) {
                (Some(user), _) => format!("/users/{user}"),
                (None, Some(group)) => held::group_path(&door.actor, &group),
                (None, None) => "/assignments".into(),
            };
            Ok(Answer::see(&back))
        }
        "take" => {
            held::take(context, &form.assignment).await?;
            Ok(Answer::see("/assignments"))
        }
        act => Err(unknown(act)),
    }
}

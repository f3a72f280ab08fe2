//! Role assignments: who holds which role, where, until when.

use askama::Template;
use bailiwick_api::access::{DiffAnswer, Planned};
use bailiwick_api::roles::{Assignment, AssignmentChange, AssignmentFilter};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Frame;
use super::held::{self, Acted, Again, Giving, Held, Offer, Roles, Row, position, preview_giving, until};
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
    groups: Vec<String>,
    typed: AssignmentForm,
    preview: Option<DiffAnswer>,
}

impl AssignmentsPage {
    fn is_about_giving(&self) -> bool {
        self.offer.is_some() && self.typed.act.ends_with("give")
    }
}

/// Signed in; what may be seen decides what is listed.
pub async fn list(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    if !wanted.change.is_empty() {
        return change(&door, &wanted.change, Again::default()).await;
    }
    list_page(&door, wanted, Again::default()).await
}

async fn list_page(door: &SignedIn, wanted: Wanted, again: Again<AssignmentForm>) -> Result<Answer, Failure> {
    let filter = wanted.filter()?;
    let (items, next, unfound) =
        match Problem::or(door.context.ask(routes::assignments::list, &[], Query(filter)).await)? {
            Ok(Json(page)) => (page.items, page.next, None),
            Err(problem) => (Vec::new(), None, Some(problem)),
        };
    let offer = Offer::to(door).await?;
    let page = AssignmentsPage {
        frame: Frame::new(door, "roles", "Assignments"),
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
        problem: again.problem.or(unfound),
        offer,
        roles: Roles::known(door, "").await?,
        workspaces: held::workspaces(door, "")
            .await?
            .into_iter()
            .map(|(_, name)| name)
            .collect(),
        people: held::people(door, "").await?,
        groups: held::groups(door, "").await?,
        typed: again.typed,
        preview: again.preview,
    };
    let status = status(page.problem.as_ref());
    page.frame.answer_with(status, &page)
}

#[derive(Template)]
#[template(path = "assignment.html")]
struct AssignmentPage {
    frame: Frame,
    row: Row,
    roles: Roles,
    previews: bool,
    typed: AssignmentForm,
    problem: Option<Problem>,
    preview: Option<DiffAnswer>,
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

async fn change(door: &SignedIn, id: &str, mut again: Again<AssignmentForm>) -> Result<Answer, Failure> {
    let it = one(door, id).await?;
    let offer = Offer::to(door).await?;
    let roles = offer.map(|offer| offer.roles).unwrap_or_default();
    if again.typed.role.is_empty() {
        again.typed.role = it.role.clone();
    }
    let names = roles.with(&it.role);
    let roles = Roles { names, ..roles };
    let row = held::rows(&door.actor, vec![it])
        .pop()
        .ok_or_else(|| Failure::not_found("assignment", id))?;
    let page = AssignmentPage {
        frame: Frame::new(door, "roles", "Change an assignment"),
        row,
        roles,
        previews: super::told::reads_roles_somewhere(&door.actor),
        typed: again.typed,
        problem: again.problem,
        preview: again.preview,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// What a form sends.
#[derive(Default, Deserialize, JsonSchema)]
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
    match Again::or(make(&door, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) if again.typed.act.ends_with("change") => {
            let which = again.typed.assignment.clone();
            change(&door, &which, again).await
        }
        Err(again) => list_page(&door, Wanted::default(), again).await,
    }
}

/// The other role in place of the one that is held; the end of a role changes nothing at once.
fn planned(now: &Assignment, role: &str) -> Vec<Planned> {
    let (user, group) = (now.user.clone(), now.group.clone());
    let is_other = !role.is_empty() && role != now.role;
    let taken = Planned::Unassign {
        role: now.role.clone(),
        user: user.clone(),
        group: group.clone(),
        on: now.on.clone(),
    };
    let given = Planned::Assign {
        role: role.to_owned(),
        user,
        group,
        on: now.on.clone(),
    };
    match is_other {
        true => vec![taken, given],
        false => vec![taken],
    }
}

async fn make(door: &SignedIn, form: &AssignmentForm) -> Result<Acted, Failure> {
    let context = &door.context;
    match form.act.as_str() {
        "give" | "preview-give" => {
            let giving = Giving {
                user: given(&form.user),
                group: given(&form.group),
                role: &form.role,
                on: &form.on,
                until: &form.until,
                reason: &form.reason,
            };
            if form.act == "preview-give" {
                return preview_giving(door, giving).await;
            }
            held::give(door, giving).await?;
            Ok(Answer::see("/assignments").into())
        }
        "preview-change" => {
            let now = one(door, &form.assignment).await?;
            if form.role.trim() == now.role {
                return Err(Failure::invalid(
                    "the role stays the same; another end changes nothing before that moment",
                ));
            }
            held::preview(door, planned(&now, form.role.trim())).await
        }
        "preview-take-change" => {
            let now = one(door, &form.assignment).await?;
            held::preview(door, planned(&now, "")).await
        }
        "change" => {
            let now = one(door, &form.assignment).await?;
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
            Ok(Answer::see(&back).into())
        }
        "take" => {
            held::take(context, &form.assignment).await?;
            Ok(Answer::see("/assignments").into())
        }
        act => Err(unknown(act)),
    }
}

//! Role assignments as they stand in the tables of several pages, and the form that gives a role.

use axum::http::StatusCode;
use bailiwick_access::{ObjectKind, Scope, Target};
use bailiwick_api::access::{Diff, DiffAnswer, Planned};
use bailiwick_api::permission::RolePermissions;
use bailiwick_api::roles::{Assignment, NewAssignment, NewAssignments, Role, ScopeView};
use bailiwick_api::users::User;
use bailiwick_api::workspaces::PlaceFilter;
use bailiwick_api::{Permission, ProjectId, Time, WorkspaceId, ids};
use bailiwick_store::access::Actor;
use schemars::JsonSchema;
use serde::Deserialize;

use super::ago;
use super::told::{Problem, given, segment};
use crate::access::{Answer, Context, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::pages::escape;
use crate::routes;

/// `2027-01-31 12:00 UTC`
pub fn moment(time: impl std::borrow::Borrow<Time>) -> String {
    let text = time.borrow().to_string();
    match text.get(..16) {
        Some(start) => format!("{} UTC", start.replace('T', " ")),
        None => text,
    }
}

/// The position that a link to the next page carries.
pub fn position(after: &str) -> Result<Option<i64>, Failure> {
    let missing = || Failure::invalid("this is not the address of a page of the list");
    given(after)
        .map(|after| ids::as_number(&after).ok_or_else(missing))
        .transpose()
}

/// Names that were typed apart by commas.
pub fn names(text: &str) -> Vec<String> {
    text.split(',').filter_map(given).collect()
}

/// Something that can be gone to, where there is a page of it.
pub struct Thing {
    pub words: String,
    pub path: Option<String>,
}

/// A row of the table.
pub struct Row {
    pub it: Assignment,
    pub holder: Thing,
    pub place: Thing,
    pub until: Option<String>,
    pub given: String,
    /// Whether whoever looks may take it away or change it.
    pub may_change: bool,
}

/// A table of assignments. Which columns it has follows from what the page is about.
pub struct Held {
    pub rows: Vec<Row>,
    pub who: bool,
    pub role: bool,
    /// Says through which group it comes.
    pub from: bool,
    /// Where its forms go.
    pub path: String,
    /// What to say where there is nothing.
    pub nothing: &'static str,
}

impl Held {
    pub fn may_change_some(&self) -> bool {
        self.rows.iter().any(|row| row.may_change)
    }

    /// On the page of a user: what comes through a group is changed on the page of the group, where one sees whom else it concerns.
    pub fn of_user(mut self) -> Held {
        for row in &mut self.rows {
            row.may_change &= row.it.group.is_none();
        }
        self
    }
}

pub fn rows(actor: &Actor, items: Vec<Assignment>) -> Vec<Row> {
    let now = actor.now();
    let row = |it: Assignment| {
        let target = scope(&it.scope).map(|scope| actor.picture().scope_target(scope));
        let may = target.is_some_and(|target| actor.may(Permission::RolesAssign, &target).is_some());
        Row {
            holder: holder(actor, &it),
            place: place(&it.scope),
            until: it.until.map(moment),
            given: ago(it.created_at, now),
            may_change: may && !it.built_in,
            it,
        }
    };
    items.into_iter().map(row).collect()
}

fn holder(actor: &Actor, it: &Assignment) -> Thing {
    match (&it.user, &it.group) {
        (Some(user), _) => Thing {
            words: user.clone(),
            path: it.user_id.map(|id| format!("/users/{id}")),
        },
        (None, Some(group)) => Thing {
            words: group.clone(),
            path: Some(group_path(actor, group)),
        },
        (None, None) => Thing {
            words: String::new(),
            path: None,
        },
    }
}

/// By number, since a name may change, and hold anything.
pub fn group_path(actor: &Actor, name: &str) -> String {
    match actor.picture().find_group(name) {
        Some(id) => format!("/groups/{id}"),
        None => format!("/groups/{}", segment(name)),
    }
}

pub fn role_path(actor: &Actor, name: &str) -> String {
    match actor.picture().find_role(name) {
        Some(id) => format!("/roles/{id}"),
        None => format!("/roles/{}", segment(name)),
    }
}

/// Where something holds, for people.
pub fn place(scope: &ScopeView) -> Thing {
    match scope {
        ScopeView::Global => Thing {
            words: "everywhere".into(),
            path: None,
        },
        ScopeView::Workspace { id, name } => Thing {
            words: format!("workspace {name}"),
            path: Some(format!("/workspaces/{id}")),
        },
        ScopeView::Project { id, name, workspace } => match workspace {
            Some(workspace) => Thing {
                words: format!("project {workspace} / {name}"),
                path: Some(format!("/workspaces/{}/projects/{id}", segment(workspace))),
            },
            None => Thing {
                words: format!("project {name}"),
                path: None,
            },
        },
        ScopeView::Object { object, id, name } if name.is_empty() => Thing {
            words: format!("{object} {id}"),
            path: (object == "experiment").then(|| format!("/experiments/{id}")),
        },
        ScopeView::Object { object, name, .. } => Thing {
            words: format!("{object} {name}"),
            path: None,
        },
    }
}

fn scope(view: &ScopeView) -> Option<Scope> {
    Some(match view {
        ScopeView::Global => Scope::Global,
        ScopeView::Workspace { id, .. } => Scope::Workspace(WorkspaceId(*id)),
        ScopeView::Project { id, .. } => Scope::Project(ProjectId(*id)),
        ScopeView::Object { object, id, .. } => {
            let kind = match object.as_str() {
                "experiment" => ObjectKind::Experiment,
                "model" => ObjectKind::Model,
                "queue" => ObjectKind::Queue,
                "stack" => ObjectKind::Stack,
                _ => return None,
            };
            Scope::Object(kind, *id)
        }
    })
}

/// The roles that a form offers: all of them where they are few, else the first, and others are found while one types.
#[derive(Default)]
pub struct Roles {
    pub names: Vec<String>,
    pub more: bool,
}

/// Most roles that are offered to be picked from a list.
const PICKED: i64 = 60;

impl Roles {
    /// Those that whoever looks may give at one of these places, or that fit by themselves where no place is named.
    pub async fn to_give(context: &Context, actor: &Actor, at: &[Target], everywhere: bool) -> Result<Roles, Failure> {
        let filter = first_roles("");
        let Json(page) = context.ask(routes::roles::list, &[], Query(filter)).await?;
        let fits = |role: &Role| {
            let words = role.permissions.iter().map(String::as_str);
            let Ok(permissions) = RolePermissions::parse(words) else {
                return false;
            };
            if at.is_empty() {
                return !role.global_only;
            }
            let mut fitting = at
                .iter()
                .filter(|target| !role.global_only || everywhere && **target == Target::default());
            fitting.any(|target| actor.missing_to_grant(permissions, target, None).is_none())
        };
        Ok(Roles {
            more: page.next.is_some(),
            names: page.items.into_iter().filter(fits).map(|role| role.name).collect(),
        })
    }

    /// The first of all that there are.
    pub async fn known(door: &SignedIn, text: &str) -> Result<Vec<String>, Failure> {
        let filter = first_roles(text);
        let Json(page) = door.context.ask(routes::roles::list, &[], Query(filter)).await?;
        Ok(page.items.into_iter().map(|role| role.name).collect())
    }

    /// With a role that stands there already in front.
    pub fn with(&self, now: &str) -> Vec<String> {
        let others = self.names.iter().filter(|name| *name != now);
        std::iter::once(now.to_owned()).chain(others.cloned()).collect()
    }
}

fn first_roles(text: &str) -> routes::roles::RoleFilter {
    routes::roles::RoleFilter {
        text: given(text),
        after: None,
        limit: Some(PICKED),
    }
}

/// What the form offers that gives a role.
pub struct Offer {
    pub roles: Roles,
    /// As they are typed: `installation`, `workspace:NAME`; of very many the first.
    pub places: Vec<String>,
    /// Whether one may see beforehand what would change.
    pub previews: bool,
}

impl Offer {
    /// What this actor may hand out; `None` where that is nothing anywhere.
    pub async fn to(door: &SignedIn) -> Result<Option<Offer>, Failure> {
        let actor = &door.actor;
        let kinds = [
            ObjectKind::Experiment,
            ObjectKind::Queue,
            ObjectKind::Model,
            ObjectKind::Stack,
        ];
        if kinds
            .into_iter()
            .all(|kind| actor.visible(Permission::RolesAssign, kind).is_nothing())
        {
            return Ok(None);
        }
        let workspaces = workspaces(door, "").await?;
        let mut targets = vec![("installation".to_owned(), Target::default())];
        targets.extend(workspaces.into_iter().map(|(id, name)| {
            let target = actor.picture().workspace_target(id);
            (format!("workspace:{name}"), target)
        }));
        targets.retain(|(_, target)| actor.may(Permission::RolesAssign, target).is_some());
        let (places, at): (Vec<String>, Vec<Target>) = targets.into_iter().unzip();
        Ok(Some(Offer {
            // Whoever may give at single projects or things alone is offered all that could be given there.
            roles: Roles::to_give(&door.context, actor, &at, true).await?,
            places,
            previews: super::told::reads_roles_somewhere(actor),
        }))
    }
}

/// The workspaces that one may see and whose names hold this text; of very many the first.
pub async fn workspaces(door: &SignedIn, text: &str) -> Result<Vec<(WorkspaceId, String)>, Failure> {
    let filter = PlaceFilter {
        text: given(text),
        limit: Some(SUGGESTED),
        ..PlaceFilter::default()
    };
    let Json(page) = door.context.ask(routes::workspaces::list, &[], Query(filter)).await?;
    Ok(page.items.into_iter().map(|one| (one.id, one.name)).collect())
}

/// How many names are suggested at once.
const SUGGESTED: i64 = 50;

/// Names of users that hold this text; of very many the first.
pub async fn people(door: &SignedIn, text: &str) -> Result<Vec<String>, Failure> {
    let filter = routes::users::UserFilter {
        text: given(text),
        limit: Some(SUGGESTED),
        ..Default::default()
    };
    let Json(page) = door.context.ask(routes::users::list, &[], Query(filter)).await?;
    Ok(page.items.into_iter().map(|User { name, .. }| name).collect())
}

/// Names of groups that one may see and that hold this text; of very many the first.
pub async fn groups(door: &SignedIn, text: &str) -> Result<Vec<String>, Failure> {
    let filter = routes::groups::After {
        text: given(text),
        after: None,
        limit: Some(SUGGESTED),
    };
    let Json(page) = door.context.ask(routes::groups::list, &[], Query(filter)).await?;
    Ok(page.items.into_iter().map(|group| group.name).collect())
}

/// Places as they are typed. What was typed so far may be a part of a name, or begin with the word for a kind of place.
pub async fn places(door: &SignedIn, text: &str) -> Result<Vec<String>, Failure> {
    let named = |kind: &'static str, names: Vec<String>| names.into_iter().map(move |name| format!("{kind}:{name}"));
    if let Some((workspace, part)) = text.strip_prefix("project:").and_then(|rest| rest.split_once('/')) {
        let filter = PlaceFilter {
            text: given(part),
            limit: Some(SUGGESTED),
            ..PlaceFilter::default()
        };
        let path = [("workspace", workspace.trim())];
        let found = door.context.ask(routes::projects::list_of, &path, Query(filter)).await;
        let Ok(Json(page)) = found else { return Ok(Vec::new()) };
        let projects = page
            .items
            .into_iter()
            .map(|one| format!("{}/{}", one.workspace, one.name));
        return Ok(named("project", projects.collect()).collect());
    }
    let (kind, part) = match text.split_once(':') {
        Some((kind, part)) => (kind.trim(), part),
        None => ("", text),
    };
    let mut found = Vec::new();
    if kind.is_empty() && "installation".contains(&part.trim().to_lowercase()) {
        found.push("installation".to_owned());
    }
    if ["", "workspace", "project"].contains(&kind) {
        let names = workspaces(door, part).await?.into_iter().map(|(_, name)| name);
        match kind {
            "project" => found.extend(names.map(|name| format!("project:{name}/"))),
            _ => found.extend(named("workspace", names.collect())),
        }
    }
    if ["", "queue"].contains(&kind) {
        let Json(queues) = door.context.ask(routes::queues::list, &[], NoInput).await?;
        let part = part.trim().to_lowercase();
        let fitting = queues.items.into_iter().map(|queue| queue.name);
        let fitting = fitting.filter(|name| name.to_lowercase().contains(&part));
        found.extend(named("queue", fitting.take(SUGGESTED as usize).collect()));
    }
    Ok(found)
}

/// What was typed so far, by the name of the field it stands in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Typed {
    user: Option<String>,
    /// Several, apart by commas.
    users: Option<String>,
    group: Option<String>,
    role: Option<String>,
    workspace: Option<String>,
    on: Option<String>,
    /// Users, or a group, as `kind` says.
    who: Option<String>,
    kind: Option<String>,
}

/// Suggestions for a field, as the options of its list. Of several names the last is gone on with, and those before it are kept.
pub async fn suggest(door: SignedIn, Query(typed): Query<Typed>) -> Result<Answer, Failure> {
    let of_group = typed.kind.as_deref() == Some("group");
    let (group, users) = match typed.who {
        Some(who) if of_group => (Some(who), None),
        Some(who) => (typed.group, Some(who)),
        None => (typed.group, typed.users),
    };
    let mut kept = String::new();
    let names = match (typed.user, users, group, typed.role, typed.workspace, typed.on) {
        (Some(text), ..) => people(&door, &text).await?,
        (_, Some(text), ..) => {
            let (before, last) = text.rsplit_once(',').unwrap_or(("", &text));
            if !before.is_empty() {
                kept = format!("{}, ", before.trim());
            }
            people(&door, last).await?
        }
        (_, _, Some(text), ..) => groups(&door, &text).await?,
        (_, _, _, Some(text), ..) => Roles::known(&door, &text).await?,
        (_, _, _, _, Some(text), _) => {
            let found = workspaces(&door, &text).await?;
            found.into_iter().map(|(_, name)| name).collect()
        }
        (.., Some(text)) => places(&door, &text).await?,
        _ => Vec::new(),
    };
    let options: String = names
        .iter()
        .map(|name| format!("<option value=\"{}\"></option>", escape(&format!("{kept}{name}"))))
        .collect();
    Ok(Answer::page(options))
}

/// Until when, as it was typed: nothing, a date, or a length of time.
pub fn until(text: &str, now: Time) -> Result<Option<Time>, Failure> {
    given(text)
        .map(|text| Time::parse_until(&text, now).map_err(Failure::invalid))
        .transpose()
}

/// Most changes that a preview shows.
pub const EFFECTS_SHOWN: usize = 50;

/// A form that is shown again as it was sent: it was refused, or one wants to see what it would change.
#[derive(Default)]
pub struct Again<F> {
    pub typed: F,
    pub problem: Option<Problem>,
    pub preview: Option<DiffAnswer>,
}

/// What came of a form.
pub enum Acted {
    Done(Answer),
    Preview(DiffAnswer),
}

impl From<Answer> for Acted {
    fn from(answer: Answer) -> Acted {
        Acted::Done(answer)
    }
}

impl<F> Again<F> {
    /// The answer where it was done, else the form again. A fault of the server is told on a page of its own, and so is what somebody may not do: perhaps the
    /// page with the form may not be seen either, and one refusal is recorded once.
    pub fn or(outcome: Result<Acted, Failure>, typed: F) -> Result<Result<Answer, Again<F>>, Failure> {
        let outcome = match outcome {
            Err(failure) if failure.status == StatusCode::FORBIDDEN => return Err(failure),
            other => other,
        };
        let (problem, preview) = match Problem::or(outcome)? {
            Ok(Acted::Done(answer)) => return Ok(Ok(answer)),
            Ok(Acted::Preview(diff)) => (None, Some(diff)),
            Err(problem) => (Some(problem), None),
        };
        Ok(Err(Again {
            typed,
            problem,
            preview,
        }))
    }
}

/// What these changes would give and take. Nothing is changed.
pub async fn preview(door: &SignedIn, changes: Vec<Planned>) -> Result<Acted, Failure> {
    let diff = Json(Diff { changes });
    let Json(it) = door.context.ask(routes::access::diff, &[], diff).await?;
    Ok(Acted::Preview(it))
}

/// The fields of the form that gives a role, and to whom.
pub struct Giving<'a> {
    pub user: Option<String>,
    pub group: Option<String>,
    pub role: &'a str,
    pub on: &'a str,
    pub until: &'a str,
    pub reason: &'a str,
}

impl Giving<'_> {
    fn role_and_place(&self) -> Result<(String, String), Failure> {
        let Some(role) = given(self.role) else {
            return Err(Failure::invalid("no role was chosen"));
        };
        // An empty field must not mean everywhere.
        let Some(on) = given(self.on) else {
            return Err(Failure::invalid(
                "the place is empty: write `installation` for everywhere",
            ));
        };
        Ok((role, on))
    }
}

/// What giving it would change.
pub async fn preview_giving(door: &SignedIn, giving: Giving<'_>) -> Result<Acted, Failure> {
    let (role, on) = giving.role_and_place()?;
    let (user, group) = (giving.user, giving.group);
    if user.is_some() == group.is_some() {
        return Err(Failure::invalid("name a user or a group, one of the two"));
    }
    preview(door, vec![Planned::Assign { role, user, group, on }]).await
}

pub async fn give(door: &SignedIn, giving: Giving<'_>) -> Result<(), Failure> {
    let (role, on) = giving.role_and_place()?;
    let one = NewAssignment {
        role,
        user: giving.user,
        group: giving.group,
        on: Some(on),
        until: until(giving.until, door.actor.now())?,
        lifetime_ms: None,
    };
    let new = NewAssignments {
        assignments: vec![one],
        reason: giving.reason.trim().to_owned(),
    };
    door.context.ask(routes::assignments::give, &[], Json(new)).await?;
    Ok(())
}

pub async fn take(context: &Context, assignment: &str) -> Result<(), Failure> {
    let path = [("assignment", assignment)];
    context.ask(routes::assignments::take_by_id, &path, NoInput).await?;
    Ok(())
}

/// What destroys is asked about in the form itself, so that nothing needs a script.
pub fn must_be_sure(sure: &str) -> Result<(), Failure> {
    match sure {
        "yes" => Ok(()),
        _ => Err(Failure::invalid(
            "nothing was done: the box that says one is sure was not ticked",
        )),
    }
}

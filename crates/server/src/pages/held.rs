//! Role assignments as they stand in the tables of several pages, and the form that gives a role.

use bailiwick_access::{ObjectKind, Scope, Target};
use bailiwick_api::permission::RolePermissions;
use bailiwick_api::roles::{Assignment, NewAssignment, NewAssignments, Role, ScopeView};
use bailiwick_api::users::User;
use bailiwick_api::workspaces::PlaceFilter;
use bailiwick_api::{Permission, ProjectId, Time, WorkspaceId};
use bailiwick_store::access::Actor;
use schemars::JsonSchema;
use serde::Deserialize;

use super::ago;
use super::told::{given, segment};
use crate::access::{Answer, Context, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::pages::escape;
use crate::routes;

/// `2027-01-31 12:00 UTC`
pub fn moment(time: Time) -> String {
    let text = time.to_string();
    match text.get(..16) {
        Some(start) => format!("{} UTC", start.replace('T', " ")),
        None => text,
    }
}

/// The position that a link to the next page carries.
pub fn position(after: &str) -> Result<Option<i64>, Failure> {
    given(after)
        .map(|after| {
            after
                .parse()
                .map_err(|_| Failure::invalid("this is not the address of a page of the list"))
        })
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

/// What the form offers that gives a role.
pub struct Offer {
    pub roles: Vec<Role>,
    /// As they are typed: `installation`, `workspace:NAME`.
    pub places: Vec<String>,
}

impl Offer {
    /// What this actor may hand out; `None` where that is nothing anywhere.
    pub async fn to(door: &SignedIn) -> Result<Option<Offer>, Failure> {
        let actor = &door.actor;
        let kinds = [ObjectKind::Experiment, ObjectKind::Queue];
        if kinds
            .into_iter()
            .all(|kind| actor.visible(Permission::RolesAssign, kind).is_nothing())
        {
            return Ok(None);
        }
        let workspaces = workspaces(door).await?;
        let mut targets = vec![("installation".to_owned(), Target::default())];
        targets.extend(workspaces.into_iter().map(|(id, name)| {
            let target = actor.picture().workspace_target(id);
            (format!("workspace:{name}"), target)
        }));
        targets.retain(|(_, target)| actor.may(Permission::RolesAssign, target).is_some());
        // Whoever may give at single projects or things alone is offered all that could be given there.
        let below = targets.is_empty();
        let roles = roles(door).await?;
        let fits = |role: &Role| {
            let words = role.permissions.iter().map(String::as_str);
            let Ok(permissions) = RolePermissions::parse(words) else {
                return false;
            };
            let mut at = targets
                .iter()
                .filter(|(on, _)| !role.global_only || on == "installation");
            let grantable = at.any(|(_, target)| actor.missing_to_grant(permissions, target, None).is_none());
            grantable || below && !role.global_only
        };
        Ok(Some(Offer {
            roles: roles.into_iter().filter(fits).collect(),
            places: targets.into_iter().map(|(on, _)| on).collect(),
        }))
    }
}

/// The workspaces that one may see; of very many the first.
pub async fn workspaces(door: &SignedIn) -> Result<Vec<(WorkspaceId, String)>, Failure> {
    let filter = PlaceFilter {
        limit: Some(200),
        ..PlaceFilter::default()
    };
    let Json(page) = door.context.ask(routes::workspaces::list, &[], Query(filter)).await?;
    Ok(page.items.into_iter().map(|one| (one.id, one.name)).collect())
}

/// All roles; of very many the first.
pub async fn roles(door: &SignedIn) -> Result<Vec<Role>, Failure> {
    let filter = routes::roles::RoleFilter {
        after: None,
        limit: Some(1000),
    };
    let Json(page) = door.context.ask(routes::roles::list, &[], Query(filter)).await?;
    Ok(page.items)
}

/// How many names are suggested at once.
const SUGGESTED: i64 = 50;

/// Names of users that begin a list to choose from.
pub async fn people(door: &SignedIn, text: &str) -> Result<Vec<String>, Failure> {
    let filter = routes::users::UserFilter {
        text: given(text),
        limit: Some(SUGGESTED),
        ..Default::default()
    };
    let Json(page) = door.context.ask(routes::users::list, &[], Query(filter)).await?;
    Ok(page.items.into_iter().map(|User { name, .. }| name).collect())
}

/// What was typed so far, by the name of the field it stands in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Typed {
    #[serde(default)]
    user: String,
    #[serde(default)]
    users: String,
}

/// Suggestions for the last of the names that were typed; those before it are kept.
pub async fn suggest(door: SignedIn, Query(typed): Query<Typed>) -> Result<Answer, Failure> {
    let (kept, last) = match typed.users.rsplit_once(',') {
        Some((kept, last)) => (format!("{}, ", kept.trim()), last.to_owned()),
        None => (String::new(), format!("{}{}", typed.user, typed.users)),
    };
    let options: String = people(&door, &last)
        .await?
        .iter()
        .map(|name| format!("<option value=\"{}\"></option>", escape(&format!("{kept}{name}"))))
        .collect();
    Ok(Answer::page(format!("<datalist id=\"people\">{options}</datalist>")))
}

/// Until when, as it was typed: nothing, a date, or a length of time.
pub fn until(text: &str, now: Time) -> Result<Option<Time>, Failure> {
    given(text)
        .map(|text| Time::parse_until(&text, now).map_err(Failure::invalid))
        .transpose()
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

pub async fn give(door: &SignedIn, giving: Giving<'_>) -> Result<(), Failure> {
    let Some(role) = given(giving.role) else {
        return Err(Failure::invalid("no role was chosen"));
    };
    // An empty field must not mean everywhere.
    let Some(on) = given(giving.on) else {
        return Err(Failure::invalid(
            "the place is empty: write `installation` for everywhere",
        ));
    };
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

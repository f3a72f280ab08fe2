//! Roles: what each permits, and who holds them.

use std::collections::BTreeMap;

use askama::Template;
use bailiwick_access::Target;
use bailiwick_api::access::{DiffAnswer, Planned};
use bailiwick_api::permission::{PermissionScope, RolePermissions};
use bailiwick_api::roles::{NewRole, Role, RoleChange, RoleDeletion};
use bailiwick_api::{Permission, RoleId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Frame;
use super::held::{self, Acted, Again, Held, must_be_sure, position};
use super::told::{Problem, given, query, status};
use super::users::unknown;
use crate::access::{Answer, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;
use crate::routes::roles::RoleFilter;

/// How many roles stand side by side.
const PAGE: i64 = 24;

fn may(door: &SignedIn, permission: Permission) -> bool {
    door.actor.may(permission, &Target::default()).is_some()
}

/// How far a role lets one go with a permission. Its word is also what styles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaches {
    All,
    Own,
    None,
}

impl Reaches {
    const EACH: [Reaches; 3] = [Reaches::None, Reaches::Own, Reaches::All];

    fn of(role: RolePermissions, permission: Permission) -> Reaches {
        match permission {
            one if role.all.contains(one) => Reaches::All,
            one if role.own.contains(one) => Reaches::Own,
            _ => Reaches::None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Reaches::All => "all",
            Reaches::Own => "own",
            Reaches::None => "none",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Reaches::All => "●",
            Reaches::Own => "◐",
            Reaches::None => "○",
        }
    }
}

fn permissions(role: &Role) -> Result<RolePermissions, Failure> {
    RolePermissions::parse(role.permissions.iter().map(String::as_str)).map_err(Failure::internal)
}

/// The permissions on one kind of thing, each with a value.
struct Part<T> {
    resource: &'static str,
    lines: Vec<Line<T>>,
}

struct Line<T> {
    permission: Permission,
    value: T,
}

impl<T> Line<T> {
    fn global_only(&self) -> bool {
        self.permission.scope() == PermissionScope::Global
    }
}

/// Those permissions for which there is a value, in their order.
fn parts<T>(value: impl Fn(Permission) -> Option<T>) -> Vec<Part<T>> {
    let mut parts: Vec<Part<T>> = Vec::new();
    for permission in Permission::ALL.iter().copied() {
        let Some(value) = value(permission) else { continue };
        let line = Line { permission, value };
        match parts.last_mut() {
            Some(part) if part.resource == permission.resource() => part.lines.push(line),
            _ => parts.push(Part {
                resource: permission.resource(),
                lines: vec![line],
            }),
        }
    }
    parts
}

/// What the address asks for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Wanted {
    /// Part of a name.
    #[serde(default)]
    text: String,
    #[serde(default)]
    after: String,
    /// The form of a new role, in place of the list.
    #[serde(default)]
    make: String,
    /// A role that the new one begins as.
    #[serde(default)]
    like: String,
}

#[derive(Template)]
#[template(path = "roles.html")]
struct RolesPage {
    frame: Frame,
    roles: Vec<Role>,
    parts: Vec<Part<Vec<Reaches>>>,
    wanted: Wanted,
    first: String,
    next: Option<String>,
    may_create: bool,
}

/// Signed in: what a role permits is no secret.
pub async fn list(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    if !wanted.make.is_empty() {
        return make(&door, &wanted.like, Again::default()).await;
    }
    let after = position(&wanted.after)?;
    let filter = RoleFilter {
        text: given(&wanted.text),
        after,
        limit: Some(PAGE),
    };
    let Json(page) = door.context.ask(routes::roles::list, &[], Query(filter)).await?;
    let permits = page.items.iter().map(permissions).collect::<Result<Vec<_>, _>>()?;
    let page = RolesPage {
        frame: Frame::new(&door, "roles", "Roles"),
        parts: parts(|permission| Some(permits.iter().map(|role| Reaches::of(*role, permission)).collect())),
        roles: page.items,
        first: query(&[("text", &wanted.text)]),
        next: page.next.map(|next| query(&[("text", &wanted.text), ("after", &next)])),
        wanted,
        may_create: may(&door, Permission::RolesCreate),
    };
    page.frame.answer(&page)
}

#[derive(Template)]
#[template(path = "role_new.html")]
struct NewRolePage {
    frame: Frame,
    parts: Vec<Part<Reaches>>,
    like: Option<Role>,
    typed: RoleForm,
    problem: Option<Problem>,
}

async fn make(door: &SignedIn, like: &str, again: Again<RoleForm>) -> Result<Answer, Failure> {
    let like = match like {
        "" => None,
        which => {
            let Json(detail) = door
                .context
                .ask(routes::roles::show, &[("role", which)], NoInput)
                .await?;
            Some(detail.role)
        }
    };
    let begun = match again.problem.is_some() {
        true => again.typed.reach()?,
        false => like.as_ref().map(permissions).transpose()?.unwrap_or_default(),
    };
    let page = NewRolePage {
        frame: Frame::new(door, "roles", "New role"),
        parts: parts(|permission| Some(Reaches::of(begun, permission))),
        like,
        typed: again.typed,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// What the forms send.
#[derive(Default, Deserialize, JsonSchema)]
pub struct RoleForm {
    act: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    assignment: String,
    #[serde(default)]
    sure: String,
    /// Its assignments are deleted with it.
    #[serde(default)]
    force: String,
    /// For each permission how far it reaches: `p.experiments:read=own`.
    #[serde(flatten)]
    reaches: BTreeMap<String, String>,
}

impl RoleForm {
    fn reach(&self) -> Result<RolePermissions, Failure> {
        RolePermissions::parse(self.permissions().iter().map(String::as_str)).map_err(Failure::invalid)
    }

    fn permissions(&self) -> Vec<String> {
        let each = self
            .reaches
            .iter()
            .filter_map(|(key, reach)| Some((key.strip_prefix("p.")?, reach)));
        each.filter_map(|(permission, reach)| match reach.as_str() {
            "all" => Some(permission.to_owned()),
            "own" => Some(format!("{permission}:own")),
            _ => None,
        })
        .collect()
    }
}

fn see(role: RoleId) -> Answer {
    Answer::see(&format!("/roles/{role}"))
}

/// Signed in; each act asks for what it needs.
pub async fn act_on_list(door: SignedIn, Form(form): Form<RoleForm>) -> Result<Answer, Failure> {
    let outcome = match form.act.as_str() {
        "create" => create(&door, &form).await,
        act => return Err(unknown(act)),
    };
    match Again::or(outcome.map(Acted::Done), form)? {
        Ok(answer) => Ok(answer),
        Err(again) => make(&door, "", again).await,
    }
}

async fn create(door: &SignedIn, form: &RoleForm) -> Result<Answer, Failure> {
    let new = NewRole {
        name: form.name.trim().to_owned(),
        description: form.description.trim().to_owned(),
        permissions: form.permissions(),
    };
    let Json(role) = door.context.ask(routes::roles::create, &[], Json(new)).await?;
    Ok(see(role.id))
}

#[derive(Template)]
#[template(path = "role.html")]
struct RolePage {
    frame: Frame,
    role: Role,
    holds: Vec<Part<Reaches>>,
    /// For the form that changes it.
    parts: Vec<Part<Reaches>>,
    held: Held,
    more_held: bool,
    may_create: bool,
    may_update: bool,
    may_delete: bool,
    /// Whether one may see beforehand what would change.
    previews: bool,
    typed: RoleForm,
    problem: Option<Problem>,
    preview: Option<DiffAnswer>,
}

impl RolePage {
    /// What the form was for that is shown again.
    fn about(&self) -> &str {
        self.typed.act.trim_start_matches("preview-")
    }
}

/// Signed in; who holds it is shown as far as one may see that.
pub async fn show(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    role_page(&door, Again::default()).await
}

async fn role_page(door: &SignedIn, mut again: Again<RoleForm>) -> Result<Answer, Failure> {
    let path = [("role", door.context.path("role"))];
    let Json(detail) = door.context.ask(routes::roles::show, &path, NoInput).await?;
    let role = detail.role;
    let permits = permissions(&role)?;
    let may_update = !role.built_in && may(door, Permission::RolesUpdate);
    let is_typed = again.typed.act.ends_with("change");
    if !is_typed {
        (again.typed.name, again.typed.description) = (role.name.clone(), role.description.clone());
    }
    let typed_reach = match is_typed {
        true => again.typed.reach().unwrap_or(permits),
        false => permits,
    };
    let mut assignments = detail.assignments;
    let more_held = detail.more || assignments.len() > HELD_SHOWN;
    assignments.truncate(HELD_SHOWN);
    let page = RolePage {
        frame: Frame::new(door, "roles", &role.name),
        holds: parts(|permission| Some(Reaches::of(permits, permission)).filter(|reach| *reach != Reaches::None)),
        parts: match may_update {
            true => parts(|permission| Some(Reaches::of(typed_reach, permission))),
            false => Vec::new(),
        },
        held: Held {
            rows: held::rows(&door.actor, assignments),
            who: true,
            role: false,
            from: false,
            path: format!("/roles/{}", role.id),
            nothing: "Nobody holds it, as far as you may see.",
        },
        more_held,
        may_create: may(door, Permission::RolesCreate),
        may_update,
        may_delete: !role.built_in && may(door, Permission::RolesDelete),
        previews: super::told::reads_roles_somewhere(&door.actor),
        typed: again.typed,
        problem: again.problem,
        preview: again.preview,
        role,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// How many of those who hold a role its page names.
const HELD_SHOWN: usize = 100;

/// Signed in; each act asks for what it needs.
pub async fn act(door: SignedIn, Form(form): Form<RoleForm>) -> Result<Answer, Failure> {
    match Again::or(change(&door, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => role_page(&door, again).await,
    }
}

/// What the form would add to the role, and remove from it.
async fn planned(door: &SignedIn, form: &RoleForm) -> Result<Planned, Failure> {
    let path = [("role", door.context.path("role"))];
    let Json(detail) = door.context.ask(routes::roles::show, &path, NoInput).await?;
    let (had, wanted) = (detail.role.permissions, form.permissions());
    let only_in = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|one| !those.contains(one)).cloned().collect()
    };
    Ok(Planned::EditRole {
        role: detail.role.id.to_string(),
        add: only_in(&wanted, &had),
        remove: only_in(&had, &wanted),
    })
}

async fn change(door: &SignedIn, form: &RoleForm) -> Result<Acted, Failure> {
    let which = door.context.path("role").to_owned();
    let path = [("role", which.as_str())];
    let context = &door.context;
    match form.act.as_str() {
        "change" => {
            let change = RoleChange {
                name: Some(form.name.trim().to_owned()),
                description: Some(form.description.trim().to_owned()),
                permissions: Some(form.permissions()),
                ..RoleChange::default()
            };
            let Json(role) = context.ask(routes::roles::update, &path, Json(change)).await?;
            Ok(see(role.id).into())
        }
        "preview-change" => held::preview(door, vec![planned(door, form).await?]).await,
        "preview-delete" => {
            let role = which.clone();
            held::preview(door, vec![Planned::DeleteRole { role }]).await
        }
        "delete" => {
            must_be_sure(&form.sure)?;
            let how = RoleDeletion {
                force: (form.force == "yes").then_some(true),
            };
            context.ask(routes::roles::delete, &path, Query(how)).await?;
            Ok(Answer::see("/roles").into())
        }
        "take" => {
            held::take(context, &form.assignment).await?;
            Ok(Answer::see(&format!("/roles/{}", super::told::segment(&which))).into())
        }
        act => Err(unknown(act)),
    }
}

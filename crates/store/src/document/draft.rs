//! What a document would do: the steps, in the order in which they are made, what is missing for each, and what is wrong with the document.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bailiwick_access::{Assignment, Holder, Scope, Target};
use bailiwick_api::document::{AccessDocument, PlannedAct};
use bailiwick_api::ids::as_number;
use bailiwick_api::names::{name_key, nearest};
use bailiwick_api::on::On;
use bailiwick_api::permission::RolePermissions;
use bailiwick_api::users::{PrincipalKind, UserState};
use bailiwick_api::workspaces::check_description;
use bailiwick_api::{AssignmentId, GroupId, Permission, PrincipalId, ProjectId, RoleId, Time, WorkspaceId};
use serde_json::{Value, json};

use super::{Have, live};
use crate::access::{Actor, Refusal, resolve, scope_of};
use crate::assignments::{ChangeError, Changed};
use crate::picture::Picture;

mod assignments;
mod people;
mod places;
mod roles;

/// How many faults of a document are told at once.
const FAULTS_TOLD: usize = 20;
/// How many names a line of a plan holds.
const NAMES_TOLD: usize = 20;

/// One change. Ids of what a document makes are made up (above all that are there) until the step is made.
pub(super) enum Step {
    MakePrincipal {
        id: PrincipalId,
        kind: PrincipalKind,
        name: String,
        display_name: Option<String>,
        state: UserState,
        remote: bool,
        own_roles_only: bool,
    },
    ChangeUser {
        id: PrincipalId,
        name: String,
        display_name: Option<String>,
        state: UserState,
        remote: bool,
        own_roles_only: bool,
        /// What ends with it.
        shuts_out: bool,
        becomes_remote: bool,
    },
    PutRole {
        id: RoleId,
        is_new: bool,
        name: String,
        description: String,
        permissions: RolePermissions,
    },
    PutGroup {
        id: GroupId,
        is_new: bool,
        name: String,
        description: String,
    },
    PutWorkspace {
        id: WorkspaceId,
        is_new: bool,
        name: String,
        description: String,
        archived: Option<bool>,
    },
    PutProject {
        id: ProjectId,
        is_new: bool,
        workspace: WorkspaceId,
        name: String,
        description: String,
        archived: Option<bool>,
    },
    Unassign(Assignment),
    /// Another end; from now on an ordinary assignment, if it was one on request.
    ChangeEnd(Assignment, Option<Time>),
    Assign(Assignment),
    Leave(GroupId, Vec<PrincipalId>),
    Join(GroupId, Vec<PrincipalId>),
    DeleteGroup(GroupId),
    DeleteRole(RoleId),
}

pub(super) struct Drafted {
    pub(super) step: Step,
    pub(super) act: PlannedAct,
    pub(super) words: String,
    /// What the actor lacks for it.
    pub(super) missing: Option<(Permission, Target)>,
    /// Whether it is because the key in use is less than its owner, or ends.
    pub(super) partial_key: bool,
    /// For the audit.
    pub(super) detail: Value,
}

/// What a document would do, in the order in which it is done.
pub(super) struct Draft {
    pub(super) steps: Vec<Drafted>,
    pub(super) warnings: Vec<String>,
    pub(super) labels: Labels,
}

/// Names of what a document makes, by their made-up ids.
#[derive(Default)]
pub(super) struct Labels {
    principals: HashMap<PrincipalId, String>,
    /// Which of them are service accounts.
    services: HashSet<PrincipalId>,
    groups: HashMap<GroupId, String>,
    roles: HashMap<RoleId, String>,
    workspaces: HashMap<WorkspaceId, String>,
    pub(super) projects: HashMap<ProjectId, (WorkspaceId, String)>,
}

impl Labels {
    pub(super) fn principal(&self, picture: &Picture, id: PrincipalId) -> String {
        let new = self.principals.get(&id).cloned();
        new.unwrap_or_else(|| picture.principal_name(id).to_string())
    }

    pub(super) fn group(&self, picture: &Picture, id: GroupId) -> String {
        let new = self.groups.get(&id).cloned();
        new.unwrap_or_else(|| picture.group_name(id).to_string())
    }

    pub(super) fn role(&self, picture: &Picture, id: RoleId) -> String {
        let new = self.roles.get(&id).cloned();
        new.unwrap_or_else(|| picture.role_name(id).to_string())
    }

    pub(super) fn workspace(&self, picture: &Picture, id: WorkspaceId) -> String {
        let new = self.workspaces.get(&id).cloned();
        new.unwrap_or_else(|| picture.workspace_name(id).to_string())
    }

    pub(super) fn holder(&self, picture: &Picture, holder: Holder) -> (&'static str, String) {
        match holder {
            Holder::Group(id) => ("group", self.group(picture, id)),
            Holder::Principal(id) => {
                let kind = picture.principal(id).map(|one| one.kind);
                let is_service = kind == Some(PrincipalKind::Service) || self.services.contains(&id);
                let kind = if is_service { "service account" } else { "user" };
                (kind, self.principal(picture, id))
            }
        }
    }

    /// As one types it.
    pub(super) fn on(&self, picture: &Picture, scope: Scope) -> String {
        match scope {
            Scope::Workspace(id) if self.workspaces.contains_key(&id) => format!("workspace:{}", self.workspaces[&id]),
            Scope::Project(id) => match self.projects.get(&id) {
                Some((workspace, name)) => format!("project:{}/{name}", self.workspace(picture, *workspace)),
                None => crate::assignments::on(picture, scope).to_string(),
            },
            _ => crate::assignments::on(picture, scope).to_string(),
        }
    }

    /// `globally`, `on workspace "Stop Signs"`.
    pub(super) fn place(&self, picture: &Picture, scope: Scope) -> String {
        match scope {
            Scope::Workspace(id) => format!("on workspace \"{}\"", self.workspace(picture, id)),
            Scope::Project(id) => match self.projects.get(&id) {
                Some((workspace, name)) => {
                    let workspace = self.workspace(picture, *workspace);
                    format!("on project \"{name}\" (workspace \"{workspace}\")")
                }
                None => crate::assignments::place(picture, scope),
            },
            _ => crate::assignments::place(picture, scope),
        }
    }
}

/// The targets of the texts `on` that name single things, as the actor sees them; or why there is none.
pub(super) type Places = HashMap<String, std::result::Result<Target, String>>;

/// Whether the text names something that a document may make itself.
fn may_be_new(on: &On) -> bool {
    matches!(on, On::Installation | On::Workspace(_) | On::Project(..))
}

pub(super) async fn look_up(actor: &Actor, document: &AccessDocument) -> std::result::Result<Places, Refusal> {
    let mut places = Places::new();
    let texts = document.assignments.iter().flatten().filter_map(|one| one.on.as_ref());
    for text in texts {
        if places.contains_key(text) {
            continue;
        }
        let found = match On::parse_named(text) {
            Err(why) => Err(why),
            Ok(on) if may_be_new(&on) => continue,
            Ok(on) => match resolve(actor, &on).await {
                Ok(target) => Ok(target),
                Err(Refusal::NotFound { what, which }) => Err(format!("there is no {what} `{which}`")),
                Err(other) => return Err(other),
            },
        };
        places.insert(text.clone(), found);
    }
    Ok(places)
}

struct Drafting<'a> {
    actor: &'a Actor,
    picture: &'a Picture,
    have: &'a Have,
    places: &'a Places,
    now: Time,
    live: Vec<Assignment>,
    labels: Labels,
    /// By lower-case name: what the document makes.
    principals: HashMap<String, PrincipalId>,
    groups: HashMap<String, GroupId>,
    roles: HashMap<String, RoleId>,
    workspaces: HashMap<String, WorkspaceId>,
    projects: HashMap<(WorkspaceId, String), ProjectId>,
    deleted_groups: BTreeSet<GroupId>,
    deleted_roles: BTreeSet<RoleId>,
    /// What roles that are made or changed will hold.
    held: HashMap<RoleId, RolePermissions>,
    /// Assignments that will be taken away.
    taken: HashSet<AssignmentId>,
    /// Who joins which group.
    joins: Vec<(GroupId, Vec<PrincipalId>)>,
    steps: Vec<Drafted>,
    faults: Vec<String>,
    warnings: Vec<String>,
    next: i64,
}

pub(super) fn draft(actor: &Actor, have: &Have, document: &AccessDocument, places: &Places) -> Changed<Draft> {
    let picture = actor.picture();
    let now = actor.now();
    let mut drafting = Drafting {
        actor,
        picture,
        have,
        places,
        now,
        live: live(picture, now),
        labels: Labels::default(),
        principals: HashMap::new(),
        groups: HashMap::new(),
        roles: HashMap::new(),
        workspaces: HashMap::new(),
        projects: HashMap::new(),
        deleted_groups: BTreeSet::new(),
        deleted_roles: BTreeSet::new(),
        held: HashMap::new(),
        taken: HashSet::new(),
        joins: Vec::new(),
        steps: Vec::new(),
        faults: Vec::new(),
        warnings: Vec::new(),
        next: above_all(picture),
    };
    drafting.users(document.users.as_deref().unwrap_or_default());
    drafting.service_accounts(document.service_accounts.as_deref().unwrap_or_default());
    if let Some(roles) = &document.roles {
        drafting.roles(roles);
    }
    let members = document.groups.as_ref().map(|groups| drafting.groups(groups));
    drafting.workspaces(document.workspaces.as_deref().unwrap_or_default());
    if let Some(assignments) = &document.assignments {
        drafting.assignments(assignments);
    }
    drafting.members(members.unwrap_or_default());
    drafting.deletions();
    drafting.rights();
    if !drafting.faults.is_empty() {
        return Err(ChangeError::Invalid(told(&drafting.faults)));
    }
    Ok(Draft {
        steps: drafting.steps,
        warnings: drafting.warnings,
        labels: drafting.labels,
    })
}

/// A number that is no id yet, of whatever kind.
fn above_all(picture: &Picture) -> i64 {
    let mut most = picture.groups().last().map_or(0, |one| one.0.0);
    for (id, _) in picture.workspaces() {
        let projects = picture.projects(id).into_iter().map(|(id, _)| id.0);
        most = projects.chain([most, id.0]).max().unwrap_or(most);
    }
    let world = picture.world();
    let principals = world.principals().last().map_or(0, |id| id.0);
    let roles = world.roles().last().map_or(0, |role| role.id.0);
    let assignments = world.assignments().last().map_or(0, |one| one.id.0);
    most.max(principals).max(roles).max(assignments)
}

fn told(faults: &[String]) -> String {
    let mut told = match faults.len() {
        1 => faults[0].clone(),
        count => {
            let shown: Vec<String> = faults
                .iter()
                .take(FAULTS_TOLD)
                .map(|fault| format!("  {fault}"))
                .collect();
            format!("the document has {count} faults:\n{}", shown.join("\n"))
        }
    };
    if faults.len() > FAULTS_TOLD {
        told.push_str(&format!("\n  and {} more", faults.len() - FAULTS_TOLD));
    }
    told
}

/// `ana, ben and 3 more`
pub(super) fn some_names(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_TOLD)].join(", ");
    match names.len().saturating_sub(NAMES_TOLD) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Drafting<'_> {
    fn fault(&mut self, place: &str, why: impl std::fmt::Display) {
        self.faults.push(format!("{place}: {why}"));
    }

    fn fresh(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn step(
        &mut self,
        act: PlannedAct,
        words: String,
        missing: Option<(Permission, Target)>,
        detail: Value,
        step: Step,
    ) {
        self.steps.push(Drafted {
            step,
            act,
            words,
            missing,
            partial_key: false,
            detail,
        });
    }

    /// The permission, if the actor lacks it.
    fn lacks(&self, permission: Permission, target: Target) -> Option<(Permission, Target)> {
        match self.actor.may(permission, &target) {
            Some(_) => None,
            None => Some((permission, target)),
        }
    }

    fn lacks_globally(&self, permission: Permission) -> Option<(Permission, Target)> {
        self.lacks(permission, Target::default())
    }

    fn principal(&self, name: &str) -> Option<PrincipalId> {
        if let Some(new) = self.principals.get(&name_key(name)) {
            return Some(*new);
        }
        let id = self.picture.find_principal(name)?;
        let is_there = self.picture.principal(id).is_some_and(|one| !one.removed);
        is_there.then_some(id)
    }

    fn group(&self, name: &str) -> Option<GroupId> {
        let new = self.groups.get(&name_key(name)).copied();
        let found = new.or_else(|| self.picture.find_group(name));
        found.filter(|id| !self.deleted_groups.contains(id))
    }

    fn role(&self, name: &str) -> Option<RoleId> {
        let new = self.roles.get(&name_key(name)).copied();
        let found = new.or_else(|| self.picture.find_role(name));
        found.filter(|id| !self.deleted_roles.contains(id))
    }

    fn workspace(&self, name: &str) -> Option<WorkspaceId> {
        let new = self.workspaces.get(&name_key(name)).copied();
        new.or_else(|| self.picture.find_workspace(name))
    }

    fn project(&self, workspace: WorkspaceId, name: &str) -> Option<ProjectId> {
        let new = self.projects.get(&(workspace, name_key(name))).copied();
        new.or_else(|| self.picture.find_project(workspace, name))
    }

    /// What a role will hold.
    fn holds(&self, role: RoleId) -> RolePermissions {
        let new = self.held.get(&role).copied();
        new.or_else(|| self.picture.role(role).map(|role| role.permissions))
            .unwrap_or_default()
    }

    fn target(&self, scope: Scope) -> Option<Target> {
        let owner = Some(self.actor.id);
        match scope {
            Scope::Workspace(id) if self.labels.workspaces.contains_key(&id) => Some(Target {
                owner,
                ..Target::workspace(id)
            }),
            Scope::Project(id) if self.labels.projects.contains_key(&id) => Some(Target {
                project: Some(id),
                owner,
                ..Target::workspace(self.labels.projects[&id].0)
            }),
            // What somebody else shares for the first time stands among the places that were looked up.
            Scope::Object(..) => {
                let known = self.have.target(self.picture, scope);
                let named = self.places.values().flatten().find(|target| scope_of(target) == scope);
                known.or(named.copied())
            }
            _ => self.have.target(self.picture, scope),
        }
    }

    fn no_user(&self, name: &str) -> String {
        let known = self.have.users.keys().map(|id| self.picture.principal_name(*id));
        let known: Vec<Arc<str>> = known.collect();
        let meant = meant(name, known.iter().map(|name| &**name));
        format!("there is no user or service account `{name}`{meant}")
    }

    /// A description that stays may be from before a rule.
    fn check_new(&mut self, place: &str, description: Option<&str>, old: &str) {
        if let Some(text) = description.filter(|text| *text != old)
            && let Err(why) = check_description(text)
        {
            self.fault(place, why);
        }
    }

    fn lacks_to_assign(&self, scope: Scope) -> Option<(Permission, Target)> {
        // What is gone is for those who may assign everywhere; what one owns oneself does not count.
        let target = self.target(scope).unwrap_or_default();
        self.lacks(Permission::RolesAssign, Target { owner: None, ..target })
    }

    fn lacks_to_give(&self, role: RoleId, scope: Scope, until: Option<Time>) -> Option<(Permission, Target)> {
        let target = self.target(scope).unwrap_or_default();
        let missing = self.actor.missing_to_grant(self.holds(role), &target, until);
        missing.map(|permission| (permission, target))
    }

    fn deletions(&mut self) {
        for id in self.deleted_groups.clone() {
            let name = self.picture.group_name(id).to_string();
            let held = self.live.iter().filter(|one| one.holder == Holder::Group(id));
            let kept = held.filter(|one| !self.taken.contains(&one.id)).count();
            if kept > 0 {
                let words = format!(
                    "the group \"{name}\" is not here, but still holds roles ({kept}): keep it, or write the section `assignments` without them"
                );
                self.fault("groups", words);
            }
            let missing = self.lacks_globally(Permission::GroupsDelete);
            let words = format!("delete group \"{name}\"");
            self.step(PlannedAct::Remove, words, missing, Value::Null, Step::DeleteGroup(id));
        }
        for id in self.deleted_roles.clone() {
            let name = self.picture.role_name(id).to_string();
            let held = self.live.iter().filter(|one| one.role == id);
            let kept = held.filter(|one| !self.taken.contains(&one.id)).count();
            if kept > 0 {
                let words = format!(
                    "the role {name} is not here, but is still assigned ({kept}): keep it, or write the section `assignments` without it (what was given on request stays until its end)"
                );
                self.fault("roles", words);
            }
            let missing = self.lacks_globally(Permission::RolesDelete);
            let permissions = self.picture.role(id).map(|role| role.permissions.words());
            let detail = json!({"before": {"permissions": permissions}});
            self.step(
                PlannedAct::Remove,
                format!("delete role {name}"),
                missing,
                detail,
                Step::DeleteRole(id),
            );
        }
    }
}

fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known)
        .map(|meant| format!("; did you mean `{meant}`?"))
        .unwrap_or_default()
}

/// What is there under a name, and so keeps it, whatever is asked of names by now; never by an id.
fn by_name<T>(name: &str, find: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    as_number(name).is_none().then(|| find(name)).flatten()
}

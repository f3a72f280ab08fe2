//! What a document would do: the steps, in the order in which they are made, what is missing for each, and what is wrong with the document.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bailiwick_access::{Assignment, Holder, Scope, Target};
use bailiwick_api::document::{
    AccessDocument, DocumentAssignment, DocumentGroup, DocumentProject, DocumentRole, DocumentUser, DocumentWorkspace,
    PlannedAct,
};
use bailiwick_api::ids::as_number;
use bailiwick_api::names::{LABEL_MAX, check_name, check_place_name, check_text, check_username, name_key, nearest};
use bailiwick_api::on::On;
use bailiwick_api::permission::RolePermissions;
use bailiwick_api::users::{PrincipalKind, UserState};
use bailiwick_api::workspaces::{DEFAULT_PROJECT, DEFAULT_WORKSPACE, check_description};
use bailiwick_api::{AssignmentId, GroupId, Permission, PrincipalId, ProjectId, RoleId, Time, WorkspaceId};
use serde_json::{Value, json};

use super::{Have, live};
use crate::access::{Actor, Refusal, resolve, scope_of};
use crate::assignments::{self, ChangeError, Changed, STAYS_BREAK_GLASS};
use crate::credentials::{Uncovered, must_cover};
use crate::picture::Picture;
use crate::roles::beyond;

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
                None => assignments::on(picture, scope).to_string(),
            },
            _ => assignments::on(picture, scope).to_string(),
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
                None => assignments::place(picture, scope),
            },
            _ => assignments::place(picture, scope),
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

    fn users(&mut self, users: &[DocumentUser]) {
        let mut seen = HashSet::new();
        for (at, user) in users.iter().enumerate() {
            let place = format!("users, entry {} ({})", at + 1, user.name);
            if let Err(why) = check_username(&user.name) {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&user.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            let have = self.principal(&user.name).and_then(|id| self.have.users.get(&id));
            let old = have.and_then(|user| user.display_name.as_deref()).unwrap_or_default();
            if let Some(name) = user.display_name.as_deref().filter(|name| *name != old)
                && let Err(why) = check_text("the display name", name, LABEL_MAX)
            {
                self.fault(&place, why);
            }
            if user.state == Some(UserState::Removed) {
                self.fault(
                    &place,
                    "`removed` is not for a document: `ml user remove` removes a user",
                );
                continue;
            }
            match self.principal(&user.name) {
                None => self.make_user(user),
                Some(id) => match self.have.users.get(&id) {
                    None => self.fault(&place, "there is a service account of that name"),
                    Some(_) => self.change_user(id, user),
                },
            }
        }
    }

    fn make_user(&mut self, user: &DocumentUser) {
        let id = PrincipalId(self.fresh());
        let remote = user.remote == Some(true);
        let state = match user.state {
            Some(UserState::Deactivated) => UserState::Deactivated,
            _ if remote => UserState::Active,
            _ => UserState::Pending,
        };
        let how = match state {
            UserState::Deactivated => "deactivated",
            UserState::Active => "remote: signs in through the identity provider",
            _ => "pending: needs a link to sign in",
        };
        let display_name = user.display_name.clone().filter(|name| !name.is_empty());
        let missing = self.lacks_globally(Permission::UsersCreate);
        self.principals.insert(name_key(&user.name), id);
        self.labels.principals.insert(id, user.name.clone());
        let detail = json!({"after": {"state": state, "remote": remote, "display_name": display_name}});
        let step = Step::MakePrincipal {
            id,
            kind: PrincipalKind::User,
            name: user.name.clone(),
            display_name,
            state,
            remote,
            own_roles_only: user.own_roles_only == Some(true),
        };
        self.step(
            PlannedAct::Make,
            format!("make user {} ({how})", user.name),
            missing,
            detail,
            step,
        );
    }

    fn change_user(&mut self, id: PrincipalId, user: &DocumentUser) {
        let have = &self.have.users[&id];
        let old_name = self.picture.principal_name(id).to_string();
        let mut words = Vec::new();
        if *user.name != old_name {
            words.push(format!("written {}", user.name));
        }
        let display_name = match &user.display_name {
            None => have.display_name.clone(),
            Some(name) => Some(name.clone()).filter(|name| !name.is_empty()),
        };
        if display_name != have.display_name.clone().filter(|name| !name.is_empty()) && user.display_name.is_some() {
            words.push(match &display_name {
                Some(name) => format!("display name \"{name}\""),
                None => "no display name".into(),
            });
        }
        let remote = user.remote.unwrap_or(have.remote);
        if remote != have.remote {
            words.push(
                if remote {
                    "remote: the password goes, sessions end"
                } else {
                    "no longer remote"
                }
                .into(),
            );
        }
        // A remote user waits for no link.
        let in_force = match have.state {
            UserState::Pending if remote => UserState::Active,
            state => state,
        };
        let state = match (user.state, in_force) {
            (Some(UserState::Deactivated), _) => UserState::Deactivated,
            (Some(_), UserState::Deactivated) if remote || (have.has_password && !have.remote) => UserState::Active,
            (Some(_), UserState::Deactivated) => UserState::Pending,
            (_, state) => state,
        };
        let shuts_out = state == UserState::Deactivated && have.state != UserState::Deactivated;
        if shuts_out {
            words.push("deactivated: every session and key ends".into());
        } else if have.state == UserState::Deactivated && state != UserState::Deactivated {
            words.push(format!("{} again", state.name()));
        }
        let own_roles_only = user.own_roles_only.unwrap_or(have.own_roles_only);
        if own_roles_only != have.own_roles_only {
            let what = if own_roles_only { "no longer reached" } else { "reached" };
            words.push(format!("{what} by what the group Users holds in workspaces"));
        }
        if words.is_empty() {
            return;
        }
        let updates = Permission::UsersUpdate;
        let mut missing = self.lacks_globally(updates);
        let mut partial_key = false;
        // As where it is changed alone: the name that another leaves could be taken, and be looked upon as his.
        let another_name = user.name != old_name && id != self.actor.id;
        if missing.is_none() && (remote != have.remote || another_name) {
            match must_cover(self.actor, id) {
                Ok(()) => {}
                Err(Uncovered::Missing(permission, target)) => missing = Some((permission, target)),
                Err(Uncovered::PartialKey) => {
                    missing = Some((updates, Target::default()));
                    partial_key = true;
                }
            }
        }
        if missing.is_none() && own_roles_only != have.own_roles_only {
            missing = self.lacks_to_move_in_users(!own_roles_only);
        }
        let detail = json!({
            "before": {"name": old_name, "display_name": have.display_name, "state": have.state, "remote": have.remote, "own_roles_only": have.own_roles_only},
            "after": {"name": user.name, "display_name": display_name, "state": state, "remote": remote, "own_roles_only": own_roles_only},
        });
        let step = Step::ChangeUser {
            id,
            name: user.name.clone(),
            display_name,
            state,
            remote,
            own_roles_only,
            shuts_out,
            becomes_remote: remote && !have.remote,
        };
        let words = format!("change user {old_name}: {}", words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
        if let Some(step) = self.steps.last_mut() {
            step.partial_key = partial_key;
        }
    }

    /// What is missing to let what the group Users holds in workspaces reach somebody, or no longer: the same as for giving it to him, or taking it away.
    fn lacks_to_move_in_users(&self, gives: bool) -> Option<(Permission, Target)> {
        let users = Holder::Group(self.picture.users_group());
        let held = self
            .live
            .iter()
            .filter(|one| one.holder == users && one.scope != Scope::Global);
        held.into_iter().find_map(|one| match gives {
            true => self.lacks_to_give(one.role, one.scope, one.expires.map(Time)),
            false => self.lacks_to_assign(one.scope),
        })
    }

    fn service_accounts(&mut self, names: &[String]) {
        let mut seen = HashSet::new();
        for (at, name) in names.iter().enumerate() {
            let place = format!("service_accounts, entry {} ({name})", at + 1);
            if let Err(why) = check_username(name) {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            if let Some(id) = self.principal(name) {
                let kind = self.picture.principal(id).map(|one| one.kind);
                if kind != Some(PrincipalKind::Service) {
                    self.fault(&place, "there is a user of that name");
                }
                continue;
            }
            let id = PrincipalId(self.fresh());
            self.principals.insert(name_key(name), id);
            self.labels.principals.insert(id, name.clone());
            self.labels.services.insert(id);
            let missing = self.lacks_globally(Permission::ServiceAccountsCreate);
            let step = Step::MakePrincipal {
                id,
                kind: PrincipalKind::Service,
                name: name.clone(),
                display_name: None,
                state: UserState::Active,
                remote: false,
                own_roles_only: true,
            };
            let words = format!("make service account {name} (without a key)");
            self.step(PlannedAct::Make, words, missing, Value::Null, step);
        }
    }

    fn roles(&mut self, roles: &[DocumentRole]) {
        let mut kept = HashSet::new();
        let mut seen = HashSet::new();
        for (at, role) in roles.iter().enumerate() {
            let place = format!("roles, entry {} ({})", at + 1, role.name);
            let found = by_name(&role.name, |name| self.picture.find_role(name));
            if found.is_none()
                && let Err(why) = check_name("a role", &role.name)
            {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&role.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            let have = found.and_then(|id| self.have.roles.get(&id));
            let old = have.map(|(description, _)| description.as_str()).unwrap_or_default();
            self.check_new(&place, role.description.as_deref(), old);
            let permissions = match RolePermissions::parse(role.permissions.iter().map(String::as_str)) {
                Ok(permissions) => permissions,
                Err(why) => {
                    self.fault(&place, why);
                    continue;
                }
            };
            let Some(id) = found else {
                self.make_role(role, permissions);
                continue;
            };
            kept.insert(id);
            let (description, is_built_in) = self.have.roles.get(&id).cloned().unwrap_or_default();
            if is_built_in {
                self.fault(&place, "this role is built in and stays as it is: leave it out");
                continue;
            }
            self.change_role(id, role, permissions, description);
        }
        let own = self
            .have
            .roles
            .iter()
            .filter(|(id, (_, is_built_in))| !is_built_in && !kept.contains(*id));
        self.deleted_roles = own.map(|(id, _)| *id).collect();
    }

    fn make_role(&mut self, role: &DocumentRole, permissions: RolePermissions) {
        let id = RoleId(self.fresh());
        self.roles.insert(name_key(&role.name), id);
        self.labels.roles.insert(id, role.name.clone());
        self.held.insert(id, permissions);
        let missing = self.lacks_globally(Permission::RolesCreate);
        let words = format!("make role {}: {}", role.name, some_names(&permissions.words()));
        let detail = json!({"after": {"permissions": permissions.words(), "description": role.description}});
        let step = Step::PutRole {
            id,
            is_new: true,
            name: role.name.clone(),
            description: role.description.clone().unwrap_or_default(),
            permissions,
        };
        self.step(PlannedAct::Make, words, missing, detail, step);
    }

    fn change_role(&mut self, id: RoleId, role: &DocumentRole, permissions: RolePermissions, old: String) {
        let Some(before) = self.picture.role(id) else { return };
        let mut words = Vec::new();
        if before.name != role.name {
            words.push(format!("written {}", role.name));
        }
        if before.permissions != permissions {
            let (had, has) = (before.permissions.words(), permissions.words());
            let beyond = |one: &[String], other: &[String]| -> Vec<String> {
                one.iter().filter(|word| !other.contains(word)).cloned().collect()
            };
            let (more, fewer) = (beyond(&has, &had), beyond(&had, &has));
            words.extend((!more.is_empty()).then(|| format!("also {}", some_names(&more))));
            words.extend((!fewer.is_empty()).then(|| format!("no longer {}", some_names(&fewer))));
            self.held.insert(id, permissions);
        }
        let description = role.description.clone().unwrap_or_else(|| old.clone());
        if description != old {
            words.push("another description".into());
        }
        if words.is_empty() {
            return;
        }
        // What it gains must be held wherever it stays assigned: see `rights`.
        let missing = self.lacks_globally(Permission::RolesUpdate);
        let detail = json!({
            "before": {"name": before.name, "permissions": before.permissions.words(), "description": old},
            "after": {"name": role.name, "permissions": permissions.words(), "description": description},
        });
        let step = Step::PutRole {
            id,
            is_new: false,
            name: role.name.clone(),
            description,
            permissions,
        };
        let words = format!("change role {}: {}", before.name, words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
    }

    /// Makes and changes groups; who belongs to which is given back, for when everybody is known.
    fn groups<'d>(&mut self, groups: &'d [DocumentGroup]) -> Vec<(String, GroupId, &'d [String])> {
        let mut members = Vec::new();
        let mut kept = HashSet::new();
        let mut seen = HashSet::new();
        for (at, group) in groups.iter().enumerate() {
            let place = format!("groups, entry {} ({})", at + 1, group.name);
            let found = by_name(&group.name, |name| self.picture.find_group(name));
            if found.is_none()
                && let Err(why) = check_name("a group", &group.name)
            {
                self.fault(&place, why);
                continue;
            }
            let is_twice = !seen.insert(name_key(&group.name)) || found.is_some_and(|id| !kept.insert(id));
            if is_twice {
                self.fault(&place, "the group stands here twice (letter case does not matter)");
                continue;
            }
            let old = found
                .and_then(|id| self.have.groups.get(&id))
                .map_or("", String::as_str);
            self.check_new(&place, group.description.as_deref(), old);
            if found == Some(self.picture.users_group()) {
                self.fault(&place, "everybody belongs to this group: leave it out");
                continue;
            }
            let is_built_in = found
                .and_then(|id| self.picture.group(id))
                .is_some_and(|entry| entry.built_in);
            if group.built_in && !is_built_in {
                self.fault(&place, "there is no built-in group of that name");
                continue;
            }
            let id = match found {
                None => self.make_group(group),
                Some(id) if is_built_in => {
                    if group.description.is_some() {
                        self.fault(&place, "this group is built in: only its members can be given");
                    }
                    id
                }
                Some(id) => {
                    self.change_group(id, group);
                    id
                }
            };
            if let Some(list) = &group.members {
                members.push((place, id, list.as_slice()));
            }
        }
        let known = self.picture.groups().into_iter();
        let own = known.filter(|(id, entry)| !entry.built_in && !kept.contains(id));
        self.deleted_groups = own.map(|(id, _)| id).collect();
        members
    }

    fn make_group(&mut self, group: &DocumentGroup) -> GroupId {
        let id = GroupId(self.fresh());
        self.groups.insert(name_key(&group.name), id);
        self.labels.groups.insert(id, group.name.clone());
        let missing = self.lacks_globally(Permission::GroupsCreate);
        let description = group.description.clone().unwrap_or_default();
        let detail = json!({"after": {"description": description}});
        let step = Step::PutGroup {
            id,
            is_new: true,
            name: group.name.clone(),
            description,
        };
        self.step(
            PlannedAct::Make,
            format!("make group \"{}\"", group.name),
            missing,
            detail,
            step,
        );
        id
    }

    fn change_group(&mut self, id: GroupId, group: &DocumentGroup) {
        let old_name = self.picture.group_name(id).to_string();
        let old = self.have.groups.get(&id).cloned().unwrap_or_default();
        let description = group.description.clone().unwrap_or_else(|| old.clone());
        let mut words = Vec::new();
        if old_name != group.name {
            words.push(format!("written {}", group.name));
        }
        if old != description {
            words.push("another description".into());
        }
        if words.is_empty() {
            return;
        }
        let missing = self.lacks_globally(Permission::GroupsUpdate);
        let detail = json!({
            "before": {"name": old_name, "description": old},
            "after": {"name": group.name, "description": description},
        });
        let step = Step::PutGroup {
            id,
            is_new: false,
            name: group.name.clone(),
            description,
        };
        let words = format!("change group \"{old_name}\": {}", words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
    }

    fn workspaces(&mut self, workspaces: &[DocumentWorkspace]) {
        let mut seen = HashSet::new();
        for (at, workspace) in workspaces.iter().enumerate() {
            let place = format!("workspaces, entry {} ({})", at + 1, workspace.name);
            let found = by_name(&workspace.name, |name| self.picture.find_workspace(name));
            if found.is_none()
                && let Err(why) = check_place_name("a workspace", &workspace.name)
            {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&workspace.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            let old = found
                .and_then(|id| self.have.workspaces.get(&id))
                .map_or("", String::as_str);
            self.check_new(&place, workspace.description.as_deref(), old);
            if workspace.archived == Some(true) && name_key(&workspace.name) == DEFAULT_WORKSPACE {
                self.fault(&place, "the workspace `default` cannot be archived");
            }
            let id = found.unwrap_or_else(|| {
                let id = WorkspaceId(self.fresh());
                self.workspaces.insert(name_key(&workspace.name), id);
                self.labels.workspaces.insert(id, workspace.name.clone());
                id
            });
            self.put_workspace(id, workspace);
            let mut seen = HashSet::new();
            for project in &workspace.projects {
                let place = format!("{place}, project {}", project.name);
                let found = by_name(&project.name, |name| self.picture.find_project(id, name));
                if found.is_none()
                    && let Err(why) = check_place_name("a project", &project.name)
                {
                    self.fault(&place, why);
                    continue;
                }
                if !seen.insert(name_key(&project.name)) {
                    self.fault(&place, "the name stands here twice (letter case does not matter)");
                    continue;
                }
                let old = found
                    .and_then(|id| self.have.projects.get(&id))
                    .map_or("", String::as_str);
                self.check_new(&place, project.description.as_deref(), old);
                if project.archived == Some(true) && name_key(&project.name) == DEFAULT_PROJECT {
                    self.fault(&place, "the project `default` cannot be archived");
                }
                self.put_project(id, project);
            }
        }
    }

    fn put_workspace(&mut self, id: WorkspaceId, workspace: &DocumentWorkspace) {
        let Some(entry) = self.picture.workspace(id) else {
            let default = ProjectId(self.fresh());
            self.projects.insert((id, DEFAULT_PROJECT.into()), default);
            self.labels.projects.insert(default, (id, DEFAULT_PROJECT.into()));
            let description = workspace.description.clone().unwrap_or_default();
            let detail = json!({"after": {"name": workspace.name, "description": description}});
            let missing = self.lacks_globally(Permission::WorkspacesCreate);
            let step = Step::PutWorkspace {
                id,
                is_new: true,
                name: workspace.name.clone(),
                description,
                archived: workspace.archived.filter(|archived| *archived),
            };
            let words = format!("make workspace \"{}\"", workspace.name);
            return self.step(PlannedAct::Make, words, missing, detail, step);
        };
        let old = self.have.workspaces.get(&id).cloned().unwrap_or_default();
        let description = workspace.description.clone().unwrap_or_else(|| old.clone());
        let mut words = Vec::new();
        if *entry.name != *workspace.name {
            words.push(format!("written {}", workspace.name));
        }
        if old != description {
            words.push("another description".into());
        }
        let archived = workspace.archived.filter(|archived| *archived != entry.archived);
        words.extend(archived.map(|archived| if archived { "archived" } else { "no longer archived" }.to_owned()));
        if words.is_empty() {
            return;
        }
        let missing = self.lacks(Permission::WorkspacesUpdate, self.picture.workspace_target(id));
        let detail = json!({
            "before": {"name": &*entry.name, "description": old, "archived": entry.archived},
            "after": {"name": workspace.name, "description": description, "archived": workspace.archived.unwrap_or(entry.archived)},
        });
        let step = Step::PutWorkspace {
            id,
            is_new: false,
            name: workspace.name.clone(),
            description,
            archived,
        };
        let words = format!("change workspace \"{}\": {}", entry.name, words.join("; "));
        self.step(PlannedAct::Change, words, missing, detail, step);
    }

    fn put_project(&mut self, workspace: WorkspaceId, project: &DocumentProject) {
        let of = self.labels.workspace(self.picture, workspace);
        let description = project.description.clone();
        let found = self.project(workspace, &project.name);
        let Some(id) = found else {
            let id = ProjectId(self.fresh());
            self.projects.insert((workspace, name_key(&project.name)), id);
            self.labels.projects.insert(id, (workspace, project.name.clone()));
            let target = self.target(Scope::Workspace(workspace)).unwrap_or_default();
            // Whoever may make the workspace may make what is in it.
            let missing = match self.labels.workspaces.contains_key(&workspace) {
                true => None,
                false => self.lacks(Permission::ProjectsCreate, target),
            };
            let detail = json!({"after": {"name": project.name, "description": description}});
            let step = Step::PutProject {
                id,
                is_new: true,
                workspace,
                name: project.name.clone(),
                description: description.unwrap_or_default(),
                archived: project.archived.filter(|archived| *archived),
            };
            let words = format!("make project \"{}\" (workspace \"{of}\")", project.name);
            return self.step(PlannedAct::Make, words, missing, detail, step);
        };
        // The project `default` of a workspace that is made here is still without a description.
        let entry = self.picture.project(id);
        let old_name = entry
            .as_ref()
            .map_or_else(|| DEFAULT_PROJECT.to_owned(), |entry| entry.name.to_string());
        let was_archived = entry.is_some_and(|entry| entry.archived);
        let old = self.have.projects.get(&id).cloned().unwrap_or_default();
        let description = description.unwrap_or_else(|| old.clone());
        let mut words = Vec::new();
        if *old_name != *project.name {
            words.push(format!("written {}", project.name));
        }
        if old != description {
            words.push("another description".into());
        }
        let archived = project.archived.filter(|archived| *archived != was_archived);
        words.extend(archived.map(|archived| if archived { "archived" } else { "no longer archived" }.to_owned()));
        if words.is_empty() {
            return;
        }
        let target = self.target(Scope::Project(id)).unwrap_or_default();
        let missing = match self.labels.projects.contains_key(&id) {
            true => None,
            false => self.lacks(Permission::ProjectsUpdate, target),
        };
        let detail = json!({
            "before": {"name": old_name, "description": old, "archived": was_archived},
            "after": {"name": project.name, "description": description, "archived": project.archived.unwrap_or(was_archived)},
        });
        let step = Step::PutProject {
            id,
            is_new: false,
            workspace,
            name: project.name.clone(),
            description,
            archived,
        };
        let words = format!(
            "change project \"{old_name}\" (workspace \"{of}\"): {}",
            words.join("; ")
        );
        self.step(PlannedAct::Change, words, missing, detail, step);
    }

    fn assignments(&mut self, wanted: &[DocumentAssignment]) {
        let existing: HashMap<(Holder, RoleId, Scope), Assignment> = self
            .live
            .iter()
            .map(|one| ((one.holder, one.role, one.scope), *one))
            .collect();
        let mut seen: HashMap<(Holder, RoleId, Scope), usize> = HashMap::new();
        let mut made = Vec::new();
        let mut changed = Vec::new();
        for (at, one) in wanted.iter().enumerate() {
            let place = format!("assignments, entry {} ({})", at + 1, one.role);
            let key = match self.read(one) {
                Ok(key) => key,
                Err(why) => {
                    self.fault(&place, why);
                    continue;
                }
            };
            if let Some(first) = seen.get(&key) {
                let first = first + 1;
                self.fault(&place, format!("entry {first} says the same"));
                continue;
            }
            let (holder, role, scope) = key;
            if scope != Scope::Global && self.holds(role).is_global_only() {
                let words = format!("{} can only be assigned globally: leave out where", one.role);
                self.fault(&place, words);
                continue;
            }
            if one.until.is_some_and(|end| end <= self.now) {
                let words = self.words(role, holder, scope, "of");
                self.warnings
                    .push(format!("{words}: its end has passed, so there is none"));
                continue;
            }
            seen.insert(key, at);
            match existing.get(&key) {
                Some(there) if there.expires.map(Time) == one.until => {}
                Some(there) if self.have.built_in.contains(&there.id) => {
                    self.fault(&place, "this assignment is built in and has no end");
                }
                Some(there) if self.have.break_glass.contains(&there.id) => {
                    self.fault(&place, STAYS_BREAK_GLASS);
                }
                Some(there) => changed.push((*there, one.until)),
                None => made.push((holder, role, scope, one.until)),
            }
        }
        let gone = self.live.iter().filter(|one| {
            let key = (one.holder, one.role, one.scope);
            let is_kept = self.have.built_in.contains(&one.id) || self.have.on_request.contains(&one.id);
            !seen.contains_key(&key) && !is_kept
        });
        let mut gone: Vec<Assignment> = gone.copied().collect();
        gone.sort_by_key(|one| (one.scope, one.role, one.holder));
        self.taken = gone.iter().map(|one| one.id).collect();
        for one in gone {
            let words = format!("take {}", self.words(one.role, one.holder, one.scope, "from"));
            let missing = self.lacks_to_assign(one.scope);
            let detail =
                json!({"assignment": one.id, "before": self.detail(one.role, one.scope, one.expires.map(Time))});
            self.step(PlannedAct::Remove, words, missing, detail, Step::Unassign(one));
        }
        for (one, until) in changed {
            let forever = Time(i64::MAX);
            let lasts_longer = until.unwrap_or(forever) > one.expires.map_or(forever, Time);
            // An earlier end takes away, and the right to assign is enough for that.
            let missing = match lasts_longer {
                true => self.lacks_to_give(one.role, one.scope, until),
                false => self.lacks_to_assign(one.scope),
            };
            let end = |end: Option<Time>| end.map_or_else(|| "no end".to_owned(), |end| end.to_string());
            let words = self.words(one.role, one.holder, one.scope, "of");
            let words = format!(
                "let {words} end otherwise: {} → {}",
                end(one.expires.map(Time)),
                end(until)
            );
            let detail = json!({
                "assignment": one.id,
                "before": self.detail(one.role, one.scope, one.expires.map(Time)),
                "after": self.detail(one.role, one.scope, until),
            });
            self.step(PlannedAct::Change, words, missing, detail, Step::ChangeEnd(one, until));
        }
        for (holder, role, scope, until) in made {
            let missing = self.lacks_to_give(role, scope, until);
            let end = until.map(|end| format!(" until {end}")).unwrap_or_default();
            let words = format!("assign {}{end}", self.words(role, holder, scope, "to"));
            let detail = json!({"after": self.detail(role, scope, until)});
            let assignment = Assignment {
                id: AssignmentId(self.fresh()),
                holder,
                role,
                scope,
                expires: until.map(|end| end.0),
            };
            self.step(PlannedAct::Make, words, missing, detail, Step::Assign(assignment));
        }
    }

    /// `Editor to group "Stop Signs Team" on workspace "Stop Signs"`
    fn words(&self, role: RoleId, holder: Holder, scope: Scope, preposition: &str) -> String {
        let role = self.labels.role(self.picture, role);
        let (kind, name) = self.labels.holder(self.picture, holder);
        let name = if kind == "group" { format!("\"{name}\"") } else { name };
        format!(
            "{role} {preposition} {kind} {name} {}",
            self.labels.place(self.picture, scope)
        )
    }

    fn detail(&self, role: RoleId, scope: Scope, until: Option<Time>) -> Value {
        let (role, on) = (
            self.labels.role(self.picture, role),
            self.labels.on(self.picture, scope),
        );
        json!({"role": role, "on": on, "until": until})
    }

    /// What an entry says, with every name looked up.
    fn read(&self, one: &DocumentAssignment) -> std::result::Result<(Holder, RoleId, Scope), String> {
        let role = self.role(&one.role).ok_or_else(|| {
            let deleted = self.picture.find_role(&one.role).is_some();
            match deleted {
                true => format!(
                    "the role `{}` is not in the section `roles`, which is complete",
                    one.role
                ),
                false => self.picture.no_role(&one.role),
            }
        })?;
        let holder = match (&one.user, &one.group) {
            (Some(name), None) => {
                let found = self.principal(name);
                Holder::Principal(found.ok_or_else(|| self.no_user(name))?)
            }
            (None, Some(name)) => Holder::Group(self.group(name).ok_or_else(|| self.no_group(name))?),
            _ => return Err("give exactly one of `user` and `group`".into()),
        };
        let scope = match (&one.workspace, &one.project, &one.on) {
            (None, None, None) => Scope::Global,
            (workspace, project, None) => {
                let name = workspace.as_ref().ok_or("a project needs its workspace beside it")?;
                self.place(name, project.as_deref())?
            }
            (None, None, Some(text)) => match On::parse_named(text)? {
                On::Installation => Scope::Global,
                On::Workspace(name) => self.place(&name, None)?,
                On::Project(workspace, name) if workspace.is_empty() => {
                    let id = bailiwick_api::ids::as_number(&name).map(ProjectId);
                    let found = id.filter(|id| self.picture.project(*id).is_some());
                    Scope::Project(found.ok_or_else(|| format!("there is no project `{name}`"))?)
                }
                On::Project(workspace, name) => self.place(&workspace, Some(&name))?,
                _ => match self.places.get(text) {
                    Some(Ok(target)) => scope_of(target),
                    Some(Err(why)) => return Err(why.clone()),
                    None => return Err(format!("there is no `{text}`")),
                },
            },
            _ => return Err("give `on`, or `workspace` (and `project`), not both".into()),
        };
        Ok((holder, role, scope))
    }

    fn place(&self, workspace: &str, project: Option<&str>) -> std::result::Result<Scope, String> {
        let id = self.workspace(workspace).ok_or_else(|| {
            let known = self.picture.workspaces();
            let known = known.iter().map(|(_, entry)| &*entry.name);
            format!("there is no workspace `{workspace}`{}", meant(workspace, known))
        })?;
        let Some(project) = project else {
            return Ok(Scope::Workspace(id));
        };
        let found = self.project(id, project);
        let found = found.ok_or_else(|| format!("there is no project `{project}` in the workspace `{workspace}`"))?;
        Ok(Scope::Project(found))
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

    fn no_group(&self, name: &str) -> String {
        if self.picture.find_group(name).is_some() {
            return format!("the group `{name}` is not in the section `groups`, which is complete");
        }
        let known = self.picture.groups();
        let meant = meant(name, known.iter().map(|(_, entry)| &*entry.name));
        format!("there is no group `{name}`{meant}")
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

    /// What the actor lacks of what a group goes on to hold.
    fn lacks_to_hold_of(&self, group: GroupId) -> Option<(Permission, Target)> {
        let held = self.live.iter().filter(|one| one.holder == Holder::Group(group));
        let kept = held.filter(|one| !self.taken.contains(&one.id));
        kept.into_iter().find_map(|one| {
            let role = one.scope.counts(self.holds(one.role));
            let target = self.target(one.scope)?;
            let missing = self.actor.missing_to_hold(role, &target, one.expires.map(Time))?;
            Some((missing, target))
        })
    }

    /// Who joins and who leaves the groups of the document.
    fn members(&mut self, groups: Vec<(String, GroupId, &[String])>) {
        for (place, id, names) in groups {
            let mut wanted = BTreeSet::new();
            for name in names {
                match self.principal(name) {
                    Some(who) => drop(wanted.insert(who)),
                    None => {
                        let why = self.no_user(name);
                        self.fault(&format!("{place}, members"), why);
                    }
                }
            }
            let present: BTreeSet<PrincipalId> = self.picture.world().members_of(id).iter().copied().collect();
            let joining: Vec<PrincipalId> = wanted.difference(&present).copied().collect();
            let leaving: Vec<PrincipalId> = present.difference(&wanted).copied().collect();
            let group = self.labels.group(self.picture, id);
            let named = |who: &[PrincipalId]| -> Vec<String> {
                who.iter().map(|id| self.labels.principal(self.picture, *id)).collect()
            };
            let (joined, left) = (named(&joining), named(&leaving));
            let missing = self.lacks_globally(Permission::GroupsUpdate);
            if !leaving.is_empty() {
                let words = format!("take {} out of group \"{group}\"", some_names(&left));
                let detail = json!({"removed": left});
                self.step(PlannedAct::Remove, words, missing, detail, Step::Leave(id, leaving));
            }
            if !joining.is_empty() {
                // Into a group that is made here whoever may make it may put people; what it will hold is looked at where it is given.
                let missing = match self.labels.groups.contains_key(&id) {
                    true => None,
                    false => missing.or_else(|| self.lacks_to_hold_of(id)),
                };
                let words = format!("put {} into group \"{group}\"", some_names(&joined));
                let detail = json!({"added": joined});
                self.joins.push((id, joining.clone()));
                self.step(PlannedAct::Make, words, missing, detail, Step::Join(id, joining));
            }
        }
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

    /// What changed roles gain must be held by the actor wherever they stay assigned, and may be held there at all.
    fn rights(&mut self) {
        let changed: Vec<(RoleId, RolePermissions)> = self.held.iter().map(|(id, held)| (*id, *held)).collect();
        for (id, permissions) in changed {
            let Some(before) = self.picture.role(id) else { continue };
            let gains = beyond(permissions, before.permissions);
            let loses = beyond(before.permissions, permissions) != RolePermissions::default();
            let kept = self
                .live
                .iter()
                .filter(|one| one.role == id && !self.taken.contains(&one.id));
            let scopes: BTreeSet<Scope> = kept.map(|one| one.scope).collect();
            let mut missing = None;
            for scope in scopes {
                let Some(target) = self.target(scope) else { continue };
                if scope != Scope::Global && permissions.is_global_only() {
                    let at = self.labels.place(self.picture, scope);
                    let words = format!(
                        "{} is assigned {at}, and this would give it a permission that can only be assigned globally",
                        before.name
                    );
                    self.fault("roles", words);
                }
                let lacks = self.actor.missing_to_hold(gains, &target, None);
                missing = missing.or(lacks.map(|permission| (permission, target)));
                if loses {
                    missing = missing.or_else(|| self.lacks_to_assign(scope));
                }
            }
            let step = self
                .steps
                .iter_mut()
                .find(|one| matches!(&one.step, Step::PutRole { id: of, .. } if *of == id));
            if let Some(step) = step {
                step.missing = step.missing.or(missing);
            }
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

//! Access as code: the whole of it as one document, what applying another would do, and applying it.
//!
//! One function drafts the steps from the picture of rights and what the picture does not hold; a plan shows them and tries them on a copy of the picture,
//! applying makes them in one transaction, under the lock that puts changes of rights in one order. So a plan and what follows from it cannot differ.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bailiwick_access::{Assignment, Difference, Holder, ObjectKind, Principal, Role, Scope, Target, World, difference};
use bailiwick_api::document::{
    AccessDocument, AccessPlan, Applied, ApplyDocument, DocumentAssignment, DocumentGroup, DocumentProject,
    DocumentRole, DocumentUser, DocumentWorkspace, PlannedAct, PlannedChange, PlannedEffect,
};
use bailiwick_api::names::{check_name, check_username, name_key, nearest};
use bailiwick_api::on::On;
use bailiwick_api::permission::{PermissionSet, RolePermissions};
use bailiwick_api::server::AccessMode;
use bailiwick_api::users::{PrincipalKind, UserState};
use bailiwick_api::workspaces::{DEFAULT_PROJECT, DEFAULT_WORKSPACE, check_description};
use bailiwick_api::{
    AssignmentId, ExperimentId, GroupId, Permission, PrincipalId, ProjectId, QueueId, RoleId, Time, WorkspaceId,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Refusal, Work, experiment_target, queue_target, resolve, scope_of};
use crate::assignments::{self, ChangeError, Changed, LAST_ADMIN, Resolved};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, id_list};
use crate::picture::{Picture, Touched};
use crate::principals::{end_credentials, read_state};

/// How many effects a plan shows.
const EFFECTS_SHOWN: usize = 1000;
/// How many faults of a document are told at once.
const FAULTS_TOLD: usize = 20;
/// How many names a line of a plan holds.
const NAMES_TOLD: usize = 20;

const MAY_LOOK: [Permission; 3] = [Permission::RolesRead, Permission::UsersRead, Permission::GroupsRead];

/// Whoever works with the document sees users, groups and all assignments.
fn may_look(actor: &Actor) -> Changed<()> {
    let everywhere = Target::default();
    match MAY_LOOK.into_iter().find(|one| actor.may(*one, &everywhere).is_none()) {
        None => Ok(()),
        Some(missing) => Err(ChangeError::Forbidden(missing, everywhere)),
    }
}

struct HaveUser {
    display_name: Option<String>,
    state: UserState,
    remote: bool,
    own_roles_only: bool,
    has_password: bool,
}

/// What the picture does not hold.
#[derive(Default)]
struct Have {
    users: HashMap<PrincipalId, HaveUser>,
    /// Descriptions.
    groups: HashMap<GroupId, String>,
    /// Descriptions, and whether built in.
    roles: HashMap<RoleId, (String, bool)>,
    workspaces: HashMap<WorkspaceId, String>,
    projects: HashMap<ProjectId, String>,
    /// Assignments that nobody takes away.
    built_in: HashSet<AssignmentId>,
    /// Those that were given on request, or by break-glass, and end by themselves.
    on_request: HashSet<AssignmentId>,
    /// Experiments that are shared singly.
    experiments: HashMap<i64, Target>,
}

impl Have {
    async fn read(tx: &mut Tx) -> Result<Have> {
        let mut have = Have::default();
        let sql =
            "SELECT id, display_name, state, remote, own_roles_only, CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END
                   FROM principals WHERE kind = 'user' AND state <> 'removed'";
        for row in sqlx::query(sql).fetch_all(&mut **tx).await? {
            let user = HaveUser {
                display_name: row.try_get(1)?,
                state: read_state(row.try_get(2)?),
                remote: row.try_get::<i64, _>(3)? == 1,
                own_roles_only: row.try_get::<i64, _>(4)? == 1,
                has_password: row.try_get::<i64, _>(5)? == 1,
            };
            have.users.insert(PrincipalId(row.try_get(0)?), user);
        }
        for row in sqlx::query("SELECT id, description FROM groups")
            .fetch_all(&mut **tx)
            .await?
        {
            have.groups.insert(GroupId(row.try_get(0)?), row.try_get(1)?);
        }
        let sql = "SELECT id, description, built_in FROM roles";
        for row in sqlx::query(sql).fetch_all(&mut **tx).await? {
            let is_built_in = row.try_get::<i64, _>(2)? == 1;
            have.roles
                .insert(RoleId(row.try_get(0)?), (row.try_get(1)?, is_built_in));
        }
        let sql = "SELECT id, description FROM workspaces";
        for row in sqlx::query(sql).fetch_all(&mut **tx).await? {
            have.workspaces.insert(WorkspaceId(row.try_get(0)?), row.try_get(1)?);
        }
        let sql = "SELECT id, description FROM projects";
        for row in sqlx::query(sql).fetch_all(&mut **tx).await? {
            have.projects.insert(ProjectId(row.try_get(0)?), row.try_get(1)?);
        }
        let built_in: Vec<i64> = sqlx::query_scalar("SELECT id FROM assignments WHERE built_in = 1")
            .fetch_all(&mut **tx)
            .await?;
        have.built_in = built_in.into_iter().map(AssignmentId).collect();
        let on_request: Vec<i64> =
            sqlx::query_scalar("SELECT assignment_id FROM access_requests WHERE assignment_id IS NOT NULL")
                .fetch_all(&mut **tx)
                .await?;
        have.on_request = on_request.into_iter().map(AssignmentId).collect();
        let sql = "SELECT id, workspace_id, project_id, owner_id FROM experiments
                   WHERE id IN (SELECT scope_id FROM assignments WHERE scope_kind = 'experiment')";
        for row in sqlx::query(sql).fetch_all(&mut **tx).await? {
            let id: i64 = row.try_get(0)?;
            let target = experiment_target(
                ExperimentId(id),
                WorkspaceId(row.try_get(1)?),
                ProjectId(row.try_get(2)?),
                PrincipalId(row.try_get(3)?),
            );
            have.experiments.insert(id, target);
        }
        Ok(have)
    }

    /// Where an assignment holds; nothing when the thing is gone.
    fn target(&self, picture: &Picture, scope: Scope) -> Option<Target> {
        match scope {
            Scope::Global => Some(Target::default()),
            Scope::Workspace(id) => picture.workspace(id).map(|_| picture.workspace_target(id)),
            Scope::Project(id) => picture.project(id).map(|_| picture.project_target(id)),
            Scope::Object(ObjectKind::Experiment, id) => self.experiments.get(&id).copied(),
            Scope::Object(ObjectKind::Queue, id) => Some(queue_target(QueueId(id))),
            Scope::Object(kind, id) => Some(Target {
                object: Some((kind, id)),
                ..Target::default()
            }),
        }
    }
}

/// The assignments that hold now.
fn live(picture: &Picture, now: Time) -> Vec<Assignment> {
    let world = picture.world();
    let live = world
        .assignments()
        .filter(|one| one.expires.is_none_or(|end| now.0 < end) && world.role(one.role).is_some());
    live.copied().collect()
}

// ---- export

/// Everything, in an order that does not depend on when it was made.
pub async fn export(actor: &Actor) -> Changed<AccessDocument> {
    may_look(actor)?;
    let mut tx = actor.db().begin_look().await?;
    let have = Have::read(&mut tx).await?;
    drop(tx);
    let actor = actor.clone();
    let written = tokio::task::spawn_blocking(move || write_out(&actor, &have));
    Ok(written.await.map_err(|why| StoreError::Broken(why.to_string()))?)
}

fn write_out(actor: &Actor, have: &Have) -> AccessDocument {
    let picture = actor.picture();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut users: Vec<DocumentUser> = have
        .users
        .iter()
        .map(|(id, user)| DocumentUser {
            name: picture.principal_name(*id).to_string(),
            display_name: user.display_name.as_deref().and_then(some),
            state: Some(user.state),
            remote: user.remote.then_some(true),
            own_roles_only: user.own_roles_only.then_some(true),
        })
        .collect();
    users.sort_by_cached_key(|user| name_key(&user.name));

    let may_see_services = actor.may(Permission::ServiceAccountsRead, &Target::default()).is_some();
    let principals: Vec<PrincipalId> = picture.world().principals().collect();
    let services = principals.iter().filter_map(|id| {
        let entry = picture.principal(*id)?;
        let is_one = entry.kind == PrincipalKind::Service && !entry.removed;
        is_one.then(|| entry.name.to_string())
    });
    let mut services: Vec<String> = if may_see_services {
        services.collect()
    } else {
        Vec::new()
    };
    services.sort_by_cached_key(|name| name_key(name));

    let mut groups = Vec::new();
    for (id, entry) in picture.groups() {
        if id == picture.users_group() {
            continue;
        }
        let members = picture.world().members_of(id).to_vec();
        let mut members: Vec<String> = members
            .into_iter()
            .map(|id| picture.principal_name(id).to_string())
            .collect();
        members.sort_by_cached_key(|name| name_key(name));
        let description = have.groups.get(&id).filter(|_| !entry.built_in);
        groups.push(DocumentGroup {
            name: entry.name.to_string(),
            built_in: entry.built_in,
            description: description.and_then(|text| some(text)),
            members: Some(members),
        });
    }
    groups.sort_by_cached_key(|group| name_key(&group.name));

    let known: Vec<Role> = picture.world().roles().cloned().collect();
    let mut roles = Vec::new();
    for role in known {
        if let Some((description, false)) = have.roles.get(&role.id) {
            roles.push(DocumentRole {
                name: role.name,
                description: some(description),
                permissions: role.permissions.words(),
            });
        }
    }
    roles.sort_by_cached_key(|role| name_key(&role.name));

    let mut workspaces = Vec::new();
    for (id, entry) in picture.workspaces() {
        if actor
            .may(Permission::WorkspacesRead, &picture.workspace_target(id))
            .is_none()
        {
            continue;
        }
        let mut projects = Vec::new();
        for (id, entry) in picture.projects(id) {
            let description = have.projects.get(&id).and_then(|text| some(text));
            let is_plain_default = name_key(&entry.name) == DEFAULT_PROJECT && description.is_none();
            if is_plain_default
                || actor
                    .may(Permission::ProjectsRead, &picture.project_target(id))
                    .is_none()
            {
                continue;
            }
            projects.push(DocumentProject {
                name: entry.name.to_string(),
                description,
                archived: entry.archived.then_some(true),
            });
        }
        workspaces.push(DocumentWorkspace {
            name: entry.name.to_string(),
            description: have.workspaces.get(&id).and_then(|text| some(text)),
            archived: entry.archived.then_some(true),
            projects,
        });
    }
    workspaces.sort_by_cached_key(|workspace| name_key(&workspace.name));

    let mut assignments = Vec::new();
    for one in live(picture, actor.now()) {
        if have.built_in.contains(&one.id)
            || have.on_request.contains(&one.id)
            || have.target(picture, one.scope).is_none()
        {
            continue;
        }
        let (user, group) = match one.holder {
            Holder::Principal(id) => (Some(picture.principal_name(id).to_string()), None),
            Holder::Group(id) => (None, Some(picture.group_name(id).to_string())),
        };
        let (workspace, project, on) = match one.scope {
            Scope::Global => (None, None, None),
            Scope::Workspace(id) => (Some(picture.workspace_name(id).to_string()), None, None),
            Scope::Project(id) => {
                let workspace = picture
                    .project(id)
                    .map(|project| picture.workspace_name(project.workspace));
                let workspace = workspace.map(|name| name.to_string());
                (workspace, Some(picture.project_name(id).to_string()), None)
            }
            Scope::Object(..) => (None, None, Some(assignments::on(picture, one.scope).to_string())),
        };
        assignments.push(DocumentAssignment {
            role: picture.role_name(one.role).to_string(),
            user,
            group,
            workspace,
            project,
            on,
            until: one.expires.map(Time),
        });
    }
    assignments.sort_by_cached_key(|one| {
        let key = |text: &Option<String>| text.as_deref().map(name_key);
        let place = (key(&one.workspace), key(&one.project), one.on.clone());
        (place, name_key(&one.role), key(&one.group), key(&one.user))
    });
    AccessDocument {
        users: Some(users),
        service_accounts: may_see_services.then_some(services),
        groups: Some(groups),
        roles: Some(roles),
        workspaces: Some(workspaces),
        assignments: Some(assignments),
    }
}

// ---- what a document would do

/// One change. Ids of what a document makes are made up (above all that are there) until the step is made.
enum Step {
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

struct Drafted {
    step: Step,
    act: PlannedAct,
    words: String,
    /// What the actor lacks for it.
    missing: Option<(Permission, Target)>,
    /// For the audit.
    detail: Value,
}

/// What a document would do, in the order in which it is done.
struct Draft {
    steps: Vec<Drafted>,
    warnings: Vec<String>,
    labels: Labels,
}

/// Names of what a document makes, by their made-up ids.
#[derive(Default)]
struct Labels {
    principals: HashMap<PrincipalId, String>,
    /// Which of them are service accounts.
    services: HashSet<PrincipalId>,
    groups: HashMap<GroupId, String>,
    roles: HashMap<RoleId, String>,
    workspaces: HashMap<WorkspaceId, String>,
    projects: HashMap<ProjectId, (WorkspaceId, String)>,
}

impl Labels {
    fn principal(&self, picture: &Picture, id: PrincipalId) -> String {
        let new = self.principals.get(&id).cloned();
        new.unwrap_or_else(|| picture.principal_name(id).to_string())
    }

    fn group(&self, picture: &Picture, id: GroupId) -> String {
        let new = self.groups.get(&id).cloned();
        new.unwrap_or_else(|| picture.group_name(id).to_string())
    }

    fn role(&self, picture: &Picture, id: RoleId) -> String {
        let new = self.roles.get(&id).cloned();
        new.unwrap_or_else(|| picture.role_name(id).to_string())
    }

    fn workspace(&self, picture: &Picture, id: WorkspaceId) -> String {
        let new = self.workspaces.get(&id).cloned();
        new.unwrap_or_else(|| picture.workspace_name(id).to_string())
    }

    fn holder(&self, picture: &Picture, holder: Holder) -> (&'static str, String) {
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
    fn on(&self, picture: &Picture, scope: Scope) -> String {
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
    fn place(&self, picture: &Picture, scope: Scope) -> String {
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
type Places = HashMap<String, std::result::Result<Target, String>>;

/// Whether the text names something that a document may make itself.
fn may_be_new(on: &On) -> bool {
    matches!(on, On::Installation | On::Workspace(_) | On::Project(..))
}

async fn look_up(actor: &Actor, document: &AccessDocument) -> std::result::Result<Places, Refusal> {
    let mut places = Places::new();
    let texts = document.assignments.iter().flatten().filter_map(|one| one.on.as_ref());
    for text in texts {
        if places.contains_key(text) {
            continue;
        }
        let found = match On::parse(text) {
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

fn draft(actor: &Actor, have: &Have, document: &AccessDocument, places: &Places) -> Changed<Draft> {
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
fn some_names(names: &[String]) -> String {
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
            if user
                .display_name
                .as_ref()
                .is_some_and(|name| name.chars().count() > 255 || name.chars().any(char::is_control))
            {
                self.fault(
                    &place,
                    "the display name is longer than 255 characters, or contains a control character",
                );
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
        let mut missing = self.lacks_globally(Permission::UsersUpdate);
        if missing.is_none() && have.own_roles_only && !own_roles_only {
            missing = self.lacks_to_hold_of(self.picture.users_group(), |scope| scope != Scope::Global);
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
            if let Err(why) = check_name("a role", &role.name) {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&role.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            if let Some(text) = &role.description
                && let Err(why) = check_description(text)
            {
                self.fault(&place, why);
            }
            let permissions = match RolePermissions::parse(role.permissions.iter().map(String::as_str)) {
                Ok(permissions) => permissions,
                Err(why) => {
                    self.fault(&place, why);
                    continue;
                }
            };
            let Some(id) = self.picture.find_role(&role.name) else {
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
            if let Err(why) = check_name("a group", &group.name) {
                self.fault(&place, why);
                continue;
            }
            let found = self.picture.find_group(&group.name);
            let is_twice = !seen.insert(name_key(&group.name)) || found.is_some_and(|id| !kept.insert(id));
            if is_twice {
                self.fault(&place, "the group stands here twice (letter case does not matter)");
                continue;
            }
            if let Some(text) = &group.description
                && let Err(why) = check_description(text)
            {
                self.fault(&place, why);
            }
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
            if let Err(why) = check_name("a workspace", &workspace.name) {
                self.fault(&place, why);
                continue;
            }
            if !seen.insert(name_key(&workspace.name)) {
                self.fault(&place, "the name stands here twice (letter case does not matter)");
                continue;
            }
            if let Some(text) = &workspace.description
                && let Err(why) = check_description(text)
            {
                self.fault(&place, why);
            }
            if workspace.archived == Some(true) && name_key(&workspace.name) == DEFAULT_WORKSPACE {
                self.fault(&place, "the workspace `default` cannot be archived");
            }
            let found = self.picture.find_workspace(&workspace.name);
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
                if let Err(why) = check_name("a project", &project.name) {
                    self.fault(&place, why);
                    continue;
                }
                if !seen.insert(name_key(&project.name)) {
                    self.fault(&place, "the name stands here twice (letter case does not matter)");
                    continue;
                }
                if let Some(text) = &project.description
                    && let Err(why) = check_description(text)
                {
                    self.fault(&place, why);
                }
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
                true => self.lacks_to_give(one.role, one.scope),
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
            let missing = self.lacks_to_give(role, scope);
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
            (None, None, Some(text)) => match On::parse(text)? {
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

    fn lacks_to_give(&self, role: RoleId, scope: Scope) -> Option<(Permission, Target)> {
        let target = self.target(scope).unwrap_or_default();
        let missing = self.actor.missing_to_grant(self.holds(role), &target);
        missing.map(|permission| (permission, target))
    }

    /// What the actor lacks of what a group goes on to hold at these scopes.
    fn lacks_to_hold_of(&self, group: GroupId, at: impl Fn(Scope) -> bool) -> Option<(Permission, Target)> {
        let held = self
            .live
            .iter()
            .filter(|one| one.holder == Holder::Group(group) && at(one.scope));
        let kept = held.filter(|one| !self.taken.contains(&one.id));
        kept.into_iter().find_map(|one| {
            // Below global scope a G permission gives nothing.
            let mask = match one.scope {
                Scope::Global => PermissionSet::EMPTY,
                _ => PermissionSet::global_only(),
            };
            let role = self.holds(one.role);
            let role = RolePermissions {
                all: role.all.without(mask),
                own: role.own.without(mask),
            };
            let target = self.target(one.scope)?;
            let missing = self.actor.missing_to_hold(role, &target)?;
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
                    false => missing.or_else(|| self.lacks_to_hold_of(id, |_| true)),
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
            let gains = RolePermissions {
                all: permissions.all.without(before.permissions.all),
                own: permissions
                    .own
                    .without(before.permissions.own)
                    .without(before.permissions.all),
            };
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
                let lacks = self.actor.missing_to_hold(gains, &target);
                missing = missing.or(lacks.map(|permission| (permission, target)));
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

/// A line of a plan, with what the actor lacks in words.
fn view(actor: &Actor, drafted: &Drafted) -> PlannedChange {
    PlannedChange {
        act: drafted.act,
        words: drafted.words.clone(),
        missing: drafted.missing.map(|(permission, target)| {
            let place = crate::access::place(actor.picture(), &target);
            format!("you need {permission} on {place}")
        }),
    }
}

/// What applying the document would do, and give to and take from whom.
pub async fn plan(actor: &Actor, document: AccessDocument) -> Changed<AccessPlan> {
    may_look(actor)?;
    let document = Arc::new(document);
    loop {
        let version = actor.picture().version();
        let places = look_up(actor, &document).await?;
        let mut tx = actor.db().begin_look().await?;
        let have = Have::read(&mut tx).await?;
        drop(tx);
        let (of, document) = (actor.clone(), document.clone());
        // Copying the picture may take a while at large: beside the other requests, not among them.
        let worked_out = tokio::task::spawn_blocking(move || {
            let before = of.picture().world().clone().in_mode(AccessMode::Rbac);
            let draft = draft(&of, &have, &document, &places)?;
            Ok::<_, ChangeError>(try_out(&of, &have, draft, before))
        });
        let mut plan = worked_out.await.map_err(|why| StoreError::Broken(why.to_string()))??;
        plan.version = version;
        // All of it was of one moment, or it is worked out again.
        if actor.picture().version() == version {
            return Ok(plan);
        }
    }
}

fn try_out(actor: &Actor, have: &Have, draft: Draft, before: World) -> AccessPlan {
    let picture = actor.picture();
    let mut after = before.clone();
    let mut who = BTreeSet::new();
    for drafted in &draft.steps {
        make_in(&mut after, picture, &drafted.step, &mut who);
    }
    let found = difference(&before, &after, who.into_iter(), actor.now().0);
    let mut warnings = draft.warnings;
    let labels = &draft.labels;
    let own: Vec<&Difference> = found
        .iter()
        .filter(|one| one.who == actor.id && one.lost != RolePermissions::default())
        .collect();
    if !own.is_empty() {
        let places: Vec<String> = own.iter().map(|one| labels.place(picture, one.scope)).collect();
        warnings.push(format!("you yourself would lose rights {}", some_names(&places)));
    }
    if !has_admin(picture, &after, have, &draft.steps) && has_admin(picture, &before, have, &[]) {
        warnings.push(format!("it would be refused: {LAST_ADMIN}"));
    }
    let total = found.len();
    let mut effects: Vec<PlannedEffect> = found
        .into_iter()
        .map(|one| PlannedEffect {
            who: labels.principal(picture, one.who),
            on: labels.on(picture, one.scope),
            gained: one.gained.words(),
            lost: one.lost.words(),
        })
        .collect();
    effects.sort_by(|one, other| (&one.who, &one.on).cmp(&(&other.who, &other.on)));
    effects.truncate(EFFECTS_SHOWN);
    AccessPlan {
        version: 0,
        changes: draft.steps.iter().map(|drafted| view(actor, drafted)).collect(),
        more_effects: (total - effects.len()) as i64,
        effects,
        warnings,
    }
}

/// As `assignments::is_last_admin_gone` sees it.
fn has_admin(picture: &Picture, world: &World, have: &Have, steps: &[Drafted]) -> bool {
    let Some(role) = picture.find_role("ClusterAdmin") else {
        return false;
    };
    let becomes_remote: HashSet<PrincipalId> = steps
        .iter()
        .filter_map(|one| match &one.step {
            Step::ChangeUser { id, remote: true, .. } => Some(*id),
            _ => None,
        })
        .collect();
    let can_sign_in = |id: PrincipalId| {
        world.is_active(id) && have.users.get(&id).is_some_and(|user| !user.remote) && !becomes_remote.contains(&id)
    };
    world.assignments_of_role(role).any(|one| {
        let lasts = one.scope == Scope::Global && one.expires.is_none();
        lasts
            && match one.holder {
                Holder::Principal(id) => can_sign_in(id),
                Holder::Group(id) => world.members_of(id).iter().any(|id| can_sign_in(*id)),
            }
    })
}

/// Makes a step in a copy of the picture; `who` gathers whom it may concern.
fn make_in(world: &mut World, picture: &Picture, step: &Step, who: &mut BTreeSet<PrincipalId>) {
    fn reached(world: &World, users: GroupId, holder: Holder, who: &mut BTreeSet<PrincipalId>) {
        match holder {
            Holder::Principal(id) => drop(who.insert(id)),
            Holder::Group(id) if id == users => who.extend(world.principals()),
            Holder::Group(id) => who.extend(world.members_of(id)),
        }
    }
    let users = picture.users_group();
    match step {
        Step::MakePrincipal {
            id,
            kind,
            name,
            state,
            own_roles_only,
            ..
        } => {
            who.insert(*id);
            world.set_principal(Principal {
                id: *id,
                name: name.clone(),
                active: *state == UserState::Active,
                groups: vec![users],
                own_roles_only: *own_roles_only,
                is_service: *kind == PrincipalKind::Service,
            });
        }
        Step::ChangeUser {
            id,
            name,
            state,
            own_roles_only,
            ..
        } => {
            who.insert(*id);
            let groups = world.groups_of(*id).to_vec();
            world.set_principal(Principal {
                id: *id,
                name: name.clone(),
                active: *state == UserState::Active,
                groups,
                own_roles_only: *own_roles_only,
                is_service: false,
            });
        }
        Step::PutRole {
            id, name, permissions, ..
        } => {
            let holders: Vec<Holder> = world.assignments_of_role(*id).map(|one| one.holder).collect();
            holders
                .into_iter()
                .for_each(|holder| reached(world, users, holder, who));
            world.set_role(Role {
                id: *id,
                name: name.clone(),
                permissions: *permissions,
                administrative: false,
            });
        }
        Step::PutGroup { .. } | Step::PutWorkspace { .. } | Step::PutProject { .. } => {}
        Step::Unassign(one) => {
            reached(world, users, one.holder, who);
            world.remove_assignment(one.id);
        }
        Step::ChangeEnd(one, until) => {
            reached(world, users, one.holder, who);
            world.set_assignment(Assignment {
                expires: until.map(|end| end.0),
                ..*one
            });
        }
        Step::Assign(one) => {
            reached(world, users, one.holder, who);
            world.set_assignment(*one);
        }
        Step::Leave(group, members) => {
            who.extend(members);
            world.remove_members(*group, members);
        }
        Step::Join(group, members) => {
            who.extend(members);
            world.add_members(*group, members);
        }
        Step::DeleteGroup(id) => {
            who.extend(world.members_of(*id));
            world.remove_group(*id);
        }
        Step::DeleteRole(id) => world.remove_role(*id),
    }
}

// ---- applying

/// Makes everything as the document says, or nothing.
pub async fn apply(actor: &Actor, apply: ApplyDocument) -> Changed<Applied> {
    may_look(actor)?;
    let document = apply.document;
    let mut places = look_up(actor, &document).await?;
    let (mut work, actor) = actor.begin_in_order().await?;
    may_look(&actor)?;
    if let Some(version) = apply.plan_version {
        refuse_stale(&mut work, &actor, version).await?;
    }
    // What has gone or moved away since it was looked up.
    for place in places.values_mut() {
        if let Ok(target) = place {
            let now = assignments::target_of(&mut work, scope_of(target)).await?;
            *place = now.ok_or_else(|| "it has just been deleted".to_owned());
        }
    }
    let have = Have::read(&mut work).await?;
    let of = actor.clone();
    let worked_out = tokio::task::spawn_blocking(move || draft(&of, &have, &document, &places));
    let draft = worked_out.await.map_err(|why| StoreError::Broken(why.to_string()))??;
    if let Some((permission, target, words)) = draft
        .steps
        .iter()
        .find_map(|one| one.missing.map(|(permission, target)| (permission, target, &one.words)))
    {
        return Err(forbidden(&actor, permission, &target, words));
    }
    let changes: Vec<PlannedChange> = draft.steps.iter().map(|drafted| view(&actor, drafted)).collect();
    if changes.is_empty() {
        return Ok(Applied {
            changes,
            pending: Vec::new(),
            warnings: draft.warnings,
        });
    }
    let mut pending = Vec::new();
    let mut real = Real::default();
    for drafted in &draft.steps {
        if let Step::MakePrincipal {
            name,
            state: UserState::Pending,
            ..
        } = &drafted.step
        {
            pending.push(name.clone());
        }
        make(&mut work, &actor, &draft.labels, &mut real, drafted).await?;
    }
    if assignments::is_last_admin_gone(&mut work).await? {
        return Err(ChangeError::Conflict(LAST_ADMIN.into()));
    }
    let lines: Vec<&str> = changes.iter().take(100).map(|change| change.words.as_str()).collect();
    let detail = json!({"changes": changes.len(), "first": lines});
    let entry = Entry::new(Permission::RolesAssign.name(), "apply", "access document", "").with(detail);
    audit::write(&mut work, &actor, entry).await?;
    work.commit().await?;
    Ok(Applied {
        changes,
        pending,
        warnings: draft.warnings,
    })
}

/// The refusal, with the change that it is about.
fn forbidden(actor: &Actor, permission: Permission, target: &Target, words: &str) -> ChangeError {
    let mut refusal = actor.forbidden(permission, target);
    if let Refusal::Forbidden { place, .. } = &mut refusal {
        place.push_str(&format!(", to {words}; nothing was changed"));
    }
    ChangeError::Refused(refusal)
}

/// Refuses when rights have changed since the plan. That somebody signed out, or a key ended, changes no plan.
async fn refuse_stale(work: &mut Work, actor: &Actor, planned: i64) -> Changed<()> {
    let current = actor.version;
    if planned == current {
        return Ok(());
    }
    let row = sqlx::query(
        "SELECT COUNT(DISTINCT version), COALESCE(SUM(CASE WHEN kind = 'credential' THEN 0 ELSE 1 END), 0) FROM access_changes WHERE version > $1 AND version <= $2",
    )
    .bind(planned)
    .bind(current)
    .fetch_one(&mut ***work)
    .await?;
    let (versions, others): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if planned < current && versions == current - planned && others == 0 {
        return Ok(());
    }
    Err(ChangeError::Conflict(
        "rights have changed since this plan was made; look at the plan again".into(),
    ))
}

/// The ids of what was made, by the made-up ones.
#[derive(Default)]
struct Real {
    principals: HashMap<PrincipalId, PrincipalId>,
    groups: HashMap<GroupId, GroupId>,
    roles: HashMap<RoleId, RoleId>,
    workspaces: HashMap<WorkspaceId, WorkspaceId>,
    projects: HashMap<ProjectId, ProjectId>,
}

impl Real {
    fn principal(&self, id: PrincipalId) -> PrincipalId {
        self.principals.get(&id).copied().unwrap_or(id)
    }

    fn group(&self, id: GroupId) -> GroupId {
        self.groups.get(&id).copied().unwrap_or(id)
    }

    fn role(&self, id: RoleId) -> RoleId {
        self.roles.get(&id).copied().unwrap_or(id)
    }

    fn workspace(&self, id: WorkspaceId) -> WorkspaceId {
        self.workspaces.get(&id).copied().unwrap_or(id)
    }

    fn holder(&self, holder: Holder) -> Holder {
        match holder {
            Holder::Principal(id) => Holder::Principal(self.principal(id)),
            Holder::Group(id) => Holder::Group(self.group(id)),
        }
    }

    fn scope(&self, scope: Scope) -> Scope {
        match scope {
            Scope::Workspace(id) => Scope::Workspace(self.workspace(id)),
            Scope::Project(id) => Scope::Project(self.projects.get(&id).copied().unwrap_or(id)),
            other => other,
        }
    }
}

/// An event about one step, as the command for it alone would leave it.
struct Told<'a> {
    permission: Permission,
    verb: &'a str,
    kind: &'a str,
    name: String,
    workspace: Option<WorkspaceId>,
}

impl<'a> Told<'a> {
    fn new(permission: Permission, verb: &'a str, kind: &'a str, name: impl Into<String>) -> Told<'a> {
        Told {
            permission,
            verb,
            kind,
            name: name.into(),
            workspace: None,
        }
    }
}

/// Somebody took the name at this very moment, which changes no rights and so needs no lock.
fn taken(why: sqlx::Error, name: &str) -> ChangeError {
    match StoreError::from(why) {
        StoreError::Conflict(_) => ChangeError::Conflict(format!("the name `{name}` has just been taken")),
        other => other.into(),
    }
}

async fn make(work: &mut Work, actor: &Actor, labels: &Labels, real: &mut Real, drafted: &Drafted) -> Changed<()> {
    let picture = actor.picture();
    let now = actor.now();
    let mut detail = drafted.detail.clone();
    let told = match &drafted.step {
        Step::MakePrincipal {
            id,
            kind,
            name,
            display_name,
            state,
            remote,
            own_roles_only,
        } => {
            let (kind, permission, word) = match kind {
                PrincipalKind::User => ("user", Permission::UsersCreate, "user"),
                PrincipalKind::Service => ("service", Permission::ServiceAccountsCreate, "service account"),
            };
            let made: i64 = sqlx::query_scalar(
                "INSERT INTO principals (kind, name, name_key, display_name, state, remote, own_roles_only, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
            )
            .bind(kind)
            .bind(name)
            .bind(name_key(name))
            .bind(display_name.as_deref())
            .bind(state.name())
            .bind(i64::from(*remote))
            .bind(i64::from(*own_roles_only))
            .bind(now.0)
            .fetch_one(&mut ***work)
            .await
            .map_err(|why| taken(why, name))?;
            real.principals.insert(*id, PrincipalId(made));
            work.touches(&[Touched::Principal(PrincipalId(made))]).await?;
            Told::new(permission, "create", word, name)
        }
        Step::ChangeUser {
            id,
            name,
            display_name,
            state,
            remote,
            own_roles_only,
            shuts_out,
            becomes_remote,
        } => {
            sqlx::query(
                "UPDATE principals SET name = $1, display_name = $2, state = $3, remote = $4, own_roles_only = $5,
                 password_hash = CASE WHEN $4 = 1 THEN NULL ELSE password_hash END WHERE id = $6",
            )
            .bind(name)
            .bind(display_name.as_deref())
            .bind(state.name())
            .bind(i64::from(*remote))
            .bind(i64::from(*own_roles_only))
            .bind(id.0)
            .execute(&mut ***work)
            .await?;
            if *shuts_out {
                end_credentials(work, *id).await?;
            }
            if *becomes_remote {
                sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE principal_id = $2 AND kind IN ('session', 'link') AND revoked_at IS NULL")
                    .bind(now.0)
                    .bind(id.0)
                    .execute(&mut ***work)
                    .await?;
            }
            work.touches(&[Touched::Principal(*id)]).await?;
            Told::new(Permission::UsersUpdate, "update", "user", &*picture.principal_name(*id))
        }
        Step::PutRole {
            id,
            is_new,
            name,
            description,
            permissions,
        } => {
            let words = serde_json::to_string(&permissions.words()).expect("a list of words is JSON");
            let put = if *is_new {
                "INSERT INTO roles (name, name_key, description, permissions, built_in) VALUES ($1, $2, $3, $4, 0) RETURNING id"
                    .to_owned()
            } else {
                format!(
                    "UPDATE roles SET name = $1, name_key = $2, description = $3, permissions = $4 WHERE id = {id} RETURNING id"
                )
            };
            let made: i64 = sqlx::query_scalar(AssertSqlSafe(put))
                .bind(name)
                .bind(name_key(name))
                .bind(description)
                .bind(words)
                .fetch_one(&mut ***work)
                .await
                .map_err(|why| taken(why, name))?;
            real.roles.insert(*id, RoleId(made));
            work.touches(&[Touched::Role(RoleId(made))]).await?;
            match is_new {
                true => Told::new(Permission::RolesCreate, "create", "role", name),
                false => Told::new(Permission::RolesUpdate, "update", "role", &*picture.role_name(*id)),
            }
        }
        Step::PutGroup {
            id,
            is_new,
            name,
            description,
        } => {
            let put = if *is_new {
                "INSERT INTO groups (name, name_key, description, built_in) VALUES ($1, $2, $3, 0) RETURNING id"
                    .to_owned()
            } else {
                format!("UPDATE groups SET name = $1, name_key = $2, description = $3 WHERE id = {id} RETURNING id")
            };
            let made: i64 = sqlx::query_scalar(AssertSqlSafe(put))
                .bind(name)
                .bind(name_key(name))
                .bind(description)
                .fetch_one(&mut ***work)
                .await
                .map_err(|why| taken(why, name))?;
            real.groups.insert(*id, GroupId(made));
            work.touches(&[Touched::Group(GroupId(made))]).await?;
            match is_new {
                true => Told::new(Permission::GroupsCreate, "create", "group", name),
                false => Told::new(Permission::GroupsUpdate, "update", "group", &*picture.group_name(*id)),
            }
        }
        Step::PutWorkspace {
            id,
            is_new,
            name,
            description,
            archived,
        } => {
            let owner = (actor.id.0 > 0).then_some(actor.id.0);
            let query = if *is_new {
                let sql = "INSERT INTO workspaces (name, name_key, description, owner_id, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING id";
                let query = sqlx::query_scalar(sql)
                    .bind(name)
                    .bind(name_key(name))
                    .bind(description);
                query.bind(owner).bind(now.0)
            } else {
                let sql = "UPDATE workspaces SET name = $1, name_key = $2, description = $3 WHERE id = $4 RETURNING id";
                let query = sqlx::query_scalar(sql)
                    .bind(name)
                    .bind(name_key(name))
                    .bind(description);
                query.bind(id.0)
            };
            let made: i64 = query.fetch_one(&mut ***work).await.map_err(|why| taken(why, name))?;
            let made = WorkspaceId(made);
            real.workspaces.insert(*id, made);
            let mut touched = vec![Touched::Workspace(made)];
            if *is_new {
                let project = crate::projects::insert(work, made, DEFAULT_PROJECT, "", owner, now).await?;
                let of_draft = labels.projects.iter();
                let default = of_draft.filter(|(_, (of, name))| of == id && name_key(name) == DEFAULT_PROJECT);
                real.projects.extend(default.map(|(id, _)| (*id, project)));
                touched.push(Touched::Project(project));
            }
            if let Some(archived) = archived {
                set_archived(work, "workspaces", made.0, *archived, now).await?;
            }
            work.touches(&touched).await?;
            let told = match is_new {
                true => Told::new(Permission::WorkspacesCreate, "create", "workspace", name),
                false => Told::new(
                    Permission::WorkspacesUpdate,
                    "update",
                    "workspace",
                    &*picture.workspace_name(*id),
                ),
            };
            Told {
                workspace: Some(made),
                ..told
            }
        }
        Step::PutProject {
            id,
            is_new,
            workspace,
            name,
            description,
            archived,
        } => {
            let workspace = real.workspace(*workspace);
            let owner = (actor.id.0 > 0).then_some(actor.id.0);
            let made = if *is_new {
                let made = crate::projects::insert(work, workspace, name, description, owner, now).await;
                made.map_err(|why| match why {
                    StoreError::Conflict(_) => ChangeError::Conflict(format!("the name `{name}` has just been taken")),
                    other => other.into(),
                })?
            } else {
                let made = real.projects.get(id).copied().unwrap_or(*id);
                sqlx::query("UPDATE projects SET name = $1, name_key = $2, description = $3 WHERE id = $4")
                    .bind(name)
                    .bind(name_key(name))
                    .bind(description)
                    .bind(made.0)
                    .execute(&mut ***work)
                    .await?;
                made
            };
            real.projects.insert(*id, made);
            if let Some(archived) = archived {
                set_archived(work, "projects", made.0, *archived, now).await?;
            }
            work.touches(&[Touched::Project(made)]).await?;
            let told = match is_new {
                true => Told::new(Permission::ProjectsCreate, "create", "project", name),
                false => Told::new(Permission::ProjectsUpdate, "update", "project", name),
            };
            Told {
                workspace: Some(workspace),
                ..told
            }
        }
        Step::Unassign(one) => {
            assignments::take(work, one.id).await?;
            told_assignment(picture, labels, "unassign", one)
        }
        Step::ChangeEnd(one, until) => {
            sqlx::query("UPDATE assignments SET expires_at = $2 WHERE id = $1")
                .bind(one.id.0)
                .bind(until.map(|end| end.0))
                .execute(&mut ***work)
                .await?;
            sqlx::query("UPDATE access_requests SET assignment_id = NULL WHERE assignment_id = $1")
                .bind(one.id.0)
                .execute(&mut ***work)
                .await?;
            work.touches(&[Touched::Assignment(one.id)]).await?;
            told_assignment(picture, labels, "change", one)
        }
        Step::Assign(one) => {
            let is = Resolved {
                holder: real.holder(one.holder),
                role: real.role(one.role),
                scope: real.scope(one.scope),
                expires: one.expires.map(Time),
                reason: "access document".into(),
            };
            let id = assignments::write(work, actor, &is).await?;
            detail["assignment"] = json!(id);
            let mut told = told_assignment(picture, labels, "assign", one);
            if let Scope::Workspace(id) = is.scope {
                told.workspace = Some(id);
            }
            told
        }
        Step::Leave(group, who) => {
            let group_id = real.group(*group);
            let sql = format!(
                "DELETE FROM group_members WHERE group_id = $1 AND principal_id IN ({})",
                id_list(who.iter().map(|id| id.0))
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(group_id.0)
                .execute(&mut ***work)
                .await?;
            work.touches(&[Touched::Group(group_id)]).await?;
            Told::new(
                Permission::GroupsUpdate,
                "remove-member",
                "group",
                labels.group(picture, *group),
            )
        }
        Step::Join(group, who) => {
            let group_id = real.group(*group);
            let sql = format!(
                "INSERT INTO group_members (group_id, principal_id) SELECT $1, id FROM principals WHERE id IN ({})",
                id_list(who.iter().map(|id| real.principal(*id).0))
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(group_id.0)
                .execute(&mut ***work)
                .await?;
            work.touches(&[Touched::Group(group_id)]).await?;
            Told::new(
                Permission::GroupsUpdate,
                "add-member",
                "group",
                labels.group(picture, *group),
            )
        }
        Step::DeleteGroup(id) => {
            for sql in [
                // What has ended and was not cleared away yet.
                "DELETE FROM assignments WHERE group_id = $1",
                "DELETE FROM group_members WHERE group_id = $1",
                "DELETE FROM groups WHERE id = $1",
            ] {
                sqlx::query(sql).bind(id.0).execute(&mut ***work).await?;
            }
            work.touches(&[Touched::Group(*id)]).await?;
            Told::new(Permission::GroupsDelete, "delete", "group", &*picture.group_name(*id))
        }
        Step::DeleteRole(id) => {
            let ended: Vec<i64> = sqlx::query_scalar("DELETE FROM assignments WHERE role_id = $1 RETURNING id")
                .bind(id.0)
                .fetch_all(&mut ***work)
                .await?;
            let ended: Vec<Touched> = ended
                .into_iter()
                .map(|id| Touched::Assignment(AssignmentId(id)))
                .collect();
            work.touches(&ended).await?;
            sqlx::query("DELETE FROM roles WHERE id = $1")
                .bind(id.0)
                .execute(&mut ***work)
                .await?;
            work.touches(&[Touched::Role(*id)]).await?;
            Told::new(Permission::RolesDelete, "delete", "role", &*picture.role_name(*id))
        }
    };
    let entry = Entry::new(told.permission.name(), told.verb, told.kind, told.name);
    audit::write(work, actor, entry.in_workspace(told.workspace).with(detail)).await?;
    Ok(())
}

fn told_assignment(picture: &Picture, labels: &Labels, verb: &'static str, one: &Assignment) -> Told<'static> {
    let (kind, name) = labels.holder(picture, one.holder);
    let workspace = match one.scope {
        Scope::Workspace(id) => Some(id).filter(|id| picture.workspace(*id).is_some()),
        Scope::Project(id) => picture.project(id).map(|project| project.workspace),
        _ => None,
    };
    Told {
        workspace,
        ..Told::new(Permission::RolesAssign, verb, kind, name)
    }
}

async fn set_archived(work: &mut Work, table: &str, id: i64, archived: bool, now: Time) -> Result<()> {
    let sql = format!("UPDATE {table} SET archived_at = $1 WHERE id = $2");
    sqlx::query(AssertSqlSafe(sql))
        .bind(archived.then_some(now.0))
        .bind(id)
        .execute(&mut ***work)
        .await?;
    Ok(())
}

//! Access as code: the whole of it as one document, what applying another would do, and applying it.
//!
//! One function (`document/draft.rs`) drafts the steps from the picture of rights and what the picture does not hold; a plan shows them and tries them on a
//! copy of the picture, applying makes them in one transaction, under the lock that puts changes of rights in one order. So a plan and what follows from it
//! cannot differ.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bailiwick_access::{Assignment, Difference, Holder, ObjectKind, Principal, Role, Scope, Target, World, difference};
use bailiwick_api::document::{
    AccessDocument, AccessPlan, Applied, ApplyDocument, DocumentAssignment, DocumentGroup, DocumentProject,
    DocumentRole, DocumentUser, DocumentWorkspace, PlannedChange, PlannedEffect,
};
use bailiwick_api::names::name_key;
use bailiwick_api::permission::RolePermissions;
use bailiwick_api::server::AccessMode;
use bailiwick_api::users::{PrincipalKind, UserState};
use bailiwick_api::workspaces::DEFAULT_PROJECT;
use bailiwick_api::{
    AssignmentId, ExperimentId, GroupId, Permission, PrincipalId, ProjectId, RoleId, Time, WorkspaceId,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Row};

use self::draft::{Draft, Drafted, Labels, Step, draft, look_up, some_names};
use crate::access::{Actor, Refusal, Work, experiment_target, scope_of};
use crate::assignments::{self, ChangeError, Changed, Entrance, LAST_ADMIN, Resolved};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, id_list};
use crate::picture::{Picture, Touched};
use crate::principals::{end_credentials, read_state};
use crate::seats;

mod draft;

/// How many effects a plan shows.
const EFFECTS_SHOWN: usize = 1000;

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
    /// Those of them that came from break-glass, which nothing changes.
    break_glass: HashSet<AssignmentId>,
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
        let sql = "SELECT assignment_id, kind FROM access_requests WHERE assignment_id IS NOT NULL";
        for row in sqlx::query(sql).fetch_all(&mut **tx).await? {
            let id = AssignmentId(row.try_get(0)?);
            have.on_request.insert(id);
            if row.try_get::<&str, _>(1)? == "break-glass" {
                have.break_glass.insert(id);
            }
        }
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
            Scope::Object(ObjectKind::Experiment, id) => self.experiments.get(&id).copied(),
            scope => assignments::plain_target(picture, scope),
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

// ---- plan

const PARTIAL_KEY: &str =
    "a key that is narrowed or has an end opens no other way in for its owner: sign in with `ml login`";

/// A line of a plan, with what the actor lacks in words.
fn view(actor: &Actor, drafted: &Drafted) -> PlannedChange {
    PlannedChange {
        act: drafted.act,
        words: drafted.words.clone(),
        missing: drafted.missing.map(|(permission, target)| {
            if drafted.partial_key {
                return PARTIAL_KEY.to_owned();
            }
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
            let mut before = of.picture().world().clone().in_mode(AccessMode::Rbac);
            // What those who have not signed in yet will be able to do is told, too.
            for (id, _) in have.users.iter().filter(|(_, user)| user.state == UserState::Pending) {
                set_active(&mut before, of.picture(), *id);
            }
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
    if surest_entrance(picture, &after, have, &draft.steps) < surest_entrance(picture, &before, have, &[]) {
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

fn set_active(world: &mut World, picture: &Picture, id: PrincipalId) {
    let state = world.principal(id).unwrap_or_default();
    let groups = world.groups_of(id).to_vec();
    world.set_principal(Principal {
        id,
        name: picture.principal_name(id).to_string(),
        active: true,
        groups,
        own_roles_only: state.own_roles_only,
        is_service: state.is_service,
    });
}

/// How the surest administrator gets in after these steps, as `assignments::is_last_admin_gone` sees it.
fn surest_entrance(picture: &Picture, world: &World, have: &Have, steps: &[Drafted]) -> Entrance {
    let Some(role) = picture.find_role("ClusterAdmin") else {
        return Entrance::Nobody;
    };
    let changed: HashMap<PrincipalId, (UserState, bool)> = steps
        .iter()
        .filter_map(|one| match &one.step {
            Step::MakePrincipal {
                id,
                kind: PrincipalKind::User,
                state,
                remote,
                ..
            }
            | Step::ChangeUser { id, state, remote, .. } => Some((*id, (*state, *remote))),
            _ => None,
        })
        .collect();
    let entrance = |id: &PrincipalId| {
        let user = have.users.get(id);
        let before = user.map(|user| (user.state, user.remote));
        let (state, remote) = changed.get(id).copied().or(before)?;
        let has_password = user.is_some_and(|user| user.has_password && !user.remote);
        (state == UserState::Active).then(|| Entrance::of(remote, has_password))
    };
    let lasting = world
        .assignments_of_role(role)
        .filter(|one| one.scope == Scope::Global && one.expires.is_none());
    let surest = lasting.filter_map(|one| match one.holder {
        Holder::Principal(id) => entrance(&id),
        Holder::Group(id) => world.members_of(id).iter().filter_map(entrance).max(),
    });
    surest.max().unwrap_or(Entrance::Nobody)
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
                active: *state != UserState::Deactivated,
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
                active: *state != UserState::Deactivated,
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
    if let Some((missing, refused)) = draft.steps.iter().find_map(|one| Some((one.missing?, one))) {
        return Err(forbidden(&actor, missing, refused));
    }
    let changes: Vec<PlannedChange> = draft.steps.iter().map(|drafted| view(&actor, drafted)).collect();
    if changes.is_empty() {
        return Ok(Applied {
            changes,
            pending: Vec::new(),
            warnings: draft.warnings,
        });
    }
    let seats_used = seats::used(&mut work).await?;
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
    if let Some(why) = seats::lacking(&mut work).await?
        && seats::used(&mut work).await? > seats_used
    {
        return Err(ChangeError::Conflict(why));
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
fn forbidden(actor: &Actor, (permission, target): (Permission, Target), refused: &Drafted) -> ChangeError {
    let mut refusal = actor.forbidden(permission, &target);
    if let Refusal::Forbidden { place, why, .. } = &mut refusal {
        place.push_str(&format!(", to {}; nothing was changed", refused.words));
        if refused.partial_key {
            *why = Some(PARTIAL_KEY.to_owned());
        }
    }
    ChangeError::Refused(refusal)
}

/// Refuses when rights have changed since the plan. That somebody signed out, or a key ended, changes no plan.
async fn refuse_stale(work: &mut Work, actor: &Actor, planned: i64) -> Changed<()> {
    let current = actor.version;
    // A caller may say any number; what no plan had is out of date.
    let planned = planned.max(0);
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
                crate::requests::withdraw_all(work, actor, *id).await?;
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
            assignments::becomes_ordinary(work, one.id).await?;
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

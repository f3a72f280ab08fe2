//! The picture of rights and names in memory: one for the whole process, brought up to date by what each change touched.
//!
//! Every transaction that changes rights raises `access_version` and writes what it touched into `access_changes`. A server whose picture is behind reads
//! those rows, loads just what they name, and stands at the new version. Where the rows do not reach back far enough it loads everything.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bailiwick_access::{Assignment, Holder, ObjectKind, Principal, Role, Scope, Target, World};
use bailiwick_api::ids::as_number;
use bailiwick_api::names::{name_key, nearest};
use bailiwick_api::permission::{BuiltInRole, RolePermissions};
use bailiwick_api::queues::QueueState;
use bailiwick_api::roles::{AssignmentView, ScopeView};
use bailiwick_api::server::AccessMode;
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{
    AssignmentId, GroupId, ModelId, PrincipalId, ProjectId, QueueId, RoleId, StackId, Time, TokenId, WorkspaceId,
};
use bailiwick_lock::{Lock, Reading};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::Credential;
use crate::db::{Db, Result, StoreError, Tx, id_list};

/// What a change of rights touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Touched {
    /// The row, its memberships, and every credential of it.
    Principal(PrincipalId),
    /// The row and its whole membership; when it is gone, its assignments too.
    Group(GroupId),
    Role(RoleId),
    Assignment(AssignmentId),
    Workspace(WorkspaceId),
    Project(ProjectId),
    Queue(QueueId),
    Stack(StackId),
    Model(ModelId),
    Credential(TokenId),
    Everything,
}

impl Touched {
    pub(crate) fn columns(self) -> (&'static str, i64) {
        match self {
            Touched::Principal(id) => ("principal", id.0),
            Touched::Group(id) => ("group", id.0),
            Touched::Role(id) => ("role", id.0),
            Touched::Assignment(id) => ("assignment", id.0),
            Touched::Workspace(id) => ("workspace", id.0),
            Touched::Project(id) => ("project", id.0),
            Touched::Queue(id) => ("queue", id.0),
            Touched::Stack(id) => ("stack", id.0),
            Touched::Model(id) => ("model", id.0),
            Touched::Credential(id) => ("credential", id.0),
            Touched::Everything => ("everything", 0),
        }
    }
}

#[derive(Debug, Clone)]
pub struct PrincipalEntry {
    pub name: Arc<str>,
    pub removed: bool,
    pub kind: PrincipalKind,
}

#[derive(Debug, Clone)]
pub struct GroupEntry {
    pub name: Arc<str>,
    pub built_in: bool,
}

#[derive(Debug, Clone)]
pub struct WorkspaceEntry {
    pub name: Arc<str>,
    pub archived: bool,
    pub owner: Option<PrincipalId>,
    /// Before that of all; it may be gone.
    pub default_queue: Option<QueueId>,
}

#[derive(Debug, Clone)]
pub struct ProjectEntry {
    pub workspace: WorkspaceId,
    pub name: Arc<str>,
    pub archived: bool,
    pub owner: Option<PrincipalId>,
}

#[derive(Debug, Clone)]
pub struct QueueEntry {
    pub name: Arc<str>,
    /// To every workspace.
    pub open: bool,
    /// Those that it is bound to where it is not open.
    pub workspaces: Arc<[WorkspaceId]>,
    pub is_default: bool,
    pub state: QueueState,
    /// Which job is next turns on whose it is: by shares or by limits.
    pub by_owner: bool,
    pub deleted: bool,
}

#[derive(Debug, Clone)]
pub struct StackEntry {
    pub name: Arc<str>,
    pub owner: PrincipalId,
}

#[derive(Debug, Clone)]
pub struct ModelEntry {
    pub workspace: WorkspaceId,
    pub name: Arc<str>,
    pub owner: Option<PrincipalId>,
}

/// Names and what finds them.
#[derive(Default)]
struct Names {
    principals: HashMap<PrincipalId, PrincipalEntry>,
    principal_keys: HashMap<String, PrincipalId>,
    groups: BTreeMap<GroupId, GroupEntry>,
    group_keys: HashMap<String, GroupId>,
    role_keys: HashMap<String, RoleId>,
    workspaces: BTreeMap<WorkspaceId, WorkspaceEntry>,
    workspace_keys: HashMap<String, WorkspaceId>,
    projects: HashMap<ProjectId, ProjectEntry>,
    project_keys: BTreeMap<(WorkspaceId, String), ProjectId>,
    queues: BTreeMap<QueueId, QueueEntry>,
    stacks: BTreeMap<StackId, StackEntry>,
    models: BTreeMap<ModelId, ModelEntry>,
    model_keys: BTreeMap<(WorkspaceId, String), ModelId>,
}

/// What is stored of a key; see [`bailiwick_api::key::stored_hash`].
pub(crate) type KeyHash = [u8; 32];

/// Credentials seen since they or their holders last changed, by stored hash.
#[derive(Default)]
struct Credentials {
    by_hash: HashMap<KeyHash, Used, BuildHasherDefault<Already>>,
    by_principal: HashMap<PrincipalId, Vec<KeyHash>>,
    by_id: HashMap<TokenId, KeyHash>,
}

/// Hashes what is a hash already, and one that nobody chooses: by the first bytes of what is written last (an array writes its length before).
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct Used {
    credential: Credential,
    /// µs, to the second; 0 once it is written down.
    last: AtomicI64,
}

pub struct Picture {
    version: AtomicI64,
    mode: AccessMode,
    users: AtomicI64,
    /// Whether anything has been held globally for a while since this server started.
    ends_globally: AtomicBool,
    world: Lock<World>,
    names: Lock<Names>,
    credentials: Lock<Credentials>,
}

impl Picture {
    /// Everything, from the database.
    pub(crate) async fn open(db: &Db, mode: AccessMode) -> Result<Picture> {
        let mut tx = db.begin_look().await?;
        let all = load_all(&mut tx, mode).await?;
        Ok(Picture {
            version: AtomicI64::new(all.version),
            mode,
            users: AtomicI64::new(all.users.0),
            ends_globally: AtomicBool::new(all.ends_globally),
            world: Lock::new(all.world),
            names: Lock::new(all.names),
            credentials: Lock::new(Credentials::default()),
        })
    }

    /// The newest `access_version` that this picture holds all of. It may hold more.
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::SeqCst)
    }

    pub fn mode(&self) -> AccessMode {
        self.mode
    }

    /// The engine. Not to be held over an await, nor while a second guard is asked for.
    pub fn world(&self) -> Reading<'_, World> {
        self.world.read()
    }

    fn names(&self) -> Reading<'_, Names> {
        self.names.read()
    }

    /// False if nobody holds anything globally for a while: answered without a lock.
    pub(crate) fn ends_globally(&self) -> bool {
        self.ends_globally.load(Ordering::SeqCst)
    }

    /// The built-in group of everybody.
    pub fn users_group(&self) -> GroupId {
        GroupId(self.users.load(Ordering::SeqCst))
    }

    pub fn principal(&self, id: PrincipalId) -> Option<PrincipalEntry> {
        self.names().principals.get(&id).cloned()
    }

    pub fn principal_name(&self, id: PrincipalId) -> Arc<str> {
        self.names()
            .principals
            .get(&id)
            .map_or_else(|| "?".into(), |principal| principal.name.clone())
    }

    /// By name (whatever its case) or id; removed ones only by id.
    pub fn find_principal(&self, text: &str) -> Option<PrincipalId> {
        let names = self.names();
        match as_number(text).map(PrincipalId) {
            Some(id) => names.principals.contains_key(&id).then_some(id),
            None => names.principal_keys.get(&name_key(text)).copied(),
        }
    }

    /// Who a request without credentials is when access control is off: `admin`, or whoever there is.
    pub(crate) fn somebody(&self) -> Option<PrincipalId> {
        let names = self.names();
        let world = self.world();
        let admin = names.principal_keys.get("admin").copied();
        let active = |id: &PrincipalId| world.is_active(*id);
        admin
            .filter(active)
            .or_else(|| names.principals.keys().copied().find(active))
    }

    pub fn group(&self, id: GroupId) -> Option<GroupEntry> {
        self.names().groups.get(&id).cloned()
    }

    pub fn group_name(&self, id: GroupId) -> Arc<str> {
        self.names()
            .groups
            .get(&id)
            .map_or_else(|| "?".into(), |group| group.name.clone())
    }

    /// By name or id. ClearML's `QueueAdmins` is the group shown as `Queue admins`.
    pub fn find_group(&self, text: &str) -> Option<GroupId> {
        let names = self.names();
        match as_number(text).map(GroupId) {
            Some(id) => names.groups.contains_key(&id).then_some(id),
            None => {
                let key = name_key(text);
                let key = if key == "queueadmins" { "queue admins" } else { &key };
                names.group_keys.get(key).copied()
            }
        }
    }

    pub fn groups(&self) -> Vec<(GroupId, GroupEntry)> {
        self.names()
            .groups
            .iter()
            .map(|(id, group)| (*id, group.clone()))
            .collect()
    }

    pub fn role(&self, id: RoleId) -> Option<Role> {
        self.world().role(id).cloned()
    }

    /// What to say to a name that is no role's.
    pub fn no_role(&self, name: &str) -> String {
        let world = self.world();
        let meant = nearest(name, world.roles().map(|role| role.name.as_str()));
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?"));
        format!("there is no role `{name}`{}", meant.unwrap_or_default())
    }

    pub fn role_name(&self, id: RoleId) -> Arc<str> {
        self.world()
            .role(id)
            .map_or_else(|| "?".into(), |role| role.name.as_str().into())
    }

    /// By name or id; `admin` is ClusterAdmin.
    pub fn find_role(&self, text: &str) -> Option<RoleId> {
        if let Some(id) = as_number(text).map(RoleId) {
            return self.world().role(id).map(|_| id);
        }
        let key = name_key(text);
        let key = if key == "admin" { "clusteradmin" } else { &key };
        self.names().role_keys.get(key).copied()
    }

    pub fn workspace(&self, id: WorkspaceId) -> Option<WorkspaceEntry> {
        self.names().workspaces.get(&id).cloned()
    }

    pub fn workspace_name(&self, id: WorkspaceId) -> Arc<str> {
        self.names()
            .workspaces
            .get(&id)
            .map_or_else(|| "?".into(), |workspace| workspace.name.clone())
    }

    pub fn find_workspace(&self, text: &str) -> Option<WorkspaceId> {
        self.find_workspace_target(text)?.workspace
    }

    /// The target that a workspace of this name or id is.
    pub fn find_workspace_target(&self, text: &str) -> Option<Target> {
        self.with_workspace(text, |target, _| target)
    }

    /// What is made of the target that a workspace of this name or id is, and of its name, while that is at hand.
    pub(crate) fn with_workspace<T>(&self, text: &str, make: impl FnOnce(Target, &str) -> T) -> Option<T> {
        let names = self.names();
        let id = match as_number(text).map(WorkspaceId) {
            Some(id) => id,
            None => *names.workspace_keys.get(&name_key(text))?,
        };
        let entry = names.workspaces.get(&id)?;
        let target = Target {
            workspace: Some(id),
            owner: entry.owner,
            ..Target::default()
        };
        Some(make(target, &entry.name))
    }

    pub fn workspaces(&self) -> Vec<(WorkspaceId, WorkspaceEntry)> {
        self.names()
            .workspaces
            .iter()
            .map(|(id, workspace)| (*id, workspace.clone()))
            .collect()
    }

    /// The next ones by id, at most so many.
    pub fn workspaces_after(&self, after: WorkspaceId, most: usize) -> Vec<(WorkspaceId, WorkspaceEntry)> {
        let names = self.names();
        let next = names
            .workspaces
            .range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        next.take(most)
            .map(|(id, workspace)| (*id, workspace.clone()))
            .collect()
    }

    /// The target that a workspace is, with its owner.
    pub fn workspace_target(&self, id: WorkspaceId) -> Target {
        Target {
            workspace: Some(id),
            owner: self.names().workspaces.get(&id).and_then(|workspace| workspace.owner),
            ..Target::default()
        }
    }

    pub fn project(&self, id: ProjectId) -> Option<ProjectEntry> {
        self.names().projects.get(&id).cloned()
    }

    pub fn project_name(&self, id: ProjectId) -> Arc<str> {
        self.names()
            .projects
            .get(&id)
            .map_or_else(|| "?".into(), |project| project.name.clone())
    }

    pub fn find_project(&self, workspace: WorkspaceId, text: &str) -> Option<ProjectId> {
        let names = self.names();
        match as_number(text).map(ProjectId) {
            Some(id) => names
                .projects
                .get(&id)
                .is_some_and(|project| project.workspace == workspace)
                .then_some(id),
            None => names.project_keys.get(&(workspace, name_key(text))).copied(),
        }
    }

    /// Those of a workspace, by name.
    pub fn projects(&self, workspace: WorkspaceId) -> Vec<(ProjectId, ProjectEntry)> {
        let names = self.names();
        let of = names.project_keys.range((workspace, String::new())..);
        of.take_while(|((of, _), _)| *of == workspace)
            .filter_map(|(_, id)| Some((*id, names.projects.get(id)?.clone())))
            .collect()
    }

    /// The target that a project is, with its owner.
    pub fn project_target(&self, id: ProjectId) -> Target {
        let project = self.project(id);
        Target {
            workspace: project.as_ref().map(|project| project.workspace),
            project: Some(id),
            owner: project.and_then(|project| project.owner),
            ..Target::default()
        }
    }

    /// Where an assignment holds, as a target. An experiment's containers are not known here: only assignments at itself or globally count on it.
    pub fn scope_target(&self, scope: Scope) -> Target {
        match scope {
            Scope::Global => Target::default(),
            Scope::Workspace(id) => Target::workspace(id),
            Scope::Project(id) => Target {
                owner: None,
                ..self.project_target(id)
            },
            Scope::Object(kind, id) => Target {
                workspace: self
                    .model(ModelId(id))
                    .filter(|_| kind == ObjectKind::Model)
                    .map(|model| model.workspace),
                object: Some((kind, id)),
                ..Target::default()
            },
        }
    }

    /// Where an assignment holds, with names.
    pub fn scope_view(&self, scope: Scope) -> ScopeView {
        match scope {
            Scope::Global => ScopeView::Global,
            Scope::Workspace(id) => ScopeView::Workspace {
                id: id.0,
                name: self.workspace_name(id).to_string(),
            },
            Scope::Project(id) => ScopeView::Project {
                id: id.0,
                name: self.project_name(id).to_string(),
                workspace: self
                    .project(id)
                    .map(|project| self.workspace_name(project.workspace).to_string()),
            },
            Scope::Object(kind, id) => ScopeView::Object {
                object: scope_columns(scope).0.to_owned(),
                id,
                name: match kind {
                    ObjectKind::Queue => self.queue_name(QueueId(id)).to_string(),
                    ObjectKind::Stack => self.stack_name(StackId(id)),
                    ObjectKind::Model => self.model_name(ModelId(id)).to_string(),
                    ObjectKind::Experiment => String::new(),
                },
            },
        }
    }

    /// The assignments that reach a principal, with the group each comes through.
    pub fn assignments_of(&self, who: PrincipalId) -> Vec<AssignmentView> {
        let assignments: Vec<_> = self.world().assignments_of(who).collect();
        let view = |(id, role, scope, group, until): (_, _, _, Option<GroupId>, Option<i64>)| AssignmentView {
            id,
            role: self.role_name(role).to_string(),
            scope: self.scope_view(scope),
            through_group: group.map(|group| self.group_name(group).to_string()),
            until: until.map(Time),
        };
        assignments.into_iter().map(view).collect()
    }

    /// Of what is deleted, too: what ended there names it.
    pub fn queue_name(&self, id: QueueId) -> Arc<str> {
        let names = self.names();
        match names.queues.get(&id) {
            Some(queue) if queue.deleted => format!("{} (deleted)", queue.name).into(),
            Some(queue) => queue.name.clone(),
            None => "?".into(),
        }
    }

    pub fn queue(&self, id: QueueId) -> Option<QueueEntry> {
        self.names().queues.get(&id).filter(|queue| !queue.deleted).cloned()
    }

    pub fn find_queue(&self, name: &str) -> Option<QueueId> {
        let key = name_key(name);
        let names = self.names();
        let mut queues = names.queues.iter().filter(|(_, queue)| !queue.deleted);
        let found = queues.find(|(_, queue)| name_key(&queue.name) == key);
        found.map(|(id, _)| *id)
    }

    /// By id.
    pub fn queues(&self) -> Vec<(QueueId, QueueEntry)> {
        let names = self.names();
        let queues = names.queues.iter().filter(|(_, queue)| !queue.deleted);
        queues.map(|(id, queue)| (*id, queue.clone())).collect()
    }

    pub fn stack(&self, id: StackId) -> Option<StackEntry> {
        self.names().stacks.get(&id).cloned()
    }

    /// By id.
    pub fn stacks(&self) -> Vec<(StackId, StackEntry)> {
        let names = self.names();
        names.stacks.iter().map(|(id, stack)| (*id, stack.clone())).collect()
    }

    /// `ana/gpu`.
    pub fn stack_name(&self, id: StackId) -> String {
        match self.stack(id) {
            Some(stack) => format!("{}/{}", self.principal_name(stack.owner), stack.name),
            None => "?".into(),
        }
    }

    pub fn model(&self, id: ModelId) -> Option<ModelEntry> {
        self.names().models.get(&id).cloned()
    }

    /// By id, or WORKSPACE/NAME; no name of a model holds a `/`.
    pub fn find_model(&self, text: &str) -> Option<(ModelId, ModelEntry)> {
        let id = match text.rsplit_once('/') {
            Some((workspace, name)) => {
                let key = (self.find_workspace(workspace)?, name_key(name));
                *self.names().model_keys.get(&key)?
            }
            None => ModelId(as_number(text)?),
        };
        Some((id, self.model(id)?))
    }

    /// The next ones before `after`, newest first.
    pub fn models_before(&self, after: ModelId, most: usize) -> Vec<(ModelId, ModelEntry)> {
        let names = self.names();
        let before = names.models.range(..after).rev().take(most);
        before.map(|(id, model)| (*id, model.clone())).collect()
    }

    /// Those of a workspace, by name.
    pub fn models_of(&self, workspace: WorkspaceId) -> Vec<(ModelId, ModelEntry)> {
        let names = self.names();
        let of = names.model_keys.range((workspace, String::new())..);
        of.take_while(|((of, _), _)| *of == workspace)
            .filter_map(|(_, id)| Some((*id, names.models.get(id)?.clone())))
            .collect()
    }

    /// Of what is deleted nothing is known.
    pub fn model_name(&self, id: ModelId) -> Arc<str> {
        self.model(id).map_or("?".into(), |model| model.name)
    }

    /// A credential that is remembered, and notes that it was used.
    pub(crate) fn credential(&self, hash: &KeyHash, now: i64) -> Option<Credential> {
        let known = self.credentials.read();
        let used = known.by_hash.get(hash)?;
        // No oftener than each second: who writes it takes it from all that read beside it.
        if now.abs_diff(used.last.load(Ordering::Relaxed)) > 1_000_000 {
            used.last.store(now, Ordering::Relaxed);
        }
        Some(used.credential.clone())
    }

    /// Remembers a credential that was read at `version`, unless the picture has moved on since: then what was read may be what has just ended.
    pub(crate) fn remember(&self, hash: KeyHash, credential: Credential, version: i64, now: i64) {
        let mut known = self.credentials.write();
        if self.version() != version || known.by_hash.contains_key(&hash) {
            return;
        }
        let of = known.by_principal.entry(credential.principal).or_default();
        of.push(hash);
        known.by_id.insert(credential.id, hash);
        let last = AtomicI64::new(now);
        known.by_hash.insert(hash, Used { credential, last });
    }

    /// What credentials were used since the last call, and when (µs).
    pub(crate) fn take_last_used(&self) -> Vec<(TokenId, PrincipalId, i64)> {
        let known = self.credentials.read();
        let used = known.by_hash.values().filter_map(|one| {
            let at = one.last.swap(0, Ordering::Relaxed);
            (at != 0).then_some((one.credential.id, one.credential.principal, at))
        });
        used.collect()
    }

    /// Brings the picture up to date. Called by one at a time. Gives the last uses of the credentials that are no longer remembered.
    pub(crate) async fn catch_up(&self, db: &Db) -> Result<Vec<(TokenId, PrincipalId, i64)>> {
        let mut tx = db.begin_look().await?;
        let version: i64 = sqlx::query_scalar("SELECT version FROM access_version")
            .fetch_one(&mut *tx)
            .await?;
        let held = self.version();
        if version <= held {
            return Ok(Vec::new());
        }
        let rows =
            sqlx::query("SELECT version, kind, object_id FROM access_changes WHERE version > $1 ORDER BY version")
                .bind(held)
                .fetch_all(&mut *tx)
                .await?;
        let mut touched: HashMap<String, Vec<i64>> = HashMap::new();
        let mut reached = held;
        let mut whole = true;
        for row in &rows {
            let at: i64 = row.try_get(0)?;
            whole &= at <= reached + 1;
            reached = at;
            touched.entry(row.try_get(1)?).or_default().push(row.try_get(2)?);
        }
        whole &= reached == version;
        for ids in touched.values_mut() {
            ids.sort_unstable();
            ids.dedup();
        }
        if !whole || touched.contains_key("everything") {
            let all = load_all(&mut tx, self.mode).await?;
            drop(tx);
            self.ends_globally.fetch_or(all.ends_globally, Ordering::SeqCst);
            *self.names.write() = all.names;
            *self.world.write() = all.world;
            self.users.store(all.users.0, Ordering::SeqCst);
            let mut known = self.credentials.write();
            let used = forgotten(known.by_hash.drain().map(|(_, credential)| credential));
            *known = Credentials::default();
            self.version.store(all.version, Ordering::SeqCst);
            return Ok(used);
        }
        let of = |kind: &str| touched.get(kind).map(Vec::as_slice).unwrap_or_default();
        let change = Change::load(&mut tx, self.users_group(), &of).await?;
        drop(tx);
        self.ends_globally.fetch_or(change.ends_globally(), Ordering::SeqCst);
        change.rename(&mut self.names.write());
        change.enact(&mut self.world.write());
        // Under one lock with the version, so that nobody remembers in between what has just ended (see `remember`).
        let mut known = self.credentials.write();
        let mut hashes: Vec<KeyHash> = of("credential")
            .iter()
            .filter_map(|id| known.by_id.get(&TokenId(*id)).copied())
            .collect();
        for id in of("principal") {
            hashes.extend(known.by_principal.remove(&PrincipalId(*id)).unwrap_or_default());
        }
        let gone: Vec<Used> = hashes.iter().filter_map(|hash| known.by_hash.remove(hash)).collect();
        for Used { credential, .. } in &gone {
            known.by_id.remove(&credential.id);
            if let Some(of) = known.by_principal.get_mut(&credential.principal) {
                of.retain(|hash| !hashes.contains(hash));
            }
        }
        self.version.store(version, Ordering::SeqCst);
        Ok(forgotten(gone.into_iter()))
    }

    /// Rebuilds what recent changes or passed dates left to be worked out at each question; a little at a time, so that nobody waits long. True when nothing is left.
    pub(crate) fn refresh(&self, now: i64) -> bool {
        self.world.write().refresh(64, now) == 0
    }
}

fn forgotten(credentials: impl Iterator<Item = Used>) -> Vec<(TokenId, PrincipalId, i64)> {
    let used = credentials.map(|one| (one.credential.id, one.credential.principal, one.last.into_inner()));
    used.filter(|(_, _, at)| *at != 0).collect()
}

struct All {
    version: i64,
    users: GroupId,
    ends_globally: bool,
    world: World,
    names: Names,
}

async fn load_all(tx: &mut Tx, mode: AccessMode) -> Result<All> {
    let version: i64 = sqlx::query_scalar("SELECT version FROM access_version")
        .fetch_one(&mut **tx)
        .await?;
    let users: Option<i64> = sqlx::query_scalar("SELECT id FROM groups WHERE built_in = 1 AND name = 'Users'")
        .fetch_optional(&mut **tx)
        .await?;
    let users = GroupId(users.unwrap_or(-1));
    let change = Change::load_where(tx, users, &|_| Some(String::new())).await?;
    let mut names = Names::default();
    change.rename(&mut names);
    let ends_globally = change.ends_globally();
    let Change {
        principals,
        roles,
        assignments,
        ..
    } = change;
    let world = World::new(
        mode,
        users,
        principals.into_values().flatten().map(|(principal, _)| principal),
        roles.into_values().flatten(),
        assignments.into_values().flatten(),
    );
    Ok(All {
        version,
        users,
        ends_globally,
        world,
        names,
    })
}

/// The rows that were touched; `None` for those that are gone.
struct Change {
    principals: HashMap<PrincipalId, Option<(Principal, PrincipalEntry)>>,
    groups: HashMap<GroupId, Option<(GroupEntry, Vec<PrincipalId>)>>,
    roles: HashMap<RoleId, Option<Role>>,
    assignments: HashMap<AssignmentId, Option<Assignment>>,
    workspaces: HashMap<WorkspaceId, Option<WorkspaceEntry>>,
    projects: HashMap<ProjectId, Option<ProjectEntry>>,
    queues: HashMap<QueueId, Option<QueueEntry>>,
    stacks: HashMap<StackId, Option<StackEntry>>,
    models: HashMap<ModelId, Option<ModelEntry>>,
}

impl Change {
    async fn load<'a>(tx: &mut Tx, users: GroupId, of: &impl Fn(&str) -> &'a [i64]) -> Result<Change> {
        let condition = |kind: &str| {
            let (ids, column) = match kind {
                "member of" => (of("group"), "group_id"),
                "membership" => (of("principal"), "principal_id"),
                "binding" => (of("queue"), "queue_id"),
                _ => (of(kind), "id"),
            };
            (!ids.is_empty()).then(|| format!(" WHERE {column} IN ({})", id_list(ids.iter().copied())))
        };
        let mut change = Change::load_where(tx, users, &condition).await?;
        // What was touched and not found is gone.
        gone(&mut change.principals, of("principal"), PrincipalId);
        gone(&mut change.groups, of("group"), GroupId);
        gone(&mut change.roles, of("role"), RoleId);
        gone(&mut change.assignments, of("assignment"), AssignmentId);
        gone(&mut change.workspaces, of("workspace"), WorkspaceId);
        gone(&mut change.projects, of("project"), ProjectId);
        gone(&mut change.queues, of("queue"), QueueId);
        gone(&mut change.stacks, of("stack"), StackId);
        gone(&mut change.models, of("model"), ModelId);
        Ok(change)
    }

    /// `condition` gives for each kind the WHERE of what to load, or that there is nothing.
    async fn load_where(tx: &mut Tx, users: GroupId, condition: &impl Fn(&str) -> Option<String>) -> Result<Change> {
        let mut memberships: HashMap<PrincipalId, Vec<GroupId>> = HashMap::new();
        for row in rows(
            tx,
            "SELECT principal_id, group_id FROM group_members",
            condition("membership"),
        )
        .await?
        {
            let (who, group) = (PrincipalId(row.try_get(0)?), GroupId(row.try_get(1)?));
            memberships.entry(who).or_default().push(group);
        }
        let mut principals = HashMap::new();
        let sql = "SELECT id, name, state, own_roles_only, kind FROM principals";
        for row in rows(tx, sql, condition("principal")).await? {
            let id = PrincipalId(row.try_get(0)?);
            let mut groups = memberships.remove(&id).unwrap_or_default();
            groups.push(users);
            principals.insert(id, Some(read_principal(&row, id, groups)?));
        }
        let mut members: HashMap<GroupId, Vec<PrincipalId>> = HashMap::new();
        if let Some(condition) = condition("member of").filter(|condition| !condition.is_empty()) {
            for row in rows(tx, "SELECT group_id, principal_id FROM group_members", Some(condition)).await? {
                let (group, who) = (GroupId(row.try_get(0)?), PrincipalId(row.try_get(1)?));
                members.entry(group).or_default().push(who);
            }
        }
        let mut groups = HashMap::new();
        for row in rows(tx, "SELECT id, name, built_in FROM groups", condition("group")).await? {
            let id = GroupId(row.try_get(0)?);
            let entry = GroupEntry {
                name: Arc::from(row.try_get::<String, _>(1)?),
                built_in: row.try_get::<i64, _>(2)? == 1,
            };
            groups.insert(id, Some((entry, members.remove(&id).unwrap_or_default())));
        }
        let mut roles = HashMap::new();
        for row in rows(tx, "SELECT id, name, permissions FROM roles", condition("role")).await? {
            let role = read_role(&row)?;
            roles.insert(role.id, Some(role));
        }
        let mut assignments = HashMap::new();
        let sql = "SELECT id, principal_id, group_id, role_id, scope_kind, scope_id, expires_at FROM assignments";
        for row in rows(tx, sql, condition("assignment")).await? {
            if let Some(assignment) = read_assignment(&row)? {
                assignments.insert(assignment.id, Some(assignment));
            }
        }
        let mut workspaces = HashMap::new();
        let sql = "SELECT id, name, archived_at, owner_id, default_queue_id FROM workspaces";
        for row in rows(tx, sql, condition("workspace")).await? {
            let entry = WorkspaceEntry {
                name: Arc::from(row.try_get::<String, _>(1)?),
                archived: row.try_get::<Option<i64>, _>(2)?.is_some(),
                owner: row.try_get::<Option<i64>, _>(3)?.map(PrincipalId),
                default_queue: row.try_get::<Option<i64>, _>(4)?.map(QueueId),
            };
            workspaces.insert(WorkspaceId(row.try_get(0)?), Some(entry));
        }
        let mut projects = HashMap::new();
        let sql = "SELECT id, workspace_id, name, archived_at, owner_id FROM projects";
        for row in rows(tx, sql, condition("project")).await? {
            let entry = ProjectEntry {
                workspace: WorkspaceId(row.try_get(1)?),
                name: Arc::from(row.try_get::<String, _>(2)?),
                archived: row.try_get::<Option<i64>, _>(3)?.is_some(),
                owner: row.try_get::<Option<i64>, _>(4)?.map(PrincipalId),
            };
            projects.insert(ProjectId(row.try_get(0)?), Some(entry));
        }
        let mut queues = HashMap::new();
        let mut bound: HashMap<i64, Vec<WorkspaceId>> = HashMap::new();
        let sql = "SELECT queue_id, workspace_id FROM queue_workspaces";
        for row in rows(tx, sql, condition("binding")).await? {
            let workspace = WorkspaceId(row.try_get(1)?);
            bound.entry(row.try_get(0)?).or_default().push(workspace);
        }
        let sql = "SELECT id, name, open, is_default, state, deleted_at, CASE WHEN share <> '' OR max_running > 0 OR max_running_of_user > 0 OR max_running_of_workspace > 0 THEN 1 ELSE 0 END FROM queues";
        for row in rows(tx, sql, condition("queue")).await? {
            let id: i64 = row.try_get(0)?;
            let state = QueueState::parse(row.try_get(4)?);
            let entry = QueueEntry {
                name: Arc::from(row.try_get::<String, _>(1)?),
                open: row.try_get::<i64, _>(2)? == 1,
                workspaces: bound.remove(&id).unwrap_or_default().into(),
                is_default: row.try_get::<i64, _>(3)? == 1,
                state: state.ok_or_else(|| StoreError::Broken(format!("queue {id} is in no known state")))?,
                deleted: row.try_get::<Option<i64>, _>(5)?.is_some(),
                by_owner: row.try_get::<i64, _>(6)? == 1,
            };
            queues.insert(QueueId(id), Some(entry));
        }
        let mut stacks = HashMap::new();
        for row in rows(tx, "SELECT id, name, owner_id FROM stacks", condition("stack")).await? {
            let entry = StackEntry {
                name: Arc::from(row.try_get::<String, _>(1)?),
                owner: PrincipalId(row.try_get(2)?),
            };
            stacks.insert(StackId(row.try_get(0)?), Some(entry));
        }
        let mut models = HashMap::new();
        let sql = "SELECT id, workspace_id, name, owner_id FROM models";
        for row in rows(tx, sql, condition("model")).await? {
            let entry = ModelEntry {
                workspace: WorkspaceId(row.try_get(1)?),
                name: Arc::from(row.try_get::<String, _>(2)?),
                owner: row.try_get::<Option<i64>, _>(3)?.map(PrincipalId),
            };
            models.insert(ModelId(row.try_get(0)?), Some(entry));
        }
        Ok(Change {
            principals,
            groups,
            roles,
            assignments,
            workspaces,
            projects,
            queues,
            stacks,
            models,
        })
    }

    fn enact(self, world: &mut World) {
        for (id, role) in self.roles {
            match role {
                Some(role) => world.set_role(role),
                None => world.remove_role(id),
            }
        }
        for principal in self.principals.into_values().flatten() {
            world.set_principal(principal.0);
        }
        for (id, group) in self.groups {
            let Some((_, members)) = group else {
                world.remove_group(id);
                continue;
            };
            let before: Vec<PrincipalId> = world.members_of(id).to_vec();
            let after: std::collections::HashSet<PrincipalId> = members.iter().copied().collect();
            let left: Vec<PrincipalId> = before.iter().copied().filter(|who| !after.contains(who)).collect();
            let before: std::collections::HashSet<PrincipalId> = before.into_iter().collect();
            let joined: Vec<PrincipalId> = members.into_iter().filter(|who| !before.contains(who)).collect();
            world.remove_members(id, &left);
            world.add_members(id, &joined);
        }
        for (id, assignment) in self.assignments {
            match assignment {
                Some(assignment) => world.set_assignment(assignment),
                None => world.remove_assignment(id),
            }
        }
    }

    fn ends_globally(&self) -> bool {
        let mut assignments = self.assignments.values().flatten();
        assignments.any(|one| one.scope == Scope::Global && one.expires.is_some())
    }

    fn rename(&self, names: &mut Names) {
        for (id, principal) in &self.principals {
            if let Some(old) = names.principals.remove(id) {
                release(&mut names.principal_keys, &name_key(&old.name), id);
            }
            if let Some((_, entry)) = principal {
                if !entry.removed {
                    names.principal_keys.insert(name_key(&entry.name), *id);
                }
                names.principals.insert(*id, entry.clone());
            }
        }
        for (id, group) in &self.groups {
            if let Some(old) = names.groups.remove(id) {
                release(&mut names.group_keys, &name_key(&old.name), id);
            }
            if let Some((entry, _)) = group {
                names.group_keys.insert(name_key(&entry.name), *id);
                names.groups.insert(*id, entry.clone());
            }
        }
        for (id, role) in &self.roles {
            names.role_keys.retain(|_, known| known != id);
            if let Some(role) = role {
                names.role_keys.insert(name_key(&role.name), *id);
            }
        }
        for (id, workspace) in &self.workspaces {
            if let Some(old) = names.workspaces.remove(id) {
                release(&mut names.workspace_keys, &name_key(&old.name), id);
            }
            if let Some(entry) = workspace {
                names.workspace_keys.insert(name_key(&entry.name), *id);
                names.workspaces.insert(*id, entry.clone());
            }
        }
        for (id, project) in &self.projects {
            if let Some(old) = names.projects.remove(id) {
                let key = (old.workspace, name_key(&old.name));
                if names.project_keys.get(&key) == Some(id) {
                    names.project_keys.remove(&key);
                }
            }
            if let Some(entry) = project {
                names.project_keys.insert((entry.workspace, name_key(&entry.name)), *id);
                names.projects.insert(*id, entry.clone());
            }
        }
        for (id, queue) in &self.queues {
            match queue {
                Some(entry) => drop(names.queues.insert(*id, entry.clone())),
                None => drop(names.queues.remove(id)),
            }
        }
        for (id, stack) in &self.stacks {
            match stack {
                Some(entry) => drop(names.stacks.insert(*id, entry.clone())),
                None => drop(names.stacks.remove(id)),
            }
        }
        for (id, model) in &self.models {
            if let Some(old) = names.models.remove(id) {
                let key = (old.workspace, name_key(&old.name));
                if names.model_keys.get(&key) == Some(id) {
                    names.model_keys.remove(&key);
                }
            }
            if let Some(entry) = model {
                names.model_keys.insert((entry.workspace, name_key(&entry.name)), *id);
                names.models.insert(*id, entry.clone());
            }
        }
    }
}

fn gone<Id: Eq + std::hash::Hash, T>(rows: &mut HashMap<Id, Option<T>>, touched: &[i64], id: impl Fn(i64) -> Id) {
    for one in touched {
        rows.entry(id(*one)).or_insert(None);
    }
}

/// Two things may swap their names in one change: a key is only given up by whom it still belongs to.
fn release<Id: PartialEq>(keys: &mut HashMap<String, Id>, key: &str, id: &Id) {
    if keys.get(key) == Some(id) {
        keys.remove(key);
    }
}

async fn rows(tx: &mut Tx, select: &str, condition: Option<String>) -> Result<Vec<AnyRow>> {
    match condition {
        None => Ok(Vec::new()),
        Some(condition) => {
            let sql = AssertSqlSafe(format!("{select}{condition}"));
            Ok(sqlx::query(sql).fetch_all(&mut **tx).await?)
        }
    }
}

fn read_principal(row: &AnyRow, id: PrincipalId, groups: Vec<GroupId>) -> Result<(Principal, PrincipalEntry)> {
    let name: String = row.try_get(1)?;
    let state: &str = row.try_get(2)?;
    let is_service = row.try_get::<&str, _>(4)? == "service";
    let entry = PrincipalEntry {
        name: Arc::from(name.as_str()),
        removed: state == "removed",
        kind: if is_service {
            PrincipalKind::Service
        } else {
            PrincipalKind::User
        },
    };
    let principal = Principal {
        id,
        name,
        active: state == "active",
        groups,
        own_roles_only: row.try_get::<i64, _>(3)? == 1,
        is_service,
    };
    Ok((principal, entry))
}

fn read_role(row: &AnyRow) -> Result<Role> {
    let (name, words): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let broken = |why: String| StoreError::Broken(format!("role {name}: {why}"));
    let words: Vec<String> = serde_json::from_str(&words).map_err(|why| broken(why.to_string()))?;
    let permissions = RolePermissions::parse(words.iter().map(String::as_str)).map_err(broken)?;
    let administrative = BuiltInRole::find(&name).is_some_and(|role| role.administrative);
    Ok(Role {
        id: RoleId(row.try_get(0)?),
        name,
        permissions,
        administrative,
    })
}

fn read_assignment(row: &AnyRow) -> Result<Option<Assignment>> {
    let holder = match (row.try_get::<Option<i64>, _>(1)?, row.try_get::<Option<i64>, _>(2)?) {
        (Some(id), _) => Holder::Principal(PrincipalId(id)),
        (None, Some(id)) => Holder::Group(GroupId(id)),
        (None, None) => return Ok(None),
    };
    let Some(scope) = scope(row.try_get(4)?, row.try_get(5)?) else {
        return Ok(None);
    };
    Ok(Some(Assignment {
        id: AssignmentId(row.try_get(0)?),
        holder,
        role: RoleId(row.try_get(3)?),
        scope,
        expires: row.try_get(6)?,
    }))
}

/// The scope columns of an assignment.
pub(crate) fn scope_columns(scope: Scope) -> (&'static str, i64) {
    match scope {
        Scope::Global => ("global", 0),
        Scope::Workspace(id) => ("workspace", id.0),
        Scope::Project(id) => ("project", id.0),
        Scope::Object(ObjectKind::Experiment, id) => ("experiment", id),
        Scope::Object(ObjectKind::Model, id) => ("model", id),
        Scope::Object(ObjectKind::Queue, id) => ("queue", id),
        Scope::Object(ObjectKind::Stack, id) => ("stack", id),
    }
}

/// What [`scope_columns`] wrote.
pub(crate) fn scope(kind: &str, id: i64) -> Option<Scope> {
    Some(match kind {
        "global" => Scope::Global,
        "workspace" => Scope::Workspace(WorkspaceId(id)),
        "project" => Scope::Project(ProjectId(id)),
        "experiment" => Scope::Object(ObjectKind::Experiment, id),
        "model" => Scope::Object(ObjectKind::Model, id),
        "queue" => Scope::Object(ObjectKind::Queue, id),
        "stack" => Scope::Object(ObjectKind::Stack, id),
        _ => return None,
    })
}

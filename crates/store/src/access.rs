//! Who is asking, and may they: turns a bearer into an [`Actor`] and a question into a [`Granted`], the key to every store function.
//!
//! The picture that decides (a [`Snapshot`]) is held in memory and belongs to one number, `access_version`, which every change of rights raises in its own
//! transaction. The number is read in the same statement as the row that a request is about, and again at the start of each writing transaction; when it has
//! moved, the picture is loaded anew and the question asked again. So a change holds from the next request on, on every server, without any waiting time.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock};

use bailiwick_access::{Assignment, Basis, Holder, Narrowing, ObjectKind, Principal, Role, Scope, Target, World};
use bailiwick_api::permission::{BuiltInRole, Permit, RolePermissions};
use bailiwick_api::server::AccessMode;
use bailiwick_api::{
    AssignmentId, ExperimentId, GroupId, Permission, PermissionSet, PrincipalId, ProjectId, QueueId, RoleId, TokenId,
    WorkspaceId, key,
};
use sqlx::Row;

use crate::db::{Db, Kind, Result, StoreError, Tx, col};

#[cfg(feature = "bench")]
mod unchecked;

/// Everything about rights and names, at one `access_version`.
pub struct Snapshot {
    pub version: i64,
    pub world: World,
    pub principals: HashMap<PrincipalId, PrincipalName>,
    pub workspaces: HashMap<WorkspaceId, Arc<str>>,
    pub projects: HashMap<ProjectId, (WorkspaceId, Arc<str>)>,
    pub queues: HashMap<QueueId, (Arc<str>, bool)>,
    pub groups: HashMap<GroupId, Arc<str>>,
    /// Credentials seen since this picture was loaded. Whatever ends one before its time raises the version.
    credentials: RwLock<HashMap<String, Arc<Credential>>>,
}

pub struct PrincipalName {
    pub name: Arc<str>,
    pub key: String,
    pub removed: bool,
}

impl Snapshot {
    pub fn principal_name(&self, id: PrincipalId) -> Arc<str> {
        self.principals
            .get(&id)
            .map_or_else(|| "?".into(), |principal| principal.name.clone())
    }

    pub fn workspace_name(&self, id: WorkspaceId) -> Arc<str> {
        self.workspaces.get(&id).cloned().unwrap_or_else(|| "?".into())
    }

    pub fn project_name(&self, id: ProjectId) -> Arc<str> {
        self.projects
            .get(&id)
            .map_or_else(|| "?".into(), |(_, name)| name.clone())
    }

    pub fn queue_name(&self, id: QueueId) -> Arc<str> {
        self.queues
            .get(&id)
            .map_or_else(|| "?".into(), |(name, _)| name.clone())
    }

    /// By name (whatever its case) or id; removed ones only by id.
    pub fn find_principal(&self, text: &str) -> Option<PrincipalId> {
        if let Some(id) = bailiwick_api::ids::as_number(text) {
            return self
                .principals
                .contains_key(&PrincipalId(id))
                .then_some(PrincipalId(id));
        }
        let key = bailiwick_api::names::name_key(text);
        self.principals
            .iter()
            .find(|(_, principal)| !principal.removed && principal.key == key)
            .map(|(id, _)| *id)
    }

    pub fn find_workspace(&self, name: &str) -> Option<WorkspaceId> {
        let key = bailiwick_api::names::name_key(name);
        self.workspaces
            .iter()
            .find(|(_, known)| bailiwick_api::names::name_key(known) == key)
            .map(|(id, _)| *id)
    }

    pub fn find_project(&self, workspace: WorkspaceId, name: &str) -> Option<ProjectId> {
        let key = bailiwick_api::names::name_key(name);
        let mut projects = self.projects.iter();
        projects
            .find(|(_, (of, known))| *of == workspace && bailiwick_api::names::name_key(known) == key)
            .map(|(id, _)| *id)
    }

    pub fn find_queue(&self, name: &str) -> Option<(QueueId, bool)> {
        let key = bailiwick_api::names::name_key(name);
        let mut queues = self.queues.iter();
        queues
            .find(|(_, (known, _))| bailiwick_api::names::name_key(known) == key)
            .map(|(id, (_, open))| (*id, *open))
    }
}

struct Credential {
    id: TokenId,
    principal: PrincipalId,
    kind: CredentialKind,
    expires_at: Option<i64>,
    narrowing: Option<Narrowing>,
    /// µs; 0 once it is written down.
    last_used_at: AtomicI64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    Session,
    Key,
    Job,
    /// Access control is off.
    None,
}

impl CredentialKind {
    pub fn name(self) -> &'static str {
        match self {
            CredentialKind::Session => "session",
            CredentialKind::Key => "key",
            CredentialKind::Job => "job",
            CredentialKind::None => "none",
        }
    }
}

/// Where a request came from, for the audit.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub address: String,
    pub request_id: String,
}

/// Who is asking: a live principal with a live credential.
#[derive(Clone)]
pub struct Actor {
    pub id: PrincipalId,
    pub name: Arc<str>,
    pub credential: Option<TokenId>,
    pub credential_kind: CredentialKind,
    /// When the credential ends by itself.
    pub credential_expires_at: Option<bailiwick_api::Time>,
    pub origin: Origin,
    narrowing: Option<Narrowing>,
    bearer_hash: Option<String>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) access: Arc<Access>,
}

/// Why a request may not go on.
#[derive(Debug)]
pub enum Refusal {
    /// No credential, or not a live one.
    NotSignedIn {
        given: bool,
    },
    /// There is nothing of the kind that the caller could see.
    NotFound {
        what: &'static str,
        which: String,
    },
    /// Visible, and not allowed.
    Forbidden {
        who: String,
        permission: Permission,
        place: String,
    },
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Store(error)
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Refusal::Store(error.into())
    }
}

/// The proof that an actor may use permission `P` on a target. Only this file makes one.
pub struct Granted<P> {
    pub actor: Actor,
    pub target: Target,
    pub basis: Basis,
    permit: PhantomData<fn() -> P>,
}

/// The right of the product itself to do its housekeeping; `purpose` shows in the audit.
#[derive(Clone)]
pub struct System {
    pub(crate) access: Arc<Access>,
    pub purpose: &'static str,
}

/// An open transaction. [`Work::commit`] is the only way to keep what was done in it.
pub struct Work {
    tx: Tx,
    access: Arc<Access>,
    changes_rights: bool,
}

impl Deref for Work {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

impl Work {
    pub(crate) fn now(&self) -> bailiwick_api::Time {
        self.access.db.now()
    }

    /// To be called in every transaction that changes who may do what, or ends a credential.
    pub(crate) async fn changes_rights(&mut self) -> Result<()> {
        sqlx::query("UPDATE access_version SET version = version + 1")
            .execute(&mut *self.tx)
            .await?;
        self.changes_rights = true;
        Ok(())
    }

    pub async fn commit(self) -> Result<()> {
        if !self.changes_rights {
            return Ok(self.tx.commit().await?);
        }
        let Work { tx, access, .. } = self;
        // In a task of its own: whoever asked for the change may hang up at this very moment, and what is committed must also be counted.
        let commit = tokio::spawn(async move {
            let outcome = tx.commit().await;
            access.moved.fetch_add(1, Ordering::SeqCst);
            outcome
        });
        let outcome = commit.await.map_err(|why| StoreError::Broken(why.to_string()))?;
        Ok(outcome?)
    }
}

/// Holds the database and the current picture.
pub struct Access {
    pub(crate) db: Db,
    mode: AccessMode,
    current: RwLock<Arc<Snapshot>>,
    loading: tokio::sync::Mutex<()>,
    /// Counts the changes of rights committed by this process, and how many of them `current` has seen.
    moved: AtomicI64,
    seen: AtomicI64,
    /// Last uses noted in pictures that are gone, not written down yet.
    unsaved: std::sync::Mutex<HashMap<TokenId, (PrincipalId, i64)>>,
}

const NOBODY: i64 = -1;

impl Access {
    pub async fn open(db: Db, mode: AccessMode) -> Result<Arc<Access>> {
        let snapshot = Arc::new(load(&db, mode).await?);
        Ok(Arc::new(Access {
            db,
            mode,
            current: RwLock::new(snapshot),
            loading: tokio::sync::Mutex::new(()),
            moved: AtomicI64::new(0),
            seen: AtomicI64::new(0),
            unsaved: std::sync::Mutex::default(),
        }))
    }

    pub fn mode(&self) -> AccessMode {
        self.mode
    }

    pub fn now(&self) -> bailiwick_api::Time {
        self.db.now()
    }

    pub fn is_sqlite(&self) -> bool {
        self.db.kind() == Kind::Sqlite
    }

    pub async fn ping(&self) -> Result<()> {
        self.db.ping().await
    }

    pub async fn close(&self) {
        self.db.close().await;
    }

    pub fn system(self: &Arc<Access>, purpose: &'static str) -> System {
        System {
            access: self.clone(),
            purpose,
        }
    }

    /// The picture in memory. It may be behind what another server has just changed.
    pub fn glance(&self) -> Arc<Snapshot> {
        self.current.read().expect("no panic while the lock is held").clone()
    }

    /// The picture, certainly not older than the moment of the call.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if self.db.kind() == Kind::Sqlite {
            // Only this process writes here: the counter tells.
            if self.moved.load(Ordering::SeqCst) == self.seen.load(Ordering::SeqCst) {
                return Ok(self.glance());
            }
            return self.reload(None).await;
        }
        let version: i64 = sqlx::query_scalar("SELECT version FROM access_version")
            .fetch_one(&self.db.read)
            .await?;
        let current = self.glance();
        if current.version == version {
            Ok(current)
        } else {
            self.reload(Some(version)).await
        }
    }

    /// Loads the picture anew, once for all that wait for it.
    async fn reload(&self, at_least: Option<i64>) -> Result<Arc<Snapshot>> {
        let _one = self.loading.lock().await;
        let current = self.glance();
        let moved = self.moved.load(Ordering::SeqCst);
        match at_least {
            Some(version) if current.version >= version => return Ok(current),
            None if moved == self.seen.load(Ordering::SeqCst) => return Ok(current),
            _ => {}
        }
        let snapshot = Arc::new(load(&self.db, self.mode).await?);
        *self.current.write().expect("no panic while the lock is held") = snapshot.clone();
        self.seen.store(moved, Ordering::SeqCst);
        self.gather_last_used(&current);
        Ok(snapshot)
    }

    /// Who holds this bearer. `fresh: false` leaves the check of the version to the statement that reads the request's row.
    pub async fn authenticate(
        self: &Arc<Access>,
        bearer: Option<&str>,
        origin: Origin,
        fresh: bool,
    ) -> std::result::Result<Actor, Refusal> {
        let snapshot = if fresh || self.db.kind() == Kind::Sqlite {
            self.snapshot().await?
        } else {
            self.glance()
        };
        let hash = bearer.and_then(key::stored_hash).map(|hash| key::hex(&hash));
        let known = snapshot.version;
        let outcome = self
            .actor(snapshot, hash.clone(), bearer.is_some(), origin.clone())
            .await;
        if !fresh && matches!(outcome, Err(Refusal::NotSignedIn { .. })) {
            // Whom this picture does not know may be newer than it.
            let snapshot = self.snapshot().await?;
            if snapshot.version != known {
                return self.actor(snapshot, hash, bearer.is_some(), origin).await;
            }
        }
        outcome
    }

    async fn actor(
        self: &Arc<Access>,
        snapshot: Arc<Snapshot>,
        bearer_hash: Option<String>,
        given: bool,
        origin: Origin,
    ) -> std::result::Result<Actor, Refusal> {
        let found = match &bearer_hash {
            Some(hash) => self.credential(&snapshot, hash).await?,
            None => None,
        };
        let live = found.filter(|credential| snapshot.world.is_active(credential.principal));
        let (id, credential, kind, expires_at, narrowing) = match live {
            Some(credential) => {
                credential.last_used_at.store(self.db.now().0, Ordering::Relaxed);
                (
                    credential.principal,
                    Some(credential.id),
                    credential.kind,
                    credential.expires_at,
                    credential.narrowing.clone(),
                )
            }
            // Seed 000: "When auth is disabled, all users have admin-like access"; old keys in configurations do no harm then.
            None if self.mode == AccessMode::Off => {
                let admin = snapshot
                    .find_principal("admin")
                    .filter(|id| snapshot.world.is_active(*id));
                let id = admin.or_else(|| {
                    snapshot
                        .principals
                        .keys()
                        .copied()
                        .find(|id| snapshot.world.is_active(*id))
                });
                let id = id.unwrap_or(PrincipalId(NOBODY));
                (id, None, CredentialKind::None, None, None)
            }
            None => return Err(Refusal::NotSignedIn { given }),
        };
        let name = snapshot.principal_name(id);
        Ok(Actor {
            id,
            name,
            credential,
            credential_kind: kind,
            credential_expires_at: expires_at.map(bailiwick_api::Time),
            origin,
            narrowing,
            bearer_hash,
            snapshot,
            access: self.clone(),
        })
    }

    async fn credential(&self, snapshot: &Snapshot, hash: &str) -> Result<Option<Arc<Credential>>> {
        let now = self.db.now().0;
        let live =
            |credential: Arc<Credential>| credential.expires_at.is_none_or(|end| now < end).then_some(credential);
        let known = snapshot
            .credentials
            .read()
            .expect("no panic while the lock is held")
            .get(hash)
            .cloned();
        if let Some(credential) = known {
            return Ok(live(credential));
        }
        let row = sqlx::query(
            "SELECT id, principal_id, kind, expires_at FROM credentials
             WHERE hash = $1 AND revoked_at IS NULL AND kind IN ('session', 'key')",
        )
        .bind(hash)
        .fetch_optional(&self.db.read)
        .await?;
        if let Some(row) = row {
            let kind = if col::<String>(&row, "kind")? == "session" {
                CredentialKind::Session
            } else {
                CredentialKind::Key
            };
            let credential = Arc::new(Credential {
                id: TokenId(col(&row, "id")?),
                principal: PrincipalId(col(&row, "principal_id")?),
                kind,
                expires_at: col(&row, "expires_at")?,
                narrowing: None,
                last_used_at: AtomicI64::new(0),
            });
            let mut known = snapshot.credentials.write().expect("no panic while the lock is held");
            known.insert(hash.to_owned(), credential.clone());
            return Ok(live(credential));
        }
        // A job's token lives exactly as long as its job and is never remembered here.
        let row = sqlx::query(
            "SELECT j.experiment_id, e.owner_id FROM jobs j JOIN experiments e ON e.id = j.experiment_id
             WHERE j.token_hash = $1 AND j.state IN ('STARTING', 'RUNNING', 'STOPPING')",
        )
        .bind(hash)
        .fetch_optional(&self.db.read)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let experiment: i64 = col(&row, "experiment_id")?;
        let permissions = [
            Permission::ExperimentsRead,
            Permission::ExperimentsReadArtifacts,
            Permission::ExperimentsUpdate,
        ];
        Ok(Some(Arc::new(Credential {
            id: TokenId(0),
            principal: PrincipalId(col(&row, "owner_id")?),
            kind: CredentialKind::Job,
            expires_at: None,
            narrowing: Some(Narrowing {
                permissions: permissions.into_iter().collect::<PermissionSet>(),
                workspaces: None,
                object: Some((ObjectKind::Experiment, experiment)),
            }),
            last_used_at: AtomicI64::new(0),
        })))
    }

    fn gather_last_used(&self, snapshot: &Snapshot) {
        let known = snapshot.credentials.read().expect("no panic while the lock is held");
        let mut unsaved = self.unsaved.lock().expect("no panic while the lock is held");
        for one in known.values() {
            let at = one.last_used_at.swap(0, Ordering::Relaxed);
            if at != 0 {
                unsaved.insert(one.id, (one.principal, at));
            }
        }
    }

    /// Writes down when credentials and their holders were last seen.
    pub async fn keep_last_used(&self) -> Result<()> {
        self.gather_last_used(&self.glance());
        let used = std::mem::take(&mut *self.unsaved.lock().expect("no panic while the lock is held"));
        if used.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        for (id, (principal, at)) in used {
            sqlx::query("UPDATE credentials SET last_used_at = $1 WHERE id = $2 AND COALESCE(last_used_at, 0) < $1")
                .bind(at)
                .bind(id.0)
                .execute(&mut *tx)
                .await?;
            sqlx::query("UPDATE principals SET last_seen_at = $1 WHERE id = $2 AND COALESCE(last_seen_at, 0) < $1")
                .bind(at)
                .bind(principal.0)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}

impl System {
    pub async fn begin(&self) -> Result<Work> {
        Ok(Work {
            tx: self.access.db.begin().await?,
            access: self.access.clone(),
            changes_rights: false,
        })
    }

    pub fn now(&self) -> bailiwick_api::Time {
        self.access.db.now()
    }

    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.access.snapshot().await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.access.db
    }
}

impl Actor {
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn now(&self) -> bailiwick_api::Time {
        self.access.db.now()
    }

    /// The experiment whose job is asking, if the request is signed with a job's token.
    pub(crate) fn job_of(&self) -> Option<i64> {
        let (_, id) = self.narrowing.as_ref()?.object?;
        (self.credential_kind == CredentialKind::Job).then_some(id)
    }

    /// Why (or that not) this actor may do this; nothing is recorded.
    pub fn may(&self, permission: Permission, target: &Target) -> Option<Basis> {
        let now = self.access.db.now().0;
        self.snapshot
            .world
            .decide(self.id, self.narrowing.as_ref(), permission, target, now)
    }

    /// Whether handing out `role` at `target` would give more than this actor holds there; the first permission missing.
    pub fn missing_to_grant(&self, role: RolePermissions, target: &Target) -> Option<Permission> {
        let now = self.access.db.now().0;
        self.snapshot
            .world
            .missing_to_grant(self.id, self.narrowing.as_ref(), role, target, now)
    }

    /// What of experiments this actor may list.
    pub fn visible(&self, permission: Permission, kind: ObjectKind) -> bailiwick_access::Visible {
        self.snapshot.world.visible(
            self.id,
            self.narrowing.as_ref(),
            permission,
            kind,
            self.access.db.now().0,
        )
    }

    /// The proof, or the refusal: 403 if the target itself may be seen (`seen_by`), else 404 as if it were not there.
    pub fn require<P: Permit>(
        &self,
        target: Target,
        what: &'static str,
        which: &str,
        seen_by: Option<Permission>,
    ) -> std::result::Result<Granted<P>, Refusal> {
        if let Some(basis) = self.may(P::PERMISSION, &target) {
            return Ok(Granted {
                actor: self.clone(),
                target,
                basis,
                permit: PhantomData,
            });
        }
        if seen_by.is_some_and(|permission| self.may(permission, &target).is_none()) {
            return Err(Refusal::NotFound {
                what,
                which: which.to_owned(),
            });
        }
        Err(self.forbidden(P::PERMISSION, &target))
    }

    pub fn forbidden(&self, permission: Permission, target: &Target) -> Refusal {
        Refusal::Forbidden {
            who: self.name.to_string(),
            permission,
            place: place(&self.snapshot, target),
        }
    }

    /// The same actor by the newest picture, if the credential still lives.
    pub(crate) async fn renewed(&self, version: i64) -> std::result::Result<Actor, Refusal> {
        let snapshot = self.access.reload(Some(version)).await?;
        let given = self.bearer_hash.is_some();
        self.access
            .actor(snapshot, self.bearer_hash.clone(), given, self.origin.clone())
            .await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.access.db
    }

    /// For what needs no permission beyond being signed in (one's own session, say).
    pub async fn begin(&self) -> Result<Work> {
        Ok(Work {
            tx: self.access.db.begin().await?,
            access: self.access.clone(),
            changes_rights: false,
        })
    }
}

impl<P: Permit> Granted<P> {
    /// Opens a transaction in which the grant still holds: if rights have changed since the decision, it is made again first.
    pub async fn begin(&self) -> std::result::Result<Work, Refusal> {
        let mut decided_at = self.actor.snapshot.version;
        loop {
            let mut work = self.actor.begin().await?;
            let version: i64 = sqlx::query_scalar("SELECT version FROM access_version")
                .fetch_one(&mut *work.tx)
                .await?;
            if version == decided_at {
                return Ok(work);
            }
            drop(work);
            let actor = self.actor.renewed(version).await?;
            if actor.may(P::PERMISSION, &self.target).is_none() {
                return Err(actor.forbidden(P::PERMISSION, &self.target));
            }
            decided_at = actor.snapshot.version;
        }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.actor.access.db
    }

    /// Whether the right comes from an administrative role and the object is another's: such a use is recorded even when nothing changes.
    pub fn is_administrative_use(&self) -> bool {
        self.basis.administrative && self.target.owner.is_some_and(|owner| owner != self.actor.id)
    }
}

impl<P> Clone for Granted<P> {
    fn clone(&self) -> Self {
        Granted {
            actor: self.actor.clone(),
            target: self.target,
            basis: self.basis,
            permit: PhantomData,
        }
    }
}

/// `experiment 12 (workspace "Stop Signs")`, `workspace "default"`, `the installation`.
fn place(snapshot: &Snapshot, target: &Target) -> String {
    let workspace = target
        .workspace
        .map(|id| format!("workspace \"{}\"", snapshot.workspace_name(id)));
    match (target.object, workspace) {
        (Some((ObjectKind::Queue, id)), _) => format!("queue \"{}\"", snapshot.queue_name(QueueId(id))),
        (Some((kind, id)), Some(workspace)) => format!("{} {id} ({workspace})", format!("{kind:?}").to_lowercase()),
        (Some((kind, id)), None) => format!("{} {id}", format!("{kind:?}").to_lowercase()),
        (None, Some(workspace)) => workspace,
        (None, None) => "the whole installation (globally)".into(),
    }
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

fn scope(kind: &str, id: i64) -> Option<Scope> {
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

async fn load(db: &Db, mode: AccessMode) -> Result<Snapshot> {
    let version = "SELECT version FROM access_version";
    loop {
        let before: i64 = sqlx::query_scalar(version).fetch_one(&db.read).await?;
        let snapshot = load_once(db, mode, before).await?;
        // Nothing was changed while the tables were read one after the other.
        let after: i64 = sqlx::query_scalar(version).fetch_one(&db.read).await?;
        if before == after {
            return Ok(snapshot);
        }
    }
}

async fn load_once(db: &Db, mode: AccessMode, version: i64) -> Result<Snapshot> {
    let mut groups = HashMap::new();
    let mut users = GroupId(NOBODY);
    for row in sqlx::query("SELECT id, name, built_in FROM groups")
        .fetch_all(&db.read)
        .await?
    {
        let (id, name) = (GroupId(row.try_get(0)?), row.try_get::<String, _>(1)?);
        if row.try_get::<i64, _>(2)? == 1 && name == "Users" {
            users = id;
        }
        groups.insert(id, Arc::from(name));
    }
    let mut members: HashMap<i64, Vec<GroupId>> = HashMap::new();
    for row in sqlx::query("SELECT principal_id, group_id FROM group_members")
        .fetch_all(&db.read)
        .await?
    {
        members
            .entry(row.try_get(0)?)
            .or_default()
            .push(GroupId(row.try_get(1)?));
    }
    let mut principals = Vec::new();
    let mut names = HashMap::new();
    for row in sqlx::query("SELECT id, name, name_key, state, own_roles_only, kind FROM principals")
        .fetch_all(&db.read)
        .await?
    {
        let id: i64 = row.try_get(0)?;
        let name: Arc<str> = Arc::from(row.try_get::<String, _>(1)?);
        let state: String = row.try_get(3)?;
        names.insert(
            PrincipalId(id),
            PrincipalName {
                name: name.clone(),
                key: row.try_get(2)?,
                removed: state == "removed",
            },
        );
        let mut groups = members.remove(&id).unwrap_or_default();
        groups.push(users);
        principals.push(Principal {
            id: PrincipalId(id),
            name: name.to_string(),
            active: state == "active",
            groups,
            own_roles_only: row.try_get::<i64, _>(4)? == 1,
            is_service: row.try_get::<&str, _>(5)? == "service",
        });
    }
    let mut roles = Vec::new();
    for row in sqlx::query("SELECT id, name, permissions FROM roles")
        .fetch_all(&db.read)
        .await?
    {
        let (name, words): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let words: Vec<String> =
            serde_json::from_str(&words).map_err(|why| StoreError::Broken(format!("role {name}: {why}")))?;
        let permissions = RolePermissions::parse(words.iter().map(String::as_str))
            .map_err(|why| StoreError::Broken(format!("role {name}: {why}")))?;
        let administrative = BuiltInRole::find(&name).is_some_and(|role| role.administrative);
        roles.push(Role {
            id: RoleId(row.try_get(0)?),
            name,
            permissions,
            administrative,
        });
    }
    let mut assignments = Vec::new();
    let rows =
        sqlx::query("SELECT id, principal_id, group_id, role_id, scope_kind, scope_id, expires_at FROM assignments");
    for row in rows.fetch_all(&db.read).await? {
        let holder = match (row.try_get::<Option<i64>, _>(1)?, row.try_get::<Option<i64>, _>(2)?) {
            (Some(id), _) => Holder::Principal(PrincipalId(id)),
            (None, Some(id)) => Holder::Group(GroupId(id)),
            (None, None) => continue,
        };
        let kind: String = row.try_get(4)?;
        let Some(scope) = scope(&kind, row.try_get(5)?) else {
            continue;
        };
        let id = AssignmentId(row.try_get(0)?);
        assignments.push(Assignment {
            id,
            holder,
            role: RoleId(row.try_get(3)?),
            scope,
            expires: row.try_get(6)?,
        });
    }
    let mut workspaces = HashMap::new();
    for row in sqlx::query("SELECT id, name FROM workspaces")
        .fetch_all(&db.read)
        .await?
    {
        workspaces.insert(WorkspaceId(row.try_get(0)?), Arc::from(row.try_get::<String, _>(1)?));
    }
    let mut projects = HashMap::new();
    for row in sqlx::query("SELECT id, workspace_id, name FROM projects")
        .fetch_all(&db.read)
        .await?
    {
        let name: Arc<str> = Arc::from(row.try_get::<String, _>(2)?);
        projects.insert(ProjectId(row.try_get(0)?), (WorkspaceId(row.try_get(1)?), name));
    }
    let mut queues = HashMap::new();
    for row in sqlx::query("SELECT id, name, open FROM queues")
        .fetch_all(&db.read)
        .await?
    {
        let name: Arc<str> = Arc::from(row.try_get::<String, _>(1)?);
        queues.insert(QueueId(row.try_get(0)?), (name, row.try_get::<i64, _>(2)? == 1));
    }
    Ok(Snapshot {
        version,
        world: World::new(mode, users, principals, roles, assignments),
        principals: names,
        workspaces,
        projects,
        queues,
        groups,
        credentials: RwLock::default(),
    })
}

/// The target that an experiment is.
pub fn experiment_target(id: ExperimentId, workspace: WorkspaceId, project: ProjectId, owner: PrincipalId) -> Target {
    Target {
        workspace: Some(workspace),
        project: Some(project),
        object: Some((ObjectKind::Experiment, id.0)),
        owner: Some(owner),
    }
}

/// The target that a queue is.
pub fn queue_target(id: QueueId) -> Target {
    Target {
        object: Some((ObjectKind::Queue, id.0)),
        ..Target::default()
    }
}

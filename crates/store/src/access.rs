//! Who is asking, and may they: turns a bearer into an [`Actor`] and a question into a [`Granted`], the key to every store function.
//!
//! The [`Picture`] that decides is held in memory; `access/fresh.rs` keeps it up to date.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bailiwick_access::{Basis, Explanation, Job, Narrowing, ObjectKind, Scope, Target};
use bailiwick_api::on::On;
use bailiwick_api::permission::{Permit, RolePermissions};
use bailiwick_api::server::AccessMode;
use bailiwick_api::{
    ExperimentId, ModelId, Permission, PermissionSet, PrincipalId, ProjectId, QueueId, StackId, Time, TokenId,
    WorkspaceId, key,
};

use crate::db::{Db, Kind, Result, StoreError, col};
pub use crate::picture::{GroupEntry, ModelEntry, Picture, PrincipalEntry, ProjectEntry, Touched, WorkspaceEntry};
pub(crate) use crate::picture::{KeyHash, scope_columns};

mod fresh;
#[cfg(feature = "bench")]
mod unchecked;

use fresh::Round;
pub use fresh::Work;

/// A credential of an active principal.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) id: TokenId,
    pub(crate) principal: PrincipalId,
    kind: CredentialKind,
    expires_at: Option<i64>,
    narrowing: Option<Narrowing>,
    job: Option<JobOf>,
}

/// Whose a job is that signs a request, and whose agent runs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobOf {
    pub(crate) experiment: i64,
    pub(crate) owner: PrincipalId,
    pub(crate) account: PrincipalId,
}

impl Credential {
    fn is_live(&self, now: Time) -> bool {
        self.expires_at.is_none_or(|end| now.0 < end)
    }
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
    pub address: Arc<str>,
    pub request_id: Arc<str>,
}

/// Who is asking: a live principal with a live credential.
#[derive(Clone)]
pub struct Actor {
    pub id: PrincipalId,
    pub credential: Option<TokenId>,
    pub credential_kind: CredentialKind,
    /// When the credential ends by itself.
    pub credential_expires_at: Option<bailiwick_api::Time>,
    pub origin: Origin,
    narrowing: Option<Narrowing>,
    pub(crate) job: Option<JobOf>,
    bearer_hash: Option<KeyHash>,
    /// When it was recognised.
    pub(crate) at: Time,
    /// The version of rights by which it was recognised; the picture may have moved on.
    pub(crate) version: i64,
    pub(crate) access: Arc<Access>,
}

/// When somebody was recognised, and by which version of rights.
#[derive(Clone, Copy)]
struct Sight {
    at: Time,
    version: i64,
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
        /// The place as one types it.
        on: String,
        /// What to type to ask why: permission and place.
        question: String,
        /// What to type to ask for it, where a role below administration would do.
        ask: Option<String>,
        /// Where it is the key that lacks it and not its owner, or where it is held and ends too soon: the words that say so.
        why: Option<String>,
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

/// Holds the database and the picture.
pub struct Access {
    pub(crate) db: Db,
    picture: Picture,
    loading: tokio::sync::Mutex<()>,
    /// Counts the changes of rights committed by this process, and how many of them the picture has seen.
    moved: AtomicI64,
    seen: AtomicI64,
    /// Whether stale parts of the picture are being rebuilt.
    refreshing: AtomicBool,
    /// Who waits for the version to be read (PostgreSQL).
    round: Mutex<Round>,
    opened: Instant,
    /// Until when (ns after `opened`) the last reading of the version is relied on (PostgreSQL).
    relied_until: AtomicU64,
    /// Last uses of credentials that are no longer remembered, not written down yet.
    unsaved: Mutex<HashMap<TokenId, (PrincipalId, i64)>>,
    pub(crate) shadow: crate::shadow::Shadow,
    /// How many users may be active or pending at once, where that is limited.
    seats: std::sync::OnceLock<i64>,
    vault_keys: std::sync::OnceLock<crate::sealing::KeyFile>,
}

/// Who owns what is not there: it is asked about as if it were, so that time tells nothing of it.
pub const NOBODY: PrincipalId = PrincipalId(0);
/// Where what is not there is: in a workspace that no counter gives.
pub const NOWHERE: Target = Target {
    workspace: Some(WorkspaceId(0)),
    project: None,
    object: None,
    owner: Some(NOBODY),
};
/// What a job may do outside its own experiment, where it acts with the rights of its agent's account or of its owner: look, and change nothing.
pub(crate) const JOB_READS: [Permission; 8] = [
    Permission::ExperimentsRead,
    Permission::ExperimentsReadArtifacts,
    Permission::TasksRead,
    Permission::WorkspacesRead,
    Permission::ProjectsRead,
    Permission::ModelsRead,
    Permission::StacksRead,
    Permission::QueuesRead,
];
/// Who asks while access control is off and there is no user.
const STRANGER: i64 = -1;
/// The last moment of all (µs since 1970): what is held then is held without an end.
const FOREVER: i64 = i64::MAX - 1;
const HELD: &str = "no panic while the lock is held";

/// A future of its own, for what most requests never come to: what a request may have to keep is set aside for each, and a large one costs more than its work.
pub fn seldom<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(future)
}

/// The moments (µs since 1970) at which somebody holds what he gives until then (`None`: without an end), if he holds it all the time: what is held now can
/// only end.
pub(crate) fn first_and_last(now: Time, until: Option<Time>) -> [i64; 2] {
    let last = until.map_or(FOREVER, |end| end.0.saturating_sub(1).max(now.0));
    [now.0, last]
}

impl Access {
    pub async fn open(db: Db, mode: AccessMode) -> Result<Arc<Access>> {
        let picture = Picture::open(&db, mode).await?;
        let access = Arc::new(Access {
            db,
            picture,
            loading: tokio::sync::Mutex::new(()),
            moved: AtomicI64::new(0),
            seen: AtomicI64::new(0),
            refreshing: AtomicBool::new(false),
            round: Mutex::default(),
            opened: Instant::now(),
            relied_until: AtomicU64::new(0),
            unsaved: Mutex::default(),
            shadow: crate::shadow::Shadow::default(),
            seats: std::sync::OnceLock::new(),
            vault_keys: std::sync::OnceLock::new(),
        });
        access.refresh();
        Ok(access)
    }

    pub fn mode(&self) -> AccessMode {
        self.picture.mode()
    }

    pub fn now(&self) -> bailiwick_api::Time {
        self.db.now()
    }

    /// From now on no user is made or let in again beyond this many. The first limit counts.
    pub fn limit_seats(&self, seats: i64) {
        let _ = self.seats.set(seats);
    }

    pub(crate) fn seats(&self) -> Option<i64> {
        self.seats.get().copied()
    }

    /// Where the keys of vaults lie. The first one counts.
    pub fn seal_vaults_with(&self, file: std::path::PathBuf) {
        let _ = self.vault_keys.set(crate::sealing::KeyFile::new(file));
    }

    pub(crate) fn vault_keys(&self) -> Result<&crate::sealing::KeyFile> {
        let missing = || StoreError::Sealed("no key file of vaults is configured".into());
        self.vault_keys.get().ok_or_else(missing)
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

    /// The picture in memory. It may be behind what another server has just changed; see [`Access::fresh`].
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Who holds this bearer, where that is in memory, as it nearly always is; else [`Access::authenticate`] tells.
    pub fn recognise(self: &Arc<Access>, bearer: &str, origin: &Origin, fresh: bool) -> Option<Actor> {
        if self.asks_first(fresh) && !self.is_fresh() {
            return None;
        }
        let hash = key::stored_hash(bearer)?;
        let sight = self.sight();
        let credential = self.picture.credential(&hash, sight.at.0)?;
        let is_live = credential.is_live(sight.at);
        is_live.then(|| self.actor_with(credential, Some(hash), origin.clone(), sight))
    }

    /// Who holds this bearer. `fresh: false` leaves the check of the version to the statement that reads the request's row.
    pub async fn authenticate(
        self: &Arc<Access>,
        bearer: Option<&str>,
        origin: Origin,
        fresh: bool,
    ) -> std::result::Result<Actor, Refusal> {
        if self.asks_first(fresh) {
            self.fresh().await?;
        }
        let hash = bearer.and_then(key::stored_hash);
        let known = self.picture.version();
        let outcome = self.actor(hash, bearer.is_some(), origin.clone()).await;
        if !fresh && matches!(outcome, Err(Refusal::NotSignedIn { .. })) {
            // Whom this picture does not know may be newer than it.
            if self.fresh().await?.version() != known {
                return self.actor(hash, bearer.is_some(), origin).await;
            }
        }
        outcome
    }

    /// Whether the picture is made fresh before anybody is recognised by it. On SQLite that costs nothing.
    fn asks_first(&self, fresh: bool) -> bool {
        fresh || self.db.kind() == Kind::Sqlite
    }

    /// Taken before anything is decided: what is decided later is by this version or a newer one.
    fn sight(&self) -> Sight {
        let version = self.picture.version();
        let at = self.db.now();
        Sight { at, version }
    }

    async fn actor(
        self: &Arc<Access>,
        bearer_hash: Option<KeyHash>,
        given: bool,
        origin: Origin,
    ) -> std::result::Result<Actor, Refusal> {
        let sight = self.sight();
        let found = match &bearer_hash {
            Some(hash) => self.credential(hash, sight.at).await?,
            None => None,
        };
        if let Some(credential) = found {
            return Ok(self.actor_with(credential, bearer_hash, origin, sight));
        }
        if self.mode() != AccessMode::Off {
            return Err(Refusal::NotSignedIn { given });
        }
        // Seed 000: "When auth is disabled, all users have admin-like access"; old keys in configurations do no harm then.
        let nobodys = Credential {
            id: TokenId(0),
            principal: self.picture.somebody().unwrap_or(PrincipalId(STRANGER)),
            kind: CredentialKind::None,
            expires_at: None,
            narrowing: None,
            job: None,
        };
        Ok(self.actor_with(nobodys, bearer_hash, origin, sight))
    }

    fn actor_with(
        self: &Arc<Access>,
        credential: Credential,
        bearer_hash: Option<KeyHash>,
        origin: Origin,
        Sight { at, version }: Sight,
    ) -> Actor {
        Actor {
            id: credential.principal,
            credential: (credential.kind != CredentialKind::None).then_some(credential.id),
            credential_kind: credential.kind,
            credential_expires_at: credential.expires_at.map(Time),
            origin,
            narrowing: credential.narrowing,
            job: credential.job,
            bearer_hash,
            at,
            version,
            access: self.clone(),
        }
    }

    async fn credential(&self, hash: &KeyHash, now: Time) -> Result<Option<Credential>> {
        let found = match self.picture.credential(hash, now.0) {
            Some(credential) => Some(credential),
            None => self.look_up_credential(hash, now.0).await?,
        };
        Ok(found.filter(|credential| credential.is_live(now)))
    }

    async fn look_up_credential(&self, hash: &KeyHash, now: i64) -> Result<Option<Credential>> {
        let is_active = |principal| self.picture.world().is_active(principal);
        let text = key::hex(hash);
        let row = sqlx::query(
            "SELECT id, principal_id, kind, expires_at, permissions, workspaces, (SELECT version FROM access_version) AS version FROM credentials
             WHERE hash = $1 AND revoked_at IS NULL AND kind IN ('session', 'key')",
        )
        .bind(&text)
        .fetch_optional(&self.db.read)
        .await?;
        if let Some(row) = row {
            let kind = if col::<String>(&row, "kind")? == "session" {
                CredentialKind::Session
            } else {
                CredentialKind::Key
            };
            let principal = PrincipalId(col(&row, "principal_id")?);
            if !is_active(principal) {
                return Ok(None);
            }
            let credential = Credential {
                id: TokenId(col(&row, "id")?),
                principal,
                kind,
                expires_at: col(&row, "expires_at")?,
                narrowing: narrowing(col(&row, "permissions")?, col(&row, "workspaces")?)?,
                job: None,
            };
            let version = col(&row, "version")?;
            self.picture.remember(*hash, credential.clone(), version, now);
            return Ok(Some(credential));
        }
        // A job's token lives exactly as long as its job and is never remembered here, so that a withdrawn impersonation ends it at once.
        let row = sqlx::query(
            "SELECT j.experiment_id, e.owner_id, j.as_owner, a.principal_id, s.impersonates
             FROM jobs j JOIN experiments e ON e.id = j.experiment_id JOIN agents a ON a.id = j.agent_id JOIN principals s ON s.id = a.principal_id
             WHERE j.token_hash = $1 AND j.state IN ('STARTING', 'RUNNING', 'STOPPING')",
        )
        .bind(&text)
        .fetch_optional(&self.db.read)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let job = JobOf {
            experiment: col(&row, "experiment_id")?,
            owner: PrincipalId(col(&row, "owner_id")?),
            account: PrincipalId(col(&row, "principal_id")?),
        };
        let as_owner = col::<i64>(&row, "as_owner")? == 1;
        let withdrawn = as_owner && col::<i64>(&row, "impersonates")? == 0;
        if withdrawn || !is_active(job.owner) || !is_active(job.account) {
            return Ok(None);
        }
        let permissions = [
            Permission::ExperimentsRead,
            Permission::ExperimentsReadArtifacts,
            Permission::ExperimentsUpdate,
        ];
        Ok(Some(Credential {
            id: TokenId(0),
            principal: if as_owner { job.owner } else { job.account },
            kind: CredentialKind::Job,
            expires_at: None,
            narrowing: Some(Narrowing {
                permissions: permissions.into_iter().collect::<PermissionSet>(),
                workspaces: None,
                object: None,
                job: Some(Job {
                    experiment: job.experiment,
                    beyond: JOB_READS.into_iter().collect(),
                }),
            }),
            job: Some(job),
        }))
    }

    /// Writes down when credentials and their holders were last seen.
    pub async fn keep_last_used(&self) -> Result<()> {
        let mut used = std::mem::take(&mut *self.unsaved.lock().expect(HELD));
        let now_used = self.picture.take_last_used().into_iter();
        used.extend(now_used.map(|(id, principal, at)| (id, (principal, at))));
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

/// What the columns of a key leave of its owner's rights.
fn narrowing(permissions: Option<String>, workspaces: Option<String>) -> Result<Option<Narrowing>> {
    if permissions.is_none() && workspaces.is_none() {
        return Ok(None);
    }
    let broken = |why: &dyn std::fmt::Display| StoreError::Broken(format!("a key's narrowing: {why}"));
    let permissions = match permissions {
        None => PermissionSet::everything(),
        Some(text) => {
            let words: Vec<String> = serde_json::from_str(&text).map_err(|why| broken(&why))?;
            let read = RolePermissions::parse(words.iter().map(String::as_str)).map_err(|why| broken(&why))?;
            read.all
        }
    };
    let workspaces: Option<Vec<i64>> = workspaces
        .map(|text| serde_json::from_str(&text).map_err(|why| broken(&why)))
        .transpose()?;
    Ok(Some(Narrowing {
        permissions,
        workspaces: workspaces.map(|ids| ids.into_iter().map(WorkspaceId).collect()),
        object: None,
        job: None,
    }))
}

impl System {
    pub async fn begin(&self) -> Result<Work> {
        Ok(Work {
            tx: self.access.db.begin().await?,
            access: self.access.clone(),
            version: None,
        })
    }

    pub fn now(&self) -> bailiwick_api::Time {
        self.access.db.now()
    }

    pub fn picture(&self) -> &Picture {
        self.access.picture()
    }

    /// The picture, with every change that was acknowledged before the call.
    pub async fn fresh(&self) -> Result<&Picture> {
        self.access.fresh().await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.access.db
    }
}

impl Actor {
    /// How many users may be active or pending at once, where that is limited.
    pub(crate) fn seats(&self) -> Option<i64> {
        self.access.seats()
    }

    pub fn picture(&self) -> &Picture {
        &self.access.picture
    }

    /// By what name it is known now.
    pub fn name(&self) -> Arc<str> {
        self.picture().principal_name(self.id)
    }

    pub fn now(&self) -> bailiwick_api::Time {
        self.access.db.now()
    }

    /// Whether it is a service account.
    pub fn is_service(&self) -> bool {
        self.picture().world().is_service(self.id)
    }

    /// What the credential leaves of its owner's rights, if not all.
    pub fn narrowing(&self) -> Option<&Narrowing> {
        self.narrowing.as_ref()
    }

    /// Why (or that not) this actor may do this; nothing is recorded.
    pub fn may(&self, permission: Permission, target: &Target) -> Option<Basis> {
        let now = self.now().0;
        let world = self.picture().world();
        world.decide(self.id, self.narrowing.as_ref(), permission, target, now)
    }

    /// Everything that counts for and against it.
    pub fn explain(&self, permission: Permission, target: &Target) -> Explanation {
        let now = self.now().0;
        let world = self.picture().world();
        world.explain(self.id, self.narrowing.as_ref(), permission, target, now)
    }

    /// Whether handing out `role` at `target` until then (`None`: without an end) would give more than this actor holds there, or for longer, or it may not
    /// assign there; the first permission missing.
    pub fn missing_to_grant(&self, role: RolePermissions, target: &Target, until: Option<Time>) -> Option<Permission> {
        let world = self.picture().world();
        let (narrowing, role) = (self.narrowing.as_ref(), role.to_give());
        let missing = |now| world.missing_to_grant(self.id, narrowing, role, target, now);
        first_and_last(self.now(), until).into_iter().find_map(missing)
    }

    /// The first permission of `role` that this actor does not hold at `target` with at least its reach, or not for as long (`None`: without an end).
    pub fn missing_to_hold(&self, role: RolePermissions, target: &Target, until: Option<Time>) -> Option<Permission> {
        let world = self.picture().world();
        let (narrowing, role) = (self.narrowing.as_ref(), role.to_give());
        let missing = |now| world.missing_to_hold(self.id, narrowing, role, target, now);
        first_and_last(self.now(), until).into_iter().find_map(missing)
    }

    /// Whether this actor holds the permission there now and only for a while.
    fn holds_for_a_while(&self, permission: Permission, target: &Target) -> bool {
        let world = self.picture().world();
        let unowned = Target { owner: None, ..*target };
        let may = |now| {
            let basis = world.decide(self.id, self.narrowing.as_ref(), permission, &unowned, now);
            basis.is_some()
        };
        may(self.now().0) && !may(FOREVER)
    }

    /// What of a kind of object this actor may list.
    pub fn visible(&self, permission: Permission, kind: ObjectKind) -> bailiwick_access::Visible {
        let now = self.now().0;
        let world = self.picture().world();
        world.visible(self.id, self.narrowing.as_ref(), permission, kind, now)
    }

    /// The proof, or the refusal: 403 if the target itself may be seen (`seen_by`), else 404 as if it were not there.
    pub fn require<P: Permit>(
        &self,
        target: Target,
        what: &'static str,
        which: &str,
        seen_by: Option<Permission>,
    ) -> std::result::Result<Granted<P>, Refusal> {
        let basis = self.may(P::PERMISSION, &target);
        crate::shadow::note(self, P::PERMISSION, &target, basis.is_some());
        if let Some(basis) = basis {
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
        let (question, ask) = crate::questions::ways_on(self, permission, target);
        Refusal::Forbidden {
            who: self.name().to_string(),
            permission,
            place: place(self.picture(), target),
            on: crate::questions::on_of(self.picture(), scope_of(target)).to_string(),
            question,
            ask,
            why: match self.holds_for_a_while(permission, target) {
                true => Some(format!(
                    "{} holds {permission} only for a while, and can give it to nobody for longer: give an earlier end (`--until`)",
                    self.name()
                )),
                false => crate::questions::narrowed(self, permission, target),
            },
        }
    }

    /// The same actor by a picture at least as new as `version`, if the credential still lives.
    pub(crate) async fn renewed(&self, version: i64) -> std::result::Result<Actor, Refusal> {
        if self.picture().version() < version {
            self.access.catch_up(Some(version)).await?;
        }
        let given = self.bearer_hash.is_some();
        self.access.actor(self.bearer_hash, given, self.origin.clone()).await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.access.db
    }

    /// Opens a transaction that changes rights, and gives the same actor by a picture that holds every such change before it: what is asked of that actor
    /// stays true until the commit.
    pub(crate) async fn begin_in_order(&self) -> std::result::Result<(Work, Actor), Refusal> {
        let mut actor = self.clone();
        loop {
            let mut work = actor.begin().await?;
            work.touches(&[]).await?;
            let before = work.version.map_or(0, |version| version - 1);
            if before == actor.version {
                return Ok((work, actor));
            }
            // Given back first: whoever reads the changes needs a connection, too.
            drop(work);
            actor = actor.renewed(before).await?;
        }
    }

    /// For what needs no permission beyond being signed in (one's own session, say).
    pub async fn begin(&self) -> Result<Work> {
        Ok(Work {
            tx: self.access.db.begin().await?,
            access: self.access.clone(),
            version: None,
        })
    }
}

impl<P: Permit> Granted<P> {
    /// Opens a transaction in which the grant still holds: if rights have changed since the decision, it is made again first.
    pub async fn begin(&self) -> std::result::Result<Work, Refusal> {
        let mut decided_at = self.actor.version;
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
            decided_at = actor.version;
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
pub(crate) fn place(picture: &Picture, target: &Target) -> String {
    let workspace = target
        .workspace
        .map(|id| format!("workspace \"{}\"", picture.workspace_name(id)));
    match (target.object, workspace) {
        (Some((ObjectKind::Queue, id)), _) => format!("queue \"{}\"", picture.queue_name(QueueId(id))),
        (Some((ObjectKind::Stack, id)), _) => format!("stack \"{}\"", picture.stack_name(StackId(id))),
        (Some((ObjectKind::Model, id)), Some(workspace)) => {
            format!("model \"{}\" ({workspace})", picture.model_name(ModelId(id)))
        }
        (Some((kind, id)), Some(workspace)) => format!("{} {id} ({workspace})", format!("{kind:?}").to_lowercase()),
        (Some((kind, id)), None) => format!("{} {id}", format!("{kind:?}").to_lowercase()),
        (None, Some(workspace)) => match target.project {
            Some(id) => format!("project \"{}\" ({workspace})", picture.project_name(id)),
            None => workspace,
        },
        (None, None) => "the whole installation (globally)".into(),
    }
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

/// The target that a stack is: in no workspace, so that what is held in one opens none. One that is not there is nobody's.
pub fn stack_target(picture: &Picture, id: StackId) -> Target {
    Target {
        object: Some((ObjectKind::Stack, id.0)),
        owner: picture.stack(id).map(|stack| stack.owner),
        ..Target::default()
    }
}

/// The target that a model is.
pub fn model_target(id: ModelId, model: &ModelEntry) -> Target {
    Target {
        workspace: Some(model.workspace),
        object: Some((ObjectKind::Model, id.0)),
        owner: model.owner,
        project: None,
    }
}

/// The target of what a text refers to, with everything that contains it. What the actor may not see is not there.
pub async fn resolve(actor: &Actor, on: &On) -> std::result::Result<Target, Refusal> {
    let picture = actor.picture();
    let missing = |what: &'static str, which: &str| Refusal::NotFound {
        what,
        which: which.to_owned(),
    };
    match on {
        On::Installation => Ok(Target::default()),
        On::Workspace(name) => {
            let target = picture.find_workspace(name).map(|id| picture.workspace_target(id));
            let seen = target.filter(|target| actor.may(Permission::WorkspacesRead, target).is_some());
            seen.ok_or_else(|| missing("workspace", name))
        }
        On::Project(workspace, name) => {
            let id = if workspace.is_empty() {
                bailiwick_api::ids::as_number(name).map(ProjectId)
            } else {
                let workspace = picture.find_workspace(workspace);
                workspace.and_then(|workspace| picture.find_project(workspace, name))
            };
            let target = id.filter(|id| picture.project(*id).is_some());
            let target = target.map(|id| picture.project_target(id));
            let seen = target.filter(|target| actor.may(Permission::ProjectsRead, target).is_some());
            seen.ok_or_else(|| missing("project", name))
        }
        On::Experiment(which) => {
            let found = crate::experiments::find_seen(actor, which).await?;
            Ok(found.ok_or_else(|| missing("experiment", which))?.target())
        }
        On::Queue(name) => {
            let found = picture.find_queue(name);
            let seen = found.filter(|id| crate::queues::may_see(actor, *id));
            Ok(queue_target(seen.ok_or_else(|| missing("queue", name))?))
        }
        On::Stack(which) => Ok(stack_target(picture, crate::stacks::find(actor, which)?)),
        On::Model(which) => {
            let found = picture.find_model(which);
            let target = found.map(|(id, model)| model_target(id, &model));
            let seen = target.filter(|target| actor.may(Permission::ModelsRead, target).is_some());
            seen.ok_or_else(|| missing("model", which))
        }
    }
}

/// The scope of an assignment made on the target of [`resolve`].
pub fn scope_of(target: &Target) -> Scope {
    match (target.object, target.project, target.workspace) {
        (Some((kind, id)), ..) => Scope::Object(kind, id),
        (None, Some(project), _) => Scope::Project(project),
        (None, None, Some(workspace)) => Scope::Workspace(workspace),
        (None, None, None) => Scope::Global,
    }
}

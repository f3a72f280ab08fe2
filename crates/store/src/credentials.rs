//! Sessions, API keys and one-time links. Only hashes are stored; see `bailiwick_api::key`.

use bailiwick_access::{Narrowing, Scope, Target, World};
use bailiwick_api::audit::Outcome;
use bailiwick_api::permission::{PermissionSet, Permit, RolePermissions, permit};
use bailiwick_api::tokens::{Narrowed, Token};
use bailiwick_api::{GroupId, Page, Permission, PrincipalId, Time, TokenId, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Access, Actor, CredentialKind, Granted, NOBODY, Origin, Refusal, Touched, Work, first_and_last};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, col};
use crate::picture::Picture;

pub(crate) async fn insert(
    tx: &mut Tx,
    principal: PrincipalId,
    kind: &str,
    hash: &str,
    label: &str,
    now: Time,
    expires: Option<Time>,
) -> Result<TokenId> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO credentials (principal_id, kind, hash, label, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    )
    .bind(principal.0)
    .bind(kind)
    .bind(hash)
    .bind(label)
    .bind(now.0)
    .bind(expires.map(|at| at.0))
    .fetch_one(&mut **tx)
    .await?;
    Ok(TokenId(id))
}

/// Opens a session after the password was right. False if the user has been deactivated or removed meanwhile.
pub async fn open_session(
    access: &std::sync::Arc<Access>,
    who: PrincipalId,
    name: &str,
    hash: &str,
    expires: Time,
    origin: &Origin,
) -> Result<bool> {
    let system = access.system("sign-in");
    let mut work = system.begin().await?;
    let now = access.now();
    if !is_alive(&mut work, who, " AND remote = 0").await? {
        return Ok(false);
    }
    insert(&mut work, who, "session", hash, "", now, Some(expires)).await?;
    // Old sessions go when they are of no use to anybody, so that the table does not grow with every sign-in.
    sqlx::query("DELETE FROM credentials WHERE principal_id = $1 AND kind IN ('session', 'link') AND expires_at < $2")
        .bind(who.0)
        .bind(now.plus_ms(-30 * 86_400_000).0)
        .execute(&mut **work)
        .await?;
    sqlx::query("UPDATE principals SET last_seen_at = $1 WHERE id = $2")
        .bind(now.0)
        .bind(who.0)
        .execute(&mut **work)
        .await?;
    audit::write_stranger(
        &mut work,
        Some(who),
        name,
        origin,
        Entry::new("sign-in", "password", "user", name),
    )
    .await?;
    work.commit().await?;
    Ok(true)
}

/// Whether the principal is active or invited; it stays so until the transaction ends. Without this a credential made at the very moment of a deactivation would
/// open again after the reactivation.
async fn is_alive(work: &mut Work, who: PrincipalId, and: &str) -> Result<bool> {
    let sql = format!("UPDATE principals SET state = state WHERE id = $1 AND state IN ('active', 'pending'){and}");
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(who.0)
        .execute(&mut ***work)
        .await?;
    Ok(found.rows_affected() == 1)
}

/// A link that may still be used.
pub struct OpenLink {
    pub id: TokenId,
    pub principal: PrincipalId,
    pub name: String,
    pub has_password: bool,
}

pub async fn find_link(access: &Access, hash: &str) -> Result<Option<OpenLink>> {
    let row = sqlx::query(
        "SELECT c.id, p.id AS principal, p.name, p.password_hash FROM credentials c JOIN principals p ON p.id = c.principal_id
         WHERE c.hash = $1 AND c.kind = 'link' AND c.revoked_at IS NULL AND c.expires_at > $2 AND p.state IN ('pending', 'active')
           AND p.remote = 0",
    )
    .bind(hash)
    .bind(access.now().0)
    .fetch_optional(&access.db.read)
    .await?;
    row.map(|row| {
        Ok(OpenLink {
            id: TokenId(col(&row, "id")?),
            principal: PrincipalId(col(&row, "principal")?),
            name: col(&row, "name")?,
            has_password: col::<Option<String>>(&row, "password_hash")?.is_some(),
        })
    })
    .transpose()
}

/// What came of the use of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkUse {
    Opened,
    /// Somebody else was quicker.
    UsedUp,
    /// Whoever made it does not hold all that it would open by now; see [`still_covers`].
    Withdrawn,
}

/// Uses a link up: sets the password if one is given, makes a pending user active, opens a session.
pub async fn use_link(
    access: &std::sync::Arc<Access>,
    link: &OpenLink,
    password_hash: Option<&str>,
    session_hash: &str,
    expires: Time,
    origin: &Origin,
) -> Result<LinkUse> {
    let system = access.system("sign-in");
    let now = access.now();
    // By a picture that holds every change of rights before this transaction: what the user is given comes before the use of the link, or after it.
    let mut work = loop {
        let picture = access.fresh().await?;
        let mut work = system.begin().await?;
        work.touches(&[Touched::Principal(link.principal)]).await?;
        let version: i64 = sqlx::query_scalar("SELECT version FROM access_version")
            .fetch_one(&mut **work)
            .await?;
        if picture.version() == version - 1 {
            break work;
        }
        if access.is_sqlite() {
            // Somebody beside this server has changed rights (on SQLite it does not look for that). What this has written says nothing, and once it is
            // committed the picture is brought up to date.
            work.commit().await?;
        }
    };
    let used = sqlx::query(
        "UPDATE credentials SET revoked_at = $1, last_used_at = $1 WHERE id = $2 AND revoked_at IS NULL RETURNING label, permissions",
    )
    .bind(now.0)
    .bind(link.id.0)
    .fetch_optional(&mut **work)
    .await?;
    let Some(used) = used else {
        return Ok(LinkUse::UsedUp);
    };
    let maker = LinkMaker::read(&used)?;
    if !still_covers(access.picture(), &maker, link.principal, now) {
        let entry = Entry {
            outcome: Outcome::Denied,
            ..Entry::new("sign-in", "link", "user", &link.name)
        };
        let entry =
            entry.with(serde_json::json!({"withdrawn": "whoever made it does not hold all that the user holds"}));
        audit::write_stranger(&mut work, None, &link.name, origin, entry).await?;
        work.commit().await?;
        return Ok(LinkUse::Withdrawn);
    }
    if let Some(hash) = password_hash {
        sqlx::query("UPDATE principals SET password_hash = $1 WHERE id = $2")
            .bind(hash)
            .bind(link.principal.0)
            .execute(&mut **work)
            .await?;
        sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE principal_id = $2 AND kind IN ('session', 'link') AND revoked_at IS NULL")
            .bind(now.0)
            .bind(link.principal.0)
            .execute(&mut **work)
            .await?;
    }
    sqlx::query("UPDATE principals SET state = 'active' WHERE id = $1 AND state = 'pending'")
        .bind(link.principal.0)
        .execute(&mut **work)
        .await?;
    insert(
        &mut work,
        link.principal,
        "session",
        session_hash,
        "",
        now,
        Some(expires),
    )
    .await?;
    let detail = serde_json::json!({"password_set": password_hash.is_some()});
    let entry = Entry::new("sign-in", "link", "user", &link.name).with(detail);
    audit::write_stranger(&mut work, Some(link.principal), &link.name, origin, entry).await?;
    work.commit().await?;
    Ok(LinkUse::Opened)
}

/// Who made a link, and so knows it. Kept in the row of the link itself: the id in `label`, which is shown for keys alone, and in `permissions` what the
/// maker's key left of the maker's rights, as a key keeps it of its owner's.
enum LinkMaker {
    /// The first start of the server: whoever reads its output is the operator.
    Server,
    Somebody {
        id: PrincipalId,
        /// It came with the account that it opens.
        invites: bool,
        narrowing: Option<Narrowing>,
    },
    /// A link of an earlier version, which did not note it.
    Unknown,
}

const BY_SERVER: &str = "made by the server";
const BY: &str = "made by ";
const INVITING: &str = ", inviting";

impl LinkMaker {
    fn label(by: PrincipalId, invites: bool) -> String {
        format!("{BY}{by}{}", if invites { INVITING } else { "" })
    }

    fn read(row: &AnyRow) -> Result<LinkMaker> {
        let label: String = row.try_get(0)?;
        if label == BY_SERVER {
            return Ok(LinkMaker::Server);
        }
        let (by, invites) = match label.strip_suffix(INVITING) {
            Some(by) => (by, true),
            None => (label.as_str(), false),
        };
        let Some(id) = by.strip_prefix(BY).and_then(|id| id.parse().ok()) else {
            return Ok(LinkMaker::Unknown);
        };
        let broken = |why: &dyn std::fmt::Display| StoreError::Broken(format!("what a link was made with: {why}"));
        let narrowing = match row.try_get::<Option<String>, _>(1)? {
            None => None,
            Some(text) => {
                let words: Vec<String> = serde_json::from_str(&text).map_err(|why| broken(&why))?;
                let read = RolePermissions::parse(words.iter().map(String::as_str)).map_err(|why| broken(&why))?;
                Some(Narrowing {
                    permissions: read.all,
                    workspaces: None,
                    object: None,
                    job: None,
                })
            }
        };
        Ok(LinkMaker::Somebody {
            id: PrincipalId(id),
            invites,
            narrowing,
        })
    }
}

/// Whoever made a link may have kept it, and becomes the user by it. So the maker must still hold, when it is used, everything that the user holds by then,
/// who may have been given more meanwhile. Of an invitation one thing is asked less: whoever may invite may make any number of people with what the group of
/// everybody gives, and with roles that he may hand out, so those of a user who was never here are no gain.
fn still_covers(picture: &Picture, maker: &LinkMaker, whose: PrincipalId, now: Time) -> bool {
    let (id, invites, narrowing) = match maker {
        LinkMaker::Server => return true,
        LinkMaker::Unknown => return false,
        LinkMaker::Somebody { id, invites, narrowing } => (*id, *invites, narrowing.as_ref()),
    };
    if id == whose {
        return true;
    }
    if !picture.world().is_active(id) {
        return false;
    }
    let everybody = invites.then(|| picture.users_group());
    let may_hand_out = |role: RolePermissions, scope| {
        let target = picture.scope_target(scope);
        let world = picture.world();
        let missing = world.missing_to_grant(id, narrowing, role.to_give(), &target, now.0);
        invites && missing.is_none()
    };
    let held = live_roles(&picture.world(), whose, now.0, everybody);
    let (_, beyond): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| may_hand_out(held.role, held.scope));
    first_missing(picture, (id, narrowing), beyond, &whole(), now).is_none()
}

/// Whether `who` (by a credential that may be narrowed) holds everything that `whose` holds and that a key narrowed to `left` would leave of it, and for as
/// long: another's password or key lasts beyond what is held for a while.
pub fn covers(actor: &Actor, whose: PrincipalId, left: &Narrowing) -> bool {
    missing_to_cover(actor, whose, left).is_none()
}

/// The first permission of the other's that is missing for that, and where.
fn missing_to_cover(actor: &Actor, whose: PrincipalId, left: &Narrowing) -> Option<(Permission, Target)> {
    let (picture, now) = (actor.picture(), actor.now());
    let held = live_roles(&picture.world(), whose, now.0, None);
    first_missing(picture, (actor.id, actor.narrowing()), held, left, now)
}

/// What a credential leaves that leaves everything.
pub fn whole() -> Narrowing {
    Narrowing {
        permissions: PermissionSet::everything(),
        workspaces: None,
        object: None,
        job: None,
    }
}

/// Why somebody may not open a way into an account, or gets at the name that another leaves.
pub enum Uncovered {
    /// The other holds this there, and the actor does not.
    Missing(Permission, Target),
    /// It is one's own account, and the key in use is less than its owner, or ends.
    PartialKey,
}

/// `access.md` §4: who makes a key, a link or a password for another can act as the other, and so must hold all that the other holds. A narrowed key cannot
/// do that for its own owner either: it would get at all that was kept from it; nor a key that ends.
pub fn must_cover(actor: &Actor, whose: PrincipalId) -> std::result::Result<(), Uncovered> {
    if whose == actor.id {
        return match actor.narrowing().is_none() && latest_end(actor).is_none() {
            true => Ok(()),
            false => Err(Uncovered::PartialKey),
        };
    }
    match missing_to_cover(actor, whose, &whole()) {
        None => Ok(()),
        Some((permission, target)) => Err(Uncovered::Missing(permission, target)),
    }
}

/// The end that whatever is made with the actor's key must not outlive. Behind a session stands somebody who has just shown a password.
pub fn latest_end(actor: &Actor) -> Option<Time> {
    actor
        .credential_expires_at
        .filter(|_| actor.credential_kind == CredentialKind::Key)
}

/// The first permission of what is held that `who` (by a credential that may be narrowed) does not hold, or not for as long, and where.
fn first_missing(
    picture: &Picture,
    (who, narrowing): (PrincipalId, Option<&Narrowing>),
    held: Vec<LiveRole>,
    left: &Narrowing,
    now: Time,
) -> Option<(Permission, Target)> {
    held.into_iter().find_map(|LiveRole { role, scope, until }| {
        // What the other may do to its own, the actor would do to another's: so it needs the full reach for it.
        let role = RolePermissions {
            all: role.all.union(role.own).intersection(left.permissions),
            own: PermissionSet::EMPTY,
        };
        let lacks = |target: Target| {
            let world = picture.world();
            let missing = |at| world.missing_to_hold(who, narrowing, role.to_give(), &target, at);
            let missing = first_and_last(now, until).into_iter().find_map(missing)?;
            Some((missing, target))
        };
        match (&left.workspaces, scope) {
            (Some(only), Scope::Global) => only.iter().find_map(|id| lacks(Target::workspace(*id))),
            (Some(only), Scope::Workspace(id)) if !only.contains(&id) => None,
            _ => lacks(picture.scope_target(scope)),
        }
    })
}

/// What somebody holds at a scope, until then (`None`: without an end).
pub struct LiveRole {
    pub role: RolePermissions,
    pub scope: Scope,
    until: Option<Time>,
}

/// What the assignments that reach somebody give, whether he is active or still invited; those through the group `without` left out.
pub fn live_roles(world: &World, whose: PrincipalId, now: i64, without: Option<GroupId>) -> Vec<LiveRole> {
    let assignments = world.assignments_of(whose);
    let live = assignments.filter(|(.., through, expires)| {
        expires.is_none_or(|end| now < end) && (through.is_none() || *through != without)
    });
    let given = live.filter_map(|(_, role, scope, _, until)| {
        let role = scope.counts(world.role(role)?.permissions);
        Some(LiveRole {
            role,
            scope,
            until: until.map(Time),
        })
    });
    given.collect()
}

/// A new link for a user, in place of older ones. `by` says who may: an administrator, or the first start.
pub async fn new_link(
    by: &Granted<permit::UsersUpdate>,
    who: PrincipalId,
    name: &str,
    hash: &str,
    expires: Time,
) -> std::result::Result<(), Refusal> {
    let mut work = by.begin().await?;
    if !is_alive(&mut work, who, " AND remote = 0").await? {
        return Err(Refusal::NotFound {
            what: "user who signs in by a link",
            which: name.to_owned(),
        });
    }
    end_links(&mut work, who, by.actor.now()).await?;
    insert_link(&mut work, &by.actor, who, hash, expires, false).await?;
    audit::write(
        &mut work,
        &by.actor,
        Entry::of::<permit::UsersUpdate>("link", "user", name),
    )
    .await?;
    work.commit().await?;
    Ok(())
}

/// The link that the operator finds in the server's output while `admin` has no password.
pub async fn new_link_for_operator(
    access: &std::sync::Arc<Access>,
    who: PrincipalId,
    hash: &str,
    expires: Time,
) -> Result<()> {
    let system = access.system("first start");
    let mut work = system.begin().await?;
    end_links(&mut work, who, access.now()).await?;
    insert(&mut work, who, "link", hash, BY_SERVER, access.now(), Some(expires)).await?;
    audit::write_system(&mut work, &system, Entry::new("users:update", "link", "user", "admin")).await?;
    work.commit().await
}

async fn end_links(work: &mut Work, who: PrincipalId, now: Time) -> Result<()> {
    sqlx::query(
        "UPDATE credentials SET revoked_at = $1 WHERE principal_id = $2 AND kind = 'link' AND revoked_at IS NULL",
    )
    .bind(now.0)
    .bind(who.0)
    .execute(&mut ***work)
    .await?;
    Ok(())
}

/// A link, with a note of who makes it. `invites`: with the account itself.
pub(crate) async fn insert_link(
    work: &mut Work,
    by: &Actor,
    who: PrincipalId,
    hash: &str,
    expires: Time,
    invites: bool,
) -> Result<()> {
    let label = LinkMaker::label(by.id, invites);
    let id = insert(work, who, "link", hash, &label, by.now(), Some(expires)).await?;
    let left = by.narrowing().map(|narrowing| narrowing.permissions);
    match left.filter(|left| *left != PermissionSet::everything()) {
        Some(left) => narrow(work, id, Some(left), None).await,
        None => Ok(()),
    }
}

/// Whether the server's own agent may run jobs as their owners, and therefore does.
pub async fn built_in_agent_impersonates(access: &std::sync::Arc<Access>, name: &str) -> Result<bool> {
    let sql = "SELECT impersonates FROM principals WHERE name_key = $1 AND state <> 'removed'";
    let may: Option<i64> = sqlx::query_scalar(sql)
        .bind(bailiwick_api::names::name_key(name))
        .fetch_optional(&access.db.read)
        .await?;
    Ok(may == Some(1))
}

/// The queues at which the server's own agent holds a role, by the names that they have now.
pub async fn built_in_agent_queues(access: &std::sync::Arc<Access>, name: &str) -> Result<Vec<String>> {
    let names = sqlx::query_scalar(
        "SELECT q.name FROM queues q JOIN assignments a ON a.scope_kind = 'queue' AND a.scope_id = q.id
         JOIN principals p ON p.id = a.principal_id
         WHERE p.name_key = $1 AND p.state <> 'removed' AND q.deleted_at IS NULL GROUP BY q.id, q.name ORDER BY q.id",
    );
    let names = names.bind(bailiwick_api::names::name_key(name));
    Ok(names.fetch_all(&access.db.read).await?)
}

/// The key with which the server's own agent signs in: new at every start, the older ones end. Gives the account its rights if it has none.
pub async fn new_built_in_agent_key(access: &std::sync::Arc<Access>, name: &str, hash: &str) -> Result<()> {
    let system = access.system("built-in agent");
    let mut work = system.begin().await?;
    let now = access.now();
    let found: Option<i64> = sqlx::query_scalar("SELECT id FROM principals WHERE name_key = $1 AND state <> 'removed'")
        .bind(bailiwick_api::names::name_key(name))
        .fetch_optional(&mut **work)
        .await?;
    let mut touched = Vec::new();
    let id = match found {
        Some(id) => id,
        None => {
            let id: i64 = sqlx::query_scalar(
                "INSERT INTO principals (kind, name, name_key, state, own_roles_only, created_at) VALUES ('service', $1, $2, 'active', 1, $3) RETURNING id",
            )
            .bind(name)
            .bind(bailiwick_api::names::name_key(name))
            .bind(now.0)
            .fetch_one(&mut **work)
            .await?;
            let queue: i64 = sqlx::query_scalar("SELECT id FROM queues WHERE is_default = 1")
                .fetch_one(&mut **work)
                .await?;
            let assigned =
                crate::start::assign(&mut work, Some(id), None, "QueueAgent", ("queue", queue), 0, now.0).await?;
            touched.push(Touched::Assignment(assigned));
            audit::write_system(
                &mut work,
                &system,
                Entry::new("service-accounts:create", "create", "service account", name),
            )
            .await?;
            id
        }
    };
    // Keys of earlier starts: an agent of an earlier start that is still there has to go (its jobs are taken over).
    sqlx::query("DELETE FROM credentials WHERE principal_id = $1 AND kind = 'key' AND label = 'built-in'")
        .bind(id)
        .execute(&mut **work)
        .await?;
    let key = insert(&mut work, PrincipalId(id), "key", hash, "built-in", now, None).await?;
    narrow(&mut work, key, Some(agents_part()), None).await?;
    touched.push(Touched::Principal(PrincipalId(id)));
    work.touches(&touched).await?;
    work.commit().await
}

/// What is asked of a new key.
pub struct NewKey<'a> {
    pub owner: PrincipalId,
    pub hash: &'a str,
    pub label: &'a str,
    pub expires: Option<Time>,
    /// What it leaves of its owner's rights; all when left out.
    pub permissions: Option<PermissionSet>,
    pub workspaces: Option<Vec<WorkspaceId>>,
}

pub async fn create_key<P: Permit>(by: &Granted<P>, new: &NewKey<'_>) -> std::result::Result<Token, Refusal> {
    let mut work = by.begin().await?;
    let (actor, now) = (&by.actor, by.actor.now());
    let owner = actor.picture().principal_name(new.owner).to_string();
    if !is_alive(&mut work, new.owner, "").await? {
        return Err(Refusal::NotFound {
            what: "active user",
            which: owner,
        });
    }
    let id = insert(&mut work, new.owner, "key", new.hash, new.label, now, new.expires).await?;
    narrow(&mut work, id, new.permissions, new.workspaces.as_deref()).await?;
    let narrowed = Narrowed {
        permissions: new.permissions.map(words),
        workspaces: new.workspaces.as_ref().map(|ids| names(actor, ids)),
    };
    let detail = serde_json::json!({"after": {"owner": owner, "label": new.label, "expires_at": new.expires, "narrowed": narrowed}});
    let entry = Entry::of::<P>("create", "token", id).with(detail);
    audit::write(&mut work, actor, entry).await?;
    work.commit().await?;
    Ok(Token {
        id,
        owner,
        kind: "key".into(),
        label: new.label.into(),
        created_at: now,
        expires_at: new.expires,
        last_used_at: None,
        revoked_at: None,
        narrowed,
    })
}

/// What the keys of an account leave that is there for agents alone: serving its queues, and seeing that they are there.
pub fn agents_part() -> PermissionSet {
    [Permission::QueuesServe, Permission::QueuesRead].into_iter().collect()
}

/// A set of permissions by their names.
pub fn words(set: PermissionSet) -> Vec<String> {
    set.iter().map(|one| one.name().to_owned()).collect()
}

/// Leaves only some of its owner's rights to a key; all where nothing is said.
pub(crate) async fn narrow(
    work: &mut Work,
    id: TokenId,
    permissions: Option<PermissionSet>,
    workspaces: Option<&[WorkspaceId]>,
) -> Result<()> {
    let json = |value: serde_json::Value| (!value.is_null()).then(|| value.to_string());
    sqlx::query("UPDATE credentials SET permissions = $1, workspaces = $2 WHERE id = $3")
        .bind(json(serde_json::json!(permissions.map(words))))
        .bind(json(serde_json::json!(workspaces)))
        .bind(id.0)
        .execute(&mut ***work)
        .await?;
    Ok(())
}

/// Names of workspaces, as far as this actor may see them; else their ids. Those that the key in use is for it may name where its owner sees them, even if
/// the key itself cannot look at them.
fn names(actor: &Actor, ids: &[WorkspaceId]) -> Vec<String> {
    let picture = actor.picture();
    let for_them = actor.narrowing().and_then(|narrowing| narrowing.workspaces.as_ref());
    let name = |id: &WorkspaceId| {
        let target = picture.workspace_target(*id);
        let owner_sees = || {
            let world = picture.world();
            world.decide(actor.id, None, Permission::WorkspacesRead, &target, actor.now().0)
        };
        let sees = actor.may(Permission::WorkspacesRead, &target).is_some()
            || (for_them.is_some_and(|ids| ids.contains(id)) && owner_sees().is_some());
        match picture.workspace(*id).filter(|_| sees) {
            Some(workspace) => workspace.name.to_string(),
            None => id.to_string(),
        }
    };
    ids.iter().map(name).collect()
}

/// What the credential in use leaves of its owner's rights.
pub fn narrowed(actor: &Actor) -> Narrowed {
    let Some(narrowing) = actor.narrowing() else {
        return Narrowed::default();
    };
    let permissions = (narrowing.permissions != PermissionSet::everything()).then(|| words(narrowing.permissions));
    Narrowed {
        permissions,
        workspaces: narrowing.workspaces.as_ref().map(|ids| names(actor, ids)),
    }
}

const COLUMNS: &str =
    "id, principal_id, kind, label, created_at, expires_at, last_used_at, revoked_at, permissions, workspaces";

fn view(actor: &Actor, row: &AnyRow) -> Result<Token> {
    fn list<T: serde::de::DeserializeOwned>(row: &AnyRow, column: usize) -> Result<Option<Vec<T>>> {
        let text: Option<String> = row.try_get(column)?;
        let list = text.map(|text| serde_json::from_str(&text)).transpose();
        list.map_err(|why| StoreError::Broken(format!("a key's narrowing: {why}")))
    }
    Ok(Token {
        id: TokenId(row.try_get(0)?),
        owner: actor.picture().principal_name(PrincipalId(row.try_get(1)?)).to_string(),
        kind: row.try_get(2)?,
        label: row.try_get(3)?,
        created_at: Time(row.try_get(4)?),
        expires_at: row.try_get::<Option<i64>, _>(5)?.map(Time),
        last_used_at: row.try_get::<Option<i64>, _>(6)?.map(Time),
        revoked_at: row.try_get::<Option<i64>, _>(7)?.map(Time),
        narrowed: Narrowed {
            permissions: list(row, 8)?,
            workspaces: list::<WorkspaceId>(row, 9)?.map(|ids| names(actor, &ids)),
        },
    })
}

/// One key or session; whose it is was the question before.
pub async fn get(by: &Granted<permit::TokensRead>, id: TokenId) -> std::result::Result<Token, Refusal> {
    by.actor.access.keep_last_used().await?;
    let sql = format!("SELECT {COLUMNS} FROM credentials WHERE id = $1 AND kind IN ('key', 'session')");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&by.db().read)
        .await?;
    let row = row.ok_or_else(|| Refusal::NotFound {
        what: "token",
        which: id.to_string(),
    })?;
    Ok(view(&by.actor, &row)?)
}

/// Newest first: live API keys; with `all` also sessions, and what is revoked or past its time.
pub async fn list<P: Permit>(by: &Granted<P>, whose: PrincipalId, all: bool) -> Result<Page<Token>> {
    by.actor.access.keep_last_used().await?;
    let live = format!(
        " AND kind = 'key' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {})",
        by.actor.now().0
    );
    let sql = format!(
        "SELECT {COLUMNS} FROM credentials WHERE principal_id = $1 AND kind IN ('key', 'session'){} ORDER BY id DESC LIMIT 1000",
        if all { "" } else { &live }
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(whose.0)
        .fetch_all(&by.db().read)
        .await?;
    Ok(Page {
        items: rows.iter().map(|row| view(&by.actor, row)).collect::<Result<_>>()?,
        next: None,
    })
}

/// Whose a credential is, for the check that comes before [`revoke`]; [`NOBODY`] of what is not there.
pub async fn owner(actor: &Actor, id: TokenId) -> Result<PrincipalId> {
    // In place of one that is not there another is read: not to read one takes less time.
    let last = "SELECT id, principal_id FROM credentials WHERE id <= $1 AND kind IN ('key', 'session') ORDER BY id DESC LIMIT 1";
    let row = sqlx::query(last).bind(id.0).fetch_optional(&actor.db().read).await?;
    let found = row.map(|row| Ok::<_, StoreError>((row.try_get::<i64, _>(0)?, row.try_get(1)?)));
    let owner = found.transpose()?.filter(|(found, _)| *found == id.0);
    Ok(owner.map_or(NOBODY, |(_, owner)| PrincipalId(owner)))
}

pub async fn revoke<P: Permit>(by: &Granted<P>, id: TokenId) -> std::result::Result<Token, Refusal> {
    let mut work = by.begin().await?;
    sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
        .bind(by.actor.now().0)
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    let sql = format!("SELECT {COLUMNS} FROM credentials WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_one(&mut **work)
        .await?;
    let token = view(&by.actor, &row)?;
    let detail = serde_json::json!({"owner": token.owner});
    audit::write(&mut work, &by.actor, Entry::of::<P>("revoke", "token", id).with(detail)).await?;
    work.touches(&[Touched::Credential(id)]).await?;
    work.commit().await?;
    Ok(token)
}

/// Ends the session (or key) with which the request was signed.
pub async fn sign_out(actor: &Actor) -> Result<()> {
    let Some(credential) = actor.credential.filter(|id| id.0 != 0) else {
        return Ok(());
    };
    let mut work = actor.begin().await?;
    sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE id = $2 AND kind = 'session' AND revoked_at IS NULL")
        .bind(actor.now().0)
        .bind(credential.0)
        .execute(&mut **work)
        .await?;
    audit::write(
        &mut work,
        actor,
        Entry::new("sign-out", "sign-out", "user", actor.name()),
    )
    .await?;
    work.touches(&[Touched::Credential(credential)]).await?;
    work.commit().await
}

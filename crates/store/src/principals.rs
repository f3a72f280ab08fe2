//! Users and service accounts.

use bailiwick_access::{Scope, Target};
use bailiwick_api::names::{check_username, name_key};
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::users::{NewUser, PrincipalKind, User, UserState};
use bailiwick_api::{AssignmentId, Page, Permission, PrincipalId, QueueId, Time};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Access, Actor, Granted, Picture, Refusal, Touched, Work, scope_columns};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, col};
use crate::start::assign;

const COLUMNS: &str = "id, kind, name, display_name, state, remote, created_at, last_seen_at";

/// What sign-in needs to know of a name.
pub struct SignIn {
    pub id: PrincipalId,
    pub name: String,
    pub state: UserState,
    pub password_hash: Option<String>,
}

/// For the sign-in alone: nobody has been recognised yet.
pub async fn find_for_sign_in(access: &Access, name: &str) -> Result<Option<SignIn>> {
    let row = sqlx::query(
        "SELECT id, name, state, password_hash FROM principals WHERE name_key = $1 AND state <> 'removed' AND kind = 'user' AND remote = 0",
    )
    .bind(name_key(name))
    .fetch_optional(&access.db.read)
    .await?;
    row.map(|row| {
        Ok(SignIn {
            id: PrincipalId(col(&row, "id")?),
            name: col(&row, "name")?,
            state: state(&col::<String>(&row, "state")?),
            password_hash: col(&row, "password_hash")?,
        })
    })
    .transpose()
}

/// Whether a user has a password, to know if a change must prove the old one.
pub async fn password_hash(actor: &Actor, id: PrincipalId) -> Result<Option<String>> {
    let row = sqlx::query("SELECT password_hash FROM principals WHERE id = $1")
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

fn state(text: &str) -> UserState {
    match text {
        "pending" => UserState::Pending,
        "active" => UserState::Active,
        "deactivated" => UserState::Deactivated,
        _ => UserState::Removed,
    }
}

/// A user as this actor may see it: names for everybody, the rest for `users:read` and the user itself.
fn view(actor: &Actor, picture: &Picture, row: &AnyRow) -> Result<User> {
    let id = PrincipalId(row.try_get(0)?);
    let kind = if row.try_get::<String, _>(1)? == "service" {
        PrincipalKind::Service
    } else {
        PrincipalKind::User
    };
    let mut user = User {
        id,
        name: row.try_get(2)?,
        kind,
        state: state(&row.try_get::<String, _>(4)?),
        display_name: None,
        remote: row.try_get::<i64, _>(5)? == 1,
        groups: Vec::new(),
        roles: Vec::new(),
        created_at: None,
        last_seen_at: None,
    };
    if id != actor.id && actor.may(Permission::UsersRead, &Target::default()).is_none() {
        return Ok(user);
    }
    user.display_name = row.try_get(3)?;
    user.created_at = Some(Time(row.try_get(6)?));
    user.last_seen_at = row.try_get::<Option<i64>, _>(7)?.map(Time);
    user.roles = picture.assignments_of(id);
    Ok(user)
}

/// One user by name or id. Removed ones only for those with `users:read`.
pub async fn get(actor: &Actor, which: &str) -> std::result::Result<User, Refusal> {
    let missing = || Refusal::NotFound {
        what: "user",
        which: which.to_owned(),
    };
    let id = actor.picture().find_principal(which).ok_or_else(missing)?;
    let sql = format!("SELECT {COLUMNS} FROM principals WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?
        .ok_or_else(missing)?;
    let user = view(actor, actor.picture(), &row)?;
    let full = id == actor.id || actor.may(Permission::UsersRead, &Target::default()).is_some();
    if !full && user.state != UserState::Active {
        return Err(missing());
    }
    Ok(user)
}

/// By id, oldest first. `all`: deactivated and removed ones too (needs `users:read`, else the word is ignored).
pub async fn list(actor: &Actor, kind: Option<PrincipalKind>, all: bool, after: i64, limit: i64) -> Result<Page<User>> {
    let full = actor.may(Permission::UsersRead, &Target::default()).is_some();
    let states = match (full, all) {
        (true, true) => "'pending', 'active', 'deactivated', 'removed'",
        (true, false) => "'pending', 'active'",
        (false, _) => "'active'",
    };
    let kinds = match kind {
        Some(PrincipalKind::Service) => "'service'",
        Some(PrincipalKind::User) => "'user'",
        None => "'user', 'service'",
    };
    let limit = limit.clamp(1, 1000);
    let sql = format!(
        "SELECT {COLUMNS} FROM principals WHERE id > $1 AND state IN ({states}) AND kind IN ({kinds}) ORDER BY id LIMIT {}",
        limit + 1
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(after)
        .fetch_all(&actor.db().read)
        .await?;
    let mut items = rows
        .iter()
        .map(|row| view(actor, actor.picture(), row))
        .collect::<Result<Vec<_>>>()?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = more.then(|| items.last().map(|user| user.id.to_string())).flatten();
    Ok(Page { items, next })
}

/// What goes wrong when a user is made, besides refusals.
pub enum CreateError {
    Refused(Refusal),
    Invalid(String),
    Taken(String),
}

impl<T: Into<Refusal>> From<T> for CreateError {
    fn from(error: T) -> Self {
        CreateError::Refused(error.into())
    }
}

/// Makes a user: active with a password hash, else pending. `link_hash` is the stored form of its activation link.
pub async fn create(
    by: &Granted<permit::UsersCreate>,
    new: &NewUser,
    password_hash: Option<&str>,
    link: Option<(&str, Time)>,
) -> std::result::Result<PrincipalId, CreateError> {
    check_username(&new.name).map_err(CreateError::Invalid)?;
    if new.display_name.as_ref().is_some_and(|name| name.chars().count() > 255) {
        return Err(CreateError::Invalid(
            "the display name is longer than 255 characters".into(),
        ));
    }
    let actor = &by.actor;
    let role = new
        .role
        .as_deref()
        .map(|role| role_at(actor, role, new.workspace.as_deref()))
        .transpose()?;
    let mut work = by.begin().await?;
    let now = actor.now();
    let state = if password_hash.is_some() { "active" } else { "pending" };
    let id = insert(
        &mut work,
        "user",
        &new.name,
        new.display_name.as_deref(),
        state,
        role.is_some(),
        password_hash,
        now,
    )
    .await?;
    let mut touched = vec![Touched::Principal(id)];
    if let Some((name, scope)) = &role {
        let assigned = assign(&mut work, Some(id.0), None, name, scope_columns(*scope), 0, now.0).await?;
        touched.push(Touched::Assignment(assigned));
    }
    if let Some((hash, expires)) = link {
        crate::credentials::insert(&mut work, id, "link", hash, "activation link", now, Some(expires)).await?;
    }
    let detail = serde_json::json!({"after": {"state": state, "role": role.map(|(name, scope)| format!("{name} at {scope:?}"))}});
    audit::write(
        &mut work,
        actor,
        Entry::of::<permit::UsersCreate>("create", "user", &new.name).with(detail),
    )
    .await?;
    work.touches(&touched).await?;
    work.commit().await?;
    Ok(id)
}

/// Makes a service account that may serve some queues, with its first API key.
pub async fn create_service_account(
    by: &Granted<permit::ServiceAccountsCreate>,
    name: &str,
    serve: &[QueueId],
    key_hash: &str,
) -> std::result::Result<(PrincipalId, bailiwick_api::TokenId), CreateError> {
    check_username(name).map_err(CreateError::Invalid)?;
    let actor = &by.actor;
    for queue in serve {
        let role = actor
            .picture()
            .find_role("QueueAgent")
            .and_then(|id| actor.picture().role(id));
        let role = role.ok_or_else(|| CreateError::Invalid("the role QueueAgent has been deleted".into()))?;
        let target = crate::access::queue_target(*queue);
        if let Some(missing) = actor.missing_to_grant(role.permissions, &target) {
            return Err(actor.forbidden(missing, &target).into());
        }
    }
    let mut work = by.begin().await?;
    let now = actor.now();
    let id = insert(&mut work, "service", name, None, "active", true, None, now).await?;
    let mut touched = vec![Touched::Principal(id)];
    for queue in serve {
        let assigned = assign(&mut work, Some(id.0), None, "QueueAgent", ("queue", queue.0), 0, now.0).await?;
        touched.push(Touched::Assignment(assigned));
    }
    let token = crate::credentials::insert(&mut work, id, "key", key_hash, "first key", now, None).await?;
    let queues: Vec<i64> = serve.iter().map(|queue| queue.0).collect();
    let detail = serde_json::json!({"after": {"serves_queues": queues}});
    let entry = Entry::of::<permit::ServiceAccountsCreate>("create", "service account", name);
    audit::write(&mut work, actor, entry.with(detail)).await?;
    work.touches(&touched).await?;
    work.commit().await?;
    Ok((id, token))
}

#[expect(clippy::too_many_arguments, reason = "one row")]
async fn insert(
    work: &mut Work,
    kind: &str,
    name: &str,
    display_name: Option<&str>,
    state: &str,
    own_roles_only: bool,
    password_hash: Option<&str>,
    now: Time,
) -> std::result::Result<PrincipalId, CreateError> {
    let inserted = sqlx::query_scalar::<_, i64>(
        "INSERT INTO principals (kind, name, name_key, display_name, state, own_roles_only, password_hash, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
    )
    .bind(kind)
    .bind(name)
    .bind(name_key(name))
    .bind(display_name)
    .bind(state)
    .bind(i64::from(own_roles_only))
    .bind(password_hash)
    .bind(now.0)
    .fetch_one(&mut ***work)
    .await
    .map_err(StoreError::from);
    match inserted {
        Ok(id) => Ok(PrincipalId(id)),
        Err(StoreError::Conflict(_)) => Err(CreateError::Taken(format!(
            "there is already a user or service account `{name}` (letter case does not matter)"
        ))),
        Err(other) => Err(other.into()),
    }
}

/// The role by name, where it is to hold, and that this actor may hand it out there.
fn role_at(actor: &Actor, role: &str, workspace: Option<&str>) -> std::result::Result<(String, Scope), CreateError> {
    let picture = actor.picture();
    let name = if role == "admin" { "ClusterAdmin" } else { role };
    let Some(role) = picture.find_role(name).and_then(|id| picture.role(id)) else {
        return Err(CreateError::Invalid(picture.no_role(name)));
    };
    let scope = match (role.permissions.is_global_only(), workspace) {
        (true, None) => Scope::Global,
        (true, Some(_)) => {
            return Err(CreateError::Invalid(format!(
                "the role {} can only be assigned globally: leave the workspace out",
                role.name
            )));
        }
        (false, workspace) => {
            let workspace = workspace.unwrap_or("default");
            let found = picture.find_workspace(workspace);
            Scope::Workspace(found.ok_or_else(|| CreateError::Invalid(format!("there is no workspace `{workspace}`")))?)
        }
    };
    let target = match scope {
        Scope::Workspace(id) => Target::workspace(id),
        _ => Target::default(),
    };
    if let Some(missing) = actor.missing_to_grant(role.permissions, &target) {
        return Err(actor.forbidden(missing, &target).into());
    }
    Ok((role.name.clone(), scope))
}

/// What may be done to the life of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Deactivate,
    Activate,
    Remove,
}

pub enum LifeError {
    Refused(Refusal),
    /// It would leave the installation without an active ClusterAdmin, or does not fit the state.
    Conflict(String),
}

impl<T: Into<Refusal>> From<T> for LifeError {
    fn from(error: T) -> Self {
        LifeError::Refused(error.into())
    }
}

/// Deactivates, activates or removes. Ending a life ends every credential at once and for good.
pub async fn change_life<P: Permit>(
    by: &Granted<P>,
    id: PrincipalId,
    name: &str,
    kind: PrincipalKind,
    life: Life,
) -> std::result::Result<(), LifeError> {
    let mut work = by.begin().await?;
    // Taken first: two administrators who remove each other at the same moment go one after the other.
    work.touches(&[Touched::Principal(id)]).await?;
    let row = sqlx::query("SELECT state, password_hash FROM principals WHERE id = $1")
        .bind(id.0)
        .fetch_one(&mut **work)
        .await?;
    let before = state(&row.try_get::<String, _>(0)?);
    let has_password = row.try_get::<Option<String>, _>(1)?.is_some();
    let after = match (life, before) {
        (_, UserState::Removed) => return Err(LifeError::Conflict(format!("`{name}` has been removed"))),
        (Life::Activate, UserState::Deactivated) if has_password || kind == PrincipalKind::Service => UserState::Active,
        (Life::Activate, UserState::Deactivated) => UserState::Pending,
        (Life::Activate, UserState::Active) => return Err(LifeError::Conflict(format!("`{name}` is active already"))),
        (Life::Activate, UserState::Pending) => {
            return Err(LifeError::Conflict(format!(
                "`{name}` becomes active by using the activation link; make a new one with `ml user link {name}`"
            )));
        }
        (Life::Deactivate, UserState::Deactivated) => {
            return Err(LifeError::Conflict(format!("`{name}` is deactivated already")));
        }
        (Life::Deactivate, _) => UserState::Deactivated,
        (Life::Remove, _) => UserState::Removed,
    };
    if after != UserState::Active && kind == PrincipalKind::User && is_last_admin(&mut work, id).await? {
        return Err(LifeError::Conflict(format!(
            "`{name}` is the last active ClusterAdmin; give that role to another user first"
        )));
    }
    sqlx::query("UPDATE principals SET state = $1 WHERE id = $2")
        .bind(after.name())
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    if life != Life::Activate {
        sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE principal_id = $2 AND revoked_at IS NULL")
            .bind(by.actor.now().0)
            .bind(id.0)
            .execute(&mut **work)
            .await?;
        // The tokens of jobs that run; the jobs themselves go on.
        sqlx::query("UPDATE jobs SET token_hash = NULL WHERE token_hash IS NOT NULL AND experiment_id IN (SELECT id FROM experiments WHERE owner_id = $1)")
            .bind(id.0)
            .execute(&mut **work)
            .await?;
    }
    if life == Life::Remove {
        let assigned: Vec<i64> = sqlx::query_scalar("DELETE FROM assignments WHERE principal_id = $1 RETURNING id")
            .bind(id.0)
            .fetch_all(&mut **work)
            .await?;
        let assigned: Vec<Touched> = assigned
            .into_iter()
            .map(|id| Touched::Assignment(AssignmentId(id)))
            .collect();
        work.touches(&assigned).await?;
        sqlx::query("DELETE FROM group_members WHERE principal_id = $1")
            .bind(id.0)
            .execute(&mut **work)
            .await?;
        sqlx::query("UPDATE principals SET password_hash = NULL WHERE id = $1")
            .bind(id.0)
            .execute(&mut **work)
            .await?;
    }
    let verb = match life {
        Life::Deactivate => "deactivate",
        Life::Activate => "activate",
        Life::Remove => "remove",
    };
    let what = if kind == PrincipalKind::Service {
        "service account"
    } else {
        "user"
    };
    let detail = serde_json::json!({"before": {"state": before}, "after": {"state": after}});
    audit::write(&mut work, &by.actor, Entry::of::<P>(verb, what, name).with(detail)).await?;
    work.commit().await?;
    Ok(())
}

async fn is_last_admin(work: &mut Work, id: PrincipalId) -> Result<bool> {
    // Users who are active ClusterAdmins globally, themselves or through a group, without an end.
    const ADMINS: &str = "SELECT p.id FROM principals p WHERE p.state = 'active' AND p.kind = 'user' AND EXISTS (
        SELECT 1 FROM assignments a JOIN roles r ON r.id = a.role_id
        WHERE r.name = 'ClusterAdmin' AND a.scope_kind = 'global' AND a.expires_at IS NULL
          AND (a.principal_id = p.id OR a.group_id IN (SELECT group_id FROM group_members WHERE principal_id = p.id)))";
    let admins: Vec<i64> = sqlx::query_scalar(ADMINS).fetch_all(&mut ***work).await?;
    Ok(admins == [id.0])
}

/// Sets a password. Other sessions of the user end; API keys stay.
pub async fn set_password<P: Permit>(
    by: &Granted<P>,
    id: PrincipalId,
    name: &str,
    hash: &str,
) -> std::result::Result<(), Refusal> {
    let mut work = by.begin().await?;
    sqlx::query("UPDATE principals SET password_hash = $1 WHERE id = $2 AND state <> 'removed'")
        .bind(hash)
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    let keep = by
        .actor
        .credential
        .filter(|_| by.actor.id == id)
        .map_or(0, |credential| credential.0);
    sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE principal_id = $2 AND kind IN ('session', 'link') AND revoked_at IS NULL AND id <> $3")
        .bind(by.actor.now().0)
        .bind(id.0)
        .bind(keep)
        .execute(&mut **work)
        .await?;
    // A pending user for whom an administrator sets the password needs no link any more.
    sqlx::query("UPDATE principals SET state = 'active' WHERE id = $1 AND state = 'pending'")
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    audit::write(&mut work, &by.actor, Entry::of::<P>("change-password", "user", name)).await?;
    work.touches(&[Touched::Principal(id)]).await?;
    work.commit().await?;
    Ok(())
}

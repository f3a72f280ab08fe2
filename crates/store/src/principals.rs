//! Users and service accounts.

use std::collections::HashMap;

use bailiwick_access::{Scope, Target};
use bailiwick_api::names::{LABEL_MAX, check_email, check_text, check_username, name_key};
use bailiwick_api::permission::{Permit, RolePermissions, permit};
use bailiwick_api::users::{ChangeServiceAccount, ChangeUser, NewUser, PrincipalKind, ServiceAccount, User, UserState};
use bailiwick_api::{AssignmentId, GroupId, Page, Permission, PermissionSet, PrincipalId, QueueId, Time};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Access, Actor, Granted, JOB_READS, Picture, Refusal, Touched, Work, scope_columns};
use crate::assignments::{is_last_admin_gone, place};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, col, id_list};
use crate::requests::withdraw_all;
use crate::seats;
use crate::start::assign;
use crate::vaults;

const COLUMNS: &str = "id, kind, name, display_name, state, remote, created_at, last_seen_at, email";

/// What sign-in needs to know of a name.
pub struct SignIn {
    pub id: PrincipalId,
    pub name: String,
    pub state: UserState,
    pub password_hash: Option<String>,
}

/// By name or e-mail address, for the sign-in alone: nobody has been recognised yet.
pub async fn find_for_sign_in(access: &Access, name: &str) -> Result<Option<SignIn>> {
    let row = sqlx::query(
        "SELECT id, name, state, password_hash FROM principals
         WHERE (name_key = $1 OR email_key = $1) AND state <> 'removed' AND kind = 'user' AND remote = 0
         ORDER BY CASE WHEN name_key = $1 THEN 0 ELSE 1 END LIMIT 1",
    )
    .bind(name_key(name))
    .fetch_optional(&access.db.read)
    .await?;
    row.map(|row| {
        Ok(SignIn {
            id: PrincipalId(col(&row, "id")?),
            name: col(&row, "name")?,
            state: read_state(&col::<String>(&row, "state")?),
            password_hash: col(&row, "password_hash")?,
        })
    })
    .transpose()
}

/// Where a link for this user is to be sent. For whoever has just made one, be it that he does not read users.
pub async fn email(by: &Granted<impl Permit>, id: PrincipalId) -> Result<Option<String>> {
    let row = sqlx::query("SELECT email FROM principals WHERE id = $1").bind(id.0);
    let row = row.fetch_optional(&by.db().read).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

/// Whether a user has a password, to know if a change must prove the old one.
pub async fn password_hash(actor: &Actor, id: PrincipalId) -> Result<Option<String>> {
    let row = sqlx::query("SELECT password_hash FROM principals WHERE id = $1")
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

pub(crate) fn read_state(text: &str) -> UserState {
    match text {
        "pending" => UserState::Pending,
        "active" => UserState::Active,
        "deactivated" => UserState::Deactivated,
        _ => UserState::Removed,
    }
}

/// Whether all is told of those of this kind. Service accounts are told to whoever may read them, and to whoever reads users.
fn reads(actor: &Actor, kind: PrincipalKind) -> bool {
    let may = |permission| actor.may(permission, &Target::default()).is_some();
    may(Permission::UsersRead) || kind == PrincipalKind::Service && may(Permission::ServiceAccountsRead)
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
        state: read_state(&row.try_get::<String, _>(4)?),
        display_name: None,
        email: None,
        remote: row.try_get::<i64, _>(5)? == 1,
        groups: Vec::new(),
        roles: Vec::new(),
        created_at: None,
        last_seen_at: None,
    };
    if id != actor.id && !reads(actor, kind) {
        return Ok(user);
    }
    user.display_name = row.try_get(3)?;
    user.email = row.try_get(8)?;
    user.created_at = Some(Time(row.try_get(6)?));
    user.last_seen_at = row.try_get::<Option<i64>, _>(7)?.map(Time);
    // Whoever has been removed belongs to nothing any more, not even to `Users`.
    if user.state == UserState::Removed {
        return Ok(user);
    }
    user.roles = picture.assignments_of(id);
    let users = picture.users_group();
    let groups: Vec<GroupId> = picture.world().groups_of(id).to_vec();
    let groups = groups.into_iter().filter(|group| *group != users);
    user.groups = groups.map(|group| picture.group_name(group).to_string()).collect();
    user.groups.sort();
    Ok(user)
}

/// One user by name or id. Removed ones only for those with `users:read`.
pub async fn get(actor: &Actor, which: &str) -> std::result::Result<User, Refusal> {
    let missing = || Refusal::NotFound {
        what: "user",
        which: which.to_owned(),
    };
    // What is not there is looked for as well, and what may not be seen is not found: the time tells neither from the other.
    let id = actor.picture().find_principal(which).unwrap_or(PrincipalId(0));
    let full = id == actor.id || actor.may(Permission::UsersRead, &Target::default()).is_some();
    let seen = if full { "" } else { " AND state = 'active'" };
    let sql = format!("SELECT {COLUMNS} FROM principals WHERE id = $1{seen}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?
        .ok_or_else(missing)?;
    Ok(view(actor, actor.picture(), &row)?)
}

/// A user whom this actor has just changed, as far as it may see users: that there is one, in whatever state, it knows.
pub async fn get_changed(actor: &Actor, id: PrincipalId) -> std::result::Result<User, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM principals WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0);
    let row = row.fetch_one(&actor.db().read).await?;
    Ok(view(actor, actor.picture(), &row)?)
}

/// Which users or service accounts to list.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub kind: PrincipalKind,
    /// Deactivated and removed ones too (needs `users:read`, else the word is ignored).
    pub all: bool,
    /// Only those in this state, whatever `all` says.
    pub state: Option<UserState>,
    /// Only those whose name holds this text, or whose display name does, where that may be seen.
    pub text: Option<&'a str>,
    pub after: i64,
    pub limit: i64,
}

/// By id, oldest first.
pub async fn list(actor: &Actor, wanted: &Wanted<'_>) -> Result<Page<User>> {
    let full = reads(actor, wanted.kind);
    let may_be = match (full, wanted.all || wanted.state.is_some()) {
        (true, true) => "'pending', 'active', 'deactivated', 'removed'",
        (true, false) => "'pending', 'active'",
        (false, _) => "'active'",
    };
    let kind = match wanted.kind {
        PrincipalKind::Service => "service",
        PrincipalKind::User => "user",
    };
    let mut conditions = format!("id > $1 AND state IN ({may_be}) AND kind = '{kind}'");
    if let Some(state) = wanted.state {
        conditions.push_str(&format!(" AND state = '{}'", state.name()));
    }
    if wanted.text.is_some() {
        // Nobody finds out a display name or an address by looking for it.
        conditions.push_str(match full {
            true => r" AND (name_key LIKE $2 ESCAPE '\' OR LOWER(display_name) LIKE $2 ESCAPE '\' OR email_key LIKE $2 ESCAPE '\')",
            false => r" AND name_key LIKE $2 ESCAPE '\'",
        });
    }
    let limit = wanted.limit.clamp(1, 1000);
    let sql = format!(
        "SELECT {COLUMNS} FROM principals WHERE {conditions} ORDER BY id LIMIT {}",
        limit + 1
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(wanted.after);
    if let Some(text) = wanted.text {
        query = query.bind(holding(text));
    }
    let rows = query.fetch_all(&actor.db().read).await?;
    let mut items = rows
        .iter()
        .map(|row| view(actor, actor.picture(), row))
        .collect::<Result<Vec<_>>>()?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = more.then(|| items.last().map(|user| user.id.to_string())).flatten();
    Ok(Page { items, next })
}

/// The pattern of names that hold this text; its own `%` and `_` stand for themselves.
pub(crate) fn holding(text: &str) -> String {
    let key = name_key(text);
    format!("%{}%", key.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_"))
}

/// The same users as service accounts: what only these have.
pub async fn accounts<P: Permit>(by: &Granted<P>, users: Vec<User>) -> Result<Vec<ServiceAccount>> {
    let sql = format!(
        "SELECT p.id, p.impersonates, (SELECT COUNT(*) FROM credentials c
           WHERE c.principal_id = p.id AND c.kind = 'key' AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $1))
         FROM principals p WHERE p.kind = 'service' AND p.id IN ({})",
        id_list(users.iter().map(|user| user.id.0))
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(by.actor.now().0);
    let mut more = HashMap::new();
    for row in rows.fetch_all(&by.db().read).await? {
        let (impersonates, credentials): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        more.insert(row.try_get::<i64, _>(0)?, (impersonates == 1, credentials));
    }
    let with_more = |user: User| {
        let (impersonates, credentials) = *more.get(&user.id.0)?;
        Some(ServiceAccount {
            user,
            impersonates,
            credentials,
        })
    };
    Ok(users.into_iter().filter_map(with_more).collect())
}

/// The user behind a service account, by name or id.
pub async fn find_account(actor: &Actor, which: &str) -> std::result::Result<User, Refusal> {
    let missing = |which: &str| Refusal::NotFound {
        what: "service account",
        which: which.to_owned(),
    };
    match get(actor, which).await {
        Ok(user) if user.kind == PrincipalKind::Service => Ok(user),
        Ok(user) => Err(missing(&user.name)),
        Err(Refusal::NotFound { which, .. }) => Err(missing(&which)),
        Err(refusal) => Err(refusal),
    }
}

/// One service account by name or id.
pub async fn account(
    by: &Granted<permit::ServiceAccountsRead>,
    which: &str,
) -> std::result::Result<ServiceAccount, Refusal> {
    by.actor.access.keep_last_used().await?;
    let user = find_account(&by.actor, which).await?;
    let found = accounts(by, vec![user]).await?;
    Ok(found.into_iter().next().expect("it is a service account"))
}

/// Oldest first, as [`list`].
pub async fn list_accounts(
    by: &Granted<permit::ServiceAccountsRead>,
    wanted: &Wanted<'_>,
) -> Result<Page<ServiceAccount>> {
    by.actor.access.keep_last_used().await?;
    let Page { items, next } = list(&by.actor, wanted).await?;
    let items = accounts(by, items).await?;
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

pub fn check_display_name(name: &str) -> std::result::Result<(), CreateError> {
    check_text("the display name", name, LABEL_MAX).map_err(CreateError::Invalid)
}

/// Makes a user: active with a password hash or a remote one, else pending. `link` is the stored form of the activation link and its end.
pub async fn create(
    by: &Granted<permit::UsersCreate>,
    new: &NewUser,
    password_hash: Option<&str>,
    link: Option<(&str, Time)>,
) -> std::result::Result<PrincipalId, CreateError> {
    check_username(&new.name).map_err(CreateError::Invalid)?;
    check_display_name(new.display_name.as_deref().unwrap_or_default())?;
    if let Some(email) = &new.email {
        check_email(email).map_err(CreateError::Invalid)?;
    }
    let actor = &by.actor;
    let role = new
        .role
        .as_deref()
        .map(|role| role_at(actor, role, new.workspace.as_deref()))
        .transpose()?;
    let mut work = by.begin().await?;
    // Before anything is counted.
    work.touches(&[]).await?;
    let now = actor.now();
    let state = if password_hash.is_some() || new.remote {
        UserState::Active
    } else {
        UserState::Pending
    };
    let row = NewRow {
        kind: "user",
        name: &new.name,
        email: new.email.as_deref(),
        display_name: new.display_name.as_deref().filter(|name| !name.is_empty()),
        state,
        remote: new.remote,
        own_roles_only: role.is_some(),
        password_hash,
    };
    let id = insert(&mut work, &row, now).await?;
    if let Some(why) = seats::lacking(&mut work).await? {
        return Err(CreateError::Taken(why));
    }
    let mut touched = vec![Touched::Principal(id)];
    if let Some((name, scope)) = &role {
        let assigned = assign(&mut work, Some(id.0), None, name, scope_columns(*scope), 0, now.0).await?;
        touched.push(Touched::Assignment(assigned));
    }
    if let Some((hash, expires)) = link {
        crate::credentials::insert_link(&mut work, actor, id, hash, expires, true).await?;
    }
    let detail = serde_json::json!({"after": {"state": state, "email": new.email, "remote": new.remote, "role": role.map(|(name, scope)| format!("{name} {}", place(actor.picture(), scope)))}});
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

/// Makes a service account that may serve some queues, with its first API key and the end of that.
pub async fn create_service_account(
    by: &Granted<permit::ServiceAccountsCreate>,
    name: &str,
    serve: &[QueueId],
    impersonates: bool,
    key_hash: &str,
) -> std::result::Result<(bailiwick_api::TokenId, Option<Time>), CreateError> {
    check_username(name).map_err(CreateError::Invalid)?;
    let actor = &by.actor;
    if impersonates {
        may_let_impersonate(actor)?;
    }
    for queue in serve {
        let role = actor
            .picture()
            .find_role("QueueAgent")
            .and_then(|id| actor.picture().role(id));
        let role = role.ok_or_else(|| CreateError::Invalid("the role QueueAgent has been deleted".into()))?;
        let target = crate::access::queue_target(*queue);
        if let Some(missing) = actor.missing_to_grant(role.permissions, &target, None) {
            return Err(actor.forbidden(missing, &target).into());
        }
    }
    let mut work = by.begin().await?;
    let now = actor.now();
    let row = NewRow {
        kind: "service",
        name,
        email: None,
        display_name: None,
        state: UserState::Active,
        remote: false,
        own_roles_only: !serve.is_empty(),
        password_hash: None,
    };
    let id = insert(&mut work, &row, now).await?;
    if impersonates {
        set_impersonates(&mut work, id, true).await?;
    }
    let mut touched = vec![Touched::Principal(id)];
    for queue in serve {
        let assigned = assign(&mut work, Some(id.0), None, "QueueAgent", ("queue", queue.0), 0, now.0).await?;
        touched.push(Touched::Assignment(assigned));
    }
    let end = crate::credentials::latest_end(actor);
    let token = crate::credentials::insert(&mut work, id, "key", key_hash, "first key", now, end).await?;
    if !serve.is_empty() {
        crate::credentials::narrow(&mut work, token, Some(crate::credentials::agents_part()), None).await?;
    }
    let queues: Vec<i64> = serve.iter().map(|queue| queue.0).collect();
    let detail = serde_json::json!({"after": {"serves_queues": queues, "impersonates": impersonates}});
    let entry = Entry::of::<permit::ServiceAccountsCreate>("create", "service account", name);
    audit::write(&mut work, actor, entry.with(detail)).await?;
    work.touches(&touched).await?;
    work.commit().await?;
    Ok((token, end))
}

/// Jobs of such an account read what their owners may read: nobody lets that happen who may not read all of it himself (`access.md` §4).
fn may_let_impersonate(actor: &Actor) -> std::result::Result<(), Refusal> {
    let role = RolePermissions {
        all: JOB_READS.into_iter().collect(),
        own: PermissionSet::EMPTY,
    };
    match actor.missing_to_hold(role, &Target::default(), None) {
        Some(missing) => Err(actor.forbidden(missing, &Target::default())),
        None => Ok(()),
    }
}

async fn set_impersonates(work: &mut Work, id: PrincipalId, impersonates: bool) -> Result<()> {
    sqlx::query("UPDATE principals SET impersonates = $1 WHERE id = $2")
        .bind(i64::from(impersonates))
        .bind(id.0)
        .execute(&mut ***work)
        .await?;
    Ok(())
}

/// Renames a service account, or lets it impersonate or no more: all that is given, or nothing.
pub async fn change_account(
    by: &Granted<permit::ServiceAccountsUpdate>,
    id: PrincipalId,
    change: &ChangeServiceAccount,
) -> std::result::Result<(), CreateError> {
    if *change == ChangeServiceAccount::default() {
        return Err(CreateError::Invalid(
            "nothing to change is given: name or impersonate".into(),
        ));
    }
    if let Some(name) = &change.name {
        check_username(name).map_err(CreateError::Invalid)?;
    }
    if change.impersonate == Some(true) {
        may_let_impersonate(&by.actor)?;
    }
    let mut work = by.begin().await?;
    work.touches(&[Touched::Principal(id)]).await?;
    let row = sqlx::query("SELECT name, impersonates, state FROM principals WHERE id = $1 AND kind = 'service'")
        .bind(id.0)
        .fetch_one(&mut **work)
        .await?;
    let (before, impersonated): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    if row.try_get::<&str, _>(2)? == "removed" {
        return Err(CreateError::Taken(format!("`{before}` has been removed")));
    }
    let after = change.name.as_ref().unwrap_or(&before);
    let impersonates = change.impersonate.unwrap_or(impersonated == 1);
    must_be_free(&mut work, id, after, None).await?;
    sqlx::query("UPDATE principals SET name = $1, name_key = $2 WHERE id = $3")
        .bind(after)
        .bind(name_key(after))
        .bind(id.0)
        .execute(&mut **work)
        .await
        .map_err(|why| taken(why, after))?;
    set_impersonates(&mut work, id, impersonates).await?;
    if impersonated == 1 && !impersonates {
        // For good: what ended does not come back when the account may impersonate again.
        sqlx::query("UPDATE jobs SET token_hash = NULL WHERE as_owner = 1 AND token_hash IS NOT NULL AND agent_id IN (SELECT id FROM agents WHERE principal_id = $1)")
            .bind(id.0)
            .execute(&mut **work)
            .await?;
    }
    let detail = serde_json::json!({
        "before": {"name": before, "impersonates": impersonated == 1},
        "after": {"name": after, "impersonates": impersonates},
    });
    let entry = Entry::of::<permit::ServiceAccountsUpdate>("update", "service account", &before);
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(())
}

struct NewRow<'a> {
    kind: &'a str,
    name: &'a str,
    email: Option<&'a str>,
    display_name: Option<&'a str>,
    state: UserState,
    remote: bool,
    own_roles_only: bool,
    password_hash: Option<&'a str>,
}

async fn insert(work: &mut Work, new: &NewRow<'_>, now: Time) -> std::result::Result<PrincipalId, CreateError> {
    must_be_free(work, PrincipalId(0), new.name, new.email).await?;
    let inserted = sqlx::query_scalar::<_, i64>(
        "INSERT INTO principals (kind, name, name_key, display_name, state, remote, own_roles_only, password_hash, created_at, email, email_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
    )
    .bind(new.kind)
    .bind(new.name)
    .bind(name_key(new.name))
    .bind(new.display_name)
    .bind(new.state.name())
    .bind(i64::from(new.remote))
    .bind(i64::from(new.own_roles_only))
    .bind(new.password_hash)
    .bind(now.0)
    .bind(new.email)
    .bind(new.email.map(name_key))
    .fetch_one(&mut ***work)
    .await;
    inserted.map(PrincipalId).map_err(|why| taken(why, new.name))
}

/// Nobody else signs in with this address, and nobody has for an address what is to be this name. That no two have one name is seen by the database itself.
async fn must_be_free(
    work: &mut Work,
    whose: PrincipalId,
    name: &str,
    email: Option<&str>,
) -> std::result::Result<(), CreateError> {
    let sql = "SELECT name FROM principals WHERE state <> 'removed' AND id <> $1 AND (email_key = $2 OR name_key = $2) LIMIT 1";
    if let Some(email) = email {
        let query = sqlx::query_scalar::<_, String>(sql).bind(whose.0).bind(name_key(email));
        if let Some(holder) = query.fetch_optional(&mut ***work).await? {
            return Err(CreateError::Taken(format!(
                "there is already a user with the e-mail address `{email}` (letter case does not matter): {holder}"
            )));
        }
    }
    let sql = "SELECT COUNT(*) FROM principals WHERE state <> 'removed' AND id <> $1 AND email_key = $2";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(whose.0).bind(name_key(name));
    if query.fetch_one(&mut ***work).await? > 0 {
        return Err(CreateError::Taken(format!(
            "`{name}` is the e-mail address of another user, who signs in with it"
        )));
    }
    Ok(())
}

fn taken(error: sqlx::Error, name: &str) -> CreateError {
    match StoreError::from(error) {
        StoreError::Conflict(_) => CreateError::Taken(format!(
            "there is already a user or service account `{name}` (letter case does not matter)"
        )),
        other => other.into(),
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
            let unknown = || CreateError::Invalid(format!("there is no workspace `{workspace}`"));
            let found = picture.find_workspace(workspace).ok_or_else(unknown)?;
            let grants = actor
                .missing_to_grant(role.permissions, &Target::workspace(found), None)
                .is_none();
            if !grants
                && actor
                    .may(Permission::WorkspacesRead, &picture.workspace_target(found))
                    .is_none()
            {
                return Err(unknown());
            }
            Scope::Workspace(found)
        }
    };
    let target = picture.scope_target(scope);
    if let Some(missing) = actor.missing_to_grant(role.permissions, &target, None) {
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
    /// Takes an invitation back that nobody has followed: as [`Life::Remove`], and for pending users alone.
    Withdraw,
}

pub enum LifeError {
    Refused(Refusal),
    /// It would leave the installation without an active administrator, or does not fit the state.
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
    let row = sqlx::query("SELECT state, password_hash, remote FROM principals WHERE id = $1")
        .bind(id.0)
        .fetch_one(&mut **work)
        .await?;
    let before = read_state(&row.try_get::<String, _>(0)?);
    let needs_no_link = row.try_get::<Option<String>, _>(1)?.is_some()
        || row.try_get::<i64, _>(2)? == 1
        || kind == PrincipalKind::Service;
    let after = match (life, before) {
        (_, UserState::Removed) => return Err(LifeError::Conflict(format!("`{name}` has been removed"))),
        (Life::Activate, UserState::Deactivated) => activated(needs_no_link),
        (Life::Activate, UserState::Active) => return Err(LifeError::Conflict(format!("`{name}` is active already"))),
        (Life::Activate, UserState::Pending) => return Err(LifeError::Conflict(awaits_link(name))),
        (Life::Deactivate, UserState::Deactivated) => {
            return Err(LifeError::Conflict(format!("`{name}` is deactivated already")));
        }
        (Life::Deactivate, _) => UserState::Deactivated,
        (Life::Withdraw, state) if state != UserState::Pending => {
            return Err(LifeError::Conflict(format!(
                "`{name}` is {}: only an invitation that nobody has followed can be withdrawn; take the user out with `ml user remove {name}`",
                state.name()
            )));
        }
        (Life::Remove | Life::Withdraw, _) => UserState::Removed,
    };
    sqlx::query("UPDATE principals SET state = $1 WHERE id = $2")
        .bind(after.name())
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    if life == Life::Activate
        && kind == PrincipalKind::User
        && let Some(why) = seats::lacking(&mut work).await?
    {
        return Err(LifeError::Conflict(why));
    }
    if life != Life::Activate {
        end_credentials(&mut work, id).await?;
        withdraw_all(&mut work, &by.actor, id).await?;
        if is_last_admin_gone(&mut work).await? {
            return Err(LifeError::Conflict(last_admin(name)));
        }
    }
    if after == UserState::Removed {
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
        vaults::remove(&mut work, vaults::Of::Principal(id)).await?;
        sqlx::query("UPDATE principals SET password_hash = NULL, email = NULL, email_key = NULL WHERE id = $1")
            .bind(id.0)
            .execute(&mut **work)
            .await?;
    }
    let verb = match life {
        Life::Deactivate => "deactivate",
        Life::Activate => "activate",
        Life::Remove => "remove",
        Life::Withdraw => "withdraw",
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

/// The state of a deactivated user who is let in again.
fn activated(needs_no_link: bool) -> UserState {
    if needs_no_link {
        UserState::Active
    } else {
        UserState::Pending
    }
}

fn awaits_link(name: &str) -> String {
    format!("`{name}` becomes active by using the activation link; make a new one with `ml user link {name}`")
}

fn last_admin(name: &str) -> String {
    format!(
        "`{name}` is the last active administrator with a password here; give another user who has one the role ClusterAdmin first"
    )
}

/// Every session, key and link, for good; and the tokens of jobs that run, be they its own or run by its agents. The jobs themselves go on.
pub(crate) async fn end_credentials(work: &mut Work, id: PrincipalId) -> Result<()> {
    let now = work.now();
    sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE principal_id = $2 AND revoked_at IS NULL")
        .bind(now.0)
        .bind(id.0)
        .execute(&mut ***work)
        .await?;
    for whose in [
        "experiment_id IN (SELECT id FROM experiments WHERE owner_id = $1)",
        "agent_id IN (SELECT id FROM agents WHERE principal_id = $1)",
    ] {
        let sql = format!("UPDATE jobs SET token_hash = NULL WHERE token_hash IS NOT NULL AND {whose}");
        sqlx::query(AssertSqlSafe(sql)).bind(id.0).execute(&mut ***work).await?;
    }
    Ok(())
}

/// Changes a user: all that is given, or nothing. Gives the user as it then is, as far as the change goes.
pub async fn change<P: Permit>(
    by: &Granted<P>,
    user: &User,
    change: &ChangeUser,
) -> std::result::Result<User, CreateError> {
    if *change == ChangeUser::default() {
        return Err(CreateError::Invalid(
            "nothing to change is given: name, display_name, email, remote or active".into(),
        ));
    }
    if let Some(name) = &change.name {
        check_username(name).map_err(CreateError::Invalid)?;
    }
    check_display_name(change.display_name.as_deref().unwrap_or_default())?;
    if let Some(email) = change.email.as_deref().filter(|email| !email.is_empty()) {
        check_email(email).map_err(CreateError::Invalid)?;
    }
    let id = user.id;
    let mut work = by.begin().await?;
    work.touches(&[Touched::Principal(id)]).await?;
    let sql = "SELECT name, display_name, state, remote, password_hash, email FROM principals WHERE id = $1";
    let row = sqlx::query(sql).bind(id.0).fetch_one(&mut **work).await?;
    let before = User {
        name: row.try_get(0)?,
        display_name: row.try_get(1)?,
        state: read_state(&row.try_get::<String, _>(2)?),
        remote: row.try_get::<i64, _>(3)? == 1,
        email: row.try_get(5)?,
        ..user.clone()
    };
    let has_password = row.try_get::<Option<String>, _>(4)?.is_some();
    if before.state == UserState::Removed {
        return Err(CreateError::Taken(format!("`{}` has been removed", before.name)));
    }
    let mut after = before.clone();
    after.name = change.name.clone().unwrap_or(after.name);
    if let Some(display_name) = &change.display_name {
        after.display_name = Some(display_name.clone()).filter(|name| !name.is_empty());
    }
    if let Some(email) = &change.email {
        after.email = Some(email.clone()).filter(|email| !email.is_empty());
    }
    must_be_free(&mut work, id, &after.name, after.email.as_deref()).await?;
    after.remote = change.remote.unwrap_or(after.remote);
    // A remote user waits for no link.
    if after.remote && after.state == UserState::Pending {
        after.state = UserState::Active;
    }
    after.state = match (change.active, after.state) {
        (Some(true), UserState::Deactivated) => activated((has_password && !before.remote) || after.remote),
        (Some(true), UserState::Pending) => return Err(CreateError::Taken(awaits_link(&before.name))),
        (Some(false), _) => UserState::Deactivated,
        (_, state) => state,
    };
    let becomes_remote = after.remote && !before.remote;
    sqlx::query(
        "UPDATE principals SET name = $1, name_key = $2, display_name = $3, state = $4, remote = $5,
         password_hash = CASE WHEN $5 = 1 THEN NULL ELSE password_hash END, email = $7, email_key = $8 WHERE id = $6",
    )
    .bind(&after.name)
    .bind(name_key(&after.name))
    .bind(&after.display_name)
    .bind(after.state.name())
    .bind(i64::from(after.remote))
    .bind(id.0)
    .bind(&after.email)
    .bind(after.email.as_deref().map(name_key))
    .execute(&mut **work)
    .await
    .map_err(|why| taken(why, &after.name))?;
    if seats::takes_one(after.state)
        && !seats::takes_one(before.state)
        && let Some(why) = seats::lacking(&mut work).await?
    {
        return Err(CreateError::Taken(why));
    }
    if after.state == UserState::Deactivated && before.state != UserState::Deactivated {
        end_credentials(&mut work, id).await?;
        withdraw_all(&mut work, &by.actor, id).await?;
    }
    if becomes_remote {
        sqlx::query("UPDATE credentials SET revoked_at = $1 WHERE principal_id = $2 AND kind IN ('session', 'link') AND revoked_at IS NULL")
            .bind(by.actor.now().0)
            .bind(id.0)
            .execute(&mut **work)
            .await?;
    }
    if (becomes_remote || change.active == Some(false)) && is_last_admin_gone(&mut work).await? {
        return Err(CreateError::Taken(last_admin(&before.name)));
    }
    let part = |user: &User| serde_json::json!({"name": user.name, "display_name": user.display_name, "email": user.email, "state": user.state, "remote": user.remote});
    let detail = serde_json::json!({"before": part(&before), "after": part(&after)});
    let entry = Entry::of::<P>("update", "user", &before.name).with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    Ok(after)
}

/// Sets a password. Other sessions of the user end; API keys stay.
pub async fn set_password<P: Permit>(
    by: &Granted<P>,
    id: PrincipalId,
    name: &str,
    hash: &str,
) -> std::result::Result<(), Refusal> {
    let mut work = by.begin().await?;
    let set = "UPDATE principals SET password_hash = $1 WHERE id = $2 AND state <> 'removed' AND remote = 0";
    let found = sqlx::query(set).bind(hash).bind(id.0).execute(&mut **work).await?;
    if found.rows_affected() == 0 {
        // Removed, or made a remote user, at this very moment.
        return Err(Refusal::NotFound {
            what: "user with a password",
            which: name.to_owned(),
        });
    }
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

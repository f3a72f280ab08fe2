//! Roles. What a role holds is no secret; who holds it is.

use bailiwick_access::{ObjectKind, Scope, Target};
use bailiwick_api::names::{check_name, name_key};
use bailiwick_api::permission::{PermissionSet, Reach, RolePermissions, permit};
use bailiwick_api::roles::{AssignmentFilter, NewRole, Role, RoleChange, RoleDeleted, RoleDetail};
use bailiwick_api::{AssignmentId, Page, Permission, RoleId};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Refusal, Work};
use crate::assignments::{self, ChangeError, Changed, check_text};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError};
use crate::picture::{Touched, scope};
use crate::principals::holding;

const COLUMNS: &str = "id, name, description, built_in, permissions";

/// By id: the built-in ones of the first start come first.
pub async fn list(actor: &Actor, text: Option<&str>, after: i64, limit: i64) -> Result<Page<Role>> {
    let limit = limit.clamp(1, 1000);
    let sql = format!(
        r"SELECT {COLUMNS} FROM roles WHERE id > $1 AND name_key LIKE $2 ESCAPE '\' ORDER BY id LIMIT {}",
        limit + 1
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after);
    let rows = rows.bind(holding(text.unwrap_or_default()));
    let rows = rows.fetch_all(&actor.db().read).await?;
    let mut items = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = more.then(|| items.last().map(|role| role.id.to_string())).flatten();
    Ok(Page { items, next })
}

/// One role by name or id, with who holds it as far as this actor may see that.
pub async fn get(actor: &Actor, which: &str) -> Changed<RoleDetail> {
    let missing = || missing(which);
    let id = actor.picture().find_role(which).ok_or_else(missing)?;
    let sql = format!("SELECT {COLUMNS} FROM roles WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    let role = read(&row.ok_or_else(missing)?)?;
    let filter = AssignmentFilter {
        role: Some(id.to_string()),
        limit: Some(1000),
        ..AssignmentFilter::default()
    };
    let held = assignments::list(actor, &filter).await?;
    Ok(RoleDetail {
        role,
        assignments: held.items,
        more: held.next.is_some(),
    })
}

fn missing(which: &str) -> ChangeError {
    ChangeError::Refused(Refusal::NotFound {
        what: "role",
        which: which.to_owned(),
    })
}

fn read(row: &AnyRow) -> Result<Role> {
    let name: String = row.try_get(1)?;
    let (words, permissions) = read_permissions(&name, row.try_get(4)?)?;
    Ok(Role {
        id: RoleId(row.try_get(0)?),
        name,
        description: row.try_get(2)?,
        built_in: row.try_get::<i64, _>(3)? == 1,
        permissions: words,
        global_only: permissions.is_global_only(),
    })
}

/// The permissions of a role as its row has them.
pub(crate) fn read_permissions(name: &str, text: &str) -> Result<(Vec<String>, RolePermissions)> {
    let broken = |why: String| StoreError::Broken(format!("role {name}: {why}"));
    let words: Vec<String> = serde_json::from_str(text).map_err(|why| broken(why.to_string()))?;
    let permissions = RolePermissions::parse(words.iter().map(String::as_str)).map_err(broken)?;
    Ok((words, permissions))
}

fn parse(words: &[String]) -> Changed<RolePermissions> {
    RolePermissions::parse(words.iter().map(String::as_str)).map_err(ChangeError::Invalid)
}

fn check_role_name(name: &str) -> Changed<()> {
    check_name("a role", name).map_err(ChangeError::Invalid)?;
    if name_key(name) == "admin" {
        return Err(ChangeError::Conflict(
            "`admin` is another name of the role ClusterAdmin".into(),
        ));
    }
    Ok(())
}

fn taken(name: &str) -> impl FnOnce(StoreError) -> ChangeError {
    move |why| match why {
        StoreError::Conflict(_) => ChangeError::Conflict(format!(
            "there is already a role `{name}` (letter case does not matter)"
        )),
        other => other.into(),
    }
}

/// Makes a role that nobody holds yet: it may hold more than its maker, since giving it to somebody is another act.
pub async fn create(by: &Granted<permit::RolesCreate>, new: &NewRole) -> Changed<Role> {
    check_role_name(&new.name)?;
    check_text("the description", &new.description)?;
    let permissions = parse(&new.permissions)?;
    let mut work = by.begin().await?;
    let inserted = sqlx::query_scalar::<_, i64>(
        "INSERT INTO roles (name, name_key, description, built_in, permissions) VALUES ($1, $2, $3, 0, $4) RETURNING id",
    )
    .bind(&new.name)
    .bind(name_key(&new.name))
    .bind(&new.description)
    .bind(stored(permissions))
    .fetch_one(&mut **work)
    .await;
    let id = RoleId(inserted.map_err(StoreError::from).map_err(taken(&new.name))?);
    let role = Role {
        id,
        name: new.name.clone(),
        description: new.description.clone(),
        built_in: false,
        permissions: permissions.words(),
        global_only: permissions.is_global_only(),
    };
    let entry = Entry::of::<permit::RolesCreate>("create", "role", &role.name);
    let detail = json!({"after": words(&role)});
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.touches(&[Touched::Role(id)]).await?;
    work.commit().await?;
    Ok(role)
}

fn stored(permissions: RolePermissions) -> String {
    serde_json::to_string(&permissions.words()).expect("a list of words is JSON")
}

fn words(role: &Role) -> Value {
    json!({"name": role.name, "description": role.description, "permissions": role.permissions})
}

/// Changes a role of one's own making. What it gains reaches everybody who holds it, so the changer must hold that wherever the role is assigned.
pub async fn update(by: &Granted<permit::RolesUpdate>, which: &str, change: &RoleChange) -> Changed<Role> {
    let (mut work, actor) = by.actor.begin_in_order().await?;
    still_may(&actor, Permission::RolesUpdate)?;
    let before = find_own_making(&mut work, &actor, which).await?;
    let held = parse(&before.permissions)?;
    let name = change.name.as_ref().unwrap_or(&before.name);
    let description = change.description.as_ref().unwrap_or(&before.description);
    // What stays may be from before a rule.
    if change.name.is_some() {
        check_role_name(name)?;
    }
    if change.description.is_some() {
        check_text("the description", description)?;
    }
    let permissions = changed(&before.name, held, change)?;
    let gains = beyond(permissions, held);
    let loses = beyond(held, permissions) != RolePermissions::default();
    if gains != RolePermissions::default() || loses {
        must_cover(&mut work, &actor, &before, permissions, gains, loses).await?;
    }
    let updated =
        sqlx::query("UPDATE roles SET name = $1, name_key = $2, description = $3, permissions = $4 WHERE id = $5")
            .bind(name)
            .bind(name_key(name))
            .bind(description)
            .bind(stored(permissions))
            .bind(before.id.0)
            .execute(&mut **work)
            .await;
    updated.map_err(StoreError::from).map_err(taken(name))?;
    let role = Role {
        name: name.clone(),
        description: description.clone(),
        permissions: permissions.words(),
        global_only: permissions.is_global_only(),
        ..before.clone()
    };
    let entry = Entry::of::<permit::RolesUpdate>("update", "role", &before.name);
    let detail = json!({"before": words(&before), "after": words(&role)});
    audit::write(&mut work, &actor, entry.with(detail)).await?;
    work.touches(&[Touched::Role(role.id)]).await?;
    work.commit().await?;
    Ok(role)
}

/// Replaced, then taken from, then added to: so that `-r '*' -a X` leaves X.
fn changed(name: &str, held: RolePermissions, change: &RoleChange) -> Changed<RolePermissions> {
    let mut permissions = match &change.permissions {
        Some(words) => parse(words)?,
        None => held,
    };
    for word in &change.remove {
        let (set, reach) = PermissionSet::parse(word).map_err(ChangeError::Invalid)?;
        let before = permissions;
        permissions.own = permissions.own.without(set);
        if reach == Reach::All {
            permissions.all = permissions.all.without(set);
        }
        if permissions == before {
            return Err(ChangeError::Invalid(format!("the role {name} does not hold `{word}`")));
        }
    }
    let more = parse(&change.add)?;
    permissions.all = permissions.all.union(more.all);
    permissions.own = permissions.own.union(more.own).without(permissions.all);
    Ok(permissions)
}

/// What of `more` goes beyond `than`.
pub(crate) fn beyond(more: RolePermissions, than: RolePermissions) -> RolePermissions {
    RolePermissions {
        all: more.all.without(than.all),
        own: more.own.without(than.own).without(than.all),
    }
}

/// Where a role is assigned, as far as that is still there: what is gone gives nothing to anybody.
async fn places(work: &mut Work, actor: &Actor, role: RoleId) -> Result<Vec<(Scope, Target)>> {
    let rows = sqlx::query(
        "SELECT DISTINCT scope_kind, scope_id FROM assignments WHERE role_id = $1 AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind(role.0)
    .bind(actor.now().0)
    .fetch_all(&mut ***work)
    .await?;
    let mut scopes = Vec::with_capacity(rows.len());
    for row in &rows {
        scopes.extend(scope(row.try_get(0)?, row.try_get(1)?));
    }
    scopes.sort();
    let mut places = Vec::with_capacity(scopes.len());
    for scope in scopes {
        places.extend(assignments::target_of(work, scope).await?.map(|target| (scope, target)));
    }
    Ok(places)
}

/// A refusal about a place where a role is assigned; one that this actor may not see is not named.
fn lacks(actor: &Actor, permission: Permission, target: Target) -> ChangeError {
    let seen_by = match (target.object, target.project, target.workspace) {
        (Some((ObjectKind::Experiment, _)), ..) => Permission::ExperimentsRead,
        (Some((ObjectKind::Queue, _)), ..) => Permission::QueuesRead,
        (Some((ObjectKind::Stack, _)), ..) => Permission::StacksRead,
        (Some((ObjectKind::Model, _)), ..) => Permission::ModelsRead,
        (None, Some(_), _) => Permission::ProjectsRead,
        (None, None, Some(_)) => Permission::WorkspacesRead,
        // Everybody knows of the installation.
        (None, None, None) => return ChangeError::Forbidden(permission, target),
    };
    match actor.may(seen_by, &target) {
        Some(_) => ChangeError::Forbidden(permission, target),
        None => ChangeError::ForbiddenSomewhere(permission),
    }
}

/// What a role loses is taken from whoever holds it, and that needs the right to assign there.
fn may_take(actor: &Actor, target: &Target) -> Changed<()> {
    assignments::may_assign(actor, target).map_err(|_| lacks(actor, Permission::RolesAssign, *target))
}

/// That a role may gain and lose permissions wherever it is assigned.
async fn must_cover(
    work: &mut Work,
    actor: &Actor,
    role: &Role,
    permissions: RolePermissions,
    gains: RolePermissions,
    loses: bool,
) -> Changed<()> {
    for (scope, target) in places(work, actor, role.id).await? {
        if scope != Scope::Global && permissions.is_global_only() {
            let place = if actor.may(Permission::RolesRead, &target).is_some() {
                assignments::place(actor.picture(), scope)
            } else {
                "below the whole installation, where you may not look".into()
            };
            return Err(ChangeError::Conflict(format!(
                "the role {} is assigned {place}, and this would give it a permission that can only be assigned globally",
                role.name
            )));
        }
        if let Some(missing) = actor.missing_to_hold(gains, &target, None) {
            return Err(lacks(actor, missing, target));
        }
        if loses {
            may_take(actor, &target)?;
        }
    }
    Ok(())
}

/// Deletes a role of one's own making; with `force` also where it is assigned.
pub async fn delete(by: &Granted<permit::RolesDelete>, which: &str, force: bool) -> Changed<RoleDeleted> {
    let (mut work, actor) = by.actor.begin_in_order().await?;
    still_may(&actor, Permission::RolesDelete)?;
    let role = find_own_making(&mut work, &actor, which).await?;
    let places = places(&mut work, &actor, role.id).await?;
    let ids: Vec<i64> = sqlx::query_scalar("DELETE FROM assignments WHERE role_id = $1 RETURNING id")
        .bind(role.id.0)
        .fetch_all(&mut **work)
        .await?;
    let count = ids.len() as i64;
    if count > 0 && !force {
        let (times, them) = if count == 1 {
            ("once".to_owned(), "that assignment")
        } else {
            (format!("{count} times"), "those assignments")
        };
        return Err(ChangeError::Conflict(format!(
            "the role {} is assigned {times}; take {them} away first, or delete the role with `force`",
            role.name
        )));
    }
    for (_, target) in &places {
        may_take(&actor, target)?;
    }
    sqlx::query("DELETE FROM roles WHERE id = $1")
        .bind(role.id.0)
        .execute(&mut **work)
        .await?;
    let entry = Entry::of::<permit::RolesDelete>("delete", "role", &role.name);
    let detail = json!({"before": words(&role), "assignments": count});
    audit::write(&mut work, &actor, entry.with(detail)).await?;
    let assignments = ids.into_iter().map(|id| Touched::Assignment(AssignmentId(id)));
    let touched: Vec<Touched> = assignments.chain([Touched::Role(role.id)]).collect();
    work.touches(&touched).await?;
    work.commit().await?;
    Ok(RoleDeleted {
        role,
        assignments: count,
    })
}

/// The permission that opened the door still holds by the newest rights.
fn still_may(actor: &Actor, permission: Permission) -> Changed<()> {
    let target = Target::default();
    match actor.may(permission, &target) {
        Some(_) => Ok(()),
        None => Err(ChangeError::Forbidden(permission, target)),
    }
}

/// A role by name or id that is not a built-in one.
async fn find_own_making(work: &mut Work, actor: &Actor, which: &str) -> Changed<Role> {
    let id = actor.picture().find_role(which).ok_or_else(|| missing(which))?;
    let sql = format!("SELECT {COLUMNS} FROM roles WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&mut ***work)
        .await?;
    let role = read(&row.ok_or_else(|| missing(which))?)?;
    if role.built_in {
        return Err(ChangeError::Conflict(format!(
            "{} is a built-in role and stays as it is; a role of your own can hold any permissions",
            role.name
        )));
    }
    Ok(role)
}

//! Groups and who belongs to them. What a group holds, its members hold; so nobody puts others into a group that holds more than he does himself.

use std::collections::BTreeSet;

use bailiwick_access::{Assignment, Holder, Scope, Target};
use bailiwick_api::groups::{ChangeGroup, Group, GroupChange, GroupDetail, GroupMember, NewGroup};
use bailiwick_api::names::{check_name, check_text, name_key};
use bailiwick_api::permission::{RolePermissions, permit};
use bailiwick_api::roles::AssignmentView;
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{GroupId, Page, Permission, PrincipalId, Time};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Refusal, Touched, Work};
use crate::assignments::{LAST_ADMIN, is_last_admin_gone};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, id_list};
use crate::principals::{holding, read_state};
use crate::vaults;

/// How many members a list of groups names.
const NAMES_SHOWN: usize = 5;
/// Most assignments shown beside a group.
const ROLES_SHOWN: usize = 1000;
/// Most names that one audit event holds.
const NAMES_KEPT: usize = 1000;
/// Most users whom one request names.
const USERS_MAX: usize = 10_000;
/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 2000;

const COLUMNS: &str = "g.id, g.name, g.description, g.built_in,
    CASE WHEN g.built_in = 1 AND g.name_key = 'users' THEN (SELECT COUNT(*) FROM principals WHERE state <> 'removed')
    ELSE (SELECT COUNT(*) FROM group_members m WHERE m.group_id = g.id) END";

/// What goes wrong with a group, besides refusals.
pub enum GroupError {
    Refused(Refusal),
    Invalid(String),
    Conflict(String),
    /// Not in the group: the whole sentence.
    NotMember(String),
}

impl<T: Into<Refusal>> From<T> for GroupError {
    fn from(error: T) -> Self {
        GroupError::Refused(error.into())
    }
}

type Outcome<T> = std::result::Result<T, GroupError>;

fn sees_all(actor: &Actor) -> bool {
    actor.may(Permission::GroupsRead, &Default::default()).is_some()
}

/// Whether this actor belongs to the group, and so may know of it.
pub fn is_member(actor: &Actor, group: GroupId) -> bool {
    let picture = actor.picture();
    group == picture.users_group() || picture.world().groups_of(actor.id).contains(&group)
}

/// Whether this actor may know of the group, and of how many belong to it.
pub fn may_see(actor: &Actor, group: GroupId) -> bool {
    is_member(actor, group) || sees_all(actor)
}

/// The group that somebody means to whom a role is to be given or from whom it is to be taken. One that may not be seen is found by its name, which
/// whoever types it knows already, and not by its number, which would tell the name.
pub(crate) fn find_meant(actor: &Actor, text: &str) -> Option<GroupId> {
    let by_name = bailiwick_api::ids::as_number(text).is_none();
    let found = actor.picture().find_group(text);
    found.filter(|id| by_name || may_see(actor, *id))
}

fn view(actor: &Actor, row: &AnyRow) -> Result<Group> {
    let members: i64 = row.try_get(4)?;
    Ok(Group {
        id: GroupId(row.try_get(0)?),
        name: row.try_get(1)?,
        description: row.try_get(2)?,
        built_in: row.try_get::<i64, _>(3)? == 1,
        members: sees_all(actor).then_some(members),
        first_members: Vec::new(),
    })
}

fn member(row: &AnyRow) -> Result<GroupMember> {
    Ok(GroupMember {
        id: PrincipalId(row.try_get(0)?),
        name: row.try_get(1)?,
        kind: if row.try_get::<&str, _>(2)? == "service" {
            PrincipalKind::Service
        } else {
            PrincipalKind::User
        },
        state: read_state(row.try_get(3)?),
    })
}

/// By id, oldest first: all with `groups:read`, else those to which one belongs.
pub async fn list(actor: &Actor, text: Option<&str>, after: i64, limit: i64) -> Result<Page<Group>> {
    let limit = limit.clamp(1, 1000);
    let only = if sees_all(actor) {
        String::new()
    } else {
        let picture = actor.picture();
        let mut own = picture.world().groups_of(actor.id).to_vec();
        own.push(picture.users_group());
        format!(" AND g.id IN ({})", id_list(own.iter().map(|group| group.0)))
    };
    let sql = format!(
        r"SELECT {COLUMNS} FROM groups g WHERE g.id > $1 AND g.name_key LIKE $2 ESCAPE '\'{only} ORDER BY g.id LIMIT {}",
        limit + 1
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(after)
        .bind(holding(text.unwrap_or_default()))
        .fetch_all(&actor.db().read)
        .await?;
    let items = rows.iter().map(|row| view(actor, row)).collect::<Result<Vec<_>>>()?;
    let mut page = paged(items, limit, |group| group.id.0);
    if sees_all(actor) {
        name_first(actor, &mut page.items).await?;
    }
    Ok(page)
}

async fn name_first(actor: &Actor, groups: &mut [Group]) -> Result<()> {
    let users = actor.picture().users_group();
    let sql = format!(
        "SELECT group_id, name FROM (SELECT m.group_id, p.name,
           ROW_NUMBER() OVER (PARTITION BY m.group_id ORDER BY m.principal_id) AS place
           FROM group_members m JOIN principals p ON p.id = m.principal_id WHERE m.group_id IN ({ids})) AS named
         WHERE place <= {NAMES_SHOWN} ORDER BY group_id, place",
        ids = id_list(groups.iter().map(|group| group.id.0))
    );
    let mut named: std::collections::HashMap<i64, Vec<String>> = std::collections::HashMap::new();
    for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await? {
        named.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
    }
    for group in groups {
        group.first_members = match group.id == users {
            true => {
                let sql =
                    format!("SELECT name FROM principals WHERE state <> 'removed' ORDER BY id LIMIT {NAMES_SHOWN}");
                sqlx::query_scalar(AssertSqlSafe(sql))
                    .fetch_all(&actor.db().read)
                    .await?
            }
            false => named.remove(&group.id.0).unwrap_or_default(),
        };
    }
    Ok(())
}

fn paged<T>(mut items: Vec<T>, limit: i64, id: fn(&T) -> i64) -> Page<T> {
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = more.then(|| items.last().map(|item| id(item).to_string())).flatten();
    Page { items, next }
}

async fn get(actor: &Actor, id: GroupId) -> std::result::Result<Group, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM groups g WHERE g.id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    let row = row.ok_or_else(|| missing(id))?;
    Ok(view(actor, &row)?)
}

/// Somebody else has just deleted it.
fn missing(id: GroupId) -> Refusal {
    Refusal::NotFound {
        what: "group",
        which: id.to_string(),
    }
}

/// One group with what it holds and, a page at a time, who belongs to it. Whether the actor may know of the group is the caller's question.
pub async fn detail(
    actor: &Actor,
    id: GroupId,
    text: Option<&str>,
    after: i64,
    limit: i64,
) -> std::result::Result<GroupDetail, Refusal> {
    let limit = limit.clamp(1, 1000);
    let group = get(actor, id).await?;
    let everybody = id == actor.picture().users_group();
    let sql = match (everybody, sees_all(actor)) {
        (true, true) => {
            r"SELECT id, name, kind, state FROM principals WHERE state <> 'removed' AND id > $1 AND name_key LIKE $2 ESCAPE '\' ORDER BY id".into()
        }
        (false, true) => format!(
            r"SELECT p.id, p.name, p.kind, p.state FROM group_members m JOIN principals p ON p.id = m.principal_id
             WHERE m.group_id = {id} AND m.principal_id > $1 AND p.name_key LIKE $2 ESCAPE '\' ORDER BY m.principal_id"
        ),
        (_, false) => format!(
            r"SELECT id, name, kind, state FROM principals WHERE id = {} AND id > $1 AND name_key LIKE $2 ESCAPE '\'",
            actor.id
        ),
    };
    let sql = format!("{sql} LIMIT {}", limit + 1);
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(after)
        .bind(holding(text.unwrap_or_default()))
        .fetch_all(&actor.db().read)
        .await?;
    let members = rows.iter().map(member).collect::<Result<Vec<_>>>()?;
    Ok(GroupDetail {
        group,
        roles: roles(actor, id),
        members: paged(members, limit, |member| member.id.0),
    })
}

/// What the group holds now, as far as this actor may see it.
fn roles(actor: &Actor, id: GroupId) -> Vec<AssignmentView> {
    let picture = actor.picture();
    let now = actor.now().0;
    let mut held: Vec<_> = {
        let world = picture.world();
        let held = world.assignments_held_by(Holder::Group(id));
        held.filter(|one| one.expires.is_none_or(|end| now < end))
            .cloned()
            .collect()
    };
    held.sort_by_key(|one| one.id);
    let belongs = is_member(actor, id);
    held.retain(|one| {
        belongs
            || actor
                .may(Permission::RolesRead, &picture.scope_target(one.scope))
                .is_some()
    });
    held.truncate(ROLES_SHOWN);
    let view = |one: Assignment| AssignmentView {
        id: one.id,
        role: picture.role_name(one.role).to_string(),
        scope: picture.scope_view(one.scope),
        through_group: None,
        until: one.expires.map(Time),
    };
    held.into_iter().map(view).collect()
}

/// The ids of those named, each once. Whom the actor may not know of is as unknown as who is not there; all unknown names stand in the refusal.
fn named(actor: &Actor, names: &[String]) -> Outcome<Vec<PrincipalId>> {
    if names.len() > USERS_MAX {
        return Err(GroupError::Invalid(format!(
            "more than {USERS_MAX} users are named: do it in several requests"
        )));
    }
    let picture = actor.picture();
    let full = actor.may(Permission::UsersRead, &Default::default()).is_some();
    let known = |name: &String| {
        let id = picture.find_principal(name)?;
        let removed = picture.principal(id)?.removed;
        (!removed && (full || picture.world().is_active(id))).then_some(id)
    };
    let mut ids = BTreeSet::new();
    let mut unknown: Vec<&str> = Vec::new();
    for name in names {
        match known(name) {
            Some(id) => drop(ids.insert(id)),
            None => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(ids.into_iter().collect());
    }
    Err(GroupError::Refused(Refusal::NotFound {
        what: "user",
        which: unknown.join("`, `"),
    }))
}

/// Putting somebody into the group hands out what it holds: the actor must hold all of that, with at least the same reach, where the group holds it.
fn must_hold_what_it_gives(actor: &Actor, id: GroupId) -> std::result::Result<(), Refusal> {
    let picture = actor.picture();
    let now = actor.now().0;
    let given: Vec<(RolePermissions, Scope, Option<Time>)> = {
        let world = picture.world();
        let live = world
            .assignments_held_by(Holder::Group(id))
            .filter(|one| one.expires.is_none_or(|end| now < end));
        live.filter_map(|one| Some((world.role(one.role)?.permissions, one.scope, one.expires.map(Time))))
            .collect()
    };
    for (role, scope, until) in given {
        let target = picture.scope_target(scope);
        if let Some(missing) = actor.missing_to_hold(scope.counts(role), &target, until) {
            // The group may hold something where this actor sees nothing: then no name is told, and what is needed is needed everywhere.
            let sees = crate::questions::seen_by(&target).is_none_or(|read| actor.may(read, &target).is_some());
            let told = if sees { target } else { Target::default() };
            return Err(actor.forbidden(missing, &told));
        }
    }
    Ok(())
}

fn check_group_name(name: &str) -> Outcome<()> {
    check_name("a group", name).map_err(GroupError::Invalid)?;
    if name_key(name) == "queueadmins" {
        return Err(GroupError::Conflict(
            "`QueueAdmins` is another name of the built-in group `Queue admins`".into(),
        ));
    }
    Ok(())
}

fn check_description(text: &str) -> Outcome<()> {
    check_text("the description", text, DESCRIPTION_MAX).map_err(GroupError::Invalid)
}

fn taken(name: &str) -> impl Fn(sqlx::Error) -> GroupError {
    move |error| match StoreError::from(error) {
        StoreError::Conflict(_) => GroupError::Conflict(format!(
            "there is already a group `{name}` (letter case does not matter)"
        )),
        other => other.into(),
    }
}

/// Makes a group. It holds nothing yet, so anybody may be put into it.
pub async fn create(by: &Granted<permit::GroupsCreate>, new: &NewGroup) -> Outcome<GroupChange> {
    check_group_name(&new.name)?;
    check_description(&new.description)?;
    let ids = named(&by.actor, &new.users)?;
    let mut work = by.begin().await?;
    let insert = "INSERT INTO groups (name, name_key, description, built_in) VALUES ($1, $2, $3, 0) RETURNING id";
    // The lock on rights first, as everywhere.
    work.touches(&[]).await?;
    let id: i64 = sqlx::query_scalar(insert)
        .bind(&new.name)
        .bind(name_key(&new.name))
        .bind(&new.description)
        .fetch_one(&mut **work)
        .await
        .map_err(taken(&new.name))?;
    let id = GroupId(id);
    work.touches(&[Touched::Group(id)]).await?;
    let users = insert_members(&mut work, id, &ids).await?;
    let detail = serde_json::json!({"after": {"description": new.description, "users": names(&users)}});
    let entry = Entry::of::<permit::GroupsCreate>("create", "group", &new.name).with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    let group = get(&by.actor, id).await?;
    Ok(GroupChange { group, users })
}

/// The row as it is now that the lock on rights is held.
async fn row(work: &mut Work, id: GroupId) -> Outcome<(String, String, bool)> {
    let row = sqlx::query("SELECT name, description, built_in FROM groups WHERE id = $1")
        .bind(id.0)
        .fetch_optional(&mut ***work)
        .await?;
    let row = row.ok_or_else(|| missing(id))?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get::<i64, _>(2)? == 1))
}

fn built_in(name: &str, cannot: &str) -> GroupError {
    GroupError::Conflict(format!("the group `{name}` is built in and cannot be {cannot}"))
}

/// Another name, another description.
pub async fn change(by: &Granted<permit::GroupsUpdate>, id: GroupId, change: &ChangeGroup) -> Outcome<Group> {
    if change.name.is_none() && change.description.is_none() {
        return Err(GroupError::Invalid(
            "nothing to change is given: a name or a description".into(),
        ));
    }
    if let Some(name) = &change.name {
        check_group_name(name)?;
    }
    if let Some(text) = &change.description {
        check_description(text)?;
    }
    let mut work = by.begin().await?;
    work.touches(&[Touched::Group(id)]).await?;
    let (old_name, old_description, is_built_in) = row(&mut work, id).await?;
    if is_built_in {
        return Err(built_in(&old_name, "changed"));
    }
    let name = change.name.as_ref().unwrap_or(&old_name);
    let description = change.description.as_ref().unwrap_or(&old_description);
    sqlx::query("UPDATE groups SET name = $1, name_key = $2, description = $3 WHERE id = $4")
        .bind(name)
        .bind(name_key(name))
        .bind(description)
        .bind(id.0)
        .execute(&mut **work)
        .await
        .map_err(taken(name))?;
    let detail = serde_json::json!({
        "before": {"name": old_name, "description": old_description},
        "after": {"name": name, "description": description},
    });
    let entry = Entry::of::<permit::GroupsUpdate>("update", "group", &old_name).with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    Ok(get(&by.actor, id).await?)
}

/// Deletes a group. Its members lose what came through it, and nothing else.
pub async fn delete(by: &Granted<permit::GroupsDelete>, id: GroupId) -> Outcome<Group> {
    let group = get(&by.actor, id).await?;
    let mut work = by.begin().await?;
    work.touches(&[Touched::Group(id)]).await?;
    let (name, description, is_built_in) = row(&mut work, id).await?;
    if is_built_in {
        return Err(built_in(&name, "deleted"));
    }
    let members = members(&mut work, id, None).await?;
    let vaults = vaults::remove(&mut work, vaults::Of::Group(id)).await?;
    for sql in [
        "DELETE FROM assignments WHERE group_id = $1",
        "DELETE FROM group_members WHERE group_id = $1",
        "DELETE FROM groups WHERE id = $1",
    ] {
        sqlx::query(sql).bind(id.0).execute(&mut **work).await?;
    }
    keep_an_admin(&mut work).await?;
    let detail =
        serde_json::json!({"before": {"description": description, "users": names(&members), "vaults": vaults}});
    let entry = Entry::of::<permit::GroupsDelete>("delete", "group", &name).with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    Ok(group)
}

/// Puts all of them into the group, or nobody.
pub async fn add(by: &Granted<permit::GroupsUpdate>, id: GroupId, users: &[String]) -> Outcome<GroupChange> {
    must_hold_what_it_gives(&by.actor, id)?;
    let (mut work, name, ids) = begin_members(by, id, users).await?;
    let there = members(&mut work, id, Some(&ids)).await?;
    if !there.is_empty() {
        let verb = if there.len() == 1 { "belongs" } else { "belong" };
        return Err(GroupError::Conflict(format!(
            "`{}` already {verb} to the group `{name}`; nobody was added",
            names(&there).join("`, `")
        )));
    }
    let added = insert_members(&mut work, id, &ids).await?;
    let detail = serde_json::json!({"added": names(&added)});
    finish_members(by, work, id, &name, "add-member", detail, added).await
}

/// Takes all of them out of the group, or nobody. What they hold otherwise they keep.
pub async fn remove(by: &Granted<permit::GroupsUpdate>, id: GroupId, users: &[String]) -> Outcome<GroupChange> {
    let (mut work, name, ids) = begin_members(by, id, users).await?;
    let there = members(&mut work, id, Some(&ids)).await?;
    let absent: Vec<String> = ids
        .iter()
        .filter(|id| !is_among(&there, **id))
        .map(|id| by.actor.picture().principal_name(*id).to_string())
        .collect();
    if !absent.is_empty() {
        let verb = if absent.len() == 1 { "does" } else { "do" };
        return Err(GroupError::NotMember(format!(
            "`{}` {verb} not belong to the group `{name}`; nobody was removed",
            absent.join("`, `")
        )));
    }
    let sql = format!(
        "DELETE FROM group_members WHERE group_id = $1 AND principal_id IN ({})",
        id_list(ids.iter().map(|id| id.0))
    );
    sqlx::query(AssertSqlSafe(sql)).bind(id.0).execute(&mut **work).await?;
    keep_an_admin(&mut work).await?;
    let detail = serde_json::json!({"removed": names(&there)});
    finish_members(by, work, id, &name, "remove-member", detail, there).await
}

/// A transaction for a change of members: the group's name and whom it is about.
async fn begin_members(
    by: &Granted<permit::GroupsUpdate>,
    id: GroupId,
    users: &[String],
) -> Outcome<(Work, String, Vec<PrincipalId>)> {
    let ids = named(&by.actor, users)?;
    if ids.is_empty() {
        return Err(GroupError::Invalid("no user is named".into()));
    }
    if id == by.actor.picture().users_group() {
        return Err(GroupError::Conflict(
            "everybody belongs to the group `Users`: nobody can be added or removed".into(),
        ));
    }
    let mut work = by.begin().await?;
    work.touches(&[Touched::Group(id)]).await?;
    let (name, ..) = row(&mut work, id).await?;
    Ok((work, name, ids))
}

async fn finish_members(
    by: &Granted<permit::GroupsUpdate>,
    mut work: Work,
    id: GroupId,
    name: &str,
    verb: &str,
    detail: serde_json::Value,
    users: Vec<GroupMember>,
) -> Outcome<GroupChange> {
    let entry = Entry::of::<permit::GroupsUpdate>(verb, "group", name).with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    let group = get(&by.actor, id).await?;
    Ok(GroupChange { group, users })
}

/// The members of a group, or those of `among` who are; by id.
async fn members(work: &mut Work, id: GroupId, among: Option<&[PrincipalId]>) -> Result<Vec<GroupMember>> {
    let only = match among {
        Some(ids) => format!(" AND m.principal_id IN ({})", id_list(ids.iter().map(|id| id.0))),
        None => format!(" ORDER BY p.id LIMIT {NAMES_KEPT}"),
    };
    let sql = format!(
        "SELECT p.id, p.name, p.kind, p.state FROM group_members m JOIN principals p ON p.id = m.principal_id WHERE m.group_id = $1{only}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_all(&mut ***work)
        .await?;
    let mut members = rows.iter().map(member).collect::<Result<Vec<_>>>()?;
    members.sort_by_key(|member| member.id);
    Ok(members)
}

/// `members` are sorted by id.
fn is_among(members: &[GroupMember], id: PrincipalId) -> bool {
    members.binary_search_by_key(&id, |member| member.id).is_ok()
}

async fn insert_members(work: &mut Work, group: GroupId, ids: &[PrincipalId]) -> Outcome<Vec<GroupMember>> {
    let sql = format!(
        "INSERT INTO group_members (group_id, principal_id) SELECT $1, id FROM principals WHERE state <> 'removed' AND id IN ({})",
        id_list(ids.iter().map(|id| id.0))
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(group.0)
        .execute(&mut ***work)
        .await?;
    let users = members(work, group, Some(ids)).await?;
    if done.rows_affected() != ids.len() as u64 {
        // Removed since the names were looked up.
        let gone = ids.iter().filter(|id| !is_among(&users, **id));
        let gone: Vec<String> = gone.map(ToString::to_string).collect();
        return Err(GroupError::Refused(Refusal::NotFound {
            what: "user",
            which: gone.join("`, `"),
        }));
    }
    Ok(users)
}

fn names(members: &[GroupMember]) -> Vec<&str> {
    members
        .iter()
        .take(NAMES_KEPT)
        .map(|member| member.name.as_str())
        .collect()
}

async fn keep_an_admin(work: &mut Work) -> Outcome<()> {
    if is_last_admin_gone(work).await? {
        return Err(GroupError::Conflict(LAST_ADMIN.into()));
    }
    Ok(())
}

//! Role assignments: who holds which role, where, until when.
//!
//! To give needs `roles:assign` at the scope and every permission of the role there; to take away needs `roles:assign` alone (`access.md` §4). All of that
//! is looked at under the lock that puts changes of rights in one order, so nothing can change between the look and the row.

use std::collections::HashMap;

use bailiwick_access::{Holder, ObjectKind, Scope, Target};
use bailiwick_api::names;
use bailiwick_api::on::On;
use bailiwick_api::permission::RolePermissions;
use bailiwick_api::requests::WHY_MAX;
use bailiwick_api::roles::{
    Assignment, AssignmentChange, AssignmentFilter, NewAssignment, NewAssignments, OldAssignments,
};
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{
    AssignmentId, ExperimentId, GroupId, ModelId, Page, Permission, PrincipalId, ProjectId, QueueId, RoleId, StackId,
    Time, WorkspaceId,
};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::access::{
    Actor, Refusal, System, Work, experiment_target, model_target, queue_target, resolve, scope_of, stack_target,
};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, id_list, number_list};
use crate::picture::{Picture, Touched, scope, scope_columns};

/// Most assignments that one request makes or takes away.
const MOST: usize = 1000;
/// Longest life that can be asked for, in milliseconds: a thousand years.
const LIFETIME_MS_MAX: i64 = 1000 * 365 * 86_400_000;

/// An assignment whose every name has been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub holder: Holder,
    pub role: RoleId,
    pub scope: Scope,
    pub expires: Option<Time>,
    pub reason: String,
}

/// An assignment as it stands in its table.
#[derive(Debug, Clone)]
pub struct AssignmentRow {
    pub id: AssignmentId,
    pub is: Resolved,
    pub built_in: bool,
    pub created_at: Time,
    pub created_by: Option<PrincipalId>,
    /// Where it holds, with everything that contains that; nothing when the thing is gone.
    pub target: Option<Target>,
}

/// Why roles or assignments stay as they are.
#[derive(Debug)]
pub enum ChangeError {
    Refused(Refusal),
    /// Visible, and this permission is missing there.
    Forbidden(Permission, Target),
    /// This permission is missing somewhere that this actor may not be told of.
    ForbiddenSomewhere(Permission),
    Invalid(String),
    Conflict(String),
}

impl<T: Into<Refusal>> From<T> for ChangeError {
    fn from(error: T) -> Self {
        ChangeError::Refused(error.into())
    }
}

pub type Changed<T> = std::result::Result<T, ChangeError>;

fn missing(what: &'static str, which: impl ToString) -> ChangeError {
    ChangeError::Refused(Refusal::NotFound {
        what,
        which: which.to_string(),
    })
}

/// Whether this actor may give `role` at `target` until then (`None`: without an end), with `roles:assign` there.
pub fn may_give(actor: &Actor, role: RolePermissions, target: &Target, until: Option<Time>) -> Changed<()> {
    match actor.missing_to_grant(role, target, until) {
        None => Ok(()),
        Some(permission) => Err(ChangeError::Forbidden(permission, *target)),
    }
}

/// Writes an assignment. Whether it may be given is the caller's question ([`may_give`]), and so is the event in the audit ([`note`]).
pub async fn write(work: &mut Work, by: &Actor, new: &Resolved) -> Changed<AssignmentId> {
    let now = by.now();
    if new.expires.is_some_and(|end| end <= now) {
        return Err(ChangeError::Invalid(
            "the end of the assignment lies in the past".into(),
        ));
    }
    // From the table, since the role may have been made in this very transaction.
    let role = sqlx::query("SELECT name, permissions FROM roles WHERE id = $1")
        .bind(new.role.0)
        .fetch_optional(&mut ***work)
        .await?
        .ok_or_else(|| missing("role", new.role))?;
    let (name, words): (String, String) = (role.try_get(0)?, role.try_get(1)?);
    only_where_it_may_be(&name, crate::roles::read_permissions(&name, &words)?.1, new.scope)?;
    clear_twin(work, new, now, AssignmentId(0)).await?;
    let (principal, group) = holder_columns(new.holder);
    let (scope_kind, scope_id) = scope_columns(new.scope);
    let inserted = sqlx::query_scalar::<_, i64>(
        "INSERT INTO assignments (principal_id, group_id, role_id, scope_kind, scope_id, expires_at, created_at, created_by, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id",
    )
    .bind(principal)
    .bind(group)
    .bind(new.role.0)
    .bind(scope_kind)
    .bind(scope_id)
    .bind(new.expires.map(|end| end.0))
    .bind(now.0)
    // Without access control there may be nobody to name.
    .bind(Some(by.id.0).filter(|id| *id > 0))
    .bind(&new.reason)
    .fetch_one(&mut ***work)
    .await;
    let id = AssignmentId(inserted.map_err(|why| twice(why, by.picture(), new))?);
    work.touches(&[Touched::Assignment(id)]).await?;
    Ok(id)
}

/// Takes an assignment away and gives what it was. Whether it may be taken is the caller's question; whether an administrator is left
/// ([`is_last_admin_gone`]) and the event in the audit ([`note`]), too.
pub async fn take(work: &mut Work, id: AssignmentId) -> Changed<AssignmentRow> {
    let row = find(work, id).await?.ok_or_else(|| missing("assignment", id))?;
    if row.built_in {
        return Err(ChangeError::Conflict(
            "this assignment is built in and cannot be taken away; take its members out of the group instead".into(),
        ));
    }
    sqlx::query("DELETE FROM assignments WHERE id = $1")
        .bind(id.0)
        .execute(&mut ***work)
        .await?;
    work.touches(&[Touched::Assignment(id)]).await?;
    Ok(row)
}

/// The live assignment that says just this, if there is one.
pub async fn find_same(work: &mut Work, holder: Holder, role: RoleId, at: Scope) -> Result<Option<AssignmentId>> {
    let now = work.now();
    let (principal, group) = holder_columns(holder);
    let (kind, id) = scope_columns(at);
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM assignments WHERE (principal_id = $1 OR group_id = $2) AND role_id = $3 AND scope_kind = $4 AND scope_id = $5
           AND (expires_at IS NULL OR expires_at > $6)",
    )
    .bind(principal)
    .bind(group)
    .bind(role.0)
    .bind(kind)
    .bind(id)
    .bind(now.0)
    .fetch_optional(&mut ***work)
    .await?;
    Ok(found.map(AssignmentId))
}

/// How an administrator gets in here by himself; what is greater is surer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entrance {
    /// There is no active administrator.
    Nobody,
    /// Through the identity provider alone.
    Remote,
    /// With a password, once somebody has made a link for him: so `admin` before the link of the first start is used.
    NoPassword,
    Password,
}

impl Entrance {
    /// Of an active user.
    pub fn of(remote: bool, has_password: bool) -> Entrance {
        match (remote, has_password) {
            (true, _) => Entrance::Remote,
            (false, false) => Entrance::NoPassword,
            (false, true) => Entrance::Password,
        }
    }

    /// The surest of all active administrators whose role has no end, as this connection sees the tables. The others would be gone then.
    async fn surest(connection: &mut AnyConnection) -> Result<Entrance> {
        let ranked = [
            (Entrance::Password, "p.remote = 0 AND p.password_hash IS NOT NULL"),
            (Entrance::NoPassword, "p.remote = 0"),
            (Entrance::Remote, "p.remote = 1"),
        ];
        for (entrance, has) in ranked {
            let has = format!("p.state = 'active' AND p.kind = 'user' AND {has}");
            let sql = format!(
                "SELECT a.id FROM assignments a JOIN roles r ON r.id = a.role_id
                 WHERE r.name = 'ClusterAdmin' AND a.scope_kind = 'global' AND a.expires_at IS NULL AND (
                   EXISTS (SELECT 1 FROM principals p WHERE p.id = a.principal_id AND {has})
                   OR EXISTS (SELECT 1 FROM group_members m JOIN principals p ON p.id = m.principal_id
                              WHERE m.group_id = a.group_id AND {has})
                   OR (EXISTS (SELECT 1 FROM groups g WHERE g.id = a.group_id AND g.built_in = 1 AND g.name = 'Users')
                       AND EXISTS (SELECT 1 FROM principals p WHERE {has}))) LIMIT 1"
            );
            let found: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_optional(&mut *connection)
                .await?;
            if found.is_some() {
                return Ok(entrance);
            }
        }
        Ok(Entrance::Nobody)
    }
}

/// Whether what this transaction has done so far would leave the installation without an active ClusterAdmin who has a password here, where there was one
/// before; or, where nobody has a password yet, without one who could be given it. To be asked before each commit that takes something away, after
/// [`Work::touches`].
pub async fn is_last_admin_gone(work: &mut Work) -> Result<bool> {
    let left = Entrance::surest(work).await?;
    if left == Entrance::Password {
        return Ok(false);
    }
    // Beside this transaction, and so as everything was before it; others that change rights wait for its end.
    let mut before = work.db().read.acquire().await?;
    Ok(left < Entrance::surest(&mut before).await?)
}

/// The words for it, wherever it is refused.
pub const LAST_ADMIN: &str = "that would leave the installation without an active administrator who has a password here; give another user who has one the role ClusterAdmin, without an end, first";

async fn keep_an_admin(work: &mut Work) -> Changed<()> {
    if is_last_admin_gone(work).await? {
        return Err(ChangeError::Conflict(LAST_ADMIN.into()));
    }
    Ok(())
}

/// One event about an assignment, under the name of whoever holds it: `ml audit list --object 'user ana'` tells of it.
pub async fn note(
    work: &mut Work,
    by: &Actor,
    verb: &str,
    id: AssignmentId,
    before: Option<&Resolved>,
    after: Option<&Resolved>,
    target: &Target,
) -> Result<()> {
    let is = after.or(before).expect("something was before or is after");
    let (kind, name) = holder_name(by.picture(), is.holder);
    let detail = detail(by.picture(), id, before, after);
    let entry = Entry::new(Permission::RolesAssign.name(), verb, kind, name);
    audit::write(work, by, entry.in_workspace(target.workspace).with(detail)).await
}

fn detail(picture: &Picture, id: AssignmentId, before: Option<&Resolved>, after: Option<&Resolved>) -> Value {
    let words = |is: &Resolved| {
        let on = on(picture, is.scope).to_string();
        json!({"role": &*picture.role_name(is.role), "on": on, "until": is.expires, "reason": is.reason})
    };
    let mut detail = json!({"assignment": id});
    if let Some(before) = before {
        detail["before"] = words(before);
    }
    if let Some(after) = after {
        detail["after"] = words(after);
    }
    detail
}

/// Makes all of these assignments, or none. Gives them in the same order.
pub async fn give(actor: &Actor, new: &NewAssignments) -> Changed<Vec<Assignment>> {
    let list = &new.assignments;
    check_length(list.len())?;
    check_text("the reason", &new.reason)?;
    let targets = targets(actor, list.iter().map(|one| one.on.as_deref()).collect()).await?;
    let (mut work, actor) = actor.begin_in_order().await?;
    let mut made = Vec::with_capacity(list.len());
    for one in list {
        let on = one.on.as_deref().unwrap_or(EVERYWHERE);
        let target = still_there(&mut work, &targets[on], on).await?;
        let is = look_up(&actor, one, &target, &new.reason)?;
        let id = write(&mut work, &actor, &is).await?;
        note(&mut work, &actor, "assign", id, None, Some(&is), &target).await?;
        made.push(AssignmentRow {
            id,
            is,
            built_in: false,
            created_at: actor.now(),
            created_by: Some(actor.id),
            target: Some(target),
        });
    }
    work.commit().await?;
    Ok(made.iter().map(|row| view(actor.picture(), row)).collect())
}

/// What an assignment to make says, once it is sure that this actor may make it. The right to assign comes first: without it nobody learns from here which
/// groups there are.
fn look_up(actor: &Actor, one: &NewAssignment, target: &Target, reason: &str) -> Changed<Resolved> {
    may_assign(actor, target)?;
    let (role, name, permissions) = find_role(actor, &one.role)?;
    let holder = find_holder(actor, one.user.as_deref(), one.group.as_deref())?;
    let scope = scope_of(target);
    only_where_it_may_be(&name, permissions, scope)?;
    let expires = end(actor.now(), one.until, one.lifetime_ms)?;
    may_give(actor, permissions, target, expires)?;
    Ok(Resolved {
        holder,
        role,
        scope,
        expires,
        reason: reason.to_owned(),
    })
}

/// Takes all of these assignments away, or none. Gives what they were.
pub async fn take_all(actor: &Actor, old: &OldAssignments) -> Changed<Vec<Assignment>> {
    let list = &old.assignments;
    check_length(list.len())?;
    let targets = targets(actor, list.iter().map(|one| one.on.as_deref()).collect()).await?;
    let (mut work, actor) = actor.begin_in_order().await?;
    let mut taken = Vec::with_capacity(list.len());
    for one in list {
        let on = one.on.as_deref().unwrap_or(EVERYWHERE);
        let target = still_there(&mut work, &targets[on], on).await?;
        may_assign(&actor, &target)?;
        let (role, name, _) = find_role(&actor, &one.role)?;
        let scope = scope_of(&target);
        // Somebody deactivated meanwhile is nobody that one may see, but what he holds here may be taken from him.
        let anybody = one
            .user
            .as_deref()
            .and_then(|user| actor.picture().find_principal(user));
        let found = match anybody.filter(|_| one.group.is_none()) {
            Some(id) => find_same(&mut work, Holder::Principal(id), role, scope).await?,
            None => None,
        };
        let id = match found {
            Some(id) => id,
            None => {
                let holder = find_holder(&actor, one.user.as_deref(), one.group.as_deref())?;
                let found = find_same(&mut work, holder, role, scope).await?;
                found.ok_or_else(|| missing("assignment", words(actor.picture(), &name, holder, scope)))?
            }
        };
        taken.push(take_one(&mut work, &actor, id, &target).await?);
    }
    keep_an_admin(&mut work).await?;
    let views = taken.iter().map(|row| view(actor.picture(), row)).collect();
    work.commit().await?;
    Ok(views)
}

async fn take_one(work: &mut Work, actor: &Actor, id: AssignmentId, target: &Target) -> Changed<AssignmentRow> {
    let row = take(work, id).await?;
    note(work, actor, "unassign", id, Some(&row.is), None, target).await?;
    Ok(row)
}

/// Takes one away by its number.
pub async fn take_by_id(actor: &Actor, id: AssignmentId) -> Changed<Assignment> {
    let (mut work, actor) = actor.begin_in_order().await?;
    let (_, target) = find_to_change(&mut work, &actor, id).await?;
    let row = take_one(&mut work, &actor, id, &target).await?;
    keep_an_admin(&mut work).await?;
    let view = view(actor.picture(), &row);
    work.commit().await?;
    Ok(view)
}

/// Gives an assignment another role or another end, in one act.
pub async fn change(actor: &Actor, id: AssignmentId, change: &AssignmentChange) -> Changed<Assignment> {
    let no_end = change.no_end == Some(true);
    if no_end && (change.until.is_some() || change.lifetime_ms.is_some()) {
        return Err(ChangeError::Invalid(
            "an assignment has an end or none: leave out one of the two".into(),
        ));
    }
    let end = end(actor.now(), change.until, change.lifetime_ms)?;
    if !no_end && end.is_none() && change.role.is_none() {
        return Err(ChangeError::Invalid(
            "nothing to change: give a role, an end, or `no_end`".into(),
        ));
    }
    let (mut work, actor) = actor.begin_in_order().await?;
    let (mut row, target) = find_to_change(&mut work, &actor, id).await?;
    if row.built_in {
        return Err(ChangeError::Conflict(
            "this assignment is built in and stays as it is".into(),
        ));
    }
    if is_break_glass(&mut work, id).await? {
        return Err(ChangeError::Conflict(STAYS_BREAK_GLASS.into()));
    }
    let before = row.is.clone();
    let (role, name, permissions) = match &change.role {
        Some(role) => find_role(&actor, role)?,
        None => find_role(&actor, &before.role.to_string())?,
    };
    row.is.role = role;
    if no_end || end.is_some() {
        row.is.expires = end;
    }
    only_where_it_may_be(&name, permissions, before.scope)?;
    let forever = Time(i64::MAX);
    let lasts_longer = row.is.expires.unwrap_or(forever) > before.expires.unwrap_or(forever);
    // An earlier end takes away, and the right to assign is enough for that.
    if role != before.role || lasts_longer {
        may_give(&actor, permissions, &target, row.is.expires)?;
    }
    clear_twin(&mut work, &row.is, actor.now(), id).await?;
    let updated = sqlx::query("UPDATE assignments SET role_id = $1, expires_at = $2 WHERE id = $3")
        .bind(role.0)
        .bind(row.is.expires.map(|end| end.0))
        .bind(id.0)
        .execute(&mut **work)
        .await;
    updated.map_err(|why| twice(why, actor.picture(), &row.is))?;
    becomes_ordinary(&mut work, id).await?;
    work.touches(&[Touched::Assignment(id)]).await?;
    keep_an_admin(&mut work).await?;
    note(&mut work, &actor, "change", id, Some(&before), Some(&row.is), &target).await?;
    work.commit().await?;
    Ok(view(actor.picture(), &row))
}

/// Why nothing but its end happens to an assignment from break-glass: changed, it would be power that nobody is told of any more.
pub const STAYS_BREAK_GLASS: &str = "this assignment comes from break-glass and stays as it is until its end; `ml access break-glass --end` ends it at once";

/// Whether an assignment comes from break-glass.
pub(crate) async fn is_break_glass(work: &mut Work, id: AssignmentId) -> Result<bool> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT id FROM access_requests WHERE assignment_id = $1 AND kind = 'break-glass' LIMIT 1")
            .bind(id.0)
            .fetch_optional(&mut ***work)
            .await?;
    Ok(found.is_some())
}

/// What was given on request and then changed is an assignment as any other: in exports, and in the hands of documents.
pub(crate) async fn becomes_ordinary(work: &mut Work, id: AssignmentId) -> Result<()> {
    sqlx::query("UPDATE access_requests SET assignment_id = NULL WHERE assignment_id = $1")
        .bind(id.0)
        .execute(&mut ***work)
        .await?;
    Ok(())
}

/// An assignment that is to be changed: it must be there and visible, and assigning there must be allowed.
async fn find_to_change(work: &mut Work, actor: &Actor, id: AssignmentId) -> Changed<(AssignmentRow, Target)> {
    let row = last_up_to(work, id).await?;
    let live = |row: &AssignmentRow| row.is.expires.is_none_or(|end| end > actor.now());
    let row = row.filter(|row| live(row) && sees(actor, row) && row.id == id);
    let row = row.ok_or_else(|| missing("assignment", id))?;
    // Where the thing is gone, its assignments are for those who may assign everywhere.
    let target = row.target.unwrap_or_default();
    may_assign(actor, &target)?;
    Ok((row, target))
}

/// Removes what is past its date, with an event each; true if there may be more. Decisions never wait for this: an assignment stops counting at its end.
pub async fn clear_ended(system: &System) -> Result<bool> {
    const BATCH: usize = 500;
    let now = system.now();
    let ended: Option<i64> =
        sqlx::query_scalar("SELECT id FROM assignments WHERE expires_at IS NOT NULL AND expires_at <= $1 LIMIT 1")
            .bind(now.0)
            .fetch_optional(&system.db().read)
            .await?;
    if ended.is_none() {
        return Ok(false);
    }
    let mut work = system.begin().await?;
    work.touches(&[]).await?;
    let sql = format!(
        "SELECT {COLUMNS} WHERE a.expires_at IS NOT NULL AND a.expires_at <= $1 ORDER BY a.expires_at LIMIT {BATCH}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(now.0)
        .fetch_all(&mut **work)
        .await?;
    let rows = read_rows(system.picture(), &rows)?;
    for row in &rows {
        let picture = system.picture();
        let (kind, name) = holder_name(picture, row.is.holder);
        let detail = detail(picture, row.id, Some(&row.is), None);
        let workspace = row.target.and_then(|target| target.workspace);
        let entry = Entry::new(Permission::RolesAssign.name(), "expire", kind, name);
        audit::write_system(&mut work, system, entry.in_workspace(workspace).with(detail)).await?;
        work.touches(&[Touched::Assignment(row.id)]).await?;
    }
    let sql = format!(
        "DELETE FROM assignments WHERE id IN ({})",
        id_list(rows.iter().map(|row| row.id.0))
    );
    sqlx::query(AssertSqlSafe(sql)).execute(&mut **work).await?;
    work.commit().await?;
    Ok(rows.len() == BATCH)
}

/// Those that this actor may see, by id: at scopes where it has `roles:read`, and all that reach itself.
pub async fn list(actor: &Actor, filter: &AssignmentFilter) -> std::result::Result<Page<Assignment>, ChangeError> {
    let picture = actor.picture();
    let mut conditions = Vec::new();
    let mut unseen_group = None;
    if let Some(user) = &filter.user {
        let Holder::Principal(id) = find_holder(actor, Some(user), None)? else {
            unreachable!("a user was looked for");
        };
        let groups = match filter.through_groups {
            Some(true) => groups_of(picture, id),
            _ => Vec::new(),
        };
        conditions.push(format!(
            "(a.principal_id = {id} OR a.group_id IN ({}))",
            id_list(groups.iter().map(|group| group.0))
        ));
    }
    if let Some(group) = &filter.group {
        let id = picture.find_group(group).ok_or_else(|| missing("group", group))?;
        conditions.push(format!("a.group_id = {id}"));
        let knows = groups_of(picture, actor.id).contains(&id)
            || actor.may(Permission::GroupsRead, &Target::default()).is_some();
        unseen_group = (!knows).then_some(group);
    }
    if let Some(role) = &filter.role {
        conditions.push(format!("a.role_id = {}", find_role(actor, role)?.0));
    }
    if let Some(text) = &filter.on {
        let target = targets(actor, vec![Some(text.as_str())]).await?[text.as_str()];
        let (kind, id) = scope_columns(scope_of(&target));
        conditions.push(format!("a.scope_kind = '{kind}' AND a.scope_id = {id}"));
    }
    if filter.all != Some(true) {
        conditions.push(format!("(a.expires_at IS NULL OR a.expires_at > {})", actor.now().0));
    }
    // The places are bound: written out, thousands of them would be read and planned again and again.
    let (with, places) = match may_be_seen(actor) {
        None => (String::new(), None),
        Some((condition, places)) => {
            conditions.push(condition);
            let numbers = actor.db().kind().numbers("$2");
            (
                format!("WITH places AS MATERIALIZED ({numbers}) "),
                Some(number_list(&places)),
            )
        }
    };
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000) as usize;
    let mut items = Vec::new();
    let mut after = filter.after.unwrap_or(0);
    while items.len() <= limit {
        let and: String = conditions.iter().map(|condition| format!(" AND {condition}")).collect();
        let batch = limit + 1;
        let sql = format!("{with}SELECT {COLUMNS} WHERE a.id > $1{and} ORDER BY a.id LIMIT {batch}");
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(after);
        if let Some(places) = &places {
            query = query.bind(places);
        }
        let rows = query.fetch_all(&actor.db().read).await?;
        let at_end = rows.len() < batch;
        let rows = read_rows(picture, &rows)?;
        after = rows.last().map_or(after, |row| row.id.0);
        items.extend(rows.into_iter().filter(|row| sees(actor, row)));
        if at_end {
            break;
        }
    }
    if let Some(group) = unseen_group.filter(|_| items.is_empty()) {
        return Err(missing("group", group));
    }
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page {
        next: more.then(|| items.last().map(|row| row.id.to_string())).flatten(),
        items: items.iter().map(|row| view(picture, row)).collect(),
    })
}

fn groups_of(picture: &Picture, who: PrincipalId) -> Vec<GroupId> {
    picture.world().groups_of(who).to_vec()
}

/// Whether this actor may see the assignment.
fn sees(actor: &Actor, row: &AssignmentRow) -> bool {
    let reaches = match row.is.holder {
        Holder::Principal(id) => id == actor.id,
        Holder::Group(id) => groups_of(actor.picture(), actor.id).contains(&id),
    };
    reaches
        || actor
            .may(Permission::RolesRead, &row.target.unwrap_or_default())
            .is_some()
}

/// A condition that leaves out most of what this actor may not see, so that little is read in vain; [`sees`] decides on each. With it the workspaces that it
/// calls `places`. Nothing to leave out: `None`.
fn may_be_seen(actor: &Actor) -> Option<(String, Vec<i64>)> {
    let visible = actor.visible(Permission::RolesRead, ObjectKind::Experiment);
    if visible.all && visible.within.is_none() {
        return None;
    }
    let me = actor.id;
    let groups = id_list(groups_of(actor.picture(), me).iter().map(|id| id.0));
    let some_own = visible.own
        || !(visible.own_workspaces.is_empty() && visible.own_projects.is_empty() && visible.own_objects.is_empty());
    let everywhere = if visible.all { visible.within.as_deref() } else { None };
    let workspaces = visible.workspaces.iter().chain(everywhere.into_iter().flatten());
    let workspaces: Vec<i64> = workspaces.map(|id| id.0).collect();
    let in_places = "IN (SELECT number FROM places)";
    let projects = id_list(visible.projects.iter().map(|id| id.0));
    let objects = id_list(visible.objects.iter().copied());
    let own = |column: &str| {
        if some_own {
            format!(" OR {column} = {me}")
        } else {
            String::new()
        }
    };
    let mut arms = vec![
        format!("a.principal_id = {me}"),
        format!("a.group_id IN ({groups})"),
        format!(
            "(a.scope_kind = 'workspace' AND a.scope_id IN (SELECT id FROM workspaces WHERE id {in_places}{}))",
            own("owner_id")
        ),
        format!(
            "(a.scope_kind = 'project' AND a.scope_id IN (SELECT id FROM projects WHERE id IN ({projects}) OR workspace_id {in_places}{}))",
            own("owner_id")
        ),
        format!(
            "(a.scope_kind = 'experiment' AND (a.scope_id IN ({objects}) OR e.project_id IN ({projects}) OR e.workspace_id {in_places}{}))",
            own("e.owner_id")
        ),
    ];
    for kind in [ObjectKind::Queue, ObjectKind::Model, ObjectKind::Stack] {
        let visible = actor.visible(Permission::RolesRead, kind);
        let ids = id_list(visible.objects.iter().chain(&visible.own_objects).copied());
        let (word, _) = scope_columns(Scope::Object(kind, 0));
        let inside = match kind {
            ObjectKind::Model => format!(
                " OR a.scope_id IN (SELECT id FROM models WHERE workspace_id {in_places}{})",
                own("owner_id")
            ),
            _ => String::new(),
        };
        arms.push(format!("(a.scope_kind = '{word}' AND (a.scope_id IN ({ids}){inside}))"));
    }
    Some((format!("({})", arms.join(" OR ")), workspaces))
}

const COLUMNS: &str = "a.id, a.principal_id, a.group_id, a.role_id, a.scope_kind, a.scope_id, a.expires_at, a.built_in, a.created_at, a.created_by, a.reason,
    e.workspace_id, e.project_id, e.owner_id
    FROM assignments a LEFT JOIN experiments e ON a.scope_kind = 'experiment' AND e.id = a.scope_id";

/// The last one up to a number: in place of one that is not there another is read, as not to read one takes less time.
async fn last_up_to(work: &mut Work, id: AssignmentId) -> Result<Option<AssignmentRow>> {
    let sql = format!("SELECT {COLUMNS} WHERE a.id <= $1 ORDER BY a.id DESC LIMIT 1");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_all(&mut ***work)
        .await?;
    Ok(read_rows(work.picture(), &rows)?.pop())
}

async fn find(work: &mut Work, id: AssignmentId) -> Result<Option<AssignmentRow>> {
    Ok(last_up_to(work, id).await?.filter(|row| row.id == id))
}

/// What a kind of scope or holder that this program does not know says is nothing to it.
fn read_rows(picture: &Picture, rows: &[AnyRow]) -> Result<Vec<AssignmentRow>> {
    let mut read = Vec::with_capacity(rows.len());
    for row in rows {
        let holder = match (row.try_get::<Option<i64>, _>(1)?, row.try_get::<Option<i64>, _>(2)?) {
            (Some(id), _) => Holder::Principal(PrincipalId(id)),
            (None, Some(id)) => Holder::Group(GroupId(id)),
            (None, None) => continue,
        };
        let Some(scope) = scope(row.try_get(4)?, row.try_get(5)?) else {
            continue;
        };
        read.push(AssignmentRow {
            id: AssignmentId(row.try_get(0)?),
            is: Resolved {
                holder,
                role: RoleId(row.try_get(3)?),
                scope,
                expires: row.try_get::<Option<i64>, _>(6)?.map(Time),
                reason: row.try_get(10)?,
            },
            built_in: row.try_get::<i64, _>(7)? == 1,
            created_at: Time(row.try_get(8)?),
            created_by: row.try_get::<Option<i64>, _>(9)?.map(PrincipalId),
            target: match scope {
                Scope::Object(ObjectKind::Experiment, id) => row
                    .try_get::<Option<i64>, _>(11)?
                    .map(|workspace| {
                        Ok::<_, StoreError>(experiment_target(
                            ExperimentId(id),
                            WorkspaceId(workspace),
                            ProjectId(row.try_get(12)?),
                            PrincipalId(row.try_get(13)?),
                        ))
                    })
                    .transpose()?,
                _ => plain_target(picture, scope),
            },
        });
    }
    Ok(read)
}

/// The target that a scope is, for all kinds that the picture knows.
pub(crate) fn plain_target(picture: &Picture, scope: Scope) -> Option<Target> {
    match scope {
        Scope::Global => Some(Target::default()),
        Scope::Workspace(id) => picture.workspace(id).map(|_| picture.workspace_target(id)),
        Scope::Project(id) => picture.project(id).map(|_| picture.project_target(id)),
        Scope::Object(ObjectKind::Queue, id) => Some(queue_target(QueueId(id))),
        Scope::Object(ObjectKind::Stack, id) => picture.stack(StackId(id)).map(|_| stack_target(picture, StackId(id))),
        Scope::Object(ObjectKind::Model, id) => picture
            .model(ModelId(id))
            .map(|model| model_target(ModelId(id), &model)),
        // Where it lies is not known here.
        Scope::Object(ObjectKind::Experiment, _) => None,
    }
}

/// The target that a scope is, as the transaction sees it; `None` when the thing is gone.
pub async fn target_of(work: &mut Work, scope: Scope) -> Result<Option<Target>> {
    let Scope::Object(ObjectKind::Experiment, id) = scope else {
        return Ok(plain_target(work.picture(), scope));
    };
    let row = sqlx::query("SELECT workspace_id, project_id, owner_id FROM experiments WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut ***work)
        .await?;
    row.map(|row| {
        let (workspace, project) = (WorkspaceId(row.try_get(0)?), ProjectId(row.try_get(1)?));
        Ok(experiment_target(
            ExperimentId(id),
            workspace,
            project,
            PrincipalId(row.try_get(2)?),
        ))
    })
    .transpose()
}

/// What a place that is left out says.
const EVERYWHERE: &str = "installation";

/// What the texts `on` name, as far as this actor may see it.
async fn targets<'a>(actor: &Actor, texts: Vec<Option<&'a str>>) -> Changed<HashMap<&'a str, Target>> {
    let mut targets = HashMap::new();
    for text in texts {
        let text = text.unwrap_or(EVERYWHERE);
        if !targets.contains_key(text) {
            let on = On::parse_named(text).map_err(ChangeError::Invalid)?;
            targets.insert(text, resolve(actor, &on).await?);
        }
    }
    Ok(targets)
}

/// The same target, if it has not gone or moved away since it was looked up.
async fn still_there(work: &mut Work, target: &Target, text: &str) -> Changed<Target> {
    let now = target_of(work, scope_of(target)).await?;
    now.ok_or_else(|| match text.split_once(':') {
        Some((kind, which)) => missing(kind_word(kind), which),
        None => missing("thing", text),
    })
}

fn kind_word(kind: &str) -> &'static str {
    const KINDS: &[&str] = &["workspace", "project", "experiment", "queue", "model", "stack"];
    KINDS.iter().find(|known| **known == kind).copied().unwrap_or("thing")
}

pub(crate) fn may_assign(actor: &Actor, target: &Target) -> Changed<()> {
    // As in `missing_to_grant`: what one owns oneself does not count.
    let unowned = Target { owner: None, ..*target };
    match actor.may(Permission::RolesAssign, &unowned) {
        Some(_) => Ok(()),
        None => Err(ChangeError::Forbidden(Permission::RolesAssign, *target)),
    }
}

fn find_role(actor: &Actor, text: &str) -> Changed<(RoleId, String, RolePermissions)> {
    let found = actor.picture().find_role(text);
    let world = actor.picture().world();
    match found.and_then(|id| world.role(id)) {
        Some(role) => Ok((role.id, role.name.clone(), role.permissions)),
        None => Err(missing("role", text)),
    }
}

/// A user or group by name or id. Who is not active is somebody only for `users:read`, as everywhere.
fn find_holder(actor: &Actor, user: Option<&str>, group: Option<&str>) -> Changed<Holder> {
    let picture = actor.picture();
    match (user, group) {
        (Some(text), None) => {
            let id = picture.find_principal(text).ok_or_else(|| missing("user", text))?;
            let is_gone = picture.principal(id).is_none_or(|one| one.removed);
            let is_active = picture.world().is_active(id);
            let may_see = is_active || id == actor.id || actor.may(Permission::UsersRead, &Target::default()).is_some();
            if is_gone || !may_see {
                return Err(missing("user", text));
            }
            Ok(Holder::Principal(id))
        }
        (None, Some(text)) => {
            let id = crate::groups::find_meant(actor, text).ok_or_else(|| missing("group", text))?;
            Ok(Holder::Group(id))
        }
        _ => Err(ChangeError::Invalid(
            "an assignment is to one `user` or to one `group`: give exactly one of the two".into(),
        )),
    }
}

/// A permission that is only assigned globally would give nothing below that.
fn only_where_it_may_be(name: &str, permissions: RolePermissions, scope: Scope) -> Changed<()> {
    if scope == Scope::Global || !permissions.is_global_only() {
        return Ok(());
    }
    let held = permissions.all.union(permissions.own);
    let global = held
        .iter()
        .find(|permission| permission.scope() == bailiwick_api::permission::PermissionScope::Global);
    let why = global
        .map(|permission| format!(" (it holds {permission})"))
        .unwrap_or_default();
    Err(ChangeError::Invalid(format!(
        "the role {name} can only be assigned globally{why}: leave out where"
    )))
}

fn end(now: Time, until: Option<Time>, lifetime_ms: Option<i64>) -> Changed<Option<Time>> {
    let end = match (until, lifetime_ms) {
        (Some(_), Some(_)) => {
            return Err(ChangeError::Invalid("give `until` or `lifetime_ms`, not both".into()));
        }
        (None, Some(ms)) if !(1000..=LIFETIME_MS_MAX).contains(&ms) => {
            return Err(ChangeError::Invalid(
                "an assignment lasts a second at least, and a thousand years at most".into(),
            ));
        }
        (until, lifetime_ms) => until.or(lifetime_ms.map(|ms| now.plus_ms(ms))),
    };
    match end {
        Some(end) if end <= now => Err(ChangeError::Invalid(format!("the end, {end}, lies in the past"))),
        end => Ok(end),
    }
}

fn check_length(count: usize) -> Changed<()> {
    if (1..=MOST).contains(&count) {
        return Ok(());
    }
    Err(ChangeError::Invalid(format!(
        "give 1 to {MOST} assignments; these are {count}"
    )))
}

/// A reason, or what a role is for.
pub(crate) fn check_text(what: &str, text: &str) -> Changed<()> {
    names::check_text(what, text, WHY_MAX).map_err(ChangeError::Invalid)
}

/// A twin past its date is not there any more, whether or not it was cleared away.
async fn clear_twin(work: &mut Work, is: &Resolved, now: Time, except: AssignmentId) -> Result<()> {
    let (principal, group) = holder_columns(is.holder);
    let (kind, id) = scope_columns(is.scope);
    let ended: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM assignments WHERE (principal_id = $1 OR group_id = $2) AND role_id = $3 AND scope_kind = $4 AND scope_id = $5
           AND expires_at <= $6 AND id <> $7 RETURNING id",
    )
    .bind(principal)
    .bind(group)
    .bind(is.role.0)
    .bind(kind)
    .bind(id)
    .bind(now.0)
    .bind(except.0)
    .fetch_all(&mut ***work)
    .await?;
    for id in ended {
        work.touches(&[Touched::Assignment(AssignmentId(id))]).await?;
    }
    Ok(())
}

/// What it means that the row is there already.
fn twice(why: sqlx::Error, picture: &Picture, is: &Resolved) -> ChangeError {
    match StoreError::from(why) {
        StoreError::Conflict(_) => {
            let (kind, name) = holder_name(picture, is.holder);
            ChangeError::Conflict(format!(
                "{kind} \"{name}\" holds {} {} already",
                picture.role_name(is.role),
                place(picture, is.scope)
            ))
        }
        other => other.into(),
    }
}

fn holder_columns(holder: Holder) -> (Option<i64>, Option<i64>) {
    match holder {
        Holder::Principal(id) => (Some(id.0), None),
        Holder::Group(id) => (None, Some(id.0)),
    }
}

fn holder_name(picture: &Picture, holder: Holder) -> (&'static str, String) {
    match holder {
        Holder::Principal(id) => {
            let is_service = picture
                .principal(id)
                .is_some_and(|one| one.kind == PrincipalKind::Service);
            let kind = if is_service { "service account" } else { "user" };
            (kind, picture.principal_name(id).to_string())
        }
        Holder::Group(id) => ("group", picture.group_name(id).to_string()),
    }
}

/// `Editor to group "Traffic Lights Team" on workspace "Traffic Lights"`.
fn words(picture: &Picture, role: &str, holder: Holder, scope: Scope) -> String {
    let (kind, name) = holder_name(picture, holder);
    format!("{role} to {kind} \"{name}\" {}", place(picture, scope))
}

/// `globally`, `on workspace "Stop Signs"`, `on project "Euro" (workspace "Stop Signs")`, `on experiment 12`.
pub fn place(picture: &Picture, scope: Scope) -> String {
    match scope {
        Scope::Global => "globally".into(),
        Scope::Workspace(id) => format!("on workspace \"{}\"", picture.workspace_name(id)),
        Scope::Project(id) => {
            let workspace = picture
                .project(id)
                .map(|project| picture.workspace_name(project.workspace));
            let workspace = workspace
                .map(|name| format!(" (workspace \"{name}\")"))
                .unwrap_or_default();
            format!("on project \"{}\"{workspace}", picture.project_name(id))
        }
        Scope::Object(ObjectKind::Queue, id) => format!("on queue \"{}\"", picture.queue_name(QueueId(id))),
        Scope::Object(ObjectKind::Stack, id) => format!("on stack \"{}\"", picture.stack_name(StackId(id))),
        Scope::Object(ObjectKind::Model, id) => format!("on model \"{}\"", picture.model_name(ModelId(id))),
        Scope::Object(ObjectKind::Experiment, id) => format!("on experiment {id}"),
    }
}

/// A scope as one types it.
pub fn on(picture: &Picture, scope: Scope) -> On {
    match scope {
        Scope::Global => On::Installation,
        Scope::Workspace(id) => On::Workspace(picture.workspace_name(id).to_string()),
        Scope::Project(id) => {
            let workspace = picture
                .project(id)
                .map(|project| picture.workspace_name(project.workspace));
            match workspace.filter(|name| !name.contains('/')) {
                Some(workspace) => On::Project(workspace.to_string(), picture.project_name(id).to_string()),
                // The text would be read as another workspace's.
                None => On::Project(String::new(), id.to_string()),
            }
        }
        Scope::Object(ObjectKind::Experiment, id) => On::Experiment(id.to_string()),
        Scope::Object(ObjectKind::Queue, id) => On::Queue(picture.queue_name(QueueId(id)).to_string()),
        Scope::Object(ObjectKind::Model, id) => On::Model(id.to_string()),
        Scope::Object(ObjectKind::Stack, id) => On::Stack(id.to_string()),
    }
}

/// An assignment as shown.
pub fn view(picture: &Picture, row: &AssignmentRow) -> Assignment {
    let (user, group) = match row.is.holder {
        Holder::Principal(id) => (Some(id), None),
        Holder::Group(id) => (None, Some(id)),
    };
    Assignment {
        id: row.id,
        role: picture.role_name(row.is.role).to_string(),
        role_id: row.is.role,
        user: user.map(|id| picture.principal_name(id).to_string()),
        user_id: user,
        group: group.map(|id| picture.group_name(id).to_string()),
        scope: picture.scope_view(row.is.scope),
        on: on(picture, row.is.scope).to_string(),
        until: row.is.expires,
        built_in: row.built_in,
        created_at: row.created_at,
        created_by: row.created_by.map(|id| picture.principal_name(id).to_string()),
        reason: row.is.reason.clone(),
    }
}

//! Access on request, and break-glass.
//!
//! What is asked for is kept as it was typed and looked up by whoever decides, with the decider's eyes: so asking for what one may not see reads exactly as
//! asking for what is not there. An approval makes an ordinary assignment with an end; break-glass makes one of ClusterAdmin without asking anybody.

use std::collections::HashMap;

use bailiwick_access::{Holder, ObjectKind, Scope, Target};
use bailiwick_api::on::On;
use bailiwick_api::permission::{BREAK_GLASS, PermissionSet, RolePermissions, permit};
use bailiwick_api::requests::{
    AccessRequest, AccessRequestFilter, Approve, BREAK_GLASS_MS, BREAK_GLASS_MS_MAX, BREAK_GLASS_MS_MIN, Decline,
    NewAccessRequest, REQUEST_LIFETIME_MS_MAX, REQUEST_LIFETIME_MS_MIN, REQUEST_WAITS_MS, RequestKind, RequestState,
    WAITING_MAX, check_words,
};
use bailiwick_api::time::lifetime_words;
use bailiwick_api::{AccessRequestId, AssignmentId, Page, Permission, PrincipalId, RoleId, Time};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Access, Actor, Granted, Refusal, System, Work, resolve, scope_of, seldom};
use crate::assignments::{self, ChangeError, Changed, Resolved, may_give, note, target_of};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError};
use crate::picture::{Picture, Touched};

const COLUMNS: &str = "id, kind, principal_id, role, scope, lifetime_ms, why, state, created_at, decided_at, decided_by, answer, assignment_id, ends_at";
const OBJECT: &str = "access request";

struct Asked {
    view: AccessRequest,
    by: PrincipalId,
}

fn read(picture: &Picture, now: Time, row: &AnyRow) -> Result<Asked> {
    let (id, kind, state): (i64, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(7)?);
    let broken = || StoreError::Broken(format!("access request {id}: {kind}, {state}"));
    let by = PrincipalId(row.try_get(2)?);
    let created_at = Time(row.try_get(8)?);
    let state = RequestState::ALL.iter().copied().find(|known| known.name() == state);
    let state = match state.ok_or_else(broken)? {
        // Whether or not it has been written down yet.
        RequestState::Waiting if created_at.plus_ms(REQUEST_WAITS_MS) <= now => RequestState::Expired,
        state => state,
    };
    let assignment = row.try_get::<Option<i64>, _>(12)?.map(AssignmentId);
    let until = row.try_get::<Option<i64>, _>(13)?.map(Time);
    let is_there = assignment.is_some_and(|id| picture.world().assignment(id).is_some());
    let decided_by = row.try_get::<Option<i64>, _>(10)?.map(PrincipalId);
    let view = AccessRequest {
        id: AccessRequestId(id),
        kind: if kind == RequestKind::BreakGlass.name() {
            RequestKind::BreakGlass
        } else {
            RequestKind::Request
        },
        user: picture.principal_name(by).to_string(),
        role: row.try_get(3)?,
        on: row.try_get(4)?,
        lifetime_ms: row.try_get(5)?,
        why: row.try_get(6)?,
        state,
        created_at,
        waits_until: (state == RequestState::Waiting).then(|| created_at.plus_ms(REQUEST_WAITS_MS)),
        decided_at: row.try_get::<Option<i64>, _>(9)?.map(Time),
        decided_by: decided_by.map(|id| picture.principal_name(id).to_string()),
        answer: row.try_get(11)?,
        until,
        in_force: is_there && until.is_some_and(|until| now < until),
    };
    Ok(Asked { view, by })
}

fn missing(id: AccessRequestId) -> ChangeError {
    ChangeError::Refused(Refusal::NotFound {
        what: OBJECT,
        which: id.to_string(),
    })
}

fn check(what: &str, text: &str) -> Changed<()> {
    check_words(what, text).map_err(ChangeError::Invalid)
}

fn check_why(why: &str) -> Changed<()> {
    if why.trim().is_empty() {
        return Err(ChangeError::Invalid("say why: whoever decides wants to know".into()));
    }
    check("the reason", why)
}

fn check_lifetime(ms: i64, least: i64, most: i64) -> Changed<()> {
    if (least..=most).contains(&ms) {
        return Ok(());
    }
    Err(ChangeError::Invalid(format!(
        "the time is {} to {}; this is {}",
        lifetime_words(least),
        lifetime_words(most),
        lifetime_words(ms)
    )))
}

/// Asks for a role for a while. Anybody may ask for anything that could be held.
pub async fn ask(actor: &Actor, new: &NewAccessRequest) -> Changed<AccessRequest> {
    check_why(&new.why)?;
    check_lifetime(new.lifetime_ms, REQUEST_LIFETIME_MS_MIN, REQUEST_LIFETIME_MS_MAX)?;
    let on = new.on.as_deref().unwrap_or("installation");
    if on.chars().count() > 600 || on.chars().any(char::is_control) {
        return Err(ChangeError::Invalid(
            "`on` is too long, or contains a control character".into(),
        ));
    }
    let on = On::parse_named(on).map_err(ChangeError::Invalid)?;
    if let On::Experiment(which) | On::Model(which) | On::Stack(which) = &on
        && bailiwick_api::ids::as_number(which).is_none()
    {
        // By a name the decider might find another one than was meant.
        return Err(ChangeError::Invalid(format!(
            "write `{on}` with the number instead of the name"
        )));
    }
    // What roles there are is no secret.
    let picture = actor.picture();
    let role = picture.find_role(&new.role).and_then(|id| picture.role(id));
    let role = role.ok_or_else(|| ChangeError::Invalid(picture.no_role(&new.role)))?;
    if role.permissions.is_global_only() && on != On::Installation {
        let words = format!("the role {} is only held globally: leave out where", role.name);
        return Err(ChangeError::Invalid(words));
    }
    if actor.id.0 <= 0 {
        return Err(ChangeError::Conflict(
            "access control is off here: nobody needs a role".into(),
        ));
    }
    let mut work = actor.begin().await?;
    // One after the other, so that the bound holds for many requests at once.
    let lives = sqlx::query("UPDATE principals SET state = state WHERE id = $1 AND state = 'active'")
        .bind(actor.id.0)
        .execute(&mut **work)
        .await?;
    if lives.rows_affected() == 0 {
        // Deactivated or removed at this very moment.
        return Err(Refusal::NotSignedIn { given: true }.into());
    }
    let now = actor.now();
    let rows = sqlx::query(
        "SELECT id, role, scope FROM access_requests WHERE principal_id = $1 AND state = 'waiting' AND created_at > $2",
    )
    .bind(actor.id.0)
    .bind(now.plus_ms(-REQUEST_WAITS_MS).0)
    .fetch_all(&mut **work)
    .await?;
    let text = on.to_string();
    for row in &rows {
        if row.try_get::<&str, _>(1)? == role.name && row.try_get::<&str, _>(2)? == text {
            let id: i64 = row.try_get(0)?;
            let words = format!("you have asked for that already: request {id} waits for an answer");
            return Err(ChangeError::Conflict(words));
        }
    }
    if rows.len() as i64 >= WAITING_MAX {
        return Err(ChangeError::Conflict(format!(
            "{WAITING_MAX} of your requests wait for an answer; withdraw one of them first"
        )));
    }
    let sql = format!(
        "INSERT INTO access_requests (kind, principal_id, role, scope, lifetime_ms, why, state, created_at)
         VALUES ('request', $1, $2, $3, $4, $5, 'waiting', $6) RETURNING {COLUMNS}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(actor.id.0)
        .bind(&role.name)
        .bind(&text)
        .bind(new.lifetime_ms)
        .bind(new.why.trim())
        .bind(now.0)
        .fetch_one(&mut **work)
        .await?;
    let asked = read(actor.picture(), now, &row)?.view;
    let entry = Entry::new(Permission::RolesAssign.name(), "request", OBJECT, asked.id);
    audit::write(&mut work, actor, entry.with(detail(&asked))).await?;
    work.commit().await?;
    Ok(asked)
}

fn detail(asked: &AccessRequest) -> Value {
    json!({"user": asked.user, "role": asked.role, "on": asked.on, "lifetime_ms": asked.lifetime_ms, "why": asked.why})
}

/// Newest first: one's own, and those that one may decide; those that are over, and uses of break-glass, with `all`.
pub async fn list(actor: &Actor, filter: &AccessRequestFilter) -> std::result::Result<Page<AccessRequest>, Refusal> {
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000) as usize;
    let now = actor.now();
    let own = format!("principal_id = {}", actor.id);
    let mut conditions = Vec::new();
    if filter.mine == Some(true) || !may_decide_anything(actor) {
        conditions.push(own);
    }
    if filter.all != Some(true) && filter.mine != Some(true) {
        let since = now.plus_ms(-REQUEST_WAITS_MS).0;
        conditions.push(format!("state = 'waiting' AND created_at > {since}"));
    }
    let and: String = conditions.iter().map(|one| format!(" AND {one}")).collect();
    let sql = format!(
        "SELECT {COLUMNS} FROM access_requests WHERE id < $1{and} ORDER BY id DESC LIMIT {}",
        limit + 1
    );
    let mut items = Vec::new();
    let mut after = filter.after.unwrap_or(i64::MAX);
    let mut places = HashMap::new();
    while items.len() <= limit {
        let rows = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(after)
            .fetch_all(&actor.db().read)
            .await?;
        for row in &rows {
            let asked = read(actor.picture(), now, row)?;
            after = asked.view.id.0;
            if asked.by == actor.id || may_see(actor, &asked.view, &mut places).await? {
                items.push(asked.view);
            }
        }
        if rows.len() <= limit {
            break;
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = more.then(|| items.last().map(|one| one.id.to_string())).flatten();
    Ok(Page { items, next })
}

/// Whether there is any place at all where this actor may assign roles, or see who holds them.
fn may_decide_anything(actor: &Actor) -> bool {
    use ObjectKind::{Experiment, Model, Queue, Stack};
    let somewhere = |kind| !actor.visible(Permission::RolesAssign, kind).is_nothing();
    [Experiment, Model, Queue, Stack].into_iter().any(somewhere)
        || actor.may(Permission::RolesRead, &Target::default()).is_some()
}

/// Whether this actor may know of another's request: who could give what is asked for may, and of break-glass whoever may see all roles.
async fn may_see(
    actor: &Actor,
    asked: &AccessRequest,
    places: &mut HashMap<String, Target>,
) -> std::result::Result<bool, Refusal> {
    if asked.kind == RequestKind::BreakGlass {
        return Ok(actor.may(Permission::RolesRead, &Target::default()).is_some());
    }
    let target = match places.get(&asked.on) {
        Some(target) => *target,
        None => {
            // What is not there, as this actor sees it, concerns those who may give the role everywhere.
            let target = look_up(actor, asked).await?.unwrap_or_default();
            places.insert(asked.on.clone(), target);
            target
        }
    };
    let role = actor.picture().find_role(&asked.role);
    let role = role
        .and_then(|id| actor.picture().role(id))
        .map(|role| role.permissions);
    let everything = RolePermissions {
        all: PermissionSet::everything(),
        own: PermissionSet::EMPTY,
    };
    // For how long is said with the answer.
    let now = Some(actor.now());
    Ok(actor
        .missing_to_grant(role.unwrap_or(everything), &target, now)
        .is_none())
}

/// Where it is asked for, if there is such a place for this actor.
async fn look_up(actor: &Actor, asked: &AccessRequest) -> std::result::Result<Option<Target>, Refusal> {
    let Ok(on) = On::parse(&asked.on) else {
        return Ok(None);
    };
    match resolve(actor, &on).await {
        Ok(target) => Ok(Some(target)),
        Err(Refusal::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// A request that this actor may decide. It is not there for anybody else but whoever asked, who may not decide it.
async fn find_to_decide(actor: &Actor, id: AccessRequestId) -> Changed<Asked> {
    let sql = format!("SELECT {COLUMNS} FROM access_requests WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    let asked = read(actor.picture(), actor.now(), &row.ok_or_else(|| missing(id))?)?;
    if asked.by == actor.id {
        return Err(ChangeError::Conflict(format!(
            "request {id} is your own: somebody else decides on it; `ml access withdraw {id}` takes it back"
        )));
    }
    if !may_see(actor, &asked.view, &mut HashMap::new()).await? {
        return Err(missing(id));
    }
    match asked.view.state {
        RequestState::Waiting => Ok(asked),
        _ => Err(over(&asked.view)),
    }
}

fn over(asked: &AccessRequest) -> ChangeError {
    let by = asked
        .decided_by
        .as_ref()
        .map(|name| format!(" by {name}"))
        .unwrap_or_default();
    let what = match asked.kind {
        RequestKind::Request => format!("request {} is {}{by} already", asked.id, asked.state.name()),
        RequestKind::BreakGlass => format!("{} was a use of break-glass: there is nothing to decide", asked.id),
    };
    ChangeError::Conflict(what)
}

/// Somebody else was quicker.
fn quicker(id: AccessRequestId) -> ChangeError {
    ChangeError::Conflict(format!("request {id} has just been decided or taken back"))
}

/// Gives what was asked for, from now on and for the time that was asked for or less.
pub async fn approve(actor: &Actor, id: AccessRequestId, approve: &Approve) -> Changed<AccessRequest> {
    check("the answer", &approve.answer)?;
    let asked = find_to_decide(actor, id).await?;
    let lifetime_ms = approve.lifetime_ms.unwrap_or(asked.view.lifetime_ms);
    check_lifetime(lifetime_ms, REQUEST_LIFETIME_MS_MIN, asked.view.lifetime_ms)?;
    let place = look_up(actor, &asked.view).await?;
    let scope = scope_of(&place.ok_or_else(|| no_such_place(&asked.view))?);

    let (mut work, actor) = actor.begin_in_order().await?;
    let target = target_of(&mut work, scope).await?;
    let target = target.ok_or_else(|| no_such_place(&asked.view))?;
    let picture = actor.picture();
    let role = picture.find_role(&asked.view.role).and_then(|id| picture.role(id));
    let role = role.ok_or_else(|| ChangeError::Conflict(picture.no_role(&asked.view.role)))?;
    let expires = Some(actor.now().plus_ms(lifetime_ms));
    may_give(&actor, role.permissions, &target, expires)?;
    if !picture.world().is_active(asked.by) {
        return Err(ChangeError::Conflict(format!("{} is not active", asked.view.user)));
    }
    let is = Resolved {
        holder: Holder::Principal(asked.by),
        role: role.id,
        scope,
        expires,
        reason: format!("request {id}: {}", asked.view.why),
    };
    let (assignment, before) = hold_until(&mut work, &actor, &is, false).await?;
    let sql = format!(
        "UPDATE access_requests SET state = 'approved', decided_at = $2, decided_by = $3, answer = $4, assignment_id = $5, ends_at = $6
         WHERE id = $1 AND state = 'waiting' RETURNING {COLUMNS}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(actor.now().0)
        .bind(actor.id.0)
        .bind(approve.answer.trim())
        .bind(assignment.0)
        .bind(is.expires.map(|end| end.0))
        .fetch_optional(&mut **work)
        .await?;
    let mut view = read(picture, actor.now(), &row.ok_or_else(|| quicker(id))?)?.view;
    note(
        &mut work,
        &actor,
        "approve",
        assignment,
        before.as_ref(),
        Some(&is),
        &target,
    )
    .await?;
    work.commit().await?;
    view.in_force = true;
    Ok(view)
}

fn no_such_place(asked: &AccessRequest) -> ChangeError {
    ChangeError::Conflict(format!(
        "request {} asks for {} on `{}`, and there is no such thing: decline it",
        asked.id, asked.role, asked.on
    ))
}

/// Makes the assignment, or lets the one that says the same last longer. Gives what that was. What came from break-glass only break-glass lets go on.
async fn hold_until(
    work: &mut Work,
    actor: &Actor,
    is: &Resolved,
    goes_on: bool,
) -> Changed<(AssignmentId, Option<Resolved>)> {
    let Some(id) = assignments::find_same(work, is.holder, is.role, is.scope).await? else {
        return Ok((assignments::write(work, actor, is).await?, None));
    };
    if !goes_on && assignments::is_break_glass(work, id).await? {
        return Err(ChangeError::Conflict(assignments::STAYS_BREAK_GLASS.into()));
    }
    let row = sqlx::query("SELECT expires_at, reason FROM assignments WHERE id = $1")
        .bind(id.0)
        .fetch_one(&mut ***work)
        .await?;
    let before = Resolved {
        expires: row.try_get::<Option<i64>, _>(0)?.map(Time),
        reason: row.try_get(1)?,
        ..is.clone()
    };
    if before.expires.is_none() || before.expires >= is.expires {
        let until = before.expires.map(|end| format!(" until {end}")).unwrap_or_default();
        let role = actor.picture().role_name(is.role);
        let place = assignments::place(actor.picture(), is.scope);
        return Err(ChangeError::Conflict(format!("{role} is held {place} already{until}")));
    }
    sqlx::query("UPDATE assignments SET expires_at = $2, reason = $3 WHERE id = $1")
        .bind(id.0)
        .bind(is.expires.map(|end| end.0))
        .bind(&is.reason)
        .execute(&mut ***work)
        .await?;
    work.touches(&[Touched::Assignment(id)]).await?;
    Ok((id, Some(before)))
}

/// Says no.
pub async fn decline(actor: &Actor, id: AccessRequestId, decline: &Decline) -> Changed<AccessRequest> {
    check("the answer", &decline.answer)?;
    let asked = find_to_decide(actor, id).await?;
    let target = look_up(actor, &asked.view).await?.unwrap_or_default();
    let granted = actor.require::<permit::RolesAssign>(target, OBJECT, &id.to_string(), None)?;
    let mut work = granted.begin().await?;
    let sql = format!(
        "UPDATE access_requests SET state = 'declined', decided_at = $2, decided_by = $3, answer = $4
         WHERE id = $1 AND state = 'waiting' RETURNING {COLUMNS}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(actor.now().0)
        .bind(actor.id.0)
        .bind(decline.answer.trim())
        .fetch_optional(&mut **work)
        .await?;
    let view = read(actor.picture(), actor.now(), &row.ok_or_else(|| quicker(id))?)?.view;
    let entry = Entry::of::<permit::RolesAssign>("decline", OBJECT, id).in_workspace(target.workspace);
    let mut detail = detail(&view);
    detail["answer"] = json!(view.answer);
    audit::write(&mut work, actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(view)
}

/// Takes back one's own request.
pub async fn withdraw(actor: &Actor, id: AccessRequestId) -> Changed<AccessRequest> {
    let sql = format!("SELECT {COLUMNS} FROM access_requests WHERE id = $1 AND principal_id = $2");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(actor.id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    let asked = read(actor.picture(), actor.now(), &row.ok_or_else(|| missing(id))?)?.view;
    if asked.state != RequestState::Waiting {
        return Err(over(&asked));
    }
    let mut work = actor.begin().await?;
    let sql = format!(
        "UPDATE access_requests SET state = 'withdrawn', decided_at = $2 WHERE id = $1 AND state = 'waiting' RETURNING {COLUMNS}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(actor.now().0)
        .fetch_optional(&mut **work)
        .await?;
    let view = read(actor.picture(), actor.now(), &row.ok_or_else(|| quicker(id))?)?.view;
    let entry = Entry::new(Permission::RolesAssign.name(), "withdraw", OBJECT, id);
    audit::write(&mut work, actor, entry.with(detail(&view))).await?;
    work.commit().await?;
    Ok(view)
}

/// Takes back what somebody waits for who is being deactivated or removed: nobody needs to decide on it any more.
pub(crate) async fn withdraw_all(work: &mut Work, by: &Actor, who: PrincipalId) -> Result<()> {
    let now = by.now();
    let sql = format!(
        "UPDATE access_requests SET state = 'withdrawn', decided_at = $2, decided_by = $3, answer = 'the account was ended'
         WHERE principal_id = $1 AND state = 'waiting' AND created_at > $4 RETURNING {COLUMNS}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(who.0)
        .bind(now.0)
        // Without access control there may be nobody to name.
        .bind(Some(by.id.0).filter(|id| *id > 0))
        .bind(now.plus_ms(-REQUEST_WAITS_MS).0)
        .fetch_all(&mut ***work)
        .await?;
    for row in &rows {
        let asked = read(by.picture(), now, row)?.view;
        let entry = Entry::new(Permission::RolesAssign.name(), "withdraw", OBJECT, asked.id);
        let mut detail = detail(&asked);
        detail["answer"] = json!(asked.answer);
        audit::write(work, by, entry.with(detail)).await?;
    }
    Ok(())
}

/// Writes down which requests nobody has answered in time, with an event each.
pub async fn expire(system: &System) -> Result<()> {
    let since = system.now().plus_ms(-REQUEST_WAITS_MS).0;
    let late: Option<i64> =
        sqlx::query_scalar("SELECT id FROM access_requests WHERE state = 'waiting' AND created_at <= $1 LIMIT 1")
            .bind(since)
            .fetch_optional(&system.db().read)
            .await?;
    if late.is_none() {
        return Ok(());
    }
    let mut work = system.begin().await?;
    let sql = format!(
        "UPDATE access_requests SET state = 'expired', decided_at = $2 WHERE state = 'waiting' AND created_at <= $1 RETURNING {COLUMNS}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(since)
        .bind(system.now().0)
        .fetch_all(&mut **work)
        .await?;
    for row in &rows {
        let asked = read(system.picture(), system.now(), row)?.view;
        let entry = Entry::new(Permission::RolesAssign.name(), "expire", OBJECT, asked.id);
        audit::write_system(&mut work, system, entry.with(detail(&asked))).await?;
    }
    work.commit().await
}

fn cluster_admin(picture: &Picture) -> Changed<RoleId> {
    let role = picture.find_role("ClusterAdmin");
    role.ok_or_else(|| ChangeError::Refused(StoreError::Broken("there is no role ClusterAdmin".into()).into()))
}

/// ClusterAdmin at once, for a while. That it is the person himself who asks, by the password, is the caller's question.
pub async fn break_glass(
    by: &Granted<permit::ClusterBreakGlass>,
    why: &str,
    lifetime_ms: Option<i64>,
) -> Changed<AccessRequest> {
    check_why(why)?;
    let lifetime_ms = lifetime_ms.unwrap_or(BREAK_GLASS_MS);
    check_lifetime(lifetime_ms, BREAK_GLASS_MS_MIN, BREAK_GLASS_MS_MAX)?;
    let (mut work, actor) = by.actor.begin_in_order().await?;
    if actor.may(Permission::ClusterBreakGlass, &Target::default()).is_none() {
        return Err(ChangeError::Forbidden(Permission::ClusterBreakGlass, Target::default()));
    }
    let now = actor.now();
    let is = Resolved {
        holder: Holder::Principal(actor.id),
        role: cluster_admin(actor.picture())?,
        scope: Scope::Global,
        expires: Some(now.plus_ms(lifetime_ms)),
        reason: format!("{BREAK_GLASS}: {}", why.trim()),
    };
    let (assignment, before) = hold_until(&mut work, &actor, &is, true).await?;
    // An earlier use that is still on goes over into this one.
    sqlx::query("UPDATE access_requests SET assignment_id = NULL, ends_at = $2 WHERE assignment_id = $1 AND kind = 'break-glass'")
        .bind(assignment.0)
        .bind(now.0)
        .execute(&mut **work)
        .await?;
    let sql = format!(
        "INSERT INTO access_requests (kind, principal_id, role, scope, lifetime_ms, why, state, created_at, decided_at, decided_by, assignment_id, ends_at)
         VALUES ('break-glass', $1, 'ClusterAdmin', 'installation', $2, $3, 'approved', $4, $4, $1, $5, $6) RETURNING {COLUMNS}"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(actor.id.0)
        .bind(lifetime_ms)
        .bind(why.trim())
        .bind(now.0)
        .bind(assignment.0)
        .bind(is.expires.map(|end| end.0))
        .fetch_one(&mut **work)
        .await?;
    let mut view = read(actor.picture(), now, &row)?.view;
    let target = Target::default();
    note(
        &mut work,
        &actor,
        "break-glass",
        assignment,
        before.as_ref(),
        Some(&is),
        &target,
    )
    .await?;
    work.commit().await?;
    view.in_force = true;
    Ok(view)
}

/// Ends one's own use of break-glass before its time.
pub async fn end_break_glass(actor: &Actor) -> Changed<AccessRequest> {
    let is_off = || ChangeError::Conflict("break-glass is not on for you: there is nothing to end".into());
    if break_glass_until(&actor.access, actor.id).await?.is_none() {
        return Err(is_off());
    }
    let (mut work, actor) = actor.begin_in_order().await?;
    let now = actor.now();
    let sql = format!(
        "SELECT {COLUMNS} FROM access_requests WHERE principal_id = $1 AND kind = 'break-glass' AND ends_at > $2
           AND assignment_id IN (SELECT id FROM assignments WHERE principal_id = $1) ORDER BY id DESC LIMIT 1"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(actor.id.0)
        .bind(now.0)
        .fetch_optional(&mut **work)
        .await?;
    let row = row.ok_or_else(is_off)?;
    let (id, assignment): (i64, i64) = (row.try_get(0)?, row.try_get(12)?);
    let taken = assignments::take(&mut work, AssignmentId(assignment)).await?;
    let sql = format!("UPDATE access_requests SET ends_at = $2 WHERE id = $1 RETURNING {COLUMNS}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .bind(now.0)
        .fetch_one(&mut **work)
        .await?;
    let view = read(actor.picture(), now, &row)?.view;
    let target = Target::default();
    note(
        &mut work,
        &actor,
        "break-glass-end",
        taken.id,
        Some(&taken.is),
        None,
        &target,
    )
    .await?;
    work.commit().await?;
    Ok(view)
}

/// Until when break-glass is on for whoever asks.
pub async fn own_break_glass(actor: &Actor) -> Result<Option<Time>> {
    break_glass_until(&actor.access, actor.id).await
}

/// Until when break-glass is on for somebody. Nearly always answered from memory: nobody holds ClusterAdmin with an end.
pub async fn break_glass_until(access: &Access, who: PrincipalId) -> Result<Option<Time>> {
    if !access.picture().ends_globally() {
        return Ok(None);
    }
    let now = access.now();
    let may_be_on = {
        let world = access.picture().world();
        let globally = world
            .assignments_held_by(Holder::Principal(who))
            .take_while(|one| one.scope == Scope::Global);
        let mut ending = globally.filter(|one| one.expires.is_some_and(|end| now.0 < end));
        ending.any(|one| world.role(one.role).is_some_and(|role| role.name == "ClusterAdmin"))
    };
    match may_be_on {
        true => seldom(break_glass_on_record(access, who, now)).await,
        false => Ok(None),
    }
}

async fn break_glass_on_record(access: &Access, who: PrincipalId, now: Time) -> Result<Option<Time>> {
    let until: Option<i64> = sqlx::query_scalar(
        "SELECT MAX(ends_at) FROM access_requests WHERE principal_id = $1 AND kind = 'break-glass' AND ends_at > $2
           AND assignment_id IN (SELECT id FROM assignments WHERE principal_id = $1)",
    )
    .bind(who.0)
    .bind(now.0)
    .fetch_one(&access.db.read)
    .await?;
    Ok(until.map(Time))
}

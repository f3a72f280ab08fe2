//! Workspaces: making, listing, changing, deleting them, and who holds which role there.

use bailiwick_access::{Assignment, Holder, ObjectKind, Scope, Target};
use bailiwick_api::names::{check_place_name, name_key};
use bailiwick_api::permission::{PermissionSet, permit};
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::workspaces::{
    COUNTED_MAX, DEFAULT_PROJECT, DEFAULT_WORKSPACE, Member, MemberFilter, MemberKind, NewWorkspace, PlaceFilter,
    Rename, Workspace, check_description,
};
use bailiwick_api::{AssignmentId, ModelId, Page, Permission, PrincipalId, ProjectId, RoleId, Time, WorkspaceId};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Refusal, Touched, Work, model_target};
use crate::assignments::{self, ChangeError, Resolved};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, id_list};

/// Why a workspace, a project or the place of an experiment was not changed.
#[derive(Debug)]
pub enum PlaceError {
    Refused(Refusal),
    Invalid(String),
    /// It does not fit what is there: what, and what to do.
    Conflict(String, &'static str),
}

impl<T: Into<Refusal>> From<T> for PlaceError {
    fn from(error: T) -> Self {
        PlaceError::Refused(error.into())
    }
}

pub type Changed<T> = std::result::Result<T, PlaceError>;

pub(crate) fn gone(what: &'static str, which: impl ToString) -> PlaceError {
    let which = which.to_string();
    PlaceError::Refused(Refusal::NotFound { what, which })
}

const COLUMNS: &str = "id, name, description, owner_id, created_at, archived_at";

fn view(actor: &Actor, row: &AnyRow) -> Result<Workspace> {
    let id = WorkspaceId(row.try_get(0)?);
    let owner: Option<i64> = row.try_get(3)?;
    Ok(Workspace {
        id,
        name: row.try_get(1)?,
        description: row.try_get(2)?,
        owner: owner.map(|owner| actor.picture().principal_name(PrincipalId(owner)).to_string()),
        created_at: Time(row.try_get(4)?),
        archived_at: row.try_get::<Option<i64>, _>(5)?.map(Time),
        projects: crate::projects::seen(actor, id).len() as i64,
        default_queue: crate::queues::default_of(actor, id)
            .filter(|id| crate::queues::may_see(actor, *id))
            .map(|id| actor.picture().queue_name(id).to_string()),
        experiments: None,
    })
}

/// Those that this actor may see, oldest first.
pub async fn list(actor: &Actor, filter: &PlaceFilter) -> Result<Page<Workspace>> {
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000) as usize;
    let (after, all) = (filter.after.unwrap_or(0), filter.all == Some(true));
    let wanted = filter.text.as_deref().map(name_key).unwrap_or_default();
    let mut ids = Vec::new();
    let mut from = WorkspaceId(after);
    // A few at a time: of ten thousand, one page is looked at.
    while ids.len() <= limit {
        let some = actor.picture().workspaces_after(from, 500);
        let Some((last, _)) = some.last() else { break };
        from = *last;
        let seen = some
            .iter()
            .filter(|(_, workspace)| (all || !workspace.archived) && name_key(&workspace.name).contains(&wanted))
            .filter(|(id, workspace)| {
                let target = Target {
                    owner: workspace.owner,
                    ..Target::workspace(*id)
                };
                actor.may(Permission::WorkspacesRead, &target).is_some()
            });
        ids.extend(seen.map(|(id, _)| id.0));
    }
    ids.truncate(limit + 1);
    let more = ids.len() > limit;
    let shown = &ids[..ids.len().min(limit)];
    let sql = format!(
        "SELECT {COLUMNS} FROM workspaces WHERE id IN ({}) ORDER BY id",
        id_list(shown.iter().copied())
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await?;
    let items = rows.iter().map(|row| view(actor, row)).collect::<Result<_>>()?;
    let next = more.then(|| shown.last().map(|id| id.to_string())).flatten();
    Ok(Page { items, next })
}

/// One workspace, for whoever has been granted something on it.
pub async fn get<P>(by: &Granted<P>, id: WorkspaceId) -> std::result::Result<Workspace, Refusal> {
    let actor = &by.actor;
    let sql = format!("SELECT {COLUMNS} FROM workspaces WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    let missing = || Refusal::NotFound {
        what: "workspace",
        which: id.to_string(),
    };
    let mut workspace = view(actor, &row.ok_or_else(missing)?)?;
    workspace.experiments = match count_seen(actor, id, None) {
        Some(sql) => sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&actor.db().read)
            .await
            .map(Some)?,
        None => Some(0),
    };
    Ok(workspace)
}

/// Makes a workspace with its project `default`. Whoever makes it owns it, and holds `creators_role` on it.
pub async fn create(
    by: &Granted<permit::WorkspacesCreate>,
    new: &NewWorkspace,
    creators_role: Option<RoleId>,
) -> Changed<WorkspaceId> {
    check_place_name("a workspace", &new.name).map_err(PlaceError::Invalid)?;
    check_description(&new.description).map_err(PlaceError::Invalid)?;
    let actor = &by.actor;
    let mut work = by.begin().await?;
    let now = actor.now();
    // Where access control is off there may be no user at all.
    let owner = (actor.id.0 > 0).then_some(actor.id.0);
    let inserted: std::result::Result<i64, StoreError> = sqlx::query_scalar(
        "INSERT INTO workspaces (name, name_key, description, owner_id, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(&new.name)
    .bind(name_key(&new.name))
    .bind(&new.description)
    .bind(owner)
    .bind(now.0)
    .fetch_one(&mut **work)
    .await
    .map_err(StoreError::from);
    let id = WorkspaceId(inserted.map_err(|why| taken(why, &new.name))?);
    let project = crate::projects::insert(&mut work, id, DEFAULT_PROJECT, "", owner, now).await?;
    work.touches(&[Touched::Workspace(id), Touched::Project(project)])
        .await?;
    if let (Some(role), Some(_)) = (creators_role, owner) {
        let assignment = Resolved {
            holder: Holder::Principal(actor.id),
            role,
            scope: Scope::Workspace(id),
            expires: None,
            reason: "made the workspace".into(),
        };
        let written = assignments::write(&mut work, actor, &assignment).await;
        written.map_err(|why| match why {
            ChangeError::Refused(Refusal::Store(why)) => PlaceError::from(why),
            _ => no_creators_role(),
        })?;
    }
    let role = creators_role.map(|role| actor.picture().role_name(role).to_string());
    let detail = json!({"after": {"name": new.name, "description": new.description, "creators_role": role}});
    let entry = Entry::of::<permit::WorkspacesCreate>("create", "workspace", &new.name).in_workspace(Some(id));
    audit::write(&mut work, actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(id)
}

/// Since the start the role may have been deleted, or have become one that holds only globally.
fn no_creators_role() -> PlaceError {
    PlaceError::Conflict(
        "the role that is configured for whoever makes a workspace is not there any more, or holds only globally"
            .into(),
        "an administrator of the server sets `workspace_creator_role` anew",
    )
}

fn taken(why: StoreError, name: &str) -> PlaceError {
    match why {
        StoreError::Conflict(_) => PlaceError::Conflict(
            format!("there is already a workspace `{name}` (letter case does not matter)"),
            "choose another name; it may be one that you may not see",
        ),
        other => other.into(),
    }
}

/// A workspace as it is before a change.
struct Before {
    name: String,
    description: String,
    archived: bool,
}

impl Before {
    async fn read(work: &mut Work, id: WorkspaceId) -> Changed<Before> {
        let row = sqlx::query("SELECT name, description, archived_at FROM workspaces WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&mut ***work)
            .await?;
        let row = row.ok_or_else(|| gone("workspace", id))?;
        Ok(Before {
            name: row.try_get(0)?,
            description: row.try_get(1)?,
            archived: row.try_get::<Option<i64>, _>(2)?.is_some(),
        })
    }

    /// What is submitted without a workspace goes to `default`, and every new user begins there.
    fn refuse_default(&self, doing: &str) -> Changed<()> {
        if name_key(&self.name) != DEFAULT_WORKSPACE {
            return Ok(());
        }
        Err(PlaceError::Conflict(
            format!("the workspace `{}` cannot be {doing}", self.name),
            "what is submitted without a workspace goes there, and every new user begins there; take the role that the group Users holds on it away instead",
        ))
    }
}

/// Changes name or description.
pub async fn change(by: &Granted<permit::WorkspacesUpdate>, id: WorkspaceId, change: &Rename) -> Changed<()> {
    check_change("a workspace", change)?;
    let mut work = by.begin().await?;
    work.touches(&[Touched::Workspace(id)]).await?;
    let before = Before::read(&mut work, id).await?;
    let name = change.name.as_deref().unwrap_or(&before.name);
    let description = change.description.as_deref().unwrap_or(&before.description);
    if name_key(name) != name_key(&before.name) {
        before.refuse_default("renamed")?;
    }
    let updated = sqlx::query("UPDATE workspaces SET name = $2, name_key = $3, description = $4 WHERE id = $1")
        .bind(id.0)
        .bind(name)
        .bind(name_key(name))
        .bind(description)
        .execute(&mut **work)
        .await
        .map_err(StoreError::from);
    updated.map_err(|why| taken(why, name))?;
    let detail = json!({
        "before": {"name": before.name, "description": before.description},
        "after": {"name": name, "description": description},
    });
    let entry = Entry::of::<permit::WorkspacesUpdate>("update", "workspace", &before.name).in_workspace(Some(id));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(())
}

pub(crate) fn check_change(what: &str, change: &Rename) -> Changed<()> {
    if change.name.is_none() && change.description.is_none() {
        return Err(PlaceError::Invalid(
            "there is nothing to change: give a name or a description".into(),
        ));
    }
    if let Some(name) = &change.name {
        check_place_name(what, name).map_err(PlaceError::Invalid)?;
    }
    if let Some(description) = &change.description {
        check_description(description).map_err(PlaceError::Invalid)?;
    }
    Ok(())
}

/// Archives or takes back. An archived workspace takes neither projects nor experiments; what is in it stays as it is.
pub async fn archive(by: &Granted<permit::WorkspacesUpdate>, id: WorkspaceId, archive: bool) -> Changed<()> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Workspace(id)]).await?;
    let before = Before::read(&mut work, id).await?;
    if archive {
        before.refuse_default("archived")?;
    }
    if before.archived == archive {
        let state = if archive { "archived already" } else { "not archived" };
        return Err(PlaceError::Conflict(
            format!("the workspace `{}` is {state}", before.name),
            "nothing is to be done",
        ));
    }
    sqlx::query("UPDATE workspaces SET archived_at = $2 WHERE id = $1")
        .bind(id.0)
        .bind(archive.then_some(by.actor.now().0))
        .execute(&mut **work)
        .await?;
    let verb = if archive { "archive" } else { "unarchive" };
    let entry = Entry::of::<permit::WorkspacesUpdate>(verb, "workspace", &before.name).in_workspace(Some(id));
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    Ok(())
}

/// Sets what a submission to the workspace names no queue for goes into; `None`: the default queue of all.
pub async fn set_default_queue(
    by: &Granted<permit::WorkspacesSetDefaultQueue>,
    id: WorkspaceId,
    queue: Option<&str>,
) -> Changed<()> {
    let picture = by.actor.picture();
    let queue = match queue {
        Some(name) => {
            let found = crate::queues::find(&by.actor, name)?;
            if !crate::queues::takes_of(picture, found, id) {
                return Err(PlaceError::Conflict(
                    format!(
                        "queue {} does not take jobs of the workspace `{}`",
                        picture.queue_name(found),
                        picture.workspace_name(id)
                    ),
                    "it needs one that is open to all workspaces, or bound to this one; `ml queue list` says which do",
                ));
            }
            Some(found)
        }
        None => None,
    };
    let mut work = by.begin().await?;
    work.touches(&[Touched::Workspace(id)]).await?;
    let before = Before::read(&mut work, id).await?;
    let was = picture.workspace(id).and_then(|workspace| workspace.default_queue);
    sqlx::query("UPDATE workspaces SET default_queue_id = $2 WHERE id = $1")
        .bind(id.0)
        .bind(queue.map(|queue| queue.0))
        .execute(&mut **work)
        .await?;
    let name = |queue: Option<bailiwick_api::QueueId>| queue.map(|queue| picture.queue_name(queue).to_string());
    let detail = json!({"before": {"default_queue": name(was)}, "after": {"default_queue": name(queue)}});
    let entry = Entry::of::<permit::WorkspacesSetDefaultQueue>("set-default-queue", "workspace", &before.name);
    audit::write(&mut work, &by.actor, entry.in_workspace(Some(id)).with(detail)).await?;
    work.commit().await?;
    Ok(())
}

/// Deletes a workspace without experiments, with its projects and whatever roles were assigned there.
pub async fn delete(by: &Granted<permit::WorkspacesDelete>, id: WorkspaceId) -> Changed<()> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Workspace(id)]).await?;
    // Taken in the order in which a submission takes them, workspace and then project: neither waits for the other for ever.
    let lock = format!("SELECT id FROM workspaces WHERE id = $1{}", by.db().lock_rows());
    sqlx::query(AssertSqlSafe(lock))
        .bind(id.0)
        .fetch_optional(&mut **work)
        .await?;
    let before = Before::read(&mut work, id).await?;
    before.refuse_default("deleted")?;
    refuse_full(&mut work, &by.actor, "workspace", &before.name, (id, None)).await?;
    let projects: std::result::Result<Vec<i64>, sqlx::Error> =
        sqlx::query_scalar("DELETE FROM projects WHERE workspace_id = $1 RETURNING id")
            .bind(id.0)
            .fetch_all(&mut **work)
            .await;
    let projects = projects.map_err(|why| filled_meanwhile(why, "workspace", &before.name))?;
    crate::queues::unbind(&mut work, id).await?;
    let mut touched = unassign(&mut work, "workspace", &[id.0]).await?;
    touched.extend(unassign(&mut work, "project", &projects).await?);
    let deleted = sqlx::query("DELETE FROM workspaces WHERE id = $1")
        .bind(id.0)
        .execute(&mut **work)
        .await;
    deleted.map_err(|why| filled_meanwhile(why, "workspace", &before.name))?;
    let ended_roles = touched.len();
    touched.extend(projects.iter().map(|id| Touched::Project(ProjectId(*id))));
    work.touches(&touched).await?;
    let detail = json!({"before": {"name": before.name, "projects": projects.len(), "assignments": ended_roles}});
    let entry = Entry::of::<permit::WorkspacesDelete>("delete", "workspace", &before.name).in_workspace(Some(id));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(())
}

/// Takes away what was assigned at things that are being deleted.
pub(crate) async fn unassign(tx: &mut Tx, kind: &str, ids: &[i64]) -> Result<Vec<Touched>> {
    let sql = format!(
        "DELETE FROM assignments WHERE scope_kind = $1 AND scope_id IN ({}) RETURNING id",
        id_list(ids.iter().copied())
    );
    let assigned: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(kind)
        .fetch_all(&mut **tx)
        .await?;
    Ok(assigned
        .into_iter()
        .map(|id| Touched::Assignment(AssignmentId(id)))
        .collect())
}

const FULL_HINT: &str = "move them with `ml experiment move`, or delete them with `ml experiment delete`, first; those that you may not see are for an administrator";

/// Refuses to delete what holds experiments; says how many of them the caller may see, and not how many there are.
pub(crate) async fn refuse_full(
    tx: &mut Tx,
    actor: &Actor,
    what: &str,
    name: &str,
    place: (WorkspaceId, Option<ProjectId>),
) -> Changed<()> {
    let condition = match place {
        (workspace, None) => format!("workspace_id = {workspace}"),
        (_, Some(project)) => format!("project_id = {project}"),
    };
    if place.1.is_none() {
        refuse_models(tx, actor, name, place.0).await?;
    }
    let sql = format!("SELECT id FROM experiments WHERE {condition} LIMIT 1");
    let held = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut **tx).await?;
    if held.is_none() {
        return Ok(());
    }
    let seen: i64 = match count_seen(actor, place.0, place.1) {
        Some(sql) => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut **tx).await?,
        None => 0,
    };
    let seen = match seen {
        0 => "none of which you may see".to_owned(),
        COUNTED_MAX.. => format!("{seen} or more of which you may see"),
        _ => format!("{seen} of which you may see"),
    };
    Err(PlaceError::Conflict(
        format!("the {what} `{name}` still holds experiments, {seen}"),
        FULL_HINT,
    ))
}

async fn refuse_models(tx: &mut Tx, actor: &Actor, name: &str, workspace: WorkspaceId) -> Changed<()> {
    let held: Vec<i64> = sqlx::query_scalar("SELECT id FROM models WHERE workspace_id = $1")
        .bind(workspace.0)
        .fetch_all(&mut **tx)
        .await?;
    if held.is_empty() {
        return Ok(());
    }
    let may_see = |id: &&i64| {
        let id = ModelId(**id);
        let target = actor.picture().model(id).map(|model| model_target(id, &model));
        target.is_some_and(|target| actor.may(Permission::ModelsRead, &target).is_some())
    };
    let seen = match held.iter().filter(may_see).count() {
        0 => "none of which you may see".to_owned(),
        seen => format!("{seen} of which you may see"),
    };
    Err(PlaceError::Conflict(
        format!("the workspace `{name}` still holds models, {seen}"),
        "move them with `ml model move`, or delete them with `ml model delete`, first; those that you may not see are for an administrator",
    ))
}

/// PostgreSQL lets an experiment in up to the last moment; then the database refuses.
pub(crate) fn filled_meanwhile(why: sqlx::Error, what: &str, name: &str) -> PlaceError {
    match &why {
        sqlx::Error::Database(database) if database.is_foreign_key_violation() => PlaceError::Conflict(
            format!("the {what} `{name}` has just been given an experiment"),
            FULL_HINT,
        ),
        _ => why.into(),
    }
}

/// The statement that counts those experiments of a workspace (or of one project in it) that the actor may see, up to [`COUNTED_MAX`]; none where it sees none.
pub(crate) fn count_seen(actor: &Actor, workspace: WorkspaceId, project: Option<ProjectId>) -> Option<String> {
    let visible = actor.visible(Permission::ExperimentsRead, ObjectKind::Experiment);
    if visible
        .within
        .as_ref()
        .is_some_and(|within| !within.contains(&workspace))
    {
        return None;
    }
    let place = match project {
        Some(project) => format!("project_id = {project}"),
        None => format!("workspace_id = {workspace}"),
    };
    let count = |condition: &str| {
        format!("SELECT COUNT(*) FROM (SELECT 1 FROM experiments WHERE {condition} LIMIT {COUNTED_MAX}) AS seen")
    };
    let is_here = |ids: &[ProjectId]| project.is_some_and(|project| ids.contains(&project));
    if visible.all || visible.workspaces.contains(&workspace) || is_here(&visible.projects) {
        return Some(count(&place));
    }
    let own = format!("owner_id = {}", actor.id);
    let mut parts = Vec::new();
    if visible.own || visible.own_workspaces.contains(&workspace) || is_here(&visible.own_projects) {
        parts.push(own.clone());
    }
    // Of a whole workspace: the projects in it that are seen.
    let in_it = |ids: &[ProjectId]| -> Vec<i64> {
        let of = |id: &&ProjectId| {
            let project = actor.picture().project(**id);
            project.is_some_and(|project| project.workspace == workspace)
        };
        ids.iter().filter(of).map(|id| id.0).collect()
    };
    if project.is_none() {
        for (ids, whose) in [(&visible.projects, None), (&visible.own_projects, Some(&own))] {
            let ids = in_it(ids);
            if !ids.is_empty() {
                let whose = whose.map_or_else(String::new, |own| format!(" AND {own}"));
                parts.push(format!("project_id IN ({}){whose}", id_list(ids)));
            }
        }
    }
    for (ids, whose) in [(&visible.objects, None), (&visible.own_objects, Some(&own))] {
        if !ids.is_empty() {
            let whose = whose.map_or_else(String::new, |own| format!(" AND {own}"));
            parts.push(format!("id IN ({}){whose}", id_list(ids.iter().copied())));
        }
    }
    if parts.is_empty() {
        return None;
    }
    Some(count(&format!("{place} AND (({}))", parts.join(") OR ("))))
}

fn stacks() -> PermissionSet {
    let all = [
        Permission::StacksCreate,
        Permission::StacksRead,
        Permission::StacksUpdate,
        Permission::StacksDelete,
    ];
    let all = all.into_iter().map(PermissionSet::of);
    all.fold(PermissionSet::EMPTY, PermissionSet::union)
}

/// Who holds a role at these scopes now, by assignment. From the whole installation come only roles that give something inside a workspace.
pub fn members(by: &Granted<permit::RolesRead>, scopes: &[Scope], filter: &MemberFilter) -> Page<Member> {
    let picture = by.actor.picture();
    let (now, after) = (by.actor.now().0, filter.after.unwrap_or(0));
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000) as usize;
    let mut found: Vec<Assignment> = {
        let world = picture.world();
        let counts = |assignment: &&Assignment| {
            assignment.id.0 > after
                && assignment.expires.is_none_or(|end| now < end)
                && world.role(assignment.role).is_some_and(|role| {
                    let all = role.permissions.all.union(role.permissions.own);
                    // Stacks lie in no workspace.
                    let elsewhere = PermissionSet::global_only().union(stacks());
                    assignment.scope != Scope::Global || !all.without(elsewhere).is_empty()
                })
        };
        let at = scopes.iter().flat_map(|scope| world.assignments_at(*scope));
        at.filter(counts).copied().collect()
    };
    found.sort_unstable_by_key(|assignment| assignment.id);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = more.then(|| found.last().map(|last| last.id.to_string())).flatten();
    let items = found.iter().map(|assignment| member(by, assignment)).collect();
    Page { items, next }
}

fn member(by: &Granted<permit::RolesRead>, assignment: &Assignment) -> Member {
    let picture = by.actor.picture();
    let (kind, id, name, active, members) = match assignment.holder {
        Holder::Principal(id) => {
            let service = picture
                .principal(id)
                .is_some_and(|principal| principal.kind == PrincipalKind::Service);
            let kind = if service {
                MemberKind::ServiceAccount
            } else {
                MemberKind::User
            };
            let active = picture.world().is_active(id);
            (kind, id.0, picture.principal_name(id), active, None)
        }
        Holder::Group(id) => {
            // Everybody belongs to the group of everybody, and nobody is written down there.
            let told = id != picture.users_group() && crate::groups::may_see(&by.actor, id);
            let count = told.then(|| picture.world().members_of(id).len() as i64);
            (MemberKind::Group, id.0, picture.group_name(id), true, count)
        }
    };
    Member {
        assignment: assignment.id,
        kind,
        id,
        name: name.to_string(),
        role: picture.role_name(assignment.role).to_string(),
        scope: picture.scope_view(assignment.scope),
        until: assignment.expires.map(Time),
        active,
        members,
    }
}

/// The configured role for whoever makes a workspace, by name.
///
/// # Errors
/// There is no such role, or it holds only globally, in words for the operator.
pub fn creators_role(picture: &crate::access::Picture, name: &str) -> std::result::Result<RoleId, String> {
    let id = picture.find_role(name).ok_or_else(|| picture.no_role(name))?;
    let role = picture.role(id).ok_or_else(|| picture.no_role(name))?;
    if role.permissions.is_global_only() {
        return Err(format!(
            "the role {} can only be assigned globally, so nobody can hold it on a workspace",
            role.name
        ));
    }
    Ok(id)
}

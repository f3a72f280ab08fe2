//! Projects: making, listing, changing, deleting them.

use bailiwick_access::Target;
use bailiwick_api::names::{check_place_name, name_key};
use bailiwick_api::permission::permit;
use bailiwick_api::workspaces::{DEFAULT_PROJECT, NewProject, PlaceFilter, Project, Rename, check_description};
use bailiwick_api::{Page, Permission, PrincipalId, ProjectId, Time, WorkspaceId};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, ProjectEntry, Refusal, Touched, Work};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, id_list};
use crate::workspaces::{Changed, PlaceError, check_change, count_seen, filled_meanwhile, gone, refuse_full, unassign};

const COLUMNS: &str = "id, name, workspace_id, description, owner_id, created_at, archived_at";

fn view(actor: &Actor, row: &AnyRow) -> Result<Project> {
    let owner: Option<i64> = row.try_get(4)?;
    let workspace = WorkspaceId(row.try_get(2)?);
    Ok(Project {
        id: ProjectId(row.try_get(0)?),
        name: row.try_get(1)?,
        workspace: actor.picture().workspace_name(workspace).to_string(),
        description: row.try_get(3)?,
        owner: owner.map(|owner| actor.picture().principal_name(PrincipalId(owner)).to_string()),
        created_at: Time(row.try_get(5)?),
        archived_at: row.try_get::<Option<i64>, _>(6)?.map(Time),
        experiments: None,
    })
}

/// Those of a workspace that this actor may see.
pub(crate) fn seen(actor: &Actor, workspace: WorkspaceId) -> Vec<(ProjectId, ProjectEntry)> {
    let mut projects = actor.picture().projects(workspace);
    projects.retain(|(id, project)| {
        let target = Target {
            workspace: Some(workspace),
            project: Some(*id),
            object: None,
            owner: project.owner,
        };
        actor.may(Permission::ProjectsRead, &target).is_some()
    });
    projects
}

/// Those that this actor may see, of one workspace or of all, oldest first.
pub async fn list(actor: &Actor, workspace: Option<WorkspaceId>, filter: &PlaceFilter) -> Result<Page<Project>> {
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000) as usize;
    let (after, all) = (filter.after.unwrap_or(0), filter.all == Some(true));
    let workspaces: Vec<WorkspaceId> = match workspace {
        Some(workspace) => vec![workspace],
        None => {
            let known = actor.picture().workspaces().into_iter();
            let shown = known.filter(|(_, workspace)| all || !workspace.archived);
            shown.map(|(id, _)| id).collect()
        }
    };
    let seen = workspaces.into_iter().flat_map(|workspace| seen(actor, workspace));
    let wanted = filter.text.as_deref().map(name_key).unwrap_or_default();
    let fitting = seen.filter(|(id, project)| {
        id.0 > after && (all || !project.archived) && (wanted.is_empty() || name_key(&project.name).contains(&wanted))
    });
    let mut ids: Vec<i64> = fitting.map(|(id, _)| id.0).collect();
    ids.sort_unstable();
    let more = ids.len() > limit;
    ids.truncate(limit);
    let sql = format!(
        "SELECT {COLUMNS} FROM projects WHERE id IN ({}) ORDER BY id",
        id_list(ids.iter().copied())
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await?;
    let items = rows.iter().map(|row| view(actor, row)).collect::<Result<_>>()?;
    let next = more.then(|| ids.last().map(|id| id.to_string())).flatten();
    Ok(Page { items, next })
}

/// One project, for whoever has been granted something on it.
pub async fn get<P>(by: &Granted<P>, id: ProjectId) -> std::result::Result<Project, Refusal> {
    let actor = &by.actor;
    let sql = format!("SELECT {COLUMNS} FROM projects WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?;
    let missing = || Refusal::NotFound {
        what: "project",
        which: id.to_string(),
    };
    let row = row.ok_or_else(missing)?;
    let mut project = view(actor, &row)?;
    project.experiments = match count_seen(actor, WorkspaceId(row.try_get(2)?), Some(id)) {
        Some(sql) => sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&actor.db().read)
            .await
            .map(Some)?,
        None => Some(0),
    };
    Ok(project)
}

/// Writes a project; telling that it was made ([`Work::touches`]) is the caller's.
pub(crate) async fn insert(
    tx: &mut Tx,
    workspace: WorkspaceId,
    name: &str,
    description: &str,
    owner: Option<i64>,
    now: Time,
) -> Result<ProjectId> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO projects (workspace_id, name, name_key, description, owner_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    )
    .bind(workspace.0)
    .bind(name)
    .bind(name_key(name))
    .bind(description)
    .bind(owner)
    .bind(now.0)
    .fetch_one(&mut **tx)
    .await?;
    Ok(ProjectId(id))
}

/// Makes a project in a workspace that is not archived. Whoever makes it owns it.
pub async fn create(
    by: &Granted<permit::ProjectsCreate>,
    workspace: WorkspaceId,
    new: &NewProject,
) -> Changed<ProjectId> {
    check_place_name("a project", &new.name).map_err(PlaceError::Invalid)?;
    check_description(&new.description).map_err(PlaceError::Invalid)?;
    let actor = &by.actor;
    let mut work = by.begin().await?;
    // Taken first: the workspace is not archived or deleted between our look and the end.
    work.touches(&[]).await?;
    let row = sqlx::query("SELECT name, archived_at FROM workspaces WHERE id = $1")
        .bind(workspace.0)
        .fetch_optional(&mut **work)
        .await?;
    let row = row.ok_or_else(|| gone("workspace", workspace))?;
    if row.try_get::<Option<i64>, _>(1)?.is_some() {
        return Err(archived("workspace", row.try_get(0)?));
    }
    let owner = (actor.id.0 > 0).then_some(actor.id.0);
    let inserted = insert(&mut work, workspace, &new.name, &new.description, owner, actor.now()).await;
    let id = inserted.map_err(|why| taken(why, &new.name))?;
    work.touches(&[Touched::Project(id)]).await?;
    let detail = json!({"after": {"name": new.name, "description": new.description}});
    let entry = Entry::of::<permit::ProjectsCreate>("create", "project", &new.name).in_workspace(Some(workspace));
    audit::write(&mut work, actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(id)
}

pub(crate) fn archived(what: &str, name: &str) -> PlaceError {
    PlaceError::Conflict(
        format!("the {what} `{name}` is archived and takes nothing new"),
        "choose another one; `ml workspace unarchive` and `ml project unarchive` take one back",
    )
}

fn taken(why: StoreError, name: &str) -> PlaceError {
    match why {
        StoreError::Conflict(_) => PlaceError::Conflict(
            format!("there is already a project `{name}` in the workspace (letter case does not matter)"),
            "choose another name; it may be one that you may not see",
        ),
        other => other.into(),
    }
}

/// A project as it is before a change.
struct Before {
    name: String,
    workspace: WorkspaceId,
    description: String,
    archived: bool,
}

impl Before {
    async fn read(work: &mut Work, id: ProjectId) -> Changed<Before> {
        let row = sqlx::query("SELECT name, workspace_id, description, archived_at FROM projects WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&mut ***work)
            .await?;
        let row = row.ok_or_else(|| gone("project", id))?;
        Ok(Before {
            name: row.try_get(0)?,
            workspace: WorkspaceId(row.try_get(1)?),
            description: row.try_get(2)?,
            archived: row.try_get::<Option<i64>, _>(3)?.is_some(),
        })
    }

    fn refuse_default(&self, doing: &str) -> Changed<()> {
        if name_key(&self.name) != DEFAULT_PROJECT {
            return Ok(());
        }
        Err(PlaceError::Conflict(
            format!("the project `{}` cannot be {doing}", self.name),
            "what is submitted to its workspace without a project goes there",
        ))
    }
}

/// Changes name or description.
pub async fn change(by: &Granted<permit::ProjectsUpdate>, id: ProjectId, change: &Rename) -> Changed<()> {
    check_change("a project", change)?;
    let mut work = by.begin().await?;
    work.touches(&[Touched::Project(id)]).await?;
    let before = Before::read(&mut work, id).await?;
    let name = change.name.as_deref().unwrap_or(&before.name);
    let description = change.description.as_deref().unwrap_or(&before.description);
    if name_key(name) != name_key(&before.name) {
        before.refuse_default("renamed")?;
    }
    let updated = sqlx::query("UPDATE projects SET name = $2, name_key = $3, description = $4 WHERE id = $1")
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
    let entry =
        Entry::of::<permit::ProjectsUpdate>("update", "project", &before.name).in_workspace(Some(before.workspace));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(())
}

/// Archives or takes back. An archived project takes no experiments; what is in it stays as it is.
pub async fn archive(by: &Granted<permit::ProjectsUpdate>, id: ProjectId, archive: bool) -> Changed<()> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Project(id)]).await?;
    let before = Before::read(&mut work, id).await?;
    if archive {
        before.refuse_default("archived")?;
    }
    if before.archived == archive {
        let state = if archive { "archived already" } else { "not archived" };
        return Err(PlaceError::Conflict(
            format!("the project `{}` is {state}", before.name),
            "nothing is to be done",
        ));
    }
    sqlx::query("UPDATE projects SET archived_at = $2 WHERE id = $1")
        .bind(id.0)
        .bind(archive.then_some(by.actor.now().0))
        .execute(&mut **work)
        .await?;
    let verb = if archive { "archive" } else { "unarchive" };
    let entry = Entry::of::<permit::ProjectsUpdate>(verb, "project", &before.name).in_workspace(Some(before.workspace));
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    Ok(())
}

/// Deletes a project without experiments, with whatever roles were assigned there.
pub async fn delete(by: &Granted<permit::ProjectsDelete>, id: ProjectId) -> Changed<()> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Project(id)]).await?;
    let before = Before::read(&mut work, id).await?;
    before.refuse_default("deleted")?;
    let place = (before.workspace, Some(id));
    refuse_full(&mut work, &by.actor, "project", &before.name, place).await?;
    let touched = unassign(&mut work, "project", &[id.0]).await?;
    let deleted = sqlx::query("DELETE FROM projects WHERE id = $1")
        .bind(id.0)
        .execute(&mut **work)
        .await;
    deleted.map_err(|why| filled_meanwhile(why, "project", &before.name))?;
    work.touches(&touched).await?;
    let detail = json!({"before": {"name": before.name, "assignments": touched.len()}});
    let entry =
        Entry::of::<permit::ProjectsDelete>("delete", "project", &before.name).in_workspace(Some(before.workspace));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(())
}

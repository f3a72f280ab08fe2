//! Models in a workspace, and their versions: what each came of, and where it lies.

use std::collections::BTreeMap;

use bailiwick_access::ObjectKind;
use bailiwick_api::models::{Model, ModelFilter, ModelVersion, NewModel, NewModelVersion, VersionFilter};
use bailiwick_api::names::{check_place_name, name_key};
use bailiwick_api::permission::permit;
use bailiwick_api::workspaces::{Rename, check_description};
use bailiwick_api::{ExperimentId, ModelId, Page, Permission, PrincipalId, Time, WorkspaceId};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, ModelEntry, Refusal, Touched, Work, model_target};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, id_list};
use crate::experiments::ExperimentRow;
use crate::projects::archived;
use crate::stacks::check_store;
use crate::workspaces::{Changed, PlaceError, check_change, gone, unassign};

/// Most models of a workspace.
const MODELS_MAX: usize = 10_000;
/// Most versions of a model that are there at once.
const VERSIONS_MAX: i64 = 10_000;
/// Models that are looked at in one piece.
const PIECE: usize = 1000;
/// From so many models on that somebody may see, all there are are walked instead of these.
const MANY: usize = 20_000;

const COLUMNS: &str = "id, workspace_id, name, description, owner_id, created_at, versions,
    (SELECT MAX(version) FROM model_versions v WHERE v.model_id = models.id)";

/// A row as it is.
struct Kept {
    model: Model,
    workspace: WorkspaceId,
}

fn owner_name(actor: &Actor, owner: Option<i64>) -> Option<String> {
    owner.map(|id| actor.picture().principal_name(PrincipalId(id)).to_string())
}

fn read(actor: &Actor, row: &AnyRow) -> Result<Kept> {
    let workspace = WorkspaceId(row.try_get(1)?);
    let model = Model {
        id: ModelId(row.try_get(0)?),
        name: row.try_get(2)?,
        workspace: actor.picture().workspace_name(workspace).to_string(),
        description: row.try_get(3)?,
        owner: owner_name(actor, row.try_get(4)?),
        created_at: Time(row.try_get(5)?),
        versions: row.try_get(6)?,
        latest_version: row.try_get(7)?,
    };
    Ok(Kept { model, workspace })
}

/// The models among which all lie that this actor may see, where these are not very many; else nothing, and then it sees enough of all that the newest soon fill a page.
fn among(actor: &Actor, wanted: Option<Option<WorkspaceId>>) -> Option<Vec<(ModelId, ModelEntry)>> {
    let picture = actor.picture();
    let visible = actor.visible(Permission::ModelsRead, ObjectKind::Model);
    let reached: Option<Vec<WorkspaceId>> = match visible.all || visible.own {
        true => visible.within,
        false => Some(visible.workspaces.into_iter().chain(visible.own_workspaces).collect()),
    };
    let workspaces = match (wanted, reached) {
        // One that it does not reach is not looked through: how long that takes would tell that it is there.
        (Some(wanted), Some(reached)) => wanted.filter(|id| reached.contains(id)).into_iter().collect(),
        (Some(wanted), None) if visible.all => wanted.into_iter().collect(),
        (None, Some(reached)) => reached,
        (_, None) => return None,
    };
    let singles = visible.objects.into_iter().chain(visible.own_objects).map(ModelId);
    let mut found: Vec<_> = singles.filter_map(|id| Some((id, picture.model(id)?))).collect();
    for workspace in workspaces {
        found.extend(picture.models_of(workspace));
        if found.len() > MANY {
            return None;
        }
    }
    found.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
    found.dedup_by_key(|(id, _)| *id);
    Some(found)
}

/// Those that this actor may see, newest first. A filter leaves some of these out and brings none in.
pub async fn list(actor: &Actor, filter: &ModelFilter) -> Result<Page<Model>> {
    let picture = actor.picture();
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000) as usize;
    let workspace = filter.workspace.as_deref().map(|name| picture.find_workspace(name));
    let owner = filter.owner.as_deref().map(|name| picture.find_principal(name));
    let text = filter.text.as_deref().map(name_key).unwrap_or_default();
    let mut after = ModelId(filter.after.unwrap_or(i64::MAX));
    let fits = |id: ModelId, model: &ModelEntry| {
        workspace.is_none_or(|workspace| workspace == Some(model.workspace))
            && owner.is_none_or(|owner| owner.is_some() && owner == model.owner)
            && (text.is_empty() || name_key(&model.name).contains(&text))
            && actor.may(Permission::ModelsRead, &model_target(id, model)).is_some()
    };
    let mut ids = Vec::new();
    if let Some(found) = among(actor, workspace) {
        let rest = found.into_iter().filter(|(id, model)| *id < after && fits(*id, model));
        ids.extend(rest.map(|(id, _)| id.0).take(limit + 1));
    } else {
        loop {
            let piece = picture.models_before(after, PIECE);
            let is_last = piece.len() < PIECE;
            after = piece.last().map_or(after, |(id, _)| *id);
            ids.extend(
                piece
                    .into_iter()
                    .filter(|(id, model)| fits(*id, model))
                    .map(|(id, _)| id.0),
            );
            if is_last || ids.len() > limit {
                break;
            }
        }
    }
    let more = ids.len() > limit;
    ids.truncate(limit);
    let next = ids.last().filter(|_| more).map(|id| id.to_string());
    let ids = id_list(ids);
    let sql = format!("SELECT {COLUMNS} FROM models WHERE id IN ({ids}) ORDER BY id DESC");
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await?;
    let items = rows.iter().map(|row| Ok(read(actor, row)?.model));
    Ok(Page {
        items: items.collect::<Result<_>>()?,
        next,
    })
}

/// One model, for whoever has been granted something on it.
pub async fn get<P>(by: &Granted<P>, id: ModelId) -> std::result::Result<Model, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM models WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&by.actor.db().read)
        .await?;
    let row = row.ok_or_else(|| Refusal::NotFound {
        what: "model",
        which: id.to_string(),
    })?;
    Ok(read(&by.actor, &row)?.model)
}

/// The model as its row has it now.
async fn before(work: &mut Work, actor: &Actor, id: ModelId) -> Changed<Kept> {
    let sql = format!("SELECT {COLUMNS} FROM models WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&mut ***work)
        .await?;
    let row = row.ok_or_else(|| gone("model", id))?;
    Ok(read(actor, &row)?)
}

fn taken(name: &str) -> impl FnOnce(StoreError) -> PlaceError {
    move |why| match why {
        StoreError::Conflict(_) => PlaceError::Conflict(
            format!("there is already a model `{name}` in the workspace (letter case does not matter)"),
            "choose another name; it may be one that you may not see",
        ),
        other => other.into(),
    }
}

/// That a workspace takes another model. Asked when `touches` has been called: it stays so until the transaction ends.
async fn takes_one(work: &mut Work, actor: &Actor, workspace: WorkspaceId) -> Changed<()> {
    let row = sqlx::query("SELECT name, archived_at FROM workspaces WHERE id = $1")
        .bind(workspace.0)
        .fetch_optional(&mut ***work)
        .await?;
    let row = row.ok_or_else(|| gone("workspace", workspace))?;
    if row.try_get::<Option<i64>, _>(1)?.is_some() {
        return Err(archived("workspace", row.try_get(0)?));
    }
    if actor.picture().models_of(workspace).len() >= MODELS_MAX {
        return Err(PlaceError::Conflict(
            format!("the workspace holds {MODELS_MAX} models"),
            "delete or move some first, or add a version to one that is there",
        ));
    }
    Ok(())
}

/// Makes a model without versions in a workspace that is not archived. Whoever makes it owns it.
pub async fn create(by: &Granted<permit::ModelsCreate>, workspace: WorkspaceId, new: &NewModel) -> Changed<Model> {
    check_place_name("a model", &new.name).map_err(PlaceError::Invalid)?;
    check_description(&new.description).map_err(PlaceError::Invalid)?;
    let actor = &by.actor;
    let mut work = by.begin().await?;
    work.touches(&[]).await?;
    takes_one(&mut work, actor, workspace).await?;
    let sql = format!(
        "INSERT INTO models (workspace_id, name, name_key, description, owner_id, created_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING {COLUMNS}"
    );
    let inserted = sqlx::query(AssertSqlSafe(sql))
        .bind(workspace.0)
        .bind(&new.name)
        .bind(name_key(&new.name))
        .bind(&new.description)
        .bind((actor.id.0 > 0).then_some(actor.id.0))
        .bind(actor.now().0)
        .fetch_one(&mut **work)
        .await;
    let row = inserted.map_err(StoreError::from).map_err(taken(&new.name))?;
    let model = read(actor, &row)?.model;
    work.touches(&[Touched::Model(model.id)]).await?;
    let detail = json!({"after": {"name": new.name, "description": new.description}});
    let entry = Entry::of::<permit::ModelsCreate>("create", "model", model.id).in_workspace(Some(workspace));
    audit::write(&mut work, actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(model)
}

/// Changes name or description.
pub async fn change(by: &Granted<permit::ModelsUpdate>, id: ModelId, change: &Rename) -> Changed<()> {
    check_change("a model", change)?;
    let mut work = by.begin().await?;
    work.touches(&[Touched::Model(id)]).await?;
    let Kept { model, workspace } = before(&mut work, &by.actor, id).await?;
    let name = change.name.as_deref().unwrap_or(&model.name);
    let description = change.description.as_deref().unwrap_or(&model.description);
    let updated = sqlx::query("UPDATE models SET name = $2, name_key = $3, description = $4 WHERE id = $1")
        .bind(id.0)
        .bind(name)
        .bind(name_key(name))
        .bind(description)
        .execute(&mut **work)
        .await;
    updated.map_err(StoreError::from).map_err(taken(name))?;
    let detail = json!({
        "before": {"name": model.name, "description": model.description},
        "after": {"name": name, "description": description},
    });
    let entry = Entry::of::<permit::ModelsUpdate>("update", "model", id).in_workspace(Some(workspace));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(())
}

/// Puts a model into another workspace. Its owner stays; who may see it there may see it from now on.
pub async fn move_to(
    from: &Granted<permit::ModelsDelete>,
    to: &Granted<permit::ModelsCreate>,
    id: ModelId,
) -> Changed<Model> {
    let actor = &from.actor;
    let workspace = to.target.workspace.expect("models are put into a workspace");
    let mut work = from.begin().await?;
    work.touches(&[Touched::Model(id)]).await?;
    // The other half of the decision, by the picture with which the transaction began.
    if to.actor.may(Permission::ModelsCreate, &to.target).is_none() {
        return Err(to.actor.forbidden(Permission::ModelsCreate, &to.target).into());
    }
    let was = before(&mut work, actor, id).await?;
    if was.workspace == workspace {
        return Err(PlaceError::Conflict(
            format!(
                "model `{}` is in workspace `{}` already",
                was.model.name, was.model.workspace
            ),
            "nothing is to be done",
        ));
    }
    takes_one(&mut work, actor, workspace).await?;
    let sql = format!("UPDATE models SET workspace_id = $2 WHERE id = $1 RETURNING {COLUMNS}");
    let moved = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(workspace.0)
        .fetch_one(&mut **work)
        .await;
    let moved = moved.map_err(StoreError::from).map_err(taken(&was.model.name))?;
    // By number, and in this order, by which audit.rs finds it: who may read the audit of one of the two places need not know the other.
    let detail =
        json!({"before": {"workspace": was.workspace}, "after": {"workspace": workspace, "name": was.model.name}});
    let entry = Entry::of::<permit::ModelsDelete>("move", "model", id).in_workspace(Some(was.workspace));
    audit::write(&mut work, actor, entry.with(detail)).await?;
    let moved = read(actor, &moved)?.model;
    work.commit().await?;
    Ok(moved)
}

/// Deletes a model with its versions, and what was assigned at it. What lies where a version said stays there.
pub async fn delete(by: &Granted<permit::ModelsDelete>, id: ModelId) -> Changed<Model> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Model(id)]).await?;
    let Kept { model, workspace } = before(&mut work, &by.actor, id).await?;
    let touched = unassign(&mut work, "model", &[id.0]).await?;
    work.touches(&touched).await?;
    for sql in [
        "DELETE FROM model_versions WHERE model_id = $1",
        "DELETE FROM models WHERE id = $1",
    ] {
        sqlx::query(sql).bind(id.0).execute(&mut **work).await?;
    }
    let detail = json!({"before": {"name": model.name, "versions": model.versions, "assignments": touched.len()}});
    let entry = Entry::of::<permit::ModelsDelete>("delete", "model", id).in_workspace(Some(workspace));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(model)
}

// ---- versions

const VERSION_COLUMNS: &str = "version, description, experiment_id, uri, owner_id, created_at";

/// `experiment` is left as it is: whether it may be seen is the caller's question.
fn read_version(actor: &Actor, row: &AnyRow) -> Result<ModelVersion> {
    Ok(ModelVersion {
        version: row.try_get(0)?,
        description: row.try_get(1)?,
        experiment: row.try_get::<Option<i64>, _>(2)?.map(ExperimentId),
        uri: row.try_get(3)?,
        owner: owner_name(actor, row.try_get(4)?),
        created_at: Time(row.try_get(5)?),
    })
}

/// The versions of a model, newest first. An experiment that the reader may not see is left out.
pub async fn versions(
    by: &Granted<permit::ModelsRead>,
    id: ModelId,
    filter: &VersionFilter,
) -> Result<Page<ModelVersion>> {
    let actor = &by.actor;
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000) as usize;
    let sql = format!(
        "SELECT {VERSION_COLUMNS} FROM model_versions WHERE model_id = $1 AND version < $2 ORDER BY version DESC LIMIT {}",
        limit + 1
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(filter.after.unwrap_or(i64::MAX))
        .fetch_all(&actor.db().read)
        .await?;
    let items = rows.iter().map(|row| read_version(actor, row));
    let mut items = items.collect::<Result<Vec<_>>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    let named: Vec<i64> = items.iter().filter_map(|one| Some(one.experiment?.0)).collect();
    let places: BTreeMap<_, _> = crate::questions::experiments(actor, &named).await?;
    for one in &mut items {
        let target = one.experiment.and_then(|id| places.get(&id.0));
        let is_seen = target.is_some_and(|target| actor.may(Permission::ExperimentsRead, target).is_some());
        one.experiment = one.experiment.filter(|_| is_seen);
    }
    let next = items.last().filter(|_| more).map(|one| one.version.to_string());
    Ok(Page { items, next })
}

/// Who registered a version; nobody where access control was off, or where it is not there.
pub async fn version_owner(actor: &Actor, id: ModelId, version: i64) -> Result<Option<PrincipalId>> {
    let owner: Option<Option<i64>> =
        sqlx::query_scalar("SELECT owner_id FROM model_versions WHERE model_id = $1 AND version = $2")
            .bind(id.0)
            .bind(version)
            .fetch_optional(&actor.db().read)
            .await?;
    Ok(owner.flatten().map(PrincipalId))
}

/// Adds to the number of versions, and gives the highest number that there ever was; nothing where the model is no longer where the right was found.
async fn count(work: &mut Work, id: ModelId, workspace: Option<WorkspaceId>, by: i64) -> Changed<(i64, i64)> {
    let row = sqlx::query(
        "UPDATE models SET versions = versions + $3, last_version = last_version + CASE WHEN $3 > 0 THEN 1 ELSE 0 END
         WHERE id = $1 AND workspace_id = $2 RETURNING versions, last_version",
    )
    .bind(id.0)
    .bind(workspace.map_or(0, |id| id.0))
    .bind(by)
    .fetch_optional(&mut ***work)
    .await?;
    let row = row.ok_or_else(|| gone("model", id))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn words(version: &ModelVersion) -> Value {
    json!({
        "version": version.version, "description": version.description, "experiment": version.experiment, "uri": version.uri,
    })
}

/// Registers the next version. Of an experiment, that its namer may see it is the caller's question.
pub async fn add_version(
    by: &Granted<permit::ModelsUpdate>,
    id: ModelId,
    new: &NewModelVersion,
    experiment: Option<&ExperimentRow>,
) -> Changed<ModelVersion> {
    check_description(&new.description).map_err(PlaceError::Invalid)?;
    if !new.uri.is_empty() {
        check_store(&new.uri).map_err(PlaceError::Invalid)?;
    } else if experiment.is_none() {
        let words = "say which experiment the version came of, or where it lies, or both";
        return Err(PlaceError::Invalid(words.into()));
    }
    let actor = &by.actor;
    let mut work = by.begin().await?;
    let (there, version) = count(&mut work, id, by.target.workspace, 1).await?;
    let closed = sqlx::query("SELECT name FROM workspaces WHERE id = $1 AND archived_at IS NOT NULL")
        .bind(by.target.workspace.map_or(0, |id| id.0))
        .fetch_optional(&mut **work)
        .await?;
    if let Some(row) = closed {
        return Err(archived("workspace", row.try_get(0)?));
    }
    if there > VERSIONS_MAX {
        return Err(PlaceError::Conflict(
            format!("the model has {VERSIONS_MAX} versions"),
            "delete some first",
        ));
    }
    let sql = format!(
        "INSERT INTO model_versions (model_id, version, description, experiment_id, uri, owner_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {VERSION_COLUMNS}"
    );
    let inserted = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(version)
        .bind(&new.description)
        .bind(experiment.map(|row| row.id.0))
        .bind(&new.uri)
        .bind((actor.id.0 > 0).then_some(actor.id.0))
        .bind(actor.now().0)
        .fetch_one(&mut **work)
        .await;
    let row = match inserted {
        Err(sqlx::Error::Database(why)) if why.is_foreign_key_violation() => {
            let which = experiment.map_or(ExperimentId(0), |row| row.id);
            return Err(gone("experiment", which));
        }
        other => other?,
    };
    let added = read_version(actor, &row)?;
    let entry = Entry::of::<permit::ModelsUpdate>("add-version", "model", id).in_workspace(by.target.workspace);
    audit::write(&mut work, actor, entry.with(json!({"after": words(&added)}))).await?;
    work.commit().await?;
    Ok(added)
}

/// Deletes a version. What lies where it said stays there.
pub async fn delete_version(
    by: &Granted<permit::ModelsDeleteVersion>,
    id: ModelId,
    version: i64,
) -> Changed<ModelVersion> {
    let mut work = by.begin().await?;
    count(&mut work, id, by.target.workspace, -1).await?;
    let sql = format!("DELETE FROM model_versions WHERE model_id = $1 AND version = $2 RETURNING {VERSION_COLUMNS}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .bind(version)
        .fetch_optional(&mut **work)
        .await?;
    let row = row.ok_or_else(|| gone("version", version))?;
    let deleted = read_version(&by.actor, &row)?;
    let entry =
        Entry::of::<permit::ModelsDeleteVersion>("delete-version", "model", id).in_workspace(by.target.workspace);
    audit::write(&mut work, &by.actor, entry.with(json!({"before": words(&deleted)}))).await?;
    work.commit().await?;
    Ok(deleted)
}

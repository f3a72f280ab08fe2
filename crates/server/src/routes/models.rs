//! Models and their versions. What may not be seen is not there, by name, by number and in lists.

use bailiwick_api::models::{Model, ModelFilter, ModelVersion, MoveModel, NewModel, NewModelVersion, VersionFilter};
use bailiwick_api::permission::permit;
use bailiwick_api::workspaces::Rename;
use bailiwick_api::{Page, Permission};
use bailiwick_store::{experiments, models};

use crate::access::{Allowed, Json, NoInput, OneModel, OneVersion, OneWorkspace, Query, SignedIn, require_found};
use crate::failure::Failure;

/// Those of every workspace; what may be seen decides what is listed.
pub async fn list(door: SignedIn, Query(filter): Query<ModelFilter>) -> Result<Json<Page<Model>>, Failure> {
    Ok(Json(models::list(&door.actor, &filter).await?))
}

pub async fn create(
    door: Allowed<permit::ModelsCreate, OneWorkspace>,
    Json(new): Json<NewModel>,
) -> Result<Json<Model>, Failure> {
    Ok(Json(models::create(&door.granted, door.on.0, &new).await?))
}

pub async fn show(door: Allowed<permit::ModelsRead, OneModel>, _: NoInput) -> Result<Json<Model>, Failure> {
    Ok(Json(models::get(&door.granted, door.on.0).await?))
}

pub async fn change(
    door: Allowed<permit::ModelsUpdate, OneModel>,
    Json(change): Json<Rename>,
) -> Result<Json<Model>, Failure> {
    models::change(&door.granted, door.on.0, &change).await?;
    Ok(Json(models::get(&door.granted, door.on.0).await?))
}

/// The right to take it away stands at the door, the right to put it there is asked for here.
pub async fn move_to(
    door: Allowed<permit::ModelsDelete, OneModel>,
    Json(to): Json<MoveModel>,
) -> Result<Json<Model>, Failure> {
    let picture = door.granted.actor.picture();
    let found = picture.find_workspace(&to.workspace);
    let found = found.map(|id| (picture.workspace_target(id), ()));
    let seen_by = Some(Permission::WorkspacesRead);
    let (granted, ()) = require_found(&door.granted.actor, found, "workspace", &to.workspace, seen_by).await?;
    Ok(Json(models::move_to(&door.granted, &granted, door.on.0).await?))
}

pub async fn delete(door: Allowed<permit::ModelsDelete, OneModel>, _: NoInput) -> Result<Json<Model>, Failure> {
    Ok(Json(models::delete(&door.granted, door.on.0).await?))
}

pub async fn versions(
    door: Allowed<permit::ModelsRead, OneModel>,
    Query(filter): Query<VersionFilter>,
) -> Result<Json<Page<ModelVersion>>, Failure> {
    Ok(Json(models::versions(&door.granted, door.on.0, &filter).await?))
}

/// Both for a page: one look, which is recorded once.
pub async fn with_versions(
    door: Allowed<permit::ModelsRead, OneModel>,
    filter: VersionFilter,
) -> Result<(Model, Page<ModelVersion>), Failure> {
    let model = models::get(&door.granted, door.on.0).await?;
    Ok((model, models::versions(&door.granted, door.on.0, &filter).await?))
}

pub async fn add_version(
    door: Allowed<permit::ModelsUpdate, OneModel>,
    Json(new): Json<NewModelVersion>,
) -> Result<Json<ModelVersion>, Failure> {
    let experiment = match &new.experiment {
        Some(which) if which.trim().is_empty() => {
            let words = "the experiment is empty: name one, or leave it out";
            return Err(Failure::invalid(words));
        }
        Some(which) => {
            let found = experiments::find::<permit::ExperimentsRead>(&door.granted.actor, which).await;
            Some(found?.1)
        }
        None => None,
    };
    let added = models::add_version(&door.granted, door.on.0, &new, experiment.as_ref()).await?;
    Ok(Json(added))
}

pub async fn delete_version(
    door: Allowed<permit::ModelsDeleteVersion, OneVersion>,
    _: NoInput,
) -> Result<Json<ModelVersion>, Failure> {
    let OneVersion(id, version) = door.on;
    Ok(Json(models::delete_version(&door.granted, id, version).await?))
}

//! Projects.

use bailiwick_access::Scope;
use bailiwick_api::Page;
use bailiwick_api::permission::permit;
use bailiwick_api::workspaces::{Member, MemberFilter, NewProject, PlaceFilter, Project, Rename};
use bailiwick_store::{projects, workspaces};

use crate::access::{Allowed, Done, Json, NoInput, OneProject, OneWorkspace, Query, SignedIn};
use crate::failure::Failure;

/// Those of every workspace; what may be seen decides what is listed.
pub async fn list(door: SignedIn, Query(filter): Query<PlaceFilter>) -> Result<Json<Page<Project>>, Failure> {
    Ok(Json(projects::list(&door.actor, None, &filter).await?))
}

pub async fn list_of(
    door: Allowed<permit::WorkspacesRead, OneWorkspace>,
    Query(filter): Query<PlaceFilter>,
) -> Result<Json<Page<Project>>, Failure> {
    Ok(Json(
        projects::list(&door.granted.actor, Some(door.on.0), &filter).await?,
    ))
}

pub async fn create(
    door: Allowed<permit::ProjectsCreate, OneWorkspace>,
    Json(new): Json<NewProject>,
) -> Result<Json<Project>, Failure> {
    let id = projects::create(&door.granted, door.on.0, &new).await?;
    Ok(Json(projects::get(&door.granted, id).await?))
}

pub async fn show(door: Allowed<permit::ProjectsRead, OneProject>, _: NoInput) -> Result<Json<Project>, Failure> {
    Ok(Json(projects::get(&door.granted, door.on.0).await?))
}

type Updating = Allowed<permit::ProjectsUpdate, OneProject>;

async fn shown(door: &Updating) -> Result<Json<Project>, Failure> {
    Ok(Json(projects::get(&door.granted, door.on.0).await?))
}

pub async fn change(door: Updating, Json(change): Json<Rename>) -> Result<Json<Project>, Failure> {
    projects::change(&door.granted, door.on.0, &change).await?;
    shown(&door).await
}

pub async fn archive(door: Updating, _: Json<Done>) -> Result<Json<Project>, Failure> {
    projects::archive(&door.granted, door.on.0, true).await?;
    shown(&door).await
}

pub async fn unarchive(door: Updating, _: Json<Done>) -> Result<Json<Project>, Failure> {
    projects::archive(&door.granted, door.on.0, false).await?;
    shown(&door).await
}

pub async fn delete(door: Allowed<permit::ProjectsDelete, OneProject>, _: NoInput) -> Result<Json<Done>, Failure> {
    projects::delete(&door.granted, door.on.0).await?;
    Ok(Json(Done {}))
}

pub async fn members(
    door: Allowed<permit::RolesRead, OneProject>,
    Query(filter): Query<MemberFilter>,
) -> Result<Json<Page<Member>>, Failure> {
    let mut scopes = vec![Scope::Project(door.on.0), Scope::Global];
    scopes.extend(door.granted.target.workspace.map(Scope::Workspace));
    Ok(Json(workspaces::members(&door.granted, &scopes, &filter)))
}

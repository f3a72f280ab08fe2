//! Workspaces.

use bailiwick_access::Scope;
use bailiwick_api::Page;
use bailiwick_api::permission::permit;
use bailiwick_api::workspaces::{Member, MemberFilter, NewWorkspace, PlaceFilter, Rename, SetDefaultQueue, Workspace};
use bailiwick_store::workspaces::{self, PlaceError};

use crate::access::{Allowed, Done, Installation, Json, NoInput, OneWorkspace, Query, SignedIn};
use crate::failure::Failure;

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Refused(refusal) => refusal.into(),
            PlaceError::Invalid(why) => Failure::invalid(why),
            PlaceError::Conflict(why, hint) => Failure::conflict("conflict", why).hint(hint),
        }
    }
}

/// What may be seen decides what is listed.
pub async fn list(door: SignedIn, Query(filter): Query<PlaceFilter>) -> Result<Json<Page<Workspace>>, Failure> {
    Ok(Json(workspaces::list(&door.actor, &filter).await?))
}

pub async fn create(
    door: Allowed<permit::WorkspacesCreate, Installation>,
    Json(new): Json<NewWorkspace>,
) -> Result<Json<Workspace>, Failure> {
    let role = door.context.shared.parts.workspace_creator_role;
    let id = workspaces::create(&door.granted, &new, role).await?;
    // By the picture after the change: what was made shows with its project.
    door.context.actor_again().await?;
    Ok(Json(workspaces::get(&door.granted, id).await?))
}

pub async fn show(door: Allowed<permit::WorkspacesRead, OneWorkspace>, _: NoInput) -> Result<Json<Workspace>, Failure> {
    Ok(Json(workspaces::get(&door.granted, door.on.0).await?))
}

type Updating = Allowed<permit::WorkspacesUpdate, OneWorkspace>;

async fn shown(door: &Updating) -> Result<Json<Workspace>, Failure> {
    door.context.actor_again().await?;
    Ok(Json(workspaces::get(&door.granted, door.on.0).await?))
}

pub async fn change(door: Updating, Json(change): Json<Rename>) -> Result<Json<Workspace>, Failure> {
    workspaces::change(&door.granted, door.on.0, &change).await?;
    shown(&door).await
}

pub async fn set_default_queue(
    door: Allowed<permit::WorkspacesSetDefaultQueue, OneWorkspace>,
    Json(wanted): Json<SetDefaultQueue>,
) -> Result<Json<Workspace>, Failure> {
    workspaces::set_default_queue(&door.granted, door.on.0, wanted.queue.as_deref()).await?;
    door.context.actor_again().await?;
    Ok(Json(workspaces::get(&door.granted, door.on.0).await?))
}

pub async fn archive(door: Updating, _: Json<Done>) -> Result<Json<Workspace>, Failure> {
    workspaces::archive(&door.granted, door.on.0, true).await?;
    shown(&door).await
}

pub async fn unarchive(door: Updating, _: Json<Done>) -> Result<Json<Workspace>, Failure> {
    workspaces::archive(&door.granted, door.on.0, false).await?;
    shown(&door).await
}

pub async fn delete(door: Allowed<permit::WorkspacesDelete, OneWorkspace>, _: NoInput) -> Result<Json<Done>, Failure> {
    workspaces::delete(&door.granted, door.on.0).await?;
    Ok(Json(Done {}))
}

pub async fn members(
    door: Allowed<permit::RolesRead, OneWorkspace>,
    Query(filter): Query<MemberFilter>,
) -> Result<Json<Page<Member>>, Failure> {
    let scopes = [Scope::Workspace(door.on.0), Scope::Global];
    Ok(Json(workspaces::members(&door.granted, &scopes, &filter)))
}

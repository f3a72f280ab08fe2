//! Code archives on their way in.

use bailiwick_access::Target;
use bailiwick_api::permission::permit;
use bailiwick_api::{Permission, WorkspaceId};
use bailiwick_store::access::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{Asked, Done, Json, NoInput, Raw};
use crate::failure::Failure;

/// Nothing to ask for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// An archive that is kept.
#[derive(Serialize, JsonSchema)]
pub struct CodeKept {
    sha256: String,
    bytes: u64,
}

/// Somewhere this actor may submit: that is what makes sending code its business.
fn somewhere(actor: &Actor) -> Target {
    let visible = actor.visible(Permission::ExperimentsCreate, bailiwick_access::ObjectKind::Experiment);
    let reached = |id: &WorkspaceId| visible.within.as_ref().is_none_or(|within| within.contains(id));
    let in_projects = visible.projects.iter().map(|id| Target {
        owner: None,
        ..actor.picture().project_target(*id)
    });
    let everywhere = visible.within.as_ref().filter(|_| visible.all).into_iter().flatten();
    let workspaces = visible.workspaces.iter().chain(everywhere);
    workspaces
        .filter(|id| reached(id))
        .map(|id| Target::workspace(*id))
        .chain(in_projects.filter(|target| target.workspace.as_ref().is_some_and(reached)))
        .next()
        .unwrap_or_default()
}

/// Whether the caller has sent it: that somebody else has is not told.
pub async fn was_sent(door: Asked<permit::ExperimentsCreate>, _: NoInput) -> Result<Json<Done>, Failure> {
    let sha256 = door.context.path("sha256");
    door.at(somewhere(&door.actor), "code", sha256, None).await?;
    let files = &door.context.shared.parts.code;
    if files.exists(sha256).await && bailiwick_store::code::was_sent_by(&door.actor, sha256).await? {
        return Ok(Json(Done {}));
    }
    Err(Failure::not_found("code", sha256))
}

pub async fn send(door: Asked<permit::ExperimentsCreate>, input: Raw<NoQuery>) -> Result<Json<CodeKept>, Failure> {
    let sha256 = door.context.path("sha256");
    let granted = door.at(somewhere(&door.actor), "code", sha256, None).await?;
    let bytes = door.context.shared.parts.code.keep(sha256, input.body).await?;
    bailiwick_store::code::sent(&granted, sha256, bytes as i64).await?;
    Ok(Json(CodeKept {
        sha256: sha256.to_owned(),
        bytes,
    }))
}

//! Access as code. Whoever works with the document sees all of it; each change in it needs what it would need by itself.

use bailiwick_api::document::{AccessDocument, AccessPlan, Applied, ApplyDocument, PlanDocument};
use bailiwick_api::permission::permit;
use bailiwick_store::access::{Actor, Refusal};
use bailiwick_store::assignments::{ChangeError, Changed};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::document;

use super::roles::recorded;
use crate::access::{Allowed, Installation, Json, NoInput};
use crate::failure::Failure;

const OBJECT: &str = "access document";

pub async fn export(
    door: Allowed<permit::RolesRead, Installation>,
    _: NoInput,
) -> Result<Json<AccessDocument>, Failure> {
    let exported = document::export(&door.granted.actor).await;
    Ok(Json(recorded(&door.granted.actor, OBJECT, "", exported).await?))
}

pub async fn plan(
    door: Allowed<permit::RolesRead, Installation>,
    Json(plan): Json<PlanDocument>,
) -> Result<Json<AccessPlan>, Failure> {
    let planned = document::plan(&door.granted.actor, plan.document).await;
    Ok(Json(recorded(&door.granted.actor, OBJECT, "", planned).await?))
}

pub async fn apply(
    door: Allowed<permit::RolesRead, Installation>,
    Json(apply): Json<ApplyDocument>,
) -> Result<Json<Applied>, Failure> {
    let actor = &door.granted.actor;
    let applied = document::apply(actor, apply).await;
    let applied = recorded_change(actor, applied).await?;
    door.context.shared.parts.hub.work.wake_everyone();
    Ok(Json(applied))
}

/// A change that may not be made is on record before it is answered.
async fn recorded_change(actor: &Actor, outcome: Changed<Applied>) -> Result<Applied, Failure> {
    if let Err(ChangeError::Refused(Refusal::Forbidden { permission, .. })) = &outcome {
        audit::record(actor, Entry::denied(*permission, OBJECT, "")).await?;
    }
    recorded(actor, OBJECT, "", outcome).await
}

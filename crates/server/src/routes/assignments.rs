//! Role assignments. What changes some names where in its body, so the store asks for the right there.

use bailiwick_api::permission::permit;
use bailiwick_api::roles::{Assignment, AssignmentChange, AssignmentFilter, NewAssignments, OldAssignments};
use bailiwick_api::{AssignmentId, Page};
use bailiwick_store::assignments;

use super::roles::recorded;
use crate::access::{Asked, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;

/// The word for several in an event of refusal.
fn places<'a>(on: impl Iterator<Item = &'a Option<String>>) -> String {
    let mut places: Vec<&str> = on.map(|on| on.as_deref().unwrap_or("installation")).collect();
    places.dedup();
    places.join(", ")
}

/// What may be seen decides what is listed.
pub async fn list(door: SignedIn, Query(filter): Query<AssignmentFilter>) -> Result<Json<Page<Assignment>>, Failure> {
    let listed = assignments::list(&door.actor, &filter).await;
    Ok(Json(recorded(&door.actor, "assignment", "", listed).await?))
}

pub async fn give(
    door: Asked<permit::RolesAssign>,
    Json(new): Json<NewAssignments>,
) -> Result<Json<Page<Assignment>>, Failure> {
    let places = places(new.assignments.iter().map(|one| &one.on));
    let given = assignments::give(&door.actor, &new).await;
    let items = recorded(&door.actor, "assignment", &places, given).await?;
    Ok(Json(Page { items, next: None }))
}

pub async fn take(
    door: Asked<permit::RolesAssign>,
    Json(old): Json<OldAssignments>,
) -> Result<Json<Page<Assignment>>, Failure> {
    let places = places(old.assignments.iter().map(|one| &one.on));
    let taken = assignments::take_all(&door.actor, &old).await;
    let items = recorded(&door.actor, "assignment", &places, taken).await?;
    door.context.shared.parts.hub.work.wake_everyone();
    Ok(Json(Page { items, next: None }))
}

pub async fn change(
    door: Asked<permit::RolesAssign>,
    Json(change): Json<AssignmentChange>,
) -> Result<Json<Assignment>, Failure> {
    let id = AssignmentId(door.context.path_id("assignment")?);
    let changed = assignments::change(&door.actor, id, &change).await;
    let changed = recorded(&door.actor, "assignment", &id.to_string(), changed).await?;
    door.context.shared.parts.hub.work.wake_everyone();
    Ok(Json(changed))
}

pub async fn take_by_id(door: Asked<permit::RolesAssign>, _: NoInput) -> Result<Json<Assignment>, Failure> {
    let id = AssignmentId(door.context.path_id("assignment")?);
    let taken = assignments::take_by_id(&door.actor, id).await;
    let taken = recorded(&door.actor, "assignment", &id.to_string(), taken).await?;
    door.context.shared.parts.hub.work.wake_everyone();
    Ok(Json(taken))
}

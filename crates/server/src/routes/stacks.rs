//! Stacks. What may not be seen is not there, by name, by number and in lists.

use bailiwick_api::permission::permit;
use bailiwick_api::stacks::{Stack, StackFilter, StackSettings};
use bailiwick_api::{Page, Permission, StackId};
use bailiwick_store::access::{Actor, stack_target};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::stacks;

use super::roles::recorded;
use crate::access::{Asked, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;

pub async fn list(door: SignedIn, Query(filter): Query<StackFilter>) -> Result<Json<Page<Stack>>, Failure> {
    Ok(Json(stacks::list(&door.actor, &filter).await?))
}

/// The stack, or a recorded refusal.
pub(crate) async fn seen(actor: &Actor, which: &str) -> Result<StackId, Failure> {
    match stacks::find(actor, which) {
        Ok(id) => Ok(id),
        Err(refusal) => {
            audit::record(actor, Entry::denied(Permission::StacksRead, "stack", which)).await?;
            let failure: Failure = refusal.into();
            Err(failure.hint("`ml stack list` shows your stacks and those shared with you; another's is OWNER/NAME"))
        }
    }
}

pub async fn show(door: SignedIn, _: NoInput) -> Result<Json<Stack>, Failure> {
    let id = seen(&door.actor, door.context.path("stack")).await?;
    Ok(Json(stacks::get(&door.actor, id).await?))
}

pub async fn create(door: Asked<permit::StacksCreate>, Json(new): Json<StackSettings>) -> Result<Json<Stack>, Failure> {
    let name = new.name.as_deref().unwrap_or_default();
    let granted = door.at(stacks::may_create_at(&door.actor), "stack", name, None).await?;
    let made = stacks::create(&granted, &new).await;
    Ok(Json(recorded(&door.actor, "stack", name, made).await?))
}

pub async fn update(
    door: Asked<permit::StacksUpdate>,
    Json(change): Json<StackSettings>,
) -> Result<Json<Stack>, Failure> {
    let which = door.context.path("stack");
    let id = seen(&door.actor, which).await?;
    let target = stack_target(door.actor.picture(), id);
    let granted = door.at(target, "stack", which, Some(Permission::StacksRead)).await?;
    let changed = stacks::update(&granted, id, &change).await;
    Ok(Json(recorded(&door.actor, "stack", which, changed).await?))
}

pub async fn delete(door: Asked<permit::StacksDelete>, _: NoInput) -> Result<Json<Stack>, Failure> {
    let which = door.context.path("stack");
    let id = seen(&door.actor, which).await?;
    let target = stack_target(door.actor.picture(), id);
    let granted = door.at(target, "stack", which, Some(Permission::StacksRead)).await?;
    let deleted = stacks::delete(&granted, id).await;
    Ok(Json(recorded(&door.actor, "stack", which, deleted).await?))
}

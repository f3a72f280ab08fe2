//! Queues. Whoever may see one may see how busy it is, and of its jobs those that are seen elsewhere.

use bailiwick_api::Page;
use bailiwick_api::permission::permit;
use bailiwick_api::queues::{Queue, QueueDetail, QueueSettings};
use bailiwick_store::queues;

use super::roles::recorded;
use crate::access::{Allowed, Installation, Json, NoInput, SignedIn};
use crate::failure::Failure;

pub async fn list(door: SignedIn, _: NoInput) -> Result<Json<Page<Queue>>, Failure> {
    Ok(Json(queues::list(&door.actor).await?))
}

pub async fn show(door: SignedIn, _: NoInput) -> Result<Json<QueueDetail>, Failure> {
    let id = queues::find(&door.actor, door.context.path("queue"))?;
    Ok(Json(queues::get(&door.actor, id).await?))
}

pub async fn create(
    door: Allowed<permit::QueuesCreate, Installation>,
    Json(new): Json<QueueSettings>,
) -> Result<Json<Queue>, Failure> {
    let made = queues::create(&door.granted, &new).await;
    let name = new.name.as_deref().unwrap_or_default();
    Ok(Json(recorded(&door.granted.actor, "queue", name, made).await?))
}

pub async fn update(
    door: Allowed<permit::QueuesUpdate, Installation>,
    Json(change): Json<QueueSettings>,
) -> Result<Json<Queue>, Failure> {
    let which = door.context.path("queue");
    let id = queues::find(&door.granted.actor, which)?;
    let changed = queues::update(&door.granted, id, &change).await;
    let changed = recorded(&door.granted.actor, "queue", which, changed).await?;
    // One that goes on again has work.
    door.context.shared.parts.hub.work.wake_everyone();
    Ok(Json(changed))
}

pub async fn delete(door: Allowed<permit::QueuesDelete, Installation>, _: NoInput) -> Result<Json<Queue>, Failure> {
    let which = door.context.path("queue");
    let id = queues::find(&door.granted.actor, which)?;
    let deleted = queues::delete(&door.granted, id).await;
    Ok(Json(recorded(&door.granted.actor, "queue", which, deleted).await?))
}

//! Queues.

use bailiwick_access::ObjectKind;
use bailiwick_api::queues::Queue;
use bailiwick_api::{Page, Permission, QueueId};
use sqlx::Row;

use crate::access::{Actor, queue_target};
use crate::db::Result;

/// Whether this actor may see the queue: by an assignment at it, or because it is open and the actor may read queues somewhere.
pub fn may_see(actor: &Actor, id: QueueId, open: bool) -> bool {
    actor.may(Permission::QueuesRead, &queue_target(id)).is_some()
        || (open && {
            let visible = actor.visible(Permission::QueuesRead, ObjectKind::Queue);
            visible.all || !visible.workspaces.is_empty()
        })
}

/// The queues that this actor may see, with how much waits and runs in each.
pub async fn list(actor: &Actor) -> Result<Page<Queue>> {
    let rows = sqlx::query(
        "SELECT queue_id, state, COUNT(*) FROM jobs WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'STOPPING') GROUP BY queue_id, state",
    );
    let counts: Vec<(i64, String, i64)> = rows
        .fetch_all(&actor.db().read)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect::<Result<_>>()?;
    let of = |id: QueueId, waiting: bool| -> i64 {
        counts
            .iter()
            .filter(|(queue, state, _)| *queue == id.0 && (state == "QUEUED") == waiting)
            .map(|(.., count)| count)
            .sum()
    };
    let items = actor.picture().queues().into_iter();
    let items = items
        .filter(|(id, _, open)| may_see(actor, *id, *open))
        .map(|(id, name, _)| Queue {
            id,
            name: name.to_string(),
            waiting: of(id, true),
            running: of(id, false),
        })
        .collect();
    Ok(Page { items, next: None })
}

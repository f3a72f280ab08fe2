//! Who has sent which code archive. The archives themselves are files beside the database (server/src/code.rs).

use bailiwick_api::permission::permit;

use crate::access::{Actor, Granted, Refusal};
use crate::db::Result;

/// Whether the actor has sent this archive before.
pub async fn was_sent_by(actor: &Actor, sha256: &str) -> Result<bool> {
    let found = sqlx::query("SELECT 1 FROM code_uploads WHERE principal_id = $1 AND sha256 = $2")
        .bind(actor.id.0)
        .bind(sha256)
        .fetch_optional(&actor.db().read)
        .await?;
    Ok(found.is_some())
}

/// Notes that the actor has sent this archive, whole.
pub async fn sent(
    by: &Granted<permit::ExperimentsCreate>,
    sha256: &str,
    bytes: i64,
) -> std::result::Result<(), Refusal> {
    let mut work = by.begin().await?;
    sqlx::query(
        "INSERT INTO code_uploads (principal_id, sha256, bytes, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (principal_id, sha256) DO NOTHING",
    )
    .bind(by.actor.id.0)
    .bind(sha256)
    .bind(bytes)
    .bind(by.actor.now().0)
    .execute(&mut **work)
    .await?;
    let entry = crate::audit::Entry::of::<permit::ExperimentsCreate>("send-code", "code", sha256);
    crate::audit::write(&mut work, &by.actor, entry.with(serde_json::json!({"bytes": bytes}))).await?;
    work.commit().await?;
    Ok(())
}

//! Roles.

use bailiwick_api::permission::RolePermissions;
use bailiwick_api::roles::Role;
use bailiwick_api::{Page, RoleId};
use sqlx::Row;

use crate::access::Actor;
use crate::db::{Result, StoreError};

/// All of them: what a role holds is no secret, who holds it is.
pub async fn list(actor: &Actor) -> Result<Page<Role>> {
    let rows = sqlx::query(
        "SELECT id, name, description, built_in, permissions FROM roles ORDER BY built_in DESC, id LIMIT 1000",
    );
    let mut items = Vec::new();
    for row in rows.fetch_all(&actor.db().read).await? {
        let name: String = row.try_get(1)?;
        let permissions: Vec<String> = serde_json::from_str(&row.try_get::<String, _>(4)?)
            .map_err(|why| StoreError::Broken(format!("role {name}: {why}")))?;
        let parsed = RolePermissions::parse(permissions.iter().map(String::as_str)).map_err(StoreError::Broken)?;
        items.push(Role {
            id: RoleId(row.try_get(0)?),
            name,
            description: row.try_get(2)?,
            built_in: row.try_get::<i64, _>(3)? == 1,
            permissions,
            global_only: parsed.is_global_only(),
        });
    }
    Ok(Page { items, next: None })
}

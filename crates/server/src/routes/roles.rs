//! Roles. What a role holds is no secret; who holds it is.

use bailiwick_api::Page;
use bailiwick_api::permission::permit;
use bailiwick_api::roles::{NewRole, Role, RoleChange, RoleDeleted, RoleDeletion, RoleDetail};
use bailiwick_store::access::Actor;
use bailiwick_store::assignments::{ChangeError, Changed};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::roles;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::{Allowed, Installation, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;

/// A refusal is on record before it is answered.
pub async fn recorded<T>(actor: &Actor, kind: &'static str, object: &str, outcome: Changed<T>) -> Result<T, Failure> {
    match outcome {
        Ok(value) => Ok(value),
        Err(ChangeError::Forbidden(permission, target)) => {
            let entry = Entry::denied(permission, kind, object).in_workspace(target.workspace);
            audit::record(actor, entry).await?;
            Err(actor.forbidden(permission, &target).into())
        }
        Err(ChangeError::ForbiddenSomewhere(permission)) => {
            audit::record(actor, Entry::denied(permission, kind, object)).await?;
            let message = format!(
                "Insufficient permissions: {} needs {permission} wherever that is assigned",
                actor.name()
            );
            Err(Failure::forbidden(message)
                .hint("where you may not look, too; somebody with that permission everywhere can do it"))
        }
        Err(ChangeError::Refused(refusal)) => Err(refusal.into()),
        Err(ChangeError::Invalid(why)) => Err(Failure::invalid(why)),
        Err(ChangeError::Conflict(why)) => Err(Failure::conflict("conflict", why)),
    }
}

/// Paging of roles.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleFilter {
    /// Only those whose name holds this text.
    pub text: Option<String>,
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    pub limit: Option<i64>,
}

pub async fn list(door: SignedIn, Query(filter): Query<RoleFilter>) -> Result<Json<Page<Role>>, Failure> {
    let (after, limit) = (filter.after.unwrap_or(0), filter.limit.unwrap_or(200));
    Ok(Json(
        roles::list(&door.actor, filter.text.as_deref(), after, limit).await?,
    ))
}

pub async fn show(door: SignedIn, _: NoInput) -> Result<Json<RoleDetail>, Failure> {
    let which = door.context.path("role");
    let role = roles::get(&door.actor, which).await;
    Ok(Json(recorded(&door.actor, "role", which, role).await?))
}

pub async fn create(
    door: Allowed<permit::RolesCreate, Installation>,
    Json(new): Json<NewRole>,
) -> Result<Json<Role>, Failure> {
    let made = roles::create(&door.granted, &new).await;
    Ok(Json(recorded(&door.granted.actor, "role", &new.name, made).await?))
}

pub async fn update(
    door: Allowed<permit::RolesUpdate, Installation>,
    Json(change): Json<RoleChange>,
) -> Result<Json<Role>, Failure> {
    let which = door.context.path("role");
    let changed = roles::update(&door.granted, which, &change).await;
    Ok(Json(recorded(&door.granted.actor, "role", which, changed).await?))
}

pub async fn delete(
    door: Allowed<permit::RolesDelete, Installation>,
    Query(how): Query<RoleDeletion>,
) -> Result<Json<RoleDeleted>, Failure> {
    let which = door.context.path("role");
    let deleted = roles::delete(&door.granted, which, how.force == Some(true)).await;
    Ok(Json(recorded(&door.granted.actor, "role", which, deleted).await?))
}

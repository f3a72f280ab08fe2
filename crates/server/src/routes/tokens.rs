//! API keys.

use bailiwick_access::Target;
use bailiwick_api::key::KeyKind;
use bailiwick_api::permission::permit;
use bailiwick_api::tokens::{NewToken, Token, TokenWithSecret};
use bailiwick_api::{Page, Permission, PrincipalId, TokenId};
use bailiwick_store::access::{Actor, CredentialKind};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::{credentials, principals};
use schemars::JsonSchema;
use serde::Deserialize;

use super::users::secret;
use crate::access::{Asked, Json, NoInput, Query};
use crate::failure::Failure;

/// Which keys to list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenFilter {
    /// Whose; one's own when left out.
    user: Option<String>,
    /// Sessions, revoked and expired ones too.
    all: Option<bool>,
}

async fn whose(actor: &Actor, user: Option<&str>) -> Result<PrincipalId, Failure> {
    match user {
        Some(name) => Ok(principals::get(actor, name).await?.id),
        None => Ok(actor.id),
    }
}

pub async fn list(
    door: Asked<permit::TokensRead>,
    Query(filter): Query<TokenFilter>,
) -> Result<Json<Page<Token>>, Failure> {
    let whose = whose(&door.actor, filter.user.as_deref()).await?;
    let granted = door
        .at(Target::owned_by(whose), "tokens of", &whose.to_string(), None)
        .await?;
    Ok(Json(
        credentials::list(&granted, whose, filter.all.unwrap_or(false)).await?,
    ))
}

pub async fn create(
    door: Asked<permit::TokensCreate>,
    Json(new): Json<NewToken>,
) -> Result<Json<TokenWithSecret>, Failure> {
    let actor = &door.actor;
    if new.label.chars().count() > 255 || new.label.chars().any(char::is_control) {
        return Err(Failure::invalid(
            "a label has at most 255 characters and no control characters",
        ));
    }
    if new
        .lifetime_ms
        .is_some_and(|ms| !(1000..=1000 * 365 * 86_400_000).contains(&ms))
    {
        return Err(Failure::invalid(
            "lifetime_ms is at least 1000 (one second) and at most a thousand years",
        ));
    }
    let whose = whose(actor, new.user.as_deref()).await?;
    let granted = door
        .at(Target::owned_by(whose), "tokens of", &whose.to_string(), None)
        .await?;
    must_cover(actor, Permission::TokensCreate, whose).await?;
    let expires = new.lifetime_ms.map(|ms| actor.now().plus_ms(ms));
    // A session is another matter: behind it stands somebody who has just shown a password.
    if actor.credential_kind == CredentialKind::Key
        && let Some(end) = actor.credential_expires_at
        && expires.is_none_or(|expires| expires > end)
    {
        audit::record(actor, Entry::denied(Permission::TokensCreate, "tokens of", whose)).await?;
        let message =
            format!("Insufficient permissions: this key ends at {end}, and no key made with it may live longer");
        return Err(Failure::forbidden(message).hint("give the new key a shorter lifetime, or sign in with `ml login`"));
    }
    let (secret, hash) = secret(KeyKind::Api);
    let token = credentials::create_key(&granted, whose, &hash, &new.label, expires).await?;
    Ok(Json(TokenWithSecret { token, secret }))
}

/// `access.md` §4: who makes a key, a link or a password for another can act as the other, and so must hold all that the other holds.
pub async fn must_cover(actor: &Actor, by: Permission, whose: PrincipalId) -> Result<(), Failure> {
    if whose == actor.id || covers(actor, whose) {
        return Ok(());
    }
    let name = actor.picture().principal_name(whose);
    audit::record(actor, Entry::denied(by, "user", &name)).await?;
    Err(Failure::forbidden(format!(
        "Insufficient permissions: signed in as {name} one may do more than {} may",
        actor.name
    ))
    .hint("only somebody who holds at least the same roles can do this, or the user itself"))
}

fn covers(actor: &Actor, whose: PrincipalId) -> bool {
    let picture = actor.picture();
    let held: Vec<_> = {
        let world = picture.world();
        let role = |id| world.role(id).map(|role| role.permissions);
        let assignments = world.assignments_of(whose);
        assignments
            .filter_map(|(_, of, scope, ..)| Some((role(of)?, scope)))
            .collect()
    };
    held.into_iter()
        .all(|(role, scope)| actor.missing_to_grant(role, &picture.scope_target(scope)).is_none())
}

pub async fn revoke(door: Asked<permit::TokensRevoke>, _: NoInput) -> Result<Json<Token>, Failure> {
    let id = TokenId(door.context.path_id("token")?);
    let missing = || Failure::not_found("token", id);
    let owner = credentials::owner(&door.actor, id).await?.ok_or_else(missing)?;
    let target = Target::owned_by(owner);
    let granted = door
        .at(target, "token", &id.to_string(), Some(Permission::TokensRead))
        .await?;
    Ok(Json(credentials::revoke(&granted, id).await?))
}

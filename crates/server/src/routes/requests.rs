//! Access on request, and break-glass. What is asked for is named in a body or by a request's number, so the store looks at who may decide.

use std::time::Instant;

use bailiwick_api::names::name_key;
use bailiwick_api::permission::permit;
use bailiwick_api::requests::{AccessRequest, AccessRequestFilter, Approve, BreakGlass, Decline, NewAccessRequest};
use bailiwick_api::{AccessRequestId, Page, Permission};
use bailiwick_store::access::{Actor, CredentialKind};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::{principals, requests};

use super::roles::recorded;
use super::users::beside;
use crate::access::{Allowed, Asked, Context, Done, Installation, Json, Query, SignedIn};
use crate::failure::Failure;
use crate::password;

const OBJECT: &str = "access request";

fn named(context: &Context) -> Result<AccessRequestId, Failure> {
    let which = context.path("request");
    let id = bailiwick_api::ids::as_number(which).map(AccessRequestId);
    id.ok_or_else(|| Failure::not_found(OBJECT, which))
}

/// Whoever may decide what sees which; everybody sees his own.
pub async fn list(
    door: SignedIn,
    Query(filter): Query<AccessRequestFilter>,
) -> Result<Json<Page<AccessRequest>>, Failure> {
    Ok(Json(requests::list(&door.actor, &filter).await?))
}

pub async fn ask(door: SignedIn, Json(new): Json<NewAccessRequest>) -> Result<Json<AccessRequest>, Failure> {
    not_narrowed(&door.actor, "").await?;
    let asked = requests::ask(&door.actor, &new).await;
    Ok(Json(recorded(&door.actor, OBJECT, "", asked).await?))
}

/// A request is its owner's own word. A key that is for something else (a job's, a pipeline's) does not speak for its owner.
async fn not_narrowed(actor: &Actor, which: &str) -> Result<(), Failure> {
    if actor.narrowing().is_none() {
        return Ok(());
    }
    audit::record(actor, Entry::denied(Permission::RolesAssign, OBJECT, which)).await?;
    let refused = Failure::forbidden("this key is narrowed: asking for access needs a session, or a key that is not");
    Err(refused.hint("sign in with `ml login NAME` and try again"))
}

pub async fn approve(
    door: Asked<permit::RolesAssign>,
    Json(approve): Json<Approve>,
) -> Result<Json<AccessRequest>, Failure> {
    let id = named(&door.context)?;
    let approved = requests::approve(&door.actor, id, &approve).await;
    let approved = recorded(&door.actor, OBJECT, &id.to_string(), approved).await?;
    door.context.shared.parts.hub.work.wake_everyone();
    Ok(Json(approved))
}

pub async fn decline(
    door: Asked<permit::RolesAssign>,
    Json(decline): Json<Decline>,
) -> Result<Json<AccessRequest>, Failure> {
    let id = named(&door.context)?;
    let declined = requests::decline(&door.actor, id, &decline).await;
    Ok(Json(recorded(&door.actor, OBJECT, &id.to_string(), declined).await?))
}

/// One's own alone.
pub async fn withdraw(door: SignedIn, _: Json<Done>) -> Result<Json<AccessRequest>, Failure> {
    let id = named(&door.context)?;
    not_narrowed(&door.actor, &id.to_string()).await?;
    let withdrawn = requests::withdraw(&door.actor, id).await;
    Ok(Json(recorded(&door.actor, OBJECT, &id.to_string(), withdrawn).await?))
}

pub async fn break_glass(
    door: Allowed<permit::ClusterBreakGlass, Installation>,
    Json(wanted): Json<BreakGlass>,
) -> Result<Json<AccessRequest>, Failure> {
    let actor = &door.granted.actor;
    prove_person(&door.context, actor, wanted.password).await?;
    let broken = requests::break_glass(&door.granted, &wanted.why, wanted.lifetime_ms).await;
    let broken = recorded(actor, "installation", "", broken).await?;
    tracing::warn!(
        user = &*actor.name(),
        until = %broken.until.unwrap_or(broken.created_at),
        why = wanted.why,
        address = &*actor.origin.address,
        request_id = &*actor.origin.request_id,
        "BREAK-GLASS: a user is ClusterAdmin for a while"
    );
    Ok(Json(broken))
}

/// A key may lie about somewhere, and so may a screen that nobody watches: only a session opens this, and only with the password again.
async fn prove_person(context: &Context, actor: &Actor, given: String) -> Result<(), Failure> {
    let refused = async |message: &str| -> Result<Failure, Failure> {
        audit::record(actor, Entry::denied(Permission::ClusterBreakGlass, "installation", "")).await?;
        Ok(Failure::forbidden(message))
    };
    if actor.credential_kind != CredentialKind::Session || actor.narrowing().is_some() {
        let refused = refused("break-glass is opened from a session, not with an API key").await?;
        return Err(refused.hint("sign in with `ml login NAME` and try again"));
    }
    let Some(stored) = principals::password_hash(actor, actor.id).await? else {
        let refused = refused("break-glass asks for the password, and this account has none here").await?;
        return Err(refused.hint("`ml change-password` sets one, unless the account signs in elsewhere"));
    };
    let (parts, address, account) = (&context.shared.parts, &actor.origin.address, name_key(&actor.name()));
    if let Some(seconds) = parts.limiter.wait_s(&account, address, Instant::now()) {
        return Err(Failure::too_many_attempts(seconds));
    }
    let fits = beside(parts, move || password::fits(&given, Some(&stored))).await?;
    // Of many attempts at once, those that were looked at after others had failed do not count, right or wrong.
    if let Some(seconds) = parts.limiter.wait_s(&account, address, Instant::now()) {
        return Err(Failure::too_many_attempts(seconds));
    }
    if !fits {
        parts.limiter.failed(&account, address, Instant::now());
        return Err(refused("the password is missing or wrong").await?);
    }
    Ok(())
}

/// One's own alone.
pub async fn end_break_glass(door: SignedIn, _: Json<Done>) -> Result<Json<AccessRequest>, Failure> {
    let ended = requests::end_break_glass(&door.actor).await;
    let ended = recorded(&door.actor, "installation", "", ended).await?;
    tracing::warn!(user = &*door.actor.name(), "break-glass has been ended by its user");
    Ok(Json(ended))
}

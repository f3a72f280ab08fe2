//! Service accounts and their credentials.

use bailiwick_api::key::KeyKind;
use bailiwick_api::names::{LABEL_MAX, check_text};
use bailiwick_api::permission::permit;
use bailiwick_api::tokens::{Credential, Narrowed, NewCredential, Token};
use bailiwick_api::users::{ChangeServiceAccount, NewServiceAccount, PrincipalKind, ServiceAccount, User};
use bailiwick_api::{Page, Permission, TokenId};
use bailiwick_store::credentials::{self, NewKey};
use bailiwick_store::principals::{self, Life};
use schemars::JsonSchema;
use serde::Deserialize;

use super::tokens::{end, must_cover, must_not_outlive};
use super::users::{UserFilter, change_life, fresh_user, recorded, secret};
use crate::access::{Allowed, Installation, Json, NoInput, Query};
use crate::failure::Failure;

pub async fn list(
    door: Allowed<permit::ServiceAccountsRead, Installation>,
    Query(filter): Query<UserFilter>,
) -> Result<Json<Page<ServiceAccount>>, Failure> {
    let page = principals::list_accounts(&door.granted, &filter.wanted(PrincipalKind::Service)).await?;
    Ok(Json(page))
}

pub async fn show(
    door: Allowed<permit::ServiceAccountsRead, Installation>,
    _: NoInput,
) -> Result<Json<ServiceAccount>, Failure> {
    let account = principals::account(&door.granted, door.context.path("user")).await?;
    Ok(Json(account))
}

pub async fn create(
    door: Allowed<permit::ServiceAccountsCreate, Installation>,
    Json(new): Json<NewServiceAccount>,
) -> Result<Json<Credential>, Failure> {
    let actor = &door.granted.actor;
    let mut queues = Vec::new();
    for name in &new.serve {
        let found = actor.picture().find_queue(name);
        let id = found.ok_or_else(|| Failure::not_found("queue", name))?;
        if !queues.contains(&id) {
            queues.push(id);
        }
    }
    let (secret, hash) = secret(KeyKind::Api);
    let created_at = actor.now();
    let outcome = principals::create_service_account(&door.granted, &new.name, &queues, new.impersonate, &hash).await;
    let (id, expires_at) = recorded(actor, &new.name, outcome).await?;
    let token = Token {
        id,
        owner: new.name,
        kind: "key".into(),
        label: "first key".into(),
        created_at,
        expires_at,
        last_used_at: None,
        revoked_at: None,
        narrowed: Narrowed {
            permissions: (!queues.is_empty()).then(|| credentials::words(credentials::agents_part())),
            workspaces: None,
        },
    };
    let server = &door.context.shared.parts.public_url;
    Ok(Json(Credential::new(token, secret, server)))
}

pub async fn change(
    door: Allowed<permit::ServiceAccountsUpdate, Installation>,
    Json(change): Json<ChangeServiceAccount>,
) -> Result<Json<ServiceAccount>, Failure> {
    let actor = &door.granted.actor;
    let account = principals::find_account(actor, door.context.path("user")).await?;
    if change.name.as_ref().is_some_and(|name| *name != account.name) {
        // The server finds its own agent's account by that name.
        refuse_built_in(&door.context.shared.parts, &account.name)?;
        // The name that another leaves could be taken, and be looked upon as his.
        must_cover(actor, Permission::ServiceAccountsUpdate, account.id).await?;
    }
    let outcome = principals::change_account(&door.granted, account.id, &change).await;
    recorded(actor, &account.name, outcome).await?;
    // Its agents hear at once that they may, or may no more.
    door.context.shared.parts.hub.work.wake_everyone();
    let user = fresh_user(&door.context, account.id).await?;
    let changed = principals::accounts(&door.granted, vec![user]).await?;
    Ok(Json(changed.into_iter().next().expect("it is a service account")))
}

fn refuse_built_in(parts: &crate::parts::Parts, name: &str) -> Result<(), Failure> {
    if !parts
        .agent_account
        .is_some_and(|account| account.eq_ignore_ascii_case(name))
    {
        return Ok(());
    }
    let why = format!("`{name}` is the account of the agent that runs beside this server");
    Err(Failure::conflict("conflict", why).hint("start the server with `--no-agent` first"))
}

pub async fn remove(
    door: Allowed<permit::ServiceAccountsDelete, Installation>,
    _: NoInput,
) -> Result<Json<User>, Failure> {
    change_life(door, Life::Remove, PrincipalKind::Service).await
}

/// Which credentials.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialFilter {
    /// Revoked and expired ones too.
    pub all: Option<bool>,
}

/// For whoever may make and revoke them: to read accounts is not to read keys (`guest` reads the former and not the latter).
pub async fn credentials(
    door: Allowed<permit::ServiceAccountsUpdate, Installation>,
    Query(filter): Query<CredentialFilter>,
) -> Result<Json<Page<Token>>, Failure> {
    let account = principals::find_account(&door.granted.actor, door.context.path("user")).await?;
    let page = credentials::list(&door.granted, account.id, filter.all.unwrap_or(false)).await?;
    Ok(Json(page))
}

pub async fn add_credential(
    door: Allowed<permit::ServiceAccountsUpdate, Installation>,
    Json(new): Json<NewCredential>,
) -> Result<Json<Credential>, Failure> {
    let actor = &door.granted.actor;
    check_text("the label", &new.label, LABEL_MAX).map_err(Failure::invalid)?;
    let expires = end(new.lifetime_ms, new.until, actor.now())?;
    let account = principals::find_account(actor, door.context.path("user")).await?;
    must_cover(actor, Permission::ServiceAccountsUpdate, account.id).await?;
    must_not_outlive(actor, account.id, expires).await?;
    let (secret, hash) = secret(KeyKind::Api);
    // An account that was made to serve queues does that alone, with each of its keys.
    let for_agents = actor.picture().world().principal(account.id);
    let for_agents = for_agents.is_some_and(|account| account.own_roles_only);
    let key = NewKey {
        owner: account.id,
        hash: &hash,
        label: &new.label,
        expires,
        permissions: for_agents.then(credentials::agents_part),
        workspaces: None,
    };
    let token = credentials::create_key(&door.granted, &key).await?;
    let server = &door.context.shared.parts.public_url;
    Ok(Json(Credential::new(token, secret, server)))
}

pub async fn revoke_credential(
    door: Allowed<permit::ServiceAccountsUpdate, Installation>,
    _: NoInput,
) -> Result<Json<Token>, Failure> {
    let actor = &door.granted.actor;
    let account = principals::find_account(actor, door.context.path("user")).await?;
    let id = TokenId(door.context.path_id("token")?);
    if credentials::owner(actor, id).await? != account.id {
        return Err(Failure::not_found("token", id));
    }
    let token = credentials::revoke(&door.granted, id).await?;
    // An agent that waits with it asks again, and is refused.
    door.context.shared.parts.hub.work.wake_everyone();
    Ok(Json(token))
}

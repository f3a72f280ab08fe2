//! API keys.

use bailiwick_access::{Narrowing, Target};
use bailiwick_api::key::KeyKind;
use bailiwick_api::names::{LABEL_MAX, check_text};
use bailiwick_api::permission::{PermissionSet, Permit, Reach, permit};
use bailiwick_api::tokens::{NewToken, Token, TokenWithSecret};
use bailiwick_api::{Page, Permission, PrincipalId, Time, TokenId, WorkspaceId};
use bailiwick_store::access::{Actor, Granted, NOBODY};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::credentials::{self, NewKey, Uncovered};
use bailiwick_store::principals;
use schemars::JsonSchema;
use serde::Deserialize;

use super::users::secret;
use crate::access::{Asked, Json, NoInput, Query};
use crate::failure::Failure;

/// Which keys to list.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenFilter {
    /// Whose; one's own when left out.
    pub user: Option<String>,
    /// Sessions, revoked and expired ones too.
    pub all: Option<bool>,
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

/// One key or session, and the proof for it. What is another's reads as what is not there, and leaves the same trace.
async fn one<P: Permit>(door: &Asked<P>) -> Result<(Granted<P>, TokenId), Failure> {
    let actor = &door.actor;
    let id = TokenId(door.context.path_id("token")?);
    let owner = credentials::owner(actor, id).await?;
    let (target, seen_by) = (Target::owned_by(owner), Some(Permission::TokensRead));
    let granted = door.at(target, "token", &id.to_string(), seen_by).await?;
    match owner {
        NOBODY => Err(Failure::not_found("token", id)),
        _ => Ok((granted, id)),
    }
}

pub async fn show(door: Asked<permit::TokensRead>, _: NoInput) -> Result<Json<Token>, Failure> {
    let (granted, id) = one(&door).await?;
    Ok(Json(credentials::get(&granted, id).await?))
}

pub async fn create(
    door: Asked<permit::TokensCreate>,
    Json(new): Json<NewToken>,
) -> Result<Json<TokenWithSecret>, Failure> {
    let actor = &door.actor;
    check_text("the label", &new.label, LABEL_MAX).map_err(Failure::invalid)?;
    let expires = end(new.lifetime_ms, new.until, actor.now())?;
    let whose = whose(actor, new.user.as_deref()).await?;
    let granted = door
        .at(Target::owned_by(whose), "tokens of", &whose.to_string(), None)
        .await?;
    let permissions = permissions(actor, whose, new.permissions.as_deref()).await?;
    let workspaces = workspaces(actor, whose, new.workspaces.as_deref()).await?;
    if whose != actor.id {
        let narrowing = Narrowing {
            permissions: permissions.unwrap_or_else(PermissionSet::everything),
            workspaces: workspaces.clone(),
            object: None,
            job: None,
        };
        must_cover_narrowed(actor, Permission::TokensCreate, whose, &narrowing).await?;
    }
    must_not_outlive(actor, whose, expires).await?;
    let (secret, hash) = secret(KeyKind::Api);
    let key = NewKey {
        owner: whose,
        hash: &hash,
        label: &new.label,
        expires,
        permissions,
        workspaces,
    };
    let token = credentials::create_key(&granted, &key).await?;
    Ok(Json(TokenWithSecret { token, secret }))
}

/// A thousand years: past every use, well inside what a time can hold.
const LIFETIME_MAX_MS: i64 = 1000 * 365 * 86_400_000;

/// When the new key ends.
pub(super) fn end(lifetime_ms: Option<i64>, until: Option<Time>, now: Time) -> Result<Option<Time>, Failure> {
    match (lifetime_ms, until) {
        (Some(_), Some(_)) => Err(Failure::invalid("give lifetime_ms or until, not both")),
        (Some(ms), None) if !(1000..=LIFETIME_MAX_MS).contains(&ms) => Err(Failure::invalid(
            "a key lives a second at least, and a thousand years at most",
        )),
        (None, Some(end)) if end <= now => Err(Failure::invalid(format!("the end {end} has passed already"))),
        (None, Some(end)) if end > now.plus_ms(LIFETIME_MAX_MS) => {
            Err(Failure::invalid("a key ends within a thousand years"))
        }
        (Some(ms), None) => Ok(Some(now.plus_ms(ms))),
        (None, until) => Ok(until),
    }
}

/// Refuses a key that would live longer than the one that makes it.
pub(super) async fn must_not_outlive(actor: &Actor, whose: PrincipalId, expires: Option<Time>) -> Result<(), Failure> {
    match credentials::latest_end(actor) {
        Some(end) if expires.is_none_or(|expires| expires > end) => {
            let message =
                format!("Insufficient permissions: this key ends at {end}, and no key made with it may live longer");
            let hint = "give the new key a shorter lifetime, or sign in with `ml login`";
            Err(exceeding(actor, whose, message, hint).await?)
        }
        _ => Ok(()),
    }
}

/// The recorded refusal of a key that would be more than the one that makes it.
async fn exceeding(actor: &Actor, whose: PrincipalId, message: String, hint: &str) -> Result<Failure, Failure> {
    audit::record(actor, Entry::denied(Permission::TokensCreate, "tokens of", whose)).await?;
    Ok(Failure::forbidden(message).hint(hint))
}

/// Most permissions or workspaces that a key may be narrowed to by name; each request with it goes through the latter.
const WORDS_MAX: usize = 100;

fn check_words(what: &str, words: &[String]) -> Result<(), Failure> {
    if words.is_empty() {
        return Err(Failure::invalid(format!(
            "{what}: name at least one, or leave the list out"
        )));
    }
    if words.len() > WORDS_MAX {
        return Err(Failure::invalid(format!("{what}: more than {WORDS_MAX} are named")));
    }
    Ok(())
}

/// What a new key may be used for: of what its owner holds, and of what the key that makes it is for.
async fn permissions(
    actor: &Actor,
    whose: PrincipalId,
    words: Option<&[String]>,
) -> Result<Option<PermissionSet>, Failure> {
    let everything = PermissionSet::everything();
    let most = actor.narrowing().map_or(everything, |narrowing| narrowing.permissions);
    let Some(words) = words else {
        return Ok((most != everything).then_some(most));
    };
    check_words("permissions", words)?;
    let held = held_anywhere(actor, whose);
    let mut asked = PermissionSet::EMPTY;
    for word in words {
        let (set, reach) = PermissionSet::parse(word).map_err(Failure::invalid)?;
        if reach == Reach::Own {
            let name = word.trim_end_matches(":own");
            return Err(Failure::invalid(format!(
                "a key is narrowed by permission alone: write `{name}`; it reaches no further than its owner does"
            )));
        }
        if set.intersection(held).is_empty() {
            let name = actor.picture().principal_name(whose);
            return Err(Failure::invalid(format!(
                "`{name}` holds `{word}` nowhere, and so no key of `{name}` can be for it"
            )));
        }
        // A word that stands for several means those of them that are there to be given.
        let given = set.intersection(held).intersection(most);
        if given.is_empty() {
            let message =
                format!("Insufficient permissions: this key is not for `{word}`, and no key made with it may be");
            return Err(exceeding(actor, whose, message, "sign in with `ml login`, or leave it out").await?);
        }
        asked = asked.union(given);
    }
    Ok(Some(asked))
}

/// Everything that somebody holds at some place.
fn held_anywhere(actor: &Actor, whose: PrincipalId) -> PermissionSet {
    let world = actor.picture().world();
    let now = actor.now().0;
    let by_mode = world.what_can(whose, None, now).into_iter().map(|(_, held)| held);
    let held = by_mode.chain(
        credentials::live_roles(&world, whose, now, None)
            .into_iter()
            .map(|held| held.role),
    );
    held.fold(PermissionSet::EMPTY, |set, held| set.union(held.all).union(held.own))
}

/// The workspaces that a new key is for; unknown ones, and those that one may not see, are named together.
async fn workspaces(
    actor: &Actor,
    whose: PrincipalId,
    names: Option<&[String]>,
) -> Result<Option<Vec<WorkspaceId>>, Failure> {
    let most = actor.narrowing().and_then(|narrowing| narrowing.workspaces.clone());
    let Some(names) = names else { return Ok(most) };
    check_words("workspaces", names)?;
    let picture = actor.picture();
    let (mut ids, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        let found = picture.find_workspace(name);
        let seen = |id: &WorkspaceId| {
            actor
                .may(Permission::WorkspacesRead, &picture.workspace_target(*id))
                .is_some()
        };
        match found.filter(seen) {
            Some(id) => ids.push(id),
            None => unknown.push(name.as_str()),
        }
    }
    if !unknown.is_empty() {
        return Err(Failure::not_found("workspace", unknown.join("`, `")));
    }
    ids.sort_unstable();
    ids.dedup();
    if let Some(most) = most
        && ids.iter().any(|id| !most.contains(id))
    {
        let message = "Insufficient permissions: this key is for other workspaces, and so is every key made with it";
        return Err(exceeding(actor, whose, message.into(), "sign in with `ml login`, or leave it out").await?);
    }
    Ok(Some(ids))
}

/// Refuses whoever may not open a way into this account ([`credentials::must_cover`]).
pub async fn must_cover(actor: &Actor, by: Permission, whose: PrincipalId) -> Result<(), Failure> {
    match credentials::must_cover(actor, whose) {
        Ok(()) => Ok(()),
        Err(Uncovered::Missing(..)) => Err(uncovered(actor, by, whose).await?),
        Err(Uncovered::PartialKey) => {
            audit::record(actor, Entry::denied(by, "user", actor.name())).await?;
            Err(Failure::forbidden(
                "Insufficient permissions: a key that is narrowed or has an end opens no other way in for its owner",
            )
            .hint("sign in with `ml login`"))
        }
    }
}

/// The same for a key that leaves only a part of the other's rights.
async fn must_cover_narrowed(
    actor: &Actor,
    by: Permission,
    whose: PrincipalId,
    narrowing: &Narrowing,
) -> Result<(), Failure> {
    match credentials::covers(actor, whose, narrowing) {
        true => Ok(()),
        false => Err(uncovered(actor, by, whose).await?),
    }
}

async fn uncovered(actor: &Actor, by: Permission, whose: PrincipalId) -> Result<Failure, Failure> {
    let name = actor.picture().principal_name(whose);
    audit::record(actor, Entry::denied(by, "user", &name)).await?;
    Ok(Failure::forbidden(format!(
        "Insufficient permissions: signed in as {name} one may do more than {} may",
        actor.name()
    ))
    .hint("only somebody who holds at least the same roles can do this, or the user itself"))
}

pub async fn revoke(door: Asked<permit::TokensRevoke>, _: NoInput) -> Result<Json<Token>, Failure> {
    let (granted, id) = one(&door).await?;
    Ok(Json(credentials::revoke(&granted, id).await?))
}

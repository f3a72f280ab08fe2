//! Vaults: configuration that agents and jobs are given. Of those that are not one's own, whoever may not read all of them learns nothing here but which apply.

use bailiwick_access::Target;
use bailiwick_api::names::check_plain_name;
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::vault::{VAULT_BYTES_MAX, VaultFormat};
use bailiwick_api::vaults::{
    AppliedVaults, KeyRotated, NewVault, PLACE_DEFAULT, PLACE_MAX, Vault, VaultChange, VaultDetail, VaultEdit,
};
use bailiwick_api::{Page, Permission, PrincipalId, as_number};
use bailiwick_store::access::{Actor, Granted, NOBODY};
use bailiwick_store::principals;
use bailiwick_store::vaults::{self, New, Of, VaultRow};
use schemars::JsonSchema;
use serde::Deserialize;

use super::roles::recorded;
use super::tokens::must_cover;
use crate::access::{Allowed, Asked, Installation, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;

fn whole<T>(items: Vec<T>) -> Page<T> {
    Page { items, next: None }
}

/// Whether values are to be shown.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    pub reveal: Option<bool>,
}

/// Whose vaults, and whether their values are to be shown.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppliedTo {
    /// A user or a service account; oneself when left out.
    pub user: Option<String>,
    pub reveal: Option<bool>,
}

/// The vault that the path names, and the proof for it. What is another's reads as what is not there.
async fn one<P: Permit>(door: &Asked<P>) -> Result<(Granted<P>, VaultRow), Failure> {
    let which = door.context.path("vault");
    let found = vaults::find(&door.actor, which).await?;
    // One's own that is not there yet is no secret.
    let named = which
        .strip_prefix('@')
        .and_then(|name| door.actor.picture().find_principal(name));
    let owner = named.filter(|id| *id == door.actor.id).unwrap_or(NOBODY);
    let target = found.as_ref().map_or(Target::owned_by(owner), |row| row.of.target());
    let granted = door.at(target, "vault", which, Some(Permission::VaultsRead)).await?;
    let row = found.ok_or_else(|| Failure::not_found("vault", which))?;
    Ok((granted, row))
}

/// Whoever changes another's vault decides what runs in his name.
async fn must_answer_for(actor: &Actor, of: Of) -> Result<(), Failure> {
    match of {
        Of::Principal(whose) if whose != actor.id => must_cover(actor, Permission::VaultsUpdate, whose).await,
        _ => Ok(()),
    }
}

pub async fn list(door: SignedIn, _: NoInput) -> Result<Json<Page<Vault>>, Failure> {
    Ok(Json(whole(vaults::list(&door.actor).await?)))
}

pub async fn create(
    door: Asked<permit::VaultsUpdate>,
    Json(new): Json<NewVault>,
) -> Result<Json<VaultDetail>, Failure> {
    let actor = &door.actor;
    let of = match (&new.user, &new.group, new.organisation) {
        (None, None, false) => Of::Principal(actor.id),
        (Some(user), None, false) => Of::Principal(principals::get(actor, user).await?.id),
        (None, Some(group), false) => {
            let found = actor.picture().find_group(group);
            Of::Group(found.ok_or_else(|| Failure::not_found("group", group))?)
        }
        (None, None, true) => Of::Everybody,
        _ => {
            return Err(Failure::invalid(
                "a vault is for a user, a group or the organisation: name one of them",
            ));
        }
    };
    let name = new.name.as_deref().unwrap_or_default();
    let granted = door.at(of.target(), "vault", name, None).await?;
    if let Of::Principal(_) = of {
        if new.name.is_some() || new.place.is_some() || new.enforced.is_some() {
            return Err(Failure::invalid(
                "a personal vault has no name or order of its own, and cannot be enforced",
            ));
        }
    } else {
        check_name(name)?;
    }
    must_answer_for(actor, of).await?;
    let format = new.format.unwrap_or(VaultFormat::Hocon);
    let content = checked(actor, of, format, &new.text)?;
    let vault = New {
        of,
        name,
        place: place(new.place)?.unwrap_or(PLACE_DEFAULT),
        enforced: new.enforced.unwrap_or(false),
        enabled: new.enabled.unwrap_or(true),
        format,
        text: &new.text,
        content: &content,
    };
    let made = vaults::create(&granted, &vault).await;
    Ok(Json(recorded(actor, "vault", name, made).await?))
}

/// A name that neither a number nor a personal vault (`@ana`) has.
fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::invalid("a vault of a group or the organisation needs a name"));
    }
    if name.starts_with('@') || as_number(name).is_some() {
        return Err(Failure::invalid(
            "the name of a vault begins with no `@` and is no number",
        ));
    }
    check_plain_name("a vault", name).map_err(Failure::invalid)
}

fn place(place: Option<i64>) -> Result<Option<i64>, Failure> {
    match place {
        Some(place) if !(1..=PLACE_MAX).contains(&place) => Err(Failure::invalid(format!(
            "the order of a vault is from 1 to {PLACE_MAX}; a higher one is stronger"
        ))),
        place => Ok(place),
    }
}

fn checked(actor: &Actor, of: Of, format: VaultFormat, text: &str) -> Result<serde_json::Value, Failure> {
    if text.len() > VAULT_BYTES_MAX {
        return Err(Failure::invalid(format!(
            "a vault has at most {} KiB of text",
            VAULT_BYTES_MAX / 1024
        )));
    }
    vaults::check(actor.picture(), of, format, text).map_err(|why| {
        Failure::invalid(format!("the vault is not right: {why}")).hint("docs/vaults.md lists every section and key")
    })
}

pub async fn show(door: Asked<permit::VaultsRead>, Query(how): Query<Reveal>) -> Result<Json<VaultDetail>, Failure> {
    let (granted, row) = one(&door).await?;
    let shown = vaults::show(&granted, &row, how.reveal.unwrap_or(false)).await;
    Ok(Json(
        recorded(&door.actor, "vault", door.context.path("vault"), shown).await?,
    ))
}

pub async fn update(
    door: Asked<permit::VaultsUpdate>,
    Json(edit): Json<VaultEdit>,
) -> Result<Json<VaultDetail>, Failure> {
    let (granted, row) = one(&door).await?;
    must_answer_for(&door.actor, row.of).await?;
    if let Some(name) = &edit.name {
        check_name(name)?;
    }
    place(edit.place)?;
    if edit.text.as_ref().is_some_and(|text| text.len() > VAULT_BYTES_MAX) {
        return Err(Failure::invalid(format!(
            "a vault has at most {} KiB of text",
            VAULT_BYTES_MAX / 1024
        )));
    }
    let changed = vaults::update(&granted, row.id, &edit).await;
    Ok(Json(
        recorded(&door.actor, "vault", door.context.path("vault"), changed).await?,
    ))
}

pub async fn delete(door: Asked<permit::VaultsUpdate>, _: NoInput) -> Result<Json<Vault>, Failure> {
    let (granted, row) = one(&door).await?;
    must_answer_for(&door.actor, row.of).await?;
    let deleted = vaults::delete(&granted, row.id).await;
    Ok(Json(
        recorded(&door.actor, "vault", door.context.path("vault"), deleted).await?,
    ))
}

pub async fn changes(door: Asked<permit::VaultsRead>, _: NoInput) -> Result<Json<Page<VaultChange>>, Failure> {
    let (granted, row) = one(&door).await?;
    Ok(Json(whole(vaults::changes(&granted, row.id).await?)))
}

async fn whose(actor: &Actor, user: Option<&str>) -> Result<PrincipalId, Failure> {
    match user {
        Some(name) => Ok(principals::get(actor, name).await?.id),
        None => Ok(actor.id),
    }
}

pub async fn applied(
    door: Asked<permit::VaultsRead>,
    Query(to): Query<AppliedTo>,
) -> Result<Json<AppliedVaults>, Failure> {
    let whose = whose(&door.actor, to.user.as_deref()).await?;
    let name = whose.to_string();
    let granted = door.at(Target::owned_by(whose), "vaults of", &name, None).await?;
    let applied = vaults::applied(&granted, whose, to.reveal.unwrap_or(false)).await;
    Ok(Json(recorded(&door.actor, "vaults of", &name, applied).await?))
}

pub async fn rotate_key(
    door: Allowed<permit::ClusterUpdateConfig, Installation>,
    _: Json<crate::access::Done>,
) -> Result<Json<KeyRotated>, Failure> {
    let rotated = vaults::rotate_key(&door.granted).await;
    Ok(Json(
        recorded(&door.granted.actor, "vault key", "current", rotated).await?,
    ))
}

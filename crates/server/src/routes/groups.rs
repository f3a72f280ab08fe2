//! Groups and who belongs to them.

use bailiwick_api::groups::{ChangeGroup, Group, GroupChange, GroupDetail, GroupUsers, NewGroup};
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::{GroupId, Page, Permission};
use bailiwick_store::access::{Actor, Granted, Refusal};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::groups::{self, GroupError};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::{Allowed, Asked, Installation, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;

/// Where to go on.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// Only those whose name holds this text: groups, or the members of one.
    pub text: Option<String>,
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    pub limit: Option<i64>,
}

impl After {
    fn range(&self) -> (i64, i64) {
        (self.after.unwrap_or(0), self.limit.unwrap_or(200))
    }
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Refused(refusal) => refusal.into(),
            GroupError::Invalid(why) => Failure::invalid(why),
            GroupError::Conflict(why) => Failure::conflict("conflict", why),
            GroupError::NotMember(why) => {
                let mut failure = Failure::not_found("member", "");
                failure.message = why;
                failure.hint = Some("`ml user-group describe NAME` lists who belongs to it".into());
                failure
            }
        }
    }
}

/// A refusal that only the store could find is on record before it is answered.
async fn recorded<T>(actor: &Actor, name: &str, outcome: Result<T, GroupError>) -> Result<T, Failure> {
    if let Err(GroupError::Refused(Refusal::Forbidden { permission, .. })) = &outcome {
        audit::record(actor, Entry::denied(*permission, "group", name)).await?;
    }
    Ok(outcome?)
}

/// The group that the path names, and the proof for it. To whoever neither belongs to it nor has `groups:read` it reads as if it were not there.
async fn one<P: Permit>(door: &Asked<P>) -> Result<(Granted<P>, GroupId), Failure> {
    let (actor, text) = (&door.actor, door.context.path("group"));
    let Some(id) = actor.picture().find_group(text) else {
        let may = |permission| actor.may(permission, &Default::default()).is_some();
        if !may(P::PERMISSION) && !may(Permission::GroupsRead) {
            audit::record(actor, Entry::denied(P::PERMISSION, "group", text)).await?;
        }
        return Err(Failure::not_found("group", text));
    };
    let seen_by = (!groups::is_member(actor, id)).then_some(Permission::GroupsRead);
    let granted = door.at(Default::default(), "group", text, seen_by).await?;
    Ok((granted, id))
}

pub async fn list(door: SignedIn, Query(page): Query<After>) -> Result<Json<Page<Group>>, Failure> {
    let (after, limit) = page.range();
    Ok(Json(
        groups::list(&door.actor, page.text.as_deref(), after, limit).await?,
    ))
}

/// Those who belong to it may look too, and see themselves.
pub async fn show(door: Asked<permit::GroupsRead>, Query(page): Query<After>) -> Result<Json<GroupDetail>, Failure> {
    let (actor, text) = (&door.actor, door.context.path("group"));
    let (after, limit) = page.range();
    let own = actor
        .picture()
        .find_group(text)
        .filter(|id| groups::is_member(actor, *id));
    let id = match own {
        Some(id) => id,
        None => one(&door).await?.1,
    };
    Ok(Json(
        groups::detail(actor, id, page.text.as_deref(), after, limit).await?,
    ))
}

pub async fn create(
    door: Allowed<permit::GroupsCreate, Installation>,
    Json(new): Json<NewGroup>,
) -> Result<Json<GroupChange>, Failure> {
    let outcome = groups::create(&door.granted, &new).await;
    Ok(Json(recorded(&door.granted.actor, &new.name, outcome).await?))
}

pub async fn change(
    door: Asked<permit::GroupsUpdate>,
    Json(change): Json<ChangeGroup>,
) -> Result<Json<Group>, Failure> {
    let (granted, id) = one(&door).await?;
    Ok(Json(groups::change(&granted, id, &change).await?))
}

pub async fn delete(door: Asked<permit::GroupsDelete>, _: NoInput) -> Result<Json<Group>, Failure> {
    let (granted, id) = one(&door).await?;
    Ok(Json(groups::delete(&granted, id).await?))
}

pub async fn add(
    door: Asked<permit::GroupsUpdate>,
    Json(GroupUsers { users }): Json<GroupUsers>,
) -> Result<Json<GroupChange>, Failure> {
    let (granted, id) = one(&door).await?;
    let outcome = groups::add(&granted, id, &users).await;
    Ok(Json(recorded(&door.actor, door.context.path("group"), outcome).await?))
}

pub async fn remove(
    door: Asked<permit::GroupsUpdate>,
    Json(GroupUsers { users }): Json<GroupUsers>,
) -> Result<Json<GroupChange>, Failure> {
    let (granted, id) = one(&door).await?;
    let outcome = groups::remove(&granted, id, &users).await;
    Ok(Json(recorded(&door.actor, door.context.path("group"), outcome).await?))
}

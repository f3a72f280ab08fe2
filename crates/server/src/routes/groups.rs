//! Groups and who belongs to them.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use bailiwick_api::groups::{ChangeGroup, Group, GroupChange, GroupDetail, GroupRow, GroupUsers, NewGroup};
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::{GroupId, Page, Permission};
use bailiwick_store::access::{Actor, Granted, Refusal};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::groups::{self, GroupError};
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::{Allowed, Asked, Content, Csv, Installation, Json, NdJson, NoInput, Query, SignedIn};
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

/// Every group with its members, one line for each, as CSV.
pub async fn export_csv(door: Allowed<permit::GroupsRead, Installation>, _: NoInput) -> Result<Content<Csv>, Failure> {
    Ok(Content::new(rows(door, GroupRow::CSV_HEAD, |row| row.csv())))
}

/// The same as JSON lines.
pub async fn export_ndjson(
    door: Allowed<permit::GroupsRead, Installation>,
    _: NoInput,
) -> Result<Content<NdJson>, Failure> {
    let line = |row: &GroupRow| serde_json::to_string(row).expect("rows are JSON") + "\n";
    Ok(Content::new(rows(door, "", line)))
}

/// How many groups, and how many members of one, are read at once.
const PAGE: i64 = 1000;

/// Where the export stands: groups that are still to come, and after which member the first of them goes on.
struct Exporting {
    door: Allowed<permit::GroupsRead, Installation>,
    groups: VecDeque<Group>,
    after_group: Option<i64>,
    after_member: i64,
}

impl Exporting {
    /// Some more lines, or that there are none.
    async fn more(&mut self, line: fn(&GroupRow) -> String) -> Result<Option<String>, Failure> {
        let actor = &self.door.granted.actor;
        if self.groups.is_empty() {
            let Some(after) = self.after_group else { return Ok(None) };
            let page = groups::list(actor, None, after, PAGE).await?;
            self.groups = page.items.into();
            self.after_group = page.next.and_then(|next| next.parse().ok());
        }
        let Some(group) = self.groups.front() else {
            return Ok(None);
        };
        let found = match groups::detail(actor, group.id, None, self.after_member, PAGE).await {
            Ok(detail) => Some(detail.members),
            // Deleted at this very moment.
            Err(Refusal::NotFound { .. }) => None,
            Err(other) => return Err(other.into()),
        };
        let mut text = String::new();
        let mut next = None;
        if let Some(members) = found {
            if members.items.is_empty() && self.after_member == 0 {
                text = line(&GroupRow::new(group, None));
            }
            let lines = members
                .items
                .iter()
                .map(|member| line(&GroupRow::new(group, Some(member))));
            text.extend(lines);
            next = members.next.and_then(|next| next.parse().ok());
        }
        match next {
            Some(member) => self.after_member = member,
            None => {
                self.groups.pop_front();
                self.after_member = 0;
            }
        }
        Ok(Some(text))
    }
}

fn rows(door: Allowed<permit::GroupsRead, Installation>, head: &'static str, line: fn(&GroupRow) -> String) -> Body {
    let state = Exporting {
        door,
        groups: VecDeque::new(),
        after_group: Some(0),
        after_member: 0,
    };
    let rest = futures_util::stream::unfold(Some(state), move |state| async move {
        let mut state = state?;
        match state.more(line).await {
            Ok(None) => None,
            Ok(Some(text)) => Some((Ok(Bytes::from(text)), Some(state))),
            // A broken-off answer, not a short one that looks whole.
            Err(failure) => Some((Err(std::io::Error::other(failure.message)), None)),
        }
    });
    let head = futures_util::stream::once(async move { Ok::<_, std::io::Error>(Bytes::from(head)) });
    Body::from_stream(head.chain(rest))
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

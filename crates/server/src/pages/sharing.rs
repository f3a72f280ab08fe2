//! The section *Share* on the page of a queue, model or stack: with whom it is shared, and the forms that change it.

use bailiwick_access::Target;
use bailiwick_api::Permission;
use bailiwick_api::roles::{Assignment, AssignmentFilter, NewAssignment, NewAssignments};
use schemars::JsonSchema;
use serde::Deserialize;

use super::held::{self, Roles};
use super::places::Person;
use super::told::given;
use crate::access::{Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes::assignments;

pub struct Sharing {
    /// The page that takes the forms.
    pub path: String,
    pub shares: Vec<Assignment>,
    pub roles: Roles,
    pub people: Vec<Person>,
}

/// What its forms send, as a part of what those of the page do.
#[derive(Default, Deserialize, JsonSchema)]
pub struct Given {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    assignment: String,
}

impl Sharing {
    /// For those who may assign roles there; `on` is the thing as an assignment names it.
    pub async fn of(door: &SignedIn, target: Target, on: String, path: String) -> Result<Option<Sharing>, Failure> {
        let (actor, context) = (&door.actor, &door.context);
        let target = Target { owner: None, ..target };
        if actor.may(Permission::RolesAssign, &target).is_none() {
            return Ok(None);
        }
        let here = AssignmentFilter {
            on: Some(on),
            ..AssignmentFilter::default()
        };
        Ok(Some(Sharing {
            path,
            shares: context.ask(assignments::list, &[], Query(here)).await?.0.items,
            roles: Roles::to_give(context, actor, &[target], false).await?,
            people: Person::all(context).await?,
        }))
    }
}

/// `share` or `unshare`.
pub async fn act(door: &SignedIn, act: &str, it: &Given, on: String) -> Result<(), Failure> {
    if act == "unshare" {
        let path = [("assignment", it.assignment.as_str())];
        door.context.ask(assignments::take_by_id, &path, NoInput).await?;
        return Ok(());
    }
    let (who, until) = (given(&it.who), held::until(&it.until, door.actor.now())?);
    if who.is_none() {
        return Err(Failure::invalid("say whom to share it with"));
    }
    let (user, group) = if it.kind == "group" { (None, who) } else { (who, None) };
    let one = NewAssignment {
        role: it.role.clone(),
        user,
        group,
        on: Some(on),
        until,
        lifetime_ms: None,
    };
    let new = NewAssignments {
        assignments: vec![one],
        reason: String::new(),
    };
    door.context.ask(assignments::give, &[], Json(new)).await?;
    Ok(())
}

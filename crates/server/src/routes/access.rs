//! Questions about rights, and moving to roles.

use bailiwick_access::Target;
use bailiwick_api::Permission;
use bailiwick_api::access::{
    AccessCheck, CanI, CanIAnswer, Diff, DiffAnswer, Explain, Explanation, ShadowCleared, ShadowFilter, ShadowReport,
    WhatCan, WhatCanAnswer, WhoCan, WhoCanAnswer,
};
use bailiwick_api::on::On;
use bailiwick_api::permission::permit;
use bailiwick_store::access::{Actor, Granted, resolve};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::questions::{self, PlanError, Wanted};
use bailiwick_store::shadow;

use crate::access::{Allowed, Asked, Installation, Json, NoInput, Query, SignedIn, require};
use crate::failure::Failure;

fn wanted(permission: &str) -> Result<Wanted, Failure> {
    Wanted::parse(permission).map_err(|why| Failure::invalid(why).hint("`ml permission list` shows them all"))
}

fn place(on: &str) -> Result<On, Failure> {
    On::parse(on).map_err(Failure::invalid)
}

pub async fn can_i(door: SignedIn, Json(question): Json<CanI>) -> Result<Json<CanIAnswer>, Failure> {
    let wanted = wanted(&question.permission)?;
    let on = place(&question.on)?;
    let answer = questions::can_i(&door.actor, wanted, &question.permission, &on).await?;
    Ok(Json(answer))
}

/// About oneself everybody may ask; about others, who reads roles there.
pub async fn explain(door: SignedIn, Json(question): Json<Explain>) -> Result<Json<Explanation>, Failure> {
    let wanted = wanted(&question.permission)?;
    let on = place(&question.on)?;
    let who = questions::whom(&door.actor, question.who.as_deref())?;
    let target = resolve(&door.actor, &on).await?;
    if who != door.actor.id {
        reads_roles(&door.actor, target, &on.to_string()).await?;
    }
    Ok(Json(questions::explain(&door.actor, who, wanted, target)))
}

/// The proof that the actor may see who holds what at a place.
async fn reads_roles(actor: &Actor, target: Target, which: &str) -> Result<Granted<permit::RolesRead>, Failure> {
    let target = Target { owner: None, ..target };
    require::<permit::RolesRead>(actor, target, "roles on", which, None).await
}

pub async fn who_can(
    door: Asked<permit::RolesRead>,
    Json(question): Json<WhoCan>,
) -> Result<Json<WhoCanAnswer>, Failure> {
    let wanted = wanted(&question.permission)?;
    if wanted.reach == bailiwick_api::Reach::Own {
        return Err(Failure::invalid(
            "who-can is asked about a thing as it is: leave out `:own`, and its owner is looked at too",
        ));
    }
    let on = place(&question.on)?;
    let target = resolve(&door.actor, &on).await?;
    let granted = reads_roles(&door.actor, target, &on.to_string()).await?;
    let after = match question.after.as_deref() {
        None => 0,
        Some(after) => after.parse().map_err(|_| no_such_page(after))?,
    };
    let limit = page_size(question.limit, 100)?;
    Ok(Json(questions::who_can(&granted, target, wanted, after, limit)))
}

pub(super) fn no_such_page(after: &str) -> Failure {
    Failure::invalid(format!("`{after}` is not the `next` of a page"))
}

fn page_size(limit: Option<i64>, usual: i64) -> Result<usize, Failure> {
    match limit.unwrap_or(usual) {
        limit @ 1..=1000 => Ok(limit as usize),
        _ => Err(Failure::invalid("limit is 1 to 1000")),
    }
}

pub async fn what_can(door: SignedIn, Json(question): Json<WhatCan>) -> Result<Json<WhatCanAnswer>, Failure> {
    let who = questions::whom(&door.actor, question.who.as_deref())?;
    if who != door.actor.id {
        reads_roles(&door.actor, Target::default(), "installation").await?;
    }
    let after = match question.after.as_deref() {
        None => 0,
        Some(after) => after.parse().map_err(|_| no_such_page(after))?,
    };
    let limit = page_size(question.limit, 200)?;
    Ok(Json(questions::what_can(&door.actor, who, after, limit)))
}

pub async fn diff(door: Asked<permit::RolesRead>, Json(diff): Json<Diff>) -> Result<Json<DiffAnswer>, Failure> {
    if !(1..=200).contains(&diff.changes.len()) {
        return Err(Failure::invalid("a diff is of 1 to 200 changes"));
    }
    let actor = &door.actor;
    let plan = questions::plan(actor, &diff.changes).await.map_err(|why| match why {
        PlanError::Refusal(refusal) => refusal.into(),
        PlanError::Invalid(words) => Failure::invalid(words),
    })?;
    // Rights come before anything is said about what is there. Whoever reads roles everywhere need not be asked place by place.
    let everywhere = actor.may(Permission::RolesRead, &Target::default()).is_some();
    if !everywhere {
        for scope in &plan.named {
            let target = questions::target_at(actor, *scope).await?;
            reads_roles(actor, target, &questions::on_of(actor.picture(), *scope).to_string()).await?;
        }
        reads_roles_where_assigned(actor, &plan).await?;
    }
    plan.is_there(actor)?;
    Ok(Json(questions::effect(actor, plan).await?))
}

/// The asker has not named these places and may not know of them: a refusal names none, and reads the same where there is none at all (then, too, nothing
/// is told to those who read roles nowhere).
async fn reads_roles_where_assigned(actor: &Actor, plan: &questions::Plan) -> Result<(), Failure> {
    let mut reads = !(plan.named.is_empty() && plan.implied.is_empty());
    for scope in &plan.implied {
        let target = Target {
            owner: None,
            ..questions::target_at(actor, *scope).await?
        };
        reads &= actor.may(Permission::RolesRead, &target).is_some();
    }
    if reads {
        return Ok(());
    }
    audit::record(
        actor,
        Entry::denied(Permission::RolesRead, "roles on", "where they are assigned"),
    )
    .await?;
    let words = format!(
        "Insufficient permissions: {} needs roles:read where that is assigned",
        actor.name()
    );
    Err(Failure::forbidden(words))
}

pub async fn shadow_report(
    door: Allowed<permit::RolesRead, Installation>,
    Query(filter): Query<ShadowFilter>,
) -> Result<Json<ShadowReport>, Failure> {
    if filter
        .after
        .as_deref()
        .is_some_and(|after| after.parse::<u32>().is_err())
    {
        return Err(no_such_page(filter.after.as_deref().unwrap_or_default()));
    }
    page_size(filter.limit, 200)?;
    Ok(Json(shadow::report(&door.granted, &filter).await?))
}

pub async fn clear_shadow_report(
    door: Allowed<permit::ClusterUpdateConfig, Installation>,
    _: NoInput,
) -> Result<Json<ShadowCleared>, Failure> {
    let deleted = shadow::clear(&door.granted).await?;
    Ok(Json(ShadowCleared { deleted }))
}

pub async fn check(door: Allowed<permit::RolesRead, Installation>, _: NoInput) -> Result<Json<AccessCheck>, Failure> {
    Ok(Json(shadow::check(&door.granted).await?))
}

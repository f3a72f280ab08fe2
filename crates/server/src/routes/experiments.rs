//! Experiments.

use bailiwick_access::Target;
use bailiwick_api::experiments::{Experiment, ExperimentDetail, ExperimentFilter, NewExperiment, ReportProgress, Stop};
use bailiwick_api::permission::permit;
use bailiwick_api::queues::{JobMove, QueueState};
use bailiwick_api::stacks::Executor;
use bailiwick_api::workspaces::{DEFAULT_PROJECT, DEFAULT_WORKSPACE, MoveExperiment};
use bailiwick_api::{Page, Permission, QueueId, config};
use bailiwick_store::access::{Actor, Granted, queue_target};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::experiments::{self, StopTarget};
use bailiwick_store::queues;
use bailiwick_store::stacks::{self, ForRun};

use crate::access::{
    Allowed, Asked, Content, Done, Gzip, Json, NoInput, OneExperiment, Query, SignedIn, require, require_found,
};
use crate::executors::{self, Submission};
use crate::failure::Failure;

/// What may be seen decides what is listed.
pub async fn list(door: SignedIn, Query(filter): Query<ExperimentFilter>) -> Result<Json<Page<Experiment>>, Failure> {
    let after = filter.begin().map_err(Failure::invalid)?;
    Ok(Json(experiments::list(&door.actor, &filter, after).await?))
}

pub async fn create(
    door: Asked<permit::ExperimentsCreate>,
    Json(new): Json<NewExperiment>,
) -> Result<Json<Experiment>, Failure> {
    let (actor, parts) = (&door.actor, &door.context.shared.parts);
    let mut checked = config::check(new.config, &new.args).map_err(|why| {
        Failure::invalid(format!("the configuration is not right: {why}"))
            .hint("docs/experiment-yaml.md lists every key")
    })?;
    let named = [
        ("workspace", &checked.workspace),
        ("project", &checked.project),
        ("stack", &checked.stack),
    ];
    for (key, name) in named {
        // From a variable that was never set, say: running in `default` is not what was meant.
        if name.as_deref().is_some_and(|name| name.trim().is_empty()) {
            return Err(Failure::invalid(format!(
                "the {key} is empty: name one, or leave it out for the usual one"
            )));
        }
    }
    let workspace = checked.workspace.as_deref().unwrap_or(DEFAULT_WORKSPACE);
    let project = checked.project.as_deref().unwrap_or(DEFAULT_PROJECT);
    let granted = destination(actor, workspace, project).await?;

    let stack = match &checked.stack {
        Some(which) => Some(stacks::for_run(actor, super::stacks::seen(actor, which).await?).await?),
        None => None,
    };
    let queue = match (&checked.queue, &stack) {
        (
            None,
            Some(ForRun {
                name,
                queue: Some(queue),
                ..
            }),
        ) => may_be_put(actor, Some(*queue), "of the stack", &granted.target)
            .await
            .map_err(|failure| match failure.code {
                "not_found" => Failure {
                    message: format!("stack `{name}` names a queue that is not there for {}", actor.name()),
                    ..failure
                }
                .hint("name another with --queue"),
                _ => failure,
            })?,
        (named, _) => queue_for(actor, named.as_deref(), &granted.target).await?,
    };
    let executor = stack.as_ref().map_or_else(Executor::default, |stack| stack.executor);
    if let Some(stack) = stack {
        checked.stack_env = stack.environment;
        checked.whole["stack"] = serde_json::json!(stack.name);
        checked.stack = Some(stack.name);
    }
    if let Some(code) = &new.code {
        let sent = crate::code::is_name(code)
            && bailiwick_store::code::was_sent_by(actor, code).await?
            && parts.code.exists(code).await;
        if !sent {
            return Err(
                Failure::conflict("code_missing", format!("{} has not sent the code {code}", actor.name()))
                    .hint("send it first with PUT /api/v1/code/{sha256}"),
            );
        }
    }
    let name = checked.name.clone().unwrap_or_else(|| "experiment".into());
    let what = Submission {
        queue,
        name: &name,
        config: &checked,
        code: new.code.as_deref(),
    };
    Ok(Json(executors::submit(executor, &granted, what, &parts.hub).await?))
}

/// The queue that jobs of this place may be put into now; without a name the default one of the workspace, or of all.
async fn queue_for(actor: &Actor, name: Option<&str>, place: &Target) -> Result<QueueId, Failure> {
    let found = match name {
        Some(name) => actor.picture().find_queue(name),
        None => queues::default(actor, place),
    };
    may_be_put(actor, found, name.unwrap_or("default"), place).await
}

/// That jobs of this place may be put into the queue now. One that may not be seen is called as it was asked for.
async fn may_be_put(actor: &Actor, found: Option<QueueId>, asked: &str, place: &Target) -> Result<QueueId, Failure> {
    // What is not there is decided about as well: it takes the same time as what may not be seen.
    let queue = found.unwrap_or(QueueId(0));
    let (may_submit, may_see) = (queues::may_submit(actor, queue, place), queues::may_see(actor, queue));
    let known = actor.picture().queue(queue);
    let name = known.as_ref().filter(|_| may_see).map_or(asked, |queue| &queue.name);
    if !may_submit {
        let entry = Entry::denied(Permission::QueuesSubmit, "queue", name);
        audit::record(actor, entry).await?;
        if !may_see {
            return Err(Failure::not_found("queue", name));
        }
        let bound = known
            .as_ref()
            .is_some_and(|queue| !queue.open && !queue.workspaces.is_empty());
        let refusal: Failure = actor.forbidden(Permission::QueuesSubmit, &queue_target(queue)).into();
        return Err(match bound {
            true => refusal
                .hint("the queue takes jobs of the workspaces that it is bound to: `ml queue describe` names them"),
            false => refusal,
        });
    }
    if known.as_ref().is_some_and(|queue| queue.state == QueueState::Draining) {
        return Err(Failure::conflict(
            "conflict",
            format!("queue {name} is being drained: it takes no more jobs in"),
        )
        .hint("name another one with --queue; `ml queue list` shows those that there are"));
    }
    Ok(queue)
}

/// The project that experiments are to be put into, and the right to put them there. A workspace of which nothing may be seen is answered as one that is not
/// there; of one of which a single project may be seen, that project can be named.
async fn destination(
    actor: &Actor,
    workspace: &str,
    project: &str,
) -> Result<Granted<permit::ExperimentsCreate>, Failure> {
    let picture = actor.picture();
    let Some(id) = picture.find_workspace(workspace) else {
        let refused = require_found::<_, ()>(actor, None, "workspace", workspace, Some(Permission::ProjectsRead));
        return refused.await.map(|(granted, ())| granted);
    };
    let found = picture.find_project(id, project);
    let in_project = Target {
        project: found,
        ..Target::workspace(id)
    };
    let may = |permission, target: &Target| actor.may(permission, target).is_some();
    let sees_workspace = may(Permission::WorkspacesRead, &picture.workspace_target(id));
    // A refusal names the workspace where that is seen: whether there is a project of that name is then not told.
    let (target, seen_by) = match may(Permission::ExperimentsCreate, &in_project) {
        false if sees_workspace => (Target::workspace(id), None),
        _ => (in_project, Some(Permission::ProjectsRead)),
    };
    let granted = require(actor, target, "workspace", workspace, seen_by).await?;
    match found {
        Some(_) => Ok(granted),
        None => Err(Failure::not_found("project", project)),
    }
}

/// The right to take it away stands at the door, the right to put it there is asked for here.
pub async fn move_to(
    door: Allowed<permit::ExperimentsDelete, OneExperiment>,
    Json(to): Json<MoveExperiment>,
) -> Result<Json<Experiment>, Failure> {
    let (actor, row) = (&door.granted.actor, &door.on.0);
    if to.workspace.is_none() && to.project.is_none() {
        return Err(Failure::invalid("say where to: a project, or a workspace, or both"));
    }
    let own = actor.picture().workspace_name(row.workspace);
    let workspace = to.workspace.as_deref().unwrap_or(&own);
    let project = to.project.as_deref().unwrap_or(DEFAULT_PROJECT);
    let granted = destination(actor, workspace, project).await?;
    let moved = experiments::move_to(&door.granted, &granted, row).await?;
    door.context.shared.parts.hub.wake_followers(row.id);
    Ok(Json(moved))
}

pub async fn report_progress(
    door: Allowed<permit::ExperimentsUpdate, OneExperiment>,
    Json(report): Json<ReportProgress>,
) -> Result<Json<Experiment>, Failure> {
    Ok(Json(
        experiments::report_progress(&door.granted, &door.on.0, report.progress).await?,
    ))
}

pub async fn move_job(
    door: Allowed<permit::ExperimentsUpdate, OneExperiment>,
    Json(to): Json<JobMove>,
) -> Result<Json<Experiment>, Failure> {
    let row = &door.on.0;
    if to.priority.is_some_and(|priority| !(1..=99).contains(&priority)) {
        return Err(Failure::invalid("a priority is from 1 to 99; lower goes first"));
    }
    let queue = match &to.queue {
        Some(name) => Some(queue_for(&door.granted.actor, Some(name), &door.granted.target).await?),
        None => None,
    };
    let moved = experiments::move_job(&door.granted, row, queue, to.priority).await?;
    door.context
        .shared
        .parts
        .hub
        .work
        .wake_queue(queue.unwrap_or(row.queue));
    Ok(Json(moved))
}

pub async fn archive(
    door: Allowed<permit::ExperimentsEdit, OneExperiment>,
    _: Json<Done>,
) -> Result<Json<Experiment>, Failure> {
    set_archived(door, true).await
}

pub async fn unarchive(
    door: Allowed<permit::ExperimentsEdit, OneExperiment>,
    _: Json<Done>,
) -> Result<Json<Experiment>, Failure> {
    set_archived(door, false).await
}

async fn set_archived(
    door: Allowed<permit::ExperimentsEdit, OneExperiment>,
    archive: bool,
) -> Result<Json<Experiment>, Failure> {
    let row = &door.on.0;
    let experiment = experiments::archive(&door.granted, row, archive).await?;
    door.context.shared.parts.hub.wake_followers(row.id);
    Ok(Json(experiment))
}

pub async fn delete(
    door: Allowed<permit::ExperimentsDelete, OneExperiment>,
    _: NoInput,
) -> Result<Json<Experiment>, Failure> {
    let row = &door.on.0;
    experiments::delete(&door.granted, row).await?;
    door.context.shared.parts.hub.wake_followers(row.id);
    Ok(Json(row.view(door.granted.actor.picture())))
}

pub async fn show(
    door: Allowed<permit::ExperimentsRead, OneExperiment>,
    _: NoInput,
) -> Result<Json<ExperimentDetail>, Failure> {
    Ok(Json(
        executors::watch(Executor::Agents, &door.granted, door.on.0).await?,
    ))
}

pub async fn cancel(door: Asked<permit::ExperimentsUpdate>, _: Json<Done>) -> Result<Json<Experiment>, Failure> {
    stop(door, Stop::Cancel).await
}

pub async fn kill(door: Asked<permit::ExperimentsUpdate>, _: Json<Done>) -> Result<Json<Experiment>, Failure> {
    stop(door, Stop::Kill).await
}

async fn stop(door: Asked<permit::ExperimentsUpdate>, how: Stop) -> Result<Json<Experiment>, Failure> {
    let which = door.context.path("experiment");
    match experiments::find_to_stop(&door.actor, which).await? {
        StopTarget::Found(found) => {
            let (granted, row) = *found;
            let hub = &door.context.shared.parts.hub;
            Ok(Json(
                executors::cancel(Executor::Agents, &granted, row, how, hub).await?,
            ))
        }
        // Seed 000's words; the same whether there is such an experiment or not.
        StopTarget::NotOwn => Err(Failure::forbidden(format!(
            "You can only cancel your own jobs: `{which}` is not one of them"
        ))
        .hint("`ml status` lists the ones you see; an administrator can cancel any")),
        StopTarget::Refused(refusal) => Err(refusal.into()),
        StopTarget::Missing => Err(Failure::not_found("experiment", which)),
        StopTarget::Ambiguous(ids) => {
            let ids: Vec<String> = ids.iter().map(|id| id.to_string()).collect();
            Err(Failure::conflict(
                "ambiguous",
                format!(
                    "{} unfinished experiments that you may stop are called `{which}`: {}",
                    ids.len(),
                    ids.join(", ")
                ),
            )
            .hint("say which one by its number"))
        }
    }
}

pub async fn code(
    door: Allowed<permit::ExperimentsReadArtifacts, OneExperiment>,
    _: NoInput,
) -> Result<Content<Gzip>, Failure> {
    let row = &door.on.0;
    let sha256 = row
        .code
        .as_deref()
        .ok_or_else(|| Failure::not_found("code of experiment", row.id))?;
    let archive = door.context.shared.parts.code.read(sha256).await?;
    Ok(Content::new(archive).named(format!("experiment-{}-code.tar.gz", row.id)))
}

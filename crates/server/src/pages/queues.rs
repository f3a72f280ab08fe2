//! A queue: what it does with jobs, what waits and runs in it, how busy it was, and the forms that change it.

use askama::Template;
use bailiwick_access::Target;
use bailiwick_api::agents::Agent;
use bailiwick_api::experiments::{Experiment, State};
use bailiwick_api::queues::{
    JobMove, Queue, QueueAccess, QueueDetail, QueueLoad, QueueSettings, QueueShare, QueueState,
};
use bailiwick_api::{Permission, Time};
use bailiwick_store::access::{experiment_target, queue_target};
use schemars::JsonSchema;
use serde::Deserialize;

use super::held::{Acted, Again, must_be_sure, names};
use super::sharing::{self, Given, Sharing};
use super::told::{Problem, status};
use super::users::unknown;
use super::{Frame, lasted};
use crate::access::{Answer, Form, Json, NoInput, SignedIn};
use crate::failure::Failure;
use crate::routes;

fn may(door: &SignedIn, permission: Permission) -> bool {
    door.actor.may(permission, &Target::default()).is_some()
}

/// What the forms send.
#[derive(Default, Deserialize, JsonSchema)]
pub struct QueueForm {
    #[serde(default)]
    act: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    access: String,
    /// Apart by commas.
    #[serde(default)]
    workspaces: String,
    #[serde(default)]
    share: String,
    #[serde(default)]
    max_running: String,
    #[serde(default)]
    max_running_of_user: String,
    #[serde(default)]
    max_running_of_workspace: String,
    #[serde(default)]
    sure: String,
    #[serde(flatten)]
    given: Given,
    /// The waiting experiment to be moved, and where to.
    #[serde(default)]
    experiment: String,
    #[serde(default)]
    queue: String,
}

impl QueueForm {
    fn of(queue: &Queue) -> QueueForm {
        let limit = |limit: i64| if limit == 0 { String::new() } else { limit.to_string() };
        QueueForm {
            name: queue.name.clone(),
            description: queue.description.clone(),
            access: queue.access.word().into(),
            workspaces: queue.workspaces.join(", "),
            share: queue.share.word().into(),
            max_running: limit(queue.max_running),
            max_running_of_user: limit(queue.max_running_of_user),
            max_running_of_workspace: limit(queue.max_running_of_workspace),
            ..QueueForm::default()
        }
    }

    fn settings(&self) -> Result<QueueSettings, Failure> {
        let limit = |text: &str| match text.trim() {
            "" => Ok(Some(0)),
            text => match text.parse() {
                Ok(limit) => Ok(Some(limit)),
                Err(_) => Err(Failure::invalid(format!(
                    "`{text}` is no number of jobs: leave it empty for no limit"
                ))),
            },
        };
        let access = QueueAccess::parse(&self.access);
        let workspaces = names(&self.workspaces);
        Ok(QueueSettings {
            name: Some(self.name.trim().to_owned()),
            description: Some(self.description.trim().to_owned()),
            access,
            workspaces: (access == Some(QueueAccess::Bound)).then_some(workspaces),
            share: QueueShare::parse(&self.share),
            max_running: limit(&self.max_running)?,
            max_running_of_user: limit(&self.max_running_of_user)?,
            max_running_of_workspace: limit(&self.max_running_of_workspace)?,
            ..QueueSettings::default()
        })
    }
}

#[derive(Template)]
#[template(path = "queue_new.html")]
struct NewQueuePage {
    frame: Frame,
    typed: QueueForm,
    problem: Option<Problem>,
}

/// Signed in; the form is refused where one may not make queues.
pub async fn new(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    make(&door, Again::default())
}

fn make(door: &SignedIn, again: Again<QueueForm>) -> Result<Answer, Failure> {
    let page = NewQueuePage {
        frame: Frame::new(door, "queues", "New queue"),
        typed: again.typed,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handler asks for what it needs.
pub async fn create(door: SignedIn, Form(form): Form<QueueForm>) -> Result<Answer, Failure> {
    let outcome = match form.settings() {
        Ok(settings) => door.context.ask(routes::queues::create, &[], Json(settings)).await,
        Err(failure) => Err(failure),
    };
    let outcome = outcome.map(|Json(queue)| Acted::Done(see(&queue)));
    match Again::or(outcome, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => make(&door, again),
    }
}

fn see(queue: &Queue) -> Answer {
    Answer::see(&format!("/queues/{}", queue.id))
}

/// A job of the queue.
struct Job {
    it: Experiment,
    since: String,
    may_move: bool,
}

/// Whether one may move this job.
fn may_move(door: &SignedIn, it: &Experiment) -> bool {
    let picture = door.actor.picture();
    let workspace = picture.find_workspace(&it.workspace);
    let project = workspace.and_then(|workspace| picture.find_project(workspace, &it.project));
    let (Some(workspace), Some(project), Some(owner)) = (workspace, project, picture.find_principal(&it.owner)) else {
        return false;
    };
    let target = experiment_target(it.id, workspace, project, owner);
    door.actor.may(Permission::ExperimentsUpdate, &target).is_some()
}

/// How busy the queue was in an hour.
struct Hour {
    from: Time,
    running: i64,
    waiting: i64,
}

/// The most of each hour, the latest first.
fn hours(load: &[QueueLoad]) -> Vec<Hour> {
    let mut hours: Vec<Hour> = Vec::new();
    for one in load.iter().rev() {
        let from = Time(one.minute.div_euclid(60) * 3_600_000_000);
        match hours.last_mut().filter(|hour| hour.from == from) {
            Some(hour) => {
                hour.running = hour.running.max(one.running);
                hour.waiting = hour.waiting.max(one.waiting);
            }
            None => hours.push(Hour {
                from,
                running: one.running,
                waiting: one.waiting,
            }),
        }
    }
    hours
}

/// How busy the queue was, as lines to be drawn in a box of 720 by 120.
struct Chart {
    running: String,
    waiting: String,
    most: i64,
}

const MINUTES: i64 = 24 * 60;

impl Chart {
    fn of(load: &[QueueLoad], now: i64) -> Option<Chart> {
        let first = now - MINUTES;
        let most = load.iter().map(|one| one.running.max(one.waiting)).max()?.max(1);
        // One point for every other minute is as fine as it can be seen.
        let line = |of: fn(&QueueLoad) -> i64| {
            let points = load.chunks(2).filter_map(|pair| {
                let high = pair.iter().max_by_key(|one| of(one))?;
                let x = (high.minute - first).clamp(0, MINUTES) / 2;
                let y = 118 - of(high) * 116 / most;
                Some(format!("{x},{y}"))
            });
            points.collect::<Vec<_>>().join(" ")
        };
        Some(Chart {
            running: line(|one| one.running),
            waiting: line(|one| one.waiting),
            most,
        })
    }
}

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    frame: Frame,
    it: Queue,
    waits: Vec<Job>,
    runs: Vec<Job>,
    agents: Vec<Agent>,
    chart: Option<Chart>,
    hours: Vec<Hour>,
    sharing: Option<Sharing>,
    may_update: bool,
    may_delete: bool,
    typed: QueueForm,
    problem: Option<Problem>,
}

impl QueuePage {
    /// How many of the jobs are others' that one may not see.
    fn unseen(&self, all: impl std::borrow::Borrow<i64>, seen: &[Job]) -> i64 {
        (all.borrow() - seen.len() as i64).max(0)
    }

    fn some_move(&self) -> bool {
        self.waits.iter().any(|row| row.may_move)
    }

    fn about(&self) -> &str {
        &self.typed.act
    }
}

/// Signed in; of its jobs those that one may see.
pub async fn show(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    page(&door, Again::default()).await
}

async fn page(door: &SignedIn, mut again: Again<QueueForm>) -> Result<Answer, Failure> {
    let path = [("queue", door.context.path("queue"))];
    let Json(detail) = door.context.ask(routes::queues::show, &path, NoInput).await?;
    let QueueDetail {
        queue,
        load,
        waits,
        runs,
    } = detail;
    let Json(agents) = door.context.ask(routes::agents::list, &[], NoInput).await?;
    let serving = agents
        .items
        .into_iter()
        .filter(|agent| agent.queues.contains(&queue.name));
    let now = door.actor.now();
    let job = |it: Experiment| Job {
        since: lasted(it.started_at.unwrap_or(it.created_at), now),
        may_move: it.state == State::Queued && may_move(door, &it),
        it,
    };
    if again.typed.act != "change" {
        again.typed = QueueForm {
            act: again.typed.act,
            ..QueueForm::of(&queue)
        };
    }
    let page = QueuePage {
        frame: Frame::new(door, "queues", &queue.name),
        agents: serving.collect(),
        chart: Chart::of(&load, now.0 / 60_000_000),
        hours: hours(&load),
        sharing: Sharing::of(
            door,
            queue_target(queue.id),
            format!("queue:{}", queue.name),
            format!("/queues/{}", queue.id),
        )
        .await?,
        waits: waits.into_iter().map(job).collect(),
        runs: runs.into_iter().map(job).collect(),
        may_update: may(door, Permission::QueuesUpdate),
        may_delete: may(door, Permission::QueuesDelete) && !queue.is_default,
        typed: again.typed,
        problem: again.problem,
        it: queue,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handlers ask for what they need.
pub async fn act(door: SignedIn, Form(form): Form<QueueForm>) -> Result<Answer, Failure> {
    // What is not there has no page to tell it on.
    let path = [("queue", door.context.path("queue"))];
    door.context.ask(routes::queues::show, &path, NoInput).await?;
    match Again::or(change(&door, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => page(&door, again).await,
    }
}

async fn change(door: &SignedIn, form: &QueueForm) -> Result<Acted, Failure> {
    let path = [("queue", door.context.path("queue"))];
    let set = |state| QueueSettings {
        state: Some(state),
        ..QueueSettings::default()
    };
    let settings = match form.act.as_str() {
        "change" => form.settings()?,
        "pause" => set(QueueState::Paused),
        "drain" => set(QueueState::Draining),
        "resume" => set(QueueState::Active),
        "set-default" => QueueSettings {
            is_default: Some(true),
            ..QueueSettings::default()
        },
        "share" | "unshare" => {
            let Json(it) = door.context.ask(routes::queues::show, &path, NoInput).await?;
            sharing::act(door, &form.act, &form.given, format!("queue:{}", it.queue.name)).await?;
            return Ok(see(&it.queue).into());
        }
        "first" | "last" | "move" => {
            let Json(it) = door.context.ask(routes::queues::show, &path, NoInput).await?;
            let to = match form.act.as_str() {
                "first" => JobMove {
                    priority: Some(1),
                    queue: None,
                },
                "last" => JobMove {
                    priority: Some(99),
                    queue: None,
                },
                _ if form.queue.trim().is_empty() => return Err(Failure::invalid("say which queue to move it to")),
                _ => JobMove {
                    priority: None,
                    queue: Some(form.queue.trim().to_owned()),
                },
            };
            let one = [("experiment", form.experiment.as_str())];
            door.context.ask(routes::experiments::move_job, &one, Json(to)).await?;
            return Ok(see(&it.queue).into());
        }
        "delete" => {
            must_be_sure(&form.sure)?;
            door.context.ask(routes::queues::delete, &path, NoInput).await?;
            return Ok(Answer::see("/queues").into());
        }
        act => return Err(unknown(act)),
    };
    let Json(queue) = door.context.ask(routes::queues::update, &path, Json(settings)).await?;
    Ok(see(&queue).into())
}

//! What agents ask, and what people ask about agents and queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bailiwick_access::Target;
use bailiwick_api::agents::{
    Agent, Happened, Held, JobUsage, LogsAt, LogsKept, Poll, PollAnswer, Register, Registered, Report, Service,
};
use bailiwick_api::experiments::{State, Stop};
use bailiwick_api::key::{self, KeyKind};
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::{AgentId, JobId, Page};
use bailiwick_store::access::{Actor, Refusal};
use bailiwick_store::agents::{self, RegisterOutcome, Serving};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::jobs::{self, HeldRow, LeaseRules, Reported, Taken};
use bailiwick_store::logs;
use bailiwick_store::logs::Kept;
use bailiwick_store::vaults;

use crate::access::{Asked, Content, Done, Gzip, Json, NoInput, Query, Raw, Shared, SignedIn, whole};
use crate::failure::Failure;
use crate::parts::Parts;

/// An agent polls at least every 60 s; unheard of for three times that, it is lost. Mostly that is known sooner: `background::watch_agents`.
const LOST_AFTER_MS: i64 = 180_000;
/// What jobs use, and how machines do, is written down at most this often.
const USAGE_PAUSE: Duration = Duration::from_secs(4);
/// Largest piece of log text, in bytes.
const LOG_MAX: usize = 4 * 1024 * 1024;
/// No log has so many lines; numbers near the end of i64 could not be counted on from.
const LAST_LINE: i64 = 1_000_000_000_000;

type Door = Asked<permit::QueuesServe>;

fn rules(parts: &Parts) -> LeaseRules {
    LeaseRules {
        on_lost_agent: parts.on_lost_agent,
    }
}

fn fresh_token() -> String {
    key::make(KeyKind::Job, key::random_bytes())
}

/// The agent of the path, with its queues, each of which the caller may still serve.
async fn serving(door: &Door) -> Result<Serving, Failure> {
    let id = AgentId(door.context.path_id("agent")?);
    recorded(&door.actor, agents::serving(&door.actor, id).await).await
}

/// A refusal of the store is on record before it is answered.
async fn recorded<T>(actor: &Actor, outcome: Result<T, Refusal>) -> Result<T, Failure> {
    if let Err(Refusal::Forbidden { permission, place, .. }) = &outcome {
        audit::record(actor, Entry::denied(*permission, "agent", place)).await?;
    }
    let ask = outcome.as_ref().err();
    let ask = ask.and_then(|refusal| agents::what_to_ask(refusal, &actor.name()));
    outcome.map_err(|refusal| match ask {
        Some(ask) => Failure::from(refusal).hint(ask),
        None => refusal.into(),
    })
}

pub async fn list(door: SignedIn, _: NoInput) -> Result<Json<Page<Agent>>, Failure> {
    Ok(Json(agents::list(&door.actor, LOST_AFTER_MS).await?))
}

pub async fn show(door: SignedIn, _: NoInput) -> Result<Json<Agent>, Failure> {
    let agent = agents::get(&door.actor, door.context.path("agent"), LOST_AFTER_MS).await?;
    Ok(Json(agent))
}

type Managing = Asked<permit::AgentsManage>;

/// Visible, but may not be managed: 403, which names the right.
async fn set_service(door: &Managing, service: Service) -> Result<Json<Agent>, Failure> {
    let agent = agents::get(&door.actor, door.context.path("agent"), LOST_AFTER_MS).await?;
    let granted = door.at(Target::default(), "agent", &agent.name, None).await?;
    let hub = &door.context.shared.parts.hub;
    for experiment in agents::set_service(&granted, &agent, service).await? {
        hub.wake_followers(experiment);
    }
    // It is told to stop what it holds, or may take what waits.
    hub.work.wake_agent(agent.id);
    let agent = agents::get(&door.actor, &agent.id.to_string(), LOST_AFTER_MS).await?;
    Ok(Json(agent))
}

pub async fn enable(door: Managing, _: Json<Done>) -> Result<Json<Agent>, Failure> {
    set_service(&door, Service::Enabled).await
}

pub async fn disable(door: Managing, _: Json<Done>) -> Result<Json<Agent>, Failure> {
    set_service(&door, Service::Disabled).await
}

pub async fn drain(door: Managing, _: Json<Done>) -> Result<Json<Agent>, Failure> {
    set_service(&door, Service::Draining).await
}

pub async fn register(door: Door, Json(new): Json<Register>) -> Result<Json<Registered>, Failure> {
    bailiwick_api::names::check_plain_name("an agent", &new.name).map_err(Failure::invalid)?;
    if new.queues.is_empty() {
        return Err(Failure::invalid("an agent serves at least one queue"));
    }
    if new.slots.len() > 4096 || new.queues.len() > 100 || new.hardware.len() > 100 {
        return Err(Failure::invalid(
            "an agent has at most 4096 slots, 100 queues and 100 facts about its hardware",
        ));
    }
    let outcome = agents::register(&door.actor, &new, LOST_AFTER_MS).await;
    let agent = match recorded(&door.actor, outcome).await? {
        RegisterOutcome::Known(agent) => agent,
        RegisterOutcome::Taken(address) => {
            let message = format!("another agent `{}` of this account is at work, at {address}", new.name);
            return Err(Failure::conflict("conflict", message).hint("give each machine its own name with --name"));
        }
        RegisterOutcome::MayNotImpersonate => {
            audit::record(
                &door.actor,
                Entry::denied(permit::QueuesServe::PERMISSION, "agent", &new.name),
            )
            .await?;
            return Err(may_not_impersonate(&door.actor.name()));
        }
    };
    // One whose vaults cannot be read does not begin without them.
    let (settings, enforced) = vaults::for_agent(&door.actor).await?;
    let hub = &door.context.shared.parts.hub;
    hub.agent_registered(agent, door.actor.now());
    hub.renewed
        .lock()
        .expect("no panic while the lock is held")
        .remove(&agent);
    Ok(Json(Registered {
        agent,
        lease_ms: door.context.shared.parts.lease_ms,
        settings,
        enforced,
    }))
}

fn may_not_impersonate(account: &str) -> Failure {
    let message = format!(
        "Insufficient permissions: service account {account} may not run jobs as their owners (impersonation is not allowed to it)"
    );
    let mut failure = Failure::forbidden(message).hint(format!(
        "ask an administrator for `ml service-account edit {account} --allow-impersonation true`, or start the agent without --use-owner-token"
    ));
    failure.code = "may_not_impersonate";
    failure
}

pub async fn poll(door: Door, Json(poll): Json<Poll>) -> Result<Json<PollAnswer>, Failure> {
    let mut serving = Arc::new(serving(&door).await?);
    let poll = Arc::new(poll);
    if serving.instance != poll.instance {
        return Err(Failure::not_found("agent", format!("{} as registered", serving.name)));
    }
    if poll.load.as_ref().is_some_and(|load| load.gpus.len() > 4096) {
        return Err(Failure::invalid("an agent has at most 4096 GPUs"));
    }
    let parts = &door.context.shared.parts;
    let there = parts.hub.agent_polls(serving.id, serving.last_seen_at);
    let until = tokio::time::Instant::now() + Duration::from_millis(poll.wait_ms.clamp(0, 60_000) as u64);
    let takes = if poll.draining {
        Vec::new()
    } else {
        serving.queues.clone()
    };
    let (mut turn, mut ending) = (parts.hub.work.join(serving.id, takes), parts.hub.ending.subscribe());
    let mut owed = turn.look();
    let mut first = true;
    let mut knows = false;
    let mut not_served = None;
    loop {
        let answer = look_whole(&door.context.shared, serving.clone(), poll.clone(), first).await?;
        for queue in owed.queues.clone() {
            if !jobs::any_waits(&serving, queue).await? {
                owed.emptied(queue);
            }
        }
        drop(owed);
        let over = tokio::time::Instant::now() >= until || *ending.borrow();
        // It is told at the end of each wait, and at once where it is new.
        knows |= first && answer.refused.is_some();
        let told = not_served.get_or_insert_with(|| answer.not_served.clone());
        let news = (answer.refused.is_some() && !knows) || *told != answer.not_served;
        if over || news || !(answer.start.is_empty() && answer.stop.is_empty() && answer.drop.is_empty()) {
            there.answered();
            return Ok(Json(answer));
        }
        first = false;
        owed = tokio::select! {
            owed = turn.woken() => owed,
            _ = ending.changed() => turn.look(),
            _ = tokio::time::sleep_until(until) => turn.look(),
        };
        // Whoever has waited asks again by the rights of now.
        let actor = door.context.actor_again().await?;
        serving = Arc::new(recorded(&actor, agents::serving(&actor, serving.id).await).await?);
    }
}

/// Looks to the end also when the agent has hung up meanwhile (it does so whenever it has news, to poll anew): a lease given at that very moment would
/// otherwise be known to nobody until the next look. One look at a time for each agent, so that none gives what another has just given.
async fn look_whole(
    shared: &Arc<Shared>,
    serving: Arc<Serving>,
    poll: Arc<Poll>,
    first: bool,
) -> Result<PollAnswer, Failure> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let shared = shared.clone();
    tokio::spawn(async move {
        let turn = shared.parts.hub.turn(serving.id);
        let _turn = turn.lock().await;
        if send.is_closed() {
            return;
        }
        let answer = look(&shared.parts, &serving, &poll, first).await;
        if send.send(answer).is_err() {
            shared.parts.hub.work.wake_agent(serving.id);
        }
    });
    receive
        .await
        .map_err(|_| Failure::internal("a look for an agent panicked"))?
}

/// Whether a kill is to be said (again) to an agent that is already stopping the job: not more than once a second.
fn kill_is_due(parts: &Parts, held: Held) -> bool {
    let mut said = parts.hub.kills_said.lock().expect("no panic while the lock is held");
    said.retain(|_, at| at.elapsed() < Duration::from_secs(1));
    let due = !said.contains_key(&(held.job, held.fence));
    if due {
        said.insert((held.job, held.fence), Instant::now());
    }
    due
}

/// Compares what the agent holds with what it should hold.
async fn look(parts: &Parts, serving: &Serving, poll: &Poll, first: bool) -> Result<PollAnswer, Failure> {
    let rows = jobs::held_by(serving).await?;
    // Another server may have missed it, and called it gone.
    if first || serving.gone {
        renew(parts, serving, poll, &rows).await?;
    }
    let mut answer = PollAnswer {
        not_served: (*serving.not_served).clone(),
        ..PollAnswer::default()
    };
    let named = |held: &Held| {
        poll.held
            .iter()
            .find(|one| one.job == held.job && one.fence == held.fence)
    };
    let mut lost = Vec::new();
    for row in &rows {
        match named(&row.held) {
            Some(held) => match row.wanted {
                Some(how) if !held.stopping => answer.stop.push(jobs::stop_order(row, how)),
                // A kill may come while a cancel is under way.
                Some(Stop::Kill) if kill_is_due(parts, row.held) => answer.stop.push(jobs::stop_order(row, Stop::Kill)),
                _ => {}
            },
            None if row.state == State::Starting && row.wanted.is_none() => {
                answer
                    .start
                    .extend(jobs::give_again(serving, row.held.job, rules(parts), &fresh_token()).await?);
            }
            // Taken and stopped before the agent knew of it: nothing runs.
            None if row.state == State::Stopping && never_started(serving, row).await? => {
                let never = Happened::Ended {
                    at: serving.actor.now(),
                    exit_code: None,
                    signal: None,
                    reason: None,
                    lost: false,
                };
                report_ended(parts, serving, row.held, &never).await?;
            }
            None => lost.push(row.held),
        }
    }
    note_missing(parts, serving, &lost).await?;
    answer.drop.extend(poll.held.iter().filter(|held| {
        !rows
            .iter()
            .any(|row| row.held.job == held.job && row.held.fence == held.fence)
    }));
    let may_take = serving.impersonates || !serving.use_owner_token;
    if !may_take {
        answer.refused = Some(why_refused(serving));
    }
    if !poll.draining && may_take {
        // What is given again takes its slots, too.
        let mut free = poll.free_slots - answer.start.iter().map(|lease| lease.slots).sum::<i64>();
        let mut turns = serving.clone();
        // Zero-slot jobs need no slot; the bound keeps one answer small.
        while answer.start.len() < 64 {
            match next(&mut turns, free, rules(parts)).await? {
                None => break,
                Some(Taken::Job(lease)) => {
                    free -= lease.slots;
                    parts.hub.wake_followers(lease.experiment);
                    answer.start.push(*lease);
                }
                Some(Taken::Failed(experiment)) => parts.hub.wake_followers(experiment),
                Some(Taken::KnowsNoVaults) => {
                    answer.refused = Some(format!(
                        "vaults have something for the job that is next, and this agent is too old to apply it: update ml on {}",
                        serving.name
                    ));
                    break;
                }
                Some(Taken::MayNotImpersonate) => {
                    answer.refused = Some(why_refused(serving));
                    break;
                }
            }
        }
    }
    Ok(answer)
}

/// The next job for an agent. Where its queues take turns, the one that gave it goes to the end.
async fn next(serving: &mut Serving, free_slots: i64, rules: LeaseRules) -> Result<Option<Taken>, Failure> {
    if !serving.fair {
        return Ok(jobs::take(serving, free_slots, rules, &fresh_token()).await?);
    }
    for at in 0..serving.queues.len() {
        let one = Serving {
            queues: vec![serving.queues[at]],
            ..serving.clone()
        };
        let taken = jobs::take(&one, free_slots, rules, &fresh_token()).await?;
        if taken.is_some() {
            serving.queues.rotate_left(at + 1);
            return Ok(taken);
        }
    }
    Ok(None)
}

fn why_refused(serving: &Serving) -> String {
    let Failure { message, hint, .. } = may_not_impersonate(&serving.actor.name());
    format!("{message}; {}", hint.unwrap_or_default())
}

/// Writes down that the agent is there and renews its leases, unless that was done a moment ago.
async fn renew(parts: &Parts, serving: &Serving, poll: &Poll, rows: &[HeldRow]) -> Result<(), Failure> {
    let live: Vec<JobId> = rows
        .iter()
        .filter(|row| {
            poll.held
                .iter()
                .any(|held| held.job == row.held.job && held.fence == row.held.fence)
        })
        .map(|row| row.held.job)
        .collect();
    // An agent ends its jobs after 9/10 of the lease; a twentieth is well inside the rest.
    let pause = Duration::from_millis(parts.lease_ms as u64 / 20).min(Duration::from_secs(15));
    let now = Instant::now();
    // It is sent where it has changed; somebody may be looking at it.
    let measured = || parts.hub.measured.lock().expect("no panic while the lock is held");
    let is_recent = |at: &Instant| now.duration_since(*at) < USAGE_PAUSE;
    let tells = (!poll.usage.is_empty() || poll.load.is_some()) && !measured().get(&serving.id).is_some_and(is_recent);
    if !tells && !serving.gone {
        let renewed = parts.hub.renewed.lock().expect("no panic while the lock is held");
        if renewed
            .get(&serving.id)
            .is_some_and(|(jobs, at)| now.duration_since(*at) < pause && live.iter().all(|job| jobs.contains(job)))
        {
            return Ok(());
        }
    }
    let load = poll.load.as_ref().filter(|_| tells);
    if live.is_empty() {
        agents::seen(serving, load).await?;
    } else {
        let held = |one: &JobUsage| {
            rows.iter()
                .any(|row| (row.held.job, row.held.fence) == (one.job, one.fence))
        };
        let usage: Vec<JobUsage> = poll.usage.iter().copied().filter(|one| tells && held(one)).collect();
        jobs::renew(serving, &live, &usage, load).await?;
    }
    if tells {
        measured().insert(serving.id, now);
    }
    parts.hub.agent_seen(serving.id, serving.actor.now());
    parts
        .hub
        .renewed
        .lock()
        .expect("no panic while the lock is held")
        .insert(serving.id, (live, now));
    Ok(())
}

async fn never_started(serving: &Serving, row: &HeldRow) -> Result<bool, Failure> {
    Ok(!jobs::has_started(serving, row.held).await?)
}

/// Jobs that the agent should have and does not name, twice with two seconds between (an overtaken poll may be late): they are lost.
async fn note_missing(parts: &Parts, serving: &Serving, lost: &[Held]) -> Result<(), Failure> {
    let hub = &parts.hub;
    let mut gone = Vec::new();
    {
        let mut missing = hub.missing.lock().expect("no panic while the lock is held");
        for held in lost {
            let since = *missing.entry((held.job, held.fence)).or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_secs(2) {
                missing.remove(&(held.job, held.fence));
                gone.push(*held);
            }
        }
        missing.retain(|_, since| since.elapsed() < Duration::from_secs(600));
    }
    for held in gone {
        let reason = Some("the agent lost the job".to_owned());
        let ended = Happened::Ended {
            at: serving.actor.now(),
            exit_code: None,
            signal: None,
            reason,
            lost: true,
        };
        report_ended(parts, serving, held, &ended).await?;
    }
    Ok(())
}

async fn report_ended(parts: &Parts, serving: &Serving, held: Held, what: &Happened) -> Result<(), Failure> {
    let report = Report {
        fence: held.fence,
        usage: None,
        what: what.clone(),
    };
    if let Reported::Kept { experiment, queue } = jobs::report(serving, held.job, &report, rules(parts)).await? {
        parts.hub.wake_followers(experiment);
        parts.hub.work.wake_queue(queue);
    }
    Ok(())
}

pub async fn report(door: Door, Json(report): Json<Report>) -> Result<Json<Done>, Failure> {
    let serving = serving(&door).await?;
    let job = JobId(door.context.path_id("job")?);
    let parts = &door.context.shared.parts;
    match jobs::report(&serving, job, &report, rules(parts)).await? {
        Reported::Kept { experiment, queue } => {
            parts.hub.wake_followers(experiment);
            // It may be tried again, or another may run in its place.
            if matches!(report.what, Happened::Ended { .. }) {
                parts.hub.work.wake_queue(queue);
            }
            Ok(Json(Done {}))
        }
        Reported::LeaseLost => Err(Failure::lease_lost()),
    }
}

/// Which lease.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnderLease {
    fence: i64,
}

pub async fn code(door: Door, Query(under): Query<UnderLease>) -> Result<Content<Gzip>, Failure> {
    let serving = serving(&door).await?;
    let job = JobId(door.context.path_id("job")?);
    let held = jobs::held_code(&serving, job, under.fence).await?;
    let (experiment, code) = held.ok_or_else(Failure::lease_lost)?;
    let code = code.ok_or_else(|| Failure::not_found("code of experiment", experiment))?;
    let body: Body = door.context.shared.parts.code.read(&code).await?;
    Ok(Content::new(body))
}

pub async fn logs(door: Door, input: Raw<LogsAt>) -> Result<Json<LogsKept>, Failure> {
    let serving = serving(&door).await?;
    let job = JobId(door.context.path_id("job")?);
    let parts = &door.context.shared.parts;
    if !(1..=LAST_LINE).contains(&input.query.first) {
        return Err(Failure::invalid(format!("lines are numbered from 1 to {LAST_LINE}")));
    }
    let text = whole(input.body, LOG_MAX).await?;
    match logs::append(
        &serving,
        job,
        input.query.fence,
        input.query.first,
        &text,
        parts.log_bytes_max,
    )
    .await?
    {
        Kept::Through { line, experiment } => {
            parts.hub.wake_followers(experiment);
            Ok(Json(LogsKept { through: line }))
        }
        Kept::LeaseLost => Err(Failure::lease_lost()),
    }
}

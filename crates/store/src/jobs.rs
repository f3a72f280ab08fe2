//! Jobs: leases with fencing numbers. A job runs once because only one lease of it can be live, and every report names the lease it speaks for.

use std::collections::HashMap;

use bailiwick_api::agents::{Happened, Held, JobLease, JobUsage, LeaseVault, Load, OnLostAgent, Report, StopOrder};
use bailiwick_api::audit::Outcome;
use bailiwick_api::config::Config;
use bailiwick_api::experiments::{State, Stop, Usage};
use bailiwick_api::queues::QueueState;
use bailiwick_api::vault::check_personal;
use bailiwick_api::{
    AgentId, ExperimentId, JobId, Permission, PrincipalId, ProjectId, QueueId, Time, WorkspaceId, key,
};
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Picture, Refusal, System, Work, queue_target};
use crate::agents::{Serving, may_impersonate, note_seen, takes_work};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, id_list};
use crate::experiments::{change_state, parse_state};
use crate::queues::{self, Turns};
use crate::vaults;

/// Beside `cancel` and `kill`, what may be wanted of a held job: that its agent ends it and hands it back, as if the agent were lost.
/// Then `wanted_by` holds the whole reason.
pub(crate) const HAND_BACK: &str = "hand-back";

/// One job that an agent holds, as the store knows it.
pub struct HeldRow {
    pub held: Held,
    pub experiment: ExperimentId,
    pub state: State,
    pub wanted: Option<Stop>,
}

/// Every live lease of an agent.
pub async fn held_by(serving: &Serving) -> Result<Vec<HeldRow>> {
    let rows = sqlx::query(
        "SELECT id, fence, experiment_id, state, wanted FROM jobs WHERE agent_id = $1 AND state IN ('STARTING', 'RUNNING', 'STOPPING') ORDER BY id",
    )
    .bind(serving.id.0)
    .fetch_all(&serving.actor.db().read)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(HeldRow {
                held: Held {
                    job: JobId(row.try_get(0)?),
                    fence: row.try_get(1)?,
                    stopping: false,
                },
                experiment: ExperimentId(row.try_get(2)?),
                state: parse_state(row.try_get::<&str, _>(3)?)?,
                wanted: match row.try_get::<&str, _>(4)? {
                    "cancel" | HAND_BACK => Some(Stop::Cancel),
                    "kill" => Some(Stop::Kill),
                    _ => None,
                },
            })
        })
        .collect()
}

pub fn stop_order(row: &HeldRow, how: Stop) -> StopOrder {
    StopOrder {
        job: row.held.job,
        fence: row.held.fence,
        how,
    }
}

/// Renews the leases of these jobs, and notes what they use and how their machine does.
pub async fn renew(serving: &Serving, jobs: &[JobId], usage: &[JobUsage], load: Option<&Load>) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let now = serving.actor.now();
    let mut work = serving.actor.begin().await?;
    // The agent before its jobs, as whoever disables it has it: neither can then wait for the other.
    note_seen(&mut work, serving, load).await?;
    let sql = format!(
        "UPDATE jobs SET renewals = renewals + 1 WHERE agent_id = $1 AND state IN ('STARTING', 'RUNNING', 'STOPPING') AND id IN ({})",
        id_list(jobs.iter().map(|job| job.0))
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(serving.id.0)
        .execute(&mut **work)
        .await?;
    for one in usage.iter().filter(|one| jobs.contains(&one.job)) {
        note_usage(&mut work, one.job, one.fence, one.usage, now).await?;
    }
    work.commit().await
}

/// What the processes of a lease use, as its agent says. Processor time and the highest memory never go down.
async fn note_usage(work: &mut Work, job: JobId, fence: i64, usage: Usage, now: Time) -> Result<()> {
    let peak = usage.memory_peak_bytes.max(usage.memory_bytes);
    sqlx::query(
        "UPDATE job_attempts SET measured_at = $3, memory_bytes = $5,
           cpu_ms = CASE WHEN cpu_ms < $4 THEN $4 ELSE cpu_ms END,
           memory_peak_bytes = CASE WHEN memory_peak_bytes < $6 THEN $6 ELSE memory_peak_bytes END
         WHERE job_id = $1 AND fence = $2 AND ended_at IS NULL",
    )
    .bind(job.0)
    .bind(fence)
    .bind(now.0)
    .bind(usage.cpu_ms.max(0))
    .bind(usage.memory_bytes.max(0))
    .bind(peak.max(0))
    .execute(&mut ***work)
    .await?;
    Ok(())
}

/// What the server decides about leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRules {
    pub on_lost_agent: OnLostAgent,
}

/// What came of a look for work.
pub enum Taken {
    Job(Box<JobLease>),
    /// It could not be run as its owner, and has failed with the reason; there may be another.
    Failed(ExperimentId),
    /// The agent's account may not run jobs as their owners any more.
    MayNotImpersonate,
    /// Vaults have something for the job, and the agent is too old to apply it.
    KnowsNoVaults,
}

/// What came of an attempt to lease one job.
enum Leased {
    /// With the names of the vaults that give it something.
    Job(Vec<String>, Box<JobLease>),
    /// Somebody was quicker.
    Gone,
    /// It cannot run: its owner is not active, or a vault cannot be read or applied. Whose it is, and what is wrong.
    Unfit(ExperimentId, PrincipalId, String),
    MayNotImpersonate,
    KnowsNoVaults,
}

/// Takes the first waiting job for this agent: strictly by priority, then by the queue's own turns, then age. A job too big for what is free keeps its place and blocks
/// the ones behind it in its queue; one that is too big for the whole agent is left to others.
///
/// # Errors
/// [`Refusal::NotSignedIn`] if the agent's account or key has gone since it asked.
pub async fn take(
    serving: &Serving,
    free_slots: i64,
    rules: LeaseRules,
    token: &str,
) -> std::result::Result<Option<Taken>, Refusal> {
    let db = serving.actor.db();
    for queue in &serving.queues {
        // A look without a lock: most polls find nothing.
        let peek = "SELECT id, slots FROM jobs WHERE state = 'QUEUED' AND queue_id = $1 AND slots <= $2 ORDER BY priority, id LIMIT 1";
        let waiting = sqlx::query(peek)
            .bind(queue.0)
            .bind(serving.slots)
            .fetch_optional(&db.read)
            .await?;
        let Some(waiting) = waiting else { continue };
        let known = serving.actor.picture().queue(*queue);
        let blocked = waiting.try_get::<i64, _>(1)? > free_slots;
        // Where it turns on whose they are, another may be next.
        if known.is_none_or(|queue| queue.state == QueueState::Paused || (blocked && !queue.by_owner)) {
            continue;
        }
        // Names as they are now: the poll may have begun before the owner was made. Never read inside the transaction: loading could wait for it.
        let picture = serving.actor.access.fresh().await?;
        // Who waited may have lost the account, the key or the queue before the job came.
        let actor = serving.actor.renewed(picture.version()).await?;
        if actor.may(Permission::QueuesServe, &queue_target(*queue)).is_none() {
            continue;
        }
        let mut work = serving.actor.begin().await?;
        let Some((id, slots)) = next(&mut work, &serving.actor, *queue, peek, serving.slots).await? else {
            continue;
        };
        if slots > free_slots {
            continue;
        }
        let (vaults, lease) = match lease(&mut work, serving, picture, JobId(id), rules, token, true).await? {
            Leased::Job(vaults, lease) => (vaults, lease),
            Leased::Gone => continue,
            Leased::MayNotImpersonate => return Ok(Some(Taken::MayNotImpersonate)),
            Leased::KnowsNoVaults => return Ok(Some(Taken::KnowsNoVaults)),
            Leased::Unfit(experiment, owner, why) => {
                fail_unfit(&mut work, serving, JobId(id), experiment, owner, &why).await?;
                work.commit().await?;
                return Ok(Some(Taken::Failed(experiment)));
            }
        };
        let cause = format!("taken by agent {}", serving.name);
        let now = serving.actor.now();
        change_state(&mut work, lease.experiment, State::Starting, &cause, now).await?;
        let entry = Entry::new("queues:serve", "take", "experiment", lease.experiment);
        let detail = serde_json::json!({"agent": serving.name, "fence": lease.fence, "owner": lease.owner, "as_owner": serving.use_owner_token, "vaults": vaults});
        let entry = entry.with(detail);
        match serving.use_owner_token {
            true => {
                let owner = owner_of(&mut work, lease.experiment).await?;
                audit::write_for(&mut work, &serving.actor, owner, entry).await?;
            }
            false => audit::write(&mut work, &serving.actor, entry).await?,
        }
        work.commit().await?;
        return Ok(Some(Taken::Job(lease)));
    }
    Ok(None)
}

/// The job that is next in a queue, and its slots. How its jobs take turns stays as it is until the transaction ends, so that nothing starts once a pause is
/// acknowledged; and where that turns on what runs, one agent at a time is served.
async fn next(work: &mut Work, actor: &Actor, queue: QueueId, peek: &str, size: i64) -> Result<Option<(i64, i64)>> {
    let db = actor.db();
    let by_owner = actor.picture().queue(queue).is_some_and(|queue| queue.by_owner);
    let lock = if by_owner { db.lock_rows() } else { db.share_rows() };
    let Some(turns) = Turns::read(work, queue, lock).await? else {
        return Ok(None);
    };
    // The picture may be older than the row: the next look is by a newer one.
    if turns.state == QueueState::Paused || turns.by_owner() != by_owner {
        return Ok(None);
    }
    if by_owner {
        return queues::next_by_owner(work, queue, turns, size).await;
    }
    let sql = format!("{peek}{}", db.skip_locked());
    let row = sqlx::query(AssertSqlSafe(sql)).bind(queue.0).bind(size);
    let row = row.fetch_optional(&mut ***work).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Why a job's vaults cannot be had: for now (it stays where it is), or as they are.
enum VaultTrouble {
    Store(StoreError),
    Unfit(String),
}

/// Most bytes of what vaults give to one job.
const VAULT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the vaults of somebody give a job, and their names.
async fn vault_of(
    work: &mut Work,
    picture: &Picture,
    whose: PrincipalId,
    foreign: bool,
) -> std::result::Result<(Vec<String>, LeaseVault), VaultTrouble> {
    let name = picture.principal_name(whose);
    let effective = vaults::effective(work, picture, whose).await.map_err(|why| match why {
        StoreError::Sealed(words) => {
            VaultTrouble::Unfit(format!("a vault that applies to {name} cannot be read: {words}"))
        }
        other => VaultTrouble::Store(other),
    })?;
    let unfit = |why: String| VaultTrouble::Unfit(format!("the vaults that apply to {name} cannot be applied: {why}"));
    // A service account may say of its own agents what nobody may say of another's.
    if foreign && let Some(own) = &effective.personal {
        check_personal(own).map_err(|fault| unfit(fault.to_string()))?;
    }
    let vault = effective.merged.for_job().map_err(unfit)?;
    let bytes = serde_json::to_vec(&vault).map_or(usize::MAX, |text| text.len());
    if bytes > VAULT_BYTES_MAX {
        return Err(VaultTrouble::Unfit(format!(
            "the vaults that apply to {name} come to more than {} MiB",
            VAULT_BYTES_MAX / 1024 / 1024
        )));
    }
    Ok((effective.names, vault))
}

async fn owner_of(work: &mut Work, experiment: ExperimentId) -> Result<PrincipalId> {
    let owner = sqlx::query_scalar("SELECT owner_id FROM experiments WHERE id = $1").bind(experiment.0);
    Ok(PrincipalId(owner.fetch_one(&mut ***work).await?))
}

/// A job that was to run as an owner who is not there any more, or with a vault that cannot be had: waiting would be for ever, and running it otherwise is not what
/// was asked for.
async fn fail_unfit(
    work: &mut Work,
    serving: &Serving,
    job: JobId,
    experiment: ExperimentId,
    owner: PrincipalId,
    why: &str,
) -> Result<()> {
    sqlx::query("UPDATE jobs SET state = $2, fence = fence + 1, token_hash = NULL WHERE id = $1")
        .bind(job.0)
        .bind(State::Error.name())
        .execute(&mut ***work)
        .await?;
    change_state(work, experiment, State::Error, why, serving.actor.now()).await?;
    let entry = Entry {
        outcome: Outcome::Denied,
        ..Entry::new("queues:serve", "take", "experiment", experiment)
    };
    let detail = serde_json::json!({"agent": serving.name, "why": why});
    audit::write_for(work, &serving.actor, owner, entry.with(detail)).await
}

/// Gives a lease again whose first answer was lost on the way: the same fencing number, another token.
pub async fn give_again(serving: &Serving, job: JobId, rules: LeaseRules, token: &str) -> Result<Option<JobLease>> {
    let picture = serving.actor.access.fresh().await?;
    let mut work = serving.actor.begin().await?;
    let lease = lease(&mut work, serving, picture, job, rules, token, false).await?;
    let Leased::Job(_, lease) = lease else { return Ok(None) };
    work.commit().await?;
    Ok(Some(*lease))
}

async fn lease(
    work: &mut Work,
    serving: &Serving,
    picture: &Picture,
    job: JobId,
    rules: LeaseRules,
    token: &str,
    new: bool,
) -> Result<Leased> {
    if new && !takes_work(work, serving).await? {
        return Ok(Leased::Gone);
    }
    if serving.use_owner_token && !may_impersonate(work, serving.actor.id).await? {
        return Ok(Leased::MayNotImpersonate);
    }
    let hash = key::stored_hash(token)
        .map(|hash| key::hex(&hash))
        .expect("a fresh token is well formed");
    let sql = if new {
        "UPDATE jobs SET state = 'STARTING', fence = fence + 1, agent_id = $2, renewals = 0, token_hash = $3, as_owner = $4 WHERE id = $1 AND state = 'QUEUED' RETURNING fence, experiment_id, slots"
    } else {
        "UPDATE jobs SET token_hash = $3, as_owner = $4 WHERE id = $1 AND agent_id = $2 AND state = 'STARTING' RETURNING fence, experiment_id, slots"
    };
    let row = sqlx::query(sql)
        .bind(job.0)
        .bind(serving.id.0)
        .bind(hash)
        .bind(i64::from(serving.use_owner_token))
        .fetch_optional(&mut ***work)
        .await?;
    let Some(row) = row else { return Ok(Leased::Gone) };
    let (fence, experiment, slots): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    // Read here and not from the picture: whoever is deactivated at this very moment comes before or after.
    if serving.use_owner_token && new {
        let owner = sqlx::query(
            "SELECT p.id, p.name, p.state FROM experiments e JOIN principals p ON p.id = e.owner_id WHERE e.id = $1",
        );
        let owner = owner.bind(experiment).fetch_one(&mut ***work).await?;
        let (id, name, state): (i64, String, String) = (owner.try_get(0)?, owner.try_get(1)?, owner.try_get(2)?);
        if state != "active" {
            let why = format!(
                "agent {} runs jobs as their owners, and its owner {name} is {state}",
                serving.name
            );
            return Ok(Leased::Unfit(ExperimentId(experiment), PrincipalId(id), why));
        }
    }
    let row = sqlx::query(
        "SELECT name, owner_id, workspace_id, project_id, code, config, restarts FROM experiments WHERE id = $1",
    )
    .bind(experiment)
    .fetch_one(&mut ***work)
    .await?;
    let config: Config =
        serde_json::from_str(row.try_get::<&str, _>(5)?).map_err(|why| StoreError::Broken(why.to_string()))?;
    let owner = PrincipalId(row.try_get(1)?);
    let whose = if serving.use_owner_token {
        owner
    } else {
        serving.actor.id
    };
    let (applied, mut vault) = match vault_of(work, picture, whose, whose != serving.actor.id).await {
        Ok(found) => found,
        Err(VaultTrouble::Store(StoreError::Broken(why))) | Err(VaultTrouble::Unfit(why)) => {
            return Ok(Leased::Unfit(ExperimentId(experiment), owner, why));
        }
        Err(VaultTrouble::Store(why)) => return Err(why),
    };
    for (key, value) in config.stack_env {
        vault.env.entry(key).or_insert(value);
    }
    if !vault.is_empty() && !serving.vaults {
        return Ok(Leased::KnowsNoVaults);
    }
    if new {
        if serving.fair {
            sqlx::query("UPDATE agents SET last_queue = (SELECT queue_id FROM jobs WHERE id = $2) WHERE id = $1")
                .bind(serving.id.0)
                .bind(job.0)
                .execute(&mut ***work)
                .await?;
        }
        sqlx::query("INSERT INTO job_attempts (job_id, fence, agent, taken_at) VALUES ($1, $2, $3, $4)")
            .bind(job.0)
            .bind(fence)
            .bind(&serving.name)
            .bind(serving.actor.now().0)
            .execute(&mut ***work)
            .await?;
    }
    Ok(Leased::Job(
        applied,
        Box::new(JobLease {
            job,
            fence,
            experiment: ExperimentId(experiment),
            name: row.try_get(0)?,
            owner: picture.principal_name(owner).to_string(),
            workspace: picture.workspace_name(WorkspaceId(row.try_get(2)?)).to_string(),
            project: picture.project_name(ProjectId(row.try_get(3)?)).to_string(),
            slots,
            code: row.try_get(4)?,
            command: config.command,
            env: config.env,
            config: config.whole,
            restarts: row.try_get(6)?,
            limits: config.limits,
            grace_ms: config.grace_ms,
            token: token.to_owned(),
            on_lost_agent: rules.on_lost_agent,
            vault,
        }),
    ))
}

/// The answer to a report or a request in the name of a lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Reported {
    /// Noted (or noted before); the experiment it was about, and the queue of its job.
    Kept { experiment: ExperimentId, queue: QueueId },
    /// The lease is not this agent's any more.
    LeaseLost,
}

/// Whether an agent holds this lease now; gives the experiment and its code.
pub async fn held_code(serving: &Serving, job: JobId, fence: i64) -> Result<Option<(ExperimentId, Option<String>)>> {
    let row = sqlx::query(
        "SELECT e.id, e.code FROM jobs j JOIN experiments e ON e.id = j.experiment_id
         WHERE j.id = $1 AND j.fence = $2 AND j.agent_id = $3 AND j.state IN ('STARTING', 'RUNNING', 'STOPPING')",
    )
    .bind(job.0)
    .bind(fence)
    .bind(serving.id.0)
    .fetch_optional(&serving.actor.db().read)
    .await?;
    row.map(|row| Ok((ExperimentId(row.try_get(0)?), row.try_get(1)?)))
        .transpose()
}

/// Notes what an agent says of a job.
pub async fn report(serving: &Serving, job: JobId, report: &Report, rules: LeaseRules) -> Result<Reported> {
    let (fence, what) = (report.fence, &report.what);
    let mut work = serving.actor.begin().await?;
    // Takes the row, so that a cancel at the same moment comes before or after and never between.
    let row = sqlx::query("UPDATE jobs SET renewals = renewals + 1 WHERE id = $1 AND fence = $2 AND agent_id = $3 RETURNING experiment_id, state, wanted, wanted_by, queue_id")
        .bind(job.0)
        .bind(fence)
        .bind(serving.id.0)
        .fetch_optional(&mut **work)
        .await?;
    let Some(row) = row else { return Ok(Reported::LeaseLost) };
    let experiment = ExperimentId(row.try_get(0)?);
    let kept = Reported::Kept {
        experiment,
        queue: QueueId(row.try_get(4)?),
    };
    let state = parse_state(row.try_get::<&str, _>(1)?)?;
    let (wanted, wanted_by): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    match what {
        // Said before, or overtaken by a stop.
        Happened::Started { .. } if state != State::Starting && state != State::Stopping => {
            return Ok(kept);
        }
        Happened::Started { .. } => {
            sqlx::query("UPDATE experiments SET started_at = COALESCE(started_at, $2) WHERE id = $1")
                .bind(experiment.0)
                .bind(serving.actor.now().0)
                .execute(&mut **work)
                .await?;
            sqlx::query(
                "UPDATE job_attempts SET started_at = COALESCE(started_at, $3) WHERE job_id = $1 AND fence = $2",
            )
            .bind(job.0)
            .bind(fence)
            .bind(serving.actor.now().0)
            .execute(&mut **work)
            .await?;
            if state == State::Starting {
                sqlx::query("UPDATE jobs SET state = 'RUNNING' WHERE id = $1")
                    .bind(job.0)
                    .execute(&mut **work)
                    .await?;
                let cause = format!("running on agent {}", serving.name);
                change_state(&mut work, experiment, State::Running, &cause, serving.actor.now()).await?;
            }
        }
        Happened::Ended { .. } if state.is_ended() => return Ok(kept),
        Happened::Ended {
            exit_code,
            signal,
            reason,
            lost,
            ..
        } => {
            let handed_back = wanted == HAND_BACK;
            let words = match (reason, exit_code, signal) {
                _ if handed_back => wanted_by.clone(),
                (Some(reason), ..) => reason.clone(),
                (None, Some(0), _) => "finished".to_owned(),
                (None, Some(code), _) => format!("exit code {code}"),
                (None, None, Some(signal)) => format!("ended by signal {signal}"),
                (None, None, None) => "ended without a word".to_owned(),
            };
            if let Some(usage) = report.usage {
                note_usage(&mut work, job, fence, usage, serving.actor.now()).await?;
            }
            let ending = Ending {
                job,
                fence,
                experiment,
                canceled_by: canceled_by(&wanted, &wanted_by),
                succeeded: *exit_code == Some(0) && reason.is_none() && !handed_back,
                lost: *lost || handed_back,
                exit_code: exit_code.or_else(|| signal.map(|signal| signal.saturating_add(128))),
                words,
            };
            end(&mut work, ending, rules, serving.actor.now()).await?;
            let entry = Entry::new("queues:serve", "end", "experiment", experiment);
            let detail =
                serde_json::json!({"agent": serving.name, "fence": fence, "exit_code": exit_code, "signal": signal});
            audit::write(&mut work, &serving.actor, entry.with(detail)).await?;
        }
    }
    work.commit().await?;
    Ok(kept)
}

/// Whose order it was that ended a job, where somebody wanted it ended.
fn canceled_by(wanted: &str, wanted_by: &str) -> Option<String> {
    match wanted {
        "cancel" => Some(format!("canceled by {wanted_by}")),
        "kill" => Some(format!("killed by {wanted_by}")),
        _ => None,
    }
}

struct Ending {
    job: JobId,
    fence: i64,
    experiment: ExperimentId,
    canceled_by: Option<String>,
    succeeded: bool,
    lost: bool,
    exit_code: Option<i64>,
    words: String,
}

/// What becomes of a job whose process is gone: canceled, completed, tried again, or failed.
async fn end(work: &mut Work, ending: Ending, rules: LeaseRules, now: Time) -> Result<()> {
    let row = sqlx::query("SELECT restarts, max_restarts FROM experiments WHERE id = $1")
        .bind(ending.experiment.0)
        .fetch_one(&mut ***work)
        .await?;
    let (restarts, max_restarts): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let (state, cause) = match &ending {
        Ending {
            canceled_by: Some(cause),
            ..
        } => (State::Canceled, cause.clone()),
        Ending { succeeded: true, .. } => (State::Completed, ending.words.clone()),
        Ending { lost: true, .. } if rules.on_lost_agent == OnLostAgent::Requeue => {
            (State::Queued, format!("queued again: {}", ending.words))
        }
        Ending { lost: false, .. } if restarts < max_restarts => (
            State::Queued,
            format!("restart {} of {max_restarts} after: {}", restarts + 1, ending.words),
        ),
        _ => (State::Error, ending.words.clone()),
    };
    sqlx::query(
        "UPDATE job_attempts SET ended_at = $3, exit_code = $4, cause = $5, memory_bytes = 0 WHERE job_id = $1 AND fence = $2",
    )
    .bind(ending.job.0)
    .bind(ending.fence)
    .bind(now.0)
    .bind(ending.exit_code)
    .bind(ending.canceled_by.as_ref().unwrap_or(&ending.words))
    .execute(&mut ***work)
    .await?;
    // A finished job keeps its agent, for whoever asks where it ran; a waiting one has none.
    sqlx::query("UPDATE jobs SET state = $2, token_hash = NULL, wanted = '', agent_id = CASE WHEN $3 = 1 THEN NULL ELSE agent_id END WHERE id = $1")
        .bind(ending.job.0)
        .bind(state.name())
        .bind(i64::from(state == State::Queued))
        .execute(&mut ***work)
        .await?;
    sqlx::query("UPDATE experiments SET exit_code = $2, restarts = $3, progress = CASE WHEN $4 = 1 THEN NULL ELSE progress END WHERE id = $1")
        .bind(ending.experiment.0)
        .bind(ending.exit_code)
        .bind(restarts + i64::from(state == State::Queued && !ending.lost))
        .bind(i64::from(state == State::Queued))
        .execute(&mut ***work)
        .await?;
    change_state(work, ending.experiment, state, &cause, now).await
}

/// A live lease, and how often it was renewed: what the watcher of lost agents compares with what it saw before.
#[derive(Debug, Clone, Copy)]
pub struct LiveLease {
    pub held: Held,
    pub renewals: i64,
    pub agent: AgentId,
}

pub async fn live_leases(system: &System) -> Result<Vec<LiveLease>> {
    let rows = sqlx::query(
        "SELECT id, fence, renewals, agent_id FROM jobs WHERE agent_id IS NOT NULL AND state IN ('STARTING', 'RUNNING', 'STOPPING')",
    );
    rows.fetch_all(&system.db().read)
        .await?
        .iter()
        .map(|row| {
            Ok(LiveLease {
                held: Held {
                    job: JobId(row.try_get(0)?),
                    fence: row.try_get(1)?,
                    stopping: false,
                },
                renewals: row.try_get(2)?,
                agent: AgentId(row.try_get(3)?),
            })
        })
        .collect()
}

/// Ends a lease that was not renewed in time (or that its agent knows nothing of): the job is queued again or fails. False if it was renewed meanwhile.
pub async fn expire(
    system: &System,
    lease: LiveLease,
    words: &str,
    rules: LeaseRules,
) -> Result<Option<(ExperimentId, QueueId)>> {
    let mut work = system.begin().await?;
    let row = sqlx::query(
        // The fencing number moves on, so that nothing that the lost agent still says is heard, also when the job is not queued again.
        "UPDATE jobs SET fence = fence + 1 WHERE id = $1 AND fence = $2 AND renewals = $3 AND state IN ('STARTING', 'RUNNING', 'STOPPING')
         RETURNING experiment_id, wanted, wanted_by, queue_id",
    )
    .bind(lease.held.job.0)
    .bind(lease.held.fence)
    .bind(lease.renewals)
    .fetch_optional(&mut **work)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let experiment = ExperimentId(row.try_get(0)?);
    let (wanted, wanted_by): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let queue = QueueId(row.try_get(3)?);
    let ending = Ending {
        job: lease.held.job,
        fence: lease.held.fence,
        experiment,
        canceled_by: canceled_by(&wanted, &wanted_by),
        succeeded: false,
        lost: true,
        exit_code: None,
        words: words.to_owned(),
    };
    end(&mut work, ending, rules, system.now()).await?;
    let entry = Entry::new("queues:serve", "expire", "experiment", experiment);
    let detail = serde_json::json!({"agent": lease.agent, "fence": lease.held.fence, "why": words});
    audit::write_system(&mut work, system, entry.with(detail)).await?;
    work.commit().await?;
    Ok(Some((experiment, queue)))
}

/// Whether anything waits in a queue, for whomever.
pub async fn any_waits(serving: &Serving, queue: QueueId) -> Result<bool> {
    let sql = "SELECT 1 FROM jobs WHERE state = 'QUEUED' AND queue_id = $1 LIMIT 1";
    let row = sqlx::query(sql).bind(queue.0);
    Ok(row.fetch_optional(&serving.actor.db().read).await?.is_some())
}

/// Of those of these queues in which something waits: what is next and what came last. Two that differ mean that there may be something to do.
pub async fn fronts(system: &System, queues: &[QueueId]) -> Result<HashMap<QueueId, (i64, i64)>> {
    let mut fronts = HashMap::new();
    if queues.is_empty() {
        return Ok(fronts);
    }
    let ids = queues.iter().map(|queue| queue.0.to_string()).collect::<Vec<_>>();
    let sql = format!(
        "SELECT q.id, (SELECT j.id FROM jobs j WHERE j.state = 'QUEUED' AND j.queue_id = q.id ORDER BY j.priority, j.id LIMIT 1),
           (SELECT j.id FROM jobs j WHERE j.state = 'QUEUED' AND j.queue_id = q.id ORDER BY j.priority DESC, j.id DESC LIMIT 1)
         FROM queues q WHERE q.id IN ({})",
        ids.join(", ")
    );
    for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&system.db().read).await? {
        if let (Some(first), Some(last)) = (row.try_get(1)?, row.try_get(2)?) {
            fronts.insert(QueueId(row.try_get(0)?), (first, last));
        }
    }
    Ok(fronts)
}

/// Agents that hold a job which is to stop.
pub async fn to_stop(system: &System) -> Result<Vec<AgentId>> {
    let sql = "SELECT DISTINCT agent_id FROM jobs WHERE agent_id IS NOT NULL AND wanted <> '' AND state IN ('STARTING', 'RUNNING', 'STOPPING')";
    let agents: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&system.db().read).await?;
    Ok(agents.into_iter().map(AgentId).collect())
}

/// Waiting, and running jobs; for `/metrics`.
pub async fn counts(system: &System) -> Result<Vec<(String, i64)>> {
    let rows = sqlx::query(
        "SELECT state, COUNT(*) FROM jobs WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'STOPPING') GROUP BY state",
    );
    rows.fetch_all(&system.db().read)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Whether the process of a held job was ever reported.
pub async fn has_started(serving: &Serving, held: Held) -> Result<bool> {
    let row = sqlx::query(
        "SELECT 1 FROM experiment_events v JOIN jobs j ON j.experiment_id = v.experiment_id
         WHERE j.id = $1 AND j.fence = $2 AND v.state = 'RUNNING'
           AND v.number > (SELECT MAX(s.number) FROM experiment_events s WHERE s.experiment_id = v.experiment_id AND s.state = 'STARTING')",
    )
    .bind(held.job.0)
    .bind(held.fence)
    .fetch_optional(&serving.actor.db().read)
    .await?;
    Ok(row.is_some())
}

//! What runs the jobs of experiments. Another executor is another arm here: it submits, watches, cancels and gives logs, and nothing else asks how it works.

use bailiwick_api::config::Config;
use bailiwick_api::experiments::{Experiment, ExperimentDetail, Stop};
use bailiwick_api::permission::permit;
use bailiwick_api::stacks::Executor;
use bailiwick_api::{JobId, QueueId};
use bailiwick_store::access::{Granted, Refusal};
use bailiwick_store::experiments::{self, ExperimentRow};
use bailiwick_store::logs::{self, Piece};
use bailiwick_store::workspaces::Changed;

use crate::parts::Hub;

/// What is to be run, and where it waits.
pub struct Submission<'a> {
    pub queue: QueueId,
    pub name: &'a str,
    pub config: &'a Config,
    /// SHA-256 of the code archive.
    pub code: Option<&'a str>,
}

/// Has it run, as soon as there is room.
pub async fn submit(
    executor: Executor,
    by: &Granted<permit::ExperimentsCreate>,
    what: Submission<'_>,
    hub: &Hub,
) -> Changed<Experiment> {
    match executor {
        Executor::Agents => {
            let made = experiments::create(by, what.queue, what.name, what.config, what.code).await?;
            hub.work.wake_queue(what.queue);
            Ok(made)
        }
    }
}

/// How it stands now. Whoever follows it is woken by the hub at each change.
pub async fn watch(
    executor: Executor,
    by: &Granted<permit::ExperimentsRead>,
    row: ExperimentRow,
) -> Result<ExperimentDetail, Refusal> {
    match executor {
        Executor::Agents => experiments::detail(by, row).await,
    }
}

/// Has it stopped, gently or at once.
pub async fn cancel(
    executor: Executor,
    by: &Granted<permit::ExperimentsUpdate>,
    row: ExperimentRow,
    how: Stop,
    hub: &Hub,
) -> Result<Experiment, Refusal> {
    match executor {
        Executor::Agents => {
            let id = row.id;
            let (stopped, agent) = experiments::stop(by, row, how).await?;
            agent.into_iter().for_each(|agent| hub.work.wake_agent(agent));
            hub.wake_followers(id);
            Ok(stopped)
        }
    }
}

/// What it has written after a line.
pub async fn logs(
    executor: Executor,
    by: &Granted<permit::ExperimentsReadArtifacts>,
    job: JobId,
    after: i64,
    limit: i64,
    tail: Option<i64>,
) -> Result<Piece, Refusal> {
    match executor {
        Executor::Agents => logs::read(by, job, after, limit, tail).await,
    }
}

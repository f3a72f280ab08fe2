//! Logs, in pieces and as they are written.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::{Body, Bytes};
use bailiwick_api::experiments::{Log, LogFilter};
use bailiwick_api::permission::permit;
use bailiwick_api::stacks::Executor;
use bailiwick_api::{ExperimentId, JobId};
use bailiwick_store::access::Granted;
use bailiwick_store::{experiments, logs};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;

use crate::access::{Allowed, Content, Context, EventStream, Json, OneExperiment, Query};
use crate::executors;
use crate::failure::Failure;

pub(crate) type Reading = Allowed<permit::ExperimentsReadArtifacts, OneExperiment>;

pub async fn read(door: Reading, Query(filter): Query<LogFilter>) -> Result<Json<Log>, Failure> {
    Ok(Json(piece(&door, &filter).await?))
}

/// What one door gives: several pieces are one look.
pub(crate) async fn piece(door: &Reading, filter: &LogFilter) -> Result<Log, Failure> {
    let job = experiments::job(&door.granted, door.on.0.id).await?;
    let limit = filter.limit.or(filter.tail).unwrap_or(1000).clamp(1, 10_000);
    let (piece, through) = if filter.searches() {
        if filter.tail.is_some() {
            return Err(Failure::invalid("a search goes from the beginning: leave `tail` out"));
        }
        let (piece, through) = logs::search(&door.granted, job, filter, limit).await?;
        (piece, Some(through))
    } else {
        let tail = filter.tail.map(|tail| tail.min(limit));
        let piece = executors::logs(
            Executor::Agents,
            &door.granted,
            job,
            filter.after.unwrap_or(0),
            limit,
            tail,
        )
        .await?;
        (piece, None)
    };
    Ok(Log {
        lines: piece.lines,
        state: piece.state,
        total: piece.total,
        through,
    })
}

/// Where to begin.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamFrom {
    /// Lines after this number.
    after: Option<i64>,
    /// Begin with the last so many lines.
    tail: Option<i64>,
}

/// How long a follower goes on before its right to do so is looked at again.
const RECHECK: Duration = Duration::from_secs(2);
/// Lines in one event at most.
const BATCH: i64 = 2000;

struct Follower {
    context: Context,
    granted: Granted<permit::ExperimentsReadArtifacts>,
    job: JobId,
    experiment: ExperimentId,
    after: i64,
    tail: Option<i64>,
    news: watch::Receiver<u64>,
    ending: watch::Receiver<bool>,
    checked: tokio::time::Instant,
    ready: VecDeque<Bytes>,
    over: bool,
}

pub async fn stream(door: Reading, Query(from): Query<StreamFrom>) -> Result<Content<EventStream>, Failure> {
    let job = experiments::job(&door.granted, door.on.0.id).await?;
    let parts = &door.context.shared.parts;
    let last = door
        .context
        .request
        .headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    let experiment = door.on.0.id;
    let follower = Follower {
        news: parts.hub.follow(experiment),
        ending: parts.hub.ending.subscribe(),
        job,
        experiment,
        after: last.or(from.after).unwrap_or(0),
        tail: from.tail.filter(|_| last.is_none()),
        checked: tokio::time::Instant::now(),
        // Sent at once, so that the follower knows it is connected.
        ready: VecDeque::from([Bytes::from_static(b": following\n\n")]),
        over: false,
        granted: door.granted,
        context: door.context,
    };
    Ok(Content::new(Body::from_stream(futures_util::stream::unfold(
        follower,
        |mut follower| async move {
            let piece = follower.next().await?;
            Some((Ok::<_, std::convert::Infallible>(piece), follower))
        },
    ))))
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.over || *self.ending.borrow() {
                return None;
            }
            self.news.mark_unchanged();
            if let Err(failure) = self.look().await {
                // The reader learns why; what it has stays.
                self.over = true;
                let text = serde_json::json!({"code": failure.code, "message": failure.message});
                return Some(Bytes::from(format!("event: failure\ndata: {text}\n\n")));
            }
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    /// Reads what is new into `ready`.
    async fn look(&mut self) -> Result<(), Failure> {
        if self.checked.elapsed() > RECHECK {
            // By number: a newer experiment may have the name by now.
            let actor = self.context.actor_again().await?;
            (self.granted, _) = experiments::find(&actor, &self.experiment.to_string()).await?;
            self.checked = tokio::time::Instant::now();
        }
        let piece = executors::logs(
            Executor::Agents,
            &self.granted,
            self.job,
            self.after,
            BATCH,
            self.tail.take(),
        )
        .await?;
        if let Some(last) = piece.lines.last() {
            self.after = last.number;
            let lines = serde_json::to_string(&piece.lines).map_err(|why| Failure::internal(why.to_string()))?;
            self.ready
                .push_back(Bytes::from(format!("id: {}\ndata: {lines}\n\n", last.number)));
        } else if piece.state.is_ended() {
            self.over = true;
            let state = serde_json::json!({"state": piece.state});
            self.ready
                .push_back(Bytes::from(format!("event: end\ndata: {state}\n\n")));
        }
        Ok(())
    }

    async fn wait(&mut self) {
        let others = self.context.shared.parts.others_write;
        let most = if others { Duration::from_millis(200) } else { RECHECK };
        tokio::select! {
            _ = self.news.changed() => {}
            _ = self.ending.changed() => {}
            _ = tokio::time::sleep(most) => {
                if !others {
                    self.ready.push_back(Bytes::from_static(b": still here\n\n"));
                }
            }
        }
    }
}

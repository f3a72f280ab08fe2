//! What the server does by itself: seals the audit, watches leases, notes last uses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bailiwick_api::JobId;
use bailiwick_store::access::Access;
use bailiwick_store::jobs::{self, LeaseRules};
use bailiwick_store::{StoreError, agents, assignments, audit, queues, requests, shadow, vaults};

use crate::access::Shared;

/// How long what another server has done may stay unseen by agents that wait here.
const OTHERS_PAUSE: Duration = Duration::from_millis(200);
const OTHERS_WHOLE: Duration = Duration::from_secs(5);

/// Starts everything; each ends by itself when the server is ending.
pub fn start(access: &Arc<Access>, shared: &Arc<Shared>) -> Vec<tokio::task::JoinHandle<()>> {
    vec![
        tokio::spawn(seal(access.clone(), shared.clone())),
        tokio::spawn(watch_leases(access.clone(), shared.clone())),
        tokio::spawn(watch_agents(access.clone(), shared.clone())),
        tokio::spawn(watch_others(access.clone(), shared.clone())),
        tokio::spawn(keep_last_used(access.clone(), shared.clone())),
        tokio::spawn(keep_shadow(access.clone(), shared.clone())),
        tokio::spawn(clear_ended_assignments(access.clone(), shared.clone())),
        tokio::spawn(finish_rotation(access.clone(), shared.clone())),
    ]
}

/// Waits; false when the server is ending.
async fn pause(shared: &Shared, time: Duration) -> bool {
    let mut ending = shared.parts.hub.ending.subscribe();
    if *ending.borrow_and_update() {
        return false;
    }
    tokio::select! {
        _ = tokio::time::sleep(time) => true,
        _ = ending.changed() => false,
    }
}

/// Says once that something does not work, and once that it works again.
struct Complaint {
    what: &'static str,
    failing: bool,
}

impl Complaint {
    fn note<T>(&mut self, outcome: Result<T, StoreError>) -> Option<T> {
        match outcome {
            Ok(value) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("{} works again", self.what);
                }
                Some(value)
            }
            Err(why) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(cause = %why, "{} does not work; it is tried again", self.what);
                }
                None
            }
        }
    }
}

async fn seal(access: Arc<Access>, shared: Arc<Shared>) {
    let system = access.system("audit");
    let mut complaint = Complaint {
        what: "sealing the audit",
        failing: false,
    };
    // What a crash has left unsealed, however old.
    let mut everything = true;
    loop {
        let more = complaint.note(audit::seal(&system, everything).await);
        everything = everything && more != Some(false);
        if more != Some(true) && !pause(&shared, Duration::from_millis(300)).await {
            break;
        }
    }
    // The last events of an orderly end.
    while let Ok(true) = audit::seal(&system, false).await {}
}

/// A lease whose count of renewals has not moved for the whole lease time, by this process's own steady clock, is over. Seen this way neither a
/// clock that jumps nor the server's own absence ends a lease too early.
async fn watch_leases(access: Arc<Access>, shared: Arc<Shared>) {
    let system = access.system("lease watcher");
    let lease = Duration::from_millis(shared.parts.lease_ms as u64);
    let rules = LeaseRules {
        on_lost_agent: shared.parts.on_lost_agent,
    };
    let mut complaint = Complaint {
        what: "watching leases",
        failing: false,
    };
    let mut seen: HashMap<(JobId, i64), (i64, Instant)> = HashMap::new();
    while pause(
        &shared,
        (lease / 10).clamp(Duration::from_millis(200), Duration::from_secs(5)),
    )
    .await
    {
        let Some(live) = complaint.note(jobs::live_leases(&system).await) else {
            // Agents could not renew either.
            seen.clear();
            continue;
        };
        let now = Instant::now();
        let mut next = HashMap::with_capacity(live.len());
        for one in live {
            let key = (one.held.job, one.held.fence);
            let since = seen
                .get(&key)
                .filter(|(renewals, _)| *renewals == one.renewals)
                .map_or(now, |(_, since)| *since);
            if now.duration_since(since) < lease {
                next.insert(key, (one.renewals, since));
                continue;
            }
            let words = format!(
                "its agent was not heard of for {}",
                bailiwick_api::time::duration_words(shared.parts.lease_ms)
            );
            if let Some(Some((experiment, queue))) = complaint.note(jobs::expire(&system, one, &words, rules).await) {
                tracing::warn!(job = one.held.job.0, fence = one.held.fence, "lease ended: agent lost");
                shared.parts.hub.wake_followers(experiment);
                shared.parts.hub.work.wake_queue(queue);
            }
        }
        seen = next;
    }
}

/// Agents whose polls have stopped coming are shown as lost. What they hold is not touched: that is for their leases.
async fn watch_agents(access: Arc<Access>, shared: Arc<Shared>) {
    let system = access.system("agent watcher");
    let hub = &shared.parts.hub;
    let mut complaint = Complaint {
        what: "watching agents",
        failing: false,
    };
    let mut begun = false;
    while pause(&shared, Duration::from_millis(500)).await {
        // Those that went while no server was there.
        if !begun && let Some(agents) = complaint.note(agents::expected(&system).await) {
            begun = true;
            agents
                .into_iter()
                .for_each(|(agent, seen)| hub.expect_agent(agent, seen));
        }
        for (agent, last_seen_at) in hub.gone_agents() {
            // One try: whoever asks later goes by how long ago it was.
            complaint.note(agents::note_gone(&system, agent, last_seen_at).await);
        }
    }
}

/// Other servers that write to the same database wake nobody here: one look for all who wait, instead of one by each of them.
async fn watch_others(access: Arc<Access>, shared: Arc<Shared>) {
    if !shared.parts.others_write {
        return;
    }
    let system = access.system("watcher of other servers");
    let work = &shared.parts.hub.work;
    let mut complaint = Complaint {
        what: "watching what other servers do",
        failing: false,
    };
    let (mut version, mut fronts, mut whole) = (access.picture().version(), HashMap::new(), Instant::now());
    while pause(&shared, OTHERS_PAUSE).await {
        let look = async {
            let picture = access.fresh().await?;
            let fronts = jobs::fronts(&system, &work.waited_for()).await?;
            Ok((picture.version(), fronts, jobs::to_stop(&system).await?))
        };
        let Some((version_now, fronts_now, to_stop)) = complaint.note(look.await) else {
            continue;
        };
        if std::mem::replace(&mut version, version_now) != version_now {
            work.wake_everyone();
        }
        // What is not seen in the fronts, room for another job of an owner say, is found a little later.
        let every = whole.elapsed() > OTHERS_WHOLE;
        if every {
            whole = Instant::now();
        }
        for (queue, front) in &fronts_now {
            if every || fronts.get(queue) != Some(front) {
                work.wake_queue(*queue);
            }
        }
        fronts = fronts_now;
        to_stop.into_iter().for_each(|agent| work.wake_agent(agent));
    }
}

async fn keep_last_used(access: Arc<Access>, shared: Arc<Shared>) {
    let system = access.system("housekeeping");
    let mut complaint = Complaint {
        what: "keeping house",
        failing: false,
    };
    let mut minutes = 0_u64;
    // The minute in which it starts counts as well.
    complaint.note(queues::note_load(&system).await);
    while pause(&shared, Duration::from_secs(60)).await {
        complaint.note(access.keep_last_used().await);
        complaint.note(queues::note_load(&system).await);
        // What has ended by itself meanwhile is folded into the picture.
        access.refresh();
        minutes += 1;
        if minutes.is_multiple_of(60) {
            complaint.note(access.forget_old_changes().await);
        }
    }
    let _ = access.keep_last_used().await;
}

/// Vaults that a rotation of their key did not get to, since the server ended meanwhile.
async fn finish_rotation(access: Arc<Access>, shared: Arc<Shared>) {
    let system = access.system("rotation of the vaults' key");
    let mut complaint = Complaint {
        what: "sealing vaults with their current key",
        failing: false,
    };
    // A key that is missing is not back in a moment; whoever puts it back restarts the server or rotates once more.
    while complaint.note(vaults::seal_anew(&system).await).is_none() && pause(&shared, Duration::from_secs(60)).await {}
}

/// An assignment stops counting at its end by itself; here it is taken off the list, and that is put on record.
async fn clear_ended_assignments(access: Arc<Access>, shared: Arc<Shared>) {
    let system = access.system("end of assignments");
    let mut complaint = Complaint {
        what: "clearing ended role assignments and requests",
        failing: false,
    };
    loop {
        let clear = async {
            requests::expire(&system).await?;
            assignments::clear_ended(&system).await
        };
        let more = complaint.note(clear.await);
        if more != Some(true) && !pause(&shared, Duration::from_secs(1)).await {
            break;
        }
    }
}

/// Mode `shadow`: writes down what was noted, so that a report asked of any server has all but the last seconds of the others.
async fn keep_shadow(access: Arc<Access>, shared: Arc<Shared>) {
    let mut complaint = Complaint {
        what: "keeping what mode shadow notes",
        failing: false,
    };
    while pause(&shared, Duration::from_secs(5)).await {
        complaint.note(shadow::keep(&access).await);
    }
    let _ = shadow::keep(&access).await;
}

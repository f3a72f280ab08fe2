//! What the server keeps in memory besides the picture of rights: who waits for what, failed sign-ins, counters.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use bailiwick_api::agents::OnLostAgent;
use bailiwick_api::server::AccessMode;
use bailiwick_api::{AgentId, ExperimentId, JobId, RoleId, Time};
use tokio::sync::{Semaphore, watch};

use crate::code::CodeFiles;
use crate::mail::Mailer;
use crate::work::Work;

pub struct Parts {
    pub hub: Hub,
    pub limiter: Limiter,
    pub metrics: Metrics,
    pub code: CodeFiles,
    pub mode: AccessMode,
    pub behind_proxy: bool,
    pub metrics_open: bool,
    pub lease_ms: i64,
    pub on_lost_agent: OnLostAgent,
    pub log_bytes_max: i64,
    pub session_ms: i64,
    /// What whoever makes a workspace holds on it.
    pub workspace_creator_role: Option<RoleId>,
    /// The service account of the server's own agent, where it has one.
    pub agent_account: Option<&'static str>,
    /// Whom to ask for an account or a new link: a name, an address, whatever the operator wrote down.
    pub contact: Option<String>,
    /// Sends links, where the operator has named a mail server.
    pub mailer: Option<Mailer>,
    /// Where users reach the server, for links.
    pub public_url: String,
    /// Password hashing takes 19 MiB each time; so few at once.
    pub hashing: Semaphore,
    /// Whether other servers may write to the same database, so that waiting must look there from time to time.
    pub others_write: bool,
    pub openapi: std::sync::OnceLock<String>,
    pub docs_page: std::sync::OnceLock<String>,
}

/// Wakes those who wait.
pub struct Hub {
    pub work: Work,
    logs: Mutex<HashMap<ExperimentId, watch::Sender<u64>>>,
    /// True once the server is ending: long polls and streams answer at once.
    pub ending: watch::Sender<bool>,
    /// Jobs that an agent's poll did not name though the store says that the agent holds them, and since when.
    pub missing: Mutex<HashMap<(JobId, i64), Instant>>,
    /// Whose turn it is to look for an agent.
    turns: Mutex<HashMap<AgentId, Arc<tokio::sync::Mutex<()>>>>,
    /// Kills said to agents a moment ago.
    pub kills_said: Mutex<HashMap<(JobId, i64), Instant>>,
    /// When an agent's leases were last renewed in the store.
    pub renewed: Mutex<HashMap<AgentId, (Vec<JobId>, Instant)>>,
    /// Who polls here, and who no longer does.
    pub presence: Mutex<HashMap<AgentId, Presence>>,
    /// When what an agent's jobs use was last written down.
    pub measured: Mutex<HashMap<AgentId, Instant>>,
}

/// An agent whose polls come to this server.
pub struct Presence {
    /// Polls that wait now; more than one only for a moment.
    open: usize,
    /// With none open: when it counts as gone.
    gone_at: Instant,
    /// As the store has it. Where another server has written something later, the agent is there.
    pub last_seen_at: Time,
}

/// An agent that registered, or was known when this server started, polls within this.
const FIRST_POLL: Duration = Duration::from_secs(60);
/// One whose poll was answered polls again within this: it does so at once, unless its machine is very busy or the network is slow.
const NEXT_POLL: Duration = Duration::from_secs(20);
/// One whose connection broke does so, too; it closes connections itself when it has news.
const BROKEN_POLL: Duration = Duration::from_secs(3);

impl Presence {
    fn expected(last_seen_at: Time) -> Presence {
        Presence {
            open: 0,
            gone_at: Instant::now() + FIRST_POLL,
            last_seen_at,
        }
    }
}

/// Held while an agent's poll is being answered. Dropped without [`PollGuard::answered`], its connection broke.
pub struct PollGuard<'a> {
    hub: &'a Hub,
    agent: AgentId,
    answered: bool,
}

impl PollGuard<'_> {
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        let mut presence = self.hub.presence.lock().expect("no panic while the lock is held");
        if let Some(presence) = presence.get_mut(&self.agent) {
            presence.open = presence.open.saturating_sub(1);
            presence.gone_at = Instant::now() + if self.answered { NEXT_POLL } else { BROKEN_POLL };
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Hub {
            work: Work::default(),
            logs: Mutex::default(),
            ending: watch::channel(false).0,
            missing: Mutex::default(),
            turns: Mutex::default(),
            kills_said: Mutex::default(),
            renewed: Mutex::default(),
            measured: Mutex::default(),
            presence: Mutex::default(),
        }
    }
}

impl Hub {
    /// Held while one of an agent's polls looks.
    pub fn turn(&self, agent: AgentId) -> Arc<tokio::sync::Mutex<()>> {
        self.turns
            .lock()
            .expect("no panic while the lock is held")
            .entry(agent)
            .or_default()
            .clone()
    }

    /// An agent from which a poll is to come, unless more is known of it.
    pub fn expect_agent(&self, agent: AgentId, last_seen_at: Time) {
        let mut presence = self.presence.lock().expect("no panic while the lock is held");
        presence
            .entry(agent)
            .or_insert_with(|| Presence::expected(last_seen_at));
    }

    pub fn agent_registered(&self, agent: AgentId, at: Time) {
        let mut presence = self.presence.lock().expect("no panic while the lock is held");
        let open = presence.get(&agent).map_or(0, |one| one.open);
        let one = Presence::expected(at);
        presence.insert(agent, Presence { open, ..one });
    }

    pub fn agent_polls(&self, agent: AgentId, last_seen_at: Time) -> PollGuard<'_> {
        let mut presence = self.presence.lock().expect("no panic while the lock is held");
        let one = presence
            .entry(agent)
            .or_insert_with(|| Presence::expected(last_seen_at));
        one.open += 1;
        one.last_seen_at = last_seen_at;
        PollGuard {
            hub: self,
            agent,
            answered: false,
        }
    }

    pub fn agent_seen(&self, agent: AgentId, at: Time) {
        let mut presence = self.presence.lock().expect("no panic while the lock is held");
        if let Some(one) = presence.get_mut(&agent) {
            one.last_seen_at = at;
        }
    }

    /// Agents that poll here no more, each told once, with when it was heard of last.
    pub fn gone_agents(&self) -> Vec<(AgentId, Time)> {
        let now = Instant::now();
        let mut presence = self.presence.lock().expect("no panic while the lock is held");
        let gone = presence.extract_if(|_, one| one.open == 0 && one.gone_at <= now);
        gone.map(|(agent, one)| (agent, one.last_seen_at)).collect()
    }

    /// An experiment has more log or another state.
    pub fn wake_followers(&self, experiment: ExperimentId) {
        let logs = self.logs.lock().expect("no panic while the lock is held");
        if let Some(sender) = logs.get(&experiment) {
            sender.send_modify(|count| *count += 1);
        }
    }

    pub fn follow(&self, experiment: ExperimentId) -> watch::Receiver<u64> {
        let mut logs = self.logs.lock().expect("no panic while the lock is held");
        logs.retain(|_, sender| sender.receiver_count() > 0);
        logs.entry(experiment)
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }
}

/// Growing delays after failed sign-ins, for each account from an address, each account, and each address.
#[derive(Default)]
pub struct Limiter {
    failures: Mutex<HashMap<String, (u32, Instant)>>,
    recorded: Mutex<HashMap<String, (u32, Instant)>>,
}

/// Failures that cost nothing yet.
const FREE: [(&str, u32); 3] = [("both", 5), ("account", 20), ("address", 50)];
const LONGEST: Duration = Duration::from_secs(900);
const REMEMBERED: usize = 20_000;

impl Limiter {
    fn keys(account: &str, address: &str) -> [(String, u32); 3] {
        FREE.map(|(kind, free)| match kind {
            "both" => (format!("both {address} {account}"), free),
            "account" => (format!("account {account}"), free),
            _ => (format!("address {address}"), free),
        })
    }

    /// Seconds to wait before the next attempt counts, if any.
    pub fn wait_s(&self, account: &str, address: &str, now: Instant) -> Option<u64> {
        let failures = self.failures.lock().expect("no panic while the lock is held");
        let waits = Self::keys(account, address).into_iter().filter_map(|(key, free)| {
            let (count, last) = failures.get(&key)?;
            let over = count.checked_sub(free)?;
            let delay = Duration::from_secs(1 << over.min(10)).min(LONGEST);
            let left = (*last + delay).checked_duration_since(now)?;
            Some(left.as_secs() + 1)
        });
        waits.max()
    }

    pub fn failed(&self, account: &str, address: &str, now: Instant) {
        let mut failures = self.failures.lock().expect("no panic while the lock is held");
        if failures.len() > REMEMBERED {
            failures.retain(|_, (_, last)| now.duration_since(*last) < LONGEST);
        }
        if failures.len() > 2 * REMEMBERED {
            failures.clear();
        }
        for (key, _) in Self::keys(account, address) {
            let entry = failures.entry(key).or_insert((0, now));
            // A quiet hour forgives.
            *entry = if now.duration_since(entry.1) > Duration::from_secs(3600) {
                (1, now)
            } else {
                (entry.0 + 1, now)
            };
        }
    }

    pub fn succeeded(&self, account: &str, address: &str) {
        let mut failures = self.failures.lock().expect("no panic while the lock is held");
        let [both, of_account, _] = Self::keys(account, address);
        failures.remove(&both.0);
        failures.remove(&of_account.0);
    }

    /// Bad keys are recorded at most 60 times a minute for each address, so that nobody fills the disk with refusals.
    pub fn may_record(&self, address: &str) -> bool {
        let now = Instant::now();
        let mut recorded = self.recorded.lock().expect("no panic while the lock is held");
        if recorded.len() > REMEMBERED {
            recorded.clear();
        }
        let entry = recorded.entry(address.to_owned()).or_insert((0, now));
        if now.duration_since(entry.1) > Duration::from_secs(60) {
            *entry = (0, now);
        }
        entry.0 += 1;
        entry.0 <= 60
    }
}

const BUCKETS_MS: [u64; 8] = [1, 5, 10, 25, 100, 500, 2_500, 30_000];

/// Counters for `/metrics`, in Prometheus' text format.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<HashMap<(Method, &'static str, u16), u64>>,
    buckets: [AtomicU64; 9],
    micros: AtomicU64,
}

impl Metrics {
    pub fn count(&self, method: &Method, path: &'static str, status: StatusCode, took: Duration) {
        let key = (method.clone(), path, status.as_u16());
        *self
            .requests
            .lock()
            .expect("no panic while the lock is held")
            .entry(key)
            .or_default() += 1;
        let bucket = BUCKETS_MS
            .iter()
            .position(|most| took.as_millis() as u64 <= *most)
            .unwrap_or(BUCKETS_MS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn page(&self, jobs: &[(String, i64)]) -> String {
        let mut page = String::new();
        let version = env!("CARGO_PKG_VERSION");
        let _ = write!(
            page,
            "# HELP ml_build_info The running version.\n# TYPE ml_build_info gauge\nml_build_info{{version=\"{version}\"}} 1\n"
        );
        page.push_str("# HELP ml_jobs Jobs that wait or run, by state.\n# TYPE ml_jobs gauge\n");
        for state in ["QUEUED", "STARTING", "RUNNING", "STOPPING"] {
            let count = jobs
                .iter()
                .find(|(name, _)| name == state)
                .map_or(0, |(_, count)| *count);
            let _ = writeln!(page, "ml_jobs{{state=\"{state}\"}} {count}");
        }
        page.push_str("# HELP ml_http_requests_total Answered requests.\n# TYPE ml_http_requests_total counter\n");
        let requests = self.requests.lock().expect("no panic while the lock is held");
        let mut rows: Vec<_> = requests.iter().collect();
        rows.sort_by_key(|((method, path, status), _)| (*path, method.as_str().to_owned(), *status));
        for ((method, path, status), count) in rows {
            let _ = writeln!(
                page,
                "ml_http_requests_total{{method=\"{method}\",route=\"{path}\",status=\"{status}\"}} {count}"
            );
        }
        page.push_str("# HELP ml_http_request_duration_seconds Time from request to the head of the answer.\n# TYPE ml_http_request_duration_seconds histogram\n");
        let mut total = 0;
        for (bucket, most) in self.buckets.iter().zip(BUCKETS_MS.iter().map(Some).chain([None])) {
            total += bucket.load(Ordering::Relaxed);
            let most = most.map_or_else(|| "+Inf".to_owned(), |ms| (*ms as f64 / 1000.0).to_string());
            let _ = writeln!(page, "ml_http_request_duration_seconds_bucket{{le=\"{most}\"}} {total}");
        }
        let seconds = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            page,
            "ml_http_request_duration_seconds_sum {seconds}\nml_http_request_duration_seconds_count {total}"
        );
        let pages: u64 = std::fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse().ok())
            .unwrap_or_default();
        let _ = write!(
            page,
            "# HELP process_resident_memory_bytes Resident memory.\n# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}\n",
            pages * 4096
        );
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_sign_ins_cost_ever_more_time_and_a_right_password_forgives() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for _ in 0..4 {
            limiter.failed("ana", "10.0.0.1", start);
        }
        assert_eq!(limiter.wait_s("ana", "10.0.0.1", start), None);
        limiter.failed("ana", "10.0.0.1", start);
        let first = limiter.wait_s("ana", "10.0.0.1", start).unwrap();
        limiter.failed("ana", "10.0.0.1", start);
        assert!(limiter.wait_s("ana", "10.0.0.1", start).unwrap() > first);
        assert_eq!(
            limiter.wait_s("ana", "10.0.0.2", start),
            None,
            "another address is not locked out by these"
        );
        limiter.succeeded("ana", "10.0.0.1");
        assert_eq!(limiter.wait_s("ana", "10.0.0.1", start), None);
    }
}

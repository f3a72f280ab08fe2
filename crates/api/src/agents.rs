//! What an agent and the server say to each other.
//!
//! One long poll carries everything downwards and is level-triggered: the agent says what it holds, the server answers with what should be different.
//! An answer that is lost on the way is simply given again. Each lease has a fencing number; whatever is reported under an old one is refused (`lease_lost`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::experiments::{Stop, Usage};
use crate::{AgentId, ExperimentId, JobId, Time};

/// What a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    Gpu,
    Cpu,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Slot {
    /// Of a GPU: its index as NVML counts; of a CPU slot: 0, 1, …
    pub index: u32,
    pub kind: SlotKind,
    /// `NVIDIA H100 80GB HBM3`, or the processor's name.
    pub name: String,
}

/// `POST /api/v1/agents`: at the start of an agent and after the server has forgotten it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Names the machine; the same name with the same account is the same agent again.
    pub name: String,
    /// In the order in which they are looked at for work.
    pub queues: Vec<String>,
    /// The queues that have work take turns, whatever their order.
    #[serde(default)]
    pub fair: bool,
    pub slots: Vec<Slot>,
    /// Version of the program, number of processors, memory and the like.
    #[serde(default)]
    pub hardware: BTreeMap<String, String>,
    /// A random word kept in the agent's directory: tells an agent that is back from another one of the same name.
    #[serde(default)]
    pub instance: String,
    /// Run each job as its owner. Refused (`may_not_impersonate`) where the account is not allowed to.
    #[serde(default)]
    pub use_owner_token: bool,
    /// It applies what vaults give ([`JobLease::vault`]). Another agent is given no job that a vault has something for: one never goes without silently.
    #[serde(default)]
    pub vaults: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    pub agent: AgentId,
    /// A lease not renewed for so long ends; the agent ends such a job itself before that.
    pub lease_ms: i64,
    /// The section `agent` of the vaults of the agent's own account, merged: stands above the agent's configuration file and below its command line.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
    /// The same of the enforced vaults alone: stands above the command line, too.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub enforced: Value,
}

/// A job and the fencing number of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    pub job: JobId,
    pub fence: i64,
    /// The agent has been told to stop it and is at it.
    #[serde(default)]
    pub stopping: bool,
}

/// `POST /api/v1/agents/{agent}/poll`: renews the leases of all held jobs and waits for something to do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// Every job that the agent has, ended but not yet reported ones included.
    pub held: Vec<Held>,
    /// Slots free for more work; with `draining` no work is given.
    pub free_slots: i64,
    #[serde(default)]
    pub draining: bool,
    /// Answer at the latest after so long, 0 to 60,000 ms.
    pub wait_ms: i64,
    /// As registered. Another agent of the same name has taken over when it does not fit: the answer is `not_found`.
    #[serde(default)]
    pub instance: String,
    /// Sent now and then, not with each poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// What held jobs use, as far as it has been measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<JobUsage>,
}

/// How a machine does, as its agent measured it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Load {
    /// Of all processors together, 0 to 100, since the measurement before; not known at the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    pub memory_used_bytes: i64,
    pub memory_total_bytes: i64,
    /// Where jobs run.
    pub disk_free_bytes: i64,
    pub disk_total_bytes: i64,
    /// Those that it offers, by NVML; none where that is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuLoad>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuLoad {
    pub index: u32,
    /// Of the time since a moment ago in which it computed, 0 to 100.
    pub percent: u32,
    pub memory_used_bytes: i64,
    pub memory_total_bytes: i64,
}

/// What a held job uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobUsage {
    pub job: JobId,
    pub fence: i64,
    #[serde(flatten)]
    pub usage: Usage,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct PollAnswer {
    /// Begin these. A lease that is missing from the next `held` is given again.
    pub start: Vec<JobLease>,
    /// Stop these (held, not yet `stopping`).
    pub stop: Vec<StopOrder>,
    /// Not yours (any more): end their processes and forget them, without a report.
    pub drop: Vec<Held>,
    /// Why no work is given, whatever waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Queues of the agent's list that it may not serve any more, or that are gone, and why in words; it goes on with the others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_served: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StopOrder {
    pub job: JobId,
    pub fence: i64,
    pub how: Stop,
}

/// What happens to a job whose agent is gone for longer than the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLostAgent {
    /// It is queued again. The agent ends the job when it cannot renew the lease, so that it never runs twice at once.
    Requeue,
    /// It ends with ERROR. The agent lets the job run on while it cannot reach the server.
    Fail,
}

/// A job handed to an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobLease {
    pub job: JobId,
    pub fence: i64,
    pub experiment: ExperimentId,
    pub name: String,
    pub owner: String,
    pub workspace: String,
    pub project: String,
    pub slots: i64,
    /// SHA-256 of the code archive (`.tar.gz`), fetched with `GET /api/v1/agents/{agent}/jobs/{job}/code?fence=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A program and its arguments; a string entrypoint arrives as `["sh", "-c", …]`.
    pub command: Vec<String>,
    /// From the configuration; the agent adds its own `ML_…` variables.
    pub env: BTreeMap<String, String>,
    /// The whole configuration, for `ML_CONFIG`.
    pub config: serde_json::Value,
    pub restarts: i64,
    pub limits: Limits,
    /// Between SIGTERM and SIGKILL.
    pub grace_ms: i64,
    /// For `ML_API_KEY`: dead when the job ends.
    pub token: String,
    pub on_lost_agent: OnLostAgent,
    /// What vaults give it.
    #[serde(default, skip_serializing_if = "LeaseVault::is_empty")]
    pub vault: LeaseVault,
}

/// What the vaults that apply to a job give it, already merged by the server. Whose personal vault counts: the owner's where the agent uses owner tokens, else
/// that of the agent's account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LeaseVault {
    /// Variables: above the agent's configuration file, below its `--job-env` and the experiment's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Variables of enforced vaults: above everything but what the agent itself sets (`ML_…`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub enforced_env: BTreeMap<String, String>,
    /// Written into the job's directory before its program starts, after its code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<LeaseFile>,
    /// What is shown as eight asterisks in its log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

impl LeaseVault {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A file of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseFile {
    /// Relative to the directory in which the job starts; no part of it is `..` or empty.
    pub path: String,
    /// Permission bits, at most 0o777.
    pub mode: u32,
    /// Base64.
    pub content: String,
    /// Of an enforced vault: replaces a file of the code. Another one that is in the way stops the job with a reason.
    #[serde(default)]
    pub enforced: bool,
}

/// Limits on one job; what is left out is not limited (processes: the agent's own default).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_processes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<i64>,
}

/// `POST /api/v1/agents/{agent}/jobs/{job}/report`. Safe to repeat.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub fence: i64,
    /// With the end: all that it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(flatten)]
    pub what: Happened,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "happened")]
pub enum Happened {
    /// Its process is there.
    Started { at: Time },
    /// All its processes are gone and all its log is sent.
    Ended {
        at: Time,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i64>,
        /// Why, where the exit code does not say it all: `over its memory limit of 512 MB`, `time limit of 2h reached`, `cannot start: …`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Not the job's fault (the machine lost it); does not count as a restart.
        #[serde(default)]
        lost: bool,
    },
}

/// `POST /api/v1/agents/{agent}/jobs/{job}/logs?fence=&first=`: the body is log text (see `experiments::log_text`), its first line having
/// the number `first`. Lines the server already has are skipped; a gap is kept as a gap.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LogsAt {
    pub fence: i64,
    /// From 1, over all restarts of the job.
    pub first: i64,
}

/// Answer to logs: the number of the last line that the server now has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LogsKept {
    pub through: i64,
}

/// Whether an agent is to be given work, as an administrator has said. Stays over new registrations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    #[default]
    Enabled,
    /// It gets no more work; what runs on it runs to its end.
    Draining,
    /// It gets no more work; what runs on it is ended as by `cancel`, and queued again or failed as `on_lost_agent` says.
    Disabled,
}

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Service::Enabled => "enabled",
            Service::Draining => "draining",
            Service::Disabled => "disabled",
        }
    }

    pub fn parse(name: &str) -> Option<Service> {
        [Service::Enabled, Service::Draining, Service::Disabled]
            .into_iter()
            .find(|service| service.name() == name)
    }
}

/// An agent as shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    pub id: AgentId,
    pub name: String,
    pub queues: Vec<String>,
    /// `up`, `draining` or `disabled`; `refused` where its account may not serve any of its queues or not run jobs as their owners, as the agent is to;
    /// `lost` when it is not heard of any more, whatever its service.
    pub state: String,
    pub service: Service,
    /// Its queues take turns; otherwise one that is named later waits for those before it.
    #[serde(default)]
    pub fair: bool,
    /// It runs each job as its owner.
    #[serde(default)]
    pub use_owner_token: bool,
    pub slots: i64,
    pub used_slots: i64,
    pub slot_kind: SlotKind,
    pub last_seen_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_at: Option<Time>,
    /// Whose key it works with. Needs `agents:read`, as `address` and `hardware` do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hardware: BTreeMap<String, String>,
}

/// `3.4 GB`, with powers of 1000.
pub fn bytes_words(bytes: i64) -> String {
    let mut number = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if number < 1000.0 {
            return if unit == "B" || number >= 100.0 {
                format!("{number:.0} {unit}")
            } else {
                format!("{number:.1} {unit}")
            };
        }
        number /= 1000.0;
    }
    format!("{number:.1} TB")
}

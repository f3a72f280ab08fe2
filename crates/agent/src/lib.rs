//! The agent: takes jobs from queues and runs them.
//!
//! Three kinds of processes. The *agent* speaks with the server, keeps the leases and sends logs and ends; it may be killed and started again at any moment. For each job a *shim*
//! (`shim.rs`) outlives it and holds the job to its limits and its lease; they speak through the job's directory (`job_dir.rs`). Under the shim an *init* (`launch.rs`) is the
//! first process of the job's namespaces and ends everything in them when the shim is gone. So whichever of them dies, no process of a job is left without one that ends it.

mod agent;
mod cgroup;
mod code;
mod doctor;
mod isolation;
mod job;
mod job_dir;
mod launch;
mod load;
mod mask;
mod settings;
mod shim;
mod slots;
mod spool;
mod tree;
mod usage;
mod vault;
mod watch;

use std::path::PathBuf;

pub use agent::{run, running, stop};
pub use doctor::{Check, doctor};
pub use job_dir::Isolate;
pub use settings::Settings;
pub use shim::shim;

/// How an agent works.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub server: String,
    /// API key of the agent's service account.
    pub key: String,
    /// PEM certificates to trust besides the usual ones.
    pub ca: Option<Vec<u8>>,
    /// Names the machine; the same name with the same account is the same agent again.
    pub name: String,
    pub queues: Vec<String>,
    /// Where jobs run and code is kept. One agent at a time.
    pub dir: PathBuf,
    /// So many CPU slots in place of what the machine has.
    pub slots: Option<u32>,
    /// Exactly these GPUs in place of all.
    pub gpus: Option<Vec<u32>>,
    /// From a configuration file: below what vaults of the agent's account set.
    pub configured: Settings,
    /// From the command line: above that, and below enforced vaults.
    pub given: Settings,
    /// Run each job as its owner, where the account is allowed to.
    pub use_owner_token: bool,
    /// End (jobs run on) when standard input ends: for an agent that is the server's child.
    pub stop_on_stdin_end: bool,
    /// Say on standard output how the start went, in one line: `registered ID`, or `refused WHY` (it then tries again).
    pub tell_start: bool,
}

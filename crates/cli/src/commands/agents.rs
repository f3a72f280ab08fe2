//! `ml agent`, `ml agent list`, `ml agent doctor`, `ml queue list`

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use bailiwick_api::agents::Agent as View;
use bailiwick_api::queues::Queue;
use serde::Serialize;

use crate::args::{Agent, AgentCommand, Common, Isolate};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result, exit};
use crate::output::{Cell, Column, Output, column, wide};
use crate::prompt;
use crate::settings::{Settings, home};

pub fn run(common: &Common, agent: Agent) -> Result<()> {
    match agent.command {
        Some(AgentCommand::List) => list(common),
        Some(AgentCommand::Doctor { dir }) => doctor(common, dir),
        None => serve_queues(common, agent),
    }
}

fn serve_queues(common: &Common, agent: Agent) -> Result<()> {
    let Access { server, ca, key } = match agent.builtin {
        true => access_of_builtin(common)?,
        false => access(common, agent.key_file.as_deref())?,
    };
    let mut job_env = BTreeMap::new();
    for assignment in &agent.job_env {
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| Failure::wrong_usage(format!("--job-env {assignment} is not of the form KEY=VALUE")))?;
        job_env.insert(key.to_owned(), value.to_owned());
    }
    let options = bailiwick_agent::Options {
        server,
        ca,
        key,
        name: agent.name.map_or_else(host_name, Ok)?,
        queues: if agent.queues.is_empty() {
            vec!["default".into()]
        } else {
            agent.queues
        },
        dir: agent_dir(agent.dir)?,
        slots: agent.slots,
        gpus: agent.gpus,
        isolate: match agent.isolate {
            Isolate::Auto => bailiwick_agent::Isolate::Auto,
            Isolate::None => bailiwick_agent::Isolate::None,
        },
        job_env,
        protect: agent.protect.into_iter().map(whole).collect::<Result<_>>()?,
        use_owner_token: agent.use_owner_token,
        stop_on_stdin_end: agent.builtin,
    };
    log_to_standard_error();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|why| Failure::new(format!("cannot start: {why}")))?;
    runtime.block_on(bailiwick_agent::run(options)).map_err(Failure::new)
}

/// The way to the server.
struct Access {
    server: String,
    ca: Option<Vec<u8>>,
    key: String,
}

/// As every command finds it; the key from a file, the environment or the user's file.
fn access(common: &Common, key_file: Option<&Path>) -> Result<Access> {
    let settings = Settings::read(common)?;
    let key = match (key_file, &settings.api_key) {
        (Some(file), _) => prompt::secret_from(file)?,
        (None, Some(key)) => key.value.clone(),
        (None, None) => {
            return Err(Failure {
                exit: exit::SIGN_IN_NEEDED,
                ..Failure::new("the agent has no API key").hint(
                    "make one with `ml service-account create NAME --serve QUEUE`, and give it with --key-file, ML_API_KEY or [worker] api_key in config.toml",
                )
            });
        }
    };
    Ok(Access {
        ca: settings.ca_pem()?,
        server: settings.server.value,
        key,
    })
}

/// From flags and standard input alone: what the person who started the server has in `~/.ml` is not the agent's business.
fn access_of_builtin(common: &Common) -> Result<Access> {
    let server = common.server.clone();
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|why| Failure::file("read the certificates in", path, &why));
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|why| Failure::new(format!("cannot read the key from standard input: {why}")))?;
    Ok(Access {
        server: server.ok_or_else(|| Failure::wrong_usage("--builtin needs --server"))?,
        ca: common.ca.as_ref().map(read).transpose()?,
        key: line.trim().to_owned(),
    })
}

fn agent_dir(dir: Option<PathBuf>) -> Result<PathBuf> {
    match dir {
        Some(dir) => whole(dir),
        None => Ok(home()?.join("agent")),
    }
}

fn log_to_standard_error() {
    let filter = std::env::var("ML_LOG").ok().and_then(|filter| filter.parse().ok());
    // Somebody else may have set one up already, which is as good.
    let _ = tracing_subscriber::fmt()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .with_env_filter(filter.unwrap_or_else(|| tracing_subscriber::EnvFilter::new("info")))
        .try_init();
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.ok_or_else(|| {
        Failure::wrong_usage("this machine has no readable host name").hint("give the agent one with --name")
    })
}

fn whole(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|why| Failure::file("find", &path, &why))
}

pub fn shim(dir: &Path) -> Result<()> {
    std::process::exit(bailiwick_agent::shim(dir))
}

#[derive(Serialize)]
struct Check {
    check: String,
    holds: bool,
    detail: String,
}

const CHECKS: &[Column<Check>] = &[
    column("CHECK", |check| check.check.as_str().into()),
    column("HOLDS", |check| if check.holds { "yes" } else { "no" }.into()),
    column("DETAIL", |check| check.detail.as_str().into()),
];

fn doctor(common: &Common, dir: Option<PathBuf>) -> Result<()> {
    let checks: Vec<_> = bailiwick_agent::doctor(&agent_dir(dir)?)
        .into_iter()
        .map(|check| Check {
            check: check.name.to_string(),
            holds: check.holds,
            detail: check.detail,
        })
        .collect();
    Output::new(common.output).list(CHECKS, |check| check.check.clone(), &checks)
}

const AGENTS: &[Column<View>] = &[
    column("ID", |agent| agent.id.0.into()),
    column("NAME", |agent| agent.name.as_str().into()),
    column("STATE", |agent| agent.state.as_str().into()),
    column("QUEUES", |agent| agent.queues.join(", ").into()),
    column("SLOTS", |agent| agent.slots.into()),
    column("USED", |agent| agent.used_slots.into()),
    column("KIND", |agent| {
        Cell::Text(format!("{:?}", agent.slot_kind).to_lowercase())
    }),
    column("LAST SEEN", |agent| agent.last_seen_at.into()),
    wide("ADDRESS", |agent| agent.address.clone().unwrap_or_default().into()),
    wide("HARDWARE", |agent| {
        let pairs: Vec<_> = agent
            .hardware
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(", ").into()
    }),
];

fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let agents = connection
            .client
            .agents()
            .await
            .map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(AGENTS, |agent| agent.id.to_string(), &agents.items)
    })
}

const QUEUES: &[Column<Queue>] = &[
    column("ID", |queue| queue.id.0.into()),
    column("NAME", |queue| queue.name.as_str().into()),
    column("WAITING", |queue| queue.waiting.into()),
    column("RUNNING", |queue| queue.running.into()),
];

pub fn queues(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let queues = connection
            .client
            .queues()
            .await
            .map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(QUEUES, |queue| queue.id.to_string(), &queues.items)
    })
}

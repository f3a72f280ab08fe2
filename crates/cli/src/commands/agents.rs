//! `ml agent`, `ml agent list`, `ml agent doctor`

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bailiwick_api::agents::{Agent as View, Load, Service, bytes_words};
use bailiwick_client::is_missing;
use clap::ValueEnum;
use serde::Serialize;

use crate::args::{Agent, AgentCommand, AgentUnit, Common, Isolate};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::{Failure, Result, exit};
use crate::output::{Cell, Column, Output, column, say, warn, wide, write};
use crate::prompt;
use crate::settings::{Settings, home};

pub fn run(common: &Common, agent: Agent) -> Result<()> {
    match agent.command {
        Some(AgentCommand::List) => list(common),
        Some(AgentCommand::Describe { agent }) => describe(common, &agent),
        Some(AgentCommand::Enable { agent }) => set_service(common, &agent, Service::Enabled),
        Some(AgentCommand::Drain { agent }) => set_service(common, &agent, Service::Draining),
        Some(AgentCommand::Disable { agent }) => set_service(common, &agent, Service::Disabled),
        Some(AgentCommand::Doctor { dir }) => doctor(common, dir),
        Some(AgentCommand::Unit(unit)) => print_unit(common, &unit),
        None if agent.stop => stop(agent.dir),
        None if agent.detach => detach(agent.dir),
        None => serve_queues(common, agent),
    }
}

fn serve_queues(common: &Common, agent: Agent) -> Result<()> {
    let Access { server, ca, key } = match agent.builtin {
        true => access_of_builtin(common)?,
        false => access(common, agent.key_file.as_deref())?,
    };
    let flags = agent.flags;
    let own = bailiwick_agent::Settings {
        job_env: job_env(&flags.job_env)?,
        isolate: flags.isolate.map(|isolate| match isolate {
            Isolate::Auto => bailiwick_agent::Isolate::Auto,
            Isolate::Require => bailiwick_agent::Isolate::Require,
            Isolate::None => bailiwick_agent::Isolate::None,
        }),
        protect: protected(flags.protect, agent.key_file)?,
        fair: flags.fair,
    };
    let (configured, given) = match agent.builtin {
        true => (own, Default::default()),
        false => (Default::default(), own),
    };
    let options = bailiwick_agent::Options {
        server,
        ca,
        key,
        name: flags.name.map_or_else(host_name, Ok)?,
        queues: if flags.queues.is_empty() {
            vec!["default".into()]
        } else {
            flags.queues
        },
        dir: agent_dir(agent.dir)?,
        slots: flags.slots,
        gpus: flags.gpus,
        configured,
        given,
        use_owner_token: flags.use_owner_token,
        stop_on_stdin_end: agent.builtin,
        tell_start: agent.tell_start,
    };
    if agent.tell_start {
        // Away from the terminal that it was started at. Fails only where it is away already.
        let _ = nix::unistd::setsid();
    }
    log_to_standard_error();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|why| Failure::new(format!("cannot start: {why}")))?;
    runtime.block_on(bailiwick_agent::run(options)).map_err(Failure::new)
}

fn job_env(assignments: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |assignment: &String| {
        // Not with its value, which may be a secret.
        let (key, value) = assignment
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Failure::wrong_usage("--job-env wants KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    assignments.iter().map(pair).collect()
}

/// The agent has so long to end: more than its longest step.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

fn stop(dir: Option<PathBuf>) -> Result<()> {
    let dir = agent_dir(dir)?;
    let process = bailiwick_agent::stop(&dir, ENDS_WITHIN).map_err(|why| {
        Failure::new(why).hint("--dir names the directory of an agent; without it, ~/.ml/agent is meant")
    })?;
    say(&format!(
        "The agent (process {process}) has ended; what it ran goes on."
    ));
    Ok(())
}

/// Starts this very command again as a process of its own, without `--detach`, and stays until that says how the start went.
fn detach(dir: Option<PathBuf>) -> Result<()> {
    let dir = agent_dir(dir)?;
    if let Some(process) = bailiwick_agent::running(&dir) {
        let why = format!("an agent (process {process}) uses {} already", dir.display());
        return Err(Failure::new(why).hint("end it with `ml agent --stop`, or give this one a directory of its own"));
    }
    // As the agent makes it: a job's own user must be able to pass.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&dir);
    made.map_err(|why| Failure::file("make", &dir, &why))?;
    let path = dir.join("agent.log");
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path);
    let log = log.map_err(|why| Failure::file("write", &path, &why))?;
    let began = log.metadata().map_or(0, |log| log.len());
    let program = std::env::current_exe().map_err(|why| Failure::new(format!("cannot find this program: {why}")))?;
    let mut child = std::process::Command::new(program)
        .args(std::env::args_os().skip(1).filter(|word| word != "--detach"))
        .arg("--tell-start")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|why| Failure::new(format!("cannot start the agent: {why}")))?;
    let mut line = String::new();
    let mut told = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
    let _ = told.read_line(&mut line);
    match line.trim().split_once(' ') {
        Some(("registered", id)) => {
            let process = child.id();
            let path = path.display();
            say(&format!(
                "Agent {id} runs in the background (process {process}); its log is {path}."
            ));
            Ok(())
        }
        Some((_, why)) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(Failure::new(format!("the agent was not started: {why}")))
        }
        // It ended: why stands in what it wrote last.
        None => {
            let _ = child.wait();
            let said = std::fs::read(&path).unwrap_or_default();
            let said = String::from_utf8_lossy(&said[(began as usize).min(said.len())..]).into_owned();
            let said = said.trim().trim_start_matches("error: ").to_owned();
            Err(Failure::new(format!("the agent was not started: {said}")))
        }
    }
}

/// A word of `ExecStart=`.
fn unit_word(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('%', "%%")
        .replace('$', "$$")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    match escaped.is_empty() || escaped.contains(|c: char| c.is_whitespace() || "'\";\\".contains(c)) {
        true => format!("\"{escaped}\""),
        false => escaped,
    }
}

fn print_unit(common: &Common, unit: &AgentUnit) -> Result<()> {
    let settings = Settings::read(common)?;
    let program = std::env::current_exe().map_err(|why| Failure::new(format!("cannot find this program: {why}")))?;
    let (dir, key) = (whole(unit.dir.clone())?, whole(unit.key_file.clone())?);
    let mut words = vec![program.display().to_string(), "agent".into()];
    let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    flag("server", settings.server.value.clone());
    if let Some(ca) = &settings.ca {
        flag("ca", whole(ca.value.clone())?.display().to_string());
    }
    let flags = &unit.flags;
    job_env(&flags.job_env)?;
    let default = ["default".to_owned()];
    let queues = if flags.queues.is_empty() {
        &default[..]
    } else {
        &flags.queues
    };
    queues.iter().for_each(|queue| flag("queue", queue.clone()));
    if let Some(name) = &flags.name {
        flag("name", name.clone());
    }
    if let Some(slots) = flags.slots {
        flag("slots", slots.to_string());
    }
    if let Some(gpus) = &flags.gpus {
        let gpus: Vec<String> = gpus.iter().map(u32::to_string).collect();
        flag("gpus", gpus.join(","));
    }
    if let Some(isolate) = flags.isolate.and_then(|isolate| isolate.to_possible_value()) {
        flag("isolate", isolate.get_name().to_owned());
    }
    flags.job_env.iter().for_each(|pair| flag("job-env", pair.clone()));
    for place in &flags.protect {
        flag("protect", whole(place.clone())?.display().to_string());
    }
    flag("key-file", key.display().to_string());
    flag("dir", dir.display().to_string());
    let user = match unit.run_as.as_str() {
        "root" => "# As root it gives each job an operating-system user of its own.\nUser=root".to_owned(),
        user => {
            // Jobs are then the same user, and must not read the key.
            let place = key.parent().unwrap_or(Path::new("/"));
            flag("protect", place.display().to_string());
            format!("User={user}")
        }
    };
    if let Some(fair) = flags.fair {
        words.push(if fair { "--fair".into() } else { "--fair=false".into() });
    }
    if flags.use_owner_token {
        words.push("--use-owner-token".into());
    }
    let state = match dir.strip_prefix("/var/lib") {
        Ok(below) => format!("StateDirectory={}\nStateDirectoryMode=0711\n", below.display()),
        Err(_) => String::new(),
    };
    let words: Vec<String> = words.iter().map(|word| unit_word(word)).collect();
    write(&format!(
        "[Unit]
Description=Bailiwick agent
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={words}
{user}
{state}Restart=always
RestartSec=5
# Jobs outlive a restart of the agent.
KillMode=process
# Limits of jobs by control groups, which the agent makes below its own: leave ProtectControlGroups= out.
Delegate=yes
# What jobs need of the machine stays open: namespaces, devices (GPUs) and, as root, other users.
NoNewPrivileges=yes
ProtectKernelLogs=yes
ProtectHostname=yes
RestrictRealtime=yes

[Install]
WantedBy=multi-user.target
",
        words = words.join(" ")
    ))
}

/// What jobs must not see besides the agent's own: what was named, the key, and the keys and sessions of whoever starts the agent.
fn protected(named: Vec<PathBuf>, key_file: Option<PathBuf>) -> Result<Vec<PathBuf>> {
    // Standard input is no file.
    let key_file = key_file.filter(|file| file.as_os_str() != "-");
    let files = named.into_iter().chain(key_file).map(whole);
    files.chain([home()]).collect()
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
        (Some(file), _) => {
            warn_of_readers(file);
            prompt::secret_from(file)?
        }
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

/// Whoever reads the key can pass for the agent.
fn warn_of_readers(key_file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(key_file).map(|about| about.permissions().mode());
    if key_file.as_os_str() != "-" && mode.is_ok_and(|mode| mode & 0o077 != 0) {
        let file = key_file.display();
        warn(&format!(
            "{file} can be read by others on this machine: run `chmod 600 {file}`"
        ));
    }
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
    column("STATE", |agent| state(agent).into()),
    column("QUEUES", |agent| agent.queues.join(", ").into()),
    column("SLOTS", |agent| agent.slots.into()),
    column("USED", |agent| agent.used_slots.into()),
    column("KIND", |agent| {
        Cell::Text(format!("{:?}", agent.slot_kind).to_lowercase())
    }),
    column("LAST SEEN", |agent| agent.last_seen_at.into()),
    wide("AS OWNER", |agent| as_owner(agent).into()),
    wide("CPU", |agent| cpu(agent).into()),
    wide("MEMORY", |agent| memory(agent).into()),
    wide("DISK FREE", |agent| disk_free(agent).into()),
    wide("GPUS", |agent| gpus(agent).into()),
    wide("ADDRESS", |agent| agent.address.clone().unwrap_or_default().into()),
    wide("HARDWARE", |agent| hardware(agent).into()),
];

/// One agent: whose it is as well.
const ONE: &[Column<View>] = &[
    column("ID", |agent| agent.id.0.into()),
    column("NAME", |agent| agent.name.as_str().into()),
    column("STATE", |agent| state(agent).into()),
    column("SERVICE", |agent| agent.service.name().into()),
    column("QUEUES", |agent| agent.queues.join(", ").into()),
    column("FAIR", |agent| if agent.fair { "yes" } else { "no" }.into()),
    column("AS OWNER", |agent| as_owner(agent).into()),
    column("SLOTS", |agent| agent.slots.into()),
    column("USED", |agent| agent.used_slots.into()),
    column("KIND", |agent| {
        Cell::Text(format!("{:?}", agent.slot_kind).to_lowercase())
    }),
    column("LAST SEEN", |agent| agent.last_seen_at.into()),
    column("CPU", |agent| cpu(agent).into()),
    column("MEMORY", |agent| memory(agent).into()),
    column("DISK FREE", |agent| disk_free(agent).into()),
    column("GPUS", |agent| gpus(agent).into()),
    column("MEASURED", |agent| agent.load_at.into()),
    column("ACCOUNT", |agent| agent.account.clone().unwrap_or_default().into()),
    column("ADDRESS", |agent| agent.address.clone().unwrap_or_default().into()),
    column("HARDWARE", |agent| hardware(agent).into()),
];

/// `lost`, and that it would get no work if it came back.
fn state(agent: &View) -> String {
    match agent.service {
        Service::Draining | Service::Disabled if agent.state == "lost" => {
            format!("lost ({})", agent.service.name())
        }
        _ => agent.state.clone(),
    }
}

/// Whether it runs each job as its owner.
fn as_owner(agent: &View) -> &'static str {
    if agent.use_owner_token { "yes" } else { "no" }
}

/// Percent of all processors.
fn cpu(agent: &View) -> String {
    let percent = agent.load.as_ref().and_then(|load| load.cpu_percent);
    percent.map(|percent| format!("{percent}%")).unwrap_or_default()
}

fn memory(agent: &View) -> String {
    let words = |load: &Load| used(load.memory_used_bytes, load.memory_total_bytes);
    agent.load.as_ref().map(words).unwrap_or_default()
}

fn disk_free(agent: &View) -> String {
    let words = |load: &Load| used(load.disk_free_bytes, load.disk_total_bytes);
    agent.load.as_ref().map(words).unwrap_or_default()
}

/// `0: 97% 71.0 GB of 85.5 GB`
fn gpus(agent: &View) -> String {
    let gpus = agent.load.iter().flat_map(|load| &load.gpus);
    let words = gpus.map(|gpu| {
        let memory = used(gpu.memory_used_bytes, gpu.memory_total_bytes);
        format!("{}: {}% {memory}", gpu.index, gpu.percent)
    });
    words.collect::<Vec<_>>().join(", ")
}

fn used(used_bytes: i64, total_bytes: i64) -> String {
    format!("{} of {}", bytes_words(used_bytes), bytes_words(total_bytes))
}

fn hardware(agent: &View) -> String {
    let pairs = agent.hardware.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

fn id(agent: &View) -> String {
    agent.id.to_string()
}

/// The agent, or why not, with the name that is nearly right.
async fn found(connection: &Connection, named: &str, answer: bailiwick_client::Result<View>) -> Result<View> {
    let missing = is_missing(&answer);
    let names = async {
        let agents = connection.client.agents().await?;
        Ok(agents.items.into_iter().map(|agent| agent.name).collect())
    };
    match answer {
        Ok(agent) => Ok(agent),
        Err(why) => Err(suggest(connection.explain(why), named, missing, names).await),
    }
}

fn describe(common: &Common, named: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let answer = connection.client.agent(named).await;
        let agent = found(&connection, named, answer).await?;
        Output::new(common.output).one(ONE, id, &agent)
    })
}

fn set_service(common: &Common, named: &str, service: Service) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let answer = connection.client.set_agent_service(named, service).await;
        let agent = found(&connection, named, answer).await?;
        let name = &agent.name;
        let sentence = match service {
            Service::Enabled => format!("Agent {name} takes work again."),
            Service::Draining => format!("Agent {name} gets no more work; what it runs goes on."),
            Service::Disabled => format!("Agent {name} gets no more work; what it runs is being ended."),
        };
        Output::new(common.output).did(&sentence, AGENTS, id, &agent)
    })
}

fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let agents = connection
            .client
            .agents()
            .await
            .map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(AGENTS, id, &agents.items)
    })
}

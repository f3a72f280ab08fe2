//! Queues, the agents that serve them, and what waits and runs there as far as one may see it.

use askama::Template;
use bailiwick_access::Target;
use bailiwick_api::Permission;
use bailiwick_api::Time;
use bailiwick_api::agents::{Agent, Load, Service, SlotKind, bytes_words};
use bailiwick_api::experiments::{Experiment, ExperimentFilter, State};
use bailiwick_api::queues::Queue;
use schemars::JsonSchema;
use serde::Deserialize;

use super::users::unknown;
use super::{Frame, ago, lasted};
use crate::access::{Answer, Done, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;

/// How many of what waits, and of what runs, are named.
const NAMED: i64 = 20;

/// A queue, and what its agents have.
pub struct QueueRow {
    it: Queue,
    agents: usize,
    free: i64,
    slots: i64,
}

impl QueueRow {
    /// Slots of agents that serve several queues count for each.
    fn new(it: Queue, agents: &[Agent]) -> QueueRow {
        let serving: Vec<&Agent> = agents
            .iter()
            .filter(|agent| agent.state == "up" && agent.queues.contains(&it.name))
            .collect();
        let slots: i64 = serving.iter().map(|agent| agent.slots).sum();
        let used: i64 = serving.iter().map(|agent| agent.used_slots).sum();
        QueueRow {
            agents: serving.len(),
            free: (slots - used).max(0),
            slots,
            it,
        }
    }
}

/// An agent as a line of the table.
pub struct AgentRow {
    it: Agent,
    seen: String,
    /// What is known of it while it is there.
    load: Vec<(String, String)>,
    /// When it was measured.
    measured: String,
}

impl AgentRow {
    fn new(it: Agent, now: Time) -> AgentRow {
        AgentRow {
            seen: ago(it.last_seen_at, now),
            load: match &it.load {
                Some(load) if it.state != "lost" => load_words(load),
                _ => Vec::new(),
            },
            measured: it.load_at.map(|at| ago(at, now)).unwrap_or_default(),
            it,
        }
    }

    fn kind(&self) -> &'static str {
        match self.it.slot_kind {
            SlotKind::Gpu => "GPU",
            SlotKind::Cpu => "CPU",
        }
    }

    fn is_up(&self) -> bool {
        self.it.state == "up"
    }

    /// What an administrator has said of an agent that is lost; otherwise its state tells.
    fn besides(&self) -> Option<&'static str> {
        (self.it.state == "lost" && self.it.service != Service::Enabled).then(|| self.it.service.name())
    }
}

/// How an agent's machine does, in words.
fn load_words(load: &Load) -> Vec<(String, String)> {
    let used = |used: i64, total: i64| format!("{} of {}", bytes_words(used), bytes_words(total));
    let mut words = Vec::new();
    if let Some(percent) = load.cpu_percent {
        words.push(("CPU".to_owned(), format!("{percent:.0} %")));
    }
    words.push(("Memory".into(), used(load.memory_used_bytes, load.memory_total_bytes)));
    let free = used(load.disk_free_bytes, load.disk_total_bytes);
    words.push(("Disk".into(), format!("{free} free")));
    for gpu in &load.gpus {
        let memory = used(gpu.memory_used_bytes, gpu.memory_total_bytes);
        words.push((format!("GPU {}", gpu.index), format!("{} %, {memory}", gpu.percent)));
    }
    words
}

/// An experiment that waits or runs.
pub struct Work {
    it: Experiment,
    since: String,
}

#[derive(Template)]
#[template(path = "queues.html")]
struct QueuesPage {
    frame: Frame,
    queues: Vec<QueueRow>,
    agents: Vec<AgentRow>,
    /// Whether addresses and hardware are told.
    full: bool,
    waiting: Vec<Work>,
    running: Vec<Work>,
    more_wait: bool,
    more_run: bool,
    server: String,
    may_create: bool,
}

pub async fn show(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    let context = &door.context;
    let Json(queues) = context.ask(routes::queues::list, &[], NoInput).await?;
    let Json(agents) = context.ask(routes::agents::list, &[], NoInput).await?;
    let among = async |state| {
        let filter = ExperimentFilter {
            state: Some(state),
            limit: Some(NAMED),
            ..Default::default()
        };
        context.ask(routes::experiments::list, &[], Query(filter)).await
    };
    let (Json(waiting), Json(running)) = (among(State::Queued).await?, among(State::Running).await?);
    let now = door.actor.now();
    let work = |it: Experiment| Work {
        since: match it.started_at.filter(|_| it.state == State::Running) {
            Some(from) => lasted(from, now),
            None => lasted(it.created_at, now),
        },
        it,
    };
    let page = QueuesPage {
        frame: Frame::new(&door, "queues", "Queues and agents"),
        queues: queues
            .items
            .into_iter()
            .map(|it| QueueRow::new(it, &agents.items))
            .collect(),
        full: agents.items.iter().any(|agent| agent.address.is_some()),
        agents: agents.items.into_iter().map(|it| AgentRow::new(it, now)).collect(),
        server: context.shared.parts.public_url.clone(),
        may_create: door.actor.may(Permission::QueuesCreate, &Target::default()).is_some(),
        more_wait: waiting.next.is_some(),
        more_run: running.next.is_some(),
        waiting: waiting.items.into_iter().map(work).collect(),
        running: running.items.into_iter().map(work).collect(),
    };
    page.frame.answer(&page)
}

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    agent: AgentRow,
    /// Whether one may enable, drain and disable it.
    manages: bool,
}

impl AgentPage {
    fn is(&self, service: &str) -> bool {
        self.agent.it.service.name() == service
    }
}

/// Signed in; who sees one of its queues sees the agent.
pub async fn one(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    let path = [("agent", door.context.path("agent"))];
    let Json(agent) = door.context.ask(routes::agents::show, &path, NoInput).await?;
    let page = AgentPage {
        frame: Frame::new(&door, "queues", &agent.name),
        manages: door.actor.may(Permission::AgentsManage, &Target::default()).is_some(),
        agent: AgentRow::new(agent, door.actor.now()),
    };
    page.frame.answer(&page)
}

/// Which button.
#[derive(Deserialize, JsonSchema)]
pub struct AgentForm {
    act: String,
}

/// Signed in; each act asks for what it needs.
pub async fn act(door: SignedIn, Form(form): Form<AgentForm>) -> Result<Answer, Failure> {
    let path = [("agent", door.context.path("agent"))];
    let (context, nothing) = (&door.context, Json(Done {}));
    let Json(agent) = match form.act.as_str() {
        "enable" => context.ask(routes::agents::enable, &path, nothing).await?,
        "drain" => context.ask(routes::agents::drain, &path, nothing).await?,
        "disable" => context.ask(routes::agents::disable, &path, nothing).await?,
        act => return Err(unknown(act)),
    };
    Ok(Answer::see(&format!("/agents/{}", agent.id)))
}

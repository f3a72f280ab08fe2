//! Many agents and queues against one server: what they cost at rest, how fast a job starts, how many start in a second, and what becomes of their jobs when all of them are
//! silent for a while and when half of them are killed at once.
//!
//! The agents are simulated: each polls and reports over a connection of its own exactly as `ml agent` does, and keeps its rules (it ends a job that it could not renew for nine tenths
//! of the lease), but starts no process. What it would have run is written down as a life: from the lease to its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bailiwick_api::agents::{Happened, Held, Poll, Register, Report, Slot, SlotKind};
use bailiwick_api::experiments::{ExperimentFilter, NewExperiment, State};
use bailiwick_api::queues::QueueSettings;
use bailiwick_api::users::NewServiceAccount;
use bailiwick_api::{AgentId, JobId, Time};
use bailiwick_client::{Client, Error};
use serde_json::json;
use tokio::sync::watch;

use crate::Outcome;
use crate::ground::{Bench, Kind, now_us};
use crate::table::{Row, Table, percentile, verdict};

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    #[arg(long, default_value_t = 100)]
    queues: usize,
    /// How many jobs are started as fast as they will
    #[arg(long, default_value_t = 6000)]
    jobs: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            agents: 1000,
            queues: 100,
            jobs: 6000,
        }
    }
}

/// Four polls, as real agents have it.
const LEASE: Duration = Duration::from_secs(120);
const SILENCE: Duration = Duration::from_secs(30);
const POLL_MS: i64 = 30_000;
const AT_REST: Duration = Duration::from_secs(30);
const STARTS: usize = 200;
const SUBMITTERS: usize = 16;
/// How long jobs run while agents are silent or killed.
const LONG: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);

/// What is asked of all agents.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Work,
    Silence,
    /// Those with a number below it are gone, and come back no more.
    Killed(usize),
}

/// One lease in the hands of one agent.
struct Life {
    job: JobId,
    agent: usize,
    from: Instant,
    to: Option<Instant>,
    completed: bool,
}

struct Fleet {
    orders: watch::Sender<Order>,
    lives: Mutex<Vec<Life>>,
    /// How long jobs run, in ms.
    run_ms: AtomicU64,
    registered: AtomicU64,
}

/// A job that an agent runs.
struct Running {
    held: Held,
    life: usize,
    until: tokio::time::Instant,
}

impl Fleet {
    fn begin(&self, agent: usize, job: JobId) -> usize {
        let mut lives = self.lives.lock().expect("no panic while the lock is held");
        lives.push(Life {
            job,
            agent,
            from: Instant::now(),
            to: None,
            completed: false,
        });
        lives.len() - 1
    }

    fn end(&self, life: usize, completed: bool) {
        let mut lives = self.lives.lock().expect("no panic while the lock is held");
        lives[life].to = Some(Instant::now());
        lives[life].completed = completed;
    }

    fn count(&self) -> usize {
        self.lives.lock().expect("no panic while the lock is held").len()
    }
}

/// One agent with one slot, until it is killed.
async fn agent(fleet: Arc<Fleet>, client: Client, number: usize, queue: String) -> Outcome<()> {
    let mut orders = fleet.orders.subscribe();
    let mut running: Option<Running> = None;
    let mut id: Option<AgentId> = None;
    let mut renewed = Instant::now();
    loop {
        let order = *orders.borrow_and_update();
        match order {
            Order::Killed(below) if number < below => {
                running.into_iter().for_each(|one| fleet.end(one.life, false));
                return Ok(());
            }
            Order::Silence => {
                let _ = orders.changed().await;
                if running.is_some() && renewed.elapsed() > LEASE * 9 / 10 {
                    running.take().into_iter().for_each(|one| fleet.end(one.life, false));
                }
                continue;
            }
            _ => {}
        }
        let turn = one_turn(&fleet, &client, number, &queue, &mut id, &mut running, &mut renewed);
        let outcome = tokio::select! {
            outcome = turn => outcome,
            // Its connection breaks with it.
            _ = orders.changed() => continue,
        };
        match outcome {
            Ok(()) => {}
            Err(why) if why.code() == Some("not_found") => id = None,
            Err(why) => return Err(format!("agent {number}: {why}")),
        }
    }
}

async fn one_turn(
    fleet: &Fleet,
    client: &Client,
    number: usize,
    queue: &str,
    id: &mut Option<AgentId>,
    running: &mut Option<Running>,
    renewed: &mut Instant,
) -> Result<(), Error> {
    let agent = match *id {
        Some(agent) => agent,
        None => {
            let agent = client.register_agent(&registration(number, queue)).await?.agent;
            fleet.registered.fetch_add(1, Ordering::Relaxed);
            *id = Some(agent);
            agent
        }
    };
    let now = tokio::time::Instant::now();
    if let Some(over) = running.take_if(|one| one.until <= now) {
        let ended = Happened::Ended {
            at: Time(now_us()),
            exit_code: Some(0),
            signal: None,
            reason: None,
            lost: false,
        };
        // Its end is its own: what is said again after a broken connection is heard once.
        fleet.end(over.life, true);
        loop {
            match client
                .report(agent, over.held.job, &report(over.held, ended.clone()))
                .await
            {
                Ok(()) => break,
                Err(Error::Refused { .. }) => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    let wait = running.as_ref().map_or(POLL_MS, |one| {
        i64::try_from((one.until - now).as_millis()).map_or(POLL_MS, |ms| ms.min(POLL_MS))
    });
    let asked = Instant::now();
    let answer = client
        .poll(
            agent,
            &Poll {
                held: running.iter().map(|one| one.held).collect(),
                free_slots: i64::from(running.is_none()),
                draining: false,
                wait_ms: wait,
                instance: format!("fleet-{number}"),
                load: None,
                usage: Vec::new(),
            },
        )
        .await?;
    *renewed = asked;
    if answer.drop.iter().any(|held| {
        running
            .as_ref()
            .is_some_and(|one| one.held.job == held.job && one.held.fence == held.fence)
    }) {
        running.take().into_iter().for_each(|one| fleet.end(one.life, false));
    }
    for lease in answer.start {
        let held = Held {
            job: lease.job,
            fence: lease.fence,
            stopping: false,
        };
        let life = fleet.begin(number, lease.job);
        let run = Duration::from_millis(fleet.run_ms.load(Ordering::Relaxed));
        *running = Some(Running {
            held,
            life,
            until: tokio::time::Instant::now() + run,
        });
        let started = Happened::Started { at: Time(now_us()) };
        client.report(agent, held.job, &report(held, started)).await?;
    }
    Ok(())
}

fn report(held: Held, what: Happened) -> Report {
    Report {
        fence: held.fence,
        usage: None,
        what,
    }
}

fn registration(number: usize, queue: &str) -> Register {
    Register {
        name: format!("fleet-{number}"),
        queues: vec![queue.into()],
        fair: false,
        slots: vec![Slot {
            index: 0,
            kind: SlotKind::Cpu,
            name: "processor".into(),
        }],
        hardware: Default::default(),
        instance: format!("fleet-{number}"),
        use_owner_token: false,
        vaults: true,
    }
}

pub async fn run(bench: &Bench, options: Options) -> Outcome<()> {
    let mut table = Table::default();
    for kind in bench.kinds() {
        measure(bench, kind, &options, &mut table).await?;
    }
    table.print(&format!(
        "{} agents of {} queues, each with a connection of its own",
        options.agents, options.queues
    ));
    Ok(())
}

async fn measure(bench: &Bench, kind: Kind, options: &Options, table: &mut Table) -> Outcome<()> {
    let place = bench.place(kind).await?;
    let lease = format!("{}s", LEASE.as_secs());
    let server = place
        .serve(&["--no-agent", "--lease-time", &lease, "--set", "on_lost_agent=requeue"])
        .await?;
    let admin = server.admin().await?;
    let fleet = Arc::new(Fleet {
        orders: watch::channel(Order::Work).0,
        lives: Mutex::default(),
        run_ms: AtomicU64::new(0),
        registered: AtomicU64::new(0),
    });
    let mut agents = tokio::task::JoinSet::new();
    for queue in 0..options.queues {
        let name = format!("fleet-{queue}");
        let settings = QueueSettings {
            name: Some(name.clone()),
            ..QueueSettings::default()
        };
        admin.create_queue(&settings).await.map_err(|why| why.to_string())?;
        let account = NewServiceAccount {
            name: name.clone(),
            serve: vec![name.clone()],
            impersonate: false,
        };
        let made = admin.create_service_account(&account).await;
        let key = made.map_err(|why| why.to_string())?.secret;
        let client = admin.with_key(Some(&key));
        for number in (queue..options.agents).step_by(options.queues) {
            agents.spawn(agent(fleet.clone(), client.clone(), number, name.clone()));
        }
    }
    wait_for("every agent registers", &mut agents, || {
        fleet.registered.load(Ordering::Relaxed) as usize == options.agents
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let name = kind.name();

    let (before, began) = (processor_time(server.process.id())?, Instant::now());
    tokio::time::sleep(AT_REST).await;
    let used = (processor_time(server.process.id())? - before).as_secs_f64() / began.elapsed().as_secs_f64();
    table.row(Row {
        what: format!("{name}: processor time of the server, all agents idle"),
        target: "<= 5.0 %".into(),
        measured: format!("{:.1} %", used * 100.0),
        floor: String::new(),
        ratio: String::new(),
        verdict: verdict(used <= 0.05),
    });

    let mut times = Vec::new();
    for number in 0..STARTS {
        let before = fleet.count();
        let began = Instant::now();
        submit(&admin, number % options.queues).await?;
        wait_for("a job starts", &mut agents, || fleet.count() > before).await?;
        let from = fleet.lives.lock().expect("no panic while the lock is held")[before].from;
        times.push(from - began);
    }
    let ms = Duration::from_millis;
    table.time(
        &format!("{name}: from submission to an agent's hand, median of {STARTS}"),
        Some(ms(100)),
        percentile(&mut times, 50),
        None,
    );
    table.time(
        &format!("{name}: the same, p99"),
        None,
        percentile(&mut times, 99),
        None,
    );

    let before = fleet.count();
    submit_many(&admin, options.jobs, options.queues).await?;
    wait_for("all jobs start", &mut agents, || fleet.count() >= before + options.jobs).await?;
    {
        let lives = fleet.lives.lock().expect("no panic while the lock is held");
        let (first, last) = (lives[before].from, lives[before + options.jobs - 1].from);
        let rate = (options.jobs - 1) as f64 / (last - first).as_secs_f64();
        table.rate(
            &format!("{name}: jobs submitted, started and ended, {}", options.jobs),
            Some(200.0),
            rate,
            None,
        );
    }
    check(
        &fleet,
        &admin,
        &mut agents,
        STARTS + options.jobs,
        |_| false,
        &format!("{name}: as fast as they will"),
        table,
    )
    .await?;

    // A job for each of half of the agents, and nobody is heard of for a while.
    fleet.run_ms.store(LONG.as_millis() as u64, Ordering::Relaxed);
    let half = options.agents / 2;
    let before = fleet.count();
    submit_many(&admin, half, options.queues).await?;
    wait_for("jobs start", &mut agents, || fleet.count() >= before + half).await?;
    fleet.orders.send_replace(Order::Silence);
    tokio::time::sleep(SILENCE).await;
    fleet.orders.send_replace(Order::Work);
    let all = STARTS + options.jobs + half;
    check(
        &fleet,
        &admin,
        &mut agents,
        all,
        |_| false,
        &format!("{name}: nobody heard of for 30 s"),
        table,
    )
    .await?;

    // As many again, and half of the agents are killed.
    let before = fleet.count();
    submit_many(&admin, half, options.queues).await?;
    wait_for("jobs start", &mut agents, || fleet.count() >= before + half).await?;
    let began = Instant::now();
    fleet.orders.send_replace(Order::Killed(half));
    let all = all + half;
    check(
        &fleet,
        &admin,
        &mut agents,
        all,
        |agent| agent < half,
        &format!("{name}: {half} agents killed at once"),
        table,
    )
    .await?;
    table.time(
        &format!(
            "{name}: until every job of theirs has run elsewhere (lease {} s, job {} s)",
            LEASE.as_secs(),
            LONG.as_secs()
        ),
        None,
        began.elapsed(),
        None,
    );
    agents.shutdown().await;
    server.process.stop()
}

async fn submit(admin: &Client, queue: usize) -> Outcome<()> {
    let new = NewExperiment {
        config: json!({"name": "fleet", "entrypoint": ["true"], "resources": {"queue": format!("fleet-{queue}"), "slots_per_trial": 1}, "max_restarts": 0}),
        code: None,
        args: Vec::new(),
    };
    admin
        .create_experiment(&new)
        .await
        .map(|_| ())
        .map_err(|why| why.to_string())
}

async fn submit_many(admin: &Client, jobs: usize, queues: usize) -> Outcome<()> {
    let mut submitters = tokio::task::JoinSet::new();
    for first in 0..SUBMITTERS {
        let admin = admin.clone();
        submitters.spawn(async move {
            for job in (first..jobs).step_by(SUBMITTERS) {
                submit(&admin, job % queues).await?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(outcome) = submitters.join_next().await {
        outcome.map_err(|why| why.to_string())??;
    }
    Ok(())
}

/// Until it is so; an agent that fails meanwhile ends the measurement.
async fn wait_for(what: &str, agents: &mut tokio::task::JoinSet<Outcome<()>>, is_so: impl Fn() -> bool) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        while let Some(ended) = agents.try_join_next() {
            ended.map_err(|why| why.to_string())??;
        }
        if Instant::now() > until {
            return Err(format!("waited {PATIENCE:?} in vain: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Every job there and completed, each by one life that no other overlaps, and more than one life only where an agent was killed.
async fn check(
    fleet: &Fleet,
    admin: &Client,
    agents: &mut tokio::task::JoinSet<Outcome<()>>,
    jobs: usize,
    killed: impl Fn(usize) -> bool,
    what: &str,
    table: &mut Table,
) -> Outcome<()> {
    let completed = |fleet: &Fleet| {
        let lives = fleet.lives.lock().expect("no panic while the lock is held");
        lives.iter().filter(|life| life.completed).count()
    };
    wait_for("every job is completed", agents, || completed(fleet) >= jobs).await?;
    let until = Instant::now() + Duration::from_secs(10);
    let open = loop {
        let mut open = 0;
        for state in [
            State::Queued,
            State::Starting,
            State::Running,
            State::Stopping,
            State::Error,
        ] {
            let filter = ExperimentFilter {
                state: Some(state),
                ..ExperimentFilter::default()
            };
            open += admin
                .experiments(&filter)
                .await
                .map_err(|why| why.to_string())?
                .items
                .len();
        }
        if open == 0 || Instant::now() > until {
            break open;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let lives = fleet.lives.lock().expect("no panic while the lock is held");
    let mut of_job: HashMap<JobId, Vec<&Life>> = HashMap::new();
    lives
        .iter()
        .for_each(|life| of_job.entry(life.job).or_default().push(life));
    let once = |lives: &Vec<&Life>| {
        let apart = lives
            .windows(2)
            .all(|pair| pair[0].to.is_some_and(|to| to <= pair[1].from));
        let again = lives[..lives.len() - 1].iter().all(|life| killed(life.agent));
        apart && again && lives.iter().filter(|life| life.completed).count() == 1
    };
    let wrong = of_job.values().filter(|lives| !once(lives)).count();
    let lost = jobs.saturating_sub(of_job.len()) + open;
    table.row(Row {
        what: format!("{what}: jobs lost, jobs run twice, of {jobs}"),
        target: "0, 0".into(),
        measured: format!("{lost}, {wrong}"),
        floor: String::new(),
        ratio: String::new(),
        verdict: verdict(lost == 0 && wrong == 0),
    });
    Ok(())
}

/// User and system time of a process and its threads.
fn processor_time(process: i32) -> Outcome<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).map_err(|why| why.to_string())?;
    // The name may hold anything; what follows its closing bracket does not.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let (user, system) = (ticks(11), ticks(12));
    let ticks = user.zip(system).map(|(user, system)| user + system);
    // A hundred a second on every Linux.
    ticks
        .map(|ticks| Duration::from_millis(ticks * 10))
        .ok_or_else(|| "no times in /proc".into())
}

//! The agent's conversation with the server: one long poll at a time, which renews all leases and brings work, orders to stop, and jobs that are no longer ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bailiwick_api::agents::{Held, JobLease, JobUsage, Poll, PollAnswer, Register, Registered, StopOrder};
use bailiwick_api::experiments::{Stop, Usage};
use bailiwick_api::{AgentId, JobId};
use bailiwick_client::{Client, Error};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::cgroup::Cgroups;
use crate::code::Cache;
use crate::job_dir::{JobDir, StopFile, boot_ms, disk_use, exact_duration, size_words, write_whole};
use crate::load::Meter;
use crate::settings::{InForce, Section};
use crate::slots::{self, Slots};
use crate::tree;
use crate::watch::Watch;
use crate::{Isolate, Options, Settings, doctor};

/// Longest wait of a poll.
const WAIT_MS: i64 = 30_000;
/// What jobs use is told at most this often.
const USAGE_PAUSE_MS: i64 = 5000;
/// Settings that could not be used are asked for again after so long.
const LOOK_AGAIN_MS: i64 = 30_000;
/// Jobs that need no slot.
const SLOTLESS_JOBS_MAX: usize = 64;
/// A predecessor gets so long to let go of the directory.
const PREDECESSOR: Duration = Duration::from_secs(10);
const DISK_CHECK: Duration = Duration::from_secs(5);

/// Takes jobs until told to end (SIGTERM, SIGINT, or the end of standard input where asked for). Running jobs go on and are found again by the next agent.
///
/// # Errors
/// What keeps it from starting, in words. Trouble with the server is none: it waits and tries again.
pub async fn run(options: Options) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|why| why.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| why.to_string())?;
    crate::shim::ignore_broken_pipes();
    let stdin_ends = options.stop_on_stdin_end;
    let (agent, _lock) = Agent::prepare(options).await?;
    agent.adopt()?;
    tokio::spawn(watch_disk(agent.clone()));
    tokio::select! {
        refused = agent.clone().serve() => return Err(refused),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = end_of_stdin(), if stdin_ends => {}
    }
    let running = agent.state().jobs.values().filter(|entry| !entry.ended).count();
    if running > 0 {
        let (jobs, keep) = if running == 1 {
            ("job", "keeps")
        } else {
            ("jobs", "keep")
        };
        eprintln!(
            "agent: ended; {running} {jobs} {keep} running, and an agent started again with {} finds them",
            agent.dir.display()
        );
    }
    Ok(())
}

async fn end_of_stdin() {
    let (send, receive) = tokio::sync::oneshot::channel();
    // A thread of its own, not one of the runtime's: those are waited for at the end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = send.send(());
    });
    let _ = receive.await;
}

pub struct Agent {
    pub options: Options,
    pub client: Client,
    /// Without links in it, unlike the one in the options.
    pub dir: PathBuf,
    pub slots: Slots,
    pub cgroups: Cgroups,
    pub cache: Cache,
    pub watch: Option<Watch>,
    meter: Meter,
    /// Tells this agent from another one of the same name; kept in its directory.
    instance: String,
    /// Something in the state changed that the server should hear of.
    pub changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// As the server knows us; `None` until registered.
    pub agent: Option<AgentId>,
    pub lease_ms: i64,
    pub jobs: BTreeMap<(JobId, i64), Entry>,
    /// The server has answered a poll: what it did not want dropped is ours.
    pub answered: bool,
    /// What holds for jobs that begin from now on.
    pub in_force: InForce,
    /// Why the settings that vaults give it cannot be used: it takes no work until they can.
    unusable: Option<String>,
    registered_ms: i64,
    /// Queues that it was told it may not serve (any more), and why.
    not_served: BTreeMap<String, String>,
    /// Why the server lets it not even begin.
    refused: Option<String>,
    disk_full: bool,
    /// When the server was last told what jobs use.
    usage_told_ms: i64,
    /// Said once each, not with every try.
    said: BTreeSet<String>,
    start_told: bool,
}

/// A job that this agent has.
pub struct Entry {
    pub dir: JobDir,
    pub slots: Vec<u32>,
    pub slots_wanted: i64,
    pub grace_ms: i64,
    pub deadline_ms: i64,
    deadline_written_ms: i64,
    /// Told to stop.
    pub stopping: bool,
    /// Not ours any more: to be ended without a report.
    pub dropping: bool,
    /// Its processes are gone; its slots are free.
    pub ended: bool,
    /// What it uses, as the server was told.
    usage: Option<Usage>,
    /// Wakes the job's task.
    pub wake: Arc<Notify>,
}

impl Agent {
    async fn prepare(options: Options) -> Result<(Arc<Agent>, File), String> {
        let at = |why: std::io::Error| format!("{}: {why}", options.dir.display());
        let client = Client::new(&options.server, Some(&options.key), options.ca.as_deref());
        let client = client.map_err(|why| why.to_string())?;
        let open = |mode: u32| {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(mode);
            builder
        };
        // A job's own user must be able to pass these two, not to list them.
        open(0o711).create(&options.dir).map_err(at)?;
        let dir = options.dir.canonicalize().map_err(at)?;
        open(0o711).create(dir.join("jobs")).map_err(at)?;
        let lock = lock(&dir).await?;
        let slots = Slots::find(options.slots, options.gpus.as_deref())?;
        let watch = Watch::new()
            .inspect_err(|why| tracing::warn!(%why, "files cannot be watched; logs arrive a little later"))
            .ok();
        let none = Settings::default();
        let in_force = InForce::of(&options.configured, &none, &options.given, &none);
        if in_force.isolate == Isolate::Require {
            doctor::can_isolate(&dir)?;
        }
        let agent = Agent {
            client,
            meter: Meter::new(&dir, &slots.list),
            slots,
            cgroups: Cgroups::prepare(),
            cache: Cache::open(dir.join("code")).map_err(at)?,
            watch,
            instance: instance(&dir).map_err(at)?,
            changed: Notify::new(),
            state: Mutex::new(State {
                in_force,
                ..State::default()
            }),
            dir,
            options,
        };
        Ok((Arc::new(agent), lock))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Logs a message the first time only.
    pub fn say_once(&self, message: String) {
        if self.state().said.insert(message.clone()) {
            tracing::warn!("{message}");
            eprintln!("agent: {message}");
        }
    }

    /// Takes up the jobs that an earlier agent with this directory left, and ends processes of those that it did not.
    fn adopt(self: &Arc<Agent>) -> Result<(), String> {
        let jobs = self.dir.join("jobs");
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&jobs)
            .map_err(|why| format!("{}: {why}", jobs.display()))?
            .flatten()
        {
            let dir = JobDir(entry.path());
            let spec = dir.held().and_then(|held| Some((held, dir.spec().ok()?)));
            let Some((held, spec)) = spec else {
                crate::job::remove(&dir);
                continue;
            };
            names.insert(entry.file_name().to_string_lossy().into_owned());
            let taken = Entry {
                slots: spec.slots.clone(),
                slots_wanted: spec.lease.slots,
                grace_ms: spec.lease.grace_ms,
                deadline_ms: dir.deadline_ms().unwrap_or(0),
                deadline_written_ms: 0,
                stopping: dir.stop().is_some(),
                dropping: false,
                ended: dir.ended().is_some(),
                usage: None,
                wake: Arc::default(),
                dir: dir.clone(),
            };
            self.state().jobs.insert((held.job, held.fence), taken);
            tokio::spawn(crate::job::take_up(self.clone(), (held.job, held.fence)));
        }
        let killed = tree::kill_leftovers(&jobs, &names);
        if killed > 0 {
            tracing::warn!(
                processes = killed,
                "ended what was left of jobs that are not here any more"
            );
        }
        Ok(())
    }

    /// Ends only where the server refuses it from the start for a reason that waiting does not mend; gives that reason.
    async fn serve(self: Arc<Agent>) -> String {
        let mut backoff = Backoff::default();
        let mut answered_ms = 0;
        let mut empty_answers = 0;
        loop {
            let Some(agent) = self.registered(&mut backoff).await else {
                let refused = self.state().refused.take();
                match refused {
                    Some(why) => return why,
                    None => continue,
                }
            };
            let lease_ms = self.state().lease_ms;
            // Two polls must fit into a lease with room to spare: the second one's answer renews what the first one's sending began.
            let (unusable, registered_ms) = {
                let state = self.state();
                (state.unusable.is_some(), state.registered_ms)
            };
            if unusable && boot_ms() - registered_ms >= LOOK_AGAIN_MS {
                // Somebody may have mended the vault.
                self.state().agent = None;
                continue;
            }
            let most = if unusable || self.uses_more() || !self.meter.is_whole() {
                USAGE_PAUSE_MS
            } else {
                WAIT_MS
            };
            let wait_ms = (lease_ms / 4).clamp(100, most);
            // Polls given up one after the other would renew nothing: now and then one is seen through.
            let see_through = boot_ms() - answered_ms >= wait_ms;
            let poll = self.compose(if see_through { 0 } else { wait_ms });
            let sent_ms = boot_ms();
            let answer = if see_through {
                self.client.poll(agent, &poll).await
            } else {
                tokio::select! {
                    answer = self.client.poll(agent, &poll) => answer,
                    () = self.changed.notified() => continue,
                }
            };
            match answer {
                Ok(answer) => {
                    backoff.reset();
                    self.forgive();
                    answered_ms = boot_ms();
                    self.note_told(&poll.usage);
                    self.meter.note_told(poll.load);
                    if let Some(why) = &answer.refused {
                        self.say_once(format!("takes no jobs: {why}"));
                    } else {
                        self.state()
                            .said
                            .retain(|message| !message.starts_with("takes no jobs"));
                    }
                    self.note_queues(&answer.not_served);
                    self.renew(&poll.held, &answer.drop, sent_ms, lease_ms);
                    let news = self.obey(answer, sent_ms, lease_ms);
                    self.note_answered();
                    // An answer at once that tells nothing new would come again and again.
                    let early = !see_through && boot_ms() - sent_ms < wait_ms / 2;
                    empty_answers = if early && !news { empty_answers + 1 } else { 0 };
                    if empty_answers > 5 {
                        tokio::time::sleep(Duration::from_millis((10 << (empty_answers - 5).min(5)).min(250))).await;
                    }
                }
                Err(why) if why.status() == Some(404) => {
                    tracing::info!("the server does not know this agent (any more): registering again");
                    self.state().agent = None;
                }
                Err(why) => self.wait_after(&why, &mut backoff).await,
            }
        }
    }

    /// Whether a running job uses something else than the server was told.
    fn uses_more(&self) -> bool {
        let state = self.state();
        let mut running = state.jobs.values().filter(|entry| !entry.ended && !entry.dropping);
        running.any(|entry| entry.usage.is_none() || entry.dir.usage() != entry.usage)
    }

    fn note_told(&self, usage: &[JobUsage]) {
        if usage.is_empty() {
            return;
        }
        let mut state = self.state();
        state.usage_told_ms = boot_ms();
        for one in usage {
            if let Some(entry) = state.jobs.get_mut(&(one.job, one.fence)) {
                entry.usage = Some(one.usage);
            }
        }
    }

    /// Jobs taken up before they had started wait for this.
    fn note_answered(&self) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.answered, true) {
            state.jobs.values().for_each(|entry| entry.wake.notify_one());
        }
    }

    /// After success the same trouble is worth saying again.
    fn forgive(&self) {
        let mut state = self.state();
        let before = state.said.len();
        state.said.retain(|message| !message.starts_with(SERVER_TROUBLE));
        if state.said.len() < before {
            tracing::info!("the server takes this agent again");
            eprintln!("agent: {} takes this agent again", self.client.server());
        }
    }

    /// Whoever started it in the background waits for the first word of how that went.
    fn tell_start(&self, word: &str, what: &str) {
        if self.options.tell_start && !std::mem::replace(&mut self.state().start_told, true) {
            let mut out = std::io::stdout().lock();
            // It may have gone; then nobody waits.
            let _ = writeln!(out, "{word} {}", what.replace('\n', " ")).and_then(|()| out.flush());
        }
    }

    async fn wait_after(&self, why: &Error, backoff: &mut Backoff) {
        match why.status() {
            // 404: a queue that it may not even see.
            Some(status @ (401 | 403 | 404)) => {
                let hint = why.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                let words = match status {
                    401 => {
                        "; those that run end with their leases: its key was revoked or has ended, or its account was removed"
                    }
                    _ => "",
                };
                let server = self.client.server();
                self.tell_start("refused", &format!("{server} refuses this agent: {why}{hint}"));
                self.say_once(format!(
                    "{SERVER_TROUBLE} {server} refuses this agent, which takes no work until then: {why}{hint}{words}; trying again"
                ));
                backoff.at_least(5000);
            }
            _ => {
                self.tell_start("refused", &why.to_string());
                self.say_once(format!("{SERVER_TROUBLE} {why}; trying again, running jobs go on"));
            }
        }
        backoff.wait().await;
    }

    async fn registered(&self, backoff: &mut Backoff) -> Option<AgentId> {
        if let Some(agent) = self.state().agent {
            return Some(agent);
        }
        let mut register = Register {
            name: self.options.name.clone(),
            queues: self.options.queues.clone(),
            fair: self.state().in_force.fair,
            slots: self.slots.list.clone(),
            hardware: slots::hardware(),
            instance: self.instance.clone(),
            use_owner_token: self.options.use_owner_token,
            vaults: true,
        };
        let mut answer = self.client.register_agent(&register).await;
        if let Ok(registered) = &answer {
            self.take_settings(registered).await;
            let fair = self.state().in_force.fair;
            if fair != register.fair {
                // The server deals out the work: it is told what its own answer has changed.
                register.fair = fair;
                answer = self.client.register_agent(&register).await;
            }
        }
        match answer {
            Ok(registered) => {
                backoff.reset();
                self.forgive();
                let unusable = self.state().unusable.clone();
                match unusable {
                    Some(why) => self.tell_start("refused", &why),
                    None => self.tell_start("registered", &registered.agent.to_string()),
                }
                let mut state = self.state();
                state.agent = Some(registered.agent);
                state.registered_ms = boot_ms();
                state.lease_ms = registered.lease_ms.max(1000);
                tracing::info!(agent = registered.agent.0, slots = self.slots.list.len(), "registered");
                // Reports that were refused in the meantime can go on.
                state.jobs.values().for_each(|entry| entry.wake.notify_one());
                Some(registered.agent)
            }
            // Registered before, it goes on with the jobs it has, and waits until it may again.
            Err(why) if why.code() == Some("may_not_impersonate") && !self.state().answered => {
                let mut words = why.to_string();
                if let Some(hint) = why.hint() {
                    words.push_str(&format!("\nhint: {hint}"));
                }
                self.state().refused = Some(words);
                None
            }
            Err(why) => {
                self.wait_after(&why, backoff).await;
                None
            }
        }
    }

    /// What the vaults of its account say for it, from now on. It never goes on without what cannot be used.
    async fn take_settings(&self, registered: &Registered) {
        let read = |section| Section::read(section);
        let of_vaults = read(&registered.settings).and_then(|vault| Ok((vault, read(&registered.enforced)?)));
        let usable = match of_vaults {
            Ok((vault, enforced)) => self.put_in_force(&vault, &enforced).await,
            Err(why) => Err(why),
        };
        match &usable {
            Ok(()) => self.state().said.retain(|message| !message.starts_with(UNUSABLE)),
            Err(why) => self.say_once(format!(
                "{UNUSABLE}: {why}; it takes no work until that is mended in the vault of its account (or of one of its groups)"
            )),
        }
        self.state().unusable = usable.err();
    }

    async fn put_in_force(&self, vault: &Section, enforced: &Section) -> Result<(), String> {
        let (configured, given) = (&self.options.configured, &self.options.given);
        let force = InForce::of(configured, &vault.settings, given, &enforced.settings);
        if force.isolate == Isolate::Require {
            let dir = self.dir.clone();
            let held = tokio::task::spawn_blocking(move || doctor::can_isolate(&dir)).await;
            held.unwrap_or_else(|why| Err(why.to_string()))?;
        }
        self.state().in_force = force;
        for (section, words) in [(vault, "from vaults"), (enforced, "from enforced vaults")] {
            if !section.names.is_empty() {
                self.say_once(format!("settings {words}: {}", section.names.join(", ")));
            }
            if !section.ignored.is_empty() {
                let ignored = section.ignored.join(", ");
                self.say_once(format!(
                    "settings {words} left out, which describe the machine and stand on the command line: {ignored}"
                ));
            }
        }
        Ok(())
    }

    /// Says which queues have been taken from it, and which it has again.
    fn note_queues(&self, not_served: &BTreeMap<String, String>) {
        let before = std::mem::replace(&mut self.state().not_served, not_served.clone());
        let say = |message: String| {
            tracing::warn!("{message}");
            eprintln!("agent: {message}");
        };
        for (queue, why) in not_served.iter().filter(|(queue, _)| !before.contains_key(*queue)) {
            say(format!(
                "takes nothing from the queue `{queue}` any more, and goes on with the others: {why}"
            ));
        }
        for queue in before.keys().filter(|queue| !not_served.contains_key(*queue)) {
            say(format!("takes jobs from the queue `{queue}` again"));
        }
    }

    fn compose(&self, wait_ms: i64) -> Poll {
        let disk_full = slots::disk_space(&self.dir).is_some_and(|(free, total)| free < slots::least_free(total));
        let load = self.meter.measure(USAGE_PAUSE_MS);
        let mut state = self.state();
        state.disk_full = disk_full;
        let takes_nothing = disk_full || state.unusable.is_some();
        let held = state
            .jobs
            .iter()
            .filter(|(_, entry)| !entry.dropping)
            .map(|((job, fence), entry)| Held {
                job: *job,
                fence: *fence,
                stopping: entry.stopping,
            })
            .collect();
        let due = boot_ms() - state.usage_told_ms >= USAGE_PAUSE_MS;
        let usage = state
            .jobs
            .iter()
            .filter(|(_, entry)| due && !entry.ended && !entry.dropping);
        let usage = usage.filter_map(|((job, fence), entry)| {
            let usage = entry.dir.usage().filter(|usage| Some(*usage) != entry.usage)?;
            Some(JobUsage {
                job: *job,
                fence: *fence,
                usage,
            })
        });
        let usage = usage.collect();
        Poll {
            usage,
            held,
            free_slots: if takes_nothing {
                0
            } else {
                self.free_slots(&state).len() as i64
            },
            draining: takes_nothing,
            wait_ms,
            instance: self.instance.clone(),
            load,
        }
    }

    fn free_slots(&self, state: &State) -> Vec<u32> {
        let used: BTreeSet<u32> = state
            .jobs
            .values()
            .filter(|entry| !entry.ended)
            .flat_map(|entry| entry.slots.iter().copied())
            .collect();
        self.slots
            .list
            .iter()
            .map(|slot| slot.index)
            .filter(|index| !used.contains(index))
            .collect()
    }

    fn renew(&self, held: &[Held], dropped: &[Held], sent_ms: i64, lease_ms: i64) {
        let deadline = deadline(sent_ms, lease_ms);
        let mut state = self.state();
        for held in held {
            if dropped
                .iter()
                .any(|dropped| (dropped.job, dropped.fence) == (held.job, held.fence))
            {
                continue;
            }
            if let Some(entry) = state.jobs.get_mut(&(held.job, held.fence)) {
                entry.deadline_ms = deadline;
                // Not with every poll of a busy agent: that many files would be the most of its work.
                if deadline - entry.deadline_written_ms >= lease_ms / 20
                    && !entry.ended
                    && entry.dir.write_deadline(deadline).is_ok()
                {
                    entry.deadline_written_ms = deadline;
                }
            }
        }
    }

    /// Whether there was anything to do.
    fn obey(self: &Arc<Agent>, answer: PollAnswer, sent_ms: i64, lease_ms: i64) -> bool {
        let mut news = false;
        for held in answer.drop {
            news |= self.drop_job((held.job, held.fence));
        }
        for order in answer.stop {
            news |= self.stop(&order);
        }
        for lease in answer.start {
            news |= self.start(lease, deadline(sent_ms, lease_ms));
        }
        news
    }

    /// Ends a job that belongs to somebody else by now, without a report.
    pub fn drop_job(&self, key: (JobId, i64)) -> bool {
        let mut state = self.state();
        let Some(entry) = state.jobs.get_mut(&key).filter(|entry| !entry.dropping) else {
            return false;
        };
        tracing::info!(
            job = key.0.0,
            fence = key.1,
            "the job is not this agent's any more: ending it"
        );
        entry.dropping = true;
        let _ = entry.dir.write_stop(&StopFile {
            how: Stop::Kill,
            reason: None,
            line: None,
            lost: true,
        });
        entry.wake.notify_one();
        true
    }

    fn stop(&self, order: &StopOrder) -> bool {
        let mut state = self.state();
        let Some(entry) = state.jobs.get_mut(&(order.job, order.fence)) else {
            return false;
        };
        let line = match order.how {
            Stop::Cancel => format!("canceled: SIGTERM sent, SIGKILL in {}", exact_duration(entry.grace_ms)),
            Stop::Kill => "killed: SIGKILL sent".to_owned(),
        };
        let file = StopFile {
            how: order.how,
            reason: None,
            line: Some(line),
            lost: false,
        };
        // An order that was lost on the way to us is given again; one that has been obeyed is not.
        if entry.ended || entry.dir.stop().as_ref() == Some(&file) {
            let news = !entry.stopping;
            entry.stopping = true;
            return news;
        }
        entry.stopping = true;
        if let Err(why) = entry.dir.write_stop(&file) {
            // Without a directory yet: the job's task looks at `stopping` before it starts anything.
            tracing::debug!(%why, job = order.job.0, "the order to stop came before the job's directory");
        }
        entry.wake.notify_one();
        true
    }

    fn start(self: &Arc<Agent>, lease: JobLease, deadline_ms: i64) -> bool {
        let key = (lease.job, lease.fence);
        let older: Vec<(JobId, i64)> = {
            let state = self.state();
            if state.jobs.contains_key(&key) {
                return false;
            }
            state
                .jobs
                .keys()
                .filter(|(job, _)| *job == lease.job)
                .copied()
                .collect()
        };
        if !older.is_empty() {
            // Never twice at once: the new lease is given again once the old processes are gone.
            for key in older {
                self.drop_job(key);
            }
            return false;
        }
        let mut state = self.state();
        let wanted = usize::try_from(lease.slots).unwrap_or(0);
        let mut slots = self.free_slots(&state);
        let slotless = state
            .jobs
            .values()
            .filter(|entry| !entry.ended && entry.slots_wanted == 0)
            .count();
        if slots.len() < wanted
            || (wanted == 0 && slotless >= SLOTLESS_JOBS_MAX)
            || state.disk_full
            || state.unusable.is_some()
        {
            return false;
        }
        slots.truncate(wanted);
        let entry = Entry {
            dir: JobDir::of(&self.dir, lease.job, lease.fence),
            slots,
            slots_wanted: lease.slots,
            grace_ms: lease.grace_ms,
            deadline_ms,
            deadline_written_ms: deadline_ms,
            stopping: false,
            dropping: false,
            ended: false,
            usage: None,
            wake: Arc::default(),
        };
        state.jobs.insert(key, entry);
        tokio::spawn(crate::job::run_new(self.clone(), lease));
        true
    }
}

const SERVER_TROUBLE: &str = "server:";
const UNUSABLE: &str = "settings from vaults cannot be used";

/// Until when a job may run that was renewed by a poll sent at `sent_ms`: a tenth is kept back for ending it.
fn deadline(sent_ms: i64, lease_ms: i64) -> i64 {
    sent_ms + lease_ms / 10 * 9
}

/// A random word, made once and kept in the directory.
fn instance(dir: &Path) -> std::io::Result<String> {
    let path = dir.join("instance");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if !kept.trim().is_empty() {
        return Ok(kept.trim().to_owned());
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let word: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write_whole(&path, word.as_bytes())?;
    Ok(word)
}

/// The process of the agent that uses this directory, if there is one. 0: it has only just begun.
pub fn running(dir: &Path) -> Option<i32> {
    let mut file = File::open(dir.join("lock")).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut process = String::new();
    let _ = file.read_to_string(&mut process);
    Some(process.trim().parse().unwrap_or(0))
}

/// Ends the agent that uses this directory, as SIGTERM does, and waits until it has. Its jobs run on.
///
/// # Errors
/// In words: there is none, it is another user's, or it does not end.
pub fn stop(dir: &Path, patience: Duration) -> Result<i32, String> {
    let until = std::time::Instant::now() + patience;
    let mut told = 0;
    loop {
        match running(dir) {
            None if told == 0 => return Err(format!("no agent runs with the directory {}", dir.display())),
            None => return Ok(told),
            Some(process) if process != told && process > 0 => {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGTERM)
                    .map_err(|why| format!("process {process} cannot be told to end: {why}"))?;
                told = process;
            }
            Some(_) => {}
        }
        if std::time::Instant::now() > until {
            return Err(format!("process {told} was told to end and has not"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn lock(dir: &Path) -> Result<File, String> {
    let path = dir.join("lock");
    let at = |why: std::io::Error| format!("{}: {why}", path.display());
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at)?;
    let until = tokio::time::Instant::now() + PREDECESSOR;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(why)) => return Err(at(why)),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(TryLockError::WouldBlock) => {
                let mut who = String::new();
                let _ = (&file).read_to_string(&mut who);
                return Err(format!(
                    "another agent (process {}) uses {}; give this one a directory of its own",
                    who.trim(),
                    dir.display()
                ));
            }
        }
    }
    file.set_len(0).map_err(at)?;
    (&file)
        .write_all(std::process::id().to_string().as_bytes())
        .map_err(at)?;
    Ok(file)
}

/// Ends the job that takes the most when the disk is nearly full.
async fn watch_disk(agent: Arc<Agent>) {
    loop {
        tokio::time::sleep(DISK_CHECK).await;
        if agent.state().jobs.is_empty() {
            continue;
        }
        let Some((free, total)) = slots::disk_space(&agent.dir) else {
            continue;
        };
        let full = free < slots::least_free(total);
        if std::mem::replace(&mut agent.state().disk_full, full) != full {
            agent.changed.notify_one();
        }
        if !full {
            continue;
        }
        let running: Vec<((JobId, i64), JobDir)> = {
            let state = agent.state();
            // One that is being ended already gives its space back in a moment.
            if state
                .jobs
                .values()
                .any(|entry| entry.dropping || (entry.stopping && !entry.ended))
            {
                continue;
            }
            let running = state.jobs.iter().filter(|(_, entry)| !entry.ended);
            running.map(|(key, entry)| (*key, entry.dir.clone())).collect()
        };
        let sizes =
            tokio::task::spawn_blocking(move || running.into_iter().map(|(key, dir)| (disk_use(&dir.0), key)).max());
        let Ok(Some((bytes, key))) = sizes.await else { continue };
        let reason = format!(
            "the agent's disk is nearly full; this job's directory was the largest ({})",
            size_words(bytes)
        );
        if let Some(entry) = agent.state().jobs.get_mut(&key) {
            tracing::warn!(job = key.0.0, "{reason}");
            let stop = StopFile {
                how: Stop::Kill,
                line: Some(format!("{reason}: killed")),
                reason: Some(reason),
                lost: false,
            };
            let _ = entry.dir.write_stop(&stop);
        }
    }
}

/// Waits between tries: from 0.1 s to 5 s, each drawn from the upper half, so that many agents do not come back at the same moment.
#[derive(Debug, Default)]
pub struct Backoff {
    ms: u64,
}

impl Backoff {
    pub fn reset(&mut self) {
        self.ms = 0;
    }

    fn at_least(&mut self, ms: u64) {
        self.ms = self.ms.max(ms / 2);
    }

    pub fn next(&mut self) -> Duration {
        self.ms = (self.ms * 2).clamp(100, 5000.max(self.ms));
        let mut byte = [0; 2];
        // Without randomness all wait the same, which is no disaster.
        let _ = getrandom::fill(&mut byte);
        Duration::from_millis(self.ms / 2 + self.ms * u64::from(u16::from_le_bytes(byte)) / 65_536 / 2)
    }

    pub async fn wait(&mut self) {
        let pause = self.next();
        tokio::time::sleep(pause).await;
    }
}

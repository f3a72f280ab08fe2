//! One job, from its lease to the moment at which the server has its log and its end.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_api::agents::{Happened, JobLease, Report};
use bailiwick_api::experiments::Stream;
use bailiwick_api::{AgentId, JobId};
use bailiwick_client::Error;
use futures_util::StreamExt;
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::agent::{Agent, Backoff};
use crate::code::{self, Bounds};
use crate::isolation;
use crate::job_dir::{JobDir, Spec, ended, now, to_json, write_whole};
use crate::mask::Mask;
use crate::shim::make_places;
use crate::slots;
use crate::spool::{BATCH_BYTES_MAX, Batch, Reader, Writer};
use crate::tree;
use crate::vault;
use crate::watch::Process;

/// Lines that come in quick succession travel together.
const GATHER: Duration = Duration::from_millis(25);
/// Where files cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

type Key = (JobId, i64);

/// Why a job goes no further here.
enum Stopped {
    /// The server has given it to somebody else, or does not want it any more.
    LeaseLost,
    /// It cannot start; to be reported.
    CannotStart { reason: String, lost: bool },
}

/// Runs a job just leased.
pub async fn run_new(agent: Arc<Agent>, lease: JobLease) {
    let job = Job::of(agent, (lease.job, lease.fence));
    let prepared = match job.write_spec(lease) {
        Ok(spec) => job.begin(&spec).await,
        Err(why) => Err(Stopped::CannotStart {
            reason: format!("cannot start: its directory cannot be made: {why}"),
            lost: true,
        }),
    };
    job.go_on(prepared).await;
}

/// Takes up a job of an earlier agent.
pub async fn take_up(agent: Arc<Agent>, key: Key) {
    let job = Job::of(agent, key);
    let prepared = if job.dir.path("shim.lock").exists() {
        job.find_shim().await.map_err(|why| Stopped::CannotStart {
            reason: format!("its supervisor cannot be found: {why}"),
            lost: true,
        })
    } else {
        // Never started: only once the server has said that it is still ours.
        while !job.agent.state().answered {
            job.wake.notified().await;
        }
        match job.dir.spec() {
            Ok(spec) => job.begin(&spec).await,
            Err(why) => Err(Stopped::CannotStart {
                reason: why.to_string(),
                lost: true,
            }),
        }
    };
    job.go_on(prepared).await;
}

struct Job {
    agent: Arc<Agent>,
    key: Key,
    dir: JobDir,
    wake: Arc<Notify>,
}

impl Job {
    fn of(agent: Arc<Agent>, key: Key) -> Job {
        let (dir, wake) = {
            let state = agent.state();
            let entry = &state.jobs[&key];
            (entry.dir.clone(), entry.wake.clone())
        };
        Job { agent, key, dir, wake }
    }

    async fn go_on(self, prepared: Result<Option<Process>, Stopped>) {
        let shim = match prepared {
            Ok(shim) => shim,
            Err(Stopped::LeaseLost) => {
                self.agent.drop_job(self.key);
                None
            }
            Err(Stopped::CannotStart { reason, lost }) => {
                self.write_end(&reason, &reason, lost).await;
                None
            }
        };
        self.follow(shim).await;
        // Not held any more; but until its directory is gone the same job does not begin anew.
        if let Some(entry) = self.agent.state().jobs.get_mut(&self.key) {
            entry.dropping = true;
        }
        self.clear().await;
        self.agent.state().jobs.remove(&self.key);
        self.agent.changed.notify_one();
    }

    fn write_spec(&self, mut lease: JobLease) -> io::Result<Spec> {
        let agent = &self.agent;
        let (slots, deadline) = {
            let state = agent.state();
            let entry = &state.jobs[&self.key];
            (entry.slots.clone(), entry.deadline_ms)
        };
        let force = agent.state().in_force.clone();
        lease.vault.secrets.extend(force.secrets);
        // Whoever reads the log could work with it, as long as the job runs.
        lease.vault.secrets.push(lease.token.clone());
        let mut hide = force.protect;
        hide.push(agent.dir.clone());
        let spec = Spec {
            server: agent.client.server().to_owned(),
            slot_kind: agent.slots.kind(),
            slots,
            has_gpus: agent.slots.has_gpus,
            isolate: force.isolate,
            user: isolation::own_user(force.isolate, lease.job.0),
            hide,
            default_env: force.default_env,
            job_env: force.job_env,
            enforced_env: force.enforced_env,
            path: std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into()),
            lang: std::env::var("LANG").unwrap_or_else(|_| "C.UTF-8".into()),
            cgroups: agent.cgroups.clone(),
            group: self.group(),
            lease,
        };
        remove(&self.dir);
        fs::DirBuilder::new().mode(0o711).create(&self.dir.0)?;
        self.dir.write_deadline(deadline)?;
        write_whole(&self.dir.path("spec.json"), &to_json(&spec))?;
        Ok(spec)
    }

    /// Unpacks the code, writes what vaults give, and starts the shim.
    async fn begin(&self, spec: &Spec) -> Result<Option<Process>, Stopped> {
        let cannot = |what: &str, why: io::Error| Stopped::CannotStart {
            reason: format!("cannot start: {what}: {why}"),
            lost: true,
        };
        for place in ["work", "tmp", "spool", "control"] {
            let path = self.dir.path(place);
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        make_places(&self.dir, spec.user).map_err(|why| cannot("its directory cannot be made", why))?;
        let fifo = nix::unistd::mkfifo(&self.dir.path("control"), Mode::S_IRUSR | Mode::S_IWUSR);
        fifo.map_err(|why| cannot("its directory cannot be made", why.into()))?;
        if let Some(sha256) = &spec.lease.code {
            tokio::select! {
                unpacked = self.unpack(sha256, spec) => unpacked?,
                stopped = self.stopped() => return Err(stopped),
            }
        }
        self.apply_vault(spec).await?;
        if self.stop_asked() {
            return Err(self.stopped().await);
        }
        self.spawn()
            .map(Some)
            .map_err(|why| cannot("its supervisor does not start", why))
    }

    /// A job whose vaults cannot be applied ends with the reason: another machine could do no better, and without them it would be another job.
    async fn apply_vault(&self, spec: &Spec) -> Result<(), Stopped> {
        if spec.lease.vault.is_empty() {
            return Ok(());
        }
        let (given, work, user) = (spec.lease.vault.clone(), self.dir.work(), spec.user);
        let applied = tokio::task::spawn_blocking(move || {
            vault::check_variables(&given)?;
            Mask::of(&given.secrets)?;
            vault::write_files(&work, &given.files, user)
        });
        let applied = applied.await.unwrap_or_else(|why| Err(why.to_string()));
        applied.map_err(|why| Stopped::CannotStart {
            reason: format!("cannot start: {why}"),
            lost: false,
        })
    }

    fn stop_asked(&self) -> bool {
        let state = self.agent.state();
        state
            .jobs
            .get(&self.key)
            .is_none_or(|entry| entry.stopping || entry.dropping)
    }

    /// Waits until the job is to be stopped before it has started.
    async fn stopped(&self) -> Stopped {
        while !self.stop_asked() {
            self.wake.notified().await;
        }
        Stopped::CannotStart {
            reason: "ended before it started".into(),
            lost: false,
        }
    }

    async fn unpack(&self, sha256: &str, spec: &Spec) -> Result<(), Stopped> {
        let archive = match self.agent.cache.find(sha256) {
            Some(archive) => archive,
            None => self.fetch(sha256).await?,
        };
        let space = slots::disk_space(&self.agent.dir).map_or(u64::MAX, |(free, _)| free / 2);
        let limit = spec
            .lease
            .limits
            .disk_mb
            .map_or(u64::MAX, |mb| (mb as u64).saturating_mul(1_000_000));
        let bounds = Bounds {
            bytes: space.min(limit),
            user: spec.user,
        };
        let into = self.dir.work();
        let unpacked = tokio::task::spawn_blocking(move || code::unpack(io::BufReader::new(archive), &into, bounds));
        match unpacked.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(Stopped::CannotStart { reason, lost: false }),
            Err(why) => Err(Stopped::CannotStart {
                reason: format!("the code archive cannot be unpacked: {why}"),
                lost: true,
            }),
        }
    }

    async fn fetch(&self, sha256: &str) -> Result<File, Stopped> {
        let part = self.agent.cache.part(sha256, &format!("{}.{}", self.key.0, self.key.1));
        let mut backoff = Backoff::default();
        loop {
            let why = match self.download(sha256, &part).await {
                Ok(file) => return Ok(file),
                Err(why) => why,
            };
            let _ = fs::remove_file(&part);
            match why {
                Download::Server(why) if is_lost(&why) => return Err(Stopped::LeaseLost),
                Download::Server(Error::Refused { status, body }) if status != 404 && status < 500 && status != 429 => {
                    return Err(Stopped::CannotStart {
                        reason: format!("cannot start: the server does not give its code: {}", body.message),
                        lost: false,
                    });
                }
                Download::Server(why) => {
                    self.heed(&why);
                    tracing::warn!(job = self.key.0.0, %why, "fetching the code again");
                }
                Download::Disk(why) => {
                    return Err(Stopped::CannotStart {
                        reason: format!("cannot start: its code cannot be kept: {why}"),
                        lost: true,
                    });
                }
                Download::Different => {
                    return Err(Stopped::CannotStart {
                        reason: "cannot start: the code that the server gives is not the one submitted (its SHA-256 differs)".into(),
                        lost: false,
                    });
                }
            }
            backoff.wait().await;
        }
    }

    async fn download(&self, sha256: &str, part: &Path) -> Result<File, Download> {
        let id = self.agent_id().await;
        let answer = self
            .agent
            .client
            .job_code(id, self.key.0, self.key.1)
            .await
            .map_err(Download::Server)?;
        let mut file = File::create(part).map_err(Download::Disk)?;
        let mut hash = Sha256::new();
        let mut body = answer.bytes_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|why| Download::Server(Error::Unreachable(why.to_string())))?;
            hash.update(&piece);
            file.write_all(&piece).map_err(Download::Disk)?;
        }
        let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if digits != sha256 {
            return Err(Download::Different);
        }
        self.agent.cache.keep(part, sha256).map_err(Download::Disk)?;
        self.agent
            .cache
            .find(sha256)
            .ok_or_else(|| Download::Disk(io::ErrorKind::NotFound.into()))
    }

    fn spawn(&self) -> io::Result<Process> {
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.dir.path("shim.lock"))?;
        // Taken here and handed over: there is no moment at which a living shim does not hold it.
        lock.lock()?;
        let log = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.dir.path("shim.log"))?;
        // This very program, even if its file has been replaced meanwhile.
        let program = std::env::var_os("ML_SHIM_EXE").map_or_else(|| PathBuf::from("/proc/self/exe"), PathBuf::from);
        let mut child = Command::new(program)
            .arg("job-shim")
            .arg(&self.dir.0)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        let process = Process::open(pid as i32)?.ok_or_else(|| io::Error::other("it ended at once"))?;
        tokio::spawn(async move { child.wait().await });
        Ok(process)
    }

    /// The shim of an earlier agent; `None` when it is gone.
    async fn find_shim(&self) -> io::Result<Option<Process>> {
        let path = self.dir.path("shim.lock");
        for _ in 0..500 {
            let file = File::options().read(true).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => return Ok(None),
                Err(TryLockError::Error(why)) => return Err(why),
                Err(TryLockError::WouldBlock) => {}
            }
            // It writes its number soon after it has begun.
            if let Ok(pid) = fs::read_to_string(&path)?.trim().parse()
                && let Some(process) = Process::open(pid)?
                && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
            {
                return Ok(Some(process));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other("it does not say who it is"))
    }

    /// Reports the start, sends the log, reports the end.
    async fn follow(&self, mut shim: Option<Process>) {
        let watched = self.agent.watch.as_ref().is_some_and(|watch| {
            let added = watch.add(&self.dir.0, false, &self.wake);
            let added = added.and_then(|()| watch.add(&self.dir.spool(), true, &self.wake));
            added
                .inspect_err(|why| {
                    self.agent
                        .say_once(format!("files cannot be watched ({why}); logs arrive a little later"))
                })
                .is_ok()
        });
        let mut start_reported = false;
        let mut log = None;
        let mut backoff = Backoff::default();
        loop {
            // Looked at before the log is read: then all of the log is there.
            let end = self.dir.ended();
            if end.is_some() {
                self.free_slots();
            }
            if self.is_dropped() {
                if end.is_some() || shim.is_none() {
                    return;
                }
            } else {
                let outcome = self.send_next(&mut start_reported, &mut log, &end).await;
                match outcome {
                    Ok(Next::Again) => {
                        backoff.reset();
                        continue;
                    }
                    Ok(Next::Done) => return,
                    Ok(Next::Wait) => backoff.reset(),
                    Err(why) if is_lost(&why) => {
                        self.agent.drop_job(self.key);
                        continue;
                    }
                    Err(why) => {
                        self.heed(&why);
                        let pause = backoff.next();
                        tracing::debug!(job = self.key.0.0, %why, "not sent; trying again");
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            () = self.dropped() => {}
                        }
                        continue;
                    }
                }
            }
            if end.is_none() && shim.is_none() {
                self.bury().await;
                continue;
            }
            let shim_ended = async {
                match &shim {
                    Some(shim) if end.is_none() => shim.ended().await,
                    _ => std::future::pending().await,
                }
            };
            let again = async {
                if watched {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = again => {}
                () = shim_ended => shim = None,
            }
        }
    }

    async fn send_next(
        &self,
        start_reported: &mut bool,
        log: &mut Option<Log>,
        end: &Option<Happened>,
    ) -> Result<Next, Error> {
        let (client, (job, fence)) = (&self.agent.client, self.key);
        let report = |what, usage| Report { fence, usage, what };
        if !*start_reported && let Some(started) = self.dir.started() {
            let what = Happened::Started { at: started.at };
            client.report(self.agent_id().await, job, &report(what, None)).await?;
            for warning in started.warnings {
                self.agent.say_once(format!(
                    "jobs are isolated more weakly than they could be: {warning}; see `ml agent doctor`"
                ));
            }
            *start_reported = true;
        }
        if log.is_none() {
            // Nothing to send yet: nothing to ask.
            if !self.has_log() && end.is_none() {
                return Ok(Next::Wait);
            }
            *log = Some(self.open_log().await?);
        }
        let log = log.as_mut().expect("opened just now");
        log.read()?;
        if let Some(batch) = log.waiting.front() {
            let since = log.sent_at.elapsed();
            if since < GATHER && batch.text.len() < BATCH_BYTES_MAX / 2 && end.is_none() {
                tokio::time::sleep(GATHER - since).await;
                log.read()?;
            }
            self.send_batch(log).await?;
            return Ok(Next::Again);
        }
        let Some(end) = end else { return Ok(Next::Wait) };
        let what = end.clone();
        client
            .report(self.agent_id().await, job, &report(what, self.dir.usage()))
            .await?;
        Ok(Next::Done)
    }

    /// The first batch that waits; it stays there until the server has it.
    async fn send_batch(&self, log: &mut Log) -> Result<(), Error> {
        let Some(batch) = log.waiting.front() else {
            return Ok(());
        };
        let (first, next) = (log.offset + batch.first, batch.first + batch.lines);
        let (job, fence) = self.key;
        log.sent_at = Instant::now();
        let kept = self
            .agent
            .client
            .send_logs(self.agent_id().await, job, fence, first, batch.text.clone())
            .await?;
        if kept.through < log.offset + next - 1 {
            return Err(Error::Unexpected(format!(
                "the server kept the log only up to line {}",
                kept.through
            )));
        }
        log.waiting.pop_front();
        let _ = log.reader.forget_before(next);
        Ok(())
    }

    fn has_log(&self) -> bool {
        fs::read_dir(self.dir.spool()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Lines are numbered over all restarts of a job: the server says where the earlier ones ended.
    async fn open_log(&self) -> Result<Log, Error> {
        let (job, fence) = self.key;
        let kept = self
            .agent
            .client
            .send_logs(self.agent_id().await, job, fence, 1, Vec::new())
            .await?;
        let path = self.dir.path("offset");
        let known: Option<i64> = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        let failed = |why: io::Error| Error::Unexpected(format!("its log cannot be read: {why}"));
        let offset = match known {
            Some(offset) => offset,
            None => {
                // Written before anything is sent: after that the answer would be another one.
                write_whole(&path, kept.through.to_string().as_bytes()).map_err(failed)?;
                kept.through
            }
        };
        let next = (kept.through - offset).max(0) + 1;
        Ok(Log {
            reader: Reader::open(&self.dir.spool(), next).map_err(failed)?,
            waiting: VecDeque::new(),
            sent_at: Instant::now() - GATHER,
            offset,
        })
    }

    async fn agent_id(&self) -> AgentId {
        loop {
            if let Some(agent) = self.agent.state().agent {
                return agent;
            }
            // Woken by the registration.
            self.wake.notified().await;
        }
    }

    /// What a refusal means for the agent as a whole.
    fn heed(&self, why: &Error) {
        if why.status() == Some(404) {
            self.agent.state().agent = None;
            self.agent.changed.notify_one();
        }
    }

    fn is_dropped(&self) -> bool {
        self.agent
            .state()
            .jobs
            .get(&self.key)
            .is_none_or(|entry| entry.dropping)
    }

    async fn dropped(&self) {
        while !self.is_dropped() {
            self.wake.notified().await;
        }
    }

    fn free_slots(&self) {
        let mut state = self.agent.state();
        if let Some(entry) = state.jobs.get_mut(&self.key).filter(|entry| !entry.ended) {
            entry.ended = true;
            self.agent.changed.notify_one();
            drop(state);
            // Its files are of no more use, and may be what fills the disk on which the server wants to note the end.
            let (work, tmp) = (self.dir.work(), self.dir.tmp());
            tokio::task::spawn_blocking(move || [work, tmp].iter().for_each(|place| remove_tree(place)));
        }
    }

    /// The shim is gone without a word: somebody killed it. Nothing of the job may be left.
    async fn bury(&self) {
        self.end_leftovers().await;
        // What it said last, should it have failed rather than been killed.
        let said = fs::read_to_string(self.dir.path("shim.log")).unwrap_or_default();
        tracing::error!(
            job = self.key.0.0,
            said = said.trim(),
            "a job's supervisor process is gone"
        );
        if self.dir.ended().is_none() {
            let line = "the job's supervisor process was killed: the job was ended with it";
            self.write_end(line, "the job's supervisor process was killed", true)
                .await;
        }
    }

    async fn end_leftovers(&self) {
        let jobs = self.agent.dir.join("jobs");
        let name = self.name();
        let others: BTreeSet<String> = fs::read_dir(&jobs)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|other| *other != name)
            .collect();
        let (cgroups, group) = (self.agent.cgroups.clone(), self.group());
        let ended = tokio::task::spawn_blocking(move || {
            cgroups.end(&group);
            tree::kill_leftovers(&jobs, &others);
        });
        let _ = ended.await;
    }

    fn name(&self) -> String {
        format!("{}.{}", self.key.0, self.key.1)
    }

    /// Several agents may share a machine and its control groups, and each has its own job 1.
    fn group(&self) -> String {
        let digest = Sha256::digest(self.agent.dir.as_os_str().as_encoded_bytes());
        format!(
            "{:02x}{:02x}{:02x}{:02x}.{}",
            digest[0],
            digest[1],
            digest[2],
            digest[3],
            self.name()
        )
    }

    /// In place of a shim: the last line and the end.
    async fn write_end(&self, line: &str, reason: &str, lost: bool) {
        // It may have come to its end before there was a `spec.json`, and then there is nothing to mask either.
        let mask = self
            .dir
            .spec()
            .ok()
            .and_then(|spec| Mask::of(&spec.lease.vault.secrets).ok()?);
        let masked = |text: &str| {
            mask.as_ref()
                .map_or(text.to_owned(), |mask| mask.text(text).into_owned())
        };
        let (line, reason) = (masked(line), masked(reason));
        let mut backoff = Backoff::default();
        loop {
            let _ = fs::create_dir_all(self.dir.spool());
            let written = Writer::open(&self.dir.spool()).and_then(|mut writer| {
                writer.line(now(), Stream::System, line.as_bytes(), false);
                writer.flush();
                self.dir
                    .write_exit(&ended(None, None, Some(reason.clone()), lost, now()))
            });
            match written {
                Ok(()) => return,
                Err(_) if self.is_dropped() => return,
                Err(why) => tracing::warn!(job = self.key.0.0, %why, "the end of the job cannot be written down"),
            }
            backoff.wait().await;
        }
    }

    async fn clear(&self) {
        self.agent.cgroups.end(&self.group());
        let dir = self.dir.clone();
        let _ = tokio::task::spawn_blocking(move || remove(&dir)).await;
    }
}

enum Next {
    Again,
    Wait,
    Done,
}

enum Download {
    Server(Error),
    Disk(io::Error),
    Different,
}

struct Log {
    reader: Reader,
    /// Read, but not yet with the server.
    waiting: VecDeque<Batch>,
    sent_at: Instant,
    /// Lines of earlier restarts.
    offset: i64,
}

impl Log {
    /// Reads what there is, up to one batch more than waits already.
    fn read(&mut self) -> Result<(), Error> {
        if self.waiting.len() > 1 {
            return Ok(());
        }
        let batch = self
            .reader
            .batch()
            .map_err(|why| Error::Unexpected(format!("its log cannot be read: {why}")))?;
        let Some(batch) = batch else { return Ok(()) };
        match self.waiting.back_mut() {
            Some(last)
                if last.first + last.lines == batch.first
                    && last.text.len() + batch.text.len() <= 2 * BATCH_BYTES_MAX =>
            {
                last.text.extend_from_slice(&batch.text);
                last.lines += batch.lines;
            }
            _ => self.waiting.push_back(batch),
        }
        Ok(())
    }
}

fn is_lost(why: &Error) -> bool {
    why.code() == Some("lease_lost")
}

/// Removes a job's directory, whatever the job did to it. Renamed first: half a directory must not be taken for a job.
pub fn remove(dir: &JobDir) {
    let Some(name) = dir.0.file_name() else { return };
    let gone = dir.0.with_file_name(format!("gone-{}", name.to_string_lossy()));
    let gone = match fs::rename(&dir.0, &gone) {
        Ok(()) => gone,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return,
        Err(_) => dir.0.clone(),
    };
    remove_tree(&gone);
}

fn remove_tree(gone: &Path) {
    match fs::remove_dir_all(gone) {
        Ok(()) => return,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return,
        Err(_) => {}
    }
    // Directories that not even their owner may change.
    let mut waiting = vec![gone.to_owned()];
    while let Some(next) = waiting.pop() {
        let _ = fs::set_permissions(&next, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&next).into_iter().flatten().flatten();
        waiting.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    if let Err(why) = fs::remove_dir_all(gone) {
        tracing::warn!(directory = %gone.display(), %why, "a job's directory cannot be removed");
    }
}

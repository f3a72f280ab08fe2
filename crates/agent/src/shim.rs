//! The shim: one small process for each job, which outlives the agent. It starts the program, writes its output to the spool, holds it to its limits and its lease,
//! ends all of it when told to, and writes down how it ended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bailiwick_api::agents::{OnLostAgent, SlotKind};
use bailiwick_api::experiments::{Stop, Stream, log_text};
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::pipe2;
use serde_json::Value;

use crate::cgroup::JobCgroup;
use crate::isolation::Plan;
use crate::job_dir::{
    Isolate, JobDir, Spec, Started, StopFile, boot_ms, disk_use, ended, exact_duration, now, to_json, write_whole,
};
use crate::launch::{self, Init, Program};
use crate::mask::{self, Mask};
use crate::spool::Writer;
use crate::tree;
use crate::usage::Meter;

/// A line that has no end yet is shown after so long.
const PARTIAL_LINE_MS: i64 = 1000;
/// What is left when the program has ended gets so long to end by itself, and then so long after SIGTERM.
const LEFTOVERS_QUIET_MS: i64 = 150;
const LEFTOVERS_GRACE_MS: i64 = 1000;
/// How often disk and memory are looked at.
const MEASURE_MS: u64 = 2000;
/// When a job says nothing of it. Threads count.
const PROCESSES: i64 = 4096;
/// The kernel's longest environment variable (MAX_ARG_STRLEN).
const VARIABLE_BYTES_MAX: usize = 128 * 1024;

/// `ml job-shim DIR`: runs the job whose directory this is. Gives the exit code of the shim itself, not of the job.
pub fn shim(dir: &Path) -> i32 {
    ignore_broken_pipes();
    match supervise(JobDir(dir.to_owned())) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("job-shim {}: {why}", dir.display());
            1
        }
    }
}

/// A reader that is gone is an error to be handled where one writes, whatever the program around this one wants for its own output.
pub fn ignore_broken_pipes() {
    // SAFETY: no code of ours runs for an ignored signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn supervise(dir: JobDir) -> Result<(), String> {
    // Fails only for a process that leads a group already, which is as good.
    let _ = nix::unistd::setsid();
    let words = |what: &'static str| move |why: io::Error| format!("{what}: {why}");
    // The agent has locked this file and handed it over as standard input.
    fs::write(dir.path("shim.lock"), std::process::id().to_string()).map_err(words("shim.lock"))?;
    prctl::set_child_subreaper(true).map_err(|why| why.desc().to_owned())?;
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block().map_err(|why| why.desc().to_owned())?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
    let signals = signals.map_err(|why| why.desc().to_owned())?;
    let control = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(dir.path("control"))
        .map_err(words("control"))?;
    let timer = TimerFd::new(
        ClockId::CLOCK_BOOTTIME,
        TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
    );
    let timer = timer.map_err(|why| why.desc().to_owned())?;
    let spec = dir.spec().map_err(words("spec.json"))?;
    dir.reserve().map_err(words("the place for its end"))?;
    let spool = Writer::open(&dir.spool()).map_err(words("spool"))?;
    let mask = Mask::of(&spec.lease.vault.secrets)?;

    let mut supervisor = Supervisor {
        spool,
        cgroup: JobCgroup::default(),
        init: None,
        ending: None,
        stop: None,
        stop_file: None,
        reason: None,
        lost: false,
        leader_ended_at: None,
        leftovers_ended: false,
        started_at: boot_ms(),
        deadline: dir.deadline_ms(),
        messages: Vec::new(),
        warnings: Vec::new(),
        mask,
        dir,
        spec,
    };
    supervisor.run(signals, control, timer);
    Ok(())
}

/// How the program itself ended.
#[derive(Debug, Clone, Copy)]
struct Ending {
    code: Option<i32>,
    signal: Option<i32>,
}

struct Supervisor {
    dir: JobDir,
    spec: Spec,
    mask: Option<Mask>,
    spool: Writer,
    cgroup: JobCgroup,
    init: Option<Init>,
    ending: Option<Ending>,
    /// When everything is killed, once the job is being ended.
    stop: Option<i64>,
    /// The order obeyed last.
    stop_file: Option<StopFile>,
    reason: Option<String>,
    lost: bool,
    leader_ended_at: Option<i64>,
    leftovers_ended: bool,
    started_at: i64,
    deadline: Option<i64>,
    messages: Vec<u8>,
    warnings: Vec<String>,
}

impl Supervisor {
    fn run(&mut self, signals: SignalFd, control: File, timer: TimerFd) {
        self.obey_stop_file();
        self.check_deadline(boot_ms());
        if self.stop.is_some() {
            self.say("ended before it started");
            self.finish();
            return;
        }
        match self.start() {
            Ok((stdout, stderr)) => {
                let output = |fd, stream| Output::new(fd, stream, self.mask.clone());
                let mut streams = [output(stdout, Stream::Stdout), output(stderr, Stream::Stderr)];
                self.oversee(signals, control, timer, &mut streams);
            }
            Err(why) => {
                self.reason = Some(format!("cannot start: {why}"));
                self.lost = true;
            }
        }
        self.finish();
    }

    /// Takes the strongest plan that holds. Gives the reading ends of the program's output.
    fn start(&mut self) -> Result<(OwnedFd, OwnedFd), String> {
        let limits = self.spec.lease.limits.clone();
        let processes = limits.max_processes.unwrap_or(PROCESSES);
        self.cgroup = self.spec.cgroups.job(&self.spec.group, limits.memory_mb, processes);
        let program = self.program(processes)?;
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|why| format!("a pipe: {}", why.desc()));
        for plan in Plan::all(self.spec.isolate, self.spec.user.is_some()) {
            let ((stdout_read, stdout), (stderr_read, stderr)) = (pipe()?, pipe()?);
            for read in [&stdout_read, &stderr_read] {
                // A larger pipe is a wish: the system may have a limit.
                let _ = nix::fcntl::fcntl(read, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
                let _ = nix::fcntl::fcntl(read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            }
            let mut init = match launch::start(&program, plan, &stdout, &stderr) {
                Ok(init) => init,
                Err(why) => {
                    self.warnings.push(why);
                    continue;
                }
            };
            let first = read_line(&mut init.messages);
            if first == "started" {
                let in_force = plan.words(!self.cgroup.groups.is_empty());
                self.init = Some(init);
                self.has_started(&in_force);
                return Ok((stdout_read, stderr_read));
            }
            drop(init.commands);
            let _ = waitpid(init.pid, None);
            if let Some(refusal) = first.strip_prefix("refused ") {
                let (code, why) = refusal.split_once(' ').unwrap_or(("126", refusal));
                self.ending = Some(Ending {
                    code: code.parse().ok(),
                    signal: None,
                });
                self.reason = Some(format!("cannot start: {}{}", why, self.closed_path_hint(&program)));
                return Ok((stdout_read, stderr_read));
            }
            let why = first
                .strip_prefix("weaker ")
                .unwrap_or("its first process ended at once");
            self.warnings.push(why.to_owned());
        }
        let why = self.warnings.join("; ");
        match self.spec.isolate {
            Isolate::Require => Err(format!("isolation is required here and cannot be had: {why}")),
            _ => Err(why),
        }
    }

    /// A program that is not found may stand where the job's user cannot look.
    fn closed_path_hint(&self, program: &Program) -> String {
        let Some(user) = self.spec.user else {
            return String::new();
        };
        let there = program
            .candidates
            .iter()
            .filter_map(|candidate| candidate.to_str().ok())
            .find(|path| Path::new(path).exists());
        let closed = there.and_then(|path| Some((path, crate::isolation::closed_to(Path::new(path).parent()?, user)?)));
        match closed {
            Some((path, closed)) => format!(
                "; {path} is there, but the job's OS user ({user}) cannot enter {}: install it where all users may read, or let them pass that directory",
                closed.display()
            ),
            None => String::new(),
        }
    }

    fn has_started(&mut self, isolation: &str) {
        for warning in self.warnings.clone() {
            self.say(&format!("isolation is weaker than it could be: {warning}"));
        }
        let slots: Vec<String> = self.spec.slots.iter().map(u32::to_string).collect();
        let kind = match self.spec.slot_kind {
            SlotKind::Gpu => "gpu",
            SlotKind::Cpu => "cpu",
        };
        let slots = match slots.len() {
            0 => "without a slot".to_owned(),
            1 => format!("on slot {} ({kind})", slots[0]),
            _ => format!("on slots {} ({kind})", slots.join(",")),
        };
        self.say(&format!("started {slots}; isolated by: {isolation}"));
        self.spool.flush();
        let started = Started {
            at: now(),
            warnings: self.warnings.clone(),
        };
        // Left out on a full disk: the end is reported all the same.
        let _ = write_whole(&self.dir.path("started"), &to_json(&started));
    }

    fn oversee(&mut self, signals: SignalFd, mut control: File, timer: TimerFd, streams: &mut [Output; 2]) {
        let measured = self.measure();
        let mut init_gone_at = None;
        let mut commands = None;
        let mut messages = None;
        let mut meter = None;
        if let Some(init) = self.init.take() {
            let group = self.cgroup.groups.first().cloned();
            meter = Some(Meter::start(&self.dir, init.pid.as_raw(), group));
            commands = Some(init.commands);
            messages = Some(init.messages);
            self.init_pid(init.pid.as_raw());
            let pid = init.pid;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let at = boot_ms();
                self.check_deadline(at);
                self.check_limits(at, &measured);
                self.drive_stop(at, &mut commands, pid.as_raw());
                for stream in streams.iter_mut() {
                    stream.show_partial(at, &mut self.spool);
                }
                self.spool.flush();
                let all_read = streams.iter().all(|stream| stream.fd.is_none());
                match init_gone_at {
                    // Someone outside the job may hold its output open: not for ever, but what has been written is read.
                    Some(gone) if all_read || at - gone > 2000 => break,
                    _ => {}
                }
                self.arm(&timer, at, streams);

                let mut fds = vec![
                    PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                    PollFd::new(control.as_fd(), PollFlags::POLLIN),
                    PollFd::new(timer.as_fd(), PollFlags::POLLIN),
                ];
                fds.extend(
                    messages
                        .iter()
                        .map(|messages| PollFd::new(messages.as_fd(), PollFlags::POLLIN)),
                );
                fds.extend(
                    streams
                        .iter()
                        .filter_map(|stream| Some(PollFd::new(stream.fd.as_ref()?.as_fd(), PollFlags::POLLIN))),
                );
                let timeout = if init_gone_at.is_some() {
                    PollTimeout::from(50u8)
                } else {
                    PollTimeout::NONE
                };
                let _ = poll(&mut fds, timeout);
                let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
                drop(fds);

                if ready[0] {
                    self.obey_signals(&signals);
                }
                if ready[1] {
                    while matches!(control.read(&mut [0; 64]), Ok(64)) {}
                    self.obey_stop_file();
                    self.deadline = self.dir.deadline_ms().or(self.deadline);
                }
                if ready[2] {
                    let mut expirations = [0; 8];
                    let _ = nix::unistd::read(timer.as_fd(), &mut expirations);
                }
                for stream in streams.iter_mut() {
                    if stream.read(&mut buffer, &mut self.spool) {
                        init_gone_at = init_gone_at.map(|_| boot_ms());
                    }
                }
                if let Some(pipe) = &mut messages
                    && ready[3]
                    && !self.hear(pipe)
                {
                    messages = None;
                    init_gone_at = Some(boot_ms());
                    let _ = waitpid(pid, None);
                    // With a PID namespace nothing can be left; without one, init itself may have been killed.
                    self.cgroup.kill();
                    tree::kill_descendants(std::process::id() as i32, collect_orphans);
                    collect_orphans();
                }
            }
        }
        for stream in streams.iter_mut() {
            stream.end(&mut self.spool);
        }
        drop((commands, messages));
        if let Some(meter) = meter {
            meter.end();
        }
    }

    /// For people who look at the machine, and for tests: which process leads the job.
    fn init_pid(&self, pid: i32) {
        let _ = write_whole(&self.dir.path("init.pid"), pid.to_string().as_bytes());
    }

    /// Reads what init says; false at its end.
    fn hear(&mut self, messages: &mut File) -> bool {
        let mut buffer = [0; 1024];
        let read = match messages.read(&mut buffer) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(why) => return why.kind() == io::ErrorKind::Interrupted,
        };
        self.messages.extend_from_slice(&buffer[..read]);
        while let Some(end) = self.messages.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.messages.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let mut words = line.trim_end().split(' ');
            if words.next() == Some("ended") {
                let mut number = || words.next().and_then(|word| word.parse().ok());
                self.ending = Some(Ending {
                    code: number(),
                    signal: number(),
                });
                self.leader_ended_at = Some(boot_ms());
            }
        }
        true
    }

    fn obey_signals(&mut self, signals: &SignalFd) {
        while let Ok(Some(signal)) = signals.read_signal() {
            // A closed terminal is none of the job's business; SIGTERM is what a machine that shuts down sends.
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                self.begin_stop(
                    self.spec.lease.grace_ms,
                    Some("the machine shut down, or the job's supervisor was told to end".into()),
                    true,
                );
                self.say("the machine shuts down: SIGTERM sent");
            }
        }
    }

    fn obey_stop_file(&mut self) {
        let Some(order) = self.dir.stop() else { return };
        if self.stop_file.as_ref() == Some(&order) {
            return;
        }
        let grace_ms = match order.how {
            Stop::Cancel => self.spec.lease.grace_ms,
            Stop::Kill => 0,
        };
        self.begin_stop(grace_ms, order.reason.clone(), order.lost);
        if let Some(line) = &order.line {
            self.say(line);
        }
        self.stop_file = Some(order);
    }

    /// SIGTERM now, SIGKILL after the grace time; a second order may only shorten it.
    fn begin_stop(&mut self, grace_ms: i64, reason: Option<String>, lost: bool) {
        let at = boot_ms() + grace_ms;
        match self.stop {
            Some(kill_at) => self.stop = Some(kill_at.min(at)),
            None => {
                self.stop = Some(at);
                self.reason = reason;
                self.lost = lost;
                self.leftovers_ended = false;
            }
        }
    }

    fn check_deadline(&mut self, at: i64) {
        if self.spec.lease.on_lost_agent == OnLostAgent::Requeue
            && self.stop.is_none_or(|kill_at| kill_at > at)
            && self.deadline.is_some_and(|deadline| at >= deadline)
        {
            self.say("the lease ran out while the server could not be reached: killed");
            self.begin_stop(
                0,
                Some("its lease ran out while the server could not be reached".into()),
                true,
            );
            self.lost = true;
        }
    }

    fn check_limits(&mut self, at: i64, measured: &mpsc::Receiver<u64>) {
        let limits = self.spec.lease.limits.clone();
        if self.leader_ended_at.is_some() {
            return;
        }
        if let Some(disk) = measured.try_iter().last()
            && self.stop.is_none()
        {
            if let Some(mb) = limits
                .disk_mb
                .filter(|mb| disk > (*mb as u64).saturating_mul(1_000_000))
            {
                self.say(&format!("over its disk limit of {mb} MB: killed"));
                self.begin_stop(0, Some(format!("over its disk limit of {mb} MB")), false);
            } else if self.cgroup.killed_for_memory() {
                // The rest of the job usually waits for ever for the process that was killed.
                self.begin_stop(0, None, false);
            }
        }
        if let Some(time_ms) = limits.time_ms
            && self.stop.is_none()
            && at - self.started_at >= time_ms
        {
            let (limit, grace) = (exact_duration(time_ms), exact_duration(self.spec.lease.grace_ms));
            self.say(&format!(
                "time limit of {limit} reached: SIGTERM sent, SIGKILL in {grace}"
            ));
            self.begin_stop(
                self.spec.lease.grace_ms,
                Some(format!("time limit of {limit} reached")),
                false,
            );
        }
    }

    /// Sends the signals that are due.
    fn drive_stop(&mut self, at: i64, commands: &mut Option<File>, init: i32) {
        if let Some(kill_at) = self.stop {
            if at >= kill_at {
                // Dropping the pipe is the order to kill.
                if commands.take().is_some() {
                    if self.stop_file.as_ref().is_some_and(|order| order.how == Stop::Cancel)
                        && self.leader_ended_at.is_none()
                    {
                        self.say("still running after the grace time: SIGKILL sent");
                    }
                    self.cgroup.kill();
                }
            } else if let Some(commands) = commands
                && !self.leftovers_ended
            {
                self.leftovers_ended = true;
                let _ = commands.write_all(b"t");
            }
            return;
        }
        let Some(ended_at) = self.leader_ended_at else { return };
        if at >= ended_at + LEFTOVERS_QUIET_MS && commands.is_some() {
            let left = tree::descendants(init).len();
            if left > 0 {
                let (processes, were) = if left == 1 {
                    ("process", "was")
                } else {
                    ("processes", "were")
                };
                self.say(&format!(
                    "{left} {processes} of the job {were} still running when its program had ended: ended, too"
                ));
            }
            // The end of the program is the end of the job: no grace time but a short one.
            let (reason, lost) = (self.reason.take(), self.lost);
            self.begin_stop(LEFTOVERS_GRACE_MS, reason, lost);
            self.drive_stop(at, commands, init);
        }
    }

    /// Sets the timer to the next moment at which something is due.
    fn arm(&self, timer: &TimerFd, at: i64, streams: &[Output; 2]) {
        let lease = (self.spec.lease.on_lost_agent == OnLostAgent::Requeue)
            .then_some(self.deadline)
            .flatten();
        let time = self.spec.lease.limits.time_ms.map(|limit| self.started_at + limit);
        let leftovers = self.leader_ended_at.map(|ended| ended + LEFTOVERS_QUIET_MS);
        // What runs on while a memory or disk limit holds is looked at with each measurement.
        let measure = self.measures().then_some(at + MEASURE_MS as i64);
        let mut due: Vec<i64> = [lease, time, self.stop, leftovers, measure]
            .into_iter()
            .flatten()
            .filter(|due| *due > at)
            .collect();
        due.extend(
            streams
                .iter()
                .filter_map(|stream| stream.partial_since)
                .map(|since| (since + PARTIAL_LINE_MS).max(at + 1)),
        );
        let Some(next) = due.into_iter().min() else {
            let _ = timer.unset();
            return;
        };
        let next = TimeSpec::from_duration(Duration::from_millis(next.max(1) as u64));
        let _ = timer.set(Expiration::OneShot(next), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }

    fn measures(&self) -> bool {
        self.spec.lease.limits.disk_mb.is_some() || self.cgroup.memory_events.is_some()
    }

    /// What the job takes on the disk, again and again, from a thread of its own: counting a million files must not hold up the log.
    fn measure(&self) -> mpsc::Receiver<u64> {
        let (send, receive) = mpsc::channel();
        if self.measures() {
            let places = self
                .spec
                .lease
                .limits
                .disk_mb
                .map(|_| [self.dir.work(), self.dir.tmp()]);
            std::thread::spawn(move || {
                loop {
                    let began = std::time::Instant::now();
                    let used = places.iter().flatten().map(|place| disk_use(place)).sum();
                    if send.send(used).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(MEASURE_MS).max(began.elapsed() * 20));
                }
            });
        }
        receive
    }

    fn finish(&mut self) {
        let ending = self.ending.unwrap_or(Ending {
            code: None,
            signal: None,
        });
        if self.cgroup.killed_for_memory() {
            let mb = self.spec.lease.limits.memory_mb.unwrap_or(0);
            self.say(&format!("over its memory limit of {mb} MB: killed"));
            self.reason = Some(format!("over its memory limit of {mb} MB"));
        }
        let line = match (ending.code, ending.signal) {
            (Some(126 | 127), _) if self.reason.is_some() => self.reason.clone(),
            (Some(code), _) => Some(format!("exit code {code}")),
            (_, Some(signal)) => Some(format!("ended by {}", signal_name(signal))),
            _ => self.reason.clone(),
        };
        if let Some(line) = line {
            self.say(&line);
        }
        self.spool.flush();
        self.cgroup.remove();
        let reason = self.reason.take().map(|reason| self.masked(&reason).into_owned());
        let exit = ended(ending.code, ending.signal, reason, self.lost, now());
        // Without it the agent would take the job for lost; a full disk was provided for.
        for _ in 0..600 {
            match self.dir.write_exit(&exit) {
                Ok(()) => return,
                Err(why) if why.kind() == io::ErrorKind::NotFound => return,
                Err(_) => std::thread::sleep(Duration::from_secs(1)),
            }
        }
    }

    fn say(&mut self, text: &str) {
        let text = self.masked(text).into_owned();
        self.spool.line(now(), Stream::System, text.as_bytes(), false);
    }

    fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.mask {
            Some(mask) => mask.text(text),
            None => text.into(),
        }
    }

    fn program(&self, processes: i64) -> Result<Program, String> {
        let lease = &self.spec.lease;
        let name = lease.command.first().cloned().ok_or("the command is empty")?;
        let text =
            |text: &str| CString::new(text).map_err(|_| "the command or its environment holds a zero byte".to_owned());
        let config = self.dir.path("config.json");
        write_whole(&config, &to_json(&lease.config)).map_err(|why| format!("config.json: {why}"))?;
        if let Some(user) = self.spec.user {
            std::os::unix::fs::chown(&config, Some(user), Some(user)).map_err(|why| format!("config.json: {why}"))?;
        }
        let environment = environment(&self.spec, &self.dir);
        let candidates = if name.contains('/') {
            vec![text(&name)?]
        } else {
            let path = environment.get("PATH").cloned().unwrap_or_default();
            let directories = path.split(':').filter(|directory| !directory.is_empty());
            directories
                .map(|directory| text(&format!("{directory}/{name}")))
                .collect::<Result<_, _>>()?
        };
        let (memory, processes) = (lease.limits.memory_mb.unwrap_or(0) as u64, processes as u64);
        Ok(Program {
            candidates,
            name,
            arguments: lease.command.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
            environment: environment
                .iter()
                .map(|(key, value)| text(&format!("{key}={value}")))
                .collect::<Result<_, _>>()?,
            directory: self.dir.work(),
            user: self.spec.user,
            hide: self.spec.hide.clone(),
            show: vec![self.dir.work(), self.dir.tmp(), config],
            tmp: self.dir.tmp(),
            groups: self.cgroup.groups.clone(),
            memory_bytes: (memory > 0 && self.cgroup.memory_events.is_none()).then(|| memory.saturating_mul(1_000_000)),
            // Counted by user: for one who has other processes as well it would hit the wrong ones.
            processes: (self.spec.user.is_some()
                || (!self.cgroup.limits_processes && lease.limits.max_processes.is_some()))
            .then_some(processes),
        })
    }
}

fn collect_orphans() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// Byte by byte: what follows belongs to the next reader. Empty at the end.
fn read_line(file: &mut File) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while matches!(file.read(&mut byte), Ok(1)) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

/// The whole environment of a job, built from nothing: none of the agent's own variables is in it. What comes later goes over what came before; the agent's own
/// `ML_…` and the slots' come last.
fn environment(spec: &Spec, dir: &JobDir) -> BTreeMap<String, String> {
    let lease = &spec.lease;
    let mut env = BTreeMap::new();
    let mut put = |key: &str, value: String| env.insert(key.to_owned(), value);
    put("PATH", spec.path.clone());
    put("LANG", spec.lang.clone());
    put("USER", lease.owner.clone());
    put("LOGNAME", lease.owner.clone());
    put("HOME", dir.work().display().to_string());
    put("TMPDIR", dir.tmp().display().to_string());
    for variables in [
        &spec.default_env,
        &lease.vault.env,
        &spec.job_env,
        &lease.env,
        &spec.enforced_env,
        &lease.vault.enforced_env,
    ] {
        for (key, value) in variables {
            put(key, value.clone());
        }
    }
    let parameters = lease
        .config
        .get("hyperparameters")
        .cloned()
        .unwrap_or_else(|| Value::Object(Default::default()));
    for (key, value) in [
        ("ML_HPARAMS", plain_values(parameters)),
        ("ML_CONFIG", lease.config.clone()),
    ] {
        let text = value.to_string();
        // One that is longer keeps the program from starting at all; the file has it anyway.
        if key.len() + 1 + text.len() < VARIABLE_BYTES_MAX {
            put(key, text);
        }
    }
    let slots: Vec<String> = spec.slots.iter().map(u32::to_string).collect();
    let slots = slots.join(",");
    put("ML_CONFIG_FILE", dir.path("config.json").display().to_string());
    put("ML_EXPERIMENT_ID", lease.experiment.to_string());
    put("ML_EXPERIMENT_NAME", lease.name.clone());
    put("ML_JOB_ID", lease.job.to_string());
    put("ML_LEASE", format!("{}.{}", lease.job, lease.fence));
    put("ML_JOB_DIR", dir.0.display().to_string());
    put("ML_RESTARTS", lease.restarts.to_string());
    put("ML_USER", lease.owner.clone());
    put("ML_WORKSPACE", lease.workspace.clone());
    put("ML_PROJECT", lease.project.clone());
    put("ML_SERVER", spec.server.clone());
    put("ML_API_KEY", lease.token.clone());
    put("ML_SLOT_IDS", slots.clone());
    match spec.slot_kind {
        SlotKind::Gpu => {
            put("ML_SLOT_TYPE", "gpu".into());
            put("CUDA_VISIBLE_DEVICES", slots);
            // CUDA would number the fastest first; slots have the numbers of NVML.
            put("CUDA_DEVICE_ORDER", "PCI_BUS_ID".into());
        }
        SlotKind::Cpu => {
            put("ML_SLOT_TYPE", "cpu".into());
            if spec.has_gpus {
                put("CUDA_VISIBLE_DEVICES", String::new());
            }
        }
    }
    env
}

/// `{type: const, val: x}` becomes `x`, at any depth.
fn plain_values(value: Value) -> Value {
    match value {
        Value::Object(mut map)
            if map.get("type").and_then(Value::as_str) == Some("const") && map.contains_key("val") =>
        {
            map.remove("val").unwrap_or(Value::Null)
        }
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, plain_values(value))).collect(),
        other => other,
    }
}

/// One of the program's two output streams, cut into lines.
struct Output {
    fd: Option<File>,
    stream: Stream,
    /// Where the job has secrets: all that goes into `line` has gone through it.
    mask: Option<mask::Stream>,
    line: Vec<u8>,
    /// When the part of a line that waits for its end came.
    partial_since: Option<i64>,
    /// The last piece shown was not the end of its line.
    continued: bool,
}

impl Output {
    fn new(fd: OwnedFd, stream: Stream, mask: Option<Mask>) -> Output {
        Output {
            fd: Some(fd.into()),
            stream,
            mask: mask.map(mask::Stream::of),
            line: Vec::new(),
            partial_since: None,
            continued: false,
        }
    }

    /// One read at most, so that neither stream nor any order waits for the other. Whether there was something.
    fn read(&mut self, buffer: &mut [u8], spool: &mut Writer) -> bool {
        let Some(file) = &mut self.fd else { return false };
        match file.read(buffer) {
            Ok(0) => self.fd = None,
            Ok(read) => {
                self.take(&buffer[..read], spool);
                return true;
            }
            Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.fd = None,
        }
        false
    }

    fn take(&mut self, mut data: &[u8], spool: &mut Writer) {
        let time = now();
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            self.add(&data[..end], true);
            data = &data[end + 1..];
            self.cut_long(time, spool);
            let text = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            spool.line(time, self.stream, text, false);
            self.line.clear();
            self.partial_since = None;
            self.continued = false;
        }
        self.add(data, false);
        self.cut_long(time, spool);
        if self.line.is_empty() {
            self.partial_since = None;
        } else {
            self.partial_since.get_or_insert_with(boot_ms);
        }
    }

    fn add(&mut self, data: &[u8], ends: bool) {
        match &mut self.mask {
            None => self.line.extend_from_slice(data),
            Some(mask) if ends => mask.line_end(data, &mut self.line),
            Some(mask) => mask.piece(data, &mut self.line),
        }
    }

    /// Writes pieces of a line that is longer than the longest kept whole; not through the middle of a character.
    fn cut_long(&mut self, time: bailiwick_api::Time, spool: &mut Writer) {
        let mut from = 0;
        while self.line.len() - from > log_text::LINE_MAX {
            let end = character_end(&self.line, from + log_text::LINE_MAX);
            spool.line(time, self.stream, &self.line[from..end], true);
            self.continued = true;
            from = end;
        }
        self.line.drain(..from);
    }

    fn show_partial(&mut self, at: i64, spool: &mut Writer) {
        if self.partial_since.is_some_and(|since| at - since >= PARTIAL_LINE_MS) {
            spool.line(now(), self.stream, &self.line, true);
            self.line.clear();
            self.partial_since = None;
            self.continued = true;
        }
    }

    /// The last line may have no end, and still counts.
    fn end(&mut self, spool: &mut Writer) {
        self.add(b"", true);
        self.cut_long(now(), spool);
        if !self.line.is_empty() || self.continued {
            spool.line(now(), self.stream, &self.line, false);
        }
        self.line.clear();
        self.continued = false;
        self.fd = None;
        spool.flush();
    }
}

/// At most `end`, and not inside a character of UTF-8.
fn character_end(text: &[u8], end: usize) -> usize {
    let back = (0..4).find(|back| text.get(end - back).is_none_or(|byte| byte & 0xc0 != 0x80));
    end - back.unwrap_or(0)
}

/// What the job may write: its working directory and its temporary one.
pub fn make_places(dir: &JobDir, user: Option<u32>) -> io::Result<()> {
    for (place, mode) in [(dir.work(), 0o700), (dir.tmp(), 0o700)] {
        fs::DirBuilder::new().mode(mode).create(&place)?;
        if let Some(user) = user {
            std::os::unix::fs::chown(&place, Some(user), Some(user))?;
        }
    }
    fs::DirBuilder::new().mode(0o700).create(dir.spool())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(pieces: &[&[u8]]) -> Vec<(String, bool)> {
        masked_lines(pieces, &[])
    }

    fn masked_lines(pieces: &[&[u8]], secrets: &[&str]) -> Vec<(String, bool)> {
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Writer::open(dir.path()).unwrap();
        let (read, _write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut output = Output::new(read, Stream::Stdout, Mask::of(&secrets).unwrap());
        for piece in pieces {
            output.take(piece, &mut spool);
        }
        output.end(&mut spool);
        let batch = crate::spool::Reader::open(dir.path(), 1).unwrap().batch().unwrap();
        let text = batch.map(|batch| batch.text).unwrap_or_default();
        log_text::read(&text, 1)
            .map(|line| (line.text, line.continues))
            .collect()
    }

    #[test]
    fn output_is_cut_into_lines_wherever_it_is_torn() {
        assert_eq!(
            lines(&[b"on", b"e\ntwo\r", b"\n 10%\r 20%\nend"]),
            [
                ("one".into(), false),
                ("two".into(), false),
                (" 10%\r 20%".into(), false),
                ("end".into(), false)
            ]
        );
        assert_eq!(lines(&[]), []);
        assert_eq!(lines(&[b"\n"]), [("".into(), false)]);
    }

    #[test]
    fn a_long_line_goes_on_in_pieces_and_splits_no_character() {
        let text = "ä".repeat(log_text::LINE_MAX);
        let lines = lines(&[b"x", text.as_bytes(), b"\n"]);
        let joined: String = lines.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(joined, format!("x{text}"));
        let continues: Vec<bool> = lines.iter().map(|(_, continues)| *continues).collect();
        assert_eq!(continues, [true, true, false]);
    }

    #[test]
    fn a_secret_shows_nowhere_whether_the_pipe_the_end_or_the_longest_line_cuts_it() {
        let secret = "correct-horse-battery";
        let torn: [&[u8]; 4] = [b"a correct-ho", b"rse-bat", b"tery b\ncorrect-horse", b"-battery"];
        assert_eq!(
            masked_lines(&torn, &[secret]),
            [("a ******** b".into(), false), ("********".into(), false)]
        );
        assert_eq!(
            masked_lines(&[b"correct-horse\n", b"correct"], &[secret]),
            [("correct-horse".into(), false), ("correct".into(), false)],
            "what only begins like one"
        );
        for before in (log_text::LINE_MAX - secret.len() - 8)..(log_text::LINE_MAX + 2) {
            let line = format!("{}{secret}{}\n", "x".repeat(before), "y".repeat(log_text::LINE_MAX));
            for pieces in [
                vec![line.as_bytes()],
                vec![&line.as_bytes()[..before + 9], &line.as_bytes()[before + 9..]],
            ] {
                let shown = masked_lines(&pieces, &[secret]);
                let joined: String = shown.iter().map(|(text, _)| text.as_str()).collect();
                assert_eq!(joined, line.trim_end().replace(secret, "********"));
            }
        }
    }

    #[test]
    fn constants_among_hyperparameters_are_their_values() {
        let given =
            json!({"lr": {"type": "const", "val": 0.1}, "net": {"depth": {"type": "const", "val": [1]}}, "seed": 3});
        assert_eq!(
            plain_values(given),
            json!({"lr": 0.1, "net": {"depth": [1]}, "seed": 3})
        );
    }
}

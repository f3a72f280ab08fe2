//! Starting the job's program: the shim makes a first process (`init`), which sets up the isolation, starts the program, collects its orphans, and ends everything when told to
//! or when the shim is gone.
//!
//! What init says to the shim, a line each: `weaker WHY` (a layer failed; it is gone), `started`, `refused CODE WHY` (the program cannot be started), `ended CODE|- SIGNAL|-`.
//! What the shim says to init, a byte each: `t` SIGTERM to all, `k` SIGKILL to all. The end of the pipe means `k`.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, pipe2};

use crate::isolation::{self, Plan, View};
use crate::tree;

/// Everything that starting needs, made ready before the first process is split off.
pub struct Program {
    /// Files to try in turn, as the search along PATH gives them.
    pub candidates: Vec<CString>,
    pub name: String,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    pub directory: PathBuf,
    pub user: Option<u32>,
    pub hide: Vec<PathBuf>,
    /// What the job may see of hidden directories.
    pub show: Vec<PathBuf>,
    pub tmp: PathBuf,
    pub groups: Vec<PathBuf>,
    /// In place of a control group's limits, where there is none.
    pub memory_bytes: Option<u64>,
    pub processes: Option<u64>,
}

/// The first process of a job, as the shim holds it.
pub struct Init {
    pub pid: Pid,
    pub commands: File,
    pub messages: File,
}

/// # Errors
/// In words; also when the kernel refuses the namespaces of the plan.
pub fn start(program: &Program, plan: Plan, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<Init, String> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|why| format!("a pipe: {}", why.desc()));
    let (commands_read, commands_write) = pipe()?;
    let (messages_read, messages_write) = pipe()?;
    let (user, group) = (Uid::effective(), Gid::effective());
    // As fork(2), with namespaces; this process has one thread only.
    let flags = libc::c_long::from(plan.clone_flags() | libc::SIGCHLD);
    let nothing: libc::c_long = 0;
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, nothing, nothing, nothing, nothing) };
    if child < 0 {
        return Err(format!("namespaces: {}", Errno::last().desc()));
    }
    if child == 0 {
        let ends = Ends {
            commands: commands_read.into(),
            messages: messages_write.into(),
            stdout,
            stderr,
        };
        let status = init(program, plan, ends, (user, group));
        unsafe { libc::_exit(status) }
    }
    Ok(Init {
        pid: Pid::from_raw(child as i32),
        commands: commands_write.into(),
        messages: messages_read.into(),
    })
}

/// Init's ends of its pipes.
struct Ends<'a> {
    commands: File,
    messages: File,
    stdout: &'a OwnedFd,
    stderr: &'a OwnedFd,
}

impl Ends<'_> {
    /// No shim that reads it is no error here: the end of `commands` says so, too.
    fn say(&mut self, message: &str) {
        let _ = self
            .messages
            .write_all(format!("{}\n", message.replace('\n', " ")).as_bytes());
    }
}

fn init(program: &Program, plan: Plan, mut ends: Ends, ids: (Uid, Gid)) -> i32 {
    match prepare_and_fork(program, plan, &mut ends, ids) {
        Ok(Some(leader)) => {
            oversee(leader, plan, ends);
            0
        }
        Ok(None) => 0,
        Err(why) => {
            ends.say(&format!("weaker {why}"));
            1
        }
    }
}

/// The program's process, or `None` when it cannot be started (which has been said).
fn prepare_and_fork(program: &Program, plan: Plan, ends: &mut Ends, ids: (Uid, Gid)) -> Result<Option<Pid>, String> {
    let in_words = |why: Errno| why.desc().to_owned();
    if plan.namespaces {
        // Ending the first process of a PID namespace ends all others in it. Without one this process must live on to do it.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(in_words)?;
    } else {
        prctl::set_child_subreaper(true).map_err(in_words)?;
    }
    if plan.user_namespace {
        isolation::keep_user(ids.0, ids.1)?;
    }
    // Opened before the mounts change. A group that cannot be joined limits nothing and is none of the layers that must hold.
    let groups: Vec<File> = program
        .groups
        .iter()
        .filter_map(|group| fs::OpenOptions::new().write(true).open(group.join("cgroup.procs")).ok())
        .collect();
    let (errors_read, errors_write) = pipe2(OFlag::O_CLOEXEC).map_err(in_words)?;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|why| format!("/dev/null: {why}"))?;
    for place in [0, 1] {
        unsafe { libc::dup2(null.as_raw_fd(), place) };
    }
    drop(null);
    // Among the closed ones: the lock that says that the shim lives, and the shim's end of `commands`.
    let kept = [&ends.commands, &ends.messages].map(AsRawFd::as_raw_fd);
    let pipes = [ends.stdout, ends.stderr, &errors_read, &errors_write].map(AsRawFd::as_raw_fd);
    close_all_but(
        kept.into_iter()
            .chain(pipes)
            .chain(groups.iter().map(AsRawFd::as_raw_fd)),
    );
    if plan.namespaces {
        isolation::arrange_mounts(&View {
            hide: &program.hide,
            show: &program.show,
            tmp: &program.tmp,
            user: program.user.filter(|_| plan.own_user),
        })?;
    }
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(format!("fork: {}", Errno::last().desc())),
        0 => {
            let Err((code, why)) = become_program(program, plan, &groups, ends.stdout, ends.stderr);
            let _ = File::from(errors_write).write_all(format!("{code} {why}").as_bytes());
            unsafe { libc::_exit(127) }
        }
        leader => {
            drop(errors_write);
            for stream in [ends.stdout, ends.stderr] {
                // Owned by the shim's copy of this process's memory; here nothing uses it again.
                unsafe { libc::close(stream.as_raw_fd()) };
            }
            let mut refusal = String::new();
            let _ = File::from(errors_read).read_to_string(&mut refusal);
            if refusal.is_empty() {
                ends.say("started");
                return Ok(Some(Pid::from_raw(leader)));
            }
            let _ = waitpid(Pid::from_raw(leader), None);
            match refusal.strip_prefix("weaker ") {
                Some(why) => Err(why.to_owned()),
                None => {
                    ends.say(&format!("refused {refusal}"));
                    Ok(None)
                }
            }
        }
    }
}

/// Collects what ends, obeys the shim, and comes back when no process of the job is left.
fn oversee(leader: Pid, plan: Plan, mut ends: Ends) {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    // Also whatever a terminal or a service manager sends around: the shim decides.
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(ignored);
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None);
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
    let Ok(signals) = signals else { return };
    let own = nix::unistd::getpid().as_raw();
    let mut killing = false;
    loop {
        if collect(leader, &mut ends) {
            return;
        }
        if killing {
            end_all(plan, own, leader, &mut ends);
        }
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(ends.commands.as_fd(), PollFlags::POLLIN),
        ];
        // While something resists being killed (in the kernel), try again now and then.
        let timeout = if killing {
            PollTimeout::from(100u8)
        } else {
            PollTimeout::NONE
        };
        let watched = if killing { &mut fds[..1] } else { &mut fds[..] };
        let _ = poll(watched, timeout);
        let commanded = fds[1].any().unwrap_or(false);
        while let Ok(Some(_)) = signals.read_signal() {}
        if commanded && !killing {
            let mut byte = [0];
            match ends.commands.read(&mut byte) {
                Ok(1) if byte[0] == b't' => terminate_all(plan, own),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                _ => killing = true,
            }
        }
    }
}

/// Whether no process is left.
fn collect(leader: Pid, ends: &mut Ends) -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(process, code)) if process == leader => ends.say(&format!("ended {code} -")),
            Ok(WaitStatus::Signaled(process, signal, _)) if process == leader => {
                ends.say(&format!("ended - {}", signal as i32))
            }
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            // nix does not know real-time signals: the kernel collected it, the number is lost.
            Err(Errno::EINVAL) => ends.say("ended - 0"),
            Err(_) => return true,
        }
    }
}

fn terminate_all(plan: Plan, own: i32) {
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        if plan.namespaces {
            let _ = kill(Pid::from_raw(-1), signal);
        } else {
            tree::signal_descendants(own, signal);
        }
    }
}

fn end_all(plan: Plan, own: i32, leader: Pid, ends: &mut Ends) {
    if plan.namespaces {
        // All at once, seen from inside the namespace: everything but this process.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    } else {
        tree::kill_descendants(own, || {
            collect(leader, ends);
        });
    }
}

/// Gives way to the program. Comes back only with an exit code and a reason, or with code `weaker` when a layer of the isolation failed.
fn become_program(
    program: &Program,
    plan: Plan,
    groups: &[File],
    stdout: &OwnedFd,
    stderr: &OwnedFd,
) -> Result<std::convert::Infallible, (&'static str, String)> {
    let weaker = |what: &str| {
        let what = what.to_owned();
        move |why: Errno| ("weaker", format!("{what}: {}", why.desc()))
    };
    let _ = nix::unistd::setsid();
    for mut group in groups {
        let _ = group.write_all(b"0");
    }
    // Memory runs out: rather the job than the agent.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    for signal in Signal::iterator() {
        // SAFETY: the default action runs no code of ours. SIGKILL and SIGSTOP refuse, as they should.
        unsafe { libc::signal(signal as i32, libc::SIG_DFL) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    for (from, to) in [(stdout.as_raw_fd(), 1), (stderr.as_raw_fd(), 2)] {
        unsafe { libc::dup2(from, to) };
    }
    let limit = |resource, wanted: u64| {
        let hard = getrlimit(resource).map_or(libc::RLIM_INFINITY, |(_, hard)| hard);
        let limit = wanted.min(hard);
        setrlimit(resource, limit, limit)
    };
    let _ = limit(Resource::RLIMIT_CORE, 0);
    if let Some(bytes) = program.memory_bytes {
        let _ = limit(Resource::RLIMIT_AS, bytes);
    }
    if let Some(processes) = program.processes {
        let _ = limit(Resource::RLIMIT_NPROC, processes);
    }
    if plan.landlock {
        isolation::restrict_files(&program.hide, &program.show).map_err(|why| ("weaker", why))?;
    }
    if plan.own_user
        && let Some(user) = program.user
    {
        for capability in 0..64 {
            // Ends with the first one that the kernel does not know.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                break;
            }
        }
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
        nix::unistd::setgroups(&[]).map_err(weaker("own user"))?;
        nix::unistd::setresgid(group, group, group).map_err(weaker("own user"))?;
        nix::unistd::setresuid(user, user, user).map_err(weaker("own user"))?;
    }
    if plan.no_new_privileges {
        prctl::set_no_new_privs().map_err(weaker("no new privileges"))?;
    }
    // After the change of user, which resets it.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if let Err(why) = nix::unistd::chdir(&program.directory) {
        let closed = closed_way(&program.directory).unwrap_or_default();
        return Err((
            "126",
            format!("cannot enter {}: {}{closed}", program.directory.display(), why.desc()),
        ));
    }
    close_from_three();
    Err(execute(program))
}

fn execute(program: &Program) -> (&'static str, String) {
    let mut denied = None;
    for candidate in &program.candidates {
        let Err(why) = nix::unistd::execve(candidate, &program.arguments, &program.environment);
        let path = Path::new(OsStr::from_bytes(candidate.as_bytes()));
        match why {
            Errno::ENOENT if path.exists() => {
                return (
                    "127",
                    format!(
                        "{}: the interpreter named in its first line is not there",
                        path.display()
                    ),
                );
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => match closed_way(path) {
                // Along PATH it is most likely not there at all; the shim, which may look there, says so if it is.
                Some(_) if !program.name.contains('/') => {}
                Some(closed) => return ("126", format!("{}: permission denied{closed}", path.display())),
                None => {
                    let why = format!(
                        "{}: permission denied; it is not executable for the job's user",
                        path.display()
                    );
                    denied.get_or_insert(why);
                }
            },
            Errno::ENOEXEC => {
                let hint = "it is neither a program for this machine nor a script that begins with #!";
                return ("126", format!("{}: {hint}", path.display()));
            }
            Errno::E2BIG => return ("126", "its arguments and environment together are too long".into()),
            other => return ("126", format!("{}: {}", path.display(), other.desc())),
        }
    }
    match denied {
        Some(why) => ("126", why),
        None if program.name.contains('/') => ("127", format!("`{}` is not there", program.name)),
        None => ("127", format!("`{}` is not found along PATH", program.name)),
    }
}

/// Words for the directory on the way to `path` that this process may not pass.
fn closed_way(path: &Path) -> Option<String> {
    let mut way: Vec<&Path> = path.ancestors().skip(1).collect();
    way.reverse();
    let closed = way
        .into_iter()
        .find(|directory| nix::unistd::access(*directory, nix::unistd::AccessFlags::X_OK) == Err(Errno::EACCES))?;
    Some(format!(
        "; the job's OS user ({}) cannot enter {}",
        Uid::current(),
        closed.display()
    ))
}

/// Standard input, output and error stay, too.
fn close_all_but(kept: impl Iterator<Item = RawFd>) {
    let mut kept: Vec<libc::c_uint> = kept.map(|fd| fd as libc::c_uint).collect();
    kept.sort_unstable();
    let mut from = 3;
    for fd in kept.into_iter().chain([libc::c_uint::MAX]) {
        if fd > from {
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd.saturating_add(1);
    }
}

fn close_from_three() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // Marked, not closed: the pipe that tells a failed start apart must live until then.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) } == 0 {
        return;
    }
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Some(fd) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RawFd>().ok())
            .filter(|fd| *fd > 2)
        {
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

//! `ml agent doctor`: tries each layer of the isolation for real, and says what to do about those that do not hold.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Uid, fork, pipe2};

use crate::cgroup::Cgroups;
use crate::isolation::{self, Plan};
use crate::job_dir::{Isolate, size_words};
use crate::launch::{self, Program};
use crate::slots;

/// One thing that an agent on this machine can or cannot rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub holds: bool,
    /// What was found, and what to do where it does not hold.
    pub detail: String,
}

fn check(name: &str, result: Result<String, String>) -> Check {
    let holds = result.is_ok();
    let detail = result.unwrap_or_else(|why| why);
    Check {
        name: name.to_owned(),
        holds,
        detail,
    }
}

/// What holds on this machine for an agent with this directory (made if it is not there).
pub fn doctor(options_dir: &Path) -> Vec<Check> {
    let place = match Place::make(options_dir) {
        Ok(place) => place,
        Err(why) => return vec![check("directory", Err(format!("{}: {why}", options_dir.display())))],
    };
    let root = Uid::effective().is_root();
    let plans = Plan::all(Isolate::Auto, false);
    let cgroups = in_child(|| Ok(serde_json::to_string(&Cgroups::prepare()).unwrap_or_default()));
    let cgroups: Cgroups = cgroups
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    vec![
        check("directory", directory(&place.dir)),
        check("own user", own_user(&place)),
        check(
            "namespaces",
            place.hides(plans[0]).map(|()| "hidden directories are invisible to jobs, other processes too".to_owned()).map_err(|why| {
                let hint = if root {
                    "in a container give it CAP_SYS_ADMIN"
                } else {
                    "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, and on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0"
                };
                format!("{why}; {hint}")
            }),
        ),
        check(
            "Landlock",
            place.hides(plans[1]).map(|()| "takes over where namespaces do not hold".to_owned()).map_err(|why| {
                format!("{why}; it needs Linux 5.13 or later with `landlock` among the security modules (lsm=)")
            }),
        ),
        check("cgroup", kill_group(&cgroups)),
        check("memory limit", controller(cgroups.memory.is_some(), "memory", "counted as address space of each process (RLIMIT_AS) instead")),
        check("process limit", controller(cgroups.pids.is_some(), "pids", "counted for each OS user (RLIMIT_NPROC) instead")),
        check("programs", programs(root)),
        check(
            "file watching",
            Inotify::init(InitFlags::IN_CLOEXEC)
                .map(|_| "logs travel as soon as they are written".to_owned())
                .map_err(|why| format!("{}; raise fs.inotify.max_user_instances", why.desc())),
        ),
        check("slots", Ok(slots_words())),
    ]
}

/// Whether one of the layers holds without which `--isolate require` runs no job; else why none does. Takes some hundredths of a second.
pub fn can_isolate(dir: &Path) -> Result<(), String> {
    let place = Place::make(dir).map_err(|why| format!("{}: {why}", dir.display()))?;
    let mut whys = Vec::new();
    for plan in Plan::all(Isolate::Require, false) {
        match place.hides(plan) {
            Ok(()) => return Ok(()),
            Err(why) => whys.push(why),
        }
    }
    Err(format!(
        "isolation is required (`--isolate require`) and cannot be had on this machine: {}; see `ml agent doctor`",
        whys.join("; ")
    ))
}

fn slots_words() -> String {
    match slots::Slots::find(None, None) {
        Ok(slots) => {
            let kind = if slots.has_gpus { "GPU" } else { "CPU slot" };
            let plural = if slots.list.len() == 1 { "" } else { "s" };
            let name = slots.list.first().map_or("", |slot| slot.name.as_str());
            format!("{} {kind}{plural}: {name}", slots.list.len())
        }
        Err(why) => why,
    }
}

fn directory(dir: &Path) -> Result<String, String> {
    let (free, total) = slots::disk_space(dir).ok_or("its file system does not say how much space there is")?;
    let least = slots::least_free(total);
    if free < least {
        return Err(format!(
            "{} free of {}; below {} no job is started",
            size_words(free),
            size_words(total),
            size_words(least)
        ));
    }
    Ok(format!("{}: {} free", dir.display(), size_words(free)))
}

fn own_user(place: &Place) -> Result<String, String> {
    let Some(user) = isolation::own_user(Isolate::Auto, 0) else {
        return Err("jobs run as the agent's own user; start the agent as root (with CAP_SETUID, CAP_SETGID, CAP_CHOWN) to give each its own".into());
    };
    let plan = Plan {
        own_user: true,
        ..Plan::all(Isolate::Auto, true)[2]
    };
    let code = place.run(plan, &place.secret(), Some(user))?;
    if code == Some(0) {
        return Err("a program as another user still read what belongs to the agent alone".into());
    }
    Ok("each job is an OS user of its own".into())
}

fn controller(there: bool, name: &str, instead: &str) -> Result<String, String> {
    if there {
        Ok(format!("through the {name} control group"))
    } else {
        Err(format!(
            "the {name} control group cannot be used: {instead}; run the agent as root, or as a systemd service with Delegate=yes"
        ))
    }
}

/// Programs that jobs' own users cannot reach are not found by them.
fn programs(root: bool) -> Result<String, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    if !root {
        return Ok("jobs find the programs that the agent finds".into());
    }
    let closed: Vec<String> = path
        .split(':')
        .filter(|directory| Path::new(directory).is_dir())
        .filter(|directory| isolation::closed_to(Path::new(directory), u32::MAX - 2).is_some())
        .map(str::to_owned)
        .collect();
    if closed.is_empty() {
        return Ok("jobs' users can enter all of PATH".into());
    }
    Err(format!(
        "jobs' users cannot enter {}: programs there (a Python?) are not found by jobs; install them where all may read",
        closed.join(", ")
    ))
}

fn kill_group(cgroups: &Cgroups) -> Result<String, String> {
    if cgroups.kill.is_none() {
        return Err(
            "no group of version 2 can be made: a job's processes are ended one by one instead (which works, too)"
                .into(),
        );
    }
    let name = format!("doctor.{}", std::process::id());
    let group = cgroups.job(&name, None, 100);
    // SAFETY: the child only waits to be killed.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Child) => loop {
            nix::unistd::pause();
        },
        Ok(ForkResult::Parent { child }) => child,
        Err(why) => return Err(why.desc().to_owned()),
    };
    for place in &group.groups {
        let _ = fs::write(place.join("cgroup.procs"), child.to_string());
    }
    let killed = group.kill();
    if !killed {
        let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGKILL);
    }
    let _ = waitpid(child, None);
    group.remove();
    if killed {
        Ok("a job's processes are ended all at once".into())
    } else {
        Err("a group cannot be ended at once".into())
    }
}

/// A directory with a secret that a job must not read.
struct Place {
    dir: PathBuf,
    trial: PathBuf,
}

impl Place {
    fn make(dir: &Path) -> std::io::Result<Place> {
        let make = |path: &Path, mode| fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        make(dir, 0o711)?;
        let dir = dir.canonicalize()?;
        let trial = dir.join(format!("doctor.{}", std::process::id()));
        make(&trial, 0o711)?;
        for (name, mode) in [("work", 0o777), ("tmp", 0o777), ("hidden", 0o711)] {
            make(&trial.join(name), mode)?;
        }
        let place = Place { dir, trial };
        fs::write(place.secret(), "secret")?;
        fs::set_permissions(place.secret(), fs::Permissions::from_mode(0o600))?;
        Ok(place)
    }

    fn secret(&self) -> PathBuf {
        self.trial.join("hidden/secret")
    }

    /// Whether a program under this plan runs, and cannot read the secret.
    fn hides(&self, plan: Plan) -> Result<(), String> {
        match self.run(plan, &self.secret(), None)? {
            Some(0) => Err("a hidden file could be read".into()),
            _ => Ok(()),
        }
    }

    /// Runs `cat FILE` under a plan; its exit code.
    fn run(&self, plan: Plan, file: &Path, user: Option<u32>) -> Result<Option<i32>, String> {
        let text = |text: &str| CString::new(text).map_err(|why| why.to_string());
        let program = Program {
            candidates: vec![text("/bin/cat")?, text("/usr/bin/cat")?],
            name: "cat".into(),
            arguments: vec![text("cat")?, text(&file.to_string_lossy())?],
            environment: Vec::new(),
            // As its own user it need not reach a directory below one that is closed.
            directory: if plan.own_user && !plan.namespaces {
                "/".into()
            } else {
                self.trial.join("work")
            },
            user,
            hide: vec![self.trial.join("hidden")],
            show: vec![self.trial.join("work"), self.trial.join("tmp")],
            tmp: self.trial.join("tmp"),
            groups: Vec::new(),
            memory_bytes: None,
            processes: None,
        };
        let said = in_child(|| {
            let null = fs::OpenOptions::new()
                .write(true)
                .open("/dev/null")
                .map_err(|why| why.to_string())?;
            let null = std::os::fd::OwnedFd::from(null);
            let mut init = launch::start(&program, plan, &null, &null)?;
            let mut said = String::new();
            init.messages.read_to_string(&mut said).map_err(|why| why.to_string())?;
            let _ = waitpid(init.pid, None);
            Ok(said)
        })?;
        let mut code = None;
        for line in said.lines() {
            if let Some(why) = line.strip_prefix("weaker ") {
                return Err(why.to_owned());
            }
            if let Some(why) = line.strip_prefix("refused ") {
                return Err(format!("a program cannot be started: {why}"));
            }
            if let Some(ended) = line.strip_prefix("ended ") {
                code = ended.split(' ').next().and_then(|code| code.parse().ok());
            }
        }
        Ok(code)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.trial);
    }
}

/// In a process with one thread, whatever this one has; for at most ten seconds.
fn in_child(act: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|why| why.desc().to_owned())?;
    // SAFETY: fork(2) of the C library leaves its own locks in order; nothing else is used that another thread may hold.
    match unsafe { fork() }.map_err(|why| why.desc().to_owned())? {
        ForkResult::Child => {
            drop(read);
            let text = match act() {
                Ok(text) => format!("+{text}"),
                Err(why) => format!("-{why}"),
            };
            let _ = File::from(write).write_all(text.as_bytes());
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let until = Instant::now() + Duration::from_secs(10);
            let mut text = Vec::new();
            let mut file = File::from(read);
            let mut piece = [0; 4096];
            loop {
                let left = until.saturating_duration_since(Instant::now()).as_millis() as u16;
                let mut fds = [nix::poll::PollFd::new(
                    std::os::fd::AsFd::as_fd(&file),
                    nix::poll::PollFlags::POLLIN,
                )];
                let ready = nix::poll::poll(&mut fds, left);
                if left == 0 || ready == Ok(0) {
                    let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGKILL);
                    let _ = waitpid(child, None);
                    return Err("it did not come to an end".into());
                }
                match file.read(&mut piece) {
                    Ok(0) => break,
                    Ok(read) => text.extend_from_slice(&piece[..read]),
                    Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            let _ = waitpid(child, None);
            let text = String::from_utf8_lossy(&text).into_owned();
            match text.split_at_checked(1) {
                Some(("+", text)) => Ok(text.to_owned()),
                Some((_, why)) => Err(why.to_owned()),
                None => Err("it ended without a word".into()),
            }
        }
    }
}

//! Shutting a job off from what is not its own: the agent's key, the server's data, other jobs' files.
//!
//! A plan names the layers; the shim tries the strongest plan first and takes the next weaker one when a layer fails, saying so in the job's log.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use landlock::{ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus};
use nix::fcntl::OFlag;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use crate::job_dir::Isolate;

/// Jobs' own OS users are counted from here; no system hands these numbers out by itself.
const FIRST_USER: i64 = 700_000;
const USERS: i64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// A mount, PID and IPC namespace.
    pub namespaces: bool,
    /// Made inside a user namespace, as an ordinary user must.
    pub user_namespace: bool,
    pub landlock: bool,
    pub own_user: bool,
    pub no_new_privileges: bool,
}

const NOTHING: Plan = Plan {
    namespaces: false,
    user_namespace: false,
    landlock: false,
    own_user: false,
    no_new_privileges: false,
};

impl Plan {
    /// From the strongest to the weakest.
    pub fn all(isolate: Isolate, own_user: bool) -> Vec<Plan> {
        let auto = Plan {
            no_new_privileges: true,
            own_user,
            ..NOTHING
        };
        match isolate {
            Isolate::None => vec![NOTHING],
            Isolate::Auto | Isolate::Require => {
                let strong = [
                    Plan {
                        namespaces: true,
                        user_namespace: !Uid::effective().is_root(),
                        ..auto
                    },
                    Plan { landlock: true, ..auto },
                ];
                let weak = (isolate == Isolate::Auto).then_some(auto);
                strong.into_iter().chain(weak).collect()
            }
        }
    }

    /// `own user, namespaces, cgroup`.
    pub fn words(self, cgroup: bool) -> String {
        let layers = [
            (self.own_user, "own user"),
            (self.namespaces, "namespaces"),
            (self.landlock, "Landlock"),
            (cgroup, "cgroup"),
        ];
        let words: Vec<&str> = layers
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, word)| *word)
            .collect();
        if words.is_empty() {
            "nothing but its own process group and limits".into()
        } else {
            words.join(", ")
        }
    }

    pub fn clone_flags(self) -> i32 {
        let mut flags = 0;
        if self.namespaces {
            flags |= libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        }
        if self.user_namespace {
            flags |= libc::CLONE_NEWUSER;
        }
        flags
    }
}

/// The OS user of a job, when this process may become another one.
pub fn own_user(isolate: Isolate, job: i64) -> Option<u32> {
    let may = isolate != Isolate::None
        && Uid::effective().is_root()
        && has_capabilities(&[CAP_CHOWN, CAP_SETGID, CAP_SETUID]);
    may.then(|| (FIRST_USER + job.rem_euclid(USERS)) as u32)
}

const CAP_CHOWN: u32 = 0;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

fn has_capabilities(wanted: &[u32]) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0);
    wanted.iter().all(|capability| effective & (1 << capability) != 0)
}

/// What a job in its own mount namespace sees of the places that are hidden from it.
pub struct View<'a> {
    pub hide: &'a [PathBuf],
    /// Shown again under its own path: the job's directory and file.
    pub show: &'a [PathBuf],
    /// Stands in the place of /tmp and /var/tmp.
    pub tmp: &'a Path,
    pub user: Option<u32>,
}

/// An error with the layer that failed.
fn failed(what: &str) -> impl Fn(nix::errno::Errno) -> String + '_ {
    move |why| format!("{what}: {}", why.desc())
}

/// Inside a new user namespace: go on as the same user.
pub fn keep_user(user: Uid, group: Gid) -> Result<(), String> {
    let write = |name: &str, text: String| {
        fs::write(format!("/proc/self/{name}"), text).map_err(|why| format!("user namespace: {name}: {why}"))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("{user} {user} 1"))?;
    write("gid_map", format!("{group} {group} 1"))
}

/// Inside new mount and PID namespaces, as the first process there: hides what is to be hidden.
pub fn arrange_mounts(view: &View) -> Result<(), String> {
    const NONE: Option<&str> = None;
    // Later mounts of the machine (network file systems) still arrive; none of ours leaves.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).map_err(failed("mount namespace"))?;

    let shown: Vec<(&PathBuf, OwnedFd)> = view
        .show
        .iter()
        .map(|path| {
            let open = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
            open.map(|fd| (path, fd)).map_err(failed("the job's directory"))
        })
        .collect::<Result<_, _>>()?;
    let open = nix::fcntl::open(view.tmp, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let tmp_fd = open.map_err(failed("a private /tmp"))?;
    // Not by its path, which leads through /tmp when the agent's directory stands there.
    let tmp = format!("/proc/self/fd/{}", tmp_fd.as_raw_fd());
    // Looked at before /tmp changes: a hidden directory may stand below it.
    let covers = covers(view);
    let everybodys = everybodys_directories();
    for place in ["/tmp", "/var/tmp"] {
        if Path::new(place).is_dir() {
            mount(Some(tmp.as_str()), place, NONE, MsFlags::MS_BIND, NONE).map_err(failed("a private /tmp"))?;
        }
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for place in &everybodys {
        // The same directory as for /tmp: a file system of their own for each would take its time at every end of a job.
        match mount(Some(tmp.as_str()), place, NONE, MsFlags::MS_BIND, NONE) {
            // It went away meanwhile.
            Err(nix::errno::Errno::ENOENT) => {}
            mounted => mounted.map_err(failed("a private directory"))?,
        }
    }
    if Path::new("/dev/shm").is_dir() {
        mount(Some("shm"), "/dev/shm", Some("tmpfs"), flags, Some("mode=1777"))
            .map_err(failed("a private /dev/shm"))?;
    }
    for cover in &covers {
        if cover.is_dir() {
            mount(Some("hidden"), cover, Some("tmpfs"), flags, Some("mode=755,size=1m"))
                .map_err(failed("hiding a directory"))?;
        } else if cover.is_file() {
            // Still there, and empty.
            mount(Some("/dev/null"), cover, NONE, MsFlags::MS_BIND, NONE).map_err(failed("hiding a file"))?;
        }
    }
    for (path, fd) in &shown {
        show_again(path, fd).map_err(|why| format!("the job's directory: {why}"))?;
    }
    for cover in &covers {
        if cover.is_dir() {
            let flags =
                MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            // One that vanished below another cover is no mount point.
            let _ = mount(NONE, cover, NONE, flags, NONE);
        }
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE).map_err(failed("a /proc of its own"))
}

/// The machine's directories in which every user may write, where jobs could leave each other files: `/run/lock`, `/dev/mqueue`, and whatever else programs
/// have put beside them. `/tmp`, `/var/tmp` and `/dev/shm` are dealt with apart. What an administrator has opened elsewhere is meant to be shared.
fn everybodys_directories() -> Vec<PathBuf> {
    let below = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            // Where a link leads is found there.
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect()
    };
    let var = below(Path::new("/var"));
    let deeper: Vec<PathBuf> = var.iter().flat_map(|directory| below(directory)).collect();
    let mut places = [below(Path::new("/run")), below(Path::new("/dev")), var, deeper].concat();
    places.retain(|place| {
        ["/var/tmp", "/dev/shm"].iter().all(|apart| !place.starts_with(apart))
            && fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir() && metadata.mode() & 0o002 != 0)
    });
    places.sort();
    let mut outermost: Vec<PathBuf> = Vec::new();
    for place in places {
        if !outermost.iter().any(|above| place.starts_with(above)) {
            outermost.push(place);
        }
    }
    outermost
}

/// The hidden directories and files, parents first. A directory above the job's own that its user could not pass is hidden as a whole: this takes nothing away from the job
/// and lets it reach its own directory.
fn covers(view: &View) -> Vec<PathBuf> {
    let mut covers: Vec<PathBuf> = view.hide.iter().filter_map(|path| path.canonicalize().ok()).collect();
    if let Some(user) = view.user {
        covers.extend(view.show.iter().filter_map(|path| closed_to(path.parent()?, user)));
    }
    covers.retain(|path| path != Path::new("/"));
    covers.sort();
    covers.dedup();
    covers
}

fn show_again(path: &Path, fd: &OwnedFd) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other("it has no parent"))?;
    fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
    if fs::metadata(&source)?.is_dir() {
        match fs::create_dir(path) {
            Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(why),
            _ => {}
        }
    } else {
        fs::OpenOptions::new().append(true).create(true).open(path)?;
    }
    mount(
        Some(source.as_str()),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(())
}

/// The first directory on the way down to `path` (itself included) that another user than its owner cannot enter. Access lists are not looked at.
pub fn closed_to(path: &Path, user: u32) -> Option<PathBuf> {
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|directory| {
            fs::metadata(directory).is_ok_and(|metadata| {
                let bit = if metadata.uid() == user { 0o100 } else { 0o001 };
                metadata.is_dir() && metadata.mode() & bit == 0
            })
        })
        .map(Path::to_owned)
}

/// For this process and all after it: read everything except `hide`, write only `write` and the usual devices.
pub fn restrict_files(hide: &[PathBuf], write: &[PathBuf]) -> Result<(), String> {
    let failed = |why: landlock::RulesetError| format!("Landlock: {why}");
    let hide: Vec<PathBuf> = hide.iter().filter_map(|path| path.canonicalize().ok()).collect();
    // What the kernel does not know of the newest version is left out by the library.
    let abi = ABI::V5;
    let read = AccessFs::from_read(abi);
    let all = AccessFs::from_all(abi);
    let mut rules = Ruleset::default()
        .handle_access(all)
        .and_then(|rules| rules.create())
        .map_err(failed)?;
    let mut allow = |path: &Path, access| -> Result<(), String> {
        let Ok(fd) = PathFd::new(path) else { return Ok(()) };
        let access = if path.is_dir() {
            access
        } else {
            access & AccessFs::from_file(abi)
        };
        (&mut rules)
            .add_rule(PathBeneath::new(fd, access))
            .map(|_| ())
            .map_err(failed)
    };
    for path in visible(Path::new("/"), &hide) {
        allow(&path, read)?;
    }
    for path in visible(Path::new("/tmp"), &hide).iter().chain(write) {
        allow(path, all)?;
    }
    allow(Path::new("/dev"), read | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    allow(Path::new("/dev/shm"), all)?;
    let status = rules.restrict_self().map_err(failed)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("Landlock: this kernel does not have it".into()),
        _ => Ok(()),
    }
}

/// Paths which together hold everything under `root` except what is hidden.
fn visible(root: &Path, hide: &[PathBuf]) -> Vec<PathBuf> {
    if hide.iter().any(|hidden| root.starts_with(hidden)) {
        return Vec::new();
    }
    if !hide.iter().any(|hidden| hidden.starts_with(root)) {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        // A link is followed to where it leads, which has a rule of its own or none.
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
        .flat_map(|entry| visible(&entry.path(), hide))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_visible_goes_around_the_hidden_directories() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["a/secret", "a/open", "b"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let mut paths = visible(&root, &[root.join("a/secret")]);
        paths.sort();
        assert_eq!(paths, [root.join("a/open"), root.join("b")]);
        assert_eq!(
            visible(&root.join("a/secret/deep"), &[root.join("a/secret")]),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn required_isolation_has_no_plan_without_namespaces_or_landlock() {
        let plans = Plan::all(Isolate::Require, true);
        assert_eq!(plans[..], Plan::all(Isolate::Auto, true)[..2]);
        assert!(plans.iter().all(|plan| plan.namespaces || plan.landlock));
    }

    #[test]
    fn a_directory_that_a_user_cannot_pass_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("deep");
        fs::create_dir(&deep).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_to(&deep, 712_345), Some(dir.path().to_owned()));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(closed_to(&deep, 712_345), None);
    }
}

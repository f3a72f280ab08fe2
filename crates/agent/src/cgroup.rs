//! Control groups, as far as they may be used here: version 2, version 1, or both mounted side by side.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where jobs' groups are made. What is `None` cannot be used on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroups {
    /// Of version 2: ends a whole group at once, fork bombs included.
    pub kill: Option<PathBuf>,
    pub memory: Option<Controller>,
    pub pids: Option<Controller>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    pub parent: PathBuf,
    pub version: u8,
}

/// Under the agent's own group, for all its jobs.
const PARENT: &str = "bailiwick";
/// Version 2 does not let a group have both processes and limited children: the agent itself moves in here.
const LEAF: &str = "bailiwick-agent";

impl Cgroups {
    /// Makes the parent groups; an agent calls it once.
    pub fn prepare() -> Cgroups {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut found = Cgroups::default();
        if let Some(base) = mount_point(&mounts, "cgroup2", "").map(|mount| own_group(&mount, &own, "")) {
            found.prepare_v2(&base);
        }
        for name in ["memory", "pids"] {
            let Some(mount) = mount_point(&mounts, "cgroup", name) else {
                continue;
            };
            let parent = own_group(&mount, &own, name).join(PARENT);
            if make(&parent).is_err() || !writable(&parent) {
                continue;
            }
            let controller = Some(Controller { parent, version: 1 });
            match name {
                "memory" => found.memory = found.memory.or(controller),
                _ => found.pids = found.pids.or(controller),
            }
        }
        found
    }

    fn prepare_v2(&mut self, base: &Path) {
        let parent = base.join(PARENT);
        if make(&parent).is_err() || !writable(&parent) {
            return;
        }
        if parent.join("cgroup.kill").exists() {
            self.kill = Some(parent.clone());
        }
        let there = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
        for name in ["memory", "pids"] {
            if !there.split_whitespace().any(|controller| controller == name) {
                continue;
            }
            let enable = |group: &Path| fs::write(group.join("cgroup.subtree_control"), format!("+{name}"));
            let enabled = enable(base).or_else(|_| {
                let leaf = base.join(LEAF);
                make(&leaf)?;
                fs::write(leaf.join("cgroup.procs"), std::process::id().to_string())?;
                enable(base)
            });
            if enabled.and_then(|()| enable(&parent)).is_ok() {
                let controller = Some(Controller {
                    parent: parent.clone(),
                    version: 2,
                });
                match name {
                    "memory" => self.memory = controller,
                    _ => self.pids = controller,
                }
            }
        }
    }

    /// All places where a job's group may stand.
    fn parents(&self) -> Vec<&PathBuf> {
        let mut parents: Vec<&PathBuf> = self.kill.iter().collect();
        for controller in [&self.memory, &self.pids].into_iter().flatten() {
            if !parents.contains(&&controller.parent) {
                parents.push(&controller.parent);
            }
        }
        parents
    }

    /// Ends whatever is left of a job and removes its groups.
    pub fn end(&self, name: &str) {
        let groups: Vec<PathBuf> = self.parents().iter().map(|parent| parent.join(name)).collect();
        end(&groups);
    }

    /// Makes the groups of one job and sets its limits.
    pub fn job(&self, name: &str, memory_mb: Option<i64>, processes: i64) -> JobCgroup {
        let mut job = JobCgroup::default();
        for parent in self.parents() {
            let group = parent.join(name);
            if make(&group).is_ok() {
                job.groups.push(group);
            }
        }
        if let (Some(memory), Some(mb)) = (&self.memory, memory_mb) {
            let group = memory.parent.join(name);
            let bytes = (mb.saturating_mul(1_000_000)).to_string();
            let set = if memory.version == 2 {
                let _ = fs::write(group.join("memory.swap.max"), "0");
                // One killed process of several leaves the others waiting for it: end all.
                let _ = fs::write(group.join("memory.oom.group"), "1");
                fs::write(group.join("memory.max"), &bytes)
            } else {
                let set = fs::write(group.join("memory.limit_in_bytes"), &bytes);
                let _ = fs::write(group.join("memory.memsw.limit_in_bytes"), &bytes);
                set
            };
            if set.is_ok() {
                let events = if memory.version == 2 {
                    "memory.events"
                } else {
                    "memory.oom_control"
                };
                job.memory_events = Some(group.join(events));
            }
        }
        if let Some(pids) = &self.pids {
            let group = pids.parent.join(name);
            job.limits_processes = fs::write(group.join("pids.max"), processes.to_string()).is_ok();
        }
        job
    }
}

/// The groups of one job.
#[derive(Debug, Default)]
pub struct JobCgroup {
    pub groups: Vec<PathBuf>,
    /// Where to see kills for want of memory; there when memory is limited through it.
    pub memory_events: Option<PathBuf>,
    pub limits_processes: bool,
}

impl JobCgroup {
    pub fn killed_for_memory(&self) -> bool {
        let Some(events) = &self.memory_events else {
            return false;
        };
        let text = fs::read_to_string(events).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count.trim() != "0")
    }

    /// SIGKILL to all at once, where version 2 is there.
    pub fn kill(&self) -> bool {
        let mut killed = false;
        for group in &self.groups {
            killed |= fs::write(group.join("cgroup.kill"), "1").is_ok();
        }
        killed
    }

    pub fn remove(&self) {
        end(&self.groups);
    }
}

fn end(groups: &[PathBuf]) {
    for group in groups {
        if fs::remove_dir(group).is_ok() || !group.exists() {
            continue;
        }
        // An ended process leaves its group a moment later; a few rounds also cover a group in which something still forks.
        for _ in 0..100 {
            if fs::write(group.join("cgroup.kill"), "1").is_err() {
                let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                for process in processes.lines().filter_map(|line| line.parse().ok()) {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::SIGKILL);
                }
            }
            if fs::remove_dir(group).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        _ => Ok(()),
    }
}

fn writable(group: &Path) -> bool {
    fs::OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.procs"))
        .is_ok()
}

/// Where a hierarchy is mounted.
fn mount_point(mounts: &str, kind: &str, controller: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        let is_it = back.next()? == kind
            && (controller.is_empty() || back.nth(1)?.split(',').any(|option| option == controller));
        is_it.then(|| front.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// The agent's own group, or the topmost one where that cannot be seen (in a container).
fn own_group(mount: &Path, own: &str, controller: &str) -> PathBuf {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    });
    let path = path.unwrap_or("/").trim_start_matches('/');
    let path = Path::new(path);
    let path = match path.file_name() {
        Some(name) if name == LEAF => path.parent().unwrap_or(Path::new("")),
        _ => path,
    };
    let group = mount.join(path);
    if group.is_dir() { group } else { mount.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_in_every_layout() {
        let mixed = "30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                     40 24 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(
            mount_point(mixed, "cgroup", "memory"),
            Some("/sys/fs/cgroup/memory".into())
        );
        assert_eq!(mount_point(mixed, "cgroup", "pids"), None);
        assert_eq!(mount_point(mixed, "cgroup2", ""), Some("/sys/fs/cgroup/unified".into()));
        let unified = "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mount_point(unified, "cgroup2", ""), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn an_agent_in_its_leaf_finds_the_group_above_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("service/bailiwick-agent")).unwrap();
        let own = "0::/service/bailiwick-agent\n4:memory:/elsewhere\n";
        assert_eq!(own_group(dir.path(), own, ""), dir.path().join("service"));
        assert_eq!(own_group(dir.path(), own, "memory"), dir.path());
    }
}

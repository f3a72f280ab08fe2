//! Process trees, by walking through /proc: where there is neither a control group nor a PID namespace to do it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Parents and children, without the ended ones that wait to be collected.
fn children() -> BTreeMap<i32, Vec<i32>> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in processes() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        // The name in the middle may hold anything, parentheses too.
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let mut fields = rest.split(' ');
        let (Some(state), Some(Ok(parent))) = (fields.next(), fields.next().map(str::parse::<i32>)) else {
            continue;
        };
        if !matches!(state, "Z" | "X") {
            children.entry(parent).or_default().push(process);
        }
    }
    children
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// All that descend from `root`, itself left out, asking only those where the kernel says whose children are whose: a machine may have many processes.
pub fn below(root: i32) -> Vec<i32> {
    if !Path::new(&format!("/proc/{root}/task/{root}/children")).exists() {
        return descendants(root).into_iter().collect();
    }
    let (mut found, mut waiting) = (Vec::new(), vec![root]);
    while let Some(parent) = waiting.pop() {
        // Each thread has children of its own.
        for thread in fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children: Vec<i32> = children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect();
            found.extend(&children);
            waiting.extend(children);
        }
    }
    found
}

/// All that descend from `root`, itself left out.
pub fn descendants(root: i32) -> BTreeSet<i32> {
    let children = children();
    let mut found = BTreeSet::new();
    let mut waiting = vec![root];
    while let Some(parent) = waiting.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if found.insert(*child) {
                waiting.push(*child);
            }
        }
    }
    found
}

pub fn signal_descendants(root: i32, signal: Signal) {
    for process in descendants(root) {
        let _ = kill(Pid::from_raw(process), signal);
    }
}

/// Ends all that descend from `root`, whatever they do about it, in rounds until none is left or five seconds have passed.
/// Whoever calls it must be the one to whom orphans of that tree fall.
pub fn kill_descendants(root: i32, mut collect: impl FnMut()) {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        // Stopped first: a process that forks faster than it is found would get away otherwise.
        let mut stopped = BTreeSet::new();
        loop {
            let new: Vec<i32> = descendants(root).difference(&stopped).copied().collect();
            if new.is_empty() || Instant::now() > until {
                break;
            }
            for process in new {
                let _ = kill(Pid::from_raw(process), Signal::SIGSTOP);
                stopped.insert(process);
            }
        }
        if stopped.is_empty() {
            return;
        }
        for process in stopped {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        collect();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes of jobs under `jobs` whose directory's name is not among `held`: what a killed shim left behind.
pub fn leftovers(jobs: &Path, held: &BTreeSet<String>) -> Vec<i32> {
    let mut marker = b"ML_JOB_DIR=".to_vec();
    marker.extend_from_slice(jobs.as_os_str().as_bytes());
    marker.push(b'/');
    let own = std::process::id() as i32;
    processes()
        .into_iter()
        .filter(|process| *process != own)
        .filter(|process| {
            let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            let name = environment
                .split(|byte| *byte == 0)
                .find_map(|variable| variable.strip_prefix(&marker[..]));
            name.is_some_and(|name| !held.contains(&*String::from_utf8_lossy(name)))
        })
        .collect()
}

/// Ends leftovers in rounds until none is found.
pub fn kill_leftovers(jobs: &Path, held: &BTreeSet<String>) -> usize {
    let mut killed = BTreeSet::new();
    for _ in 0..200 {
        let found = leftovers(jobs, held);
        if found.is_empty() {
            break;
        }
        for process in found {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
            killed.insert(process);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.len()
}

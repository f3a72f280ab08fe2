//! A job's directory: what the agent and the job's shim say to each other, and what survives the end of either.
//!
//! ```text
//! DIR/jobs/JOB.FENCE/
//!   spec.json    what to run and how, with its key and the values of its vaults; written before anything else (0600)
//!   shim.lock    locked by the shim for as long as it lives; holds its process id
//!   control      a fifo: a byte in it tells the shim to look at `stop` and `lease` again
//!   stop         how to end the job; the last one written counts
//!   lease        until when the job may run without news from the server (milliseconds of CLOCK_BOOTTIME)
//!   started      written by the shim once the program runs
//!   spool/       log lines not yet sent
//!   usage/now    what its processes use, written by the shim every few seconds
//!   exit.json    written by the shim as the last thing: how the job ended
//!   offset       the number of the last log line of earlier restarts
//!   work/ tmp/ config.json    what the job itself sees
//! ```
//! Everything small is written beside its place and renamed, so that a reader sees all of it or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bailiwick_api::agents::{Happened, Held, JobLease, SlotKind};
use bailiwick_api::experiments::{Stop, Usage};
use bailiwick_api::{JobId, Time};
use nix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroups;

/// How a job is shut off from everything that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolate {
    /// As strongly as the machine allows.
    #[default]
    Auto,
    /// By namespaces or at least Landlock; where neither can be had, no job is run.
    Require,
    /// Not at all: jobs run as the agent's own user and see what it sees.
    None,
}

impl Isolate {
    pub fn parse(word: &str) -> Option<Isolate> {
        match word {
            "auto" => Some(Isolate::Auto),
            "require" => Some(Isolate::Require),
            "none" => Some(Isolate::None),
            _ => None,
        }
    }
}

/// All that a shim needs to know about its job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    pub lease: JobLease,
    pub server: String,
    pub slot_kind: SlotKind,
    pub slots: Vec<u32>,
    /// The machine has GPUs: a job without one must not find them by itself.
    pub has_gpus: bool,
    pub isolate: Isolate,
    /// The job's own OS user (and group), when the agent may make one.
    pub user: Option<u32>,
    /// Directories that the job must not see.
    pub hide: Vec<PathBuf>,
    /// From the agent's configuration file and its account's vaults: below those of the job's vaults.
    #[serde(default)]
    pub default_env: BTreeMap<String, String>,
    /// From the agent's command line.
    pub job_env: BTreeMap<String, String>,
    /// From enforced vaults of the agent's account: above the experiment's own.
    #[serde(default)]
    pub enforced_env: BTreeMap<String, String>,
    pub path: String,
    pub lang: String,
    pub cgroups: Cgroups,
    /// Name of the job's control groups.
    pub group: String,
}

/// How to end a job, from the agent to the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopFile {
    pub how: Stop,
    /// Why, for the report, unless the job ends by itself.
    pub reason: Option<String>,
    /// For the job's log.
    pub line: Option<String>,
    pub lost: bool,
}

/// The program runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    pub at: Time,
    /// Why the isolation in force is weaker than the best there is.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct JobDir(pub PathBuf);

impl JobDir {
    pub fn of(dir: &Path, job: JobId, fence: i64) -> JobDir {
        JobDir(dir.join("jobs").join(format!("{job}.{fence}")))
    }

    /// Job and fencing number, from the directory's name.
    pub fn held(&self) -> Option<Held> {
        let (job, fence) = self.0.file_name()?.to_str()?.split_once('.')?;
        Some(Held {
            job: job.parse().ok()?,
            fence: fence.parse().ok()?,
            stopping: false,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    pub fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    pub fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    pub fn spec(&self) -> io::Result<Spec> {
        read_json(&self.path("spec.json"))?.ok_or_else(|| io::Error::other("spec.json is missing"))
    }

    pub fn stop(&self) -> Option<StopFile> {
        read_json(&self.path("stop")).ok().flatten()
    }

    pub fn started(&self) -> Option<Started> {
        read_json(&self.path("started")).ok().flatten()
    }

    pub fn ended(&self) -> Option<Happened> {
        read_json(&self.path("exit.json")).ok().flatten()
    }

    pub fn usage(&self) -> Option<Usage> {
        read_json(&self.path("usage/now")).ok().flatten()
    }

    /// In a directory of its own: the agent is not woken for it.
    pub fn write_usage(&self, usage: &Usage) -> io::Result<()> {
        let path = self.path("usage/now");
        write_whole(&path, &to_json(usage)).or_else(|_| {
            fs::create_dir(self.path("usage"))?;
            write_whole(&path, &to_json(usage))
        })
    }

    /// Milliseconds of CLOCK_BOOTTIME.
    pub fn deadline_ms(&self) -> Option<i64> {
        fs::read_to_string(self.path("lease")).ok()?.trim().parse().ok()
    }

    pub fn write_deadline(&self, at_ms: i64) -> io::Result<()> {
        // Over the old one, in the same place: a full disk must not end a job whose lease is renewed.
        let mut file = overwritten(&self.path("lease"))?;
        file.write_all(format!("{at_ms:020}\n").as_bytes())?;
        self.poke();
        Ok(())
    }

    pub fn write_stop(&self, stop: &StopFile) -> io::Result<()> {
        self.write_reserved("stop", to_json(stop))?;
        self.poke();
        Ok(())
    }

    /// Takes the place for `exit.json` and `stop` on the disk beforehand: a full disk must not keep a job from ending, or from being ended.
    pub fn reserve(&self) -> io::Result<()> {
        self.reserve_one("exit.json")?;
        self.reserve_one("stop")
    }

    fn reserve_one(&self, name: &str) -> io::Result<()> {
        // Made whole elsewhere and then given its name: an order may be written at this very moment, and must not be written over.
        let (made, reserved) = (
            self.path(&format!("{name}.new")),
            self.path(&format!("{name}.reserved")),
        );
        private_file(&made)?.write_all(&[b' '; RESERVED_BYTES])?;
        let linked = fs::hard_link(&made, reserved);
        fs::remove_file(made)?;
        linked.or_else(|why| {
            if why.kind() == io::ErrorKind::AlreadyExists {
                Ok(())
            } else {
                Err(why)
            }
        })
    }

    pub fn write_exit(&self, ended: &Happened) -> io::Result<()> {
        self.write_reserved("exit.json", to_json(ended))
    }

    fn write_reserved(&self, name: &str, mut text: Vec<u8>) -> io::Result<()> {
        text.resize(text.len().max(RESERVED_BYTES), b' ');
        let (path, reserved) = (self.path(name), self.path(&format!("{name}.reserved")));
        if path.exists() && !reserved.exists() {
            // The place was used up before, and there may be no other.
            return overwritten(&path)?.write_all(&text);
        }
        overwritten(&reserved)?.write_all(&text)?;
        fs::rename(reserved, path)
    }

    /// Makes the shim look at its files again. A shim that is not there (any more) is no error.
    fn poke(&self) {
        let fifo = fs::OpenOptions::new()
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(self.path("control"));
        if let Ok(mut fifo) = fifo {
            // A full fifo has enough bytes in it to be read.
            let _ = fifo.write(b"x");
        }
    }
}

/// Reasons are cut to fit, see [`ended`].
const RESERVED_BYTES: usize = 4096;

/// How a job ended, its reason cut to a length that fits the space reserved for it.
pub fn ended(exit_code: Option<i32>, signal: Option<i32>, reason: Option<String>, lost: bool, at: Time) -> Happened {
    let reason = reason.map(|mut reason| {
        let mut end = reason.len().min(1500);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        reason
    });
    Happened::Ended {
        at,
        exit_code: exit_code.map(i64::from),
        signal: signal.map(i64::from),
        reason,
        lost,
    }
}

pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own structures have only text as keys")
}

/// `None` when the file is not there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// A file to write over from its beginning, without giving up the place it has.
fn overwritten(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// All of it or nothing. Not flushed to the disk: after a crash of the whole machine there is no job left to find.
pub fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    private_file(&beside)?.write_all(text)?;
    fs::rename(beside, path)
}

pub fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("the wall clock can be read");
    Time(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000)
}

/// Milliseconds since the machine started, sleep included: a clock that nobody sets.
pub fn boot_ms() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has a boot-time clock");
    now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000
}

/// `2h`, `90s`, `1500ms`: the largest unit that fits exactly.
pub fn exact_duration(ms: i64) -> String {
    for (unit_ms, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if ms > 0 && ms % unit_ms == 0 {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

/// `12.3 GB`.
pub fn size_words(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// What a directory takes on the disk. Links are not followed; what vanishes meanwhile is skipped.
pub fn disk_use(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            total += metadata.blocks() * 512;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_the_unit_they_were_given_in() {
        assert_eq!(exact_duration(7_200_000), "2h");
        assert_eq!(exact_duration(90_000), "90s");
        assert_eq!(exact_duration(1500), "1500ms");
    }

    #[test]
    fn a_long_reason_is_cut_to_fit_its_reserved_place() {
        let Happened::Ended {
            reason: Some(reason), ..
        } = ended(None, None, Some("ä".repeat(5000)), false, Time(0))
        else {
            panic!("an end with a reason");
        };
        assert_eq!(reason.len(), 1500);
    }
}

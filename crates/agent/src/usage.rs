//! What the processes of a job use, as /proc tells.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bailiwick_api::experiments::Usage;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

use crate::job_dir::JobDir;
use crate::tree;

const FIRST_LOOK: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(2);
/// Where looking takes long, there is so much more time between two looks.
const PAUSE_FACTOR: u32 = 50;

/// Measures a job, and writes it down beside what else the agent reads.
#[derive(Clone)]
pub struct Meter(Arc<Mutex<Measured>>);

struct Measured {
    dir: JobDir,
    usage: Usage,
    written: Option<Usage>,
    over: bool,
}

impl Meter {
    /// Begins a thread that looks at all that descends from `init`. With a control group its processes are named there, else they are found from parent to child.
    pub fn start(dir: &JobDir, init: i32, group: Option<PathBuf>) -> Meter {
        let measured = Measured {
            dir: dir.clone(),
            usage: Usage::default(),
            written: None,
            over: false,
        };
        let meter = Meter(Arc::new(Mutex::new(measured)));
        let own = meter.clone();
        std::thread::spawn(move || {
            let units = Units::of_this_machine();
            let mut pause = FIRST_LOOK;
            loop {
                std::thread::sleep(pause);
                let began = Instant::now();
                let (cpu_ms, memory_bytes) = look(init, group.as_deref(), units);
                if !own.note(cpu_ms, memory_bytes) {
                    return;
                }
                pause = PAUSE.max(began.elapsed() * PAUSE_FACTOR);
            }
        });
        meter
    }

    /// False once the job has ended.
    fn note(&self, cpu_ms: i64, memory_bytes: i64) -> bool {
        let mut measured = self.0.lock().expect("no holder of this lock panics");
        if measured.over {
            return false;
        }
        let usage = &mut measured.usage;
        usage.cpu_ms = usage.cpu_ms.max(cpu_ms);
        usage.memory_bytes = memory_bytes;
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(memory_bytes);
        measured.write();
        true
    }

    /// Writes down all that the job used; its processes have ended, and been waited for by this one.
    pub fn end(&self) {
        let mut measured = self.0.lock().expect("no holder of this lock panics");
        measured.over = true;
        let (Ok(job), Ok(own)) = (getrusage(UsageWho::RUSAGE_CHILDREN), getrusage(UsageWho::RUSAGE_SELF)) else {
            return;
        };
        let (user, system) = (job.user_time(), job.system_time());
        let cpu_ms = (user.tv_sec() + system.tv_sec()) * 1000 + (user.tv_usec() + system.tv_usec()) / 1000;
        let usage = &mut measured.usage;
        usage.cpu_ms = usage.cpu_ms.max(cpu_ms);
        usage.memory_bytes = 0;
        // Of the largest process alone, between two looks too. Among them are copies of this very process, which are none of the job's: so much says nothing,
        // unless nothing else is known.
        if job.max_rss() > own.max_rss() || usage.memory_peak_bytes == 0 {
            usage.memory_peak_bytes = usage.memory_peak_bytes.max(job.max_rss() * 1024);
        }
        measured.write();
    }
}

impl Measured {
    fn write(&mut self) {
        // One that does nothing costs the agent nothing either.
        let near = |a: i64, b: i64, by: i64| (a - b).abs() < by;
        let same = self.written.is_some_and(|written| {
            near(written.cpu_ms, self.usage.cpu_ms, 20)
                && near(written.memory_bytes, self.usage.memory_bytes, 100_000)
                && near(written.memory_peak_bytes, self.usage.memory_peak_bytes, 100_000)
        });
        if (self.over || !same) && self.dir.write_usage(&self.usage).is_ok() {
            self.written = Some(self.usage);
        }
    }
}

/// What the kernel counts in.
#[derive(Clone, Copy)]
struct Units {
    ticks_per_second: i64,
    page_bytes: i64,
}

impl Units {
    fn of_this_machine() -> Units {
        let asked = |what, usual| sysconf(what).ok().flatten().filter(|value| *value > 0).unwrap_or(usual);
        Units {
            ticks_per_second: asked(SysconfVar::CLK_TCK, 100),
            page_bytes: asked(SysconfVar::PAGE_SIZE, 4096),
        }
    }
}

/// Processor time in milliseconds, and resident memory in bytes, of all that descends from `init`.
fn look(init: i32, group: Option<&std::path::Path>, units: Units) -> (i64, i64) {
    let in_group = group.and_then(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
    let processes: Vec<i32> = match in_group {
        Some(list) => list.lines().filter_map(|line| line.parse().ok()).collect(),
        None => tree::below(init),
    };
    // Of the first process what it has waited for: the job's own, which have ended.
    let (mut ticks, mut pages) = (stat(init).map_or(0, |stat| stat.waited_ticks), 0);
    for process in processes.into_iter().filter(|process| *process != init) {
        let Some(stat) = stat(process) else { continue };
        ticks += stat.own_ticks + stat.waited_ticks;
        pages += stat.pages;
    }
    (ticks * 1000 / units.ticks_per_second, pages * units.page_bytes)
}

struct Stat {
    own_ticks: i64,
    waited_ticks: i64,
    pages: i64,
}

fn stat(process: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<Stat> {
    // The name in the middle may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(") ")?;
    // From the state on, which proc(5) counts as the third.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    Some(Stat {
        own_ticks: number(14)? + number(15)?,
        waited_ticks: number(16)? + number(17)?,
        pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_process_are_found_behind_any_name() {
        let stat =
            parse("7 (a) b (c) R 1 7 7 0 -1 0 9 0 0 0 11 22 33 44 20 0 1 0 99 1000000 250 18446744073709551615\n");
        let stat = stat.expect("it can be read");
        assert_eq!((stat.own_ticks, stat.waited_ticks, stat.pages), (33, 77, 250));
        assert!(parse("7 (a) R 1").is_none());
    }

    #[test]
    fn a_process_that_computes_and_one_that_holds_memory_are_measured() {
        let own = std::process::id() as i32;
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("there is a shell");
        let units = Units::of_this_machine();
        let until = Instant::now() + Duration::from_secs(20);
        let mut seen = look(own, None, units);
        while seen.0 < 100 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
            seen = look(own, None, units);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.0 >= 100 && seen.1 > 100_000, "{seen:?}");
        // It is gone, and what it used is not.
        assert!(look(own, None, units).0 >= 100);
    }
}

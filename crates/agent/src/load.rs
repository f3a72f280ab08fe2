//! How the machine does: measured now and then, for people.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bailiwick_api::agents::{GpuLoad, Load, Slot, SlotKind};
use nvml_wrapper::Nvml;

use crate::job_dir::boot_ms;
use crate::slots::disk_space;

/// Shorter than this, what the processors did says little.
const SHORTEST_MS: i64 = 500;

/// Measures, and remembers what was told.
pub struct Meter {
    dir: PathBuf,
    /// None where no GPU is offered.
    nvml: Option<Nvml>,
    gpus: Vec<u32>,
    told: Mutex<Told>,
}

struct Told {
    at_ms: Option<i64>,
    /// What the processors had done by the time of what was told last, and by that of the measurement that is on its way.
    ticks: (i64, Option<Ticks>),
    sent: (i64, Option<Ticks>),
    /// What the processors do has been told.
    whole: bool,
}

/// Of all processors together, since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Meter {
    pub fn new(dir: &Path, slots: &[Slot]) -> Meter {
        let gpus = slots.iter().filter(|slot| slot.kind == SlotKind::Gpu);
        let gpus: Vec<u32> = gpus.map(|slot| slot.index).collect();
        let ticks = (boot_ms(), ticks());
        Meter {
            dir: dir.to_owned(),
            nvml: (!gpus.is_empty()).then(Nvml::init).and_then(Result::ok),
            gpus,
            told: Mutex::new(Told {
                at_ms: None,
                ticks,
                sent: ticks,
                whole: false,
            }),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no holder of this lock panics")
    }

    /// Whether all that can be measured has been told once.
    pub fn is_whole(&self) -> bool {
        self.told().whole
    }

    /// None while what was told is not older than `pause_ms`.
    pub fn measure(&self, pause_ms: i64) -> Option<Load> {
        let mut told = self.told();
        let now_ms = boot_ms();
        if told.at_ms.is_some_and(|at_ms| now_ms - at_ms < pause_ms) {
            return None;
        }
        let (from_ms, before) = told.ticks;
        let ticks = ticks();
        told.sent = (now_ms, ticks);
        let long = now_ms - from_ms >= SHORTEST_MS;
        let cpu_percent = before
            .zip(ticks)
            .filter(|_| long)
            .and_then(|(before, after)| percent(before, after));
        let (memory_used_bytes, memory_total_bytes) = memory();
        let (disk_free, disk_total) = disk_space(&self.dir).unwrap_or((0, 0));
        Some(Load {
            cpu_percent,
            memory_used_bytes,
            memory_total_bytes,
            disk_free_bytes: i64::try_from(disk_free).unwrap_or(i64::MAX),
            disk_total_bytes: i64::try_from(disk_total).unwrap_or(i64::MAX),
            gpus: self.gpus(),
        })
    }

    /// The server has it.
    pub fn note_told(&self, load: Option<Load>) {
        let Some(load) = load else { return };
        let mut told = self.told();
        let (at_ms, ticks) = told.sent;
        told.whole |= load.cpu_percent.is_some() || ticks.is_none();
        if at_ms - told.ticks.0 >= SHORTEST_MS {
            told.ticks = told.sent;
        }
        told.at_ms = Some(at_ms);
    }

    fn gpus(&self) -> Vec<GpuLoad> {
        let Some(nvml) = &self.nvml else { return Vec::new() };
        let one = |index: &u32| {
            let device = nvml.device_by_index(*index).ok()?;
            let memory = device.memory_info().ok();
            let bytes = |bytes: Option<u64>| i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX);
            Some(GpuLoad {
                index: *index,
                // Not told by a GPU that is split (MIG).
                percent: device.utilization_rates().map_or(0, |rates| rates.gpu),
                memory_used_bytes: bytes(memory.as_ref().map(|memory| memory.used)),
                memory_total_bytes: bytes(memory.as_ref().map(|memory| memory.total)),
            })
        };
        self.gpus.iter().filter_map(one).collect()
    }
}

/// To a tenth; none where no time has passed.
fn percent(before: Ticks, after: Ticks) -> Option<f64> {
    let (busy, all) = (
        after.busy.saturating_sub(before.busy),
        after.all.saturating_sub(before.all),
    );
    (all > 0).then(|| (busy.min(all) as f64 / all as f64 * 1000.0).round() / 10.0)
}

fn ticks() -> Option<Ticks> {
    parse_ticks(&fs::read_to_string("/proc/stat").ok()?)
}

/// `cpu user nice system idle iowait irq softirq steal guest guest_nice`: guests count in `user` and `nice` already.
fn parse_ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Option<Vec<u64>> = line.split_whitespace().take(8).map(|word| word.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.len() >= 5)?;
    let all: u64 = numbers.iter().sum();
    Some(Ticks {
        busy: all - numbers[3] - numbers[4],
        all,
    })
}

/// Used and all bytes. What the kernel would give back at once does not count as used.
fn memory() -> (i64, i64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<i64>().ok());
        kb.unwrap_or(0) * 1024
    };
    let total = bytes("MemTotal:");
    ((total - bytes("MemAvailable:")).max(0), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_measured_between_two_looks() {
        let before = parse_ticks("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!(before, Ticks { busy: 200, all: 1000 });
        let after = parse_ticks("cpu  140 0 110 740 110 0 0 0 90 0\n").unwrap();
        assert_eq!(percent(before, after), Some(50.0));
        assert_eq!(percent(after, after), None);
        assert_eq!(parse_ticks("cpu  1 2"), None);
        assert_eq!(parse_ticks(""), None);
    }

    #[test]
    fn a_machine_tells_how_it_does_and_then_pauses() {
        let dir = tempfile::tempdir().unwrap();
        let meter = Meter::new(dir.path(), &[]);
        let load = meter.measure(60_000).unwrap();
        assert!(load.cpu_percent.is_none(), "not between two looks yet");
        assert!(0 < load.memory_used_bytes && load.memory_used_bytes <= load.memory_total_bytes);
        assert!(0 <= load.disk_free_bytes && load.disk_free_bytes <= load.disk_total_bytes);
        assert!(meter.measure(60_000).is_some(), "it was not told");
        meter.note_told(Some(load));
        assert!(meter.measure(60_000).is_none());
        assert!(!meter.is_whole());
    }
}

//! What a machine has to offer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bailiwick_api::agents::{Slot, SlotKind};
use nvml_wrapper::Nvml;

/// The machine's slots, and whether it has GPUs at all (they may be left out on purpose).
#[derive(Debug, Clone)]
pub struct Slots {
    pub list: Vec<Slot>,
    pub has_gpus: bool,
}

impl Slots {
    /// GPUs where there are any, else processors. `slots` asks for so many CPU slots, `gpus` for exactly these GPUs.
    pub fn find(slots: Option<u32>, gpus: Option<&[u32]>) -> Result<Slots, String> {
        let found = find_gpus();
        let has_gpus = !found.is_empty();
        if let Some(gpus) = gpus.filter(|gpus| !gpus.is_empty()) {
            let there = found.len();
            let list: Vec<Slot> = found.into_iter().filter(|slot| gpus.contains(&slot.index)).collect();
            if let Some(missing) = gpus.iter().find(|gpu| list.iter().all(|slot| slot.index != **gpu)) {
                return Err(format!(
                    "GPU {missing} is not there: NVML shows {there} on this machine, numbered from 0"
                ));
            }
            return Ok(Slots { list, has_gpus });
        }
        if has_gpus && slots.is_none() && gpus.is_none() {
            return Ok(Slots { list: found, has_gpus });
        }
        let count = slots.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u32));
        let name = processor_name();
        let list = (0..count)
            .map(|index| Slot {
                index,
                kind: SlotKind::Cpu,
                name: name.clone(),
            })
            .collect();
        Ok(Slots { list, has_gpus })
    }

    pub fn kind(&self) -> SlotKind {
        self.list.first().map_or(SlotKind::Cpu, |slot| slot.kind)
    }
}

/// None where the driver's library is not there.
fn find_gpus() -> Vec<Slot> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let count = nvml.device_count().unwrap_or(0);
    (0..count)
        .map(|index| Slot {
            index,
            kind: SlotKind::Gpu,
            name: nvml
                .device_by_index(index)
                .and_then(|device| device.name())
                .unwrap_or_else(|_| "GPU".into()),
        })
        .collect()
}

fn processor_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// For people: shown beside the agent.
pub fn hardware() -> BTreeMap<String, String> {
    let mut hardware = BTreeMap::from([
        ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("processor".to_owned(), processor_name()),
    ]);
    if let Ok(count) = std::thread::available_parallelism() {
        hardware.insert("processors".into(), count.to_string());
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    if let Some(kb) = kb {
        hardware.insert("memory".into(), crate::job_dir::size_words(kb * 1024));
    }
    if let Ok(kernel) = fs::read_to_string("/proc/sys/kernel/osrelease") {
        hardware.insert("kernel".into(), kernel.trim().to_owned());
    }
    hardware
}

/// Free and all bytes of the file system of a directory.
pub fn disk_space(dir: &Path) -> Option<(u64, u64)> {
    let space = nix::sys::statvfs::statvfs(dir).ok()?;
    let unit = space.fragment_size();
    Some((space.blocks_available() * unit, space.blocks() * unit))
}

/// Below this much free space an agent ends jobs rather than let the machine's disk fill up: 2 %, at least 200 MB, but never more than 5 % of a small disk.
pub fn least_free(total: u64) -> u64 {
    (total / 50).max((total / 20).min(200_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_of_the_disk_fits_its_size() {
        assert_eq!(least_free(1_000_000_000_000), 20_000_000_000);
        assert_eq!(least_free(8_000_000_000), 200_000_000);
        assert_eq!(least_free(100_000_000), 5_000_000);
    }

    #[test]
    fn asking_for_cpu_slots_gives_just_these() {
        let slots = Slots::find(Some(3), None).unwrap();
        let indices: Vec<u32> = slots.list.iter().map(|slot| slot.index).collect();
        assert_eq!((slots.kind(), indices), (SlotKind::Cpu, vec![0, 1, 2]));
        assert!(
            Slots::find(None, Some(&[4711]))
                .unwrap_err()
                .contains("GPU 4711 is not there")
        );
    }
}

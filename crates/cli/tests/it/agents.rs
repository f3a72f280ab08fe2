//! `ml agent` on a machine, and what an administrator does with agents.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service account of that name, which may serve the queue `default`: the file with its key.
fn account(place: &Place, name: &str) -> PathBuf {
    let key = place.ml(&format!("-u admin service-account create {name} --serve default"));
    place.write(&format!("../{name}.key"), &key.done())
}

/// Starts an agent of this name, with these flags, an account and a directory of its own.
fn start(place: &Place, name: &str, flags: &[&str]) -> Agent {
    let key = account(place, name);
    let mut command = place.command(&["agent", "--server", place.url(), "--name", name, "--key-file"]);
    let dir = place.path(&format!("../{name}"));
    let child = command
        .arg(key)
        .arg("--dir")
        .arg(dir)
        .args(["--slots", "2"])
        .args(flags);
    Agent(child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Looks again and again until there is something.
fn eventually<T>(what: &str, mut see: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = see() {
            return seen;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a command prints this.
fn shows(place: &Place, line: &str, part: &str) -> String {
    eventually(&format!("`{part}` in `ml {line}`"), || {
        Some(place.ml(line).out).filter(|out| out.contains(part))
    })
}

#[test]
fn a_drained_agent_ends_its_job_and_a_disabled_one_hands_it_over() {
    let place = Place::served_with(&["--no-agent"]);
    let _agent = start(&place, "machine-1", &["--isolate", "none"]);
    shows(&place, "agent list", "\tmachine-1\tup\tdefault\t2\t0\tcpu\t");
    place.write("work.sh", "while ! test -e \"$GO\"; do sleep 0.05; done\n");
    let go = place.path("go");
    let run = format!("run work.sh --slots 1 --env GO={}", go.display());
    let first = place.ml(&run).done();
    shows(&place, &format!("experiment describe {}", first.trim()), "RUNNING");
    let drained = place.ml("agent drain machine-1").done();
    assert!(drained.contains("\tmachine-1\tdraining\t"), "{drained}");
    let second = place.ml(&run).done();
    std::fs::write(&go, "").unwrap();
    shows(&place, &format!("experiment describe {}", first.trim()), "COMPLETED");
    std::fs::remove_file(&go).unwrap();
    let waits = place.ml(&format!("experiment describe {}", second.trim())).done();
    assert!(waits.contains("QUEUED"), "{waits}");
    place.ml("agent enable machine-1").done();
    shows(&place, &format!("experiment describe {}", second.trim()), "RUNNING");
    place.ml("agent disable machine-1").done();
    shows(&place, &format!("experiment describe {}", second.trim()), "QUEUED");
    let described = place.ml("agent describe machine-1").done();
    for line in ["state\tdisabled\n", "service\tdisabled\n", "account\tmachine-1\n"] {
        assert!(described.contains(line), "{described}");
    }
    let missing = place.ml("agent drain machine-2").failed(1);
    assert!(missing.contains("did you mean `machine-1`?"), "{missing}");
    let _other = start(&place, "machine-2", &["--isolate", "none"]);
    shows(&place, &format!("experiment describe {}", second.trim()), "RUNNING");
    std::fs::write(&go, "").unwrap();
    shows(&place, &format!("experiment describe {}", second.trim()), "COMPLETED");
}

//! `ml agent` on a machine, and what an administrator does with agents.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that ends with the test.
pub struct Agent(pub Child);

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
pub fn eventually<T>(what: &str, mut see: impl FnMut() -> Option<T>) -> T {
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
pub fn shows(place: &Place, line: &str, part: &str) -> String {
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

#[test]
fn an_agent_goes_on_in_the_background_once_it_is_registered_and_ends_when_told() {
    let place = Place::served_with(&["--no-agent"]);
    let key = account(&place, "machine-1");
    let (key, dir, url) = (key.display(), place.path("../agent"), place.url());
    let dir = dir.display();
    let flags = format!("agent --server {url} --name machine-1 --key-file {key} --dir {dir} --slots 1 --isolate none");
    let missing = place.ml(&format!("agent --stop --dir {dir}")).failed(1);
    assert!(missing.contains("no agent runs with the directory"), "{missing}");

    let said = place.ml(&format!("{flags} --detach"));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.err.contains("runs in the background"), "{said:?}");
    let listed = place.ml("agent list").done();
    assert!(listed.contains("\tmachine-1\tup\t"), "at once: {listed}");
    let twice = place.ml(&format!("{flags} --detach")).failed(1);
    assert!(twice.contains("uses ") && twice.contains("--stop"), "{twice}");
    shows(&place, "agent describe machine-1", "%");
    let process = std::fs::read_to_string(place.path("../agent/lock")).unwrap();

    place.write("work.sh", "while ! test -e \"$GO\"; do sleep 0.05; done\n");
    let go = place.path("go");
    let id = place
        .ml(&format!("run work.sh --slots 1 --env GO={}", go.display()))
        .done();
    let describe = format!("experiment describe {}", id.trim());
    shows(&place, &describe, "RUNNING");
    let said = place.ml(&format!("agent --stop --dir {dir}"));
    assert!(said.status == Some(0) && said.err.contains(process.trim()), "{said:?}");
    let began = Instant::now();
    shows(&place, "agent list", "\tmachine-1\tlost\t");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    let said = place.ml(&format!("{flags} --detach"));
    assert_eq!(said.status, Some(0), "{said:?}");
    std::fs::write(&go, "").unwrap();
    shows(&place, &describe, "COMPLETED");
    place.ml(&format!("agent --stop --dir {dir}")).done();

    let nobody = flags.replace(url, "http://127.0.0.1:1");
    let refused = place.ml(&format!("{nobody} --detach")).failed(1);
    assert!(refused.contains("the agent was not started"), "{refused}");
    let wrong = place.ml(&format!("{flags} --detach --gpus 4711")).failed(1);
    assert!(wrong.contains("GPU 4711 is not there"), "{wrong}");
    let other = place
        .ml(&format!("{flags} --detach --queue default --queue other"))
        .failed(1);
    assert!(
        other.contains("`other`") && other.contains("ml rbac assign-role QueueAgent -u machine-1 --on queue:other"),
        "{other}"
    );
    assert_eq!(
        place.ml(&format!("agent --stop --dir {dir}")).status,
        Some(1),
        "nothing was left"
    );
}

#[test]
fn an_agent_that_loses_its_queue_says_so_takes_nothing_and_goes_on_when_it_has_it_again() {
    let place = Place::served_with(&["--no-agent"]);
    let key = account(&place, "machine-1");
    let log = std::fs::File::create(place.path("log")).unwrap();
    let mut command = place.command(&[
        "agent",
        "--server",
        place.url(),
        "--name",
        "machine-1",
        "--foreground",
        "--key-file",
    ]);
    let child = command.arg(key).arg("--dir").arg(place.path("../agent"));
    let _agent = Agent(
        child
            .args(["--slots", "1"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    let says = |what: &str| {
        eventually(what, || {
            std::fs::read_to_string(place.path("log"))
                .ok()
                .filter(|log| log.contains(what))
        })
    };
    shows(&place, "agent list", "\tup\t");
    place
        .ml("rbac unassign-role QueueAgent -u machine-1 --on queue:default")
        .done();
    place.write("work.sh", "true\n");
    let id = place.ml("run work.sh").done();
    says("takes no work until then");
    says("`default`");
    let describe = format!("experiment describe {}", id.trim());
    assert!(place.ml(&describe).done().contains("QUEUED"));
    place
        .ml("rbac assign-role QueueAgent -u machine-1 --on queue:default")
        .done();
    says("takes this agent again");
    shows(&place, &describe, "COMPLETED");
}

#[test]
fn a_unit_for_systemd_is_printed() {
    let place = Place::new();
    let unit = place
        .ml("agent unit --server https://ml.example.com --queue gpu --queue default --fair --gpus 0,1")
        .done();
    let line = "agent --server https://ml.example.com --queue gpu --queue default --gpus 0,1 --key-file /etc/bailiwick/agent.key --dir /var/lib/bailiwick-agent --fair\n";
    for part in [
        line,
        "User=root\n",
        "StateDirectory=bailiwick-agent\n",
        "Restart=always\n",
        "KillMode=process\n",
        "Delegate=yes\n",
        "NoNewPrivileges=yes\n",
    ] {
        assert!(unit.contains(part), "`{part}` is not in {unit}");
    }
    assert!(!unit.contains("\nProtectControlGroups"), "{unit}");
    let unit = place
        .ml_args(&[
            "agent",
            "unit",
            "--run-as",
            "ml",
            "--name",
            "a b",
            "--dir",
            "/srv/agent",
            "--isolate",
            "require",
            "--job-env",
            "GREETING=a \"b\" 100% $HOME\nc\\",
            "--job-env",
            "EMPTY=",
            "--protect",
            "/srv/data of mine",
            "--use-owner-token",
            "--fair=false",
        ])
        .done();
    assert!(
        unit.contains("\nUser=ml\n") && unit.contains("--name \"a b\"") && unit.contains("--protect /etc/bailiwick"),
        "{unit}"
    );
    assert!(!unit.contains("StateDirectory"), "{unit}");
    for part in [
        " --isolate require ",
        " --job-env \"GREETING=a \\\"b\\\" 100%% $$HOME\\nc\\\\\" --job-env EMPTY= ",
        " --protect \"/srv/data of mine\" ",
        " --fair=false --use-owner-token\n",
    ] {
        assert!(unit.contains(part), "`{part}` is not in {unit}");
    }
    verify(&place, &unit);
    let wrong = place.ml_args(&["agent", "unit", "--job-env", "hunter2"]).failed(2);
    assert!(wrong.contains("KEY=VALUE") && !wrong.contains("hunter2"), "{wrong}");
}

/// Where there is systemd, it has nothing to say against the unit, and reads the words as they were given.
fn verify(place: &Place, unit: &str) {
    let path = place.write("../bailiwick-agent.service", &unit.replace("User=ml\n", "User=root\n"));
    let mut command = std::process::Command::new("systemd-analyze");
    let Ok(said) = command.args(["verify", "--man=no"]).arg(path).output() else {
        eprintln!("systemd-analyze is not on this machine: the unit is not verified");
        return;
    };
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    // It looks at other units of the machine, too.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("bailiwick-agent")).collect();
    assert!(ours.is_empty(), "{said}");
}

/// Starts an agent named m1 with this key for these queues; what it says is in the file `log`.
fn start_logged(place: &Place, key: &std::path::Path, queues: &[&str]) -> Agent {
    let log = std::fs::File::create(place.path("log")).unwrap();
    let mut command = place.command(&["agent", "--server", place.url(), "--name", "m1", "--slots", "1"]);
    command.arg("--key-file").arg(key).arg("--dir").arg(place.path("../m1"));
    for queue in queues {
        command.args(["--queue", queue]);
    }
    Agent(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// Waits until the agent of [`start_logged`] has said this.
fn says(place: &Place, what: &str) -> String {
    eventually(what, || {
        let log = std::fs::read_to_string(place.path("log")).ok();
        log.filter(|log| log.contains(what))
    })
}

#[test]
fn an_agent_that_loses_one_of_its_queues_says_which_and_goes_on_with_the_others() {
    let place = Place::served_with(&["--no-agent"]);
    place.ml("queue create gpu").done();
    let key = place.ml("service-account create m1 --serve default --serve gpu").done();
    let key = place.write("../m1.key", &key);
    let agent = start_logged(&place, &key, &["gpu", "default"]);
    shows(&place, "agent list", "\tup\t");
    let runs = |name: &str| {
        place.write("work.sh", "true\n");
        place.ml(&format!("run work.sh --name {name}")).done();
        shows(&place, &format!("experiment describe {name}"), "COMPLETED");
    };
    let role = "-u m1 --on queue:gpu";
    place.ml(&format!("rbac unassign-role QueueAgent {role}")).done();
    runs("without");
    let log = says(
        &place,
        "takes nothing from the queue `gpu` any more, and goes on with the others",
    );
    assert!(
        log.contains("ml rbac assign-role QueueAgent -u m1 --on queue:gpu"),
        "{log}"
    );
    place.ml(&format!("rbac assign-role QueueAgent {role}")).done();
    says(&place, "takes jobs from the queue `gpu` again");
    place.ml_args(&["queue", "delete", "gpu", "--yes"]).done();
    runs("deleted");
    let log = says(&place, "it is gone (deleted or renamed), or m1 may not see it");
    assert!(log.contains("take it out of the agent's --queue"), "{log}");
    // Started again it goes on as well; what it never served is an error as before.
    drop(agent);
    let agent = start_logged(&place, &key, &["gpu", "default"]);
    says(&place, "takes nothing from the queue `gpu` any more");
    runs("again");
    drop(agent);
    let _agent = start_logged(&place, &key, &["default", "unheard-of"]);
    let log = says(&place, "takes no work until then");
    assert!(log.contains("unheard-of"), "{log}");
}

#[test]
fn an_agent_whose_key_was_revoked_or_whose_account_is_gone_says_so_and_takes_nothing() {
    for how in ["key", "account"] {
        let place = Place::served_with(&["--no-agent"]);
        let key = account(&place, "m1");
        let _agent = start_logged(&place, &key, &[]);
        shows(&place, "agent list", "\tup\t");
        match how {
            "key" => {
                let keys = place.ml("service-account keys m1").done();
                let number = keys.split('\t').next().unwrap().to_owned();
                place
                    .ml_args(&["service-account", "revoke-key", "m1", &number, "--yes"])
                    .done();
            }
            _ => {
                place.ml_args(&["service-account", "remove", "m1", "--yes"]).done();
            }
        }
        let log = says(&place, "refuses this agent, which takes no work until then");
        assert!(
            log.contains(
                "those that run end with their leases: its key was revoked or has ended, or its account was removed"
            ),
            "{log}"
        );
        place.write("work.sh", "true\n");
        let id = place.ml("run work.sh").done();
        let described = place.ml(&format!("experiment describe {}", id.trim())).done();
        assert!(described.contains("QUEUED"), "{described}");
    }
}

#[test]
fn whether_an_agent_runs_jobs_as_their_owners_is_shown() {
    let place = Place::served_with(&["--no-agent"]);
    let _plain = start(&place, "m1", &["--isolate", "none"]);
    let key = account(&place, "m2");
    place.ml("service-account edit m2 --allow-impersonation true").done();
    let mut command = place.command(&[
        "agent",
        "--server",
        place.url(),
        "--name",
        "m2",
        "--use-owner-token",
        "--slots",
        "1",
    ]);
    command.arg("--key-file").arg(key).arg("--dir").arg(place.path("../m2"));
    let _owners = Agent(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    shows(&place, "agent describe m1", "as_owner\tno\n");
    shows(&place, "agent describe m2", "as_owner\tyes\n");
    let wide = place.ml("agent list -o wide").done();
    assert!(wide.contains("AS OWNER") && wide.contains("yes"), "{wide}");
}

/// The driver's library as `nvml.h` describes it, for a machine with three GPUs: no machine of ours has one.
const NVML: &str = r#"
#include <stdio.h>
#include <string.h>
static long gpus[3];
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct busy { unsigned gpu, memory; };
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *to, unsigned most) { return snprintf(to, most, "550.54.15") < 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &gpus[index]; return index < 3 ? 0 : 2; }
static long number(void *device) { return (long *)device - gpus; }
int nvmlDeviceGetName(void *device, char *to, unsigned most) { return snprintf(to, most, "GPU of the test %ld", number(device)) < 0; }
int nvmlDeviceGetUtilizationRates(void *device, struct busy *busy) { busy->gpu = 10 * number(device); busy->memory = 1; return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *memory) {
    if (memory->version != (sizeof *memory | 2 << 24)) return 25;
    memory->total = 80ull << 30; memory->reserved = 0; memory->used = (unsigned long long)number(device) << 30; memory->free = memory->total - memory->used;
    return 0;
}
"#;

#[test]
fn an_agent_offers_the_gpus_that_it_is_given_tells_how_busy_they_are_and_hands_them_out() {
    let place = Place::served_with(&["--no-agent"]);
    let source = place.write("../nvml/nvml.c", NVML);
    let library = source.with_file_name("libnvidia-ml.so.1");
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success());
    let start = |name: &str, gpus: &str| {
        let mut command = place.command(&["agent", "--server", place.url(), "--name", name, "--gpus", gpus]);
        command
            .env("LD_LIBRARY_PATH", source.parent().unwrap())
            .arg("--key-file")
            .arg(account(&place, name))
            .arg("--dir")
            .arg(place.path(&format!("../{name}")));
        command
    };
    let refused = crate::place::finish(start("m0", "1,7"));
    assert!(
        refused.err.contains("GPU 7 is not there: NVML shows 3"),
        "{}",
        refused.err
    );
    let mut command = start("m1", "1,2");
    let _agent = Agent(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let load = eventually("the load of the GPUs", || {
        let shown: serde_json::Value = serde_json::from_str(&place.ml("agent describe m1 --json").out).ok()?;
        let load = shown["load"]["gpus"].clone();
        load.as_array().is_some_and(|gpus| !gpus.is_empty()).then_some(load)
    });
    let gib = 1_i64 << 30;
    let gpu = |index: i64| serde_json::json!({"index": index, "percent": 10 * index, "memory_used_bytes": index * gib, "memory_total_bytes": 80 * gib});
    assert_eq!(load, serde_json::json!([gpu(1), gpu(2)]));
    place.write(
        "code/look.sh",
        "echo $ML_SLOT_TYPE $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER",
    );
    let log = place.ml("-u admin run code/look.sh --slots 2 --follow").done();
    assert!(log.contains("gpu 1,2 PCI_BUS_ID"), "{log}");
}

#[test]
fn a_job_reads_neither_the_agents_key_nor_the_sessions_of_who_started_it() {
    let place = Place::served_with(&["--no-agent"]);
    let holds = place.ml("agent doctor").out;
    let isolates = |name: &str| holds.lines().any(|line| line.starts_with(&format!("{name}\tyes")));
    if !isolates("namespaces") && !isolates("Landlock") {
        eprintln!("neither namespaces nor Landlock hold on this machine: nothing to see here");
        return;
    }
    let _agent = start(&place, "m1", &[]);
    let key = place.path("../m1.key");
    let sessions = place.home();
    assert!(key.is_file() && std::fs::read_dir(&sessions).unwrap().count() > 0);
    let script = format!(
        "cat {} 2>/dev/null | grep -q . && echo SEEN key; ls -A {} 2>/dev/null | grep -v '^agent$' && echo SEEN sessions; \
         cat /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n' | grep -v '^ML_API_KEY=' | grep -q 'ml_' && echo SEEN environment; echo looked",
        key.display(),
        sessions.display(),
    );
    place.write("code/look.sh", &script);
    let log = place.ml("-u admin run code/look.sh --follow").done();
    assert!(log.contains("looked") && !log.contains("SEEN"), "{log}");
}

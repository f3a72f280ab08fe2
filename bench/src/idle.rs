//! What the program costs when it does nothing: cold start, memory at rest, start of a command.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::ground::{Bench, Kind, PASSWORD, free_port, submit};
use crate::load::{Connection, request};
use crate::start_latency::ended;
use crate::table::{Row, Table, percentile, verdict};

const STARTS: usize = 10;
const COMMANDS: usize = 50;
const MEMORY_KIB: u64 = 40 * 1024;

pub async fn run(bench: &Bench) -> Outcome<()> {
    let mut table = Table::default();
    let mut bare = command_times(|| Command::new("/bin/true"))?;
    let (bare_median, bare_high) = (percentile(&mut bare, 50), percentile(&mut bare, 99));
    for kind in bench.kinds() {
        cold_starts(bench, kind, bare_median, &mut table).await?;
    }
    for kind in bench.kinds() {
        memory(bench, kind, &mut table).await?;
    }

    let place = bench.place(Kind::Sqlite).await?;
    let server = place.serve(&[]).await?;
    let home = place.dir.path().join("user");
    let status = Command::new(&bench.ml)
        .args(["login", "admin", "--server", &server.url, "--password-file"])
        .arg(&place.password)
        .env("ML_HOME", &home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|why| why.to_string())?;
    if !status.success() {
        return Err(format!("ml login failed (the password is {PASSWORD})"));
    }
    for arguments in [&["--help"][..], &["status"]] {
        let mut times = command_times(|| {
            let mut command = Command::new(&bench.ml);
            command
                .args(arguments)
                .env("ML_HOME", &home)
                .env_remove("ML_SERVER")
                .env_remove("ML_API_KEY");
            command
        })?;
        let target = Some(Duration::from_millis(30));
        let name = format!("ml {}", arguments.join(" "));
        table.time(
            &format!("{name}, median of {COMMANDS}"),
            target,
            percentile(&mut times, 50),
            Some(bare_median),
        );
        table.time(
            &format!("{name}, p99"),
            None,
            percentile(&mut times, 99),
            Some(bare_high),
        );
    }
    server.process.stop()?;
    table.print("At rest; floor of times: fork and exec of /bin/true");
    Ok(())
}

fn command_times(command: impl Fn() -> Command) -> Outcome<Vec<Duration>> {
    (0..COMMANDS)
        .map(|_| {
            let mut command = command();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let began = Instant::now();
            let status = command.status().map_err(|why| why.to_string())?;
            let took = began.elapsed();
            if status.success() {
                Ok(took)
            } else {
                Err(format!("{command:?} failed: {status}"))
            }
        })
        .collect()
}

/// From the start of the process to the first good answer of /readyz.
async fn cold_starts(bench: &Bench, kind: Kind, floor: Duration, table: &mut Table) -> Outcome<()> {
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let place = bench.place(kind).await?;
        for times in [&mut fresh, &mut again] {
            let port = free_port()?;
            // The administrator's password is hashed on the first start; that is part of it.
            let command = place.serve_command(&format!("127.0.0.1:{port}"), &[]);
            let began = Instant::now();
            let process = crate::ground::Process::start(command, &place.dir.path().join("server.log"))?;
            while !ready(port).await {
                if began.elapsed() > Duration::from_secs(30) {
                    return Err(format!("the server did not come up; {}", process.last_words()));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(began.elapsed());
            process.stop()?;
        }
    }
    let target = Some(Duration::from_millis(200));
    for (name, mut times) in [("a fresh directory", fresh), ("an existing one", again)] {
        let what = |what: &str| format!("{}: start on {name}, {what}", kind.name());
        table.time(&what("median"), target, percentile(&mut times, 50), Some(floor));
        table.time(&what("slowest of 10"), None, percentile(&mut times, 100), Some(floor));
    }
    Ok(())
}

async fn ready(port: u16) -> bool {
    let Ok(mut connection) = Connection::open(port).await else {
        return false;
    };
    connection.send(&request("GET", "/readyz", "", "")).await == Ok(200)
}

async fn memory(bench: &Bench, kind: Kind, table: &mut Table) -> Outcome<()> {
    let place = bench.place(kind).await?;
    let server = place.serve(&[]).await?;
    let admin = server.admin().await?;
    let mut show = |when: &str, target: bool| -> Outcome<()> {
        let id = server.process.id();
        let agent = child_of(id);
        let alone = resident_kib(id)?;
        let both = alone + agent.map_or(Ok(0), resident_kib)?;
        for (what, kib) in [("server", alone), ("server and its agent", both)] {
            table.row(Row {
                what: format!("{}: {what} {when}", kind.name()),
                target: if target { "<= 40 MiB".into() } else { String::new() },
                measured: format!("{:.1} MiB", kib as f64 / 1024.0),
                floor: String::new(),
                ratio: String::new(),
                verdict: if target { verdict(kib <= MEMORY_KIB) } else { "" },
            });
        }
        Ok(())
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    show("at rest", true)?;
    for number in 0..5 {
        let experiment = submit(&admin, &format!("idle-{number}"), &["true"]).await?;
        ended(&admin, &experiment.id.to_string()).await?;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    show("at rest again after five jobs", true)?;
    server.process.stop()
}

fn resident_kib(id: i32) -> Outcome<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).map_err(|why| format!("process {id}: {why}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .map_err(|why| format!("VmRSS: {why}"))
}

fn child_of(parent: i32) -> Option<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let children = std::fs::read_to_string(task.path().join("children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

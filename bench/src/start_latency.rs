//! From the moment a submission is accepted to the moment its process runs, with an idle agent on the same machine.

use std::process::Command;
use std::time::{Duration, Instant};

use bailiwick_api::experiments::{LogFilter, State};
use bailiwick_client::Client;

use crate::Outcome;
use crate::ground::{Bench, Kind, now_us, submit};
use crate::table::{Table, percentile};

const JOBS: usize = 200;
/// Says the time, in nanoseconds, as soon as it runs.
const COMMAND: [&str; 2] = ["date", "+%s%N"];

pub async fn run(bench: &Bench) -> Outcome<()> {
    let mut table = Table::default();
    let mut floor = floor()?;
    let (floor_median, floor_high) = (percentile(&mut floor, 50), percentile(&mut floor, 99));
    for kind in bench.kinds() {
        let (mut accepted, mut asked, mut noted) = measure(bench, kind).await?;
        let name = kind.name();
        let ms = Duration::from_millis;
        table.time(
            &format!("{name}: accepted to started, median"),
            Some(ms(50)),
            percentile(&mut accepted, 50),
            Some(floor_median),
        );
        table.time(
            &format!("{name}: accepted to started, p99"),
            Some(ms(150)),
            percentile(&mut accepted, 99),
            Some(floor_high),
        );
        table.time(
            &format!("{name}: request sent to started, median"),
            None,
            percentile(&mut asked, 50),
            Some(floor_median),
        );
        table.time(
            &format!("{name}: request sent to started, p99"),
            None,
            percentile(&mut asked, 99),
            Some(floor_high),
        );
        table.time(
            &format!("{name}: QUEUED to RUNNING in the server, median"),
            None,
            percentile(&mut noted, 50),
            None,
        );
        table.time(
            &format!("{name}: QUEUED to RUNNING in the server, p99"),
            None,
            percentile(&mut noted, 99),
            None,
        );
    }
    table.print(&format!(
        "Start of a job, {JOBS} one after the other; floor: fork and exec of the same command"
    ));
    Ok(())
}

fn floor() -> Outcome<Vec<Duration>> {
    (0..JOBS)
        .map(|_| {
            let before = now_us();
            let output = Command::new(COMMAND[0])
                .arg(COMMAND[1])
                .output()
                .map_err(|why| why.to_string())?;
            let at = stamp(&String::from_utf8_lossy(&output.stdout)).ok_or("date says no time")?;
            Ok(since(before, at))
        })
        .collect()
}

/// µs of a time printed in ns.
pub fn stamp(text: &str) -> Option<i64> {
    text.trim().parse::<i64>().ok().map(|ns| ns / 1000)
}

fn since(from: i64, to: i64) -> Duration {
    Duration::from_micros((to - from).max(0) as u64)
}

type Times = Vec<Duration>;

async fn measure(bench: &Bench, kind: Kind) -> Outcome<(Times, Times, Times)> {
    let place = bench.place(kind).await?;
    let server = place.serve(&["--set", "agent.slots=4"]).await?;
    let admin = server.admin().await?;
    let (mut accepted, mut asked, mut noted) = (Vec::new(), Vec::new(), Vec::new());
    // The first ones warm caches up.
    for number in 0..JOBS + 5 {
        let before = now_us();
        let experiment = submit(&admin, &format!("start-{number}"), &COMMAND).await?;
        let detail = ended(&admin, &experiment.id.to_string()).await?;
        if detail.experiment.state != State::Completed {
            return Err(format!(
                "a job ended as {}: {}",
                detail.experiment.state, detail.experiment.cause
            ));
        }
        let log = admin
            .logs(&experiment.id.to_string(), &LogFilter::default())
            .await
            .map_err(|why| why.to_string())?;
        let at = log
            .lines
            .iter()
            .find_map(|line| stamp(&line.text))
            .ok_or("the job's line is not in its log")?;
        let running = detail
            .events
            .iter()
            .find(|event| event.state == State::Running)
            .ok_or("it never ran")?;
        if number >= 5 {
            accepted.push(since(experiment.created_at.0, at));
            asked.push(since(before, at));
            noted.push(since(experiment.created_at.0, running.time.0));
        }
        // The agent is idle again: its long poll waits.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    server.process.stop()?;
    Ok((accepted, asked, noted))
}

pub async fn ended(client: &Client, id: &str) -> Outcome<bailiwick_api::experiments::ExperimentDetail> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let detail = client.experiment(id).await.map_err(|why| why.to_string())?;
        if detail.experiment.state.is_ended() {
            return Ok(detail);
        }
        if Instant::now() > until {
            return Err(format!(
                "experiment {id} does not end: {} ({})",
                detail.experiment.state, detail.experiment.cause
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

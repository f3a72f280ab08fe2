//! From a line that a job prints to the follower who reads it, alone and beside a job that prints as fast as it may.

use std::time::Duration;

use bailiwick_api::ExperimentId;
use bailiwick_api::experiments::State;
use bailiwick_client::Client;
use bailiwick_client::calls::LogEvent;

use crate::Outcome;
use crate::ground::{Bench, Kind, now_us, submit};
use crate::start_latency::stamp;
use crate::table::{Row, Table, percentile, verdict};

const LINES: usize = 200;
/// Each line holds the time at which it was printed.
const QUIET: &str = "i=0; while [ $i -lt 200 ]; do date +%s%N; sleep 0.05; i=$((i+1)); done";
const FLOOD_LINES: usize = 500_000;
/// 50,000 lines a second for ten seconds, in a hundred pieces a second.
const FLOOD: &str = r#"$| = 1; my $began = time; for my $piece (0..999) { print join("", map { "line " . ($piece * 500 + $_) . " of a job that prints a lot\n" } 0..499); my $rest = $began + ($piece + 1) / 100 - time; sleep($rest) if $rest > 0 }"#;

pub async fn run(bench: &Bench) -> Outcome<()> {
    let mut table = Table::default();
    for kind in bench.kinds() {
        measure(bench, kind, &mut table).await?;
    }
    table.print(&format!("From a printed line to its follower, {LINES} lines"));
    Ok(())
}

async fn measure(bench: &Bench, kind: Kind, table: &mut Table) -> Outcome<()> {
    let name = kind.name();
    let place = bench.place(kind).await?;
    let server = place.serve(&["--set", "agent.slots=4"]).await?;
    let admin = server.admin().await?;
    let target = Some(Duration::from_millis(250));

    let quiet = submit(&admin, "quiet", &["sh", "-c", QUIET]).await?;
    let mut alone = follow_times(admin.clone(), quiet.id).await?;
    let (median_alone, high_alone) = (percentile(&mut alone, 50), percentile(&mut alone, 99));
    table.time(&format!("{name}: alone, median"), target, median_alone, None);
    table.time(&format!("{name}: alone, p99"), target, high_alone, None);

    let flood = submit(&admin, "flood", &["perl", "-MTime::HiRes=sleep,time", "-e", FLOOD]).await?;
    let flood_follower = tokio::spawn(follow_count(admin.clone(), flood.id));
    let quiet = submit(&admin, "beside", &["sh", "-c", QUIET]).await?;
    let mut beside = follow_times(admin.clone(), quiet.id).await?;
    table.time(
        &format!("{name}: beside 50,000 lines/s, median"),
        target,
        percentile(&mut beside, 50),
        Some(median_alone),
    );
    table.time(
        &format!("{name}: beside 50,000 lines/s, p99"),
        target,
        percentile(&mut beside, 99),
        Some(high_alone),
    );
    let flooded = flood_follower.await.map_err(|why| why.to_string())??;
    table.row(Row {
        what: format!("{name}: lines of the flood at its follower"),
        target: FLOOD_LINES.to_string(),
        measured: flooded.in_order.to_string(),
        floor: String::new(),
        ratio: format!("{:.0}/s", flooded.in_order as f64 / flooded.took.as_secs_f64()),
        verdict: verdict(flooded.in_order == FLOOD_LINES),
    });
    server.process.stop()
}

/// How late each line came.
async fn follow_times(client: Client, id: ExperimentId) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    let text = |why: bailiwick_client::Error| why.to_string();
    let mut stream = client.follow_logs(id, 0).await.map_err(text)?;
    loop {
        match stream.next().await.map_err(text)? {
            LogEvent::Lines(lines) => {
                let now = now_us();
                let printed = lines.iter().filter_map(|line| stamp(&line.text));
                times.extend(printed.map(|at| Duration::from_micros((now - at).max(0) as u64)));
            }
            LogEvent::End(State::Completed) if times.len() == LINES => return Ok(times),
            LogEvent::End(state) => {
                return Err(format!(
                    "the job ended as {state} with {} of {LINES} lines",
                    times.len()
                ));
            }
        }
    }
}

struct Flooded {
    in_order: usize,
    took: Duration,
}

/// The lines that came, each once and in order; whatever is missing or doubled ends the count.
async fn follow_count(client: Client, id: ExperimentId) -> Outcome<Flooded> {
    let text = |why: bailiwick_client::Error| why.to_string();
    let mut stream = client.follow_logs(id, 0).await.map_err(text)?;
    let (mut in_order, mut first) = (0, None);
    loop {
        match stream.next().await.map_err(text)? {
            LogEvent::Lines(lines) => {
                for line in lines {
                    if let Some(rest) = line.text.strip_prefix("line ") {
                        first.get_or_insert_with(now_us);
                        let number = rest.split(' ').next().and_then(|digits| digits.parse::<usize>().ok());
                        in_order += usize::from(number == Some(in_order));
                    }
                }
            }
            LogEvent::End(_) => {
                let took = now_us() - first.unwrap_or_else(now_us);
                return Ok(Flooded {
                    in_order,
                    took: Duration::from_micros(took.max(1) as u64),
                });
            }
        }
    }
}

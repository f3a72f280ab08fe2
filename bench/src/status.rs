//! The page that `ml status` shows, in databases of growing size, for callers who see everything, half, or fifty.

use std::time::{Duration, Instant};

use sqlx::Executor;

use crate::Outcome;
use crate::fill;
use crate::ground::{Bench, Kind, Place};
use crate::load::{Connection, request};
use crate::submit;
use crate::table::{Row, Table, percentile, time, verdict};

const SAMPLES: usize = 500;
const WARM_UP: usize = 50;
/// A page that misses its target by far is not asked for so often.
const LONGEST: Duration = Duration::from_secs(8);
const TARGET: Duration = Duration::from_millis(5);

const PAGES: [(&str, &str); 6] = [
    ("newest", ""),
    ("--state COMPLETED (most)", "&state=COMPLETED"),
    ("--state RUNNING (1 in 500)", "&state=RUNNING"),
    ("--state QUEUED (none)", "&state=QUEUED"),
    ("a name (100 rows)", "&name=digits-3"),
    ("a name that is not there", "&name=nothing"),
];

pub async fn run(bench: &Bench, most: i64) -> Outcome<()> {
    for kind in bench.kinds() {
        let place = bench.place(kind).await?;
        let server = place.serve(&["--no-agent"]).await?;
        server.process.stop()?;
        let people = fill::people(&place).await?;
        let server = place.serve(&["--no-agent"]).await?;
        let admin = server.admin().await?;
        server.user(&admin, "half", "Viewer", Some("default")).await?;
        server.user(&admin, "fifty", "DataScientist", None).await?;
        let fifty = admin.user("fifty").await.map_err(|why| why.to_string())?.id.0;
        server.process.stop()?;
        for size in [1_000, 10_000, 100_000, 1_000_000]
            .into_iter()
            .filter(|size| *size <= most)
        {
            let began = Instant::now();
            fill::experiments(&place, &people, size).await?;
            fill::give(&place, fifty, people.first_owner, 50).await?;
            eprintln!(
                "{}: {size} experiments after {:.0} s",
                kind.name(),
                began.elapsed().as_secs_f64()
            );
            measure(&place, kind, size).await?;
        }
    }
    Ok(())
}

async fn measure(place: &Place, kind: Kind, size: i64) -> Outcome<()> {
    let mut table = Table::default();
    let server = place.serve(&["--no-agent"]).await?;
    let mut floor = floor(place, kind).await?;
    let (floor_median, floor_high) = (percentile(&mut floor, 50), percentile(&mut floor, 99));
    for (name, sees) in [("admin", "all"), ("half", "half"), ("fifty", "50")] {
        let bearer = server.session(name).await?;
        let mut connection = Connection::open(server.port).await?;
        for (page, query) in PAGES {
            let request = request("GET", &format!("/api/v1/experiments?limit=50{query}"), &bearer, "");
            let mut times = Vec::new();
            let began = Instant::now();
            for sample in 0..WARM_UP + SAMPLES {
                let before = Instant::now();
                let status = connection.send(&request).await?;
                if status != 200 {
                    return Err(format!(
                        "status {status}: {}",
                        String::from_utf8_lossy(connection.body())
                    ));
                }
                if sample >= WARM_UP || began.elapsed() > LONGEST / 2 {
                    times.push(before.elapsed());
                }
                if began.elapsed() > LONGEST {
                    break;
                }
            }
            let body: serde_json::Value = serde_json::from_slice(connection.body()).map_err(|why| why.to_string())?;
            let rows = body["items"].as_array().map_or(0, Vec::len);
            let (middle, high) = (percentile(&mut times, 50), percentile(&mut times, 99));
            table.row(Row {
                what: format!("sees {sees}: {page}, {rows} rows"),
                target: format!("p99 <= {}", time(TARGET)),
                measured: format!("p50 {}, p99 {}", time(middle), time(high)),
                floor: format!("p50 {}, p99 {}", time(floor_median), time(floor_high)),
                ratio: format!("{:.2}", middle.as_secs_f64() / floor_median.as_secs_f64()),
                // Where even the floor is held up for so long, something else has the processors.
                verdict: match verdict(high <= TARGET) {
                    "MISSED" if middle < TARGET / 2 && floor_high > TARGET / 2 => "machine busy",
                    verdict => verdict,
                },
            });
        }
    }
    server.process.stop()?;
    table.print(&format!(
        "{}: a page of 50 among {size} experiments, over HTTP; floor: the newest 50 rows straight from the database",
        kind.name()
    ));
    Ok(())
}

async fn floor(place: &Place, kind: Kind) -> Outcome<Vec<Duration>> {
    let pool = submit::open(&place.database, kind, 1).await?;
    let mut times = Vec::new();
    for sample in 0..WARM_UP + SAMPLES {
        let before = Instant::now();
        let rows = pool.fetch_all("SELECT id, name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, exit_code, created_at, started_at, ended_at, code FROM experiments ORDER BY id DESC LIMIT 51");
        rows.await.map_err(|why| why.to_string())?;
        if sample >= WARM_UP {
            times.push(before.elapsed());
        }
    }
    pool.close().await;
    Ok(times)
}

//! The first page of what one may see, newest first and by name, in databases of growing size with 5,000 workspaces and rights through groups.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Executor};

use crate::Outcome;
use crate::fill::{self, PLACES};
use crate::ground::{Bench, Kind, Place, Server};
use crate::load::{Connection, request};
use crate::submit;
use crate::table::{Row, Table, percentile, time, verdict};

const SAMPLES: usize = 400;
/// So many make a pass. Of all passes the one with the least median counts, of a page as of its floor: what remains is theirs, and not that of whatever else
/// the machine or its host does.
const PASS: usize = 40;
const WARM_UP: usize = 60;
/// A page that misses its target by far is not asked for so often.
const LONGEST: Duration = Duration::from_secs(6);
const TARGET: Duration = Duration::from_millis(2);
/// How much more a page may cost among the most rows than among the fewest.
const GROWTH: f64 = 2.0;

/// Who sees what; each is a user of that name, but the first is the administrator.
const PEOPLE: [(&str, &str); 6] = [
    ("admin", "all"),
    ("half", "2,500 of 5,000 workspaces"),
    ("fifty", "50 workspaces"),
    ("singles", "50 experiments"),
    ("own", "1,000th as owner"),
    ("none", "nothing"),
];

const PAGES: [(&str, &str); 7] = [
    ("newest", ""),
    ("by name", "&sort=name"),
    ("newest, half-way down", "&after=HALF"),
    ("of one state", "&state=COMPLETED"),
    ("of a rare state", "&state=RUNNING"),
    ("of one state by name", "&state=ERROR&sort=name"),
    ("of one workspace", "&workspace=place-100"),
];

pub async fn run(bench: &Bench, most: i64) -> Outcome<()> {
    for kind in bench.kinds() {
        let place = bench.place(kind).await?;
        place.serve(&["--no-agent"]).await?.process.stop()?;
        let (people, first_place) = fill::places(&place).await?;
        let server = place.serve(&["--no-agent"]).await?;
        let admin = server.admin().await?;
        for (name, _) in &PEOPLE[1..] {
            // With a role of one's own nothing comes through the group of everybody.
            server.user(&admin, name, "TokenCreator", None).await?;
        }
        server.process.stop()?;
        fill::assign_half(&place, "half", first_place).await?;
        let every = PLACES / 50;
        let scopes =
            format!("SELECT id FROM workspaces WHERE id >= {first_place} AND (id - {first_place}) % {every} = 0");
        fill::assign(&place, "fifty", "Viewer", "workspace", &scopes).await?;
        fill::assign(&place, "own", "OwnViewer", "global", "SELECT CAST(0 AS BIGINT) AS id").await?;
        let mut medians: Vec<Vec<Median>> = Vec::new();
        let sizes: Vec<i64> = [10_000, 100_000, 1_000_000]
            .into_iter()
            .filter(|size| *size <= most)
            .collect();
        for size in &sizes {
            let began = Instant::now();
            fill::experiments(&place, &people, *size).await?;
            fill::share(&place, "singles", "Reader", 50).await?;
            fill::own(&place, "own", people.first_owner).await?;
            eprintln!(
                "{}: {size} experiments after {:.0} s",
                kind.name(),
                began.elapsed().as_secs_f64()
            );
            medians.push(measure(&place, kind, *size).await?);
        }
        if let (Some(few), Some(many)) = (medians.first(), medians.last().filter(|_| sizes.len() > 1)) {
            growth(kind, &sizes, few, many);
        }
    }
    Ok(())
}

async fn measure(place: &Place, kind: Kind, size: i64) -> Outcome<Vec<Median>> {
    let mut table = Table::default();
    let server = place.serve(&["--no-agent"]).await?;
    let mut newest = floor(place, kind, "id DESC").await?;
    let mut by_name = floor(place, kind, "name, id").await?;
    let floors = [&mut newest, &mut by_name].map(|times| (undisturbed(times), percentile(times, 99)));
    let mut medians = Vec::new();
    for (user, sees) in PEOPLE {
        for (page, query) in PAGES {
            let (floor_median, floor_high) = floors[usize::from(query.contains("sort=name"))];
            let (mut times, rows) = pages(&server, user, &query.replace("HALF", &(size / 2).to_string())).await?;
            let (middle, high) = (undisturbed(&times), percentile(&mut times, 99));
            medians.push(Median { time: middle, rows });
            table.row(Row {
                what: format!("sees {sees}: {page}, {rows} rows"),
                target: format!("p50 <= {}", time(TARGET)),
                measured: format!("p50 {}, p99 {}", time(middle), time(high)),
                floor: format!("p50 {}, p99 {}", time(floor_median), time(floor_high)),
                ratio: format!("{:.2}", middle.as_secs_f64() / floor_median.as_secs_f64()),
                verdict: verdict(middle <= TARGET),
            });
        }
    }
    server.process.stop()?;
    table.print(&format!(
        "{}: the first page of 50 among {size} experiments in {PLACES} workspaces, over HTTP; floor: 51 rows in that order straight from the database",
        kind.name()
    ));
    Ok(medians)
}

/// The least median of a pass.
fn undisturbed(times: &[Duration]) -> Duration {
    let passes = times.chunks(PASS).map(|pass| percentile(&mut pass.to_vec(), 50));
    passes.min().expect("something was measured")
}

/// The times of one page, and how many rows it has.
async fn pages(server: &Server, user: &str, query: &str) -> Outcome<(Vec<Duration>, usize)> {
    let bearer = server.session(user).await?;
    let mut connection = Connection::open(server.port).await?;
    let request = request("GET", &format!("/api/v1/experiments?limit=50{query}"), &bearer, "");
    let mut times = Vec::new();
    let began = Instant::now();
    for sample in 0..WARM_UP + SAMPLES {
        let before = Instant::now();
        let status = connection.send(&request).await?;
        if status != 200 {
            let body = String::from_utf8_lossy(connection.body()).into_owned();
            return Err(format!("status {status}: {body}"));
        }
        if sample >= WARM_UP || began.elapsed() > LONGEST / 2 {
            times.push(before.elapsed());
        }
        if began.elapsed() > LONGEST {
            break;
        }
    }
    let body: serde_json::Value = serde_json::from_slice(connection.body()).map_err(|why| why.to_string())?;
    Ok((times, body["items"].as_array().map_or(0, Vec::len)))
}

async fn floor(place: &Place, kind: Kind, order: &str) -> Outcome<Vec<Duration>> {
    let pool = submit::open(&place.database, kind, 1).await?;
    let sql = format!(
        "SELECT id, name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, exit_code, created_at, started_at, ended_at, code FROM experiments ORDER BY {order} LIMIT 51"
    );
    let mut times = Vec::new();
    for sample in 0..WARM_UP + SAMPLES {
        let before = Instant::now();
        let rows = pool.fetch_all(sqlx::query(AssertSqlSafe(sql.clone())));
        rows.await.map_err(|why| why.to_string())?;
        if sample >= WARM_UP {
            times.push(before.elapsed());
        }
    }
    pool.close().await;
    Ok(times)
}

/// What a page took, and how many rows it had.
struct Median {
    time: Duration,
    rows: usize,
}

/// What each page's median costs among the most rows, against the fewest. A page that was not full there cannot be compared.
fn growth(kind: Kind, sizes: &[i64], few: &[Median], many: &[Median]) {
    let mut table = Table::default();
    let cases = PEOPLE
        .iter()
        .flat_map(|(_, sees)| PAGES.iter().map(move |(page, _)| format!("sees {sees}: {page}")));
    for ((what, few), many) in cases
        .zip(few)
        .zip(many)
        .filter(|((_, few), many)| few.rows == many.rows)
    {
        let growth = many.time.as_secs_f64() / few.time.as_secs_f64();
        table.row(Row {
            what,
            target: format!("< {GROWTH}"),
            measured: time(many.time),
            floor: time(few.time),
            ratio: format!("{growth:.2}"),
            verdict: verdict(growth < GROWTH),
        });
    }
    table.print(&format!(
        "{}: medians among {} experiments; floor: among {}; pages of as many rows in both",
        kind.name(),
        sizes.last().expect("something was measured"),
        sizes[0]
    ));
}

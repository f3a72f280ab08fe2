//! Questions about rights over HTTP: one at a time beside an empty handler that takes the same question and gives as long an answer, and a thousand in one
//! request.

use std::time::Duration;

use serde_json::json;

use crate::Outcome;
use crate::fill;
use crate::ground::{Bench, Kind};
use crate::load::{Connection, hammer, request};
use crate::table::{Row, Table, median, percentile, verdict};

/// The two are measured in turns, so that whatever else the machine does falls on both.
const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(250);
/// So many that the processors are never idle: with 32 they were for 3 to 5 % of the time, now more beside the one, now beside the other.
const CONNECTIONS: usize = 128;
const QUESTIONS: usize = 1000;
const FLOOR: &str = match cfg!(feature = "unchecked") {
    true => "an empty handler of the same question and answer",
    false => "GET /healthz",
};
const TARGET: f64 = 500_000.0;

pub async fn run(bench: &Bench) -> Outcome<()> {
    let mut table = Table::default();
    for kind in bench.kinds() {
        measure(bench, kind, &mut table).await?;
    }
    table.print(&format!(
        "Questions about rights, {CONNECTIONS} connections; floor of can-i: {FLOOR}; 5,000 workspaces, 1,000 users"
    ));
    Ok(())
}

#[cfg(feature = "unchecked")]
use crate::get::serve_unchecked as serve;

/// The program as it is shipped has no empty handler that takes a question; there the floor is a GET without one.
#[cfg(not(feature = "unchecked"))]
async fn serve(place: &crate::ground::Place) -> Outcome<crate::ground::Server> {
    place.serve(&["--no-agent"]).await
}

async fn measure(bench: &Bench, kind: Kind, table: &mut Table) -> Outcome<()> {
    let name = kind.name();
    let place = bench.place(kind).await?;
    place.serve(&["--no-agent"]).await?.process.stop()?;
    let (people, first_place) = fill::places(&place).await?;
    let server = place.serve(&["--no-agent"]).await?;
    let admin = server.admin().await?;
    server.user(&admin, "ana", "TokenCreator", None).await?;
    server.process.stop()?;
    fill::experiments(&place, &people, 10_000).await?;
    let scopes = format!("SELECT id FROM workspaces WHERE id >= {first_place} AND id % 100 = 0");
    fill::assign(&place, "ana", "Editor", "workspace", &scopes).await?;
    let server = serve(&place).await?;
    let bearer = server.session("ana").await?;
    let question = json!({"permission": "experiments:create", "on": "workspace:place-100"}).to_string();
    let asked = request("POST", "/api/v1/access/can-i", &bearer, &question);
    let empty = match cfg!(feature = "unchecked") {
        true => request("POST", "/unchecked/can-i", &bearer, &question),
        false => request("GET", "/healthz", &bearer, ""),
    };
    let nothing = request("GET", "/healthz", &bearer, "");
    let (mut ratios, mut rates, mut floors, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut nothings = Vec::new();
    for round in 0..=ROUNDS {
        let one = hammer(server.port, CONNECTIONS, ROUND, &asked, 200).await?;
        let other = hammer(server.port, CONNECTIONS, ROUND, &empty, 200).await?;
        nothings.push(hammer(server.port, CONNECTIONS, ROUND, &nothing, 200).await?.per_second);
        // The first warms up.
        if round > 0 {
            ratios.push(one.per_second / other.per_second);
            rates.push(one.per_second);
            floors.push(other.per_second);
            times.extend(one.times);
        }
    }
    let ratio = median(&mut ratios);
    table.row(Row {
        what: format!("{name}: can-i, requests per second"),
        target: ">= 0.90 of floor".into(),
        measured: format!("{:.0}/s", median(&mut rates)),
        floor: format!("{:.0}/s", median(&mut floors)),
        ratio: format!("{ratio:.3}"),
        verdict: verdict(ratio >= 0.9),
    });
    table.rate(
        &format!("{name}: GET /healthz, requests per second"),
        None,
        median(&mut nothings),
        None,
    );
    table.time(
        &format!("{name}: can-i, median"),
        None,
        percentile(&mut times, 50),
        None,
    );
    table.time(&format!("{name}: can-i, p99"), None, percentile(&mut times, 99), None);
    for (what, resource) in [
        ("workspaces by name", "workspace"),
        ("workspaces and experiments", "experiment"),
    ] {
        let evaluations: Vec<serde_json::Value> = (0..QUESTIONS)
            .map(|number| match number % 2 {
                0 if resource == "experiment" => {
                    json!({"resource": {"type": "experiment", "id": (number + 1).to_string()}})
                }
                _ => json!({"resource": {"type": "workspace", "id": format!("place-{}", number * 5)}}),
            })
            .collect();
        let batch =
            json!({"subject": {"type": "user", "id": "ana"}, "action": {"name": "read"}, "evaluations": evaluations});
        let batch = request("POST", "/access/v1/evaluations", &bearer, &batch.to_string());
        let mut connection = Connection::open(server.port).await?;
        connection.send(&batch).await?;
        let answer: serde_json::Value = serde_json::from_slice(connection.body()).map_err(|why| why.to_string())?;
        let allowed = answer["evaluations"]
            .as_array()
            .map(|all| all.iter().filter(|one| one["decision"] == true).count());
        hammer(server.port, 4, Duration::from_secs(1), &batch, 200).await?;
        let load = hammer(server.port, 4, Duration::from_secs(4), &batch, 200).await?;
        table.rate(
            &format!(
                "{name}: decisions in batches of {QUESTIONS}, {what} ({} allowed)",
                allowed.unwrap_or(0)
            ),
            Some(TARGET),
            load.per_second * QUESTIONS as f64,
            None,
        );
    }
    server.process.stop()
}

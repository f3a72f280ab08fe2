//! What authentication and authorisation cost a read of one experiment: the route beside its twin without either check, in the same server.

use std::time::Duration;

use crate::Outcome;
use crate::ground::Bench;
#[cfg(feature = "unchecked")]
use crate::ground::{Kind, Place, submit};
#[cfg(feature = "unchecked")]
use crate::load::{hammer, request};
#[cfg(feature = "unchecked")]
use crate::table::{Row, Table, median, percentile, verdict};

/// The two are measured in turns, so that whatever else the machine does falls on both.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(700);
const CONNECTIONS: usize = 16;

#[cfg(not(feature = "unchecked"))]
pub async fn run(_: &Bench) -> Outcome<()> {
    let _ = (ROUNDS, ROUND, CONNECTIONS);
    println!("\nCost of the checks: not measured; build with --features unchecked");
    Ok(())
}

#[cfg(feature = "unchecked")]
pub async fn run(bench: &Bench) -> Outcome<()> {
    let mut table = Table::default();
    for kind in bench.kinds() {
        measure(bench, kind, &mut table).await?;
    }
    table.print(&format!(
        "GET of one experiment by its owner, {CONNECTIONS} connections; floor: the same handler without authentication and authorisation"
    ));
    Ok(())
}

#[cfg(feature = "unchecked")]
async fn measure(bench: &Bench, kind: Kind, table: &mut Table) -> Outcome<()> {
    let place = bench.place(kind).await?;
    let server = serve_unchecked(&place).await?;
    let admin = server.admin().await?;
    server.user(&admin, "ana", "DataScientist", None).await?;
    let ana = server.login("ana").await?;
    let mut id = 0;
    for number in 0..1000 {
        id = submit(&ana, &format!("digits-{number}"), &["python3", "train.py"])
            .await?
            .id
            .0;
    }
    let bearer = server.session("ana").await?;
    let checked = request("GET", &format!("/api/v1/experiments/{id}"), &bearer, "");
    let unchecked = request("GET", &format!("/unchecked/experiments/{id}"), &bearer, "");
    let mut pairs = Pairs::default();
    for round in 0..=ROUNDS {
        let before = cpu_ticks(server.process.id())?;
        let one = hammer(server.port, CONNECTIONS, ROUND, &checked, 200).await?;
        let between = cpu_ticks(server.process.id())?;
        let other = hammer(server.port, CONNECTIONS, ROUND, &unchecked, 200).await?;
        let after = cpu_ticks(server.process.id())?;
        // The first warms up.
        if round > 0 {
            pairs.ratios.push(one.per_second / other.per_second);
            pairs.rates.push((one.per_second, other.per_second));
            let cost = |ticks: u64, requests: usize| ticks as f64 * US_PER_TICK / requests as f64;
            pairs.costs.push((
                cost(between - before, one.times.len()),
                cost(after - between, other.times.len()),
            ));
            pairs.times.0.extend(one.times);
            pairs.times.1.extend(other.times);
        }
    }
    server.process.stop()?;
    let middle = |values: &[(f64, f64)]| {
        let (mut one, mut other): (Vec<f64>, Vec<f64>) = values.iter().copied().unzip();
        (median(&mut one), median(&mut other))
    };
    let ((with, without), (cost, bare)) = (middle(&pairs.rates), middle(&pairs.costs));
    let ratio = median(&mut pairs.ratios);
    let name = kind.name();
    table.row(Row {
        what: format!("{name}: requests per second"),
        target: ">= 0.85 of floor".into(),
        measured: format!("{with:.0}/s"),
        floor: format!("{without:.0}/s"),
        ratio: format!("{ratio:.3}"),
        verdict: verdict(ratio >= 0.85),
    });
    table.row(Row {
        what: format!("{name}: processor time of the server per request"),
        target: String::new(),
        measured: format!("{cost:.0} us"),
        floor: format!("{bare:.0} us"),
        ratio: format!("{:.3}", cost / bare),
        verdict: "",
    });
    let (times, floors) = (&mut pairs.times.0, &mut pairs.times.1);
    table.time(
        &format!("{name}: median"),
        None,
        percentile(times, 50),
        Some(percentile(floors, 50)),
    );
    table.time(
        &format!("{name}: p99"),
        None,
        percentile(times, 99),
        Some(percentile(floors, 99)),
    );
    Ok(())
}

/// What the rounds gave, with and without the checks.
#[cfg(feature = "unchecked")]
#[derive(Default)]
struct Pairs {
    ratios: Vec<f64>,
    rates: Vec<(f64, f64)>,
    costs: Vec<(f64, f64)>,
    times: (Vec<Duration>, Vec<Duration>),
}

/// Linux counts in hundredths of a second on every machine.
#[cfg(feature = "unchecked")]
const US_PER_TICK: f64 = 10_000.0;

/// User and system time of a process.
#[cfg(feature = "unchecked")]
fn cpu_ticks(id: i32) -> Outcome<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).map_err(|why| format!("process {id}: {why}"))?;
    // The name, in brackets, may hold anything.
    let rest = text.rsplit_once(") ").ok_or("an odd /proc/ID/stat")?.1;
    let ticks = rest
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or(0));
    Ok(ticks.sum())
}

/// The one measurement that does not run the real program: it must never hold this route.
#[cfg(feature = "unchecked")]
pub async fn serve_unchecked(place: &Place) -> Outcome<crate::ground::Server> {
    let port = crate::ground::free_port()?;
    let mut command = std::process::Command::new(std::env::current_exe().map_err(|why| why.to_string())?);
    command.env("ML_LISTEN", format!("127.0.0.1:{port}"));
    command.args(["serve-unchecked", "--database", &place.database]);
    command
        .arg("--data")
        .arg(&place.data)
        .arg("--admin-password-file")
        .arg(&place.password);
    place.start(command, port).await
}

#[cfg(feature = "unchecked")]
pub fn serve(
    data: std::path::PathBuf,
    database: Option<String>,
    admin_password_file: std::path::PathBuf,
) -> Outcome<()> {
    bailiwick_server::serve_with_unchecked_twin(bailiwick_server::ServeFlags {
        data: Some(data),
        database,
        admin_password_file: Some(admin_password_file),
        no_agent: true,
        ..Default::default()
    })
}

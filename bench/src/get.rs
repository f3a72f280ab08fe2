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
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);
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
    let (mut with, mut without, mut times, mut floor_times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let one = hammer(server.port, CONNECTIONS, ROUND, &checked, 200).await?;
        let other = hammer(server.port, CONNECTIONS, ROUND, &unchecked, 200).await?;
        // The first warms up.
        if round > 0 {
            with.push(one.per_second);
            without.push(other.per_second);
            times.extend(one.times);
            floor_times.extend(other.times);
        }
    }
    server.process.stop()?;
    let (with, without) = (median(&mut with), median(&mut without));
    table.row(Row {
        what: format!("{}: requests per second", kind.name()),
        target: ">= 0.85 of floor".into(),
        measured: format!("{with:.0}/s"),
        floor: format!("{without:.0}/s"),
        ratio: format!("{:.3}", with / without),
        verdict: verdict(with >= 0.85 * without),
    });
    table.time(
        &format!("{}: median", kind.name()),
        None,
        percentile(&mut times, 50),
        Some(percentile(&mut floor_times, 50)),
    );
    table.time(
        &format!("{}: p99", kind.name()),
        None,
        percentile(&mut times, 99),
        Some(percentile(&mut floor_times, 99)),
    );
    Ok(())
}

/// The one measurement that does not run the real program: it must never hold this route.
#[cfg(feature = "unchecked")]
async fn serve_unchecked(place: &Place) -> Outcome<crate::ground::Server> {
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

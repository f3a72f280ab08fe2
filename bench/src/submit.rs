//! Sustained submissions through the API.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor};

use crate::Outcome;
use crate::ground::{Bench, Kind};
use crate::load::{hammer, request};
use crate::table::{Table, percentile};

const CONNECTIONS: [usize; 2] = [8, 32];

pub async fn run(bench: &Bench, seconds: u64) -> Outcome<()> {
    let mut table = Table::default();
    for kind in bench.kinds() {
        let target = match kind {
            Kind::Sqlite => 500.0,
            Kind::Postgres => 1000.0,
        };
        for connections in CONNECTIONS {
            let place = bench.place(kind).await?;
            let server = place.serve(&["--no-agent"]).await?;
            let admin = server.admin().await?;
            server.user(&admin, "ana", "DataScientist", None).await?;
            let bearer = server.session("ana").await?;
            let config = json!({
                "name": "digits", "entrypoint": ["python3", "train.py", "--epochs", "10"],
                "hyperparameters": {"lr": 0.1, "layers": 3, "optimizer": "adam"}, "resources": {"slots_per_trial": 1},
            });
            let good = request(
                "POST",
                "/api/v1/experiments",
                &bearer,
                &json!({"config": config}).to_string(),
            );
            let refused = request(
                "POST",
                "/api/v1/experiments",
                &bearer,
                &json!({"config": {"name": "digits"}}).to_string(),
            );
            hammer(server.port, connections, Duration::from_secs(1), &good, 200).await?;
            let rejections = hammer(server.port, connections, Duration::from_secs(3), &refused, 422).await?;
            let mut load = hammer(server.port, connections, Duration::from_secs(seconds), &good, 200).await?;
            server.process.stop()?;
            let floor = floor(&place.database, kind, connections).await?;
            let name = format!("{}, {connections} connections", kind.name());
            table.rate(
                &format!("{name}: against INSERT and commit alone"),
                Some(target),
                load.per_second,
                Some(floor),
            );
            table.rate(
                &format!("{name}: against a refused request"),
                None,
                load.per_second,
                Some(rejections.per_second),
            );
            table.time(&format!("{name}: median"), None, percentile(&mut load.times, 50), None);
            table.time(&format!("{name}: p99"), None, percentile(&mut load.times, 99), None);
        }
    }
    table.print(&format!("Submissions, sustained for {seconds} s; commits are durable"));
    Ok(())
}

/// One-row transactions per second that this database takes from as many writers (on SQLite from the one it can have).
async fn floor(database: &str, kind: Kind, connections: usize) -> Outcome<f64> {
    let text = |why: sqlx::Error| format!("the floor: {why}");
    let pool = open(database, kind, connections as u32).await?;
    pool.execute("CREATE TABLE bench_floor (id BIGINT PRIMARY KEY, text TEXT NOT NULL)")
        .await
        .map_err(text)?;
    let writers = if kind == Kind::Sqlite { 1 } else { connections };
    let until = Instant::now() + Duration::from_secs(5);
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut connection = pool.acquire().await?;
                let mut count = 0i64;
                while Instant::now() < until {
                    sqlx::query("INSERT INTO bench_floor (id, text) VALUES ($1, 'one')")
                        .bind(writer as i64 * 100_000_000 + count)
                        .execute(&mut *connection)
                        .await?;
                    count += 1;
                }
                Ok::<_, sqlx::Error>(count)
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.map_err(|why| why.to_string())?.map_err(text)?;
    }
    pool.execute("DROP TABLE bench_floor").await.map_err(text)?;
    pool.close().await;
    Ok(count as f64 / 5.0)
}

/// The server's own settings for durability.
pub async fn open(database: &str, kind: Kind, connections: u32) -> Outcome<AnyPool> {
    sqlx::any::install_default_drivers();
    let url = match kind {
        Kind::Sqlite => format!("sqlite://{}?mode=rwc", database.trim_start_matches("sqlite:")),
        Kind::Postgres => database.to_owned(),
    };
    let options = AnyPoolOptions::new()
        .max_connections(connections)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if kind == Kind::Sqlite {
                    connection
                        .execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000")
                        .await?;
                }
                Ok(())
            })
        });
    options
        .connect(&url)
        .await
        .map_err(|why| format!("cannot open {database}: {why}"))
}

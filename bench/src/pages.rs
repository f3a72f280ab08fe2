//! Every page of the route table, from the request to the last byte of its HTML, among 1,000,000 experiments, 5,000 workspaces and 10,000 users.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::fill;
use crate::ground::{Bench, Kind, Server};
use crate::load::{Connection, request};
use crate::table::{Row, Table, percentile, time, verdict};

const ROUTES: &str = include_str!("../../docs/routes.md");
const TARGET: Duration = Duration::from_millis(30);
const SAMPLES: usize = 100;
const WARM_UP: usize = 10;
const USERS: i64 = 10_000;

/// Who looks: the administrator sees all, `half` 2,500 workspaces through groups, `none` nothing.
const PEOPLE: [&str; 3] = ["admin", "half", "none"];

pub async fn run(bench: &Bench, most: i64) -> Outcome<()> {
    for kind in bench.kinds() {
        let place = bench.place(kind).await?;
        place.serve(&["--no-agent"]).await?.process.stop()?;
        let (people, first_place) = fill::places(&place).await?;
        let more = USERS - fill::OWNERS;
        let sql = [
            format!(
                "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {more} - 1)
                 INSERT INTO principals (kind, name, name_key, state, created_at) SELECT 'user', 'user' || i, 'user' || i, 'active', 0 FROM n"
            ),
            "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 999)
             INSERT INTO groups (name, name_key, description, built_in) SELECT 'team ' || i, 'team ' || i, '', 0 FROM n"
                .into(),
            "INSERT INTO group_members (group_id, principal_id) SELECT g.id, p.id FROM groups g, principals p
             WHERE g.name LIKE 'team %' AND p.name LIKE 'user%' AND (g.id = (SELECT MIN(id) FROM groups WHERE name LIKE 'team %') OR p.id % 1000 = g.id % 1000)"
                .into(),
            format!(
                "INSERT INTO assignments (group_id, role_id, scope_kind, scope_id, created_at)
                 SELECT g.id, (SELECT id FROM roles WHERE name = 'Editor'), 'workspace', {first_place} + g.id % 5000, 0 FROM groups g WHERE g.name LIKE 'team %'"
            ),
            format!(
                "INSERT INTO assignments (principal_id, role_id, scope_kind, scope_id, created_at)
                 SELECT id, (SELECT id FROM roles WHERE name = 'Viewer'), 'workspace', {first_place} + 100, 0 FROM principals WHERE name LIKE 'user%'"
            ),
        ];
        fill::run(&place, &sql).await?;
        let server = place.serve(&["--no-agent"]).await?;
        let admin = server.admin().await?;
        for name in &PEOPLE[1..] {
            server.user(&admin, name, "TokenCreator", None).await?;
        }
        server.process.stop()?;
        fill::assign_half(&place, "half", first_place).await?;
        let began = Instant::now();
        fill::experiments(&place, &people, most).await?;
        eprintln!(
            "{}: {most} experiments after {:.0} s",
            kind.name(),
            began.elapsed().as_secs_f64()
        );
        let server = place.serve(&["--no-agent"]).await?;
        measure(&server, kind, most).await?;
        server.process.stop()?;
    }
    Ok(())
}

/// The pages that the route table names, with what is there for each name in their paths.
fn pages(experiments: i64) -> Vec<String> {
    let lines = ROUTES.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (method, path, summary) = (cells.next()?, cells.next()?.trim_matches('`'), cells.nth(1)?);
        // Nobody submits code here, so there is no page of it.
        (method == "GET" && summary.starts_with("page ") && !path.ends_with("/code")).then_some(path)
    });
    let filled = |path: &str| {
        path.replace("{experiment}", &(experiments / 2).to_string())
            .replace("{workspace}", "place-100")
            .replace("{project}", "default")
            .replace("{user}", "user5")
            .replace("{group}", "team%200")
            .replace("{role}", "Editor")
            .replace("{queue}", "1")
            .replace("{stack}", "1")
            .replace("{model}", "1")
            .replace("{vault}", "1")
    };
    let mut all: Vec<String> = lines.map(filled).collect();
    for more in [
        "/?state=COMPLETED",
        "/?whose=all",
        "/?workspace=place-100",
        "/users?text=user99",
        "/access?question=who-can&permission=experiments:read&on=workspace:place-100",
        "/names?q=user1",
    ] {
        all.push(more.into());
    }
    all
}

async fn measure(server: &Server, kind: Kind, experiments: i64) -> Outcome<()> {
    let mut table = Table::default();
    for user in PEOPLE {
        let bearer = server.session(user).await?;
        let mut connection = Connection::open(server.port).await?;
        for path in pages(experiments) {
            let ask = request("GET", &path, &bearer, "");
            let mut times = Vec::new();
            let mut status = 0;
            for number in 0..WARM_UP + SAMPLES {
                let began = Instant::now();
                status = connection.send(&ask).await?;
                if number >= WARM_UP {
                    times.push(began.elapsed());
                }
            }
            if status >= 500 {
                return Err(format!(
                    "{path} answers {status}: {}",
                    String::from_utf8_lossy(connection.body())
                ));
            }
            let bytes = connection.body().len();
            let (middle, high) = (percentile(&mut times, 50), percentile(&mut times, 99));
            table.row(Row {
                what: format!("{user}: {path} ({status}, {} kB)", bytes.div_ceil(1000)),
                target: format!("p99 <= {}", time(TARGET)),
                measured: format!("p50 {}, p99 {}", time(middle), time(high)),
                floor: String::new(),
                ratio: String::new(),
                verdict: verdict(high <= TARGET),
            });
        }
    }
    table.print(&format!(
        "{}: pages among {experiments} experiments and {USERS} users",
        kind.name()
    ));
    Ok(())
}

//! Whether an outsider can tell by time what is hidden from what is not there: both are asked for in random turns, and the times compared by rank.

use std::time::{Duration, Instant};

use bailiwick_api::tokens::NewToken;
use serde_json::json;

use crate::Outcome;
use crate::fill;
use crate::ground::{Bench, Kind, Server};
use crate::load::{Connection, request};
use crate::table::{Row, Table, percentile, time, verdict};

const WARM_UP: usize = 100;
/// Objects of each sort that take turns.
const OBJECTS: i64 = 20;
/// Below this chance the two sorts of times are taken for different. There are about thirty comparisons in a run.
const CHANCE: f64 = 0.000_1;

/// A kind of object, how it is asked for, and the names of what is there and what is not, as long as each other.
struct Question {
    what: &'static str,
    method: &'static str,
    path: &'static str,
    there: Vec<String>,
    missing: Vec<String>,
}

/// The roles that somebody waits for.
const ASKED: [&str; 5] = ["Viewer", "Editor", "EditorRestricted", "Reader", "Writer"];

pub async fn run(bench: &Bench, requests: usize) -> Outcome<()> {
    for kind in bench.kinds() {
        measure(bench, kind, requests).await?;
    }
    Ok(())
}

async fn measure(bench: &Bench, kind: Kind, requests: usize) -> Outcome<()> {
    let place = bench.place(kind).await?;
    place.serve(&["--no-agent"]).await?.process.stop()?;
    let (people, first_place) = fill::places(&place).await?;
    let server = place.serve(&["--no-agent"]).await?;
    let admin = server.admin().await?;
    for name in ["outsider", "other"] {
        server.user(&admin, name, "TokenCreator", None).await?;
    }
    let mut tokens = Vec::new();
    let mut groups = Vec::new();
    let mut asked = Vec::new();
    let other = server.login("other").await?;
    let text = |why: bailiwick_client::Error| why.to_string();
    for number in 0..OBJECTS {
        for _ in 0..2 {
            let token = NewToken {
                label: format!("hidden {number}"),
                ..NewToken::default()
            };
            tokens.push(admin.create_token(&token).await.map_err(text)?.token.id.0);
        }
        groups.push(format!("group-{}", 10 + 2 * number));
        let group = json!({"name": groups.last()});
        let _: serde_json::Value = admin.post("/api/v1/groups", &group).await.map_err(text)?;
        // One asks for a role once.
        if let Some(role) = ASKED.get(number as usize) {
            let wanted = json!({"role": role, "on": "workspace:default", "lifetime_ms": 3_600_000, "why": "to help"});
            let made: serde_json::Value = other.post("/api/v1/access/requests", &wanted).await.map_err(text)?;
            asked.push(made["id"].as_i64().unwrap_or_default());
        }
    }
    server.process.stop()?;
    fill::experiments(&place, &people, 9_000).await?;
    let scopes = format!("SELECT id FROM workspaces WHERE id >= {first_place}");
    fill::assign(&place, "other", "Viewer", "workspace", &scopes).await?;
    // What is there and what is not take turns in every index: how far to the end of one something lies tells of its place and not of its being there.
    let of_names = |text: &str, from: i64| {
        (from..from + 2 * OBJECTS)
            .step_by(2)
            .map(|number| format!("{text}{number}"))
            .collect::<Vec<_>>()
    };
    let names = |text: &str, from: i64| (of_names(text, from), of_names(text, from + 1));
    let padded = |ids: &[i64]| ids.iter().map(|id| format!("{id:04}")).collect::<Vec<_>>();
    let (kept_tokens, gone_tokens): (Vec<i64>, Vec<i64>) = tokens.chunks(2).map(|two| (two[0], two[1])).unzip();
    let gone = |from: i64| format!("BETWEEN {from} AND {} AND id % 2 = 1", from + 2 * OBJECTS);
    fill::run(
        &place,
        &[
            format!("DELETE FROM experiment_events WHERE experiment_id IN (SELECT id FROM experiments WHERE id {})", gone(5_000)),
            format!("DELETE FROM jobs WHERE experiment_id IN (SELECT id FROM experiments WHERE id {})", gone(5_000)),
            format!("DELETE FROM experiments WHERE id {}", gone(5_000)),
            format!("DELETE FROM assignments WHERE id {}", gone(2_000)),
            format!("DELETE FROM credentials WHERE id IN ({})", padded(&gone_tokens).join(", ")),
            format!(
                "UPDATE workspaces SET name = 'renamed-' || id, name_key = 'renamed-' || id WHERE id - {first_place} BETWEEN 1000 AND 1040 AND (id - {first_place}) % 2 = 1"
            ),
        ],
    )
    .await?;
    let question = |what, method, path, there: Vec<String>, missing: Vec<String>| Question {
        what,
        method,
        path,
        there,
        missing,
    };
    let experiments = || names("", 5_000);
    let workspaces = || names("place-", 1_000);
    let of =
        |what, method, path, (there, missing): (Vec<String>, Vec<String>)| question(what, method, path, there, missing);
    let questions = [
        of("experiment", "GET", "/api/v1/experiments/{}", experiments()),
        of("its log", "GET", "/api/v1/experiments/{}/logs", experiments()),
        of("its code", "GET", "/api/v1/experiments/{}/code", experiments()),
        of("cancel it", "POST", "/api/v1/experiments/{}/cancel", experiments()),
        of("delete it", "DELETE", "/api/v1/experiments/{}", experiments()),
        of(
            "experiment by name",
            "GET",
            "/api/v1/experiments/{}",
            (of_names("digits-", 20), of_names("digitz-", 20)),
        ),
        of("workspace", "GET", "/api/v1/workspaces/{}", workspaces()),
        of("its members", "GET", "/api/v1/workspaces/{}/members", workspaces()),
        of(
            "its project",
            "GET",
            "/api/v1/workspaces/{}/projects/default",
            workspaces(),
        ),
        of(
            "its experiments",
            "GET",
            "/api/v1/experiments?workspace={}",
            workspaces(),
        ),
        of(
            "group",
            "GET",
            "/api/v1/groups/{}",
            (groups.clone(), of_names("group-", 11)),
        ),
        of(
            "token",
            "GET",
            "/api/v1/tokens/{}",
            (padded(&kept_tokens), padded(&gone_tokens)),
        ),
        of("assignment", "DELETE", "/api/v1/assignments/{}", names("", 2_000)),
        of(
            "access request",
            "POST",
            "/api/v1/access/requests/{}/withdraw",
            (padded(&asked), of_names("", 7_000)),
        ),
    ];
    let server = place.serve(&["--no-agent"]).await?;
    let mut table = Table::default();
    for question in &questions {
        row(&server, question, requests, &mut table).await?;
    }
    server.process.stop()?;
    table.print(&format!(
        "{}: time of an answer about what is hidden; floor: about what is not there; {requests} each in random turns. Figure: how often the hidden one takes longer (0.5: no difference), and the chance of a figure as far from that",
        kind.name()
    ));
    Ok(())
}

async fn row(server: &Server, question: &Question, requests: usize, table: &mut Table) -> Outcome<()> {
    let bearer = server.session("outsider").await?;
    let mut connection = Connection::open(server.port).await?;
    let body = if question.method == "POST" { "{}" } else { "" };
    let prepare = |names: &[String]| -> Vec<Vec<u8>> {
        let path = |name: &String| question.path.replace("{}", name);
        names
            .iter()
            .map(|name| request(question.method, &path(name), &bearer, body))
            .collect()
    };
    let asked = [prepare(&question.there), prepare(&question.missing)];
    let mut times: [Vec<Duration>; 2] = Default::default();
    let mut statuses = [None; 2];
    // The same turns in every run: Marsaglia's xorshift.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    let mut sent = 0;
    while times.iter().any(|times| times.len() < requests) {
        let which = (random() % 2) as usize;
        let of_sort = &asked[which];
        let one = &of_sort[random() as usize % of_sort.len()];
        let began = Instant::now();
        let status = connection.send(one).await?;
        let took = began.elapsed();
        sent += 1;
        if *statuses[which].get_or_insert(status) != status {
            return Err(format!("{}: status {status} among others", question.what));
        }
        if sent > WARM_UP {
            times[which].push(took);
        }
    }
    if statuses[0] != statuses[1] {
        return Err(format!(
            "{}: what is hidden answers {:?}, what is not there {:?}",
            question.what, statuses[0], statuses[1]
        ));
    }
    let (longer, chance) = compared(&times[0], &times[1]);
    let [there, missing] = &mut times;
    table.row(Row {
        what: format!("{} ({})", question.what, statuses[0].unwrap_or_default()),
        target: format!("chance >= {CHANCE}"),
        measured: time(percentile(there, 50)),
        floor: time(percentile(missing, 50)),
        ratio: format!("{longer:.3} ({chance:.4})"),
        verdict: verdict(chance >= CHANCE),
    });
    Ok(())
}

/// Mann and Whitney: the share of pairs of which the first takes longer, and the chance of one as far from a half if there were no difference.
fn compared(first: &[Duration], second: &[Duration]) -> (f64, f64) {
    let mut all: Vec<(Duration, bool)> = first.iter().map(|time| (*time, true)).collect();
    all.extend(second.iter().map(|time| (*time, false)));
    all.sort_unstable();
    let mut ranks = 0.0;
    let mut at = 0;
    while at < all.len() {
        let same = all[at..].iter().take_while(|(time, _)| *time == all[at].0).count();
        // Equal times share their places.
        let rank = at as f64 + (same as f64 + 1.0) / 2.0;
        ranks += rank * all[at..at + same].iter().filter(|(_, is_first)| *is_first).count() as f64;
        at += same;
    }
    let (n, m) = (first.len() as f64, second.len() as f64);
    let pairs = ranks - n * (n + 1.0) / 2.0;
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    let distance = (pairs - n * m / 2.0).abs() / deviation;
    (pairs / (n * m), (2.0 * beyond(distance)).min(1.0))
}

/// The part of the normal distribution beyond so many deviations (Abramowitz and Stegun, 26.2.17).
fn beyond(distance: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * distance);
    let polynomial =
        t * (0.319_381_53 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (-distance * distance / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * polynomial
}

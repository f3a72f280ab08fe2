//! `ml status`

use std::time::Duration;

use bailiwick_api::experiments::{Experiment, ExperimentFilter, Sort, State};
use bailiwick_api::server::AccessMode;
use bailiwick_api::users::Me;

use crate::args::{Common, Status};
use crate::connect::{Connection, block_on, until_interrupted};
use crate::failure::{Failure, Result};
use crate::output::{Cell, Column, Output, column, now, say, wide, write};

/// How many are shown where nothing else is asked for.
const NEWEST: i64 = 50;

/// `25 %`; empty where its job has said nothing.
pub fn progress(experiment: &Experiment) -> String {
    let percent = experiment.percent();
    percent.map(|percent| format!("{percent} %")).unwrap_or_default()
}

pub const COLUMNS: &[Column<Experiment>] = &[
    column("ID", |experiment| experiment.id.0.into()),
    column("NAME", |experiment| experiment.name.as_str().into()),
    column("STATE", |experiment| Cell::State(experiment.state)),
    column("OWNER", |experiment| experiment.owner.as_str().into()),
    column("QUEUE", |experiment| experiment.queue.as_str().into()),
    column("SLOTS", |experiment| experiment.slots.into()),
    column("CREATED", |experiment| experiment.created_at.into()),
    column("RUNTIME", |experiment| Cell::Milliseconds(runtime_ms(experiment))),
    column("CAUSE", |experiment| experiment.cause.as_str().into()),
    wide("WORKSPACE", |experiment| experiment.workspace.as_str().into()),
    wide("PROJECT", |experiment| experiment.project.as_str().into()),
    wide("PROGRESS", |experiment| progress(experiment).into()),
    wide("PRIORITY", |experiment| experiment.priority.into()),
    wide("RESTARTS", |experiment| experiment.restarts.into()),
    wide("EXIT CODE", |experiment| {
        experiment
            .exit_code
            .map(|code| code.to_string())
            .unwrap_or_default()
            .into()
    }),
    wide(
        "ARCHIVED",
        |experiment| if experiment.archived { "yes".into() } else { "".into() },
    ),
];

pub fn id(experiment: &Experiment) -> String {
    experiment.id.to_string()
}

/// From its first process to its end, or to now.
pub fn runtime_ms(experiment: &Experiment) -> Option<i64> {
    let until = experiment.ended_at.unwrap_or_else(now);
    experiment.started_at.map(|start| until.since_ms(start).max(0))
}

/// What one call of the command shows.
struct Shown {
    me: Me,
    experiments: Vec<Experiment>,
    there_are_more: bool,
}

pub fn status(common: &Common, status: &Status) -> Result<()> {
    let state = status.state.as_deref().map(str::parse::<State>).transpose();
    let state = state.map_err(|why| Failure::wrong_usage(format!("--state: {why}")))?;
    let sort = status.sort.parse::<Sort>();
    let sort = sort.map_err(|why| Failure::wrong_usage(format!("--sort: {why}")))?;
    let by_id = |text: &str| bailiwick_api::ids::as_number(text).is_some();
    if status.workspace.is_none() && status.project.as_deref().is_some_and(|project| !by_id(project)) {
        return Err(Failure::wrong_usage("--project NAME needs --workspace beside it"));
    }
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let filter = ExperimentFilter {
        name: status.experiment.clone(),
        state,
        name_begins: status.begins.clone(),
        mine: status.mine.then_some(true),
        owner: status.owner.clone(),
        archived: status.archived.then_some(true),
        workspace: status.workspace.clone(),
        project: status.project.clone(),
        sort: Some(sort).filter(|sort| *sort != Sort::Newest),
        ..ExperimentFilter::default()
    };
    let page = |shown: &Shown| page(&connection, &output, status, shown);
    block_on(async {
        if !status.watch {
            return page(&read(&connection, status, filter.clone()).await?);
        }
        let watch = async {
            loop {
                let shown = read(&connection, status, filter.clone()).await?;
                if output.terminal {
                    // To the top left, and everything below away.
                    write("\x1b[H\x1b[2J\x1b[3J")?;
                }
                page(&shown)?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        until_interrupted(watch, String::new).await
    })
}

async fn read(connection: &Connection, status: &Status, mut filter: ExperimentFilter) -> Result<Shown> {
    let client = &connection.client;
    let limit = match status.all {
        true => i64::MAX,
        false => status.limit.unwrap_or(NEWEST),
    };
    if let Some(id) = status.experiment.as_deref().filter(|text| text.parse::<i64>().is_ok()) {
        let (me, detail) =
            tokio::try_join!(client.me(), client.experiment(id)).map_err(|why| connection.explain(why))?;
        return Ok(Shown {
            me,
            experiments: vec![detail.experiment],
            there_are_more: false,
        });
    }
    filter.limit = Some(limit.min(1000));
    // Both at once: the page is there a round trip earlier.
    let (me, first) =
        tokio::try_join!(client.me(), client.experiments(&filter)).map_err(|why| connection.explain(why))?;
    let mut experiments = first.items;
    filter.after = first.next;
    while filter.after.is_some() && (experiments.len() as i64) < limit {
        filter.limit = Some((limit - experiments.len() as i64).min(1000));
        let mut page = client
            .experiments(&filter)
            .await
            .map_err(|why| connection.explain(why))?;
        experiments.append(&mut page.items);
        filter.after = page.next;
    }
    if let Some(name) = &status.experiment
        && experiments.is_empty()
        && filter.state.is_none()
        && filter.workspace.is_none()
        && filter.project.is_none()
        && filter.name_begins.is_none()
        && filter.owner.is_none()
        && filter.archived.is_none()
        && !status.mine
    {
        // The server's own words for what is not there, with the nearest name that is.
        super::experiments::found(connection, name, client.experiment(name).await).await?;
    }
    Ok(Shown {
        me,
        experiments,
        there_are_more: filter.after.is_some(),
    })
}

fn page(connection: &Connection, output: &Output, status: &Status, shown: &Shown) -> Result<()> {
    let who = who_sees_what(&shown.me, &connection.settings.server.value);
    // On a terminal it is part of the page; elsewhere only data goes to standard output.
    if output.is_for_people() {
        write(&format!("{who}\n\n"))?;
    } else {
        say(&who);
    }
    if shown.experiments.is_empty() && output.is_for_people() {
        return write("No experiments.\n");
    }
    output.list(COLUMNS, id, &shown.experiments)?;
    if shown.there_are_more {
        say(&match status.limit {
            None => format!("The first {NEWEST}; --all shows the rest."),
            Some(limit) => format!("The first {limit}; --all shows all."),
        });
    }
    Ok(())
}

/// `ana at http://…: you see your own experiments in workspace "default"`
fn who_sees_what(me: &Me, server: &str) -> String {
    if me.access == AccessMode::Off {
        return format!(
            "{} at {server}: ACCESS CONTROL IS OFF, everybody may do everything",
            me.user.name
        );
    }
    format!("{} at {server}: you see {}", me.user.name, experiments_seen(&me.sees))
}

/// `everything` stands for itself; `your own in workspace "default"` wants a noun.
fn experiments_seen(sees: &str) -> String {
    if sees.contains("experiments") {
        return sees.to_owned();
    }
    match sees.strip_prefix("your own") {
        Some(rest) => format!("your own experiments{rest}"),
        None => sees.to_owned(),
    }
}

//! `ml queue …`

use bailiwick_api::queues::{Queue, QueueAccess, QueueDetail, QueueSettings, QueueShare, QueueState};
use bailiwick_client::{Error, is_missing};

use crate::args::Common;
use crate::args::queues::Queue as Command;
use crate::connect::{Connection, block_on, suggest};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, wide};
use crate::prompt;

const COLUMNS: &[Column<Queue>] = &[
    column("ID", |queue| queue.id.0.into()),
    column("NAME", |queue| queue.name.as_str().into()),
    column("STATE", |queue| queue.state.word().into()),
    column("TAKES", |queue| takes(queue).into()),
    column("WAITING", |queue| queue.waiting.into()),
    column("RUNNING", |queue| queue.running.into()),
    wide("DEFAULT", |queue| if queue.is_default { "yes" } else { "no" }.into()),
    wide("TURNS", |queue| turns(queue).into()),
    wide("AT MOST", |queue| limits(queue).into()),
    wide("DESCRIPTION", |queue| queue.description.as_str().into()),
];

const DETAIL: &[Column<QueueDetail>] = &[
    column("ID", |detail| detail.queue.id.0.into()),
    column("NAME", |detail| detail.queue.name.as_str().into()),
    column("DESCRIPTION", |detail| detail.queue.description.as_str().into()),
    column("DEFAULT", |detail| {
        if detail.queue.is_default { "yes" } else { "no" }.into()
    }),
    column("STATE", |detail| {
        match detail.queue.state {
            QueueState::Active => "active",
            QueueState::Paused => "paused: starts nothing",
            QueueState::Draining => "draining: takes nothing in",
        }
        .into()
    }),
    column("TAKES", |detail| takes(&detail.queue).into()),
    column("TURNS", |detail| turns(&detail.queue).into()),
    column("AT MOST", |detail| limits(&detail.queue).into()),
    column("WAITING", |detail| detail.queue.waiting.into()),
    column("RUNNING", |detail| detail.queue.running.into()),
    column("BUSIEST IN A DAY", |detail| {
        let most = detail.load.iter().max_by_key(|minute| minute.running + minute.waiting);
        most.map(|most| format!("{} running, {} waiting", most.running, most.waiting))
            .unwrap_or_default()
            .into()
    }),
];

/// Whose jobs.
fn takes(queue: &Queue) -> String {
    match queue.access {
        QueueAccess::Open => "jobs of every workspace".into(),
        QueueAccess::Bound if queue.workspaces.is_empty() => "jobs of workspaces that you may not see".into(),
        QueueAccess::Bound => format!("jobs of {}", queue.workspaces.join(", ")),
        QueueAccess::Assigned => "jobs of those who hold a role at it".into(),
    }
}

fn turns(queue: &Queue) -> &'static str {
    match queue.share {
        QueueShare::None => "by priority, then age",
        QueueShare::Users => "by priority, then the user with the fewest slots in use, then age",
        QueueShare::Workspaces => "by priority, then the workspace with the fewest slots in use, then age",
    }
}

fn limits(queue: &Queue) -> String {
    let limits = [
        (queue.max_running, ""),
        (queue.max_running_of_user, " of one user"),
        (queue.max_running_of_workspace, " of one workspace"),
    ];
    let limits = limits.into_iter().filter(|(most, _)| *most > 0);
    let words: Vec<_> = limits.map(|(most, whose)| format!("{most} running{whose}")).collect();
    words.join(", ")
}

fn id(queue: &Queue) -> String {
    queue.id.to_string()
}

pub fn run(common: &Common, command: Command) -> Result<()> {
    match command {
        Command::List => list(common),
        Command::Describe { queue } => describe(common, &queue),
        Command::Create { name, settings } => create(common, &settings.wanted(Some(name))),
        Command::Edit { queue, settings } => {
            let settings = settings.wanted(None);
            if settings == QueueSettings::default() {
                return Err(
                    Failure::wrong_usage("nothing to change is given").hint("`ml queue edit --help` lists what can be")
                );
            }
            change(common, &queue, &settings, |queue| {
                format!("Changed queue \"{}\".", queue.name)
            })
        }
        Command::Rename { queue: old, new } => {
            let settings = QueueSettings {
                name: Some(new),
                ..QueueSettings::default()
            };
            change(common, &old, &settings, |queue| {
                format!("Queue \"{old}\" is now \"{}\".", queue.name)
            })
        }
        Command::Pause { queue } => set_state(common, &queue, QueueState::Paused, "starts nothing until it is resumed"),
        Command::Drain { queue } => set_state(
            common,
            &queue,
            QueueState::Draining,
            "takes nothing in until it is resumed",
        ),
        Command::Resume { queue } => set_state(common, &queue, QueueState::Active, "takes jobs in and starts them"),
        Command::SetDefault { queue } => {
            let settings = QueueSettings {
                is_default: Some(true),
                ..QueueSettings::default()
            };
            change(common, &queue, &settings, |queue| {
                format!("What names no queue goes into \"{}\".", queue.name)
            })
        }
        Command::Delete { queue, sure } => delete(common, &queue, sure.yes),
    }
}

fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let queues = connection.client.queues().await;
        let queues = queues.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(COLUMNS, id, &queues.items)
    })
}

fn describe(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let mut detail = found(&connection, name, connection.client.queue(name).await).await?;
        let output = Output::new(common.output);
        if !output.is_for_people() {
            return output.one(DETAIL, |detail| id(&detail.queue), &detail);
        }
        let mut jobs = std::mem::take(&mut detail.runs);
        jobs.append(&mut detail.waits);
        output.one(DETAIL, |detail| id(&detail.queue), &detail)?;
        if jobs.is_empty() {
            return Ok(());
        }
        crate::output::write("\n")?;
        output.list(super::status::COLUMNS, |job| job.id.to_string(), &jobs)
    })
}

fn create(common: &Common, settings: &QueueSettings) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let queue = connection.client.create_queue(settings).await;
        let queue = queue.map_err(|why| connection.explain(why))?;
        let sentence = format!("Created queue \"{}\"; it takes {}.", queue.name, takes(&queue));
        Output::new(common.output).did(&sentence, COLUMNS, id, &queue)
    })
}

fn set_state(common: &Common, name: &str, state: QueueState, so: &str) -> Result<()> {
    let settings = QueueSettings {
        state: Some(state),
        ..QueueSettings::default()
    };
    change(common, name, &settings, |queue| {
        format!("Queue \"{}\" {so}.", queue.name)
    })
}

fn change(common: &Common, name: &str, settings: &QueueSettings, sentence: impl Fn(&Queue) -> String) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let changed = connection.client.update_queue(name, settings).await;
        let queue = found(&connection, name, changed).await?;
        Output::new(common.output).did(&sentence(&queue), COLUMNS, id, &queue)
    })
}

fn delete(common: &Common, name: &str, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("delete queue {name:?}"))?;
    block_on(async {
        let queue = found(&connection, name, connection.client.delete_queue(name).await).await?;
        let sentence = format!("Deleted queue \"{}\"; what ended in it stays.", queue.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &queue)
    })
}

/// What was found, or why not, with the nearest name.
async fn found<T>(connection: &Connection, name: &str, result: std::result::Result<T, Error>) -> Result<T> {
    let missing = is_missing(&result);
    match result {
        Ok(thing) => Ok(thing),
        Err(why) => {
            // It may also be a workspace that is missing.
            let missing = missing && why.to_string().contains("no queue");
            let failure = connection.explain(why);
            let names = async {
                let page = connection.client.queues().await?;
                Ok(page.items.into_iter().map(|queue| queue.name).collect())
            };
            Err(suggest(failure, name, missing, names).await)
        }
    }
}

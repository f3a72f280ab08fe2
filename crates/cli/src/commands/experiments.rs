//! `ml logs`, `cancel`, `kill`, `describe`, `download`, `ml experiment move`, `archive`, `delete`

use std::fmt::Write;
use std::io::Seek;
use std::path::PathBuf;

use bailiwick_api::experiments::{Attempt, Experiment, ExperimentDetail, ExperimentFilter, LogFilter, Stop};
use bailiwick_api::queues::JobMove;
use bailiwick_api::time::duration_words;
use bailiwick_api::workspaces::MoveExperiment;
use bailiwick_client::{Error, is_missing};

use super::status::{COLUMNS, id, progress, runtime_ms};
use crate::args::{Common, Delete, Download, Logs, Move, MoveJob, Named, One, ReportProgress};
use crate::connect::{Connection, block_on, suggest, until_interrupted};
use crate::failure::{Failure, Result, exit};
use crate::follow::{LogWriter, Stopped, follow};
use crate::output::{Output, complain, now, printable, say, when, write};
use crate::prompt;

/// Lines fetched at once.
const LINES: i64 = 10_000;

/// What was found, or why not, with the nearest name of an experiment that one sees.
pub async fn found<T>(connection: &Connection, name: &str, result: std::result::Result<T, Error>) -> Result<T> {
    let missing = is_missing(&result);
    match result {
        Ok(thing) => Ok(thing),
        Err(why) => {
            let failure = connection.explain(why);
            let names = async {
                let filter = ExperimentFilter {
                    limit: Some(200),
                    ..ExperimentFilter::default()
                };
                let page = connection.client.experiments(&filter).await?;
                Ok(page.items.into_iter().map(|experiment| experiment.name).collect())
            };
            Err(suggest(failure, name, missing, names).await)
        }
    }
}

pub fn logs(common: &Common, logs: &Logs) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let client = &connection.client;
        let detail = found(&connection, &logs.experiment, client.experiment(&logs.experiment).await).await?;
        // From here on the id: a newer experiment of the same name is another one.
        let experiment = detail.experiment.id;
        let mut writer = LogWriter::new(output, logs.timestamps, 0);
        if let Some(tail) = logs.tail {
            let filter = LogFilter {
                tail: Some(tail),
                ..LogFilter::default()
            };
            let log = client
                .logs(&experiment.to_string(), &filter)
                .await
                .map_err(|why| connection.explain(why))?;
            writer.last = log.lines.first().map_or(log.total, |line| line.number - 1);
            writer.write(&log.lines)?;
        }
        if logs.follow {
            let again = || format!("Go on with: ml logs -f {experiment}");
            let end = follow(client, experiment, &mut writer);
            let end = async { end.await.map_err(|why| explain_stop(&connection, why)) };
            until_interrupted(end, again).await?;
            return Ok(());
        }
        writer.sparse = logs.find.is_some() || logs.errors;
        let mut looked = 0;
        while logs.tail.is_none() {
            let filter = LogFilter {
                after: Some(writer.last.max(looked)),
                limit: Some(LINES),
                contains: logs.find.clone(),
                errors: logs.errors.then_some(true),
                tail: None,
            };
            let log = client
                .logs(&experiment.to_string(), &filter)
                .await
                .map_err(|why| connection.explain(why))?;
            let goes_on = match log.through {
                Some(through) => through < log.total && through > looked,
                None => !log.lines.is_empty(),
            };
            looked = log.through.unwrap_or(0);
            writer.write(&log.lines)?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    })
}

pub fn explain_stop(connection: &Connection, why: Stopped) -> Failure {
    match why {
        Stopped::Call(why) => connection.explain(why),
        Stopped::Writing(failure) => failure,
    }
}

pub fn cancel(common: &Common, named: &Named) -> Result<()> {
    stop(common, named, Stop::Cancel)
}

pub fn kill(common: &Common, named: &Named) -> Result<()> {
    stop(common, named, Stop::Kill)
}

/// Each of them, even where one fails.
fn stop(common: &Common, named: &Named, how: Stop) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let verb = match how {
        Stop::Cancel => "cancel",
        Stop::Kill => "kill",
    };
    block_on(async {
        let mut failures = Vec::new();
        for name in &named.experiments {
            match connection.client.stop_experiment(name, how).await {
                Ok(experiment) => output.did(&stopped_words(verb, &experiment), COLUMNS, id, &experiment)?,
                Err(why) => failures.push(found::<()>(&connection, name, Err(why)).await),
            }
        }
        told(common, failures)
    })
}

/// Of several things, those that failed: the last one is told as the command's own failure, the others before it.
fn told(common: &Common, outcomes: Vec<Result<()>>) -> Result<()> {
    let mut failures: Vec<Failure> = outcomes.into_iter().filter_map(std::result::Result::err).collect();
    let Some(last) = failures.pop() else {
        return Ok(());
    };
    for failure in &failures {
        complain(failure, common.verbose);
    }
    Err(last)
}

/// Each of them, even where one fails.
pub fn move_to(common: &Common, to: &Move) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let place = MoveExperiment {
        workspace: to.workspace.clone(),
        project: to.project.clone(),
    };
    block_on(async {
        let mut failures = Vec::new();
        for name in &to.experiments {
            match connection.client.move_experiment(name, &place).await {
                Ok(experiment) => {
                    let sentence = format!(
                        "Experiment {} \"{}\" is in project \"{}\" of workspace \"{}\".",
                        experiment.id, experiment.name, experiment.project, experiment.workspace
                    );
                    output.did(&sentence, COLUMNS, id, &experiment)?;
                }
                // What is missing may as well be the place: its words are the server's.
                Err(why) => failures.push(Err(connection.explain(why))),
            }
        }
        told(common, failures)
    })
}

pub fn move_job(common: &Common, to: &MoveJob) -> Result<()> {
    let connection = Connection::open(common)?;
    let place = JobMove {
        queue: to.queue.clone(),
        priority: to.priority,
    };
    block_on(async {
        // What is missing may as well be the queue: its words are the server's.
        let moved = connection.client.move_job(&to.experiment, &place).await;
        let experiment = moved.map_err(|why| connection.explain(why))?;
        let sentence = format!(
            "Experiment {} \"{}\" waits in queue \"{}\" with priority {}.",
            experiment.id, experiment.name, experiment.queue, experiment.priority
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &experiment)
    })
}

pub fn report_progress(common: &Common, report: &ReportProgress) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let outcome = connection.client.report_progress(&report.experiment, report.progress);
        let experiment = found(&connection, &report.experiment, outcome.await).await?;
        let progress = progress(&experiment);
        let sentence = format!("Experiment {} \"{}\" is at {progress}.", experiment.id, experiment.name);
        output.did(&sentence, COLUMNS, id, &experiment)
    })
}

/// Each of them, even where one fails.
pub fn archive(common: &Common, named: &Named, archive: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let mut failures = Vec::new();
        for name in &named.experiments {
            match connection.client.archive_experiment(name, archive).await {
                Ok(experiment) => {
                    let is = if archive { "is archived" } else { "is in lists again" };
                    let sentence = format!("Experiment {} \"{}\" {is}.", experiment.id, experiment.name);
                    output.did(&sentence, COLUMNS, id, &experiment)?;
                }
                Err(why) => failures.push(found::<()>(&connection, name, Err(why)).await),
            }
        }
        told(common, failures)
    })
}

/// Each of them, even where one fails.
pub fn delete(common: &Common, which: &Delete) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let what = match which.experiments.as_slice() {
        [one] => format!("experiment {one}"),
        several => format!("experiments {}", several.join(", ")),
    };
    prompt::confirm(which.sure.yes, &format!("delete {what} and its log for good"))?;
    block_on(async {
        let mut failures = Vec::new();
        for name in &which.experiments {
            match connection.client.delete_experiment(name).await {
                Ok(experiment) => {
                    let sentence = format!("Deleted experiment {} \"{}\".", experiment.id, experiment.name);
                    output.did(&sentence, COLUMNS, id, &experiment)?;
                }
                Err(why) => failures.push(found::<()>(&connection, name, Err(why)).await),
            }
        }
        told(common, failures)
    })
}

fn stopped_words(verb: &str, experiment: &Experiment) -> String {
    let Experiment { id, name, state, .. } = experiment;
    match state.is_ended() {
        true => format!("Experiment {id} \"{name}\" is {state}."),
        false => format!("Experiment {id} \"{name}\" is told to end ({verb}); it is {state}."),
    }
}

pub fn describe(common: &Common, one: &One) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let detail = connection.client.experiment(&one.experiment).await;
        let detail = found(&connection, &one.experiment, detail).await?;
        if output.wants_json() {
            return write(&crate::output::json(&detail));
        }
        match output.is_for_people() {
            true => write(&description(&detail)),
            false => output.one(COLUMNS, id, &detail.experiment),
        }
    })
}

fn description(detail: &ExperimentDetail) -> String {
    let experiment = &detail.experiment;
    let now = now();
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{key:<12} {}", printable(&value));
        }
    };
    line("Experiment", format!("{} \"{}\"", experiment.id, experiment.name));
    line("State", format!("{} ({})", experiment.state, experiment.cause));
    line(
        "Archived",
        if experiment.archived {
            "yes".into()
        } else {
            String::new()
        },
    );
    line("Progress", progress(experiment));
    line("Owner", experiment.owner.clone());
    line("Workspace", experiment.workspace.clone());
    line("Project", experiment.project.clone());
    line("Queue", experiment.queue.clone());
    line("Stack", detail.stack.clone().unwrap_or_default());
    line("Slots", experiment.slots.to_string());
    line("Priority", experiment.priority.to_string());
    line(
        "Restarts",
        format!("{} of at most {}", experiment.restarts, experiment.max_restarts),
    );
    line(
        "Exit code",
        experiment.exit_code.map(|code| code.to_string()).unwrap_or_default(),
    );
    line("Agent", detail.agent.clone().unwrap_or_default());
    line(
        "Created",
        format!("{} ({})", experiment.created_at, when(experiment.created_at, now)),
    );
    line(
        "Runtime",
        runtime_ms(experiment).map(duration_words).unwrap_or_default(),
    );
    if let Some(used) = &detail.used {
        line("CPU time", cpu_words(used.usage.cpu_ms));
        line("CPUs in use", format!("{:.2} on average", used.cpus));
        let (now, highest) = (used.usage.memory_bytes, used.usage.memory_peak_bytes);
        line(
            "Memory used",
            match experiment.state.is_ended() {
                true => format!("{} at its highest", bytes_words(highest)),
                false => format!("{} now, {} at its highest", bytes_words(now), bytes_words(highest)),
            },
        );
        line("Slot time", duration_words(used.slot_ms));
    }
    line("Log", format!("{} lines", detail.log_lines));
    line("Code", detail.code.clone().unwrap_or_default());
    let limits = &detail.config["resources"];
    for (key, name, unit) in [
        ("memory_mb", "Memory", " MB"),
        ("disk_mb", "Disk", " MB"),
        ("time_limit", "Time limit", ""),
        ("max_processes", "Processes", ""),
    ] {
        match &limits[key] {
            serde_json::Value::Null => {}
            serde_json::Value::String(limit) => line(name, format!("at most {limit}{unit}")),
            limit => line(name, format!("at most {limit}{unit}")),
        }
    }
    for trial in detail.trials.iter().filter(|trial| !trial.attempts.is_empty()) {
        let _ = writeln!(text, "\nTrial {} ({})", trial.number, trial.state);
        for attempt in &trial.attempts {
            let _ = writeln!(
                text,
                "  attempt {}  {}",
                attempt.number,
                printable(&attempt_words(attempt))
            );
        }
    }
    text.push_str("\nEvents\n");
    for event in &detail.events {
        let _ = writeln!(
            text,
            "  {}  {:<9}  {}",
            event.time,
            event.state,
            printable(&event.cause)
        );
    }
    text.push_str("\nConfiguration\n");
    for line in crate::output::json(&detail.config).lines() {
        let _ = writeln!(text, "  {}", printable(line));
    }
    text
}

/// `2026-11-22T10:00:00Z to 2026-11-22T10:05:00Z on machine-1, 5min: exit code 1`
fn attempt_words(attempt: &Attempt) -> String {
    let end = attempt.ended_at.map_or("now".into(), |end| end.to_string());
    let mut words = format!("{} to {end} on {}", attempt.taken_at, attempt.agent);
    if let Some(started) = attempt.started_at {
        let ran_ms = attempt.ended_at.unwrap_or_else(now).since_ms(started).max(0);
        let _ = write!(words, ", ran {}", duration_words(ran_ms));
    }
    if !attempt.cause.is_empty() {
        let _ = write!(words, ": {}", attempt.cause);
    }
    words
}

/// Shorter ones more exactly than `duration_words` says them.
fn cpu_words(ms: i64) -> String {
    match ms {
        0..10_000 => format!("{:.2}s", ms as f64 / 1000.0),
        _ => duration_words(ms),
    }
}

fn bytes_words(bytes: i64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{} kB", bytes / 1000),
    }
}

pub fn download(common: &Common, download: &Download) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let detail = found(
            &connection,
            &download.experiment,
            client.experiment(&download.experiment).await,
        )
        .await?;
        let experiment = &detail.experiment;
        let target = match &download.dir {
            Some(dir) => dir.clone(),
            None => PathBuf::from(format!("{}-{}", file_name(&experiment.name), experiment.id)),
        };
        refuse_to_overwrite(&target)?;
        let code = client.experiment_code(&experiment.id.to_string()).await;
        let mut code = code.map_err(|why| connection.explain(why))?;
        let unwritten = |why: &std::io::Error| Failure::file("write", &target, why);
        let mut archive = tempfile::tempfile().map_err(|why| unwritten(&why))?;
        let mut bytes = 0;
        while let Some(chunk) = code
            .chunk()
            .await
            .map_err(|why| Failure::new(format!("the connection broke: {why}")))?
        {
            std::io::Write::write_all(&mut archive, &chunk).map_err(|why| unwritten(&why))?;
            bytes += chunk.len() as u64;
        }
        archive.rewind().map_err(|why| unwritten(&why))?;

        // Under another name until it is whole.
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        std::fs::create_dir_all(&parent).map_err(|why| unwritten(&why))?;
        let fresh = tempfile::Builder::new()
            .prefix(".download-")
            .tempdir_in(&parent)
            .map_err(|why| unwritten(&why))?;
        let inside = fresh.path().join("code");
        std::fs::create_dir(&inside).map_err(|why| unwritten(&why))?;
        crate::unpack::unpack(archive, bytes, &inside)?;
        refuse_to_overwrite(&target)?;
        std::fs::rename(&inside, &target).map_err(|why| unwritten(&why))?;
        let output = Output::new(common.output);
        if output.is_for_people() {
            say(&format!(
                "The code of experiment {} is in {}.",
                experiment.id,
                target.display()
            ));
            return Ok(());
        }
        write(&format!("{}\n", target.display()))
    })
}

fn refuse_to_overwrite(target: &std::path::Path) -> Result<()> {
    let is_empty = std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    match target.symlink_metadata() {
        Ok(_) if !is_empty => Err(Failure {
            exit: exit::FAILED,
            ..Failure::new(format!("{} is there already", target.display()))
                .hint("name another directory: ml download NAME|ID DIR")
        }),
        _ => Ok(()),
    }
}

/// The name of an experiment may hold anything; that of a directory here holds nothing surprising.
fn file_name(name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .take(100)
        .collect();
    match safe.trim_start_matches(['.', '-']) {
        "" => "experiment".into(),
        safe => safe.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_download_has_a_plain_name() {
        assert_eq!(file_name("green light"), "green-light");
        assert_eq!(file_name("../../etc"), "etc");
        assert_eq!(file_name("träning №5"), "träning--5");
        assert_eq!(file_name("/"), "experiment");
    }
}

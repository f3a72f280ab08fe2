//! `ml run`, `ml experiment create`

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use bailiwick_api::experiments::{Experiment, NewExperiment};
use bailiwick_api::time::parse_duration_ms;
use bailiwick_client::Error;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::experiments::explain_stop;
use super::status::{COLUMNS, id};
use crate::args::{Common, Create, Run, Submission};
use crate::connect::{Connection, block_on, until_interrupted};
use crate::failure::{Failure, Result, exit};
use crate::follow::{LogWriter, follow, outcome, wait_for_end};
use crate::output::{Output, say};
use crate::pack::{self, Archive, Contents};
use crate::submission::{self, Source};

/// An upload shorter than this needs no progress bar.
const BAR_AFTER: Duration = Duration::from_secs(1);

pub fn run(common: &Common, run: &Run) -> Result<()> {
    let timeout_ms = timeout_ms(&run.with)?;
    submit(common, submission::source(&run.path)?, &run.with, &run.args, timeout_ms)
}

pub fn create(common: &Common, create: &Create) -> Result<()> {
    let timeout_ms = timeout_ms(&create.with)?;
    let source = submission::source_of_two(&create.file, &create.dir)?;
    submit(common, source, &create.with, &create.args, timeout_ms)
}

fn timeout_ms(with: &Submission) -> Result<Option<i64>> {
    if with.timeout.is_some() && !(with.wait || with.follow) {
        return Err(Failure::wrong_usage(
            "--timeout says how long to wait: it needs --wait or --follow",
        ));
    }
    let timeout = with.timeout.as_deref().map(parse_duration_ms).transpose();
    timeout.map_err(|why| Failure::wrong_usage(format!("--timeout: {why}")))
}

fn submit(common: &Common, source: Source, with: &Submission, args: &[String], timeout_ms: Option<i64>) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    // Everything that can be wrong here is found before the network is touched.
    let config = submission::finish(&source, with, &connection.settings, args)?;
    let contents = list(&source, &connection.settings.home)?;
    block_on(async {
        let experiment = send(&connection, &contents, config, args).await?;
        let shown = output.is_for_people();
        if shown {
            say(&submitted_words(&experiment));
        } else if common.output.is_some() {
            output.one(COLUMNS, id, &experiment)?;
        } else if !with.follow {
            crate::output::write(&format!("{}\n", experiment.id))?;
        }
        let id = experiment.id;
        if !(with.wait || with.follow) {
            if shown {
                say(&format!("\nhint: follow its log with `ml logs -f {id}`"));
            }
            return Ok(());
        }
        let end = async {
            if with.follow {
                let mut writer = LogWriter::new(output, false, 0);
                let followed = follow(&connection.client, id, &mut writer).await;
                followed.map_err(|why| explain_stop(&connection, why))?;
            }
            wait_for_end(&connection.client, id)
                .await
                .map_err(|why| connection.explain(why))
        };
        let detached = || format!("Experiment {id} goes on; come back to it with: ml logs -f {id}");
        let end = until_interrupted(within(timeout_ms, end, id), detached).await?;
        // What never ran has said nothing itself.
        if shown || end.exit_code.is_none() {
            say(&ended_words(&end));
        }
        outcome(&end)
    })
}

fn list(source: &Source, ml_home: &Path) -> Result<Contents> {
    let contents = pack::list(&source.directory, ml_home)?;
    let ignored = |what: &str| {
        Failure::new(format!(
            "{what} is not sent along: .gitignore or .mlignore leaves it out"
        ))
        .hint("a line such as `!train.py` in .mlignore takes a file in again")
    };
    if let Some(first) = &source.first_file
        && !contents.holds(first)
    {
        return Err(ignored(&source.directory.join(first).display().to_string()));
    }
    if contents.is_empty() {
        return Err(ignored(&format!("all of {}", source.directory.display())));
    }
    Ok(contents)
}

async fn send(connection: &Connection, contents: &Contents, config: Value, args: &[String]) -> Result<Experiment> {
    let client = &connection.client;
    let explain = |why| connection.explain(why);
    let info = client.info().await.map_err(explain)?;
    let archive = contents.pack(info.max_code_bytes)?;
    let new = NewExperiment {
        config,
        code: Some(archive.sha256.clone()),
        args: args.to_vec(),
    };
    match client.create_experiment(&new).await {
        // Asked first without sending: a refusal or a wrong configuration shows before a long upload, and code sent before is not sent again.
        Err(why) if why.code() == Some("code_missing") => {
            upload(connection, &archive).await?;
            client.create_experiment(&new).await.map_err(explain)
        }
        other => other.map_err(explain),
    }
}

async fn upload(connection: &Connection, archive: &Archive) -> Result<()> {
    let unread = |why: std::io::Error| Failure::new(format!("cannot read the archive again: {why}"));
    let mut file = archive.file.try_clone().map_err(unread)?;
    std::io::Seek::rewind(&mut file).map_err(unread)?;
    let bar = ProgressBar::with_draw_target(Some(archive.bytes), ProgressDrawTarget::hidden());
    bar.set_style(
        ProgressStyle::with_template(
            "Sending code {bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        )
        .expect("the template is well-formed"),
    );
    let sent = connection
        .client
        .put_code(&archive.sha256, archive.bytes, pieces(file, bar.clone()))
        .await;
    bar.finish_and_clear();
    sent.map_err(|why| match why {
        // A server that refuses in the middle of an upload closes the connection, and its words may be lost.
        Error::Unreachable(why) => Failure::new(format!(
            "the code ({}) was not sent: {why}",
            pack::bytes_words(archive.bytes)
        )),
        why => connection.explain(why),
    })
}

/// A file in pieces, with a bar on a terminal once it takes long. Reading is from a file just written, thus from memory.
fn pieces(file: File, bar: ProgressBar) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
    let wants_bar = std::io::stderr().is_terminal();
    futures_util::stream::try_unfold((file, bar), move |(mut file, bar)| async move {
        let mut piece = Vec::with_capacity(1 << 16);
        file.by_ref().take(1 << 16).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(None);
        }
        bar.inc(piece.len() as u64);
        if wants_bar && bar.is_hidden() && bar.elapsed() > BAR_AFTER {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Ok(Some((piece, (file, bar))))
    })
}

/// At most so long; then the experiment goes on and this program does not.
async fn within(
    timeout_ms: Option<i64>,
    end: impl Future<Output = Result<Experiment>>,
    id: bailiwick_api::ExperimentId,
) -> Result<Experiment> {
    let Some(ms) = timeout_ms else {
        return end.await;
    };
    match tokio::time::timeout(Duration::from_millis(ms.unsigned_abs()), end).await {
        Ok(end) => end,
        Err(_) => Err(Failure {
            exit: exit::STILL_GOING,
            ..Failure::new(format!("experiment {id} is still going")).hint(format!("ml status {id}, ml logs -f {id}"))
        }),
    }
}

fn submitted_words(experiment: &Experiment) -> String {
    let Experiment {
        id,
        name,
        queue,
        workspace,
        ..
    } = experiment;
    format!("Submitted experiment {id} \"{name}\" to queue {queue}, workspace \"{workspace}\".")
}

fn ended_words(experiment: &Experiment) -> String {
    let Experiment {
        id, name, state, cause, ..
    } = experiment;
    format!("Experiment {id} \"{name}\" is {state}: {cause}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_is_ignored_is_not_submitted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("train.py"), "print(1)").unwrap();
        std::fs::write(directory.path().join(".gitignore"), "*.py\n").unwrap();
        let source = submission::source(&directory.path().join("train.py")).unwrap();
        let failure = list(&source, Path::new("/nonexistent")).unwrap_err();
        assert!(
            failure.message.contains("train.py is not sent along"),
            "{}",
            failure.message
        );
        std::fs::write(directory.path().join(".mlignore"), "!train.py\n").unwrap();
        list(&source, Path::new("/nonexistent")).unwrap();
    }
}

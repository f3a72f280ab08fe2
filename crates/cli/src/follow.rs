//! Logs on their way to the screen, and waiting for the end of an experiment.

use std::time::Duration;

use bailiwick_api::ExperimentId;
use bailiwick_api::experiments::{Experiment, LogLine, State, Stream};
use bailiwick_client::calls::LogEvent;
use bailiwick_client::{Client, Error};

use crate::failure::{Failure, Result, exit};
use crate::output::{Output, json_line, printable_line, say, write};

/// Writes the lines of a log, and says where some are missing.
pub struct LogWriter {
    output: Output,
    timestamps: bool,
    /// Number of the last line written.
    pub last: i64,
    /// The lines are those of a search: others lie between them.
    pub sparse: bool,
    /// The last piece goes on in the next one.
    continues: bool,
}

impl LogWriter {
    /// `after` is the number of the line before the first wanted one.
    pub fn new(output: Output, timestamps: bool, after: i64) -> LogWriter {
        LogWriter {
            output,
            timestamps,
            last: after,
            sparse: false,
            continues: false,
        }
    }

    pub fn write(&mut self, lines: &[LogLine]) -> Result<()> {
        write(&self.text(lines))
    }

    fn text(&mut self, lines: &[LogLine]) -> String {
        let mut text = String::new();
        for line in lines {
            // After a broken connection a line may come again.
            if line.number <= self.last {
                continue;
            }
            let missing = line.number - self.last - 1;
            self.last = line.number;
            if self.output.wants_json() {
                text.push_str(&json_line(line));
                continue;
            }
            if missing > 0 && !self.sparse {
                if std::mem::take(&mut self.continues) {
                    text.push('\n');
                }
                text.push_str(&self.dim(&format!("[… {} lines dropped …]", thousands(missing))));
                text.push('\n');
            }
            if self.timestamps && !self.continues {
                text.push_str(&self.dim(&line.time.to_string()));
                text.push(' ');
            }
            let words = match self.output.terminal {
                true => printable_line(&line.text),
                false => line.text.clone(),
            };
            match line.stream {
                Stream::System => text.push_str(&self.dim(&words)),
                _ => text.push_str(&words),
            }
            self.continues = line.continues;
            if !line.continues {
                // A colour that the job has left on must not run into what follows.
                if self.output.terminal && words.contains('\x1b') {
                    text.push_str("\x1b[0m");
                }
                text.push('\n');
            }
        }
        text
    }

    fn dim(&self, text: &str) -> String {
        match self.output.colour {
            true => format!("\x1b[2m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

fn thousands(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes the log as it grows, until the experiment has ended. A broken connection is taken up where it broke.
pub async fn follow(
    client: &Client,
    experiment: ExperimentId,
    writer: &mut LogWriter,
) -> std::result::Result<State, Stopped> {
    let mut pause = Pause::default();
    loop {
        match follow_once(client, experiment, writer, &mut pause).await {
            Ok(state) => return Ok(state),
            Err(Stopped::Call(why @ Error::Unreachable(_))) => pause.wait(&why).await,
            Err(other) => return Err(other),
        }
    }
}

async fn follow_once(
    client: &Client,
    experiment: ExperimentId,
    writer: &mut LogWriter,
    pause: &mut Pause,
) -> std::result::Result<State, Stopped> {
    let mut stream = client
        .follow_logs(experiment, writer.last)
        .await
        .map_err(Stopped::Call)?;
    loop {
        let event = stream.next().await.map_err(Stopped::Call)?;
        pause.reset();
        match event {
            LogEvent::Lines(lines) => writer.write(&lines).map_err(Stopped::Writing)?,
            LogEvent::End(state) => return Ok(state),
        }
    }
}

/// Why following stopped before the end.
pub enum Stopped {
    Call(Error),
    Writing(Failure),
}

/// Growing pauses between attempts to reach a server that has gone.
#[derive(Default)]
struct Pause {
    attempts: u32,
}

impl Pause {
    fn reset(&mut self) {
        if self.attempts > 1 {
            say("Connected again.");
        }
        self.attempts = 0;
    }

    async fn wait(&mut self, why: &Error) {
        self.attempts += 1;
        // The first time it is perhaps only a restart of the server or a proxy's patience.
        if self.attempts == 2 {
            say(&format!("{why}; trying again until it is back …"));
        }
        let wait = Duration::from_millis(100) * 2u32.pow(self.attempts.min(6));
        tokio::time::sleep(wait).await;
    }
}

/// Waits until an experiment has ended, also over a restart of the server.
pub async fn wait_for_end(client: &Client, experiment: ExperimentId) -> std::result::Result<Experiment, Error> {
    let mut pause = Pause::default();
    let mut wait = Duration::from_millis(100);
    loop {
        match client.experiment(&experiment.to_string()).await {
            Ok(detail) if detail.experiment.state.is_ended() => return Ok(detail.experiment),
            Ok(_) => {
                pause.reset();
                tokio::time::sleep(wait).await;
                wait = (wait * 3 / 2).min(Duration::from_secs(1));
            }
            Err(why @ Error::Unreachable(_)) => pause.wait(&why).await,
            Err(why) => return Err(why),
        }
    }
}

/// The job's outcome as this program's own.
pub fn outcome(experiment: &Experiment) -> Result<()> {
    let status = match (experiment.state, experiment.exit_code) {
        (State::Completed, _) => return Ok(()),
        (State::Error, Some(code @ 1..=125)) => code as u8,
        // Statuses from 126 on mean other things to shells, and death by signal has none.
        _ => exit::FAILED,
    };
    Err(Failure::silent(status))
}

#[cfg(test)]
mod tests {
    use bailiwick_api::Time;

    use super::*;
    use crate::args::OutputFormat;

    fn line(number: i64, text: &str, continues: bool) -> LogLine {
        LogLine {
            number,
            time: Time(1_795_000_000_000_000),
            stream: Stream::Stdout,
            text: text.into(),
            continues,
        }
    }

    #[test]
    fn gaps_are_told_and_pieces_put_together() {
        let output = Output::new(Some(OutputFormat::Table));
        let mut writer = LogWriter::new(output, false, 0);
        let text = writer.text(&[
            line(1, "a", true),
            line(2, "b", false),
            line(1237, "c", false),
            line(1237, "c", false),
        ]);
        assert_eq!(
            text.replace("\x1b[2m", "").replace("\x1b[0m", ""),
            "ab\n[… 1,234 lines dropped …]\nc\n"
        );
        assert_eq!(writer.last, 1237);
    }
}

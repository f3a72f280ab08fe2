//! Experiments, their states and logs.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ExperimentId, Time};

/// Where an experiment (and its job) stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Queued,
    /// Taken by an agent, its process not yet there.
    Starting,
    Running,
    /// Told to end; its processes may still run.
    Stopping,
    Completed,
    Error,
    Canceled,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Queued,
        State::Starting,
        State::Running,
        State::Stopping,
        State::Completed,
        State::Error,
        State::Canceled,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            State::Queued => "QUEUED",
            State::Starting => "STARTING",
            State::Running => "RUNNING",
            State::Stopping => "STOPPING",
            State::Completed => "COMPLETED",
            State::Error => "ERROR",
            State::Canceled => "CANCELED",
        }
    }

    pub const fn is_ended(self) -> bool {
        matches!(self, State::Completed | State::Error | State::Canceled)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for State {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_uppercase();
        State::ALL
            .into_iter()
            .find(|state| state.name() == upper)
            .ok_or_else(|| format!("there is no state `{text}`; states are QUEUED, STARTING, RUNNING, STOPPING, COMPLETED, ERROR, CANCELED"))
    }
}

/// One line of `ml status`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Experiment {
    pub id: ExperimentId,
    pub name: String,
    pub state: State,
    /// Why it stands there: `waiting for a free slot`, `canceled by ana`, `exit code 1`, …
    pub cause: String,
    pub owner: String,
    pub workspace: String,
    pub project: String,
    pub queue: String,
    /// GPUs, or CPU slots where there is none.
    pub slots: i64,
    /// 1 to 99; smaller goes first.
    pub priority: i64,
    pub restarts: i64,
    pub max_restarts: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    pub created_at: Time,
    /// When its process first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Put away: left out of lists unless they are asked for the archived ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// From 0 to 1, as its job says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
}

impl Experiment {
    /// How far it is, in whole percent, rounded down.
    pub fn percent(&self) -> Option<i64> {
        // Kept in thousandths, which a fraction in binary may miss by a little.
        self.progress.map(|progress| (progress * 1000.0).round() as i64 / 10)
    }
}

/// `PUT /api/v1/experiments/{experiment}/progress`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportProgress {
    /// From 0 to 1; kept to the thousandth, rounded down.
    pub progress: f64,
}

/// `GET /api/v1/experiments/{experiment}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentDetail {
    #[serde(flatten)]
    pub experiment: Experiment,
    /// As submitted, with defaults filled in.
    pub config: serde_json::Value,
    /// What is run: program and arguments, those given at submission too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The stack that it was submitted with, as it was called then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// SHA-256 of the code archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The agent that runs or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub log_lines: i64,
    pub events: Vec<StateChange>,
    /// One for each point that is searched; an experiment has one as yet.
    #[serde(default)]
    pub trials: Vec<Trial>,
    /// Of all attempts together; nothing where none has been measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What an experiment runs, once or, after failures, several times.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// 1, 2, …
    pub number: i64,
    pub state: State,
    /// Oldest first; none while it has only waited.
    pub attempts: Vec<Attempt>,
}

/// One lease of a trial: from the moment an agent took it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// 1, 2, …
    pub number: i64,
    pub agent: String,
    pub taken_at: Time,
    /// When its process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// How it ended: `finished`, `exit code 1`, `over its memory limit of 512 MB`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What the processes of a job use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Processor time of all of them, ended ones included, in milliseconds.
    pub cpu_ms: i64,
    /// Resident memory of those that there are.
    pub memory_bytes: i64,
    /// The most that was seen.
    pub memory_peak_bytes: i64,
}

/// What an experiment has used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Used {
    #[serde(flatten)]
    pub usage: Usage,
    /// Processors in use on average: processor time for each second that it ran.
    pub cpus: f64,
    /// How long it ran.
    pub ran_ms: i64,
    /// How long it ran, for each of its slots.
    pub slot_ms: i64,
    /// When the agent last told.
    pub measured_at: Time,
}

/// One change of state.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StateChange {
    pub time: Time,
    pub state: State,
    pub cause: String,
}

/// `POST /api/v1/experiments`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExperiment {
    /// As in `experiment.yaml`; see `docs/experiment-yaml.md`.
    pub config: serde_json::Value,
    /// SHA-256 (hexadecimal) of a code archive that the caller has sent before with `PUT /api/v1/code/{sha256}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Appended to the entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// In which order experiments are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    #[default]
    Newest,
    /// By name, byte by byte; those of one name oldest first.
    Name,
}

impl FromStr for Sort {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "newest" => Ok(Sort::Newest),
            "name" => Ok(Sort::Name),
            _ => Err(format!("experiments are sorted by `newest` or `name`, not `{text}`")),
        }
    }
}

/// `GET /api/v1/experiments`: newest first, or by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentFilter {
    /// Exactly this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names that begin so, letter case as it is; listed by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_begins: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Only one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mine: Option<bool>,
    /// Only this user's, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The archived ones, which are left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Only what lies in this workspace, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Only what lies in this project: by name, in the workspace given beside it, or by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// `newest` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// `next` of the page before, which was asked for in the same order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 1000; 50 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

impl ExperimentFilter {
    /// In which order the list is.
    pub fn order(&self) -> Sort {
        match self.name_begins {
            Some(_) => Sort::Name,
            None => self.sort.unwrap_or_default(),
        }
    }

    /// Where the page begins, once it is known that the filter can be meant.
    ///
    /// # Errors
    /// What cannot be meant, in words.
    pub fn begin(&self) -> Result<Option<ListPlace>, String> {
        let by_id = self
            .project
            .as_deref()
            .is_none_or(|text| crate::ids::as_number(text).is_some());
        if self.workspace.is_none() && !by_id {
            return Err("a project is named together with its workspace: give `workspace`, too".into());
        }
        if self.mine == Some(true) && self.owner.is_some() {
            return Err("`mine` is what is one's own: leave `owner` out".into());
        }
        if self.name_begins.is_some() && self.sort == Some(Sort::Newest) {
            return Err("names that begin alike are listed by name: leave `sort` out".into());
        }
        let Some(after) = self.after.as_deref() else {
            return Ok(None);
        };
        let place = ListPlace::parse(after, self.order());
        match place {
            Some(place) => Ok(Some(place)),
            None => Err(format!("`after` is `next` of a page in the same order, not `{after}`")),
        }
    }
}

/// After which experiment a page begins: a position and no authority. Written `12`, and `12:NAME` where the order is by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPlace {
    pub id: i64,
    /// Of a list by name.
    pub name: Option<String>,
}

impl ListPlace {
    pub fn of(experiment: &Experiment, sort: Sort) -> ListPlace {
        ListPlace {
            id: experiment.id.0,
            name: (sort == Sort::Name).then(|| experiment.name.clone()),
        }
    }

    fn parse(text: &str, sort: Sort) -> Option<ListPlace> {
        let (id, name) = match sort {
            Sort::Newest => (text, None),
            Sort::Name => text.split_once(':').map(|(id, name)| (id, Some(name.to_owned())))?,
        };
        let id = crate::ids::as_number(id)?;
        Some(ListPlace { id, name })
    }
}

impl std::fmt::Display for ListPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}:{name}", self.id),
            None => self.id.fmt(f),
        }
    }
}

/// How to end a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// SIGTERM to all its processes, SIGKILL after the grace time.
    Cancel,
    /// SIGKILL at once.
    Kill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Written by Bailiwick about the job.
    System,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// 1, 2, … A gap means that lines in the middle of a log over its size limit were dropped.
    pub number: i64,
    pub time: Time,
    pub stream: Stream,
    /// Without the line end; ANSI sequences intact; bytes that are not UTF-8 replaced.
    pub text: String,
    /// The line went on past the longest piece that is kept whole (64 KiB); the next one continues it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// `GET /api/v1/experiments/{experiment}/logs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFilter {
    /// Lines after this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Only the last so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<i64>,
    /// 1 to 10,000; 1,000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Only lines that hold this text, letter case aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Only lines that speak of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<bool>,
}

impl LogFilter {
    /// Whether lines are looked for, rather than read one after the other.
    pub fn searches(&self) -> bool {
        self.contains.is_some() || self.errors == Some(true)
    }

    pub fn fits(&self, line: &LogLine) -> bool {
        let text = line.text.to_lowercase();
        let holds = |wanted: &String| text.contains(&wanted.to_lowercase());
        let is_error = || ERROR_WORDS.iter().any(|word| text.contains(word));
        self.contains.as_ref().is_none_or(holds) && (self.errors != Some(true) || is_error())
    }
}

/// What lines that speak of an error hold.
const ERROR_WORDS: [&str; 5] = ["error", "exception", "traceback", "panic", "fatal"];

/// A piece of a log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Log {
    pub lines: Vec<LogLine>,
    /// The state when it was read: after an ended one no line follows.
    pub state: State,
    /// Lines there are by now.
    pub total: i64,
    /// Of a search: the last line that was looked at. What comes after it is found with another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<i64>,
}

/// How lines travel from the shim to the agent's spool, to the server and into the store: `TIME STREAM TEXT\n`, TIME in µs,
/// STREAM one of `o`, `e`, `s` (in upper case when the line continues in the next one).
pub mod log_text {
    use super::{LogLine, Stream, Time};

    /// Longest piece of a line kept whole, in bytes.
    pub const LINE_MAX: usize = 64 * 1024;

    pub fn write(out: &mut Vec<u8>, time: Time, stream: Stream, text: &[u8], continues: bool) {
        use std::io::Write;
        let letter = match (stream, continues) {
            (Stream::Stdout, false) => 'o',
            (Stream::Stderr, false) => 'e',
            (Stream::System, false) => 's',
            (Stream::Stdout, true) => 'O',
            (Stream::Stderr, true) => 'E',
            (Stream::System, true) => 'S',
        };
        let _ = write!(out, "{} {letter} ", time.0);
        out.extend(text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
        out.push(b'\n');
    }

    /// The lines of a piece of log; the first has number `first`. What does not have the format is shown as it is.
    pub fn read(data: &[u8], first: i64) -> impl Iterator<Item = LogLine> + '_ {
        let data = data.strip_suffix(b"\n").unwrap_or(data);
        let lines = (!data.is_empty())
            .then(|| data.split(|byte| *byte == b'\n'))
            .into_iter()
            .flatten();
        lines.zip(first..).map(|(line, number)| read_line(line, number))
    }

    fn read_line(line: &[u8], number: i64) -> LogLine {
        parse(line, number).unwrap_or_else(|| LogLine {
            number,
            time: Time(0),
            stream: Stream::System,
            text: String::from_utf8_lossy(line).into_owned(),
            continues: false,
        })
    }

    fn parse(line: &[u8], number: i64) -> Option<LogLine> {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let time = Time(std::str::from_utf8(&line[..space]).ok()?.parse().ok()?);
        let letter = *line.get(space + 1)?;
        if *line.get(space + 2)? != b' ' {
            return None;
        }
        let stream = match letter.to_ascii_lowercase() {
            b'o' => Stream::Stdout,
            b'e' => Stream::Stderr,
            b's' => Stream::System,
            _ => return None,
        };
        let text = String::from_utf8_lossy(&line[space + 3..]).into_owned();
        Some(LogLine {
            number,
            time,
            stream,
            text,
            continues: letter.is_ascii_uppercase(),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn lines_read_back_as_they_were_written() {
            let mut data = Vec::new();
            write(&mut data, Time(5), Stream::Stdout, b"\x1b[32mloss 0.1\x1b[0m", false);
            write(&mut data, Time(6), Stream::Stderr, b"a\xffb", true);
            let lines: Vec<_> = read(&data, 7).collect();
            assert_eq!(lines.len(), 2);
            assert_eq!(
                (lines[0].number, lines[0].text.as_str(), lines[0].continues),
                (7, "\x1b[32mloss 0.1\x1b[0m", false)
            );
            assert_eq!(
                (lines[1].number, lines[1].text.as_str(), lines[1].continues),
                (8, "a\u{FFFD}b", true)
            );
            assert_eq!(read(b"", 1).count(), 0);
            assert_eq!(read(b"junk\n", 1).next().unwrap().text, "junk");
        }
    }
}

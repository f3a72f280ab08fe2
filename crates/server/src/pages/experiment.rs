//! An experiment: where it stands, what it runs, what it writes, who sees it, and what may be done with it.

use askama::Template;
use axum::body::Body;
use axum::http::StatusCode;
use bailiwick_access::{ObjectKind, Target};
use bailiwick_api::access::{Explain, WhoCan, WhoCanAnswer};
use bailiwick_api::experiments::{Attempt, Experiment, LogFilter, LogLine, NewExperiment, State, Stream, Used};
use bailiwick_api::permission::permit;
use bailiwick_api::queues::JobMove;
use bailiwick_api::roles::{Assignment, AssignmentFilter, NewAssignment, NewAssignments};
use bailiwick_api::workspaces::MoveExperiment;
use bailiwick_api::{Permission, ProjectId, Time, WorkspaceId, config};
use bailiwick_store::access::Actor;
use schemars::JsonSchema;
use serde::Deserialize;

use super::held::{self, Roles};
use super::places::Person;
use super::told::given;
use super::{Frame, ago, lasted, yaml};
use crate::access::{
    Allowed, Answer, Content, Context, Done, Form, Json, Media, NoInput, OneExperiment, Output, Query, Raw, SignedIn,
};
use crate::failure::Failure;
use crate::routes::code::NoQuery;
use crate::routes::{access, assignments, code, experiments, logs};

type Looking = Allowed<permit::ExperimentsRead, OneExperiment>;

/// A link to a place that may be looked at, or its name alone.
pub struct Place {
    pub name: String,
    pub path: Option<String>,
}

/// What of it the one who looks may do.
struct May {
    stop: bool,
    move_job: bool,
    archive: bool,
    delete: bool,
    move_to: bool,
    share: bool,
    again: bool,
    artifacts: bool,
    roles: bool,
}

impl May {
    fn of(actor: &Actor, target: &Target, state: State) -> May {
        let may = |permission| actor.may(permission, target).is_some();
        let to_others = Target { owner: None, ..*target };
        let deletes = may(Permission::ExperimentsDelete);
        May {
            stop: !state.is_ended() && may(Permission::ExperimentsUpdate),
            move_job: state == State::Queued && may(Permission::ExperimentsUpdate),
            archive: state.is_ended() && may(Permission::ExperimentsEdit),
            delete: state.is_ended() && deletes,
            move_to: deletes,
            share: actor.may(Permission::RolesAssign, &to_others).is_some(),
            again: !actor
                .visible(Permission::ExperimentsCreate, ObjectKind::Experiment)
                .is_nothing(),
            artifacts: may(Permission::ExperimentsReadArtifacts),
            roles: actor.may(Permission::RolesRead, &to_others).is_some(),
        }
    }
}

struct EventRow {
    at: Time,
    ago: String,
    state: State,
    cause: String,
}

/// An attempt as a line of the table.
struct AttemptRow {
    it: Attempt,
    taken: String,
    lasted: String,
    cpu: String,
    peak: String,
}

impl AttemptRow {
    fn new(it: Attempt, now: Time) -> AttemptRow {
        AttemptRow {
            taken: ago(it.taken_at, now),
            lasted: it
                .started_at
                .map(|from| lasted(from, it.ended_at.unwrap_or(now)))
                .unwrap_or_default(),
            cpu: it.usage.map(|usage| cpu(usage.cpu_ms)).unwrap_or_default(),
            peak: it.usage.map(|usage| bytes(usage.memory_peak_bytes)).unwrap_or_default(),
            it,
        }
    }
}

struct TrialRows {
    number: i64,
    state: State,
    attempts: Vec<AttemptRow>,
}

/// What it has used, in words.
struct UsedWords {
    cpu: String,
    cpus: String,
    now: String,
    peak: String,
    slots: String,
    told: String,
}

impl UsedWords {
    fn new(used: &Used, now: Time) -> UsedWords {
        UsedWords {
            cpu: cpu(used.usage.cpu_ms),
            cpus: format!("{:.2}", used.cpus),
            now: bytes(used.usage.memory_bytes),
            peak: bytes(used.usage.memory_peak_bytes),
            slots: lasted(Time(0), Time(0).plus_ms(used.slot_ms)),
            told: ago(used.measured_at, now),
        }
    }
}

/// `0.35 s`, `2 min 05 s`
fn cpu(ms: i64) -> String {
    match ms {
        0..10_000 => format!("{:.2} s", ms as f64 / 1000.0),
        _ => lasted(Time(0), Time(0).plus_ms(ms)),
    }
}

/// `12.3 MB`
fn bytes(bytes: i64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{} kB", bytes / 1000),
    }
}

struct Facts {
    owner: Place,
    queue: Place,
    workspace: Place,
    project: Place,
    created: String,
    lasted: String,
    agent: Option<String>,
}

impl Facts {
    fn of(actor: &Actor, it: &Experiment, target: &Target, agent: Option<String>) -> Facts {
        let picture = actor.picture();
        let workspace = target.workspace.unwrap_or(WorkspaceId(0));
        let project = target.project.unwrap_or(ProjectId(0));
        let sees = |permission, target: &Target| actor.may(permission, target).is_some();
        let sees_workspace = sees(Permission::WorkspacesRead, &picture.workspace_target(workspace));
        let sees_project = sees(Permission::ProjectsRead, &picture.project_target(project));
        let path = format!("/workspaces/{workspace}");
        let now = actor.now();
        Facts {
            owner: Place {
                name: it.owner.clone(),
                path: target.owner.map(|owner| format!("/users/{owner}")),
            },
            queue: Place {
                name: it.queue.clone(),
                path: picture
                    .find_queue(&it.queue)
                    .filter(|id| bailiwick_store::queues::may_see(actor, *id))
                    .map(|id| format!("/queues/{id}")),
            },
            project: Place {
                name: it.project.clone(),
                path: sees_project.then(|| format!("{path}/projects/{project}")),
            },
            workspace: Place {
                name: it.workspace.clone(),
                path: sees_workspace.then_some(path),
            },
            created: ago(it.created_at, now),
            lasted: it
                .started_at
                .map(|from| lasted(from, it.ended_at.unwrap_or(now)))
                .unwrap_or_default(),
            agent,
        }
    }
}

/// A line of a log as it stands in a page.
struct Row {
    number: i64,
    class: &'static str,
    text: String,
}

/// Longest piece of a line that a page shows, in characters; the file has all of it.
const SHOWN_MAX: usize = 4000;

impl Row {
    fn of(line: &LogLine) -> Row {
        let plain = without_colours(&line.text);
        let text = match plain.char_indices().nth(SHOWN_MAX) {
            Some((at, _)) => format!("{} … (cut short here)", &plain[..at]),
            None => plain,
        };
        Row {
            number: line.number,
            class: match line.stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
                Stream::System => "system",
            },
            text,
        }
    }
}

/// The text without what steers a terminal.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                // Parameters, up to the letter that ends them.
                while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                rest.next_if(char::is_ascii);
            }
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[derive(Template)]
#[template(path = "experiment.html")]
struct ExperimentPage {
    frame: Frame,
    it: Experiment,
    class: &'static str,
    may: May,
    facts: Facts,
    /// Renews itself: not when it has ended, nor where each look goes on record.
    live: bool,
    /// Lines of the log may follow. (That look goes on record once.)
    follows: bool,
    on_record: bool,
    events: Vec<EventRow>,
    trials: Vec<TrialRows>,
    used: Option<UsedWords>,
    command: String,
    config: String,
    code: Option<String>,
    stack: Option<String>,
    rows: Vec<Row>,
    log_lines: i64,
    /// The last line that the page shows.
    last: i64,
    why: Vec<String>,
    seen_by: Option<WhoCanAnswer>,
    shares: Vec<Assignment>,
    roles: Roles,
    people: Vec<Person>,
}

/// Lines of the log on the page of the experiment itself.
const TAIL: i64 = 100;

/// Which part of the page is wanted.
#[derive(Deserialize, JsonSchema)]
pub struct Wanted {
    /// `state`: only what changes while it runs, as the page asks for it again and again.
    #[serde(default)]
    part: String,
}

pub async fn show(door: Looking, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    let (context, actor) = (door.context.clone(), door.granted.actor.clone());
    let is_whole = wanted.part.is_empty();
    let (target, on_record) = (door.on.0.target(), door.granted.is_administrative_use());
    let Json(detail) = experiments::show(door, NoInput).await?;
    let it = detail.experiment;
    let (id, on) = (it.id.to_string(), format!("experiment:{}", it.id));
    let path = [("experiment", id.as_str())];
    let may = May::of(&actor, &target, it.state);

    let tail = LogFilter {
        tail: Some(TAIL),
        ..LogFilter::default()
    };
    let lines = match is_whole && may.artifacts && detail.log_lines > 0 {
        true => context.ask(logs::read, &path, Query(tail)).await?.0.lines,
        false => Vec::new(),
    };
    let question = Explain {
        who: None,
        permission: Permission::ExperimentsRead.name().into(),
        on: on.clone(),
    };
    let why = match is_whole {
        true => context.ask(access::explain, &[], Json(question)).await?.0.answers,
        false => Vec::new(),
    };
    let why = why.into_iter().flat_map(|answer| match answer.by_mode {
        true => vec![answer.words],
        false => answer.reasons.into_iter().map(|way| way.words).collect(),
    });
    let seen_by = match is_whole && may.roles {
        true => {
            let question = WhoCan {
                permission: Permission::ExperimentsRead.name().into(),
                on: on.clone(),
                after: None,
                limit: Some(50),
            };
            Some(context.ask(access::who_can, &[], Json(question)).await?.0)
        }
        false => None,
    };
    let here = AssignmentFilter {
        on: Some(on),
        ..AssignmentFilter::default()
    };
    let (shares, roles, people) = match is_whole && may.share {
        true => (
            context.ask(assignments::list, &[], Query(here)).await?.0.items,
            Roles::to_give(&context, &actor, &[Target { owner: None, ..target }], false).await?,
            Person::all(&context).await?,
        ),
        false => (Vec::new(), Roles::default(), Vec::new()),
    };
    let now = actor.now();
    let events = detail.events.into_iter().rev().map(|event| EventRow {
        at: event.time,
        ago: ago(event.time, now),
        state: event.state,
        cause: event.cause,
    });
    let trials = detail.trials.into_iter().map(|trial| TrialRows {
        number: trial.number,
        state: trial.state,
        attempts: trial
            .attempts
            .into_iter()
            .map(|attempt| AttemptRow::new(attempt, now))
            .collect(),
    });
    let page = ExperimentPage {
        frame: Frame::of(&context, Some(&actor), "work", format!("{} · experiment {id}", it.name)),
        class: super::work::class(&it.state),
        facts: Facts::of(&actor, &it, &target, detail.agent),
        live: !it.state.is_ended() && !on_record,
        follows: !it.state.is_ended(),
        on_record,
        events: events.collect(),
        trials: trials.collect(),
        used: detail.used.as_ref().map(|used| UsedWords::new(used, now)),
        command: words(&detail.command),
        config: yaml::text(&detail.config),
        code: detail.code,
        stack: detail.stack,
        last: lines.last().map_or(0, |line| line.number),
        rows: lines.iter().map(Row::of).collect(),
        log_lines: detail.log_lines,
        why: why.collect(),
        seen_by,
        shares,
        roles,
        people,
        may,
        it,
    };
    page.frame.answer(&page)
}

/// A command as one would type it.
fn words(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    let typed = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    match command {
        [shell, flag, script] if shell == "sh" && flag == "-c" => script.clone(),
        words => words.iter().map(typed).collect::<Vec<_>>().join(" "),
    }
}

/// What the forms of the page send.
#[derive(Deserialize, JsonSchema)]
pub struct Act {
    act: String,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    queue: String,
    #[serde(default)]
    priority: String,
    /// `user` or `group`.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    assignment: String,
}

pub async fn act(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    let context = &door.context;
    let which = context.path("experiment").to_owned();
    let path = [("experiment", which.as_str())];
    match act.act.as_str() {
        "cancel" => drop(context.ask(experiments::cancel, &path, Json(Done {})).await?),
        "kill" => drop(context.ask(experiments::kill, &path, Json(Done {})).await?),
        "archive" => drop(context.ask(experiments::archive, &path, Json(Done {})).await?),
        "unarchive" => drop(context.ask(experiments::unarchive, &path, Json(Done {})).await?),
        "delete" => {
            context.ask(experiments::delete, &path, NoInput).await?;
            return Ok(Answer::see("/"));
        }
        "move" => {
            let to = MoveExperiment {
                workspace: given(&act.workspace),
                project: given(&act.project),
            };
            context.ask(experiments::move_to, &path, Json(to)).await?;
        }
        "move-job" => {
            let priority = act.priority.trim().parse();
            let priority = priority.map_err(|_| Failure::invalid("a priority is from 1 to 99; lower goes first"))?;
            let to = JobMove {
                queue: given(&act.queue),
                priority: Some(priority),
            };
            context.ask(experiments::move_job, &path, Json(to)).await?;
        }
        "share" => {
            // By a name it could be another than the one that was looked at.
            let Json(it) = context.ask(experiments::show, &path, NoInput).await?;
            let (who, until) = (given(&act.who), held::until(&act.until, door.actor.now())?);
            if who.is_none() {
                return Err(Failure::invalid("say whom to share it with"));
            }
            let (user, group) = if act.kind == "group" { (None, who) } else { (who, None) };
            let one = NewAssignment {
                role: act.role,
                user,
                group,
                on: Some(format!("experiment:{}", it.experiment.id)),
                until,
                lifetime_ms: None,
            };
            let new = NewAssignments {
                assignments: vec![one],
                reason: String::new(),
            };
            context.ask(assignments::give, &[], Json(new)).await?;
        }
        "unshare" => {
            let path = [("assignment", act.assignment.as_str())];
            context.ask(assignments::take_by_id, &path, NoInput).await?;
        }
        other => {
            return Err(Failure::invalid(format!(
                "there is nothing called `{other}` to do here"
            )));
        }
    }
    Ok(Answer::see(&format!("/experiments/{}", super::session::quoted(&which))))
}

#[derive(Template)]
#[template(path = "again.html")]
struct AgainPage {
    frame: Frame,
    it: Experiment,
    config: String,
    code: Option<String>,
    problem: Option<String>,
    hint: Option<String>,
    /// The line that the problem is about: its number, and what stands there.
    wrong: Option<(usize, String)>,
}

pub async fn again(door: Looking, _: NoInput) -> Result<Answer, Failure> {
    let (context, actor) = (door.context.clone(), door.granted.actor.clone());
    let Json(detail) = experiments::show(door, NoInput).await?;
    let it = detail.experiment;
    let mut whole = detail.config;
    // Words given at submission are no part of the configuration; they must not be lost.
    let own = config::check(whole.clone(), &[]).map(|config| config.command).ok();
    if own.as_ref() != Some(&detail.command) && !detail.command.is_empty() {
        whole["entrypoint"] = serde_json::json!(detail.command);
    }
    // It is put where it is now, also where that was left to the defaults, or has been changed since.
    whole["workspace"] = serde_json::json!(it.workspace);
    whole["project"] = serde_json::json!(it.project);
    let page = AgainPage {
        frame: Frame::of(&context, Some(&actor), "work", format!("Run {} again", it.name)),
        config: yaml::text(&whole),
        code: detail.code,
        it,
        problem: None,
        hint: None,
        wrong: None,
    };
    page.frame.answer(&page)
}

/// The configuration of a new run.
#[derive(Deserialize, JsonSchema)]
pub struct Again {
    config: String,
}

pub async fn run_again(door: SignedIn, Form(given): Form<Again>) -> Result<Answer, Failure> {
    let context = &door.context;
    let which = context.path("experiment").to_owned();
    let Json(old) = context
        .ask(experiments::show, &[("experiment", &which)], NoInput)
        .await?;
    // Browsers end lines in their own way.
    let text = given.config.replace("\r\n", "\n");
    match submit(context, &old.experiment, old.code.as_deref(), &text).await {
        Ok(new) => Ok(Answer::see(&format!("/experiments/{}", new.id))),
        Err(failure) if failure.status.is_client_error() => {
            let title = format!("Run {} again", old.experiment.name);
            let page = AgainPage {
                frame: Frame::new(&door, "work", title),
                it: old.experiment,
                wrong: wrong_line(&failure.message, &text),
                config: text,
                code: old.code,
                problem: Some(failure.message),
                hint: failure.hint,
            };
            page.frame.answer_with(failure.status, &page)
        }
        Err(failure) => Err(failure),
    }
}

async fn submit(context: &Context, old: &Experiment, sha256: Option<&str>, text: &str) -> Result<Experiment, Failure> {
    let config = config::parse_yaml(text).map_err(Failure::invalid)?;
    if let Some(sha256) = sha256 {
        let path = [("sha256", sha256)];
        match context.ask(code::was_sent, &path, NoInput).await {
            Ok(_) => {}
            // Whoever may read the code of another's experiment could send it in again by hand.
            Err(failure) if failure.status == StatusCode::NOT_FOUND => {
                let id = old.id.to_string();
                let archive = context.ask(experiments::code, &[("experiment", &id)], NoInput).await?;
                let input = Raw {
                    query: NoQuery {},
                    body: archive.respond().into_body(),
                };
                context.ask(code::send, &path, input).await?;
            }
            Err(failure) => return Err(failure),
        }
    }
    let new = NewExperiment {
        config,
        code: sha256.map(str::to_owned),
        args: Vec::new(),
    };
    Ok(context.ask(experiments::create, &[], Json(new)).await?.0)
}

/// Which part of the log; the end of it when nothing is asked for.
#[derive(Deserialize, JsonSchema)]
pub struct Part {
    /// Lines before this number.
    #[serde(default)]
    before: String,
    /// Lines after this number; with `find` those that are found after it.
    #[serde(default)]
    after: String,
    /// Lines around this number.
    #[serde(default)]
    at: String,
    /// Lines that hold this text.
    #[serde(default)]
    find: String,
    /// Anything: around the first line that speaks of an error.
    #[serde(default)]
    error: String,
}

impl Part {
    fn number(text: &str) -> Result<Option<i64>, Failure> {
        let number = bailiwick_api::ids::as_number(text);
        match text {
            "" => Ok(None),
            _ if number.is_some() => Ok(number),
            _ => Err(Failure::invalid(format!("`{text}` is not the number of a line"))),
        }
    }
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    frame: Frame,
    it: Experiment,
    class: &'static str,
    rows: Vec<Row>,
    total: i64,
    first: i64,
    last: i64,
    /// The line that was asked for.
    at: i64,
    find: String,
    /// The text as it stands in a query.
    quoted: String,
    /// After which line the search goes on, where it does.
    go_on: Option<i64>,
    /// No line speaks of an error.
    no_error: bool,
    /// It is the end of the log that is shown, where lines may follow.
    follows: bool,
    is_end: bool,
    on_record: bool,
}

/// Lines on one page, and lines found that are shown at once.
const LINES: i64 = 1000;
const FOUND: i64 = 500;
/// Lines shown before the one that was asked for.
const BEFORE: i64 = 100;

pub async fn log(door: logs::Reading, Query(part): Query<Part>) -> Result<Answer, Failure> {
    let (actor, on_record) = (door.granted.actor.clone(), door.granted.is_administrative_use());
    let it = door.on.0.view(actor.picture());
    let find = part.find.trim().to_owned();
    let (before, after, mut at) = (
        Part::number(&part.before)?,
        Part::number(&part.after)?,
        Part::number(&part.at)?,
    );
    let (mut no_error, mut go_on) = (false, None);
    if find.is_empty() && !part.error.is_empty() {
        let first_error = LogFilter {
            errors: Some(true),
            limit: Some(1),
            ..LogFilter::default()
        };
        at = logs::piece(&door, &first_error)
            .await?
            .lines
            .first()
            .map(|line| line.number);
        no_error = at.is_none();
    }
    let is_end = find.is_empty() && before.is_none() && after.is_none() && at.is_none();
    let filter = if !find.is_empty() {
        LogFilter {
            contains: Some(find.clone()),
            after,
            limit: Some(FOUND),
            ..LogFilter::default()
        }
    } else if is_end {
        LogFilter {
            tail: Some(LINES),
            ..LogFilter::default()
        }
    } else {
        let from = match (before, after, at) {
            (Some(before), ..) => before - 1 - LINES,
            (_, Some(after), _) => after,
            (_, _, at) => at.unwrap_or(0) - 1 - BEFORE,
        };
        LogFilter {
            after: Some(from.max(0)),
            limit: Some(before.map_or(LINES, |before| (before - 1).clamp(1, LINES))),
            ..LogFilter::default()
        }
    };
    let log = logs::piece(&door, &filter).await?;
    if !find.is_empty() {
        go_on = log.through.filter(|through| *through < log.total);
    }
    let shown = |line: &&LogLine| before.is_none_or(|before| line.number < before);
    let rows: Vec<Row> = log.lines.iter().filter(shown).map(Row::of).collect();
    let title = format!("Log of {} · experiment {}", it.name, it.id);
    let page = LogPage {
        frame: Frame::of(&door.context, Some(&actor), "work", title),
        class: super::work::class(&log.state),
        first: rows.first().map_or(0, |row| row.number),
        last: rows.last().map_or(0, |row| row.number),
        rows,
        total: log.total,
        at: at.unwrap_or(0),
        quoted: super::session::quoted(&find),
        find,
        go_on,
        no_error,
        follows: is_end && !log.state.is_ended(),
        is_end,
        on_record,
        it,
    };
    page.frame.answer(&page)
}

/// Text as it is, that no browser takes for anything else.
pub struct Text;

impl Media for Text {
    const TYPE: &'static str = "text/plain; charset=utf-8";
}

/// The whole log as text, read from the store piece by piece as it is taken.
pub async fn log_text(door: logs::Reading, _: NoInput) -> Result<Content<Text>, Failure> {
    let name = format!("experiment-{}.log", door.on.0.id);
    // The first piece now: a refusal is an answer of its own.
    let first = piece(&door, 0).await?;
    let pieces = futures_util::stream::unfold((door, Some(first)), |(door, ready)| async move {
        let (text, last) = ready?;
        if text.is_empty() {
            return None;
        }
        let next = match piece(&door, last).await {
            Ok(next) => Ok(next),
            Err(failure) => Err(std::io::Error::other(failure.message)),
        };
        match next {
            Ok(next) => Some((Ok(text), (door, Some(next)))),
            Err(why) => Some((Err(why), (door, None))),
        }
    });
    Ok(Content::new(Body::from_stream(pieces)).named(name))
}

/// Lines after this one as text, and the number of the last of them.
async fn piece(door: &logs::Reading, after: i64) -> Result<(String, i64), Failure> {
    let filter = LogFilter {
        after: Some(after),
        limit: Some(2000),
        ..LogFilter::default()
    };
    let log = logs::piece(door, &filter).await?;
    let mut text = String::new();
    for line in &log.lines {
        text.push_str(&line.text);
        if !line.continues {
            text.push('\n');
        }
    }
    Ok((text, log.lines.last().map_or(after, |line| line.number)))
}

/// Which line of a configuration a problem is about, where it says so: the number, or the key.
fn wrong_line(problem: &str, text: &str) -> Option<(usize, String)> {
    let line = |number: usize| Some((number, text.lines().nth(number.checked_sub(1)?)?.to_owned()));
    if let Some((_, rest)) = problem.split_once("(line ") {
        return line(rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?);
    }
    let about = problem
        .rsplit_once("is not right: ")
        .map_or(problem, |(_, about)| about);
    // The first word that is a key, or a path of keys, of the configuration.
    about.split_whitespace().take(6).find_map(|word| {
        let path = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
        let mut found = None;
        for key in path.split('.').filter(|key| !key.is_empty()) {
            let after = found.unwrap_or(0);
            let is_it = |line: &str| {
                let line = line
                    .trim_start()
                    .trim_start_matches("- ")
                    .trim_start_matches(['"', '\'']);
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
            };
            match text.lines().skip(after).position(is_it) {
                Some(at) => found = Some(after + at + 1),
                // The rest of a path may be a number in a list.
                None => break,
            }
        }
        line(found?)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_steers_a_terminal_is_left_out() {
        let line = "\u{1b}[1;32mloss\u{1b}[0m 0.1\u{1b}[2K\ttail\u{7}\u{1b}";
        assert_eq!(super::without_colours(line), "loss 0.1\ttail");
    }

    #[test]
    fn a_problem_is_shown_at_its_line() {
        let text = "name: x\nresources:\n  slots: many\n  time_limit: 1ms\nslots: 3\n";
        let at = |problem: &str| super::wrong_line(problem, text).map(|(number, _)| number);
        assert_eq!(at("a value ends too early (line 4, column 2)"), Some(4));
        let not_right = |about: &str| at(&format!("the configuration is not right: {about}"));
        assert_eq!(not_right("resources.slots is text, not a whole number"), Some(3));
        assert_eq!(not_right("unknown key `resources.time_limit`"), Some(4));
        assert_eq!(not_right("the configuration has no `entrypoint`"), None);
        assert_eq!(at("something else (line 99, column 1)"), None);
    }

    #[test]
    fn a_command_reads_as_it_is_typed() {
        let command = ["python", "train.py", "--name", "it's"].map(str::to_owned);
        assert_eq!(super::words(&command), r"python train.py --name 'it'\''s'");
        assert_eq!(super::words(&["sh", "-c", "a | b"].map(str::to_owned)), "a | b");
    }
}

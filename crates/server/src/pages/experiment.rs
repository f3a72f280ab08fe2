//! An experiment: where it stands, what it runs, what it writes, who sees it, and what may be done with it.

use askama::Template;
use axum::body::Body;
use axum::http::StatusCode;
use bailiwick_access::{ObjectKind, Target};
use bailiwick_api::access::{Explain, WhoCan, WhoCanAnswer};
use bailiwick_api::experiments::{Experiment, LogFilter, LogLine, NewExperiment, State, Stream};
use bailiwick_api::permission::permit;
use bailiwick_api::roles::{Assignment, AssignmentFilter, NewAssignment, NewAssignments};
use bailiwick_api::workspaces::MoveExperiment;
use bailiwick_api::{Permission, ProjectId, Time, WorkspaceId, config};
use bailiwick_store::access::Actor;
use schemars::JsonSchema;
use serde::Deserialize;

use super::places::{End, Person, assignable};
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

struct Facts {
    owner: Place,
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
    command: String,
    config: String,
    code: Option<String>,
    rows: Vec<Row>,
    log_lines: i64,
    /// The last line that the page shows.
    last: i64,
    why: Vec<String>,
    seen_by: Option<WhoCanAnswer>,
    shares: Vec<Assignment>,
    roles: Vec<String>,
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
            assignable(&context, &actor, &target).await?,
            Person::all(&context).await?,
        ),
        false => (Vec::new(), Vec::new(), Vec::new()),
    };
    let now = actor.now();
    let events = detail.events.into_iter().rev().map(|event| EventRow {
        at: event.time,
        ago: ago(event.time, now),
        state: event.state,
        cause: event.cause,
    });
    let page = ExperimentPage {
        frame: Frame::of(&context, Some(&actor), "work", format!("{} · experiment {id}", it.name)),
        class: super::work::class(&it.state),
        facts: Facts::of(&actor, &it, &target, detail.agent),
        live: !it.state.is_ended() && !on_record,
        follows: !it.state.is_ended(),
        on_record,
        events: events.collect(),
        command: words(&detail.command),
        config: yaml::text(&detail.config),
        code: detail.code,
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

fn given(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

pub async fn act(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    let context = &door.context;
    let which = context.path("experiment").to_owned();
    let path = [("experiment", which.as_str())];
    match act.act.as_str() {
        "cancel" => drop(context.ask(experiments::cancel, &path, Json(Done {})).await?),
        "kill" => drop(context.ask(experiments::kill, &path, Json(Done {})).await?),
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
        "share" => {
            // By a name it could be another than the one that was looked at.
            let Json(it) = context.ask(experiments::show, &path, NoInput).await?;
            let (who, end) = (given(&act.who), End::parse(&act.until, door.actor.now())?);
            if who.is_none() {
                return Err(Failure::invalid("say whom to share it with"));
            }
            let (user, group) = if act.kind == "group" { (None, who) } else { (who, None) };
            let one = NewAssignment {
                role: act.role,
                user,
                group,
                on: Some(format!("experiment:{}", it.experiment.id)),
                until: end.0,
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
                config: text,
                code: old.code,
                problem: Some(failure.message),
                hint: failure.hint,
            };
            page.frame.answer_with(StatusCode::UNPROCESSABLE_ENTITY, &page)
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

/// Which part of the log.
#[derive(Deserialize, JsonSchema)]
pub struct Part {
    /// Lines before this number; the last ones when empty.
    #[serde(default)]
    before: String,
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
    /// It is the end of the log that is shown, where lines may follow.
    follows: bool,
    is_end: bool,
}

/// Lines on one page.
const LINES: i64 = 1000;

pub async fn log(door: Looking, Query(part): Query<Part>) -> Result<Answer, Failure> {
    let (context, actor) = (door.context.clone(), door.granted.actor.clone());
    let it = door.on.0.view(actor.picture());
    let before = match part.before.as_str() {
        "" => None,
        text => Some(
            bailiwick_api::ids::as_number(text)
                .ok_or_else(|| Failure::invalid(format!("`{text}` is not the number of a line")))?,
        ),
    };
    let filter = LogFilter {
        after: before.map(|before| (before - 1 - LINES).max(0)),
        tail: before.is_none().then_some(LINES),
        limit: Some(before.map_or(LINES, |before| (before - 1).clamp(1, LINES))),
    };
    let id = it.id.to_string();
    let Json(log) = context.ask(logs::read, &[("experiment", &id)], Query(filter)).await?;
    let shown = |line: &&LogLine| before.is_none_or(|before| line.number < before);
    let rows: Vec<Row> = log.lines.iter().filter(shown).map(Row::of).collect();
    let page = LogPage {
        frame: Frame::of(
            &context,
            Some(&actor),
            "work",
            format!("Log of {} · experiment {id}", it.name),
        ),
        class: super::work::class(&log.state),
        first: rows.first().map_or(0, |row| row.number),
        last: rows.last().map_or(0, |row| row.number),
        rows,
        total: log.total,
        follows: before.is_none() && !log.state.is_ended(),
        is_end: before.is_none(),
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
pub async fn log_text(door: SignedIn, _: NoInput) -> Result<Content<Text>, Failure> {
    let context = door.context;
    // The first piece now: a refusal is an answer of its own.
    let first = piece(&context, 0).await?;
    let pieces = futures_util::stream::unfold((context, Some(first)), |(context, ready)| async move {
        let (text, last) = ready?;
        if text.is_empty() {
            return None;
        }
        let next = match piece(&context, last).await {
            Ok(next) => Ok(next),
            Err(failure) => Err(std::io::Error::other(failure.message)),
        };
        match next {
            Ok(next) => Some((Ok(text), (context, Some(next)))),
            Err(why) => Some((Err(why), (context, None))),
        }
    });
    Ok(Content::new(Body::from_stream(pieces)))
}

/// Lines after this one as text, and the number of the last of them.
async fn piece(context: &Context, after: i64) -> Result<(String, i64), Failure> {
    let filter = LogFilter {
        after: Some(after),
        limit: Some(2000),
        tail: None,
    };
    let path = [("experiment", context.path("experiment"))];
    let Json(log) = context.ask(logs::read, &path, Query(filter)).await?;
    let mut text = String::new();
    for line in &log.lines {
        text.push_str(&line.text);
        if !line.continues {
            text.push('\n');
        }
    }
    Ok((text, log.lines.last().map_or(after, |line| line.number)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_steers_a_terminal_is_left_out() {
        let line = "\u{1b}[1;32mloss\u{1b}[0m 0.1\u{1b}[2K\ttail\u{7}\u{1b}";
        assert_eq!(super::without_colours(line), "loss 0.1\ttail");
    }

    #[test]
    fn a_command_reads_as_it_is_typed() {
        let command = ["python", "train.py", "--name", "it's"].map(str::to_owned);
        assert_eq!(super::words(&command), r"python train.py --name 'it'\''s'");
        assert_eq!(super::words(&["sh", "-c", "a | b"].map(str::to_owned)), "a | b");
    }
}

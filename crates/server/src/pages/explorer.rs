//! Who may do what, and why; what a change of rights would do; what mode `rbac` would decide differently; and asking for access.

use askama::Template;
use bailiwick_api::access::{
    AccessCheck, Diff, DiffAnswer, Explain, Explained, Explanation, NearWhy, Planned, Severity, ShadowFilter,
    ShadowReport, Way, WhatCan, WhatCanAnswer, WhoCan, WhoCanAnswer,
};
use bailiwick_api::requests::{
    AccessRequest, AccessRequestFilter, Approve, BreakGlass, Decline, NewAccessRequest, RequestKind, RequestState,
};
use bailiwick_api::server::AccessMode;
use bailiwick_api::time::{lifetime_words, parse_duration_ms};
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{Permission, PermissionSet, Time};
use bailiwick_store::access::{Actor, CredentialKind};
use schemars::JsonSchema;
use serde::Deserialize;

use super::told::{self, InWords, Problem, given};
use super::{Frame, held};
use crate::access::{Answer, Done, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;

/// The pages about access that this person has a use for.
pub struct Tabs {
    here: &'static str,
    reads_roles: bool,
    reads_all: bool,
    shadow: bool,
}

impl Tabs {
    fn new(door: &SignedIn, here: &'static str) -> Tabs {
        let mode = door.context.shared.parts.mode;
        Tabs {
            here,
            reads_roles: told::reads_roles_somewhere(&door.actor),
            reads_all: told::reads_roles_everywhere(&door.actor),
            shadow: told::reads_roles_everywhere(&door.actor) && mode != AccessMode::Off,
        }
    }

    pub fn at(&self, here: &str) -> &'static str {
        if self.here == here { "page" } else { "false" }
    }
}

/// Suggestions for the fields of a form. Whatever else is typed is understood as well.
#[derive(Default)]
pub struct Suggested {
    users: Vec<String>,
    groups: Vec<String>,
    roles: Vec<String>,
    places: Vec<String>,
    permissions: &'static [Permission],
}

impl Suggested {
    async fn users(&mut self, door: &SignedIn) -> Result<(), Failure> {
        self.users = held::people(door, "").await?;
        Ok(())
    }

    async fn groups(&mut self, door: &SignedIn) -> Result<(), Failure> {
        self.groups = held::groups(door, "").await?;
        Ok(())
    }

    async fn roles(&mut self, door: &SignedIn) -> Result<(), Failure> {
        self.roles = held::Roles::known(door, "").await?;
        Ok(())
    }

    async fn places(&mut self, door: &SignedIn) -> Result<(), Failure> {
        self.places = held::places(door, "").await?;
        Ok(())
    }
}

/// What the forms of the explorer ask. Which of it counts, the tab decides.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Asked {
    /// `explain` when left out; `who-can`, `what-can`, `what-if`.
    #[serde(default)]
    tab: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    permission: String,
    #[serde(default)]
    on: String,
    /// `assign`, `unassign`, `add-member`, `remove-member`, `deactivate`.
    #[serde(default)]
    change: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    after: String,
}

impl Asked {
    fn query(&self, after: &str) -> String {
        told::query(&[
            ("tab", &self.tab),
            ("who", &self.who),
            ("permission", &self.permission),
            ("on", &self.on),
            ("after", after),
        ])
    }
}

/// The answer to why.
pub struct Why {
    it: Explanation,
    /// What is asked for, as it was typed, where it stands for several.
    several: bool,
    about_me: bool,
    /// Where to ask for what is missing.
    ask: Option<String>,
}

/// What each change of rights is called.
const CHANGES: [(&str, &str); 5] = [
    ("assign", "Give a role"),
    ("unassign", "Take a role away"),
    ("add-member", "Put into a group"),
    ("remove-member", "Take out of a group"),
    ("deactivate", "Deactivate a user"),
];

#[derive(Template)]
#[template(path = "access.html")]
struct ExplorerPage {
    frame: Frame,
    tabs: Tabs,
    asked: Asked,
    suggested: Suggested,
    problem: Option<Problem>,
    me: String,
    now: Time,
    why: Option<Why>,
    who_can: Option<WhoCanAnswer>,
    what_can: Option<WhatCanAnswer>,
    diff: Option<DiffAnswer>,
    changes: [(&'static str, &'static str); 5],
    first: String,
    next: Option<String>,
}

impl ExplorerPage {
    fn words(&self) -> Vec<InWords> {
        self.what_can
            .iter()
            .flat_map(|answer| &answer.items)
            .map(InWords::of)
            .collect()
    }
}

pub async fn show(door: SignedIn, Query(asked): Query<Asked>) -> Result<Answer, Failure> {
    let tab = match asked.tab.as_str() {
        "who-can" => "who-can",
        "what-can" => "what-can",
        "what-if" => "what-if",
        _ => "explain",
    };
    let mut asked = Asked {
        tab: tab.into(),
        ..asked
    };
    let known = CHANGES.iter().any(|(change, _)| *change == asked.change);
    if tab == "what-if" && !known {
        asked.change = "assign".into();
    }
    let mut page = ExplorerPage {
        frame: Frame::new(&door, "access", "Access"),
        tabs: Tabs::new(&door, tab),
        suggested: Suggested::default(),
        problem: None,
        me: door.actor.name().to_string(),
        now: door.actor.now(),
        why: None,
        who_can: None,
        what_can: None,
        diff: None,
        changes: CHANGES,
        first: asked.query(""),
        next: None,
        asked,
    };
    // The form stays with what was typed, whatever becomes of the question.
    if let Err(failure) = answer(&door, &mut page).await {
        page.problem = Some(Problem::of(failure)?);
    }
    suggest(&door, &mut page).await?;
    page.frame.answer_with(told::status(page.problem.as_ref()), &page)
}

async fn suggest(door: &SignedIn, page: &mut ExplorerPage) -> Result<(), Failure> {
    let suggested = &mut page.suggested;
    suggested.permissions = Permission::ALL;
    let (tab, change) = (page.asked.tab.as_str(), page.asked.change.as_str());
    let changes_role = tab == "what-if" && change.ends_with("assign");
    let of_group = tab == "what-if" && change != "deactivate";
    let about_others = match tab {
        "explain" => page.tabs.reads_roles,
        "what-can" => page.tabs.reads_all,
        tab => tab == "what-if",
    };
    if about_others {
        suggested.users(door).await?;
    }
    if changes_role || matches!(tab, "explain" | "who-can") {
        suggested.places(door).await?;
    }
    if changes_role {
        suggested.roles(door).await?;
    }
    if of_group {
        suggested.groups(door).await?;
    }
    Ok(())
}

async fn answer(door: &SignedIn, page: &mut ExplorerPage) -> Result<(), Failure> {
    let asked = &page.asked;
    let context = &door.context;
    let (permission, on) = (asked.permission.trim().to_owned(), asked.on.trim().to_owned());
    match asked.tab.as_str() {
        "explain" if !permission.is_empty() => {
            let who = given(&asked.who).filter(|who| who != &*door.actor.name());
            let about_me = who.is_none();
            let question = Explain {
                who,
                permission: permission.clone(),
                on: on.clone(),
            };
            let Json(it) = context.ask(routes::access::explain, &[], Json(question)).await?;
            let ask = it
                .answers
                .iter()
                .find_map(|one| one.ask.as_deref())
                .filter(|_| about_me);
            page.why = Some(Why {
                several: it.answers.len() != 1,
                about_me,
                ask: ask.map(|command| way_to_ask(command, &permission, &on)),
                it,
            });
        }
        "who-can" if !permission.is_empty() => {
            let question = WhoCan {
                permission,
                on,
                after: given(&asked.after),
                limit: Some(100),
            };
            let Json(it) = context.ask(routes::access::who_can, &[], Json(question)).await?;
            page.next = it.next.as_deref().map(|next| asked.query(next));
            page.who_can = Some(it);
        }
        "what-can" => {
            let question = WhatCan {
                who: given(&asked.who).filter(|who| who != &*door.actor.name()),
                after: given(&asked.after),
                limit: Some(told::PLACES),
            };
            let Json(it) = context.ask(routes::access::what_can, &[], Json(question)).await?;
            page.next = it.next.as_deref().map(|next| asked.query(next));
            page.what_can = Some(it);
        }
        "what-if" => {
            if let Some(change) = planned(asked)? {
                let changes = vec![change];
                let Json(it) = context.ask(routes::access::diff, &[], Json(Diff { changes })).await?;
                page.diff = Some(it);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The form that asks for what a command line would ask for: `ml access request ROLE …`.
pub(super) fn way_to_ask(command: &str, permission: &str, on: &str) -> String {
    let role = command.split_whitespace().nth(3).unwrap_or_default();
    let is_global = Permission::find(permission).is_some_and(|one| PermissionSet::global_only().contains(one));
    let on = if is_global || on.is_empty() { "installation" } else { on };
    told::query(&[("role", role), ("on", on)])
}

/// The change that the form describes; `None` where nothing was typed yet.
fn planned(asked: &Asked) -> Result<Option<Planned>, Failure> {
    let (role, user, group) = (given(&asked.role), given(&asked.user), given(&asked.group));
    if role.is_none() && user.is_none() && group.is_none() {
        return Ok(None);
    }
    let needed = |what: Option<String>, name: &str| what.ok_or_else(|| Failure::invalid(format!("name a {name}")));
    let on = || match asked.on.trim() {
        "" => "installation".to_owned(),
        on => on.to_owned(),
    };
    if asked.change.ends_with("assign") && user.is_some() == group.is_some() {
        return Err(Failure::invalid("name a user or a group, one of them"));
    }
    Ok(Some(match asked.change.as_str() {
        "assign" => Planned::Assign {
            role: needed(role, "role")?,
            user,
            group,
            on: on(),
        },
        "unassign" => Planned::Unassign {
            role: needed(role, "role")?,
            user,
            group,
            on: on(),
        },
        "add-member" => Planned::AddMember {
            group: needed(group, "group")?,
            user: needed(user, "user")?,
        },
        "remove-member" => Planned::RemoveMember {
            group: needed(group, "group")?,
            user: needed(user, "user")?,
        },
        _ => Planned::Deactivate {
            user: needed(user, "user")?,
        },
    }))
}

/// `Editor on workspace "Stop Signs"`: what stands before the group and the end, which are told on their own.
pub fn way_words(way: &Way) -> String {
    let words = way.words.split(", until ").next().unwrap_or(&way.words);
    let through = way.group.as_ref().map(|group| format!(", through group \"{group}\""));
    match through {
        Some(through) => words.replace(&through, ""),
        None => words.to_owned(),
    }
}

/// What is missing for an assignment to count.
pub fn near_words(why: &NearWhy) -> &'static str {
    match why {
        NearWhy::NotOwned => "reaches only what one owns",
        NearWhy::Expired => "is over",
        NearWhy::Elsewhere => "holds at another place",
        NearWhy::GlobalOnly => "this permission counts only where its role is assigned globally",
        NearWhy::ModeIgnoresIt => "the server's mode does not look at it",
        NearWhy::LeftOutByOwnRolesOnly => "the account was made with a role in place of what everybody holds",
    }
}

/// Which part of the page on mode `shadow`.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Watched {
    /// `check`: also look for whom mode `rbac` would lock out.
    #[serde(default)]
    show: String,
    /// Only what was seen again since: `24h`, `7d`, a date.
    #[serde(default)]
    since: String,
    #[serde(default)]
    after: String,
    /// What was just done.
    #[serde(default)]
    done: String,
}

#[derive(Template)]
#[template(path = "access_shadow.html")]
struct ShadowPage {
    frame: Frame,
    tabs: Tabs,
    watched: Watched,
    now: Time,
    report: ShadowReport,
    check: Option<AccessCheck>,
    may_clear: bool,
    next: Option<String>,
}

pub async fn shadow(door: SignedIn, Query(watched): Query<Watched>) -> Result<Answer, Failure> {
    let now = door.actor.now();
    let since = given(&watched.since).map(|since| Time::parse_since(&since, now).map_err(Failure::invalid));
    let filter = ShadowFilter {
        since: since.transpose()?,
        after: given(&watched.after),
        limit: Some(100),
    };
    let report = door
        .context
        .ask(routes::access::shadow_report, &[], Query(filter))
        .await?
        .0;
    let check = match watched.show.as_str() {
        "check" => Some(door.context.ask(routes::access::check, &[], NoInput).await?.0),
        _ => None,
    };
    let page = ShadowPage {
        frame: Frame::new(&door, "access", "Differences by roles"),
        tabs: Tabs::new(&door, "shadow"),
        now,
        next: report
            .next
            .as_deref()
            .map(|next| told::query(&[("since", &watched.since), ("after", next)])),
        may_clear: door
            .actor
            .may(Permission::ClusterUpdateConfig, &Default::default())
            .is_some(),
        watched,
        report,
        check,
    };
    page.frame.answer(&page)
}

/// The class of a finding's tag.
pub fn severity(severity: &Severity) -> &'static str {
    match severity {
        Severity::LockOut => "no",
        Severity::Warning => "wait",
        Severity::Note => "",
    }
}

/// Which act a button stands for, where there is nothing more to say.
#[derive(Deserialize, JsonSchema)]
pub struct Act {
    act: String,
}

/// That no button of ours does this.
pub fn unknown_act(act: &str) -> Failure {
    Failure::invalid(format!("there is nothing to do that is called `{act}`"))
}

pub async fn change_shadow(door: SignedIn, Form(act): Form<Act>) -> Result<Answer, Failure> {
    match act.act.as_str() {
        "clear" => {
            door.context
                .ask(routes::access::clear_shadow_report, &[], NoInput)
                .await?;
            Ok(Answer::see("/access/shadow?done=cleared"))
        }
        other => Err(unknown_act(other)),
    }
}

/// Which requests to list, and what the form to ask begins with.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Listed {
    /// Those that wait when left out; `mine`, `all`.
    #[serde(default)]
    show: String,
    #[serde(default)]
    after: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    on: String,
    /// What was just done.
    #[serde(default)]
    done: String,
}

/// A request, and what the one who looks may do about it.
pub struct Row {
    it: AccessRequest,
    mine: bool,
    waits: bool,
}

impl Row {
    fn asked_for(&self) -> String {
        lifetime_words(self.it.lifetime_ms)
    }

    fn class(&self) -> &'static str {
        match self.it.state {
            RequestState::Waiting => "wait",
            RequestState::Approved if self.it.in_force => "yes",
            RequestState::Declined => "no",
            _ => "",
        }
    }

    /// What holds now is told apart from what has ended.
    fn state(&self) -> &'static str {
        match (self.it.kind, self.it.state) {
            (RequestKind::BreakGlass, _) if self.it.in_force => "break-glass, in force",
            (RequestKind::BreakGlass, _) => "break-glass, over",
            (_, RequestState::Approved) if self.it.in_force => "approved, in force",
            (_, RequestState::Approved) => "approved, over",
            (_, state) => state.name(),
        }
    }
}

#[derive(Template)]
#[template(path = "access_requests.html")]
struct RequestsPage {
    frame: Frame,
    tabs: Tabs,
    listed: Listed,
    suggested: Suggested,
    problem: Option<Problem>,
    typed: Sent,
    now: Time,
    waiting: Vec<Row>,
    over: Vec<Row>,
    next: Option<String>,
    mode: AccessMode,
    may_break_glass: bool,
    glass_until: Option<Time>,
}

pub async fn requests(door: SignedIn, Query(listed): Query<Listed>) -> Result<Answer, Failure> {
    let typed = Sent {
        role: listed.role.clone(),
        on: listed.on.clone(),
        ..Sent::default()
    };
    requests_page(&door, listed, typed, None).await
}

async fn requests_page(
    door: &SignedIn,
    listed: Listed,
    typed: Sent,
    problem: Option<Problem>,
) -> Result<Answer, Failure> {
    let actor = &door.actor;
    let after = given(&listed.after).map(|after| after.parse::<i64>());
    let filter = AccessRequestFilter {
        mine: (listed.show == "mine").then_some(true),
        all: (listed.show == "all").then_some(true),
        after: after
            .transpose()
            .map_err(|_| Failure::invalid("`after` is the `next` of a page"))?,
        limit: Some(50),
    };
    let Json(found) = door.context.ask(routes::requests::list, &[], Query(filter)).await?;
    let Json(me) = door.context.ask(routes::users::me, &[], NoInput).await?;
    let mut suggested = Suggested::default();
    suggested.roles(door).await?;
    suggested.places(door).await?;
    let rows = found.items.into_iter().map(|it| Row {
        mine: *it.user == *actor.name(),
        waits: it.state == RequestState::Waiting && it.kind == RequestKind::Request,
        it,
    });
    let (waiting, over) = rows.partition(|row| row.waits);
    let page = RequestsPage {
        frame: Frame::new(door, "access", "Requests for access"),
        tabs: Tabs::new(door, "requests"),
        next: found
            .next
            .map(|next| told::query(&[("show", &listed.show), ("after", &next)])),
        listed,
        suggested,
        typed,
        now: actor.now(),
        waiting,
        over,
        mode: door.context.shared.parts.mode,
        may_break_glass: may_break_glass(actor),
        glass_until: me.break_glass_until,
        problem,
    };
    page.frame.answer_with(told::status(page.problem.as_ref()), &page)
}

fn may_break_glass(actor: &Actor) -> bool {
    actor.credential_kind == CredentialKind::Session
        && actor.may(Permission::ClusterBreakGlass, &Default::default()).is_some()
}

/// What the forms about requests send.
#[derive(Default, Deserialize, JsonSchema)]
pub struct Sent {
    act: String,
    /// The number of the request.
    #[serde(default)]
    request: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    on: String,
    /// How long: `8h`, `7d`.
    #[serde(default)]
    lifetime: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    answer: String,
    #[serde(default)]
    password: String,
}

pub async fn change_requests(door: SignedIn, Form(sent): Form<Sent>) -> Result<Answer, Failure> {
    let outcome = make(&door, &sent).await;
    let done = match Problem::or(outcome)? {
        Ok(done) => done,
        // Where there is a form to mend, it is shown again with what was typed.
        Err(problem) => {
            let typed = match sent.act.as_str() {
                "ask" => sent,
                _ => Sent::default(),
            };
            return requests_page(&door, Listed::default(), typed, Some(problem)).await;
        }
    };
    Ok(Answer::see(&format!("/access/requests?done={done}")))
}

/// The word for what was done.
async fn make(door: &SignedIn, sent: &Sent) -> Result<&'static str, Failure> {
    let context = &door.context;
    let path = [("request", sent.request.as_str())];
    let lifetime = || {
        let asked = given(&sent.lifetime).map(|text| parse_duration_ms(&text).map_err(Failure::invalid));
        asked.transpose()
    };
    let answer = sent.answer.trim().to_owned();
    match sent.act.as_str() {
        "ask" => {
            let new = NewAccessRequest {
                role: sent.role.trim().to_owned(),
                // Left empty it must not mean everywhere.
                on: Some(sent.on.trim().to_owned()),
                lifetime_ms: lifetime()?.ok_or_else(|| Failure::invalid("say for how long: `8h`, `7d`"))?,
                why: sent.why.clone(),
            };
            context.ask(routes::requests::ask, &[], Json(new)).await?;
            Ok("asked")
        }
        "approve" => {
            let approve = Approve {
                lifetime_ms: lifetime()?,
                answer,
            };
            context.ask(routes::requests::approve, &path, Json(approve)).await?;
            Ok("approved")
        }
        "decline" => {
            context
                .ask(routes::requests::decline, &path, Json(Decline { answer }))
                .await?;
            Ok("declined")
        }
        "withdraw" => {
            context.ask(routes::requests::withdraw, &path, Json(Done {})).await?;
            Ok("withdrawn")
        }
        "break-glass" => {
            let wanted = BreakGlass {
                why: sent.why.clone(),
                lifetime_ms: lifetime()?,
                password: sent.password.clone(),
            };
            context.ask(routes::requests::break_glass, &[], Json(wanted)).await?;
            Ok("broken")
        }
        "end-break-glass" => {
            context
                .ask(routes::requests::end_break_glass, &[], Json(Done {}))
                .await?;
            Ok("ended")
        }
        other => Err(unknown_act(other)),
    }
}

/// For templates: one explained permission in words.
pub fn verdict(who: &str, about_me: bool, one: &Explained) -> String {
    let may = if one.allowed { "may" } else { "may not" };
    match about_me {
        true => format!("You {may} {}", one.permission.meaning()),
        false => format!("{who} {may} {}", one.permission.meaning()),
    }
}

/// For templates, which name no type of another crate.
pub const PERSON: PrincipalKind = PrincipalKind::User;
pub const RBAC: AccessMode = AccessMode::Rbac;
pub const OFF: AccessMode = AccessMode::Off;

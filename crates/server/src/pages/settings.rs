//! What is one's own: profile, password, rights, keys and sessions.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use bailiwick_access::Target;
use bailiwick_api::access::{WhatCan, WhatCanAnswer};
use bailiwick_api::roles::ScopeView;
use bailiwick_api::tokens::{NewToken, Token, TokenWithSecret};
use bailiwick_api::users::{ChangePassword, ChangeUser, Me};
use bailiwick_api::workspaces::{PlaceFilter, Workspace};
use bailiwick_api::{Permission, Time};
use bailiwick_store::access::CredentialKind;
use schemars::JsonSchema;
use serde::Deserialize;

use super::explorer::unknown_act;
use super::told::{self, InWords, Problem, given};
use super::{Frame, ago};
use crate::access::{Answer, Done, Form, Json, NoInput, Query, SignedIn};
use crate::cookies;
use crate::failure::Failure;
use crate::routes;

/// What was just done.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Just {
    #[serde(default)]
    done: String,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct ProfilePage {
    frame: Frame,
    here: &'static str,
    done: String,
    problem: Option<Problem>,
    me: Me,
    now: Time,
    /// Whether a password is asked for here at all.
    has_password: bool,
    may_change: bool,
    what_can: WhatCanAnswer,
}

impl ProfilePage {
    fn words(&self) -> Vec<InWords> {
        self.what_can.items.iter().map(InWords::of).collect()
    }
}

/// `on workspace "Stop Signs"`
pub fn scope_words(scope: &ScopeView) -> String {
    match scope {
        ScopeView::Global => "everywhere".into(),
        ScopeView::Workspace { name, .. } => format!("on workspace \"{name}\""),
        ScopeView::Project { name, workspace, .. } => match workspace {
            Some(workspace) => format!("on project \"{name}\" (workspace \"{workspace}\")"),
            None => format!("on project \"{name}\""),
        },
        ScopeView::Object { object, id, name } if name.is_empty() => format!("on {object} {id}"),
        ScopeView::Object { object, name, .. } => format!("on {object} \"{name}\""),
    }
}

pub async fn show(door: SignedIn, Query(just): Query<Just>) -> Result<Answer, Failure> {
    profile(&door, just.done, None).await
}

async fn profile(door: &SignedIn, done: String, problem: Option<Problem>) -> Result<Answer, Failure> {
    let context = &door.context;
    let Json(me) = context.ask(routes::users::me, &[], NoInput).await?;
    let question = WhatCan {
        limit: Some(told::PLACES),
        ..Default::default()
    };
    let Json(what_can) = context.ask(routes::access::what_can, &[], Json(question)).await?;
    let own = Target::owned_by(door.actor.id);
    let is_person = door.actor.credential_kind == CredentialKind::Session;
    let page = ProfilePage {
        frame: Frame::new(door, "settings", "Settings"),
        here: "profile",
        has_password: is_person && !me.user.remote,
        may_change: is_person && door.actor.may(Permission::MeUpdate, &own).is_some(),
        now: door.actor.now(),
        done,
        problem,
        me,
        what_can,
    };
    page.frame.answer_with(told::status(page.problem.as_ref()), &page)
}

/// What the forms about oneself send.
#[derive(Deserialize, JsonSchema)]
pub struct Sent {
    act: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    old_password: String,
    #[serde(default)]
    new_password: String,
    #[serde(default)]
    again: String,
}

pub async fn change(door: SignedIn, Form(sent): Form<Sent>) -> Result<Answer, Failure> {
    match Problem::or(make(&door, sent).await)? {
        Ok(done) => Ok(Answer::see(&format!("/settings?done={done}"))),
        Err(problem) => profile(&door, String::new(), Some(problem)).await,
    }
}

/// The word for what was done.
async fn make(door: &SignedIn, sent: Sent) -> Result<&'static str, Failure> {
    let me = door.actor.id.to_string();
    let path = [("user", me.as_str())];
    match sent.act.as_str() {
        "display-name" => {
            let change = ChangeUser {
                display_name: Some(sent.display_name.trim().to_owned()),
                ..Default::default()
            };
            door.context.ask(routes::users::change, &path, Json(change)).await?;
            Ok("name")
        }
        "password" => {
            if sent.new_password != sent.again {
                return Err(Failure::invalid(
                    "the two new passwords are not the same: nothing was changed",
                ));
            }
            let change = ChangePassword {
                old_password: Some(sent.old_password),
                new_password: sent.new_password,
            };
            door.context
                .ask(routes::users::change_password, &path, Json(change))
                .await?;
            Ok("password")
        }
        other => Err(unknown_act(other)),
    }
}

/// A key or session as a line of a table.
pub struct Row {
    it: Token,
    /// It signs this very request.
    current: bool,
}

impl Row {
    fn label(&self) -> String {
        match self.it.label.is_empty() {
            true => format!("{} {}", self.it.kind, self.it.id),
            false => self.it.label.clone(),
        }
    }

    fn ended(&self, now: &Time) -> bool {
        self.it.revoked_at.is_some() || self.it.expires_at.is_some_and(|end| end <= *now)
    }
}

/// Whether one may look at one's own keys, and make them.
fn own_keys(door: &SignedIn) -> (bool, bool) {
    let may = |permission| door.actor.may(permission, &Target::owned_by(door.actor.id)).is_some();
    (may(Permission::TokensRead), may(Permission::TokensCreate))
}

async fn tokens_of_mine(door: &SignedIn, all: bool) -> Result<Vec<Row>, Failure> {
    let filter = routes::tokens::TokenFilter {
        all: Some(all),
        ..Default::default()
    };
    let Json(found) = door.context.ask(routes::tokens::list, &[], Query(filter)).await?;
    let rows = found.items.into_iter().map(|it| Row {
        current: door.actor.credential == Some(it.id),
        it,
    });
    Ok(rows.collect())
}

/// Which keys to list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Listed {
    /// `all`: those that are over too.
    #[serde(default)]
    show: String,
    #[serde(default)]
    done: String,
}

/// A thing that a key may be narrowed to.
pub struct Choice {
    field: String,
    words: String,
    title: &'static str,
    ticked: bool,
}

/// How many workspaces are offered to be ticked; others are typed.
const TICKED: i64 = 60;

#[derive(Template)]
#[template(path = "settings_tokens.html")]
struct TokensPage {
    frame: Frame,
    here: &'static str,
    done: String,
    problem: Option<Problem>,
    show: String,
    now: Time,
    may_read: bool,
    may_create: bool,
    may_revoke: bool,
    rows: Vec<Row>,
    typed: NewKey,
    permissions: Vec<(&'static str, Vec<Choice>)>,
    workspaces: Vec<Choice>,
    more_workspaces: bool,
    narrows: bool,
    made: Option<Made>,
}

/// A key that was just made, as it is put down elsewhere.
pub struct Made {
    token: Token,
    section: String,
    environment: String,
}

impl Made {
    fn new(made: TokenWithSecret, server: &str) -> Made {
        // A basic string of TOML escapes as JSON does.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        Made {
            section: format!(
                "server = {}\n\n[worker]\napi_key = {}\n",
                quoted(server),
                quoted(&made.secret)
            ),
            environment: format!(
                "export ML_SERVER='{}'\nexport ML_API_KEY='{}'\n",
                server.replace('\'', "'\\''"),
                made.secret
            ),
            token: made.token,
        }
    }
}

pub async fn tokens(door: SignedIn, Query(listed): Query<Listed>) -> Result<Answer, Failure> {
    tokens_page(&door, listed, NewKey::default(), None, None).await
}

async fn tokens_page(
    door: &SignedIn,
    listed: Listed,
    typed: NewKey,
    made: Option<Made>,
    problem: Option<Problem>,
) -> Result<Answer, Failure> {
    let (may_read, may_create) = own_keys(door);
    let rows = match may_read {
        true => tokens_of_mine(door, listed.show == "all").await?,
        false => Vec::new(),
    };
    let (mut permissions, mut workspaces, mut more_workspaces) = (Vec::new(), Vec::new(), false);
    if may_create {
        let filter = PlaceFilter {
            limit: Some(TICKED),
            ..Default::default()
        };
        let Json(found) = door.context.ask(routes::workspaces::list, &[], Query(filter)).await?;
        more_workspaces = found.next.is_some();
        workspaces = found.items.iter().map(|one| workspace_choice(one, &typed)).collect();
        permissions = permission_choices(door, &typed).await?;
    }
    let own = Target::owned_by(door.actor.id);
    let page = TokensPage {
        frame: Frame::new(door, "settings", "API keys"),
        here: "tokens",
        done: listed.done,
        show: listed.show,
        now: door.actor.now(),
        may_read,
        may_create,
        may_revoke: door.actor.may(Permission::TokensRevoke, &own).is_some(),
        rows: rows.into_iter().filter(|row| row.it.kind == "key").collect(),
        narrows: typed.narrows(),
        typed,
        permissions,
        workspaces,
        more_workspaces,
        made,
        problem,
    };
    page.frame.answer_with(told::status(page.problem.as_ref()), &page)
}

fn workspace_choice(workspace: &Workspace, typed: &NewKey) -> Choice {
    let field = format!("workspace-{}", workspace.id);
    Choice {
        ticked: typed.ticked.contains_key(&field),
        field,
        words: workspace.name.clone(),
        title: "",
    }
}

/// What one holds anywhere, by the kind of thing it is about: a key can be for nothing else.
async fn permission_choices(door: &SignedIn, typed: &NewKey) -> Result<Vec<(&'static str, Vec<Choice>)>, Failure> {
    let question = WhatCan {
        limit: Some(1000),
        ..Default::default()
    };
    let Json(found) = door.context.ask(routes::access::what_can, &[], Json(question)).await?;
    let held: BTreeSet<&str> = found
        .items
        .iter()
        .flat_map(|one| &one.permissions)
        .map(|word| word.trim_end_matches(":own"))
        .collect();
    let mut groups: Vec<(&'static str, Vec<Choice>)> = Vec::new();
    for permission in Permission::ALL.iter().filter(|one| held.contains(one.name())) {
        let field = format!("permission-{permission}");
        let choice = Choice {
            ticked: typed.ticked.contains_key(&field),
            field,
            words: permission.action().to_owned(),
            title: permission.meaning(),
        };
        match groups
            .iter_mut()
            .find(|(resource, _)| *resource == permission.resource())
        {
            Some((_, choices)) => choices.push(choice),
            None => groups.push((permission.resource(), vec![choice])),
        }
    }
    Ok(groups)
}

/// What the form for a new key sends, and the button beside each.
#[derive(Default, Deserialize, JsonSchema)]
pub struct NewKey {
    #[serde(default)]
    act: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    label: String,
    /// `90d`, a date; empty: no end.
    #[serde(default)]
    expires: String,
    /// Further workspaces, apart by commas.
    #[serde(default)]
    others: String,
    /// `permission-experiments:read` and `workspace-3`, where they are ticked.
    #[serde(flatten)]
    ticked: BTreeMap<String, String>,
}

impl NewKey {
    fn named(&self, prefix: &str) -> Vec<String> {
        let names = self.ticked.keys().filter_map(|field| field.strip_prefix(prefix));
        names.map(str::to_owned).collect()
    }

    fn narrows(&self) -> bool {
        let ticked = self
            .ticked
            .keys()
            .any(|field| field.starts_with("permission-") || field.starts_with("workspace-"));
        ticked || !self.others.trim().is_empty()
    }

    fn wanted(&self, now: Time) -> Result<NewToken, Failure> {
        let until = given(&self.expires).map(|end| Time::parse_until(&end, now).map_err(Failure::invalid));
        let mut workspaces = self.named("workspace-");
        workspaces.extend(self.others.split(',').filter_map(given));
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        Ok(NewToken {
            label: self.label.trim().to_owned(),
            until: until.transpose()?,
            permissions: some(self.named("permission-")),
            workspaces: some(workspaces),
            ..Default::default()
        })
    }
}

pub async fn change_tokens(door: SignedIn, Form(sent): Form<NewKey>) -> Result<Answer, Failure> {
    match sent.act.as_str() {
        "create" => match Problem::or(create(&door, &sent).await)? {
            // Shown here and never again: it stands in no address.
            Ok(made) => tokens_page(&door, Listed::default(), NewKey::default(), Some(made), None).await,
            Err(problem) => tokens_page(&door, Listed::default(), sent, None, Some(problem)).await,
        },
        "revoke" => {
            revoke(&door, &sent.token).await?;
            Ok(Answer::see("/settings/tokens?done=revoked"))
        }
        other => Err(unknown_act(other)),
    }
}

async fn create(door: &SignedIn, sent: &NewKey) -> Result<Made, Failure> {
    let new = sent.wanted(door.actor.now())?;
    let Json(made) = door.context.ask(routes::tokens::create, &[], Json(new)).await?;
    Ok(Made::new(made, &door.context.shared.parts.public_url))
}

async fn revoke(door: &SignedIn, token: &str) -> Result<(), Failure> {
    door.context
        .ask(routes::tokens::revoke, &[("token", token)], NoInput)
        .await?;
    Ok(())
}

#[derive(Template)]
#[template(path = "settings_sessions.html")]
struct SessionsPage {
    frame: Frame,
    here: &'static str,
    done: String,
    now: Time,
    may_read: bool,
    may_revoke: bool,
    rows: Vec<Row>,
    others: usize,
}

pub async fn sessions(door: SignedIn, Query(just): Query<Just>) -> Result<Answer, Failure> {
    let (may_read, _) = own_keys(&door);
    let now = door.actor.now();
    let rows = live_sessions(&door, may_read).await?;
    let own = Target::owned_by(door.actor.id);
    let page = SessionsPage {
        frame: Frame::new(&door, "settings", "Sessions"),
        here: "sessions",
        done: just.done,
        now,
        may_read,
        may_revoke: door.actor.may(Permission::TokensRevoke, &own).is_some(),
        others: rows.iter().filter(|row| !row.current).count(),
        rows,
    };
    page.frame.answer(&page)
}

async fn live_sessions(door: &SignedIn, may_read: bool) -> Result<Vec<Row>, Failure> {
    if !may_read {
        return Ok(Vec::new());
    }
    let now = door.actor.now();
    let all = tokens_of_mine(door, true).await?.into_iter();
    Ok(all.filter(|row| row.it.kind == "session" && !row.ended(&now)).collect())
}

/// Which session to end.
#[derive(Deserialize, JsonSchema)]
pub struct End {
    act: String,
    #[serde(default)]
    token: String,
}

pub async fn change_sessions(door: SignedIn, Form(end): Form<End>) -> Result<Answer, Failure> {
    match end.act.as_str() {
        "revoke"
            if door
                .actor
                .credential
                .is_some_and(|current| current.to_string() == end.token) =>
        {
            door.context.ask(routes::users::logout, &[], Json(Done {})).await?;
            Ok(Answer::see("/sign-in").with_cookie(cookies::no_session(&door.context)))
        }
        "revoke" => {
            revoke(&door, &end.token).await?;
            Ok(Answer::see("/settings/sessions?done=revoked"))
        }
        "revoke-others" => {
            for row in live_sessions(&door, true).await?.iter().filter(|row| !row.current) {
                revoke(&door, &row.it.id.to_string()).await?;
            }
            Ok(Answer::see("/settings/sessions?done=others"))
        }
        other => Err(unknown_act(other)),
    }
}

/// When a key ends, in words.
pub fn end_words(end: Option<&Time>, now: &Time) -> String {
    match end {
        None => "never".into(),
        Some(end) => told::ends(end, now),
    }
}

/// To within a minute, as it is kept.
pub fn used_words(used: Option<&Time>, now: &Time) -> String {
    match used {
        None => "not yet".into(),
        Some(used) => ago(*used, *now),
    }
}

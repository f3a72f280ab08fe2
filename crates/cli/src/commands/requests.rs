//! `ml access request`, `requests`, `approve`, `decline`, `withdraw`, `break-glass`

use bailiwick_api::AccessRequestId;
use bailiwick_api::on::On;
use bailiwick_api::requests::{
    AccessRequest, AccessRequestFilter, Approve, BreakGlass, Decline, NewAccessRequest, RequestKind, RequestState,
};
use bailiwick_api::time::parse_duration_ms;

use super::access::by_flags;
use crate::args::Common;
use crate::args::access::{AskedPlace, BreakTheGlass};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{Cell, Column, Output, column, now, say, when, wide};
use crate::prompt;

const COLUMNS: &[Column<AccessRequest>] = &[
    column("ID", |asked| asked.id.0.into()),
    column("USER", |asked| asked.user.as_str().into()),
    column("ROLE", |asked| asked.role.as_str().into()),
    column("ON", |asked| asked.on.as_str().into()),
    column("FOR", |asked| Cell::Milliseconds(Some(asked.lifetime_ms))),
    column("STATE", |asked| state(asked).into()),
    column("ASKED", |asked| asked.created_at.into()),
    column("WHY", |asked| asked.why.as_str().into()),
    wide("UNTIL", |asked| asked.until.into()),
    wide("BY", |asked| asked.decided_by.as_deref().unwrap_or_default().into()),
    wide("ANSWER", |asked| asked.answer.as_str().into()),
];

fn id(asked: &AccessRequest) -> String {
    asked.id.to_string()
}

/// What holds now is told apart from what has ended.
fn state(asked: &AccessRequest) -> String {
    let what = match asked.kind {
        RequestKind::BreakGlass => RequestKind::BreakGlass.name(),
        RequestKind::Request => asked.state.name(),
    };
    match asked.state {
        RequestState::Approved if !asked.in_force => format!("{what}, over"),
        _ => what.to_owned(),
    }
}

fn duration(text: &str) -> Result<i64> {
    parse_duration_ms(text).map_err(Failure::wrong_usage)
}

pub fn ask(common: &Common, role: &str, place: &AskedPlace, lifetime: &str, why: String) -> Result<()> {
    let connection = Connection::open(common)?;
    let lifetime_ms = duration(lifetime)?;
    let current = connection
        .settings
        .workspace
        .as_ref()
        .map(|setting| setting.value.clone());
    let named = match &place.on {
        Some(on) => Some(On::parse_named(on).map_err(Failure::wrong_usage)?),
        None => by_flags(&place.flags, current.as_deref()),
    };
    block_on(async {
        let client = &connection.client;
        let on = match named {
            Some(on) => on,
            // What can be held in a workspace is asked for in the current one.
            None => {
                let role = client.role(role).await.map_err(|why| connection.explain(why))?;
                match role.role.global_only {
                    true => On::Installation,
                    false => On::Workspace(current.unwrap_or_else(|| "default".into())),
                }
            }
        };
        let new = NewAccessRequest {
            role: role.to_owned(),
            on: Some(on.to_string()),
            lifetime_ms,
            why,
        };
        let asked = client
            .ask_for_access(&new)
            .await
            .map_err(|why| connection.explain(why))?;
        let until = asked.waits_until.map(|until| when(until, now())).unwrap_or_default();
        let sentence = format!(
            "Request {}: {} on {}. Whoever may assign it there sees it; without an answer it is over {until}.",
            asked.id, asked.role, asked.on
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &asked)
    })
}

pub fn list(common: &Common, mine: bool, all: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let filter = AccessRequestFilter {
                mine: mine.then_some(true),
                all: all.then_some(true),
                after,
                limit: Some(1000),
            };
            let page = connection.client.access_requests(&filter).await;
            let page = page.map_err(|why| connection.explain(why))?;
            items.extend(page.items);
            after = page.next.and_then(|next| next.parse().ok());
            if after.is_none() {
                break;
            }
        }
        Output::new(common.output).list(COLUMNS, id, &items)
    })
}

pub fn approve(common: &Common, request: i64, lifetime: Option<&str>, answer: String) -> Result<()> {
    let connection = Connection::open(common)?;
    let approve = Approve {
        lifetime_ms: lifetime.map(duration).transpose()?,
        answer,
    };
    block_on(async {
        let approved = connection
            .client
            .approve_access(AccessRequestId(request), &approve)
            .await;
        let approved = approved.map_err(|why| connection.explain(why))?;
        let until = approved.until.map(|until| when(until, now())).unwrap_or_default();
        let sentence = format!(
            "{} holds {} on {}; it ends by itself {until}.",
            approved.user, approved.role, approved.on
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &approved)
    })
}

pub fn decline(common: &Common, request: i64, answer: String) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let decline = Decline { answer };
        let declined = connection
            .client
            .decline_access(AccessRequestId(request), &decline)
            .await;
        let declined = declined.map_err(|why| connection.explain(why))?;
        let sentence = format!("Declined request {} of {}.", declined.id, declined.user);
        Output::new(common.output).did(&sentence, COLUMNS, id, &declined)
    })
}

pub fn withdraw(common: &Common, request: i64) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let withdrawn = connection.client.withdraw_access(AccessRequestId(request)).await;
        let withdrawn = withdrawn.map_err(|why| connection.explain(why))?;
        Output::new(common.output).did(&format!("Withdrew request {}.", withdrawn.id), COLUMNS, id, &withdrawn)
    })
}

pub fn break_glass(common: &Common, wanted: &BreakTheGlass) -> Result<()> {
    let connection = Connection::open(common)?;
    if wanted.end {
        return block_on(async {
            let ended = connection.client.end_break_glass().await;
            let ended = ended.map_err(|why| connection.explain(why))?;
            Output::new(common.output).did("Break-glass has ended.", COLUMNS, id, &ended)
        });
    }
    let password = match &wanted.password_file {
        Some(file) => prompt::secret_from(file)?,
        None => prompt::password("Your password", "--password-file")?,
    };
    let wanted = BreakGlass {
        why: wanted.why.clone().unwrap_or_default(),
        lifetime_ms: wanted.lifetime.as_deref().map(duration).transpose()?,
        password,
    };
    block_on(async {
        let broken = connection.client.break_glass(&wanted).await;
        let broken = broken.map_err(|why| connection.explain(why))?;
        let until = broken.until.unwrap_or(broken.created_at);
        let sentence = format!(
            "{} is ClusterAdmin until {until} ({}). Every act is on record; `ml access break-glass --end` ends it sooner.",
            broken.user,
            when(until, now())
        );
        say(&sentence);
        if Output::new(common.output).is_for_people() {
            return Ok(());
        }
        Output::new(common.output).did("", COLUMNS, id, &broken)
    })
}

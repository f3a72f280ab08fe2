//! `ml token …`

use bailiwick_api::time::{parse_duration_ms, unread};
use bailiwick_api::tokens::{NewToken, Token};
use bailiwick_api::{Time, TokenId};
use bailiwick_client::calls::every;

use crate::args::{self, Common};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, json, now, say, when, wide, write};
use crate::prompt;

pub const COLUMNS: &[Column<Token>] = &[
    column("ID", |token| token.id.0.into()),
    column("OWNER", |token| token.owner.as_str().into()),
    column("LABEL", |token| token.label.as_str().into()),
    column("CREATED", |token| token.created_at.into()),
    column("EXPIRES", |token| token.expires_at.into()),
    column("LAST USED", |token| token.last_used_at.into()),
    wide("KIND", |token| token.kind.as_str().into()),
    wide("REVOKED", |token| token.revoked_at.into()),
    wide("PERMISSIONS", |token| list_words(&token.narrowed.permissions).into()),
    wide("WORKSPACES", |token| list_words(&token.narrowed.workspaces).into()),
];

pub fn id(token: &Token) -> String {
    token.id.to_string()
}

/// Empty where a key is not narrowed.
pub fn list_words(words: &Option<Vec<String>>) -> String {
    match words {
        None => String::new(),
        Some(words) if words.is_empty() => "none".into(),
        Some(words) => words.join(", "),
    }
}

pub fn run(common: &Common, command: args::Token) -> Result<()> {
    match command {
        args::Token::Create {
            label,
            expires,
            owner,
            permissions,
            workspaces,
        } => {
            let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
            let token = NewToken {
                label,
                user: owner,
                permissions: some(permissions),
                workspaces: some(workspaces),
                ..expiring(expires.as_deref())?
            };
            create(common, &token)
        }
        args::Token::List { owner, all } => list(common, owner.as_deref(), all),
        args::Token::Describe { id } => describe(common, TokenId(id)),
        args::Token::Revoke { ids, sure } => revoke(common, &ids, sure.yes),
    }
}

/// A duration counts by the server's clock, a date is a date.
pub fn expiring(text: Option<&str>) -> Result<NewToken> {
    let mut token = NewToken::default();
    let Some(text) = text else { return Ok(token) };
    match (parse_duration_ms(text), Time::parse(text)) {
        (Ok(ms), _) => token.lifetime_ms = Some(ms),
        (_, Some(end)) => token.until = Some(end),
        _ => return Err(Failure::wrong_usage(format!("--expires: {}", unread(text)))),
    }
    Ok(token)
}

/// The key is the data of this command, shown this once.
fn create(common: &Common, token: &NewToken) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let created = connection.client.create_token(token).await;
        let created = created.map_err(|why| connection.explain(why))?;
        if output.wants_json() {
            return write(&json(&created));
        }
        if output.is_for_people() {
            let until = match created.token.expires_at {
                Some(at) => format!("it ends {}", when(at, now())),
                None => "it has no end of its own".into(),
            };
            say(&format!(
                "Created key {} for {}; {until}. It is shown this once:",
                created.token.id, created.token.owner
            ));
        }
        write(&format!("{}\n", created.secret))
    })
}

fn list(common: &Common, owner: Option<&str>, all: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let tokens = every(|after| async move { client.tokens(owner, all, after.as_deref()).await }).await;
        let tokens = tokens.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(COLUMNS, id, &tokens)
    })
}

fn describe(common: &Common, token: TokenId) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let found = connection.client.token(token).await;
        let token = found.map_err(|why| connection.explain(why))?;
        Output::new(common.output).one(COLUMNS, id, &token)
    })
}

fn revoke(common: &Common, ids: &[i64], yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    let words: Vec<_> = ids.iter().map(i64::to_string).collect();
    prompt::confirm(yes, &format!("end key {} for good", words.join(", ")))?;
    let output = Output::new(common.output);
    block_on(async {
        for id_ in ids {
            let revoked = connection.client.revoke_token(TokenId(*id_)).await;
            let token = revoked.map_err(|why| connection.explain(why))?;
            output.did(
                &format!("Key {} of {} has ended.", token.id, token.owner),
                COLUMNS,
                id,
                &token,
            )?;
        }
        Ok(())
    })
}

//! `ml service-account …`

use bailiwick_api::TokenId;
use bailiwick_api::tokens::{Credential, NewCredential};
use bailiwick_api::users::{ChangeServiceAccount, NewServiceAccount, ServiceAccount as View};
use bailiwick_client::calls::every;

use super::tokens;
use super::users::{self, found};
use crate::args::{Common, ServiceAccount};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, json, say, wide, write};
use crate::prompt;

const COLUMNS: &[Column<View>] = &[
    column("ID", |account| account.user.id.0.into()),
    column("NAME", |account| account.user.name.as_str().into()),
    column("STATE", |account| account.user.state.name().into()),
    column("GROUPS", |account| account.groups().into()),
    column("KEYS", |account| account.credentials.into()),
    column("IMPERSONATES", |account| yes_or_no(account.impersonates).into()),
    column("LAST ACTIVE", |account| account.user.last_seen_at.into()),
    wide("ROLES", |account| users::roles(&account.user).into()),
    wide("CREATED", |account| account.user.created_at.into()),
];

fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn id(account: &View) -> String {
    account.user.id.to_string()
}

pub fn run(common: &Common, command: ServiceAccount) -> Result<()> {
    match command {
        ServiceAccount::Create {
            name,
            serve,
            allow_impersonation,
            clearml,
        } => {
            let account = NewServiceAccount {
                name,
                serve,
                impersonate: allow_impersonation,
            };
            create(common, &account, clearml)
        }
        ServiceAccount::List => list(common),
        ServiceAccount::Describe { name } => describe(common, &name),
        ServiceAccount::Edit {
            name,
            new_name,
            allow_impersonation,
        } => {
            let change = ChangeServiceAccount {
                name: new_name,
                impersonate: allow_impersonation,
            };
            edit(common, &name, &change)
        }
        ServiceAccount::AddKey {
            name,
            label,
            expires,
            clearml,
        } => {
            let ending = tokens::expiring(expires.as_deref())?;
            let new = NewCredential {
                label,
                lifetime_ms: ending.lifetime_ms,
                until: ending.until,
            };
            add_key(common, &name, &new, clearml)
        }
        ServiceAccount::Keys { name, all } => keys(common, &name, all),
        ServiceAccount::RevokeKey { name, key, sure } => revoke_key(common, &name, TokenId(key), sure.yes),
        ServiceAccount::Remove { name, sure } => remove(common, &name, sure.yes),
    }
}

fn create(common: &Common, account: &NewServiceAccount, clearml: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let created = connection.client.create_service_account(account).await;
        let created = created.map_err(|why| connection.explain(why))?;
        hand_over(
            common,
            &created,
            clearml,
            &format!("Created service account {}.", account.name),
        )
    })
}

/// The key is the data of this command, shown this once: a program gets it alone, a person ready to paste into a file.
fn hand_over(common: &Common, made: &Credential, clearml: bool, did: &str) -> Result<()> {
    let output = Output::new(common.output);
    if output.wants_json() {
        return write(&json(made));
    }
    let for_people = output.is_for_people();
    if for_people {
        let file = if clearml { "clearml.conf" } else { "~/.ml/config.toml" };
        say(&format!(
            "{did} Its key is shown this once; for {file} on its machine:\n"
        ));
    }
    match (clearml, for_people) {
        (true, _) => write(&made.clearml),
        (false, true) => write(&made.config),
        (false, false) => write(&format!("{}\n", made.secret)),
    }
}

fn add_key(common: &Common, name: &str, new: &NewCredential, clearml: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let made = connection.client.add_credential(name, new).await;
        let made = made.map_err(|why| connection.explain(why))?;
        let did = format!("Made key {} for {}.", made.token.id, made.token.owner);
        hand_over(common, &made, clearml, &did)
    })
}

fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let accounts = every(|after| async move { client.service_accounts(after.as_deref()).await }).await;
        let accounts = accounts.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(COLUMNS, id, &accounts)
    })
}

fn describe(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let account = connection.client.service_account(name).await;
        let account = account.map_err(|why| connection.explain(why))?;
        Output::new(common.output).one(COLUMNS, id, &account)
    })
}

fn edit(common: &Common, name: &str, change: &ChangeServiceAccount) -> Result<()> {
    if *change == ChangeServiceAccount::default() {
        return Err(Failure::wrong_usage("nothing to change is given")
            .hint("give --name or --allow-impersonation true, or false"));
    }
    let connection = Connection::open(common)?;
    block_on(async {
        let changed = connection.client.change_service_account(name, change).await;
        let account = changed.map_err(|why| connection.explain(why))?;
        let may = if account.impersonates { "may" } else { "may not" };
        let sentence = format!(
            "Changed service account {}: its agents {may} run jobs as their owners.",
            account.user.name
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &account)
    })
}

fn keys(common: &Common, name: &str, all: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let keys = connection.client.credentials(name, all).await;
        let keys = keys.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(tokens::COLUMNS, tokens::id, &keys.items)
    })
}

fn revoke_key(common: &Common, name: &str, key: TokenId, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("end key {key} of service account {name} for good"))?;
    block_on(async {
        let revoked = connection.client.revoke_credential(name, key).await;
        let token = revoked.map_err(|why| connection.explain(why))?;
        let sentence = format!("Key {} of {} has ended.", token.id, token.owner);
        Output::new(common.output).did(&sentence, tokens::COLUMNS, tokens::id, &token)
    })
}

fn remove(common: &Common, name: &str, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("remove service account {name} and all its keys"))?;
    block_on(async {
        let removed = connection.client.remove_service_account(name).await;
        let account = found(&connection, name, removed).await?;
        let sentence = format!("Removed service account {}; its keys have ended.", account.name);
        Output::new(common.output).did(&sentence, users::COLUMNS, users::id, &account)
    })
}

//! `ml service-account …`

use bailiwick_api::users::NewServiceAccount;
use bailiwick_client::calls::every;

use super::users::{COLUMNS, found, id};
use crate::args::{Common, ServiceAccount};
use crate::connect::{Connection, block_on};
use crate::failure::Result;
use crate::output::{Output, json, say, write};
use crate::prompt;

pub fn run(common: &Common, command: ServiceAccount) -> Result<()> {
    match command {
        ServiceAccount::Create { name, serve } => create(common, name, serve),
        ServiceAccount::List => list(common),
        ServiceAccount::Remove { name, sure } => remove(common, &name, sure.yes),
    }
}

/// The key is the data of this command, shown this once: a program gets it alone, a person ready to paste into a file.
fn create(common: &Common, name: String, serve: Vec<String>) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    let account = NewServiceAccount { name, serve };
    block_on(async {
        let created = connection.client.create_service_account(&account).await;
        let created = created.map_err(|why| connection.explain(why))?;
        if output.wants_json() {
            return write(&json(&created));
        }
        if !output.is_for_people() {
            return write(&format!("{}\n", created.secret));
        }
        say(&format!(
            "Created service account {}. Its key is shown this once; for ~/.ml/config.toml on its machine:\n",
            created.token.owner
        ));
        let server = &connection.settings.server.value;
        write(&format!(
            "server = \"{server}\"\n\n[worker]\napi_key = \"{}\"\n",
            created.secret
        ))
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

fn remove(common: &Common, name: &str, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("remove service account {name} and all its keys"))?;
    block_on(async {
        let removed = connection.client.remove_service_account(name).await;
        let account = found(&connection, name, removed).await?;
        let sentence = format!("Removed service account {}; its keys have ended.", account.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &account)
    })
}

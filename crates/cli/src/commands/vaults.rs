//! `ml vault …` and `ml admin …`

use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command as Process;

use bailiwick_api::vault::{VAULT_BYTES_MAX, VaultFormat};
use bailiwick_api::vaults::{NewVault, Vault, VaultChange, VaultDetail, VaultEdit};
use bailiwick_client::is_missing;

use crate::args::Common;
use crate::args::vaults::{Admin, Text, Vault as Command, Which};
use crate::connect::{Connection, block_on};
use crate::failure::{Failure, Result};
use crate::output::{self, Column, Output, column, say, wide};
use crate::prompt;

const COLUMNS: &[Column<Vault>] = &[
    column("ID", |vault| vault.id.0.into()),
    column("NAME", |vault| vault.name.as_str().into()),
    column("FOR", |vault| {
        match &vault.of {
            Some(of) => format!("{} {of}", if vault.name.starts_with('@') { "user" } else { "group" }),
            None => "everybody".into(),
        }
        .into()
    }),
    column("ORDER", |vault| vault.place.into()),
    column("ENFORCED", |vault| if vault.enforced { "yes" } else { "no" }.into()),
    column("ACTIVE", |vault| if vault.enabled { "yes" } else { "no" }.into()),
    column("CHANGED", |vault| vault.changed_at.into()),
    wide("BY", |vault| vault.changed_by.as_str().into()),
    wide("VERSION", |vault| vault.version.into()),
    wide("KEYS", |vault| vault.keys.join(", ").into()),
];

const CHANGES: &[Column<VaultChange>] = &[
    column("TIME", |change| change.time.into()),
    column("USER", |change| change.user.as_str().into()),
    column("DID", |change| change.verb.as_str().into()),
    column("KEYS", |change| change.keys.join(", ").into()),
    wide("ADDRESS", |change| change.address.as_str().into()),
];

fn id(vault: &Vault) -> String {
    vault.id.to_string()
}

pub fn run(common: &Common, command: Command) -> Result<()> {
    match command {
        Command::List => list(common),
        Command::Show { which, reveal } => show(common, which, reveal),
        Command::Set { text, of, disabled } => set(common, &text, of, disabled),
        Command::Edit { which } => edit(common, which),
        Command::Enable { which } => switch(common, which, true),
        Command::Disable { which } => switch(common, which, false),
        Command::History { which } => history(common, which),
        Command::Applied { of, reveal } => applied(common, of.as_deref(), reveal),
        Command::Create {
            name,
            group,
            organisation,
            text,
            order,
            enforced,
            disabled,
        } => {
            let (format, text) = read(&text.file, text.format)?;
            let new = NewVault {
                user: None,
                group,
                organisation,
                name: Some(name),
                place: order,
                enforced: Some(enforced),
                enabled: Some(!disabled),
                format: Some(format),
                text,
            };
            create(common, &new)
        }
        Command::Update {
            vault,
            file,
            format,
            name,
            order,
            enforced,
        } => {
            let text = file.map(|file| read(&file, format)).transpose()?;
            let (format, text) = text.unzip();
            let edit = VaultEdit {
                version: None,
                name,
                place: order,
                enforced,
                enabled: None,
                format,
                text,
            };
            if serde_json::to_value(&edit).is_ok_and(|edit| edit == serde_json::json!({})) {
                return Err(Failure::wrong_usage("nothing to change is given")
                    .hint("`ml vault update --help` lists what can be"));
            }
            let connection = Connection::open(common)?;
            block_on(async { change(common, &connection, &vault, &edit, "Changed").await })
        }
        Command::Delete { which, sure } => delete(common, which, sure.yes),
    }
}

pub fn admin(common: &Common, command: Admin) -> Result<()> {
    let Admin::RotateKey = command;
    let connection = Connection::open(common)?;
    block_on(async {
        let rotated = connection.client.rotate_vault_key().await;
        let rotated = rotated.map_err(|why| connection.explain(why))?;
        let output = Output::new(common.output);
        if !output.is_for_people() {
            return output::write(&format!("{}\n", output::json(&rotated)));
        }
        output::write(&format!(
            "The vaults are sealed with the new key {} ({} sealed anew{}). Back the key file up, and copy it to the other servers; its older lines are only for older backups.\n",
            rotated.key,
            rotated.vaults,
            match rotated.unopened {
                0 => String::new(),
                some => format!("; {some} could not be opened and stay as they are"),
            }
        ))
    })
}

/// The path part of a vault.
async fn which(connection: &Connection, which: Which) -> Result<String> {
    match (which.vault, which.of) {
        (Some(vault), _) => Ok(vault),
        (None, Some(user)) => Ok(format!("@{user}")),
        (None, None) => {
            let me = connection.client.me().await.map_err(|why| connection.explain(why))?;
            Ok(format!("@{}", me.user.name))
        }
    }
}

fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let vaults = connection
            .client
            .vaults()
            .await
            .map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(COLUMNS, id, &vaults.items)
    })
}

fn show(common: &Common, vault: Which, reveal: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let name = which(&connection, vault).await?;
        let detail = found(&connection, connection.client.vault(&name, reveal).await)?;
        let output = Output::new(common.output);
        if !output.is_for_people() {
            return output::write(&format!("{}\n", output::json(&detail)));
        }
        output.one(COLUMNS, id, &detail.vault)?;
        let text = detail.text.unwrap_or_else(|| output::json(&detail.content));
        output::write(&format!("\n{}\n", printable_lines(&text)))
    })
}

/// As it is, without what a terminal would take for more than text.
fn printable_lines(text: &str) -> String {
    text.lines().map(output::printable).collect::<Vec<_>>().join("\n")
}

fn found<T>(connection: &Connection, result: std::result::Result<T, bailiwick_client::Error>) -> Result<T> {
    let missing = is_missing(&result);
    result.map_err(|why| {
        let failure = connection.explain(why);
        match missing {
            true => failure.hint("`ml vault list` shows those there are; `ml vault set -f FILE` makes one's own"),
            false => failure,
        }
    })
}

/// A text and how it is written.
fn read(file: &Path, format: Option<VaultFormat>) -> Result<(VaultFormat, String)> {
    let mut text = String::new();
    let most = VAULT_BYTES_MAX as u64 + 1;
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(most).read_to_string(&mut text),
        _ => std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text)),
    };
    read.map_err(|why| Failure::wrong_usage(format!("cannot read {}: {why}", file.display())))?;
    if text.len() > VAULT_BYTES_MAX {
        let kib = VAULT_BYTES_MAX / 1024;
        return Err(Failure::wrong_usage(format!(
            "{} is too long: a vault has at most {kib} KiB",
            file.display()
        )));
    }
    let by_name = match file.extension().and_then(|ending| ending.to_str()) {
        Some("yaml" | "yml") => VaultFormat::Yaml,
        Some("json") => VaultFormat::Json,
        _ => VaultFormat::Hocon,
    };
    Ok((format.unwrap_or(by_name), text))
}

fn set(common: &Common, text: &Text, user: Option<String>, disabled: bool) -> Result<()> {
    let (format, text) = read(&text.file, text.format)?;
    if text.trim().is_empty() {
        return Err(Failure::wrong_usage("there is no text to save").hint("to do without a vault: `ml vault delete`"));
    }
    let connection = Connection::open(common)?;
    block_on(async {
        let name = which(
            &connection,
            Which {
                vault: None,
                of: user.clone(),
            },
        )
        .await?;
        let there = connection.client.vault(&name, false).await;
        if is_missing(&there) {
            let new = NewVault {
                user,
                enabled: Some(!disabled),
                format: Some(format),
                text,
                ..NewVault::default()
            };
            let is_own = new.user.is_none();
            let made = connection
                .client
                .create_vault(&new)
                .await
                .map_err(|why| connection.explain(why))?;
            saved(common, &made, "Saved")?;
            if is_own {
                say(
                    "It reaches your jobs on agents that run them as their owners: `ml agent list -o wide` shows which do.",
                );
            }
            return Ok(());
        }
        // One whose key is gone cannot be shown, and still be written anew.
        let version = match there {
            Ok(there) => Some(there.vault.version),
            Err(why) if why.code() == Some("sealed") => None,
            Err(why) => return Err(connection.explain(why)),
        };
        let edit = VaultEdit {
            version,
            enabled: disabled.then_some(false),
            format: Some(format),
            text: Some(text),
            ..VaultEdit::default()
        };
        change(common, &connection, &name, &edit, "Saved").await
    })
}

fn create(common: &Common, new: &NewVault) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let made = connection
            .client
            .create_vault(new)
            .await
            .map_err(|why| connection.explain(why))?;
        saved(common, &made, "Created")
    })
}

async fn change(common: &Common, connection: &Connection, name: &str, edit: &VaultEdit, did: &str) -> Result<()> {
    let changed = found(connection, connection.client.update_vault(name, edit).await)?;
    saved(common, &changed, did)
}

fn saved(common: &Common, detail: &VaultDetail, did: &str) -> Result<()> {
    let vault = &detail.vault;
    let state = match vault.enabled {
        true => "it applies from the next job on",
        false => "it is switched off",
    };
    let sentence = format!("{did} vault {} with {} values; {state}.", vault.name, vault.keys.len());
    Output::new(common.output).did(&sentence, COLUMNS, id, vault)
}

fn switch(common: &Common, vault: Which, enabled: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let name = which(&connection, vault).await?;
        let edit = VaultEdit {
            enabled: Some(enabled),
            ..VaultEdit::default()
        };
        change(common, &connection, &name, &edit, "Changed").await
    })
}

fn history(common: &Common, vault: Which) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let name = which(&connection, vault).await?;
        let changes = found(&connection, connection.client.vault_changes(&name).await)?;
        Output::new(common.output).list(CHANGES, |change| change.time.to_string(), &changes.items)
    })
}

fn applied(common: &Common, user: Option<&str>, reveal: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let applied = connection.client.applied_vaults(user, reveal).await;
        let applied = applied.map_err(|why| connection.explain(why))?;
        let output = Output::new(common.output);
        if !output.is_for_people() {
            return output::write(&format!("{}\n", output::json(&applied)));
        }
        output.list(COLUMNS, id, &applied.vaults)?;
        for (what, content) in [
            ("Below the command line", &applied.content),
            ("Enforced", &applied.enforced),
        ] {
            if content.as_object().is_some_and(|content| !content.is_empty()) {
                output::write(&format!("\n{what}:\n{}\n", printable_lines(&output::json(content))))?;
            }
        }
        Ok(())
    })
}

fn delete(common: &Common, vault: Which, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let name = which(&connection, vault).await?;
        prompt::confirm(yes, &format!("delete vault {name}"))?;
        let gone = found(&connection, connection.client.delete_vault(&name).await)?;
        let sentence = format!("Deleted vault {}.", gone.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &gone)
    })
}

fn edit(common: &Common, vault: Which) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let name = which(&connection, vault).await?;
        let before = found(&connection, connection.client.vault(&name, true).await)?;
        let text = before.text.unwrap_or_default();
        // A directory of one's own, gone with whatever an editor leaves beside the file.
        let dir = tempfile::Builder::new()
            .prefix("ml-vault-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|why| Failure::new(why.to_string()))?;
        let path = dir.path().join(format!("vault.{}", ending(before.vault.format)));
        let written = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|why| Failure::new(format!("cannot write {}: {why}", path.display())))?;
        open_editor(&path)?;
        let after = std::fs::read(&path).map_err(|why| Failure::file("read", &path, &why))?;
        let after = String::from_utf8_lossy(&after).into_owned();
        if after == text {
            output::say("Nothing was changed.");
            return Ok(());
        }
        let edit = VaultEdit {
            version: Some(before.vault.version),
            format: Some(before.vault.format),
            text: Some(after),
            ..VaultEdit::default()
        };
        let outcome = change(common, &connection, &name, &edit, "Saved").await;
        outcome.map_err(|failure| {
            let kept = dir.keep().join(path.file_name().unwrap_or_default());
            failure.hint(format!(
                "what was typed is kept in {0}: mend it, and then `ml vault update {name} -f {0}`; delete it afterwards",
                kept.display()
            ))
        })
    })
}

fn ending(format: VaultFormat) -> &'static str {
    match format {
        VaultFormat::Hocon => "conf",
        VaultFormat::Json => "json",
        VaultFormat::Yaml => "yaml",
    }
}

fn open_editor(path: &Path) -> Result<()> {
    let named = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty()));
    let editor = named.unwrap_or_else(|| "vi".into());
    // As a shell reads it: an editor may be named with arguments.
    let ended = Process::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(path)
        .status();
    let ended = ended.map_err(|why| Failure::new(format!("cannot start the editor {editor}: {why}")))?;
    match ended.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("the editor {editor} failed; nothing was changed"))),
    }
}

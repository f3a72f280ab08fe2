//! `ml config show`, `ml config set`

use bailiwick_api::names::nearest;
use serde::Serialize;

use crate::args::{Common, Config};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, say};
use crate::prompt;
use crate::settings::{KEYS, Origin, Setting, Settings, change_user_file};

pub fn run(common: &Common, command: Config) -> Result<()> {
    match command {
        Config::Show { origin } => show(common, origin),
        Config::Set { key, value } => set(&key, value),
    }
}

#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: String,
    origin: String,
}

const COLUMNS: &[Column<Row>] = &[
    column("KEY", |row| row.key.into()),
    column("VALUE", |row| row.value.as_str().into()),
    column("ORIGIN", |row| row.origin.as_str().into()),
];

fn show(common: &Common, with_origin: bool) -> Result<()> {
    let settings = Settings::read(common)?;
    let mut rows = vec![Row {
        key: "server",
        value: settings.server.value.clone(),
        origin: settings.server.origin.to_string(),
    }];
    let mut row = |key, value: Option<(String, &Origin)>| {
        if let Some((value, origin)) = value {
            rows.push(Row {
                key,
                value,
                origin: origin.to_string(),
            });
        }
    };
    let text = |setting: &'_ Option<Setting<String>>| setting.clone().map(|setting| (setting.value, setting.origin));
    for (key, setting) in [
        ("user", &settings.user),
        ("workspace", &settings.workspace),
        ("project", &settings.project),
        ("queue", &settings.queue),
        ("stack", &settings.stack),
    ] {
        let setting = text(setting);
        row(key, setting.as_ref().map(|(value, origin)| (value.clone(), origin)));
    }
    let ca = settings.ca.as_ref();
    row("ca", ca.map(|ca| (ca.value.display().to_string(), &ca.origin)));
    // That there is a key, and never the key.
    let key = settings.api_key.as_ref();
    row("worker.api_key", key.map(|key| (hidden(&key.value), &key.origin)));
    let columns = if with_origin { COLUMNS } else { &COLUMNS[..2] };
    Output::new(common.output).list(columns, |row| row.key.to_owned(), &rows)
}

fn hidden(key: &str) -> String {
    match bailiwick_api::key::is_well_formed(key) {
        true => "(an API key)".into(),
        false => "(not an API key)".into(),
    }
}

fn set(key: &str, value: Option<String>) -> Result<()> {
    if !KEYS.contains(&key) {
        let failure = Failure::wrong_usage(format!("there is no setting `{key}`"));
        return Err(match nearest(key, KEYS.iter().copied()) {
            Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
            None => failure.hint(format!("settings are {}", KEYS.join(", "))),
        });
    }
    let value = match (key, value) {
        ("worker.api_key", Some(_)) => {
            return Err(Failure::wrong_usage(
                "an API key does not belong on the command line, where others can read it",
            )
            .hint("ml config set worker.api_key < FILE"));
        }
        ("worker.api_key", None) => read_key()?,
        (_, Some(value)) => value,
        (_, None) => return Err(Failure::wrong_usage(format!("no value given for {key}"))),
    };
    if key == "server" && !(value.starts_with("http://") || value.starts_with("https://")) {
        return Err(Failure::wrong_usage(format!(
            "`{value}` is not a server URL: it begins with http:// or https://"
        )));
    }
    let path = change_user_file(&[(key, Some(&value))])?;
    say(&format!("Set {key} in {}.", path.display()));
    Ok(())
}

fn read_key() -> Result<String> {
    use std::io::IsTerminal;
    match std::io::stdin().is_terminal() {
        true => prompt::password("API key", "ml config set worker.api_key <"),
        false => prompt::secret_from("-".as_ref()),
    }
}

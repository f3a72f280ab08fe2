//! What vaults hold: reading, checking, merging, and what a job is given of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::agents::{LeaseFile, LeaseVault};
use crate::config::{DEPTH_MAX, depth, kind, known_keys, yaml_words};

/// Largest vault, in bytes of its text.
pub const VAULT_BYTES_MAX: usize = 256 * 1024;
/// What a personal vault may not set where the agent is not its owner's.
pub const NOT_ON_ANOTHERS_AGENT: &[&str] = &[
    "agent",
    "environment.PATH",
    "environment.LD_*",
    "environment.HOME",
    "environment.USER",
    "environment.LOGNAME",
    "environment.TMPDIR",
    "environment.SHELL",
];

const KEYS_MAX: usize = 1000;
const FILES_MAX: usize = 100;
/// Most values and lines of files that a job's log is searched for. More are refused: what is left out would stand in the log.
const SECRETS_MAX: usize = 10_000;
/// Shorter ones say nothing by themselves and would blacken the log.
const SECRET_MIN: usize = 6;
const MASKED: &str = "********";
const SECTIONS: &[&str] = &["environment", "files", "agent", "sdk", "storage"];
const AGENT: &[&str] = &["job_env", "isolate", "protect", "fair"];
const ISOLATE: &[&str] = &["auto", "none", "require"];
const MACHINES_OWN: &[&str] = &[
    "name",
    "worker_id",
    "worker_name",
    "slots",
    "gpus",
    "queues",
    "cuda_version",
    "cudnn_version",
    "default_python",
    "debug",
    "server",
    "key_file",
    "dir",
];
/// Where storage settings go: service, key, variables.
const STORAGE: &[(&str, &str, &[&str])] = &[
    ("s3", "key", &["AWS_ACCESS_KEY_ID"]),
    ("s3", "secret", &["AWS_SECRET_ACCESS_KEY"]),
    ("s3", "region", &["AWS_DEFAULT_REGION", "AWS_REGION"]),
    ("s3", "endpoint", &["AWS_ENDPOINT_URL"]),
    ("s3", "token", &["AWS_SESSION_TOKEN"]),
    ("azure", "account", &["AZURE_STORAGE_ACCOUNT"]),
    ("azure", "key", &["AZURE_STORAGE_KEY"]),
];
/// Relative to the job's directory, as is the variable `GOOGLE_APPLICATION_CREDENTIALS` that names it.
const GS_FILE: &str = ".ml/gs-credentials.json";
const GS_VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const SDK_FILE: &str = ".ml/sdk.json";

/// How a vault is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VaultFormat {
    Hocon,
    Json,
    Yaml,
}

impl VaultFormat {
    pub const ALL: [VaultFormat; 3] = [VaultFormat::Hocon, VaultFormat::Json, VaultFormat::Yaml];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hocon => "hocon",
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hocon, Self::Json, Self::Yaml]
            .into_iter()
            .find(|format| format.name() == text)
    }
}

/// What is wrong with a vault, and where. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub message: String,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self {
            line: None,
            column: None,
            message,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " (line {line}, column {column})"),
            (Some(line), None) => write!(f, " (line {line})"),
            _ => Ok(()),
        }
    }
}

/// JSON in which no key stands twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Unique;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
                let mut list = Vec::new();
                while let Some(Unique(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Unique(Value::Array(list)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Unique, A::Error> {
                let mut map = Map::new();
                while let Some(key) = fields.next_key::<String>()? {
                    if map.contains_key(&key) {
                        return Err(de::Error::custom(format!("the key {key:?} stands there twice")));
                    }
                    map.insert(key, fields.next_value::<Unique>()?.0);
                }
                Ok(Unique(Value::Object(map)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// What is wrong with a section, and at which key, outermost first.
struct Wrong {
    at: Vec<String>,
    message: String,
}

impl From<Wrong> for String {
    fn from(wrong: Wrong) -> String {
        wrong.message
    }
}

fn wrong(at: &[&str], message: impl Into<String>) -> Wrong {
    Wrong {
        at: at.iter().map(|part| (*part).to_owned()).collect(),
        message: message.into(),
    }
}

/// Reads a vault, checks its sections, and gives it as one object.
///
/// # Errors
/// In words, with line and column; a vault that is too large or too deep has no such place.
pub fn parse(format: VaultFormat, text: &str) -> Result<Value, Fault> {
    if text.len() > VAULT_BYTES_MAX {
        return Err(format!("the vault has {} bytes; the most is {VAULT_BYTES_MAX}", text.len()).into());
    }
    let value = match format {
        VaultFormat::Hocon => crate::hocon::parse(text)?,
        VaultFormat::Json => {
            let Unique(value) = serde_json::from_str(text).map_err(|error| {
                let said = error.to_string();
                let said = said.split(" at line ").next().unwrap_or_default();
                Fault {
                    line: Some(error.line().max(1)),
                    column: Some(error.column().max(1)),
                    message: format!("the vault is not valid JSON: {said}"),
                }
            })?;
            value
        }
        VaultFormat::Yaml => serde_saphyr::from_str(text).map_err(|error| {
            let (words, place) = yaml_words(&error);
            Fault {
                line: place.and_then(|(line, _)| line.try_into().ok()),
                column: place.and_then(|(_, column)| column.try_into().ok()),
                message: format!("the vault {words}"),
            }
        })?,
    };
    let value = if value.is_null() { json!({}) } else { value };
    if depth(&value) > DEPTH_MAX {
        return Err(format!("the vault is nested deeper than {DEPTH_MAX} levels").into());
    }
    let Value::Object(map) = &value else {
        let fault = Fault {
            line: Some(1),
            column: Some(1),
            message: format!("the vault is {}, not a map of keys and values", kind(&value)),
        };
        return Err(fault);
    };
    let checked = only(map, &[], SECTIONS)
        .and_then(|()| Side::of(&value, false).map(drop))
        .and_then(|()| check_agent(&value))
        .and_then(|()| map_of(&value, &["sdk"]).map(drop));
    checked.map_err(|wrong| {
        let place = place(format, text, &wrong.at);
        Fault {
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            message: wrong.message,
        }
    })?;
    Ok(value)
}

/// Line and column of the innermost of these keys that stands in a text that can be read.
fn place(format: VaultFormat, text: &str, at: &[String]) -> Option<(usize, usize)> {
    if format != VaultFormat::Yaml {
        // JSON is HOCON, too.
        return crate::hocon::place(text, at);
    }
    let found = serde_saphyr::with_deserializer_from_str(text, |document| Below(at).deserialize(document));
    let found = found.ok()??;
    Some((found.line().try_into().ok()?, found.column().try_into().ok()?))
}

/// Looks for the first of these keys in a map, and for those after it below.
struct Below<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = Option<serde_saphyr::Location>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = Option<serde_saphyr::Location>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = fields.next_key::<serde_saphyr::Spanned<String>>()? {
            match self.0.split_first() {
                Some((wanted, below)) if *wanted == key.value => {
                    found = fields.next_value_seed(Below(below))?.or(Some(key.referenced));
                }
                _ => drop(fields.next_value::<de::IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// As [`known_keys`], for the map at this place.
fn only(map: &Map<String, Value>, at: &[&str], known: &[&str]) -> Result<(), Wrong> {
    let path: String = at.iter().map(|part| format!("{part}.")).collect();
    known_keys(map, &path, known).map_err(|message| {
        let unknown = map.keys().find(|key| !known.contains(&key.as_str()));
        let at: Vec<&str> = at.iter().copied().chain(unknown.map(String::as_str)).collect();
        wrong(&at, message)
    })
}

/// What a personal vault may not hold, so that it can go along to another's agent.
///
/// # Errors
/// Names the variable.
pub fn check_personal(content: &Value) -> Result<(), Fault> {
    match not_for_others(&Side::of(content, false).map_err(String::from)?.env) {
        None => Ok(()),
        Some(name) => Err(format!("environment.{name} cannot be set by a personal vault on somebody else's agent; set it in the experiment's configuration").into()),
    }
}

/// The first variable that may not go to another's agent.
pub fn not_for_others(env: &BTreeMap<String, String>) -> Option<&str> {
    let barred = |name: &str| {
        NOT_ON_ANOTHERS_AGENT
            .iter()
            .filter_map(|rule| rule.strip_prefix("environment."))
            .any(|rule| match rule.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == rule,
            })
    };
    env.keys().map(String::as_str).find(|name| barred(name))
}

fn map_of<'a>(content: &'a Value, at: &[&str]) -> Result<Option<&'a Map<String, Value>>, Wrong> {
    match at.iter().try_fold(content, |value, key| value.get(key)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(other) => Err(wrong(at, format!("{} is {}, not a map", at.join("."), kind(other)))),
    }
}

fn word(at: &[&str], value: &Value) -> Result<String, Wrong> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        other => return Err(wrong(at, format!("{} is {}, not text", at.join("."), kind(other)))),
    };
    if text.contains('\0') {
        return Err(wrong(at, format!("{} contains a zero byte", at.join("."))));
    }
    Ok(text)
}

fn variables(content: &Value, at: &[&str]) -> Result<BTreeMap<String, String>, Wrong> {
    let mut env = BTreeMap::new();
    for (key, value) in map_of(content, at)?.into_iter().flatten() {
        let here = [at, &[key.as_str()]].concat();
        if key.is_empty() || key.contains(['=', '\0']) {
            let path = at.join(".");
            return Err(wrong(
                &here,
                format!("{path}: {key:?} cannot be an environment variable"),
            ));
        }
        if key.starts_with("ML_") || key == "CUDA_VISIBLE_DEVICES" || key == "NVIDIA_VISIBLE_DEVICES" {
            return Err(wrong(&here, format!("{}: the agent sets it itself", here.join("."))));
        }
        env.insert(key.clone(), word(&here, value)?);
    }
    Ok(env)
}

fn check_agent(content: &Value) -> Result<(), Wrong> {
    let Some(map) = map_of(content, &["agent"])? else {
        return Ok(());
    };
    if let Some(key) = map.keys().find(|key| MACHINES_OWN.contains(&key.as_str())) {
        let message = format!("agent.{key} is the machine's own and cannot be set by a vault");
        return Err(wrong(&["agent", key], message));
    }
    only(map, &["agent"], AGENT)?;
    variables(content, &["agent", "job_env"])?;
    let absolute = |path: &Value| {
        path.as_str()
            .is_some_and(|path| path.starts_with('/') && !path.contains('\0'))
    };
    let is_fit = |key: &str, value: &Value| match key {
        "isolate" => value.as_str().is_some_and(|word| ISOLATE.contains(&word)),
        "protect" => value.as_array().is_some_and(|all| all.iter().all(absolute)),
        "fair" => value.is_boolean(),
        _ => true,
    };
    let Some((key, _)) = map.iter().find(|(key, value)| !is_fit(key, value)) else {
        return Ok(());
    };
    let to_be = match key.as_str() {
        "isolate" => format!("one of {}", ISOLATE.join(", ")),
        "protect" => "a list of absolute paths".into(),
        _ => "true or false".into(),
    };
    Err(wrong(&["agent", key], format!("agent.{key} is {to_be}")))
}

/// What one side, plain or enforced, gives a job.
struct Side {
    env: BTreeMap<String, String>,
    files: BTreeMap<String, LeaseFile>,
    secrets: BTreeSet<String>,
}

impl Side {
    fn of(content: &Value, enforced: bool) -> Result<Self, Wrong> {
        let own = variables(content, &["environment"])?;
        let mut side = Self {
            env: BTreeMap::new(),
            files: BTreeMap::new(),
            secrets: BTreeSet::new(),
        };
        side.storage(content, enforced)?;
        side.secrets.extend(own.values().cloned());
        side.env.extend(own);
        for (path, value) in map_of(content, &["files"])?.into_iter().flatten() {
            if path.starts_with(".ml/") || path == ".ml" {
                let message =
                    format!("files: {path:?} is where the sections `sdk` and `storage` are written; name another");
                return Err(wrong(&["files", path], message));
            }
            side.file(path, value, enforced)?;
        }
        if side.files.len() > FILES_MAX {
            return Err(wrong(&["files"], format!("files holds more than {FILES_MAX} files")));
        }
        files_apart(&side.files)?;
        map_of(content, &["sdk"])?
            .into_iter()
            .for_each(|sdk| sdk.values().for_each(|value| leaf_texts(value, &mut side.secrets)));
        side.secrets.retain(|text| is_secret(text));
        few_enough(side.secrets.len()).map_err(|message| wrong(&[], message))?;
        Ok(side)
    }

    fn storage(&mut self, content: &Value, enforced: bool) -> Result<(), Wrong> {
        let Some(storage) = map_of(content, &["storage"])? else {
            return Ok(());
        };
        only(storage, &["storage"], &["s3", "gs", "azure"])?;
        for service in ["s3", "gs", "azure"] {
            let at = ["storage", service];
            let Some(map) = map_of(content, &at)? else { continue };
            let mut known: Vec<&str> = STORAGE
                .iter()
                .filter(|known| known.0 == service)
                .map(|known| known.1)
                .collect();
            if service == "gs" {
                known.push("credentials");
            }
            only(map, &at, &known)?;
            for (_, key, names) in STORAGE.iter().filter(|known| known.0 == service) {
                let Some(value) = map.get(*key).filter(|value| !value.is_null()) else {
                    continue;
                };
                let text = word(&["storage", service, key], value)?;
                self.secrets.insert(text.clone());
                self.env
                    .extend(names.iter().map(|name| ((*name).to_owned(), text.clone())));
            }
        }
        let Some(credentials) = storage
            .get("gs")
            .and_then(|gs| gs.get("credentials"))
            .filter(|value| !value.is_null())
        else {
            return Ok(());
        };
        let text = match credentials {
            Value::String(text) => text.clone(),
            Value::Object(_) => credentials.to_string(),
            other => {
                let message = format!("storage.gs.credentials is {}, not text or a map", kind(other));
                return Err(wrong(&["storage", "gs", "credentials"], message));
            }
        };
        let held = serde_json::from_str(&text).unwrap_or(Value::Null);
        leaf_texts(&held, &mut self.secrets);
        self.file(GS_FILE, &Value::String(text), enforced)?;
        self.env.insert(GS_VARIABLE.into(), GS_FILE.into());
        Ok(())
    }

    fn file(&mut self, path: &str, value: &Value, enforced: bool) -> Result<(), Wrong> {
        let here = |key: Option<&str>, message: String| {
            let at: Vec<&str> = ["files", path].into_iter().chain(key).collect();
            wrong(&at, message)
        };
        let bad =
            |part: &str| part.is_empty() || part == "." || part == ".." || part.len() > 255 || part.contains('\0');
        if path.split('/').any(bad) {
            let message = format!(
                "files: {path:?} is not a relative path of parts up to 255 bytes, none of them empty, `.` or `..`"
            );
            return Err(here(None, message));
        }
        let mut mode = 0o600;
        let text;
        let content = match value {
            Value::String(content) => {
                text = Some(content.clone());
                BASE64.encode(content)
            }
            Value::Object(map) => {
                only(map, &["files", path], &["content", "content_base64", "mode"])?;
                if let Some(given) = map.get("mode") {
                    let digits = given
                        .as_str()
                        .filter(|given| given.bytes().all(|digit| digit.is_ascii_digit()));
                    let given = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
                    mode = given.filter(|mode| *mode <= 0o777).ok_or_else(|| {
                        let message = format!(
                            "files.{path}.mode is text with the permission bits in octal, at most 0777, such as \"0600\""
                        );
                        here(Some("mode"), message)
                    })?;
                }
                match (map.get("content"), map.get("content_base64")) {
                    (Some(Value::String(content)), None) => {
                        text = Some(content.clone());
                        BASE64.encode(content)
                    }
                    (None, Some(Value::String(content))) => {
                        let bytes = BASE64.decode(content).map_err(|_| {
                            let message = format!("files.{path}.content_base64 is not base64");
                            here(Some("content_base64"), message)
                        })?;
                        text = String::from_utf8(bytes).ok();
                        content.clone()
                    }
                    _ => {
                        let message = format!("files.{path} needs one of `content` and `content_base64`, as text");
                        return Err(here(None, message));
                    }
                }
            }
            other => {
                let message = format!("files.{path} is {}, not text or a map", kind(other));
                return Err(here(None, message));
            }
        };
        self.secrets.extend(
            text.iter()
                .flat_map(|text| text.lines())
                .map(|line| line.trim().to_owned()),
        );
        self.files.insert(
            path.to_owned(),
            LeaseFile {
                path: path.to_owned(),
                mode,
                content,
                enforced,
            },
        );
        Ok(())
    }
}

/// Nothing is to be a file and a directory at once.
fn files_apart(files: &BTreeMap<String, LeaseFile>) -> Result<(), Wrong> {
    for path in files.keys() {
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(file) = above.find(|above| files.contains_key(*above)) {
            let message = format!("files: {path:?} cannot be written, since {file:?} is a file and no directory");
            return Err(wrong(&["files", path], message));
        }
    }
    Ok(())
}

/// Whether a value of a vault is long enough to be hidden in logs.
pub fn is_secret(text: &str) -> bool {
    text.chars().count() >= SECRET_MIN
}

fn few_enough(secrets: usize) -> Result<(), String> {
    if secrets > SECRETS_MAX {
        return Err(format!(
            "there are {secrets} values and lines of files to hide in the logs of jobs; the most is {SECRETS_MAX}"
        ));
    }
    Ok(())
}

/// The variables that the section `storage` sets.
fn storage_variables(content: &Value) -> BTreeSet<&'static str> {
    let given = |service: &str, key: &str| {
        let value = content.get("storage").and_then(|all| all.get(service)?.get(key));
        value.is_some_and(|value| !value.is_null())
    };
    let names = STORAGE.iter().filter(|(service, key, _)| given(service, key));
    let gs = given("gs", "credentials").then_some(GS_VARIABLE);
    names.flat_map(|(.., names)| names.iter().copied()).chain(gs).collect()
}

fn leaf_texts(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.values().for_each(|value| leaf_texts(value, into)),
        Value::Array(items) => items.iter().for_each(|value| leaf_texts(value, into)),
        Value::String(text) => into.extend(text.lines().map(str::to_owned)),
        _ => {}
    }
}

/// Every leaf as eight asterisks.
pub fn mask(content: &Value) -> Value {
    match content {
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), mask(value))).collect()),
        Value::Array(items) => Value::Array(items.iter().map(mask).collect()),
        _ => Value::String(MASKED.into()),
    }
}

fn leaves<'a>(value: &'a Value, path: &str, into: &mut BTreeMap<String, &'a Value>) {
    match value {
        Value::Object(map) if path.is_empty() || !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(value, &path, into);
            }
        }
        // A list is replaced as a whole and counts as one.
        _ => {
            into.insert(path.to_owned(), value);
        }
    }
}

/// Dotted paths of all leaves, sorted, at most 1000. A list is one leaf.
pub fn keys(content: &Value) -> Vec<String> {
    let mut all = BTreeMap::new();
    leaves(content, "", &mut all);
    all.into_keys().take(KEYS_MAX).collect()
}

/// Paths whose values differ, sorted, at most 1000.
pub fn changed_keys(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, "", &mut old);
    leaves(after, "", &mut new);
    let all: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    all.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .take(KEYS_MAX)
        .cloned()
        .collect()
}

/// `over` on top of `under`: trees merge, all else is replaced.
pub fn merge(under: Value, over: &Value) -> Value {
    match (under, over) {
        (Value::Object(mut map), Value::Object(over)) => {
            for (key, value) in over {
                let merged = match map.get_mut(key) {
                    Some(old) => merge(old.take(), value),
                    None => value.clone(),
                };
                map.insert(key.clone(), merged);
            }
            Value::Object(map)
        }
        (_, over) => over.clone(),
    }
}

/// One vault among those that apply.
pub struct Layer<'a> {
    pub name: &'a str,
    pub content: &'a Value,
    pub enforced: bool,
}

/// What the vaults that apply come to. Both are objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    pub plain: Value,
    pub enforced: Value,
}

impl Default for Effective {
    fn default() -> Self {
        Self {
            plain: json!({}),
            enforced: json!({}),
        }
    }
}

impl Effective {
    /// Layers come weakest first.
    pub fn of(layers: &[Layer]) -> Self {
        let mut all = Self::default();
        for layer in layers.iter().filter(|layer| layer.content.is_object()) {
            let side = if layer.enforced {
                &mut all.enforced
            } else {
                &mut all.plain
            };
            // A file is replaced as a whole: `content` of one and `content_base64` of another make no file.
            if let (Some(under), Some(over)) = (side.get_mut("files"), layer.content.get("files"))
                && let (Some(under), Some(over)) = (under.as_object_mut(), over.as_object())
            {
                under.retain(|path, _| !over.contains_key(path));
            }
            // `environment` stands above `storage` within one layer only.
            let set = storage_variables(layer.content);
            if let Some(under) = side.get_mut("environment").and_then(Value::as_object_mut) {
                under.retain(|name, _| !set.contains(name.as_str()));
            }
            *side = merge(side.take(), layer.content);
        }
        all
    }

    /// Plain with enforced on top.
    pub fn whole(&self) -> Value {
        merge(self.plain.clone(), &self.enforced)
    }

    /// What a job is given.
    ///
    /// # Errors
    /// In words: the job stops with them.
    pub fn for_job(&self) -> Result<LeaseVault, String> {
        let (plain, over) = (Side::of(&self.plain, false)?, Side::of(&self.enforced, true)?);
        let mut files = plain.files;
        files.extend(over.files);
        files_apart(&files)?;
        let whole = self.whole();
        if let Some(sdk) = map_of(&whole, &["sdk"])?.filter(|sdk| !sdk.is_empty()) {
            let enforced = map_of(&self.enforced, &["sdk"])?.is_some_and(|sdk| !sdk.is_empty());
            let content = BASE64.encode(Value::Object(sdk.clone()).to_string());
            files.insert(
                SDK_FILE.into(),
                LeaseFile {
                    path: SDK_FILE.into(),
                    mode: 0o600,
                    content,
                    enforced,
                },
            );
        }
        let mut secrets: Vec<String> = plain.secrets.union(&over.secrets).cloned().collect();
        few_enough(secrets.len())?;
        secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Ok(LeaseVault {
            env: plain.env,
            enforced_env: over.env,
            files: files.into_values().collect(),
            secrets,
        })
    }

    /// The section `agent` of both: settings, enforced.
    pub fn for_agent(&self) -> (Value, Value) {
        let of = |side: &Value| side.get("agent").cloned().unwrap_or(Value::Null);
        (of(&self.plain), of(&self.enforced))
    }
}

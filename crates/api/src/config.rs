//! `experiment.yaml`: reading, checking, and filling in of defaults. It speaks Determined's names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::agents::Limits;
use crate::names::{check_plain_name, nearest};
use crate::time::parse_duration_ms;

/// Largest configuration, in bytes of YAML or JSON.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of maps and lists.
pub const DEPTH_MAX: usize = 64;

/// A checked configuration: the parts that the server and the agent act on. The rest stays in [`Config::whole`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub name: Option<String>,
    pub workspace: Option<String>,
    pub project: Option<String>,
    /// A program and its arguments.
    pub command: Vec<String>,
    pub queue: Option<String>,
    /// What it is run on; after submission as OWNER/NAME.
    #[serde(default)]
    pub stack: Option<String>,
    pub slots: i64,
    pub priority: i64,
    pub env: BTreeMap<String, String>,
    /// Of the stack: below what vaults set.
    #[serde(default)]
    pub stack_env: BTreeMap<String, String>,
    pub max_restarts: i64,
    pub limits: Limits,
    pub grace_ms: i64,
    /// Everything as given, with defaults filled in: what `ML_CONFIG` holds.
    pub whole: Value,
}

const TOP: &[&str] = &[
    "name",
    "description",
    "labels",
    "notes",
    "data",
    "workspace",
    "project",
    "stack",
    "entrypoint",
    "hyperparameters",
    "searcher",
    "resources",
    "environment",
    "max_restarts",
    "grace_period",
    "reproducibility",
    "records_per_epoch",
    "scheduling_unit",
    "min_validation_period",
    "min_checkpoint_period",
    "perform_initial_validation",
    "debug",
];
const RESOURCES: &[&str] = &[
    "slots_per_trial",
    "priority",
    "queue",
    "resource_pool",
    "memory_mb",
    "max_processes",
    "time_limit",
    "disk_mb",
];
const ENVIRONMENT: &[&str] = &["environment_variables"];
const SEARCHER: &[&str] = &[
    "name",
    "metric",
    "smaller_is_better",
    "max_length",
    "max_time",
    "time_metric",
];

/// Reads YAML (or JSON, which is YAML) into a JSON object, with bounds on size and depth.
///
/// # Errors
/// In words for the user, with line and column where the reader knows them.
pub fn parse_yaml(text: &str) -> Result<Value, String> {
    if text.len() > CONFIG_BYTES_MAX {
        return Err(format!(
            "the configuration has {} bytes; the most is {CONFIG_BYTES_MAX}",
            text.len()
        ));
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| {
        let (words, place) = yaml_words(&error);
        let place = place.map(|(line, column)| format!(" (line {line}, column {column})"));
        format!("the configuration {words}{}", place.unwrap_or_default())
    })?;
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Ok(json!({})),
        other => Err(format!(
            "the configuration is {}, not a map of keys and values",
            kind(&other)
        )),
    }
}

/// What is wrong, in one line without the reader's own terms, and where: line and column.
pub(crate) fn yaml_words(error: &serde_saphyr::Error) -> (String, Option<(u64, u64)>) {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;

    let error = error.without_snippet();
    let place = match error.location() {
        Some(at) if at.line() > 0 => Some((at.line(), at.column())),
        _ => None,
    };
    let words = match error {
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Depth { .. } => format!("it is nested deeper than {DEPTH_MAX} levels"),
            BudgetBreach::Documents { .. } => "it holds more than one document".into(),
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } | BudgetBreach::AliasAnchorRatio { .. } => {
                "it refers to other parts of itself too often".into()
            }
            _ => "it holds too much, its references to other parts of itself counted as what they stand for".into(),
        },
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => "it refers to other parts of itself too often".into(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "a part of it refers to itself".into(),
        Error::MultipleDocuments { .. } => "it holds more than one document".into(),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{}` stands there twice", shortened(key, 80))
        }
        Error::DuplicateMappingKey { key: None, .. } => "a key stands there twice".into(),
        Error::AliasError { error, .. } => return yaml_words(error),
        other => {
            let said = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            let said = said.lines().next().unwrap_or_default();
            // Its own words for a place say the same as ours.
            let said = said.split(" at line ").next().unwrap_or_default();
            return (format!("is not valid YAML: {}", shortened(said, 200)), place);
        }
    };
    (format!("cannot be read: {words}"), place)
}

fn shortened(text: &str, characters_max: usize) -> String {
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let mut short: String = text.chars().take(characters_max).map(plain).collect();
    if text.chars().nth(characters_max).is_some() {
        short.push('…');
    }
    short
}

/// Sets `a.b.c` to a value typed as YAML would type it: `--config hyperparameters.lr=0.1`.
pub fn set(config: &mut Value, assignment: &str) -> Result<(), String> {
    let (path, text) = assignment
        .split_once('=')
        .ok_or_else(|| format!("`{assignment}` is not of the form key=value"))?;
    let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    if path.split('.').count() > DEPTH_MAX {
        return Err(format!("the setting is nested deeper than {DEPTH_MAX} levels"));
    }
    let mut at = config;
    let mut keys = path.split('.').peekable();
    while let Some(key) = keys.next() {
        if key.is_empty() {
            return Err(format!("`{path}` has an empty part"));
        }
        if at.is_null() {
            *at = json!({});
        }
        let map = at
            .as_object_mut()
            .ok_or_else(|| format!("`{path}` leads through something that is not a map"))?;
        if keys.peek().is_none() {
            map.insert(key.to_owned(), value);
            return Ok(());
        }
        at = map.entry(key).or_insert_with(|| json!({}));
    }
    unreachable!("split gives at least one part")
}

/// Checks a configuration and fills in defaults.
pub fn check(mut whole: Value, args: &[String]) -> Result<Config, String> {
    if depth(&whole) > DEPTH_MAX {
        return Err(format!("the configuration is nested deeper than {DEPTH_MAX} levels"));
    }
    if whole.is_null() {
        whole = json!({});
    }
    let top = whole
        .as_object_mut()
        .ok_or("the configuration is not a map of keys and values")?;
    if serde_json::to_vec(top).map_or(0, |text| text.len()) > CONFIG_BYTES_MAX {
        return Err(format!("the configuration has more than {CONFIG_BYTES_MAX} bytes"));
    }
    known_keys(top, "", TOP)?;

    let name = text(top, "name")?;
    if let Some(name) = &name {
        check_plain_name("an experiment", name)?;
    }
    let command = command(top.get("entrypoint"), args)?;
    let searcher = section(top, "searcher", SEARCHER)?;
    if let Some(kind) = text(&searcher, "name")?
        && kind != "single"
    {
        return Err(format!(
            "searcher.name is `{kind}`; this server runs one trial per experiment: `single`"
        ));
    }
    if let Some(Value::Object(parameters)) = top.get("hyperparameters") {
        for (key, value) in parameters {
            if let Some(kind) = value.get("type").and_then(Value::as_str)
                && ["int", "double", "log", "categorical"].contains(&kind)
            {
                return Err(format!(
                    "hyperparameters.{key} is a range (`{kind}`); a single trial needs a value"
                ));
            }
        }
    } else if top.get("hyperparameters").is_some_and(|value| !value.is_null()) {
        return Err("hyperparameters is not a map".into());
    }

    let resources = section(top, "resources", RESOURCES)?;
    let slots = number(&resources, "resources.slots_per_trial", 0..=1024)?.unwrap_or(1);
    let priority = number(&resources, "resources.priority", 1..=99)?.unwrap_or(42);
    let time_ms = match resources.get("time_limit") {
        None | Some(Value::Null) => None,
        Some(Value::Number(seconds)) => {
            Some(parse_duration_ms(&seconds.to_string()).map_err(|why| format!("resources.time_limit: {why}"))?)
        }
        Some(Value::String(text)) => {
            Some(parse_duration_ms(text).map_err(|why| format!("resources.time_limit: {why}"))?)
        }
        Some(other) => {
            return Err(format!(
                "resources.time_limit is {}, not a duration such as 2h",
                kind(other)
            ));
        }
    };
    if time_ms.is_some_and(|time_ms| time_ms < 1000) {
        return Err("resources.time_limit is shorter than 1s".into());
    }
    let limits = Limits {
        memory_mb: number(&resources, "resources.memory_mb", 1..=1 << 30)?,
        max_processes: number(&resources, "resources.max_processes", 1..=1 << 22)?,
        disk_mb: number(&resources, "resources.disk_mb", 1..=1 << 40)?,
        time_ms,
    };
    let queue = match text(&resources, "queue")? {
        Some(queue) => Some(queue),
        None => text(&resources, "resource_pool")?.filter(|pool| !pool.is_empty()),
    };
    let environment = section(top, "environment", ENVIRONMENT)?;
    let env = variables(environment.get("environment_variables"))?;
    let max_restarts = number(top, "max_restarts", 0..=1000)?.unwrap_or(0);
    let grace_ms = match top.get("grace_period") {
        None | Some(Value::Null) => 15_000,
        Some(Value::String(text)) => parse_duration_ms(text).map_err(|why| format!("grace_period: {why}"))?,
        Some(Value::Number(seconds)) => {
            parse_duration_ms(&seconds.to_string()).map_err(|why| format!("grace_period: {why}"))?
        }
        Some(other) => return Err(format!("grace_period is {}, not a duration such as 30s", kind(other))),
    };
    if grace_ms > 3_600_000 {
        return Err("grace_period is longer than 1h".into());
    }
    let (workspace, project, stack) = (text(top, "workspace")?, text(top, "project")?, text(top, "stack")?);
    Ok(Config {
        name,
        workspace,
        project,
        command,
        queue,
        stack,
        slots,
        priority,
        env,
        stack_env: BTreeMap::new(),
        max_restarts,
        limits,
        grace_ms,
        whole,
    })
}

fn command(entrypoint: Option<&Value>, args: &[String]) -> Result<Vec<String>, String> {
    let mut command = match entrypoint {
        None | Some(Value::Null) => return Err("the configuration has no `entrypoint`: say what to run".into()),
        // "$@" hands the arguments on without another round of splitting.
        Some(Value::String(script)) if !script.trim().is_empty() && args.is_empty() => {
            vec!["sh".into(), "-c".into(), script.clone()]
        }
        Some(Value::String(script)) if !script.trim().is_empty() => {
            vec!["sh".into(), "-c".into(), format!("{script} \"$@\""), "sh".into()]
        }
        Some(Value::Array(words)) if !words.is_empty() => words
            .iter()
            .map(|word| match word {
                Value::String(word) => Ok(word.clone()),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(format!("entrypoint holds {}; write its words as text", kind(other))),
            })
            .collect::<Result<Vec<_>, _>>()?,
        Some(Value::String(_) | Value::Array(_)) => return Err("`entrypoint` is empty: say what to run".into()),
        Some(other) => return Err(format!("entrypoint is {}, not text or a list of words", kind(other))),
    };
    command.extend(args.iter().cloned());
    if command.iter().any(|word| word.contains('\0')) {
        return Err("the entrypoint contains a zero byte".into());
    }
    Ok(command)
}

/// Variables as a list of `KEY=VALUE` or a map, as in `environment.environment_variables`.
///
/// # Errors
/// Which of them cannot be one.
pub fn variables(value: Option<&Value>) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        if key.is_empty() || key.contains('=') || key.contains('\0') || value.contains('\0') {
            return Err(format!("`{key}` cannot be an environment variable"));
        }
        env.insert(key.to_owned(), value);
        Ok(())
    };
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for item in items {
                let pair = item.as_str().and_then(|item| item.split_once('='));
                let (key, value) = pair.ok_or("environment.environment_variables: each entry is KEY=VALUE")?;
                put(key, value.to_owned())?;
            }
        }
        Some(Value::Object(map)) => {
            for (key, value) in map {
                match value {
                    Value::String(text) => put(key, text.clone())?,
                    Value::Number(_) | Value::Bool(_) => put(key, value.to_string())?,
                    other => {
                        return Err(format!(
                            "environment.environment_variables.{key} is {}, not text",
                            kind(other)
                        ));
                    }
                }
            }
        }
        Some(other) => {
            return Err(format!(
                "environment.environment_variables is {}, not a list or map",
                kind(other)
            ));
        }
    }
    Ok(env)
}

pub(crate) fn known_keys(map: &Map<String, Value>, path: &str, known: &[&str]) -> Result<(), String> {
    for key in map.keys() {
        if !known.contains(&key.as_str()) {
            let meant = nearest(key, known.iter().copied()).map(|meant| format!("; did you mean `{path}{meant}`?"));
            let meant = meant.unwrap_or_else(|| format!("; known here: {}", known.join(", ")));
            return Err(format!("unknown key `{path}{key}`{meant}"));
        }
    }
    Ok(())
}

fn section(top: &Map<String, Value>, key: &str, known: &[&str]) -> Result<Map<String, Value>, String> {
    match top.get(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => {
            known_keys(map, &format!("{key}."), known)?;
            Ok(map.clone())
        }
        Some(other) => Err(format!("{key} is {}, not a map", kind(other))),
    }
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("{key} is {}, not text", kind(other))),
    }
}

fn number(map: &Map<String, Value>, path: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, String> {
    let key = path.rsplit('.').next().expect("rsplit gives at least one part");
    let (low, high) = (range.start(), range.end());
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            Some(number) => Err(format!("{path} is {number}; it must be between {low} and {high}")),
            None => Err(format!("{path} is {}, not a whole number", kind(value))),
        },
    }
}

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(yaml: &str) -> Result<Config, String> {
        check(parse_yaml(yaml)?, &[])
    }

    #[test]
    fn a_configuration_of_the_seed_is_understood() {
        let config = checked(
            "name: digits\nentrypoint: python3 train.py\nhyperparameters:\n  lr: 0.1\nsearcher:\n  name: single\n  metric: loss\n  max_length: {batches: 10}\nresources:\n  slots_per_trial: 2\n  time_limit: 2h\nenvironment:\n  environment_variables: [A=1, B=x=y]\nmax_restarts: 3\n",
        )
        .unwrap();
        assert_eq!(config.command, ["sh", "-c", "python3 train.py"]);
        assert_eq!((config.slots, config.priority, config.max_restarts), (2, 42, 3));
        assert_eq!(config.limits.time_ms, Some(7_200_000));
        assert_eq!(config.env["B"], "x=y");
    }

    #[test]
    fn what_is_wrong_is_named_with_the_nearest_known_key() {
        assert_eq!(
            checked("entrypoint: x\nmax_restart: 1").unwrap_err(),
            "unknown key `max_restart`; did you mean `max_restarts`?"
        );
        assert_eq!(
            checked("entrypoint: x\nresources: {slots_per_trail: 1}").unwrap_err(),
            "unknown key `resources.slots_per_trail`; did you mean `resources.slots_per_trial`?"
        );
        assert!(checked("name: x").unwrap_err().contains("no `entrypoint`"));
        assert!(
            checked("entrypoint: x\nmax_restarts: -1")
                .unwrap_err()
                .contains("between 0 and 1000")
        );
        assert!(
            checked("entrypoint: x\nhyperparameters: {lr: {type: log, minval: 1}}")
                .unwrap_err()
                .contains("is a range")
        );
        for time_limit in ["0s", "0", "999ms"] {
            let yaml = format!("entrypoint: x\nresources: {{time_limit: {time_limit}}}");
            assert_eq!(checked(&yaml).unwrap_err(), "resources.time_limit is shorter than 1s");
        }
        assert!(checked("[1, 2]").unwrap_err().contains("is a list"));
        assert!(checked("a: b: c").unwrap_err().contains("not valid YAML"));
    }

    #[test]
    fn what_cannot_be_read_is_said_in_one_line_with_its_place() {
        let nested = format!("a: {}{}", "[".repeat(80), "]".repeat(80));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            bomb += &format!(
                "a{level}: &a{level} [{}]\n",
                vec![format!("*a{}", level - 1); 9].join(", ")
            );
        }
        for (yaml, words) in [
            (nested.as_str(), "it is nested deeper than 64 levels (line 1, "),
            (
                "a: 1\nb: 2\na: 3\n",
                "the key `a` stands there twice (line 3, column 1)",
            ),
            (
                "a: 1\n---\nb: 2\n",
                "it holds more than one document (line 3, column 1)",
            ),
            (bomb.as_str(), "references to other parts of itself counted"),
            ("a: &a [*a]\n", "(line 1, "),
            ("a: b: c", "not valid YAML: "),
            ("a: [1, 2\nb: 3\n", "not valid YAML: "),
            ("a: *nothing\n", "(line 1, "),
            ("a:\n\t- b\n", "not valid YAML: "),
            ("a: \"x", "not valid YAML: "),
            ("? [1, 2]\n: 3\n", "(line 1, "),
        ] {
            let said = parse_yaml(yaml).unwrap_err();
            println!("{said}");
            assert!(said.contains(words), "{said}");
            assert_eq!((said.lines().count(), said.matches("line ").count()), (1, 1), "{said}");
            assert!(
                said.chars().count() < 300 && !said.contains("Options") && !said.contains('{') && !said.contains("::"),
                "{said}"
            );
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        assert!(
            parse_yaml(&"x".repeat(CONFIG_BYTES_MAX + 1))
                .unwrap_err()
                .contains("the most is")
        );
        assert!(checked(&format!("{}{}", "[".repeat(5000), "]".repeat(5000))).is_err());
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({"a": deep});
        }
        assert!(
            check(json!({"entrypoint": "x", "data": deep}), &[])
                .unwrap_err()
                .contains("deeper")
        );
    }

    #[test]
    fn single_settings_are_typed_as_yaml_types_them() {
        let mut config = json!({});
        set(&mut config, "hyperparameters.lr=0.1").unwrap();
        set(&mut config, "name=green light").unwrap();
        assert_eq!(config, json!({"hyperparameters": {"lr": 0.1}, "name": "green light"}));
        assert!(set(&mut config, "name.x=1").unwrap_err().contains("not a map"));
        assert!(set(&mut config, "novalue").is_err());
    }

    #[test]
    fn arguments_reach_the_program_unsplit() {
        let config = check(
            json!({"entrypoint": "python3 train.py"}),
            &["--lr".into(), "a b".into()],
        )
        .unwrap();
        assert_eq!(
            config.command,
            ["sh", "-c", "python3 train.py \"$@\"", "sh", "--lr", "a b"]
        );
    }
}

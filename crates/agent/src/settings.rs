//! What can be set for an agent in several places: built-in < configuration file < vaults of its account (section `agent`) < command line < enforced vaults.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::job_dir::Isolate;
use crate::vault::check_variable;
use bailiwick_api::vault::is_secret;

/// The settings of one place; what it does not say is left to those below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Environment for all jobs.
    pub job_env: BTreeMap<String, String>,
    pub isolate: Option<Isolate>,
    /// Directories no job may see: the server's data. A program that jobs need must not stand in one. Those of all places count.
    pub protect: Vec<PathBuf>,
    /// The queues take turns instead of one waiting for those before it.
    pub fair: Option<bool>,
}

/// What describes the machine and the way to the server cannot come from a vault, which is for many machines.
const OF_THE_MACHINE: &[&str] = &[
    "ca",
    "cuda_version",
    "cudnn_version",
    "debug",
    "default_python",
    "dir",
    "gpus",
    "key_file",
    "name",
    "queue",
    "queues",
    "server",
    "slots",
    "use_owner_token",
    "worker_id",
    "worker_name",
];

/// A section `agent` as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Section {
    pub settings: Settings,
    /// What it says, by name, without values.
    pub names: Vec<String>,
    /// Keys that describe the machine, which are left out.
    pub ignored: Vec<String>,
}

impl Section {
    /// # Errors
    /// Names what cannot be used, in words without its value.
    pub fn read(section: &Value) -> Result<Section, String> {
        let mut read = Section::default();
        let map = match section {
            Value::Null => return Ok(read),
            Value::Object(map) => map,
            _ => return Err("`agent` is to be a map".into()),
        };
        for (key, value) in map {
            let to_be = |what: &str| format!("`agent.{key}` is to be {what}");
            let settings = &mut read.settings;
            match key.as_str() {
                "job_env" => {
                    let map = value.as_object().ok_or_else(|| to_be("a map of variables"))?;
                    for (name, value) in map {
                        let text = match value {
                            Value::String(text) => text.clone(),
                            Value::Bool(_) | Value::Number(_) => value.to_string(),
                            _ => return Err(format!("`agent.job_env.{name}` is to be a text")),
                        };
                        check_variable(name, &text).map_err(|why| format!("`agent.job_env.{name}`: {why}"))?;
                        settings.job_env.insert(name.clone(), text);
                    }
                    let names: Vec<&str> = map.keys().map(String::as_str).collect();
                    read.names.push(format!("job_env ({})", names.join(", ")));
                    continue;
                }
                "isolate" => {
                    let isolate = value.as_str().and_then(Isolate::parse);
                    settings.isolate = Some(isolate.ok_or_else(|| to_be("`auto`, `require` or `none`"))?);
                }
                "protect" => {
                    let list = value.as_array().ok_or_else(|| to_be("a list of directories"))?;
                    for place in list {
                        // The root cannot be hidden, and whoever asked for it would believe that it is.
                        let plain = |path: &&Path| {
                            path.is_absolute()
                                && path.parent().is_some()
                                && path.components().all(|part| part != Component::ParentDir)
                        };
                        let path = place.as_str().map(Path::new).filter(plain);
                        let path = path.ok_or_else(|| to_be("a list of directories, each with its whole path"))?;
                        settings.protect.push(path.to_owned());
                    }
                }
                "fair" => settings.fair = Some(value.as_bool().ok_or_else(|| to_be("true or false"))?),
                _ if OF_THE_MACHINE.contains(&key.as_str()) => {
                    read.ignored.push(key.clone());
                    continue;
                }
                _ => {
                    return Err(format!(
                        "`agent.{key}` is not known to this agent: it has job_env, isolate, protect and fair"
                    ));
                }
            }
            read.names.push(key.clone());
        }
        Ok(read)
    }
}

/// What holds.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    pub isolate: Isolate,
    pub fair: bool,
    pub protect: Vec<PathBuf>,
    /// Below the variables of a job's vaults.
    pub default_env: BTreeMap<String, String>,
    /// The command line's.
    pub job_env: BTreeMap<String, String>,
    /// Above the experiment's own.
    pub enforced_env: BTreeMap<String, String>,
    /// What vaults say of these variables: hidden in the logs of all jobs.
    pub secrets: Vec<String>,
}

impl InForce {
    /// The weakest first.
    pub fn of(configured: &Settings, vault: &Settings, given: &Settings, enforced: &Settings) -> InForce {
        let all = [configured, vault, given, enforced];
        let mut protect: Vec<PathBuf> = all.iter().flat_map(|settings| settings.protect.clone()).collect();
        protect.sort();
        protect.dedup();
        let mut default_env = configured.job_env.clone();
        default_env.extend(vault.job_env.clone());
        InForce {
            isolate: all
                .iter()
                .rev()
                .find_map(|settings| settings.isolate)
                .unwrap_or_default(),
            fair: all.iter().rev().find_map(|settings| settings.fair).unwrap_or(false),
            protect,
            default_env,
            job_env: given.job_env.clone(),
            enforced_env: enforced.job_env.clone(),
            secrets: [vault, enforced]
                .iter()
                .flat_map(|settings| settings.job_env.values())
                .filter(|text| is_secret(text))
                .cloned()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(section: Value) -> Settings {
        Section::read(&section).unwrap().settings
    }

    #[test]
    fn the_stronger_place_counts_and_protected_directories_add_up() {
        let configured =
            read(json!({"isolate": "none", "fair": true, "protect": ["/a"], "job_env": {"A": "file", "B": 1}}));
        let vault =
            read(json!({"isolate": "auto", "protect": ["/b", "/a"], "job_env": {"A": "vault", "C": "of a vault"}}));
        let given = read(json!({"fair": false, "job_env": {"A": "given"}}));
        let none = Settings::default();
        let force = InForce::of(&configured, &vault, &given, &none);
        assert_eq!((force.isolate, force.fair), (Isolate::Auto, false));
        assert_eq!(force.protect, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(
            (&force.default_env["A"][..], &force.default_env["B"][..]),
            ("vault", "1")
        );
        assert_eq!(force.job_env["A"], "given");
        // Neither what is too short to be one nor what stands in the configuration file or on the command line.
        assert_eq!(force.secrets, ["of a vault"]);
        let enforced = read(json!({"isolate": "require", "fair": true, "job_env": {"A": "enforced"}}));
        let force = InForce::of(&configured, &vault, &given, &enforced);
        assert_eq!((force.isolate, force.fair), (Isolate::Require, true));
        assert_eq!(force.enforced_env["A"], "enforced");
        assert_eq!(force.secrets, ["of a vault", "enforced"]);
        assert_eq!(InForce::of(&none, &none, &none, &none).isolate, Isolate::Auto);
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_value() {
        for (section, part) in [
            (json!([]), "a map"),
            (json!({"isolate": "hunter2"}), "`auto`, `require` or `none`"),
            (json!({"isolate": true}), "`agent.isolate`"),
            (json!({"fair": "hunter2"}), "true or false"),
            (json!({"protect": "/hunter2"}), "a list of directories"),
            (json!({"protect": ["hunter2"]}), "whole path"),
            (json!({"protect": ["/"]}), "whole path"),
            (json!({"job_env": {"A": ["hunter2"]}}), "`agent.job_env.A`"),
            (json!({"job_env": {"A": "hunter2\0"}}), "zero byte"),
            (json!({"isolat": "hunter2"}), "not known"),
        ] {
            let why = Section::read(&section).unwrap_err();
            assert!(why.contains(part) && !why.contains("hunter2"), "{section}: {why}");
        }
        let section = Section::read(&json!({"slots": 4, "job_env": {"A": "hunter2"}, "fair": true})).unwrap();
        assert_eq!(section.ignored, ["slots"]);
        assert_eq!(section.names, ["job_env (A)", "fair"]);
        assert_eq!(Section::read(&Value::Null).unwrap(), Section::default());
    }
}

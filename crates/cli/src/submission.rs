//! From a path and flags to what is submitted: a configuration, the directory to send along, arguments.

use std::io::Read;
use std::path::{Path, PathBuf};

use bailiwick_api::config::{self, CONFIG_BYTES_MAX};
use bailiwick_api::names::{check_plain_name, name_key, nearest};
use bailiwick_api::workspaces::DEFAULT_WORKSPACE;
use serde_json::{Map, Value, json};

use crate::args::Submission;
use crate::failure::{Failure, Result};
use crate::settings::Settings;

/// What is to be run, read from disk.
#[derive(Debug)]
pub struct Source {
    pub config: Value,
    /// Sent along, and the working directory of the job.
    pub directory: PathBuf,
    /// The name if neither the configuration nor a flag gives one.
    pub default_name: String,
    /// The file in `directory` that the job begins with, where we know it.
    pub first_file: Option<PathBuf>,
}

/// A directory, a YAML file or a script.
pub fn source(path: &Path) -> Result<Source> {
    let meta = std::fs::metadata(path).map_err(|why| match why.kind() {
        std::io::ErrorKind::NotFound => nothing_there(path),
        _ => Failure::file("read", path, &why),
    })?;
    if meta.is_dir() {
        return of_directory(path);
    }
    if !meta.is_file() {
        return Err(Failure::new(format!(
            "{} is neither a directory nor a file",
            path.display()
        )));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => Ok(Source {
            config: read_config(path)?,
            default_name: stem_or_directory(path, &directory)?,
            first_file: None,
            directory,
        }),
        _ => of_script(path, directory),
    }
}

/// A YAML file and a directory apart from it.
pub fn source_of_two(file: &Path, directory: &Path) -> Result<Source> {
    let meta = std::fs::metadata(file).map_err(|why| match why.kind() {
        std::io::ErrorKind::NotFound => nothing_there(file),
        _ => Failure::file("read", file, &why),
    })?;
    if !meta.is_file() {
        return Err(Failure::new(format!("{} is not a file", file.display())));
    }
    if !directory.is_dir() {
        return Err(match directory.exists() {
            true => Failure::new(format!("{} is not a directory", directory.display())),
            false => nothing_there(directory),
        });
    }
    Ok(Source {
        config: read_config(file)?,
        default_name: stem_or_directory(file, directory)?,
        directory: directory.to_owned(),
        first_file: None,
    })
}

fn of_directory(path: &Path) -> Result<Source> {
    let default_name = directory_name(path)?;
    for name in ["experiment.yaml", "experiment.yml"] {
        let file = path.join(name);
        if file.is_file() {
            return Ok(Source {
                config: read_config(&file)?,
                directory: path.to_owned(),
                default_name,
                first_file: None,
            });
        }
    }
    for name in ["train.py", "main.py"] {
        if path.join(name).is_file() {
            return Ok(Source {
                config: json!({"entrypoint": ["python3", name]}),
                directory: path.to_owned(),
                default_name,
                first_file: Some(name.into()),
            });
        }
    }
    Err(Failure::new(format!(
        "nothing to run in {}: it has no experiment.yaml, train.py or main.py",
        path.display()
    ))
    .hint("name the script itself, as in `ml run DIR/script.py`, or write an experiment.yaml with an `entrypoint`"))
}

fn of_script(path: &Path, directory: PathBuf) -> Result<Source> {
    use std::os::unix::fs::PermissionsExt;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::new(format!("the name of {} is not UTF-8", path.display())))?;
    let is_executable = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    let entrypoint = match path.extension().and_then(|extension| extension.to_str()) {
        // As a path: a script whose name begins with a dash is no option.
        Some("py") => json!(["python3", format!("./{name}")]),
        Some("sh") => json!(["sh", format!("./{name}")]),
        _ if is_executable => json!([format!("./{name}")]),
        _ => {
            return Err(
                Failure::new(format!("do not know how to run {}", path.display())).hint(format!(
                    "it is neither .py, .sh, .yaml nor executable; if it is a program: chmod +x {}",
                    path.display()
                )),
            );
        }
    };
    Ok(Source {
        config: json!({"entrypoint": entrypoint}),
        default_name: stem(path),
        first_file: Some(name.into()),
        directory,
    })
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// `experiment.yaml` is called so in every directory: then the directory's name says more.
fn stem_or_directory(file: &Path, directory: &Path) -> Result<String> {
    match stem(file) {
        stem if stem == "experiment" => directory_name(directory),
        stem => Ok(stem),
    }
}

fn directory_name(path: &Path) -> Result<String> {
    let whole = path.canonicalize().map_err(|why| Failure::file("read", path, &why))?;
    Ok(whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default())
}

fn nothing_there(path: &Path) -> Failure {
    let failure = Failure::new(format!("there is no {}", path.display()));
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(word) = path.file_name().and_then(|name| name.to_str()) else {
        return failure;
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return failure;
    };
    let names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    match nearest(word, names.iter().map(String::as_str)) {
        Some(meant) => failure.hint(format!("did you mean {}?", path.with_file_name(meant).display())),
        None => failure.hint("PATH is a directory, a YAML file or a script"),
    }
}

fn read_config(path: &Path) -> Result<Value> {
    let file = std::fs::File::open(path).map_err(|why| Failure::file("read", path, &why))?;
    let too_large = || {
        Failure::new(format!(
            "{} is too large for a configuration: the most is {CONFIG_BYTES_MAX} bytes",
            path.display()
        ))
        .hint("put data into files of their own beside it; the whole directory is sent along")
    };
    // Before it is read whole, and again below in case it grows meanwhile.
    if file.metadata().is_ok_and(|meta| meta.len() > CONFIG_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|why| Failure::file("read", path, &why))?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(too_large());
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::new(format!("{} is not UTF-8 text", path.display())))?;
    config::parse_yaml(&text).map_err(|why| Failure::new(format!("{}: {why}", path.display())))
}

/// The configuration with all that flags and settings say, checked as the server will check it.
pub fn finish(source: &Source, with: &Submission, settings: &Settings, args: &[String]) -> Result<Value> {
    let mut whole = source.config.clone();
    for assignment in &with.config {
        config::set(&mut whole, assignment).map_err(|why| Failure::wrong_usage(format!("--config: {why}")))?;
    }
    let top = whole
        .as_object_mut()
        .ok_or_else(|| Failure::new("the configuration is not a map of keys and values"))?;
    for (key, flag) in [
        ("name", &with.name),
        ("workspace", &with.workspace),
        ("project", &with.project),
        ("stack", &with.stack),
    ] {
        if let Some(value) = flag {
            top.insert(key.into(), json!(value));
        }
    }
    if let Some(restarts) = with.max_restarts {
        top.insert("max_restarts".into(), json!(restarts));
    }
    let numbers = [
        ("slots_per_trial", with.slots),
        ("priority", with.priority),
        ("memory_mb", with.memory_mb),
        ("max_processes", with.max_processes),
        ("disk_mb", with.disk_mb),
    ];
    for (key, flag) in numbers {
        if let Some(value) = flag {
            section(top, "resources")?.insert(key.into(), json!(value));
        }
    }
    for (key, flag) in [("queue", &with.queue), ("time_limit", &with.time_limit)] {
        if let Some(value) = flag {
            section(top, "resources")?.insert(key.into(), json!(value));
        }
    }
    add_variables(top, &with.env)?;

    // What stands nowhere yet comes from the settings of the project or the user.
    if let Some(workspace) = &settings.workspace
        && is_absent(top, "workspace")
    {
        top.insert("workspace".into(), json!(workspace.value));
    }
    // The project of the settings is one of their workspace, and of no other.
    let of_settings = settings
        .workspace
        .as_ref()
        .map_or(DEFAULT_WORKSPACE, |workspace| &workspace.value);
    let is_there = match top.get("workspace") {
        Some(Value::String(workspace)) => name_key(workspace) == name_key(of_settings),
        other => other.is_none_or(Value::is_null) && of_settings == DEFAULT_WORKSPACE,
    };
    if let Some(project) = &settings.project
        && is_there
        && is_absent(top, "project")
    {
        top.insert("project".into(), json!(project.value));
    }
    if let Some(stack) = &settings.stack
        && is_absent(top, "stack")
    {
        top.insert("stack".into(), json!(stack.value));
    }
    // A stack says itself where its work waits: a queue that is merely remembered does not count beside it.
    if let Some(queue) = &settings.queue
        && is_absent(top, "stack")
    {
        let resources = section(top, "resources")?;
        if is_absent(resources, "queue") && is_absent(resources, "resource_pool") {
            resources.insert("queue".into(), json!(queue.value));
        }
    }
    if is_absent(top, "name") {
        check_plain_name("the experiment", &source.default_name).map_err(|why| {
            Failure::new(format!(
                "`{}` cannot be its name: {why}",
                crate::output::printable(&source.default_name)
            ))
            .hint("give it one with --name NAME")
        })?;
        top.insert("name".into(), json!(source.default_name));
    }
    config::check(whole.clone(), args).map_err(Failure::new)?;
    Ok(whole)
}

fn is_absent(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_none_or(Value::is_null)
}

fn section<'a>(top: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>> {
    let value = top.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or_else(|| Failure::new(format!("{key} is not a map")))
}

/// `KEY=VALUE`, or `KEY` alone for the value it has here; in place of what the YAML gives the same name.
fn add_variables(top: &mut Map<String, Value>, assignments: &[String]) -> Result<()> {
    for assignment in assignments {
        let (key, value) = match assignment.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => {
                let value = std::env::var(assignment).map_err(|_| {
                    Failure::wrong_usage(format!("--env {assignment}: no such variable is set here"))
                        .hint(format!("give the value too: --env {assignment}=VALUE"))
                })?;
                (assignment.as_str(), value)
            }
        };
        let environment = section(top, "environment")?;
        match environment.entry("environment_variables").or_insert(Value::Null) {
            Value::Array(list) => {
                let prefix = format!("{key}=");
                list.retain(|item| !item.as_str().is_some_and(|item| item.starts_with(&prefix)));
                list.push(json!(format!("{key}={value}")));
            }
            Value::Object(map) => {
                map.insert(key.to_owned(), json!(value));
            }
            empty @ Value::Null => *empty = json!([format!("{key}={value}")]),
            _ => return Err(Failure::new("environment.environment_variables is not a list or map")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Command};
    use crate::settings::Sources;

    /// `ml run` of a path in a directory with these files, with some flags.
    fn submitted(files: &[(&str, &str)], path: &str, flags: &str) -> Result<Value> {
        let directory = tempfile::tempdir().unwrap();
        let work = directory.path().join("my-experiment");
        std::fs::create_dir(&work).unwrap();
        for (name, text) in files {
            std::fs::write(work.join(name), text).unwrap();
        }
        let line = format!("ml run {} {flags}", work.join(path).display());
        let (cli, common) = args::parse(line.split_whitespace().map(Into::into)).unwrap_or_else(|why| panic!("{why}"));
        let Some(Command::Run(run)) = cli.command else {
            panic!("that was `run`");
        };
        let settings = Settings::read_from(&Sources {
            common: &common,
            env: &|name| (name == "ML_QUEUE").then(|| "slow".to_owned()),
            home: directory.path().join("home"),
            directory: directory.path().to_owned(),
        })?;
        finish(&source(&run.path)?, &run.with, &settings, &run.args)
    }

    #[test]
    fn a_directory_says_itself_what_to_run() {
        let config = submitted(&[("train.py", ""), ("main.py", "")], "", "").unwrap();
        let expected =
            json!({"entrypoint": ["python3", "train.py"], "resources": {"queue": "slow"}, "name": "my-experiment"});
        assert_eq!(config, expected);
        let config = submitted(
            &[
                ("train.py", ""),
                ("experiment.yaml", "entrypoint: ./go\nname: green light"),
            ],
            ".",
            "",
        )
        .unwrap();
        assert_eq!(
            (&config["entrypoint"], &config["name"]),
            (&json!("./go"), &json!("green light"))
        );
        assert!(
            submitted(&[("other.py", "")], "", "")
                .unwrap_err()
                .message
                .contains("nothing to run in")
        );
    }

    #[test]
    fn a_script_runs_with_what_its_name_says() {
        let config = submitted(&[("-x.py", "")], "-x.py", "").unwrap();
        assert_eq!(
            (&config["entrypoint"], &config["name"]),
            (&json!(["python3", "./-x.py"]), &json!("-x"))
        );
        assert_eq!(
            submitted(&[("a.sh", "")], "a.sh", "").unwrap()["entrypoint"],
            json!(["sh", "./a.sh"])
        );
        let failure = submitted(&[("program", "")], "program", "").unwrap_err();
        assert!(failure.hint.unwrap().contains("chmod +x"));
    }

    #[test]
    fn flags_count_more_than_the_file_and_the_file_more_than_settings() {
        let yaml = "entrypoint: x\nresources: {resource_pool: pool, slots_per_trial: 1}\nenvironment: {environment_variables: [A=1, B=2]}\n";
        let flags =
            "--slots 2 --env A=3 --env C=a=b --config hyperparameters.lr=0.1 --time-limit 2h --name n --max-restarts 1";
        let config = submitted(&[("e.yaml", yaml)], "e.yaml", flags).unwrap();
        assert_eq!(
            config,
            json!({
                "entrypoint": "x",
                "resources": {"resource_pool": "pool", "slots_per_trial": 2, "time_limit": "2h"},
                "environment": {"environment_variables": ["B=2", "A=3", "C=a=b"]},
                "hyperparameters": {"lr": 0.1},
                "name": "n",
                "max_restarts": 1,
            })
        );
    }

    #[test]
    fn the_current_project_is_used_in_the_current_workspace_only() {
        let place = |config: &str, yaml: &str, flags: &str| {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("e.yaml");
            std::fs::write(&file, format!("entrypoint: x\n{yaml}")).unwrap();
            std::fs::create_dir(directory.path().join("home")).unwrap();
            std::fs::write(directory.path().join("home/config.toml"), config).unwrap();
            let line = format!("ml run {} {flags}", file.display());
            let (cli, common) =
                args::parse(line.split_whitespace().map(Into::into)).unwrap_or_else(|why| panic!("{why}"));
            let Some(Command::Run(run)) = cli.command else {
                panic!("that was `run`");
            };
            let settings = Settings::read_from(&Sources {
                common: &common,
                env: &|_| None,
                home: directory.path().join("home"),
                directory: directory.path().to_owned(),
            })
            .unwrap();
            let config = finish(&source(&run.path).unwrap(), &run.with, &settings, &run.args).unwrap();
            (config["workspace"].clone(), config["project"].clone())
        };
        let current = "workspace = 'lights'\nproject = 'green'\n";
        assert_eq!(place(current, "", ""), (json!("lights"), json!("green")));
        assert_eq!(place(current, "", "--project red"), (json!("lights"), json!("red")));
        assert_eq!(place(current, "", "--workspace stop"), (json!("stop"), json!(null)));
        assert_eq!(place(current, "workspace: stop\n", ""), (json!("stop"), json!(null)));
        assert_eq!(
            place(current, "workspace: Lights\n", ""),
            (json!("Lights"), json!("green"))
        );
        assert_eq!(
            place(
                current,
                "workspace: stop\nproject: euro\n",
                "--config project=old --project us"
            ),
            (json!("stop"), json!("us"))
        );
        assert_eq!(place("project = 'green'\n", "", ""), (json!(null), json!("green")));
        assert_eq!(
            place("project = 'green'\n", "workspace: stop\n", ""),
            (json!("stop"), json!(null))
        );
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_before_anything_is_sent() {
        let failure = submitted(&[("e.yaml", "entrypoint: x\nmax_restart: 1")], "e.yaml", "").unwrap_err();
        assert_eq!(
            failure.message,
            "unknown key `max_restart`; did you mean `max_restarts`?"
        );
        let failure = submitted(&[("e.yaml", "a: b: c")], "e.yaml", "").unwrap_err();
        assert!(
            failure.message.contains("e.yaml: the configuration is not valid YAML"),
            "{}",
            failure.message
        );
        let failure = submitted(&[("train.py", "")], "../my-experimnt", "").unwrap_err();
        assert!(failure.hint.unwrap().contains("my-experiment"));
    }
}

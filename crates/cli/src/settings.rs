//! Settings: flag > environment > project file `.ml.toml` > user's file `~/.ml/config.toml` > default, and which of them each came from.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::Common;
use crate::failure::{Failure, Result, io_words};
use crate::sessions::Sessions;

pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
const PROJECT_FILE: &str = ".ml.toml";
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    Flag(&'static str),
    Environment(&'static str),
    ProjectFile(PathBuf),
    UserFile(PathBuf),
    /// The server signed in to last.
    LastLogin,
    Default,
}

impl Origin {
    /// The nearer word counts.
    fn distance(&self) -> u8 {
        match self {
            Origin::Flag(_) => 0,
            Origin::Environment(_) => 1,
            Origin::ProjectFile(_) => 2,
            Origin::UserFile(_) => 3,
            Origin::LastLogin => 4,
            Origin::Default => 5,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "flag {flag}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::ProjectFile(path) | Origin::UserFile(path) => write!(f, "{}", path.display()),
            Origin::LastLogin => f.write_str("last login"),
            Origin::Default => f.write_str("default"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

/// What holds here and now.
#[derive(Debug)]
pub struct Settings {
    pub home: PathBuf,
    pub server: Setting<String>,
    /// The identity asked for; otherwise the active one of the server.
    pub user: Option<Setting<String>>,
    pub ca: Option<Setting<PathBuf>>,
    pub workspace: Option<Setting<String>>,
    pub project: Option<Setting<String>>,
    pub queue: Option<Setting<String>>,
    pub stack: Option<Setting<String>>,
    /// A key that may be sent to this server.
    pub api_key: Option<Setting<String>>,
    /// Why the key of the user's file is not for this server.
    pub api_key_withheld: Option<String>,
}

/// `~/.ml/config.toml`. Other keys are left alone: the file may serve other programs and older versions too.
#[derive(Debug, Default, Deserialize)]
struct UserFile {
    server: Option<String>,
    user: Option<String>,
    ca: Option<PathBuf>,
    workspace: Option<String>,
    project: Option<String>,
    queue: Option<String>,
    stack: Option<String>,
    #[serde(default)]
    worker: Worker,
}

#[derive(Debug, Default, Deserialize)]
struct Worker {
    api_key: Option<String>,
}

/// `.ml.toml` in the current directory or one above it. It comes with the code, perhaps somebody else's: it can name a server, and never a key or whom to trust.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    server: Option<String>,
    workspace: Option<String>,
    project: Option<String>,
    queue: Option<String>,
    stack: Option<String>,
}

/// What settings are read from; handed in, so that tests need no process environment.
pub struct Sources<'a> {
    pub common: &'a Common,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub home: PathBuf,
    pub directory: PathBuf,
}

impl Settings {
    /// Reads them for this process.
    pub fn read(common: &Common) -> Result<Settings> {
        let env = |name: &str| std::env::var(name).ok();
        Settings::read_from(&Sources {
            common,
            env: &env,
            home: home()?,
            directory: std::env::current_dir().unwrap_or_default(),
        })
    }

    pub fn read_from(sources: &Sources) -> Result<Settings> {
        let Sources {
            common,
            env,
            home,
            directory,
        } = sources;
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let user_path = home.join("config.toml");
        let user: UserFile = match read_file(&user_path)? {
            Some(text) => parse(&text, &user_path)?,
            None => UserFile::default(),
        };
        let (project_path, project) = match find_project_file(directory, home)? {
            Some((path, text)) => {
                let file = parse::<ProjectFile>(&text, &path)?;
                (path, file)
            }
            None => Default::default(),
        };

        let first = |flag: Option<(&'static str, String)>,
                     variable: &'static str,
                     of_project: &Option<String>,
                     of_user: &Option<String>| {
            let flag = flag.map(|(name, value)| (Origin::Flag(name), value));
            flag.or_else(|| env(variable).map(|value| (Origin::Environment(variable), value)))
                .or_else(|| {
                    of_project
                        .clone()
                        .map(|value| (Origin::ProjectFile(project_path.clone()), value))
                })
                .or_else(|| {
                    of_user
                        .clone()
                        .map(|value| (Origin::UserFile(user_path.clone()), value))
                })
                .map(|(origin, value)| Setting { value, origin })
        };

        let flag = common.server.clone().map(|value| ("--server", value));
        let server = match first(flag, "ML_SERVER", &project.server, &user.server) {
            Some(server) => server,
            None => match Sessions::read(home)?.current {
                Some(value) => Setting {
                    value,
                    origin: Origin::LastLogin,
                },
                None => Setting {
                    value: DEFAULT_SERVER.to_owned(),
                    origin: Origin::Default,
                },
            },
        };
        let server = Setting {
            value: clean_server(&server.value),
            ..server
        };

        let withheld = withheld(&server, user.server.as_deref());
        let api_key = match (env("ML_API_KEY"), &user.worker.api_key) {
            (Some(key), _) => Some(Setting {
                value: key,
                origin: Origin::Environment("ML_API_KEY"),
            }),
            (None, Some(key)) if withheld.is_none() => Some(Setting {
                value: key.clone(),
                origin: Origin::UserFile(user_path.clone()),
            }),
            _ => None,
        };

        let ca_flag = common.ca.clone().map(|path| Setting {
            value: path,
            origin: Origin::Flag("--ca"),
        });
        let ca = ca_flag
            .or_else(|| {
                env("ML_CA").map(|path| Setting {
                    value: path.into(),
                    origin: Origin::Environment("ML_CA"),
                })
            })
            .or_else(|| {
                user.ca.clone().map(|path| Setting {
                    value: path,
                    origin: Origin::UserFile(user_path.clone()),
                })
            });
        let workspace = first(None, "ML_WORKSPACE", &project.workspace, &user.workspace);
        let in_workspace = first(None, "ML_PROJECT", &project.project, &user.project);
        // A project from further away than the workspace is one of another workspace.
        let in_workspace = in_workspace.filter(|project| {
            let nearness = workspace.as_ref().map(|workspace| workspace.origin.distance());
            nearness.is_none_or(|nearness| project.origin.distance() <= nearness)
        });
        Ok(Settings {
            user: first(
                common.user.clone().map(|value| ("-u", value)),
                "ML_USER",
                &None,
                &user.user,
            ),
            workspace,
            project: in_workspace,
            queue: first(None, "ML_QUEUE", &project.queue, &user.queue),
            stack: first(None, "ML_STACK", &project.stack, &user.stack),
            api_key_withheld: user.worker.api_key.as_ref().and(withheld),
            home: home.clone(),
            server,
            ca,
            api_key,
        })
    }

    /// The certificates to trust besides the usual ones.
    pub fn ca_pem(&self) -> Result<Option<Vec<u8>>> {
        let read = |ca: &Setting<PathBuf>| {
            std::fs::read(&ca.value).map_err(|why| Failure::file("read the certificates in", &ca.value, &why))
        };
        self.ca.as_ref().map(read).transpose()
    }
}

/// The key in the user's file belongs to the server in the user's file. A directory somebody else wrote, or a slip in `--server`, must not have it sent elsewhere.
fn withheld(server: &Setting<String>, of_user: Option<&str>) -> Option<String> {
    match of_user.map(clean_server) {
        Some(own) if own == server.value => None,
        Some(own) => Some(format!("it is for {own}")),
        None => match &server.origin {
            Origin::ProjectFile(path) => Some(format!("the server was named by {}", path.display())),
            _ => None,
        },
    }
}

/// `https://host:port` in one spelling, so that a server is found again under its sessions.
pub fn clean_server(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = match rest.split_once('/') {
                Some((host, path)) => (host, format!("/{path}")),
                None => (rest, String::new()),
            };
            format!("{}://{}{path}", scheme.to_lowercase(), host.to_lowercase())
        }
        None => text.to_owned(),
    }
}

/// `~/.ml`, or where `ML_HOME` says.
pub fn home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("ML_HOME").filter(|home| !home.is_empty()) {
        return std::path::absolute(&home).map_err(|why| Failure::file("find", Path::new(&home), &why));
    }
    match std::env::home_dir().filter(|home| !home.as_os_str().is_empty()) {
        Some(home) => Ok(home.join(".ml")),
        None => Err(Failure::new("there is no home directory to keep sessions in").hint("set ML_HOME to a directory")),
    }
}

fn find_project_file(directory: &Path, home: &Path) -> Result<Option<(PathBuf, String)>> {
    for above in directory.ancestors() {
        let path = above.join(PROJECT_FILE);
        if let Some(text) = read_file(&path)? {
            return Ok(Some((path, text)));
        }
        // What lies above the user's home is not the user's project.
        if home.parent() == Some(above) {
            break;
        }
    }
    Ok(None)
}

fn read_file(path: &Path) -> Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(why)
            if matches!(
                why.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(why) => return Err(Failure::file("read", path, &why)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|why| Failure::file("read", path, &why))?;
    Ok(Some(text))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|why| {
        Failure::new(format!(
            "{} is not as it should be: {}",
            path.display(),
            why.to_string().trim_end()
        ))
        .hint("`ml config show` needs it too; correct it in an editor")
    })
}

/// The keys that `ml config set` knows.
pub const KEYS: &[&str] = &[
    "server",
    "user",
    "ca",
    "workspace",
    "project",
    "queue",
    "stack",
    "worker.api_key",
];

/// The user's file with one key set, everything else in it as it was, comments too.
///
/// # Errors
/// The file is not TOML, or holds the key in a form that a line cannot replace.
pub fn with_key(text: &str, key: &str, value: &str) -> std::result::Result<String, String> {
    text.parse::<toml::Table>().map_err(|why| why.to_string())?;
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let line = format!("{name} = {}", toml::Value::String(value.to_owned()));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();

    let header_of = |line: &str| {
        let line = line.trim();
        let inner = line.strip_prefix('[')?.split(']').next()?;
        Some(inner.trim().to_owned())
    };
    let mut current = String::new();
    // Where the table ends, after its last line that is not blank.
    let mut end = table.is_empty().then_some(0);
    let mut found = None;
    for (at, line) in lines.iter().enumerate() {
        if let Some(header) = header_of(line) {
            current = header;
        }
        if current != table {
            continue;
        }
        if !line.trim().is_empty() {
            end = Some(at + 1);
        }
        if line.split_once('=').is_some_and(|(before, _)| before.trim() == name) {
            found = Some(at);
        }
    }
    match (found, end) {
        (Some(at), _) => lines[at] = line,
        (None, Some(end)) => lines.insert(end, line),
        (None, None) => {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.extend([format!("[{table}]"), line]);
        }
    }
    let new = lines.join("\n") + "\n";
    let set = new.parse::<toml::Table>().ok().and_then(|all| {
        let at = if table.is_empty() {
            &all
        } else {
            all.get(table)?.as_table()?
        };
        Some(at.get(name)?.as_str()? == value)
    });
    match set {
        Some(true) => Ok(new),
        _ => Err("it holds that key in another form".into()),
    }
}

/// The user's file without one key, everything else in it as it was.
///
/// # Errors
/// The file is not TOML, or holds the key in a form that is not a line of its own.
fn without_key(text: &str, key: &str) -> std::result::Result<String, String> {
    let all: toml::Table = text.parse().map_err(|why: toml::de::Error| why.to_string())?;
    if !all.contains_key(key) {
        return Ok(text.to_owned());
    }
    let mut in_table = false;
    let kept = text.lines().filter(|line| {
        in_table |= line.trim_start().starts_with('[');
        let is_key = line.split_once('=').is_some_and(|(before, _)| before.trim() == key);
        in_table || !is_key
    });
    let new: String = kept.map(|line| format!("{line}\n")).collect();
    match new.parse::<toml::Table>() {
        Ok(left) if !left.contains_key(key) && left.len() + 1 == all.len() => Ok(new),
        _ => Err("it holds that key in another form".into()),
    }
}

/// Sets keys of `~/.ml/config.toml`, or takes them out of it. Where it is.
pub fn change_user_file(changes: &[(&str, Option<&str>)]) -> Result<PathBuf> {
    let home = home()?;
    make_home(&home)?;
    let path = home.join("config.toml");
    let mut text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(why) => return Err(Failure::file("read", &path, &why)),
    };
    for (key, value) in changes {
        let changed = match value {
            Some(value) => with_key(&text, key, value),
            None => without_key(&text, key),
        };
        text = changed.map_err(|why| {
            Failure::new(format!("cannot change {}: {why}", path.display())).hint("change it in an editor")
        })?;
    }
    write_private(&home, "config.toml", &text)?;
    Ok(path)
}

/// Writes a file of ours so that nobody else can read it, and so that it is never seen half written.
pub fn write_private(home: &Path, name: &str, text: &str) -> Result<()> {
    use std::io::Write;
    make_home(home)?;
    let path = home.join(name);
    let failed = |why: std::io::Error| Failure::new(format!("cannot write {}: {}", path.display(), io_words(&why)));
    // A temporary file of this crate has mode 0600.
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(home)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|why| failed(why.error))?;
    Ok(())
}

pub fn make_home(home: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .map_err(|why| Failure::file("make", home, &why))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Place {
        directory: tempfile::TempDir,
        env: BTreeMap<String, String>,
        common: Common,
    }

    impl Place {
        fn new(config: &str, project: &str) -> Place {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(directory.path().join("home/.ml")).unwrap();
            std::fs::create_dir_all(directory.path().join("work/deep")).unwrap();
            std::fs::write(directory.path().join("home/.ml/config.toml"), config).unwrap();
            if !project.is_empty() {
                std::fs::write(directory.path().join("work/.ml.toml"), project).unwrap();
            }
            Place {
                directory,
                env: BTreeMap::new(),
                common: Common::default(),
            }
        }

        fn read(&self) -> Result<Settings> {
            Settings::read_from(&Sources {
                common: &self.common,
                env: &|name| self.env.get(name).cloned(),
                home: self.directory.path().join("home/.ml"),
                directory: self.directory.path().join("work/deep"),
            })
        }
    }

    #[test]
    fn the_nearer_word_counts() {
        let mut place = Place::new(
            "server = 'http://user-file'",
            "server = 'http://project-file'\nqueue = 'gpu'",
        );
        assert_eq!(place.read().unwrap().server.value, "http://project-file");
        assert_eq!(place.read().unwrap().queue.unwrap().value, "gpu");
        place.env.insert("ML_SERVER".into(), "http://environment/".into());
        let server = place.read().unwrap().server;
        assert_eq!(
            (server.value.as_str(), server.origin),
            ("http://environment", Origin::Environment("ML_SERVER"))
        );
        place.common.server = Some("http://flag".into());
        assert_eq!(place.read().unwrap().server.origin, Origin::Flag("--server"));
        let nothing = Place::new("", "");
        assert_eq!(nothing.read().unwrap().server.value, DEFAULT_SERVER);
    }

    #[test]
    fn a_project_goes_with_the_workspace_that_was_named_beside_it() {
        let mut place = Place::new("workspace = 'Traffic Lights'\nproject = 'Green'", "");
        let project = |place: &Place| place.read().unwrap().project.map(|project| project.value);
        assert_eq!(project(&place).as_deref(), Some("Green"));
        place.env.insert("ML_WORKSPACE".into(), "Stop Signs".into());
        assert_eq!(project(&place), None, "it is one of the other workspace");
        place.env.insert("ML_PROJECT".into(), "Euro".into());
        assert_eq!(project(&place).as_deref(), Some("Euro"));
        let mut place = Place::new("workspace = 'Traffic Lights'\nproject = 'Green'", "project = 'Red'");
        assert_eq!(project(&place).as_deref(), Some("Red"));
        place.env.insert("ML_PROJECT".into(), "Amber".into());
        assert_eq!(project(&place).as_deref(), Some("Amber"));
    }

    #[test]
    fn the_key_of_the_user_goes_to_the_servers_of_the_user_only() {
        let config = "server = 'http://own'\n[worker]\napi_key = 'k'\nworker_host = 'an older setting'";
        assert_eq!(Place::new(config, "").read().unwrap().api_key.unwrap().value, "k");
        let lured = Place::new(config, "server = 'http://evil'").read().unwrap();
        assert_eq!(
            (lured.api_key, lured.api_key_withheld),
            (None, Some("it is for http://own".into()))
        );
        let lured = Place::new("[worker]\napi_key = 'k'", "server = 'http://evil'")
            .read()
            .unwrap();
        assert_eq!(lured.api_key, None);
        let mut asked = Place::new("[worker]\napi_key = 'k'", "server = 'http://evil'");
        asked.common.server = Some("http://other".into());
        assert!(asked.read().unwrap().api_key.is_some());
    }

    #[test]
    fn a_project_cannot_bring_a_key() {
        let failure = Place::new("", "api_key = 'k'").read().unwrap_err();
        assert!(
            failure.message.contains("unknown field `api_key`"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn setting_a_key_leaves_the_rest_as_it_was() {
        let text = "# mine\nother = 1\n\n[worker]\n# a note\nworker_port = 22\n\n[x]\ny = 2\n";
        let text = with_key(text, "server", "http://a").unwrap();
        let text = with_key(&text, "worker.api_key", "k\"1").unwrap();
        let text = with_key(&text, "server", "http://b").unwrap();
        assert_eq!(
            text,
            "# mine\nother = 1\nserver = \"http://b\"\n\n[worker]\n# a note\nworker_port = 22\napi_key = 'k\"1'\n\n[x]\ny = 2\n"
        );
        assert_eq!(
            with_key("", "worker.api_key", "k").unwrap(),
            "[worker]\napi_key = \"k\"\n"
        );
        assert!(with_key("worker = { api_key = 'x' }\n", "worker.api_key", "k").is_err());
    }

    #[test]
    fn taking_a_key_out_leaves_the_rest_as_it_was() {
        let text = "# mine\nworkspace = 'a'\nproject = 'b'\n[worker]\nproject = 'not this one'\n";
        let text = without_key(text, "project").unwrap();
        assert_eq!(text, "# mine\nworkspace = 'a'\n[worker]\nproject = 'not this one'\n");
        assert_eq!(without_key(&text, "project").unwrap(), text);
        assert!(without_key("workspace = '''\na\n'''\n", "workspace").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(text in "(\\[?[a-z]{1,8}\\]?( = )?[\"'\\[{]?.{0,10}\n?){0,5}") {
            let _ = Place::new(&text, &text).read();
        }

        #[test]
        fn what_is_set_is_read_back(value in "\\PC{0,30}", before in "(# [a-zé=]{0,5}\n|a = 1\n|\\[other\\]\nworkspace = 1\n){0,1}") {
            let text = with_key(&before, "workspace", &value).unwrap();
            let file: UserFile = toml::from_str(&text).unwrap();
            proptest::prop_assert_eq!(file.workspace, Some(value));
        }
    }
}

//! The ground that every measurement stands on: fresh directories, the real program as separate processes, all of it gone at the end.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use bailiwick_api::experiments::{Experiment, NewExperiment};
use bailiwick_api::users::{Login, NewServiceAccount, NewUser};
use bailiwick_client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::Outcome;
use crate::postgres::Cluster;

pub const PASSWORD: &str = "fjord-quartz-71-lantern";
/// How long anything may take to come up or go down.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all measurements share.
pub struct Bench {
    pub ml: PathBuf,
    cluster: Option<Cluster>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
        }
    }
}

impl Bench {
    pub fn new(ml: Option<PathBuf>, with_postgres: bool) -> Outcome<Bench> {
        let beside = std::env::current_exe()
            .map_err(|why| why.to_string())?
            .with_file_name("ml");
        let ml = ml.unwrap_or(beside);
        if !ml.is_file() {
            return Err(format!(
                "{} is not there: cargo build --release -p bailiwick-cli, or give --ml",
                ml.display()
            ));
        }
        let ml = ml.canonicalize().map_err(|why| format!("{}: {why}", ml.display()))?;
        let cluster = with_postgres.then(Cluster::start).transpose()?;
        Ok(Bench { ml, cluster })
    }

    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Sqlite];
        kinds.extend(self.cluster.as_ref().map(|_| Kind::Postgres));
        kinds
    }

    /// A new directory with an empty database.
    pub async fn place(&self, kind: Kind) -> Outcome<Place> {
        let dir = TempDir::with_prefix("bailiwick-bench-").map_err(|why| format!("no temporary directory: {why}"))?;
        // Jobs run below it as users of their own.
        open_to_all(dir.path())?;
        let password = dir.path().join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).map_err(|why| why.to_string())?;
        let data = dir.path().join("data");
        let database = match kind {
            Kind::Sqlite => format!("sqlite:{}", data.join("bailiwick.db").display()),
            Kind::Postgres => {
                let cluster = self.cluster.as_ref().ok_or("there is no PostgreSQL in this run")?;
                cluster.new_database().await?
            }
        };
        Ok(Place {
            kind,
            ml: self.ml.clone(),
            data,
            password,
            database,
            dir,
        })
    }
}

pub fn open_to_all(dir: &Path) -> Outcome<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).map_err(|why| why.to_string())
}

/// One installation: its directory and its database, with or without a server running on them.
pub struct Place {
    pub kind: Kind,
    pub ml: PathBuf,
    pub data: PathBuf,
    pub password: PathBuf,
    pub database: String,
    pub dir: TempDir,
}

impl Place {
    /// `ml serve`, as one would start it.
    pub fn serve_command(&self, listen: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ml);
        command
            .args(["serve", "--listen", listen, "--database", &self.database])
            .arg("--data")
            .arg(&self.data)
            .arg("--admin-password-file")
            .arg(&self.password)
            .args(arguments);
        command
    }

    pub async fn serve(&self, arguments: &[&str]) -> Outcome<Server> {
        let port = free_port()?;
        self.start(self.serve_command(&format!("127.0.0.1:{port}"), arguments), port)
            .await
    }

    pub async fn start(&self, command: Command, port: u16) -> Outcome<Server> {
        let process = Process::start(command, &self.dir.path().join("server.log"))?;
        let server = Server {
            process,
            url: format!("http://127.0.0.1:{port}"),
            port,
        };
        server.ready().await?;
        Ok(server)
    }

    /// `ml agent` with its own service account, made by the first call.
    pub async fn agent_command(&self, admin: &Client, arguments: &[&str]) -> Outcome<Command> {
        let key_file = self.dir.path().join("agent.key");
        if !key_file.exists() {
            let account = NewServiceAccount {
                name: "bench-agent".into(),
                serve: vec!["default".into()],
                impersonate: false,
            };
            let made = admin
                .create_service_account(&account)
                .await
                .map_err(|why| why.to_string())?;
            std::fs::write(&key_file, made.secret).map_err(|why| why.to_string())?;
        }
        let mut command = Command::new(&self.ml);
        command
            .args([
                "agent",
                "--queue",
                "default",
                "--name",
                "bench",
                "--server",
                admin.server(),
            ])
            .arg("--key-file")
            .arg(&key_file)
            .arg("--dir")
            .arg(self.dir.path().join("agent"))
            .args(arguments);
        Ok(command)
    }
}

/// A running server.
pub struct Server {
    pub process: Process,
    pub url: String,
    pub port: u16,
}

impl Server {
    pub async fn ready(&self) -> Outcome<()> {
        let client = Client::new(&self.url, None, None).map_err(|why| why.to_string())?;
        let until = Instant::now() + PATIENCE;
        loop {
            if client.get::<serde_json::Value>("/readyz").await.is_ok() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!(
                    "the server at {} did not come up; {}",
                    self.url,
                    self.process.last_words()
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn admin(&self) -> Outcome<Client> {
        self.login("admin").await
    }

    /// A client signed in as this user, with its session as key.
    pub async fn login(&self, name: &str) -> Outcome<Client> {
        let client = Client::new(&self.url, None, None).map_err(|why| why.to_string())?;
        let session = client
            .login(&Login {
                name: name.into(),
                password: PASSWORD.into(),
            })
            .await
            .map_err(|why| format!("signing in as {name}: {why}"))?;
        Ok(client.with_key(Some(&session.token)))
    }

    /// The bearer of a new session, for requests written by hand.
    pub async fn session(&self, name: &str) -> Outcome<String> {
        let client = Client::new(&self.url, None, None).map_err(|why| why.to_string())?;
        let login = Login {
            name: name.into(),
            password: PASSWORD.into(),
        };
        let session = client
            .login(&login)
            .await
            .map_err(|why| format!("signing in as {name}: {why}"))?;
        Ok(bailiwick_api::key::wire_form(&session.token))
    }

    /// Makes a user with a role, who signs in with the common password.
    pub async fn user(&self, admin: &Client, name: &str, role: &str, workspace: Option<&str>) -> Outcome<()> {
        let user = NewUser {
            name: name.into(),
            password: Some(PASSWORD.into()),
            role: Some(role.into()),
            workspace: workspace.map(str::to_owned),
            ..NewUser::default()
        };
        admin
            .create_user(&user)
            .await
            .map(|_| ())
            .map_err(|why| format!("making user {name}: {why}"))
    }
}

pub async fn submit(client: &Client, name: &str, entrypoint: &[&str]) -> Outcome<Experiment> {
    let experiment = NewExperiment {
        config: json!({"name": name, "entrypoint": entrypoint}),
        code: None,
        args: Vec::new(),
    };
    client
        .create_experiment(&experiment)
        .await
        .map_err(|why| format!("submitting {name}: {why}"))
}

/// A program in a process group of its own, which ends with this value.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// What it says goes to the end of `log`.
    pub fn start(mut command: Command, log: &Path) -> Outcome<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        let open = || std::fs::File::options().create(true).append(true).open(log);
        let (out, errors) = (
            open().map_err(|why| why.to_string())?,
            open().map_err(|why| why.to_string())?,
        );
        // A home of one's own would lend its settings and keys.
        let home = log.parent().expect("a log stands in a directory").join("home");
        command
            .env_remove("ML_API_KEY")
            .env_remove("ML_SERVER")
            .env("ML_HOME", home);
        command.stdin(Stdio::null()).stdout(out).stderr(errors).process_group(0);
        let child = command
            .spawn()
            .map_err(|why| format!("cannot start {program}: {why}"))?;
        Ok(Process {
            child,
            log: log.to_owned(),
        })
    }

    pub fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// SIGKILL to this one process, as a crash would.
    pub fn crash(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and SIGKILL to the group for what does not go by itself.
    pub fn stop(mut self) -> Outcome<()> {
        self.end(PATIENCE)
    }

    fn end(&mut self, patience: Duration) -> Outcome<()> {
        let group = Pid::from_raw(-self.id());
        if self.child.try_wait().map_err(|why| why.to_string())?.is_some() {
            return Ok(());
        }
        let _ = kill(Pid::from_raw(self.id()), Signal::SIGTERM);
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if self.child.try_wait().map_err(|why| why.to_string())?.is_some() {
                let _ = kill(group, Signal::SIGKILL);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = kill(group, Signal::SIGKILL);
        let _ = self.child.wait();
        Err(format!(
            "a process did not end within {patience:?}; {}",
            self.last_words()
        ))
    }

    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "its last words:\n{}",
            lines[lines.len().saturating_sub(20)..].join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end(Duration::from_secs(10));
    }
}

pub fn free_port() -> Outcome<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|why| why.to_string())?;
    Ok(listener.local_addr().map_err(|why| why.to_string())?.port())
}

/// µs since 1970, the clock that jobs and the server write down.
pub fn now_us() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with what other processes read from the same clock"
    )]
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_micros() as i64
}

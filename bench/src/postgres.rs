//! A private PostgreSQL cluster with the settings that a careful installation has: what is committed survives a power cut.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::Outcome;
use crate::ground::{free_port, open_to_all};

pub struct Cluster {
    programs: PathBuf,
    dir: TempDir,
    port: u16,
    password: String,
    count: std::sync::atomic::AtomicU32,
}

impl Cluster {
    pub fn start() -> Outcome<Cluster> {
        let programs =
            programs().ok_or("PostgreSQL is not there: apt-get install postgresql, or give --sqlite-only")?;
        // Not below TMPDIR: a socket's path must be short.
        let dir = TempDir::with_prefix_in("bailiwick-bench-pg-", "/tmp").map_err(|why| why.to_string())?;
        open_to_all(dir.path())?;
        if let Some((user, group)) = other_user()? {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).map_err(|why| why.to_string())?;
        }
        let cluster = Cluster {
            programs,
            dir,
            port: free_port()?,
            password: bailiwick_api::key::hex(&bailiwick_api::key::random_bytes()),
            count: Default::default(),
        };
        let data = cluster.data();
        // Whoever is a superuser there can start programs: other users of this machine must not get in.
        let password_file = cluster.dir.path().join("password");
        std::fs::write(&password_file, &cluster.password).map_err(|why| why.to_string())?;
        std::fs::set_permissions(&password_file, std::fs::Permissions::from_mode(0o600))
            .map_err(|why| why.to_string())?;
        if let Some((user, group)) = other_user()? {
            std::os::unix::fs::chown(&password_file, Some(user), Some(group)).map_err(|why| why.to_string())?;
        }
        let password_file = password_file.display().to_string();
        cluster.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "postgres",
                "-A",
                "scram-sha-256",
                "--pwfile",
                &password_file,
                "--no-sync",
                "--no-instructions",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        )?;
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={} -c max_connections=200 -c shared_buffers=256MB",
            cluster.port,
            cluster.dir.path().display()
        );
        let log = cluster.dir.path().join("log").display().to_string();
        cluster.run(
            "pg_ctl",
            &["-D", &data, "-l", &log, "-w", "-t", "60", "-s", "-o", &options, "start"],
        )?;
        Ok(cluster)
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Outcome<()> {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(self.dir.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .process_group(0);
        if let Some((user, group)) = other_user()? {
            command.uid(user).gid(group);
        }
        let status = command.status().map_err(|why| format!("{program}: {why}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{program} failed: {status}"))
        }
    }

    fn url(&self, name: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{name}", self.password, self.port)
    }

    pub async fn new_database(&self) -> Outcome<String> {
        let number = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("bench_{number}");
        let text = |why: sqlx::Error| format!("PostgreSQL: {why}");
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url("postgres"))
            .await
            .map_err(text)?;
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .map_err(text)?;
        Ok(self.url(&name))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "-s", "stop"]);
    }
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, dir)| dir.join("initdb").is_file())
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, dir)| dir);
    newest.or_else(|| {
        let paths = std::env::var_os("PATH")?;
        std::env::split_paths(&paths).find(|dir: &PathBuf| is_program(&dir.join("initdb")))
    })
}

fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// PostgreSQL refuses to run as root.
fn other_user() -> Outcome<Option<(u32, u32)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).map_err(|why| why.to_string())? {
            return Ok(Some((user.uid.as_raw(), user.gid.as_raw())));
        }
    }
    Err("there is no user under whom PostgreSQL could run: postgres or nobody".into())
}

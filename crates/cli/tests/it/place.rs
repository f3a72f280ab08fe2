//! A fresh place for a test: a home, a working directory, and a server where one is wanted.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const PASSWORD: &str = "correct horse battery staple";

pub struct Place {
    directory: tempfile::TempDir,
    pub server: Option<Server>,
}

pub struct Server {
    child: Child,
    pub url: String,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub status: Option<i32>,
}

impl Place {
    pub fn new() -> Place {
        Place::at(tempfile::tempdir().unwrap())
    }

    fn at(directory: tempfile::TempDir) -> Place {
        // Jobs may run as another user of the operating system, who has to come by.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(directory.path().join("work")).unwrap();
        let place = Place {
            directory,
            server: None,
        };
        place.write("../password", PASSWORD);
        place
    }

    /// With a server, and the user `admin` signed in.
    pub fn served() -> Place {
        Place::served_with(&[])
    }

    pub fn served_with(flags: &[&str]) -> Place {
        Place::new().with_server(flags)
    }

    /// With a server, and not below /tmp, where a job sees nothing anyway; there all the same for a user who may write nowhere else.
    pub fn served_outside_tmp() -> Place {
        let directory = tempfile::tempdir_in("/srv").or_else(|_| tempfile::tempdir());
        Place::at(directory.unwrap()).with_server(&[])
    }

    fn with_server(self, flags: &[&str]) -> Place {
        let mut place = self;
        let data = place.path("../data");
        let mut child = place
            .command(&[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-password-file",
                "../password",
                "--data",
            ])
            .arg(data)
            .args(flags)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let url = listening(&mut child);
        place.server = Some(Server { child, url });
        place.login("admin");
        place
    }

    /// Takes a server that is starting elsewhere than here for its own, once its address is known.
    pub fn keep_server(&mut self, child: Child, address: impl FnMut() -> Option<String>) {
        let url = crate::agents::eventually("the server listens", address);
        self.server = Some(Server { child, url });
    }

    pub fn url(&self) -> &str {
        &self.server.as_ref().expect("this place has a server").url
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("work").join(path)
    }

    pub fn home(&self) -> PathBuf {
        self.path("../home")
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("it lies in the working directory")).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `ml` with nothing of the environment but what it needs.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ml"));
        command
            .args(args)
            .current_dir(self.path("."))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path(".."))
            .env("ML_HOME", self.home())
            .stdin(Stdio::null());
        command
    }

    pub fn ml(&self, line: &str) -> Said {
        self.ml_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub fn ml_args(&self, args: &[&str]) -> Said {
        finish(self.command(args))
    }

    pub fn ml_with_input(&self, line: &str, input: &str) -> Said {
        let args: Vec<_> = line.split_whitespace().collect();
        let mut child = self
            .command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .expect("it is piped")
            .write_all(input.as_bytes())
            .unwrap();
        said(child.wait_with_output().unwrap())
    }

    pub fn login(&self, name: &str) {
        let server = self.url().to_owned();
        self.ml_args(&["login", name, "--server", &server, "--password-file", "../password"])
            .done();
    }

    /// Makes a user with the usual password and signs in as that user, who then is the active identity.
    pub fn user(&self, name: &str, flags: &str) {
        self.ml(&format!(
            "-u admin user create {name} --password-file ../password {flags}"
        ))
        .done();
        self.login(name);
    }
}

/// The address of a server that is starting, once it listens.
pub fn listening(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    let url = loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 {
            panic!("the server ended: {said}");
        }
        said.push_str(&line);
        if let Some((_, url)) = line.trim().split_once("listening on ") {
            break url.to_owned();
        }
    };
    // Somebody has to read on, or the server would wait for it.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    url
}

pub fn finish(mut command: Command) -> Said {
    said(command.output().unwrap())
}

fn said(output: std::process::Output) -> Said {
    Said {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        status: output.status.code(),
    }
}

impl Said {
    /// Standard output of a command that did what was asked.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.out
    }

    /// Standard error of a command that failed in this way, having written no data.
    #[track_caller]
    pub fn failed(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.out, "", "{}", self.err);
        self.err
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"));
        // With SIGTERM its agent and their jobs end too.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

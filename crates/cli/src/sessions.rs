//! `~/.ml/sessions.toml`: who has signed in where. Ours alone; the user's own file is `config.toml`.

use std::path::Path;

use bailiwick_api::Time;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::settings::{make_home, write_private};

const FILE: &str = "sessions.toml";
const LOCK: &str = "sessions.lock";

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// The server signed in to last: the one to talk to where nothing else names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    pub url: String,
    /// The identity that commands without `-u` act as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Identity>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    /// `mls_…`
    pub token: String,
    pub expires_at: Time,
}

impl Sessions {
    pub fn read(home: &Path) -> Result<Sessions> {
        let path = home.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Sessions::default()),
            Err(why) => return Err(Failure::file("read", &path, &why)),
        };
        toml::from_str(&text).map_err(|why| {
            Failure::new(format!("{} is damaged: {}", path.display(), why.message()))
                .hint("remove it and sign in again with `ml login NAME`")
        })
    }

    /// Changes the file. Several processes may do so at once: each sees what the one before it wrote.
    pub fn change(home: &Path, change: impl FnOnce(&mut Sessions)) -> Result<()> {
        make_home(home)?;
        let lock = home.join(LOCK);
        let failed = |why| Failure::file("lock", &lock, &why);
        let file = {
            use std::os::unix::fs::OpenOptionsExt;
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&lock)
                .map_err(failed)?
        };
        // Held until `file` is dropped at the end.
        file.lock().map_err(failed)?;
        let mut sessions = Sessions::read(home)?;
        change(&mut sessions);
        let text = toml::to_string(&sessions).expect("sessions are TOML");
        write_private(
            home,
            FILE,
            &format!("# Written by ml; sign in and out with `ml login` and `ml logout`.\n{text}"),
        )
    }

    pub fn server(&self, url: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.url == url)
    }

    /// The identity of this name, or the active one.
    pub fn identity(&self, url: &str, name: Option<&str>) -> Option<&Identity> {
        let server = self.server(url)?;
        let name = name.or(server.active.as_deref())?;
        server
            .identities
            .iter()
            .find(|identity| identity.name.to_lowercase() == name.to_lowercase())
    }

    /// Keeps a new session and makes it the active one.
    pub fn sign_in(&mut self, url: &str, identity: Identity) {
        let name = identity.name.clone();
        self.keep(url, identity);
        self.current = Some(url.to_owned());
        let server = self.servers.iter_mut().find(|server| server.url == url);
        server.expect("it was kept just now").active = Some(name);
    }

    /// Keeps a new session beside the active one.
    pub fn keep(&mut self, url: &str, identity: Identity) {
        let at = match self.servers.iter().position(|server| server.url == url) {
            Some(at) => at,
            None => {
                self.servers.push(Server {
                    url: url.to_owned(),
                    active: None,
                    identities: Vec::new(),
                });
                self.servers.len() - 1
            }
        };
        let server = &mut self.servers[at];
        server.identities.retain(|other| other.name != identity.name);
        server.identities.push(identity);
    }

    /// Forgets an identity. Another one does not become active by itself: acting as somebody else is a decision.
    pub fn sign_out(&mut self, url: &str, name: &str) {
        for server in self.servers.iter_mut().filter(|server| server.url == url) {
            server.identities.retain(|identity| identity.name != name);
            if server.active.as_deref() == Some(name) {
                server.active = None;
            }
        }
        self.servers.retain(|server| !server.identities.is_empty());
    }
}

//! The way to the server: which one, as whom, and what to say when that fails.

use std::sync::Once;

use bailiwick_api::names::nearest;
use bailiwick_api::users::Login;
use bailiwick_client::{Client, Error};

use crate::args::Common;
use crate::failure::{Failure, Result, exit};
use crate::output::{now, warn, when};
use crate::sessions::{Identity, Sessions};
use crate::settings::{Origin, Settings};

/// Where the credential comes from.
pub enum Credential {
    Session {
        name: String,
    },
    Key {
        origin: Origin,
    },
    /// None: enough where access control is off, and for signing in.
    None {
        withheld: Option<String>,
    },
}

/// A server, and as whom.
pub struct Connection {
    pub client: Client,
    pub settings: Settings,
    pub credential: Credential,
    _reminder: Reminder,
}

/// Says at the end of each command that break-glass is on, as long as it is.
struct Reminder(Client);

impl Drop for Reminder {
    fn drop(&mut self) {
        static ONCE: Once = Once::new();
        if let Some(until) = self.0.break_glass_until() {
            let until = format!("{until} ({})", when(until, now()));
            ONCE.call_once(|| warn(&format!("BREAK-GLASS is on: you are ClusterAdmin until {until}, and every act is on record; `ml access break-glass --end` ends it")));
        }
    }
}

impl Connection {
    /// No network is touched yet.
    pub fn open(common: &Common) -> Result<Connection> {
        let settings = Settings::read(common)?;
        let (secret, credential) = choose(&settings)?;
        let client = plain_client(&settings)?.with_key(secret.as_deref());
        Ok(Connection {
            _reminder: Reminder(client.clone()),
            client,
            settings,
            credential,
        })
    }

    /// Turns a failed call into words for the person, with the hint that helps here.
    pub fn explain(&self, why: Error) -> Failure {
        let failure = Failure::from(why);
        if failure.exit != exit::SIGN_IN_NEEDED {
            return failure;
        }
        let server = &self.settings.server.value;
        let hint = match &self.credential {
            Credential::Session { name } => {
                format!("the session of {name} at {server} has ended: run `ml login {name}`")
            }
            Credential::Key { origin } => format!(
                "{server} does not accept the key from {}: put one there that `ml token create` printed, or sign in with `ml login NAME`",
                match origin {
                    Origin::UserFile(path) => format!("[worker] api_key in {}", path.display()),
                    other => other.to_string(),
                }
            ),
            Credential::None { withheld: None } => format!("not signed in at {server}: run `ml login NAME`"),
            Credential::None { withheld: Some(why) } => {
                format!("the key in config.toml is not sent to {server} ({why}): run `ml login NAME`")
            }
        };
        failure.hint(hint)
    }
}

/// A client that is not signed in.
pub fn plain_client(settings: &Settings) -> Result<Client> {
    Client::new(&settings.server.value, None, settings.ca_pem()?.as_deref()).map_err(|why| {
        Failure::wrong_usage(why.to_string()).hint(format!("the server is from: {}", settings.server.origin))
    })
}

/// An identity asked for by flag, else the key in the environment, else an identity from the environment, else the active one, else the key in the user's file.
fn choose(settings: &Settings) -> Result<(Option<String>, Credential)> {
    let asked = settings.user.as_ref();
    let by_flag = asked.is_some_and(|user| matches!(user.origin, Origin::Flag(_)));
    if !by_flag
        && let Some(key) = &settings.api_key
        && matches!(key.origin, Origin::Environment(_))
    {
        return Ok(with_key(key.value.clone(), key.origin.clone()));
    }
    let url = &settings.server.value;
    let sessions = Sessions::read(&settings.home)?;
    if let Some(identity) = sessions.identity(url, asked.map(|user| user.value.as_str())) {
        let credential = Credential::Session {
            name: identity.name.clone(),
        };
        return Ok((Some(identity.token.clone()), credential));
    }
    if let Some(asked) = asked {
        let refusal = not_signed_in(&asked.value, url, &sessions);
        if !crate::prompt::is_possible() {
            return Err(refusal);
        }
        return sign_in_beside(settings, &asked.value, refusal);
    }
    match &settings.api_key {
        Some(key) => Ok(with_key(key.value.clone(), key.origin.clone())),
        None => Ok((
            None,
            Credential::None {
                withheld: settings.api_key_withheld.clone(),
            },
        )),
    }
}

/// Determined's `-u NAME`: asks for the password and keeps the session; who is active stays so.
fn sign_in_beside(settings: &Settings, name: &str, refusal: Failure) -> Result<(Option<String>, Credential)> {
    if let Some(hint) = &refusal.hint
        && hint.starts_with("did you mean")
    {
        return Err(refusal);
    }
    let password = crate::prompt::password(&format!("Password of {name}"), "`ml login --password-file`")?;
    let client = plain_client(settings)?;
    let login = Login {
        name: name.to_owned(),
        password,
    };
    // On a thread of its own: the caller may be within a runtime already.
    let signed_in = std::thread::spawn(move || block_on(async { Ok(client.login(&login).await?) })).join();
    let session = signed_in.map_err(|_| Failure::new("signing in broke off"))??;
    let name = session.name.clone();
    let identity = Identity {
        name: session.name,
        token: session.token.clone(),
        expires_at: session.expires_at,
    };
    Sessions::change(&settings.home, |sessions| {
        sessions.keep(&settings.server.value, identity);
    })?;
    Ok((Some(session.token), Credential::Session { name }))
}

fn with_key(key: String, origin: Origin) -> (Option<String>, Credential) {
    (Some(key), Credential::Key { origin })
}

fn not_signed_in(name: &str, url: &str, sessions: &Sessions) -> Failure {
    let known: Vec<_> = sessions
        .server(url)
        .map(|server| {
            server
                .identities
                .iter()
                .map(|identity| identity.name.as_str())
                .collect()
        })
        .unwrap_or_default();
    let hint = match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `-u {meant}`? Otherwise run `ml login {name}`"),
        None => format!("run `ml login {name}`"),
    };
    Failure {
        exit: exit::SIGN_IN_NEEDED,
        ..Failure::new(format!("{name} has not signed in at {url}")).hint(hint)
    }
}

/// Runs a future on this thread; made only by commands that talk to a server, when they do. Ctrl-C ends the process as usual, except within
/// [`until_interrupted`].
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|why| Failure::new(format!("cannot start: {why}")))?
        .block_on(future)
}

/// Runs a future until Ctrl-C, then says how to go on.
pub async fn until_interrupted<T>(future: impl Future<Output = Result<T>>, say: impl FnOnce() -> String) -> Result<T> {
    tokio::select! {
        result = future => result,
        _ = tokio::signal::ctrl_c() => {
            let words = say();
            if !words.is_empty() {
                // On its own line, after the ^C that the terminal shows.
                crate::output::say(&format!("\n{words}"));
            }
            Err(Failure::silent(exit::INTERRUPTED))
        }
    }
}

/// Adds the nearest of some names to a "not found".
pub async fn suggest<F>(failure: Failure, word: &str, is_missing: bool, names: F) -> Failure
where
    F: Future<Output = std::result::Result<Vec<String>, Error>>,
{
    if !is_missing {
        return failure;
    }
    let names = names.await.unwrap_or_default();
    match nearest(word, names.iter().map(String::as_str).filter(|name| *name != word)) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
        None => failure,
    }
}

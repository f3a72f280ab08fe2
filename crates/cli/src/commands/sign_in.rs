//! `ml login`, `logout`, `whoami`

use bailiwick_api::users::{Login as Credentials, LoginWithLink, Me, Session};

use crate::args::{Common, Login};
use crate::connect::{Connection, Credential, block_on, plain_client};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, now, say, warn, when};
use crate::prompt;
use crate::sessions::{Identity, Sessions};
use crate::settings::{Origin, Setting, Settings, clean_server};

pub fn login(common: &Common, login: &Login) -> Result<()> {
    let settings = Settings::read(common)?;
    match &login.link {
        Some(link) => with_link(settings, link, login),
        None => with_password(&settings, login),
    }
}

fn with_password(settings: &Settings, login: &Login) -> Result<()> {
    let client = plain_client(settings)?;
    let asked = login
        .name
        .clone()
        .or_else(|| settings.user.as_ref().map(|user| user.value.clone()));
    let name = match asked {
        Some(name) => name,
        None => prompt::line("Name", "`ml login NAME`")?,
    };
    let password = match &login.password_file {
        Some(file) => prompt::secret_from(file)?,
        None => prompt::password(&format!("Password of {name}"), "--password-file")?,
    };
    let session = block_on(async { Ok(client.login(&Credentials { name, password }).await?) })?;
    keep(settings, session)
}

fn with_link(mut settings: Settings, link: &str, login: &Login) -> Result<()> {
    let link = match link {
        "-" => prompt::secret_from("-".as_ref())?,
        link => link.to_owned(),
    };
    let (server, token) = read_link(&link)?;
    // A link says itself where it leads; `--server` counts more (the server may have another address from here).
    if let Some(server) = server
        && !matches!(settings.server.origin, Origin::Flag(_))
    {
        settings.server = Setting {
            value: server,
            origin: Origin::Flag("--link"),
        };
    }
    let client = plain_client(&settings)?;
    let given = login.password_file.as_deref().map(prompt::secret_from).transpose()?;
    let attempt = |password: Option<String>| {
        block_on(async {
            let login = LoginWithLink {
                token: token.clone(),
                password,
            };
            Ok(client.login_with_link(&login).await)
        })
    };
    let needs_password = given.is_none();
    let session = match attempt(given)? {
        Err(why) if needs_password && why.code() == Some("password_needed") => {
            let password = prompt::new_password("", "--password-file")?;
            attempt(Some(password))??
        }
        other => other?,
    };
    keep(&settings, session)
}

/// `https://HOST/activate#mll_…`, or the part after `#` alone.
fn read_link(link: &str) -> Result<(Option<String>, String)> {
    let (before, token) = match link.trim().rsplit_once('#') {
        Some((before, token)) => (Some(before), token),
        None => (None, link.trim()),
    };
    if !token.starts_with("mll_") {
        return Err(Failure::wrong_usage("that is not an activation or sign-in link")
            .hint("a link looks like https://ml.example.com/activate#mll_… (in quotes, because of the #)"));
    }
    let server = before.map(|url| clean_server(url.trim_end_matches('/').trim_end_matches("/activate")));
    Ok((server, token.to_owned()))
}

fn keep(settings: &Settings, session: Session) -> Result<()> {
    let url = &settings.server.value;
    let identity = Identity {
        name: session.name.clone(),
        token: session.token,
        expires_at: session.expires_at,
    };
    Sessions::change(&settings.home, |sessions| sessions.sign_in(url, identity))?;
    say(&format!(
        "Signed in at {url} as {}; the session ends {}.",
        session.name,
        when(session.expires_at, now())
    ));
    // What would make the next command go elsewhere or act as somebody else.
    let next = Settings::read(&Common::default())?.server;
    if next.value != *url {
        warn(&format!(
            "the next command goes to {}, which is from {}: give it --server {url}",
            next.value, next.origin
        ));
    }
    if std::env::var_os("ML_API_KEY").is_some_and(|key| !key.is_empty()) {
        warn(&format!(
            "ML_API_KEY is set and counts more than this session: use -u {}, or unset it",
            session.name
        ));
    }
    Ok(())
}

pub fn logout(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    let url = &connection.settings.server.value;
    let Credential::Session { name } = &connection.credential else {
        return Err(Failure::new(format!("nobody is signed in at {url}")));
    };
    let told = block_on(async { Ok(connection.client.logout().await) })?;
    Sessions::change(&connection.settings.home, |sessions| sessions.sign_out(url, name))?;
    match told {
        // The server has ended the session before.
        Err(why) if why.status() == Some(401) => {}
        Err(why) => warn(&format!(
            "the session is forgotten here, but the server could not be told: {why}"
        )),
        Ok(()) => {}
    }
    say(&format!("Signed out {name} at {url}."));
    Ok(())
}

const WHOAMI: &[Column<Me>] = &[
    column("NAME", |me| me.user.name.as_str().into()),
    column("ROLES", |me| super::users::roles(&me.user).into()),
    column("GROUPS", |me| me.user.groups.join(", ").into()),
    column("SEES", |me| me.sees.as_str().into()),
    column("CREDENTIAL", |me| me.credential.as_str().into()),
    column("ENDS", |me| me.credential_expires_at.into()),
    column("ONLY FOR", |me| {
        super::tokens::list_words(&me.narrowed.permissions).into()
    }),
    column("ONLY IN", |me| {
        super::tokens::list_words(&me.narrowed.workspaces).into()
    }),
];

pub fn whoami(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let me = connection.client.me().await.map_err(|why| connection.explain(why))?;
        output.one(WHOAMI, |me| me.user.id.to_string(), &me)?;
        if output.is_for_people() {
            say(&format!("at {}", connection.settings.server.value));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_where_it_leads() {
        let (server, token) = read_link("http://127.0.0.1:8080/activate#mll_abc").unwrap();
        assert_eq!(
            (server.as_deref(), token.as_str()),
            (Some("http://127.0.0.1:8080"), "mll_abc")
        );
        let (server, _) = read_link("https://Example.com/ml/activate#mll_abc\n").unwrap();
        assert_eq!(server.as_deref(), Some("https://example.com/ml"));
        assert_eq!(read_link("mll_abc").unwrap().0, None);
        assert!(read_link("https://example.com/activate").is_err());
    }
}

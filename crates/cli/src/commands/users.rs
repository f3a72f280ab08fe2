//! `ml user …`, `ml change-password`

use bailiwick_api::Page;
use bailiwick_api::roles::{AssignmentView, ScopeView};
use bailiwick_api::users::{ChangePassword as Change, ChangeUser, Link, NewUser, User, UserWithLink};
use bailiwick_client::calls::every;
use bailiwick_client::{Error, is_missing};

use crate::args::{self, ChangePassword, Common};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::{Failure, Result};
use crate::output::{Cell, Column, Output, column, now, say, when, wide};
use crate::prompt;

pub const COLUMNS: &[Column<User>] = &[
    column("ID", |user| user.id.0.into()),
    column("NAME", |user| user.name.as_str().into()),
    column("STATE", |user| user.state.name().into()),
    column("ROLES", |user| roles(user).into()),
    column("LAST SEEN", |user| user.last_seen_at.into()),
    wide("GROUPS", |user| user.groups.join(", ").into()),
    wide("REMOTE", |user| if user.remote { "yes" } else { "no" }.into()),
    wide("CREATED", |user| user.created_at.into()),
    wide("EMAIL", |user| Cell::Text(user.email.clone().unwrap_or_default())),
    wide("DISPLAY NAME", |user| {
        Cell::Text(user.display_name.clone().unwrap_or_default())
    }),
];

pub fn id(user: &User) -> String {
    user.id.to_string()
}

/// `ClusterAdmin, Viewer on workspace "vision"`
pub fn roles(user: &User) -> String {
    user.roles.iter().map(role_words).collect::<Vec<_>>().join(", ")
}

/// `globally`, `on workspace "Stop Signs"`, `on project "Euro" (workspace "Stop Signs")`, `on experiment 12`.
pub fn place_words(scope: &ScopeView) -> String {
    match scope {
        ScopeView::Global => "globally".into(),
        ScopeView::Workspace { name, .. } => format!("on workspace \"{name}\""),
        ScopeView::Project { name, workspace, .. } => match workspace {
            Some(workspace) => format!("on project \"{name}\" (workspace \"{workspace}\")"),
            None => format!("on project \"{name}\""),
        },
        ScopeView::Object { object, id, name } if name.is_empty() => format!("on {object} {id}"),
        ScopeView::Object { object, name, .. } => format!("on {object} \"{name}\""),
    }
}

/// `Viewer on workspace "vision" (through Users) until 2027-01-31T00:00:00Z`
pub fn role_words(assignment: &AssignmentView) -> String {
    let place = match &assignment.scope {
        ScopeView::Global => String::new(),
        scope => format!(" {}", place_words(scope)),
    };
    let through = match &assignment.through_group {
        Some(group) => format!(" (through {group})"),
        None => String::new(),
    };
    let until = match assignment.until {
        Some(end) => format!(" until {end}"),
        None => String::new(),
    };
    format!("{}{place}{through}{until}", assignment.role)
}

pub fn run(common: &Common, command: args::User) -> Result<()> {
    match command {
        args::User::Create {
            name,
            email,
            display_name,
            role,
            workspace,
            remote,
            password_file,
        } => {
            let called = match email {
                None => NewUser::called(&name),
                email => NewUser {
                    name,
                    email,
                    ..NewUser::default()
                },
            };
            let user = NewUser {
                password: password_file.as_deref().map(prompt::secret_from).transpose()?,
                display_name,
                role,
                workspace,
                remote,
                ..called
            };
            create(common, &user)
        }
        args::User::List { all } => list(common, all),
        args::User::Show { name } => show(common, &name),
        args::User::Edit {
            user,
            name,
            display_name,
            email,
            remote,
            active,
        } => {
            let change = ChangeUser {
                name,
                display_name,
                email,
                remote,
                active,
            };
            edit(common, &user, &change)
        }
        args::User::Deactivate { name } => deactivate(common, &name),
        args::User::Activate { name } => activate(common, &name),
        args::User::Remove { name, sure } => remove(common, &name, sure.yes),
        args::User::Link { name } => link(common, &name),
        args::User::Withdraw { name } => withdraw(common, &name),
        args::User::ChangePassword(change) => change_password(common, &change),
        args::User::Login(login) => super::sign_in::login(common, &login),
        args::User::Logout => super::sign_in::logout(common),
        args::User::Whoami => super::sign_in::whoami(common),
    }
}

fn create(common: &Common, user: &NewUser) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let created = connection
            .client
            .create_user(user)
            .await
            .map_err(|why| connection.explain(why))?;
        say_created(&output, &created)
    })
}

/// The link is the data of this command: a program gets it alone, on standard output.
fn say_created(output: &Output, created: &UserWithLink) -> Result<()> {
    let user = &created.user;
    if output.wants_json() {
        return crate::output::write(&crate::output::json(created));
    }
    let Some(link) = &created.link else {
        let remote = match user.remote {
            true => " Until single sign-on is set up, the way in is a key made with `ml token create --for`.",
            false => "",
        };
        return output.did(&format!("Created user {}.{remote}", user.name), COLUMNS, id, user);
    };
    say(&format!(
        "Created user {}. {}Hand over this link; it works once, until {} ({}):",
        user.name,
        mail_words(link),
        link.expires_at,
        when(link.expires_at, now())
    ));
    write_link(output, &link.url)
}

/// What became of the mail, as a sentence and a blank.
fn mail_words(link: &Link) -> String {
    link.mail.as_ref().map(|mail| format!("{mail} ")).unwrap_or_default()
}

fn withdraw(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let user = found(&connection, name, connection.client.withdraw_user(name).await).await?;
        let sentence = format!("Withdrew the invitation of {}; its link has ended.", user.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &user)
    })
}

fn write_link(output: &Output, url: &str) -> Result<()> {
    crate::output::write(&format!("{url}\n"))?;
    if output.is_for_people() {
        say(&format!("or: ml login --link '{url}'"));
    }
    Ok(())
}

fn list(common: &Common, all: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let seats = std::cell::Cell::new(None);
        let seen = &seats;
        let users = every(|after| async move {
            let page = client.users_with_seats(all, after.as_deref()).await?;
            seen.set(page.seats);
            Ok(Page {
                items: page.items,
                next: page.next,
            })
        })
        .await;
        let users = users.map_err(|why| connection.explain(why))?;
        let output = Output::new(common.output);
        output.list(COLUMNS, id, &users)?;
        if let Some(seats) = seats.get()
            && output.is_for_people()
        {
            say(&format!("{seats} taken"));
        }
        Ok(())
    })
}

fn show(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let user = found(&connection, name, connection.client.user(name).await).await?;
        Output::new(common.output).one(COLUMNS, id, &user)
    })
}

fn edit(common: &Common, name: &str, change: &ChangeUser) -> Result<()> {
    let parts = [
        ("name", change.name.is_some()),
        ("display name", change.display_name.is_some()),
        ("e-mail address", change.email.is_some()),
        ("remote", change.remote.is_some()),
        ("active", change.active.is_some()),
    ];
    let changed: Vec<&str> = parts.iter().filter(|(_, is)| *is).map(|(part, _)| *part).collect();
    if changed.is_empty() {
        return Err(Failure::wrong_usage("nothing to change is given")
            .hint("use --name, --display-name, --email, --remote or --active"));
    }
    let connection = Connection::open(common)?;
    block_on(async {
        let user = found(&connection, name, connection.client.change_user(name, change).await).await?;
        let sentence = format!("Changed user {}: {}.", user.name, changed.join(", "));
        Output::new(common.output).did(&sentence, COLUMNS, id, &user)
    })
}

fn deactivate(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let user = found(&connection, name, connection.client.deactivate_user(name).await).await?;
        let sentence = format!(
            "Deactivated user {}; every session and key of this user has ended.",
            user.name
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &user)
    })
}

fn activate(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let user = found(&connection, name, connection.client.activate_user(name).await).await?;
        Output::new(common.output).did(&format!("Activated user {}.", user.name), COLUMNS, id, &user)
    })
}

fn remove(common: &Common, name: &str, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("remove user {name} for good"))?;
    block_on(async {
        let user = found(&connection, name, connection.client.remove_user(name).await).await?;
        let sentence = format!("Removed user {}; what this user made stays.", user.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &user)
    })
}

fn link(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let link = found(&connection, name, connection.client.user_link(name).await).await?;
        if output.wants_json() {
            return crate::output::write(&crate::output::json(&link));
        }
        say(&format!(
            "{}This link works once, until {} ({}):",
            mail_words(&link),
            link.expires_at,
            when(link.expires_at, now())
        ));
        write_link(&output, &link.url)
    })
}

pub fn change_password(common: &Common, change: &ChangePassword) -> Result<()> {
    let connection = Connection::open(common)?;
    let client = &connection.client;
    let me = block_on(async { client.me().await.map_err(|why| connection.explain(why)) })?;
    let name = change.name.as_deref().unwrap_or(&me.user.name);
    let is_own = name.to_lowercase() == me.user.name.to_lowercase() || name == me.user.id.to_string();
    let old_password = match &change.old_password_file {
        Some(file) => Some(prompt::secret_from(file)?),
        None if is_own => Some(prompt::password("Old password", "--old-password-file")?),
        None => None,
    };
    let new_password = match &change.password_file {
        Some(file) => prompt::secret_from(file)?,
        None => prompt::new_password(&format!(" of {name}"), "--password-file")?,
    };
    // Another client: the connections of the first went with its runtime.
    let connection = Connection::open(common)?;
    block_on(async {
        let change = Change {
            old_password,
            new_password,
        };
        let changed = connection.client.change_password(name, &change).await;
        found(&connection, name, changed).await?;
        say(&format!("Changed the password of {name}."));
        Ok(())
    })
}

/// What was found, or why not, with the nearest name.
pub async fn found<T>(connection: &Connection, name: &str, result: std::result::Result<T, Error>) -> Result<T> {
    let missing = is_missing(&result);
    match result {
        Ok(thing) => Ok(thing),
        Err(why) => {
            let failure = connection.explain(why);
            let names = async {
                let page = connection.client.users(true, None).await?;
                Ok(page.items.into_iter().map(|user| user.name).collect())
            };
            Err(suggest(failure, name, missing, names).await)
        }
    }
}

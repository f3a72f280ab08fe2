//! `ml role …`, `ml permission list`

use bailiwick_api::on::On;
use bailiwick_api::permission::PermissionScope;
use bailiwick_api::roles::{
    Assignment, AssignmentChange, AssignmentFilter, NewAssignment, NewAssignments, NewRole, OldAssignments, Role,
    RoleChange, RoleDetail, WhichAssignment,
};
use bailiwick_api::time::parse_duration_ms;
use bailiwick_api::{AssignmentId, Permission, Time};
use bailiwick_client::calls::every;
use bailiwick_client::{Client, Error, is_missing};
use serde::Serialize;

use crate::args::{self, Common, Holders, Where};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, now, say, when, wide, write};
use crate::prompt;

const ROLES: &[Column<Role>] = &[
    column("ID", |role| role.id.0.into()),
    column("NAME", |role| role.name.as_str().into()),
    column("ASSIGNED", |role| assigned(role).into()),
    column("DESCRIPTION", |role| role.description.as_str().into()),
    wide("BUILT IN", |role| if role.built_in { "yes" } else { "no" }.into()),
    wide("PERMISSIONS", |role| role.permissions.join(", ").into()),
];

const DETAIL: &[Column<RoleDetail>] = &[
    column("ID", |detail| detail.role.id.0.into()),
    column("NAME", |detail| detail.role.name.as_str().into()),
    column("DESCRIPTION", |detail| detail.role.description.as_str().into()),
    column("BUILT IN", |detail| {
        if detail.role.built_in { "yes" } else { "no" }.into()
    }),
    column("ASSIGNED", |detail| assigned(&detail.role).into()),
    column("PERMISSIONS", |detail| detail.role.permissions.join(", ").into()),
    column("HELD BY", |detail| {
        let held = detail
            .assignments
            .iter()
            .map(|one| format!("{} {}", holder(one), place(one)));
        held.collect::<Vec<_>>().join(", ").into()
    }),
];

const ASSIGNMENTS: &[Column<Assignment>] = &[
    column("ID", |one| one.id.0.into()),
    column("ROLE", |one| one.role.as_str().into()),
    column("USER", |one| one.user.clone().unwrap_or_default().into()),
    column("GROUP", |one| one.group.clone().unwrap_or_default().into()),
    column("ON", |one| one.on.as_str().into()),
    column("UNTIL", |one| one.until.into()),
    wide("CREATED", |one| one.created_at.into()),
    wide("BY", |one| one.created_by.clone().unwrap_or_default().into()),
    wide("BUILT IN", |one| if one.built_in { "yes" } else { "no" }.into()),
    wide("REASON", |one| one.reason.as_str().into()),
];

fn id(role: &Role) -> String {
    role.id.to_string()
}

fn assignment_id(one: &Assignment) -> String {
    one.id.to_string()
}

pub fn assigned(role: &Role) -> &'static str {
    if role.global_only { "globally" } else { "anywhere" }
}

pub fn run(common: &Common, command: args::Role) -> Result<()> {
    match command {
        args::Role::List => list(common),
        args::Role::Describe { role } => describe(common, &role),
        args::Role::Create {
            name,
            permissions,
            description,
        } => create(
            common,
            &NewRole {
                name,
                description,
                permissions,
            },
        ),
        args::Role::Update {
            role,
            name,
            description,
            add,
            remove,
        } => update(
            common,
            &role,
            &RoleChange {
                name,
                description,
                permissions: None,
                add,
                remove,
            },
        ),
        args::Role::Delete { role, force, sure } => delete(common, &role, force, sure.yes),
        args::Role::Assign(assign) => assign_role(common, assign),
        args::Role::Revoke(revoke) => revoke_role(common, revoke),
        args::Role::Assignment(args::Assignment::List(which)) => list_assignments(common, *which),
        args::Role::Assignment(args::Assignment::Change {
            id,
            role,
            until,
            no_end,
        }) => change_assignment(common, id, role, until.as_deref(), no_end),
        args::Role::Assignment(args::Assignment::Delete { ids }) => delete_assignments(common, &ids),
    }
}

async fn all_roles(client: &Client) -> std::result::Result<Vec<Role>, Error> {
    every(|after| async move { client.roles_after(after.as_deref()).await }).await
}

/// What was found, or why not, with the nearest name of a role.
async fn found<T>(connection: &Connection, role: &str, result: std::result::Result<T, Error>) -> Result<T> {
    let about_it =
        matches!(&result, Err(Error::Refused { body, .. }) if body.message == format!("there is no role `{role}`"));
    let missing = is_missing(&result) && about_it;
    match result {
        Ok(thing) => Ok(thing),
        Err(why) => {
            let failure = connection.explain(why);
            let names = async {
                let roles = all_roles(&connection.client).await?;
                Ok(roles.into_iter().map(|role| role.name).collect())
            };
            Err(suggest(failure, role, missing, names).await)
        }
    }
}

/// All roles, for the lists here and under `rbac`.
pub fn read_all(connection: &Connection) -> Result<Vec<Role>> {
    block_on(async {
        all_roles(&connection.client)
            .await
            .map_err(|why| connection.explain(why))
    })
}

pub fn show(output: &Output, roles: &[Role]) -> Result<()> {
    output.list(ROLES, id, roles)
}

fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    show(&Output::new(common.output), &read_all(&connection)?)
}

pub fn describe(common: &Common, role: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let client = &connection.client;
        let mut detail = found(&connection, role, client.role(role).await).await?;
        let role_id = Some(detail.role.id.to_string());
        while detail.more {
            let filter = AssignmentFilter {
                role: role_id.clone(),
                after: detail.assignments.last().map(|one| one.id.0),
                limit: Some(1000),
                ..AssignmentFilter::default()
            };
            let page = client
                .assignments(&filter)
                .await
                .map_err(|why| connection.explain(why))?;
            detail.more = page.next.is_some();
            detail.assignments.extend(page.items);
        }
        let of = |detail: &RoleDetail| id(&detail.role);
        if !output.is_for_people() {
            return output.one(DETAIL, of, &detail);
        }
        let assignments = std::mem::take(&mut detail.assignments);
        output.one(DETAIL, of, &detail)?;
        if assignments.is_empty() {
            return write("\nNobody holds it, as far as you may see.\n");
        }
        write("\n")?;
        output.list(ASSIGNMENTS, assignment_id, &assignments)
    })
}

fn create(common: &Common, role: &NewRole) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let created = connection.client.create_role(role).await;
        let role = created.map_err(|why| connection.explain(why))?;
        let sentence = format!(
            "Created role \"{}\" with {}. Nobody holds it yet: `ml role assign` gives it.",
            role.name,
            permissions_word(role.permissions.len())
        );
        Output::new(common.output).did(&sentence, ROLES, id, &role)
    })
}

fn permissions_word(count: usize) -> String {
    match count {
        0 => "no permissions".into(),
        1 => "1 permission".into(),
        count => format!("{count} permissions"),
    }
}

fn update(common: &Common, name: &str, change: &RoleChange) -> Result<()> {
    if change.name.is_none() && change.description.is_none() && change.add.is_empty() && change.remove.is_empty() {
        return Err(
            Failure::wrong_usage("nothing to change is given").hint("use --add, --remove, --name or --description")
        );
    }
    let connection = Connection::open(common)?;
    block_on(async {
        let changed = connection.client.change_role(name, change).await;
        let role = found(&connection, name, changed).await?;
        let sentence = format!(
            "Changed role \"{}\"; it holds {}.",
            role.name,
            permissions_word(role.permissions.len())
        );
        Output::new(common.output).did(&sentence, ROLES, id, &role)
    })
}

fn delete(common: &Common, name: &str, force: bool, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("delete role {name} for good"))?;
    block_on(async {
        let deleted = connection.client.delete_role(name, force).await;
        let deleted = match deleted {
            Err(Error::Refused { status: 409, body }) if !force && body.message.contains("is assigned") => {
                let why = Error::Refused { status: 409, body };
                return Err(connection.explain(why).hint(format!(
                    "`ml role assignment list --role {name:?}` lists who holds it; --force takes it from them"
                )));
            }
            other => found(&connection, name, other).await?,
        };
        let with = match deleted.assignments {
            0 => String::new(),
            1 => ", and the one assignment of it".into(),
            count => format!(", and the {count} assignments of it"),
        };
        let sentence = format!("Deleted role \"{}\"{with}.", deleted.role.name);
        Output::new(common.output).did(&sentence, ROLES, id, &deleted.role)
    })
}

impl Where {
    /// As the server reads it; nothing: everywhere.
    pub fn text(&self) -> Result<Option<String>> {
        Ok(self.named()?.map(|on| on.to_string()))
    }

    fn named(&self) -> Result<Option<On>> {
        match (&self.workspace, &self.project, &self.on) {
            (None, None, None) => Ok(None),
            (Some(workspace), None, _) => Ok(Some(On::Workspace(workspace.clone()))),
            (Some(workspace), Some(project), _) => Ok(Some(On::Project(workspace.clone(), project.clone()))),
            (None, Some(project), _) if project.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Some(On::Project(String::new(), project.clone())))
            }
            (None, Some(_), _) => Err(Failure::wrong_usage(
                "--project needs --workspace, to say whose project it is",
            )),
            (None, None, Some(on)) => On::parse_named(on)
                .map(Some)
                .map_err(|why| Failure::wrong_usage(format!("--on: {why}"))),
        }
    }
}

/// When something ends: a moment, or how long it lasts by the server's clock.
#[derive(Clone, Copy, Default)]
pub struct End {
    until: Option<Time>,
    lifetime_ms: Option<i64>,
}

impl End {
    pub fn parse(text: Option<&str>) -> Result<End> {
        let Some(text) = text else {
            return Ok(End::default());
        };
        if let Ok(ms) = parse_duration_ms(text) {
            return Ok(End {
                until: None,
                lifetime_ms: Some(ms),
            });
        }
        let until = Time::parse_until(text, now()).map_err(|why| Failure::wrong_usage(format!("--until: {why}")))?;
        Ok(End {
            until: Some(until),
            lifetime_ms: None,
        })
    }

    /// An assignment with this end, and nothing else yet.
    pub fn of_new(self) -> NewAssignment {
        NewAssignment {
            until: self.until,
            lifetime_ms: self.lifetime_ms,
            ..NewAssignment::default()
        }
    }
}

impl Holders {
    fn check(&self) -> Result<()> {
        if self.users.is_empty() && self.groups.is_empty() {
            return Err(Failure::wrong_usage("nobody is named").hint("use --user USER or --group GROUP"));
        }
        Ok(())
    }

    /// For each of them, who it is.
    fn each(&self) -> impl Iterator<Item = (Option<String>, Option<String>)> {
        let users = self.users.iter().map(|user| (Some(user.clone()), None));
        users.chain(self.groups.iter().map(|group| (None, Some(group.clone()))))
    }
}

fn assign_role(common: &Common, assign: args::Assign) -> Result<()> {
    assign.to.check()?;
    let (on, end) = (assign.place.text()?, End::parse(assign.until.as_deref())?);
    let assignments = assign.to.each().map(|(user, group)| NewAssignment {
        role: assign.role.clone(),
        user,
        group,
        on: on.clone(),
        ..end.of_new()
    });
    let new = NewAssignments {
        assignments: assignments.collect(),
        reason: assign.reason.clone(),
    };
    give(common, &assign.role, &new)
}

pub fn give(common: &Common, role: &str, new: &NewAssignments) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let given = found(&connection, role, connection.client.assign(new).await)
            .await?
            .items;
        let sentence = |one: &Assignment| {
            let until = one
                .until
                .map(|end| format!(" until {end} ({})", when(end, now())))
                .unwrap_or_default();
            format!("Assigned {} to {} {}{until}.", one.role, holder(one), place(one))
        };
        did_all(common, &given, sentence)
    })
}

fn revoke_role(common: &Common, revoke: args::Revoke) -> Result<()> {
    revoke.from.check()?;
    let on = revoke.place.text()?;
    let assignments = revoke.from.each().map(|(user, group)| WhichAssignment {
        role: revoke.role.clone(),
        user,
        group,
        on: on.clone(),
    });
    let old = OldAssignments {
        assignments: assignments.collect(),
    };
    take(common, &revoke.role, &old)
}

pub fn take(common: &Common, role: &str, old: &OldAssignments) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let taken = found(&connection, role, connection.client.unassign(old).await)
            .await?
            .items;
        did_all(common, &taken, taken_words)
    })
}

fn taken_words(one: &Assignment) -> String {
    format!("Took {} from {} {}.", one.role, holder(one), place(one))
}

/// A sentence for each for a person, the things for a program.
fn did_all(common: &Common, all: &[Assignment], sentence: impl Fn(&Assignment) -> String) -> Result<()> {
    let output = Output::new(common.output);
    if !output.is_for_people() {
        return output.list(ASSIGNMENTS, assignment_id, all);
    }
    all.iter().for_each(|one| say(&sentence(one)));
    Ok(())
}

/// `user "ana"`, `group "Traffic Lights Team"`
fn holder(one: &Assignment) -> String {
    match (&one.user, &one.group) {
        (Some(user), _) => format!("user \"{user}\""),
        (None, group) => format!("group \"{}\"", group.as_deref().unwrap_or("?")),
    }
}

/// `globally`, `on workspace "Stop Signs"`
fn place(one: &Assignment) -> String {
    match On::parse(&one.on) {
        Ok(On::Installation) => "globally".into(),
        Ok(On::Workspace(name)) => format!("on workspace \"{name}\""),
        Ok(On::Project(workspace, name)) if !workspace.is_empty() => {
            format!("on project \"{name}\" of workspace \"{workspace}\"")
        }
        Ok(On::Queue(name)) => format!("on queue \"{name}\""),
        _ => format!("on {}", one.on.replacen(':', " ", 1)),
    }
}

fn list_assignments(common: &Common, which: args::Assignments) -> Result<()> {
    let on = which.place.text()?;
    let filter = AssignmentFilter {
        user: which.user,
        through_groups: which.through_groups.then_some(true),
        group: which.group,
        role: which.role,
        on,
        all: which.all.then_some(true),
        ..AssignmentFilter::default()
    };
    show_assignments(common, &filter)
}

pub fn show_assignments(common: &Common, filter: &AssignmentFilter) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let page = |after: Option<String>| async move {
            let filter = AssignmentFilter {
                after: after.and_then(|after| after.parse().ok()),
                limit: Some(1000),
                ..filter.clone()
            };
            client.assignments(&filter).await
        };
        let listed = every(page).await;
        let listed = match &filter.role {
            Some(role) => found(&connection, role, listed).await?,
            None => listed.map_err(|why| connection.explain(why))?,
        };
        let output = Output::new(common.output);
        if listed.is_empty() && output.is_for_people() {
            say("There are none that you may see.");
        }
        output.list(ASSIGNMENTS, assignment_id, &listed)
    })
}

fn change_assignment(
    common: &Common,
    number: i64,
    role: Option<String>,
    until: Option<&str>,
    no_end: bool,
) -> Result<()> {
    let end = End::parse(until)?;
    if role.is_none() && until.is_none() && !no_end {
        return Err(Failure::wrong_usage("nothing to change is given").hint("use --role, --until or --no-end"));
    }
    let change = AssignmentChange {
        role,
        until: end.until,
        lifetime_ms: end.lifetime_ms,
        no_end: no_end.then_some(true),
    };
    let connection = Connection::open(common)?;
    block_on(async {
        let changed = connection.client.change_assignment(AssignmentId(number), &change).await;
        let changed = match &change.role {
            Some(role) => found(&connection, role, changed).await?,
            None => changed.map_err(|why| connection.explain(why))?,
        };
        let until = match changed.until {
            Some(end) => format!("until {end} ({})", when(end, now())),
            None => "without an end".into(),
        };
        let sentence = format!(
            "Now {} holds {} {} {until}.",
            holder(&changed),
            changed.role,
            place(&changed)
        );
        Output::new(common.output).did(&sentence, ASSIGNMENTS, assignment_id, &changed)
    })
}

fn delete_assignments(common: &Common, ids: &[i64]) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        for id in ids {
            let taken = connection.client.delete_assignment(AssignmentId(*id)).await;
            let taken = taken.map_err(|why| connection.explain(why))?;
            output.did(&taken_words(&taken), ASSIGNMENTS, assignment_id, &taken)?;
        }
        Ok(())
    })
}

/// Roles with their permissions under them, as a person reads them.
pub fn show_with_permissions(output: &Output, roles: &[Role]) -> Result<()> {
    if !output.is_for_people() {
        return show(output, roles);
    }
    let text = roles.iter().map(|role| {
        let title = format!(
            "{} (id {}, assigned {}): {}\n",
            role.name,
            role.id,
            assigned(role),
            role.description
        );
        crate::output::printable(title.trim_end()) + "\n" + &wrapped(&role.permissions) + "\n"
    });
    write(text.collect::<String>().trim_end_matches('\n')).and_then(|()| write("\n"))
}

/// Words after each other, a few a line, indented.
pub fn wrapped(words: &[String]) -> String {
    const WIDTH: usize = 100;
    let mut text = String::new();
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && line.len() + word.len() + 2 > WIDTH {
            text.push_str(&format!("    {line},\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

#[derive(Serialize)]
struct Meaning {
    name: &'static str,
    assigned: &'static str,
    meaning: &'static str,
}

const PERMISSIONS: &[Column<Meaning>] = &[
    column("NAME", |permission| permission.name.into()),
    column("ASSIGNED", |permission| permission.assigned.into()),
    column("MEANING", |permission| permission.meaning.into()),
];

/// The list is part of the program: no server is asked.
pub fn permissions(common: &Common) -> Result<()> {
    let permissions: Vec<_> = Permission::ALL
        .iter()
        .map(|permission| Meaning {
            name: permission.name(),
            assigned: match permission.scope() {
                PermissionScope::Global => "globally",
                _ => "anywhere",
            },
            meaning: permission.meaning(),
        })
        .collect();
    Output::new(common.output).list(PERMISSIONS, |permission| permission.name.to_owned(), &permissions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_permissions_are_broken_into_lines_without_losing_one() {
        let words: Vec<String> = Permission::ALL.iter().map(|one| one.name().to_owned()).collect();
        let text = wrapped(&words);
        assert!(
            text.lines().all(|line| line.len() <= 105 && line.starts_with("    ")),
            "{text}"
        );
        let read: Vec<&str> = text
            .split([',', '\n'])
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(read, words);
        assert_eq!(wrapped(&[]), "");
    }
}

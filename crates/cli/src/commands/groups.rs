//! `ml user-group …`

use bailiwick_api::groups::{ChangeGroup, Group, GroupChange, GroupDetail, GroupMember, GroupRow, NewGroup};
use bailiwick_api::users::PrincipalKind;
use bailiwick_client::calls::every;
use bailiwick_client::{Error, is_missing};

use super::users::role_words;
use crate::args::groups::{Members, UserGroup};
use crate::args::{Common, OutputFormat};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::{Failure, Result};
use crate::output::{Column, Output, column, wide};
use crate::prompt;

const COLUMNS: &[Column<Group>] = &[
    column("ID", |group| group.id.0.into()),
    column("NAME", |group| group.name.as_str().into()),
    column("MEMBERS", |group| members(group).into()),
    column("DESCRIPTION", |group| group.description.as_str().into()),
    column("WHO", |group| group.member_words().into()),
    wide("BUILT IN", |group| yes_or_no(group.built_in).into()),
];

const CHANGE: &[Column<GroupChange>] = &[
    column("ID", |change| change.group.id.0.into()),
    column("NAME", |change| change.group.name.as_str().into()),
    column("MEMBERS", |change| members(&change.group).into()),
    column("USERS", |change| names(&change.users).into()),
];

const DETAIL: &[Column<GroupDetail>] = &[
    column("ID", |detail| detail.group.id.0.into()),
    column("NAME", |detail| detail.group.name.as_str().into()),
    column("DESCRIPTION", |detail| detail.group.description.as_str().into()),
    column("BUILT IN", |detail| yes_or_no(detail.group.built_in).into()),
    column("ROLES", |detail| {
        let words: Vec<_> = detail.roles.iter().map(role_words).collect();
        words.join(", ").into()
    }),
    column("MEMBERS", |detail| members(&detail.group).into()),
    column("USERS", |detail| names(&detail.members.items).into()),
];

const MEMBERS: &[Column<GroupMember>] = &[
    column("ID", |member| member.id.0.into()),
    column("NAME", |member| member.name.as_str().into()),
    column("STATE", |member| member.state.name().into()),
    column("KIND", |member| {
        match member.kind {
            PrincipalKind::User => "user",
            PrincipalKind::Service => "service account",
        }
        .into()
    }),
];

fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// How many; nothing where one may not know.
fn members(group: &Group) -> String {
    group.members.map(|count| count.to_string()).unwrap_or_default()
}

fn names(members: &[GroupMember]) -> String {
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    names.join(", ")
}

fn id(group: &Group) -> String {
    group.id.to_string()
}

pub fn run(common: &Common, command: UserGroup) -> Result<()> {
    match command {
        UserGroup::Create {
            name,
            description,
            users,
        } => create(
            common,
            &NewGroup {
                name,
                description,
                users,
            },
        ),
        UserGroup::List { members: false } => list(common),
        UserGroup::List { members: true } => list_members(common),
        UserGroup::Describe { name } => describe(common, &name),
        UserGroup::AddUser(which) => add(common, &which),
        UserGroup::RemoveUser(which) => remove(common, &which),
        UserGroup::ChangeName { old, new } => rename(common, &old, new),
        UserGroup::Edit {
            group,
            name,
            description,
        } => edit(common, &group, ChangeGroup { name, description }),
        UserGroup::Delete { name, sure } => delete(common, &name, sure.yes),
    }
}

fn create(common: &Common, group: &NewGroup) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let created = connection.client.create_group(group).await;
        let created = created.map_err(|why| connection.explain(why))?;
        let with = match created.users.is_empty() {
            true => String::new(),
            false => format!(" with {}", names(&created.users)),
        };
        let sentence = format!("Created group \"{}\"{with}.", created.group.name);
        Output::new(common.output).did(&sentence, CHANGE, |change| id(&change.group), &created)
    })
}

const ROWS: &[Column<GroupRow>] = &[
    column("GROUP ID", |row| row.group_id.0.into()),
    column("GROUP", |row| row.group.as_str().into()),
    wide("DESCRIPTION", |row| row.description.as_str().into()),
    wide("BUILT IN", |row| yes_or_no(row.built_in).into()),
    column("MEMBER ID", |row| {
        row.member_id.map(|id| id.to_string()).unwrap_or_default().into()
    }),
    column("MEMBER", |row| row.member.clone().unwrap_or_default().into()),
    column("STATE", |row| row.state.map_or("", |state| state.name()).into()),
];

/// Every group with who belongs to it, as far as one may know; as CSV just as the page gives it.
fn list_members(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let groups = every(|after| async move { client.groups(after.as_deref()).await }).await;
        let mut rows = Vec::new();
        for group in groups.map_err(|why| connection.explain(why))? {
            let which = &*group.id.to_string();
            let members = every(|after| async move { Ok(client.group(which, after.as_deref()).await?.members) }).await;
            let members = members.map_err(|why| connection.explain(why))?;
            if members.is_empty() {
                rows.push(GroupRow::new(&group, None));
            }
            rows.extend(members.iter().map(|member| GroupRow::new(&group, Some(member))));
        }
        if common.output == Some(OutputFormat::Csv) {
            let lines: String = rows.iter().map(GroupRow::csv).collect();
            return crate::output::write(&format!("{}{lines}", GroupRow::CSV_HEAD));
        }
        let id = |row: &GroupRow| row.member_id.map(|id| id.to_string()).unwrap_or_default();
        Output::new(common.output).list(ROWS, id, &rows)
    })
}

fn list(common: &Common) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let groups = every(|after| async move { client.groups(after.as_deref()).await }).await;
        let groups = groups.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(COLUMNS, id, &groups)
    })
}

fn describe(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    let output = Output::new(common.output);
    block_on(async {
        let client = &connection.client;
        let mut detail = found(&connection, name, client.group(name, None).await).await?;
        while let Some(after) = detail.members.next.take() {
            let more = client.group(name, Some(&after)).await;
            let more = more.map_err(|why| connection.explain(why))?.members;
            detail.members.items.extend(more.items);
            detail.members.next = more.next;
        }
        if !output.is_for_people() {
            return output.one(DETAIL, |detail| id(&detail.group), &detail);
        }
        let members = std::mem::take(&mut detail.members.items);
        output.one(DETAIL, |detail| id(&detail.group), &detail)?;
        if members.is_empty() {
            return Ok(());
        }
        crate::output::write("\n")?;
        output.list(MEMBERS, |member| member.id.to_string(), &members)
    })
}

fn add(common: &Common, which: &Members) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let added = connection.client.add_to_group(&which.group, &which.users).await;
        let change = found(&connection, &which.group, added).await?;
        let sentence = format!("Added {} to group \"{}\".", names(&change.users), change.group.name);
        Output::new(common.output).did(&sentence, CHANGE, |change| id(&change.group), &change)
    })
}

fn remove(common: &Common, which: &Members) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let removed = connection.client.remove_from_group(&which.group, &which.users).await;
        let change = found(&connection, &which.group, removed).await?;
        let sentence = format!("Removed {} from group \"{}\".", names(&change.users), change.group.name);
        Output::new(common.output).did(&sentence, CHANGE, |change| id(&change.group), &change)
    })
}

fn rename(common: &Common, old: &str, new: Option<String>) -> Result<()> {
    let new = match new {
        Some(new) => new,
        None => prompt::line("New name", &format!("`ml user-group change-name {old:?} NEW`"))?,
    };
    let change = ChangeGroup {
        name: Some(new),
        description: None,
    };
    change_group(common, old, &change, |group| {
        format!("Group \"{old}\" is now \"{}\".", group.name)
    })
}

fn edit(common: &Common, name: &str, change: ChangeGroup) -> Result<()> {
    if change.name.is_none() && change.description.is_none() {
        return Err(Failure::wrong_usage("nothing to change is given").hint("use --name or --description"));
    }
    change_group(common, name, &change, |group| {
        format!("Changed group \"{}\".", group.name)
    })
}

fn change_group(common: &Common, name: &str, change: &ChangeGroup, sentence: impl Fn(&Group) -> String) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let changed = connection.client.change_group(name, change).await;
        let group = found(&connection, name, changed).await?;
        Output::new(common.output).did(&sentence(&group), COLUMNS, id, &group)
    })
}

fn delete(common: &Common, name: &str, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("delete group {name:?}"))?;
    block_on(async {
        let group = found(&connection, name, connection.client.delete_group(name).await).await?;
        let sentence = format!(
            "Deleted group \"{}\"; its members have lost what came through it.",
            group.name
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &group)
    })
}

/// What was found, or why not, with the nearest name.
async fn found<T>(connection: &Connection, name: &str, result: std::result::Result<T, Error>) -> Result<T> {
    let missing = is_missing(&result);
    match result {
        Ok(thing) => Ok(thing),
        Err(why) => {
            // It may also be a user that is missing.
            let missing = missing && why.to_string().contains("no group");
            let failure = connection.explain(why);
            let names = async {
                let page = connection.client.groups(None).await?;
                Ok(page.items.into_iter().map(|group| group.name).collect())
            };
            Err(suggest(failure, name, missing, names).await)
        }
    }
}

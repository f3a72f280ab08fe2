//! `ml workspace …`

use bailiwick_api::roles::ScopeView;
use bailiwick_api::workspaces::{
    DEFAULT_WORKSPACE, Member, MemberFilter, NewWorkspace, PlaceFilter, Rename, Workspace,
};
use bailiwick_client::calls::every;
use bailiwick_client::{Error, is_missing};

use crate::args::{self, Common};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::Result;
use crate::output::{Column, Output, column, say, warn, wide};
use crate::prompt;
use crate::settings::{Origin, Setting, Settings, change_user_file};

const COLUMNS: &[Column<Workspace>] = &[
    column("ID", |workspace| workspace.id.0.into()),
    column("NAME", |workspace| workspace.name.as_str().into()),
    column("OWNER", |workspace| workspace.owner.clone().unwrap_or_default().into()),
    column("PROJECTS", |workspace| workspace.projects.into()),
    column("CREATED", |workspace| workspace.created_at.into()),
    column("ARCHIVED", |workspace| workspace.archived_at.into()),
    wide("DESCRIPTION", |workspace| workspace.description.as_str().into()),
];

/// One workspace: what it holds as well.
const ONE: &[Column<Workspace>] = &[
    column("ID", |workspace| workspace.id.0.into()),
    column("NAME", |workspace| workspace.name.as_str().into()),
    column("DESCRIPTION", |workspace| workspace.description.as_str().into()),
    column("DEFAULT QUEUE", |workspace| {
        workspace.default_queue.as_deref().unwrap_or_default().into()
    }),
    column("OWNER", |workspace| workspace.owner.clone().unwrap_or_default().into()),
    column("PROJECTS", |workspace| workspace.projects.into()),
    column("EXPERIMENTS", |workspace| counted(workspace.experiments).into()),
    column("CREATED", |workspace| workspace.created_at.into()),
    column("ARCHIVED", |workspace| workspace.archived_at.into()),
];

/// Past the largest number that is counted, that there are at least so many.
pub fn counted(number: Option<i64>) -> String {
    match number {
        None => String::new(),
        Some(number) if number >= bailiwick_api::workspaces::COUNTED_MAX => format!("{number} or more"),
        Some(number) => number.to_string(),
    }
}

fn id(workspace: &Workspace) -> String {
    workspace.id.to_string()
}

pub const MEMBERS: &[Column<Member>] = &[
    column("NAME", |member| member.name.as_str().into()),
    column("KIND", |member| member.kind.name().into()),
    column("ROLE", |member| member.role.as_str().into()),
    column("ASSIGNED", |member| super::users::place_words(&member.scope).into()),
    column("UNTIL", |member| member.until.into()),
    wide("ID", |member| member.id.into()),
    wide("STATE", |member| {
        if member.active { "active" } else { "not active" }.into()
    }),
    wide("MEMBERS", |member| {
        member.members.map(|count| count.to_string()).unwrap_or_default().into()
    }),
    wide("ASSIGNMENT", |member| member.assignment.0.into()),
];

/// Where a role was assigned: the nearer first.
fn distance(scope: &ScopeView) -> u8 {
    match scope {
        ScopeView::Object { .. } => 0,
        ScopeView::Project { .. } => 1,
        ScopeView::Workspace { .. } => 2,
        ScopeView::Global => 3,
    }
}

pub fn show_members(common: &Common, mut members: Vec<Member>) -> Result<()> {
    members.sort_by_cached_key(|member| (distance(&member.scope), member.name.to_lowercase(), member.assignment));
    Output::new(common.output).list(MEMBERS, |member| member.assignment.to_string(), &members)
}

/// The workspace that is meant where none is named.
pub fn current(settings: &Settings) -> &str {
    match &settings.workspace {
        Some(workspace) => &workspace.value,
        None => DEFAULT_WORKSPACE,
    }
}

pub fn run(common: &Common, command: args::Workspace) -> Result<()> {
    match command {
        args::Workspace::Create { name, description } => create(common, NewWorkspace { name, description }),
        args::Workspace::List { all } => list(common, all),
        args::Workspace::Describe { name } => describe(common, &name),
        args::Workspace::Rename { name, new_name } => {
            let change = Rename {
                name: Some(new_name),
                description: None,
            };
            edit(common, &name, &change)
        }
        args::Workspace::Edit { name, change } => {
            let change = Rename {
                name: change.name,
                description: change.description,
            };
            edit(common, &name, &change)
        }
        args::Workspace::SetDefaultQueue { name, queue, .. } => set_default_queue(common, &name, queue),
        args::Workspace::Archive { name } => archive(common, &name, true),
        args::Workspace::Unarchive { name } => archive(common, &name, false),
        args::Workspace::Delete { name, sure } => delete(common, &name, sure.yes),
        args::Workspace::Members { name } => members(common, name.as_deref()),
        args::Workspace::Use { name, .. } => use_workspace(common, name.as_deref()),
    }
}

fn create(common: &Common, new: NewWorkspace) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let created = connection.client.create_workspace(&new).await;
        let workspace = created.map_err(|why| connection.explain(why))?;
        let sentence = format!("Created workspace {} \"{}\".", workspace.id, workspace.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &workspace)
    })
}

fn list(common: &Common, all: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let client = &connection.client;
        let page = |after: Option<String>| async move {
            let filter = PlaceFilter {
                text: None,
                all: all.then_some(true),
                after: after.and_then(|after| after.parse().ok()),
                limit: Some(1000),
            };
            client.workspaces(&filter).await
        };
        let workspaces = every(page).await.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(COLUMNS, id, &workspaces)
    })
}

fn describe(common: &Common, name: &str) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let workspace = found(&connection, name, connection.client.workspace(name).await).await?;
        Output::new(common.output).one(ONE, id, &workspace)
    })
}

fn edit(common: &Common, name: &str, change: &Rename) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let changed = connection.client.change_workspace(name, change).await;
        let workspace = found(&connection, name, changed).await?;
        let sentence = match &change.name {
            Some(new) => format!("Renamed workspace {} to \"{new}\".", workspace.id),
            None => format!("Changed workspace {} \"{}\".", workspace.id, workspace.name),
        };
        Output::new(common.output).did(&sentence, COLUMNS, id, &workspace)
    })
}

fn set_default_queue(common: &Common, name: &str, queue: Option<String>) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let set = connection.client.set_default_queue(name, queue).await;
        let workspace = found(&connection, name, set).await?;
        let queue = workspace.default_queue.as_deref().unwrap_or("the default queue of all");
        let sentence = format!(
            "What names no queue in workspace \"{}\" goes into {queue}.",
            workspace.name
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &workspace)
    })
}

fn archive(common: &Common, name: &str, archive: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let changed = connection.client.archive_workspace(name, archive).await;
        let workspace = found(&connection, name, changed).await?;
        let Workspace { id: number, name, .. } = &workspace;
        let sentence = match archive {
            true => format!("Archived workspace {number} \"{name}\": it takes nothing new."),
            false => format!("Workspace {number} \"{name}\" takes projects and experiments again."),
        };
        Output::new(common.output).did(&sentence, COLUMNS, id, &workspace)
    })
}

fn delete(common: &Common, name: &str, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(
        yes,
        &format!("delete workspace \"{name}\" for good, with its projects and every role assigned there"),
    )?;
    block_on(async {
        found(&connection, name, connection.client.delete_workspace(name).await).await?;
        say(&format!("Deleted workspace \"{name}\"."));
        Ok(())
    })
}

fn members(common: &Common, name: Option<&str>) -> Result<()> {
    let connection = Connection::open(common)?;
    let name = name.unwrap_or(current(&connection.settings));
    block_on(async {
        let client = &connection.client;
        let page = |after: Option<String>| async move {
            let filter = MemberFilter {
                after: after.and_then(|after| after.parse().ok()),
                limit: Some(1000),
            };
            client.workspace_members(name, &filter).await
        };
        let members = found(&connection, name, every(page).await).await?;
        show_members(common, members)
    })
}

fn use_workspace(common: &Common, name: Option<&str>) -> Result<()> {
    let Some(name) = name else {
        change_user_file(&[("workspace", None), ("project", None)])?;
        let now = Settings::read(common)?;
        say("No workspace is current any more.");
        say_what_counts_more("workspace", None, &now.workspace);
        return Ok(());
    };
    let connection = Connection::open(common)?;
    let workspace = block_on(async { found(&connection, name, connection.client.workspace(name).await).await })?;
    // The project that was current belongs to another workspace.
    let before = connection.settings.workspace.as_ref();
    let is_same = before.is_some_and(|before| before.value.to_lowercase() == workspace.name.to_lowercase());
    let mut keys = vec![("workspace", Some(workspace.name.as_str()))];
    if !is_same {
        keys.push(("project", None));
    }
    change_user_file(&keys)?;
    let now = Settings::read(common)?;
    say(&format!("Workspace \"{}\" is the current one.", workspace.name));
    say_what_counts_more("workspace", Some(&workspace.name), &now.workspace);
    Ok(())
}

/// A nearer word than the remembered one goes on counting.
pub fn say_what_counts_more(what: &str, meant: Option<&str>, holds: &Option<Setting<String>>) {
    match holds {
        Some(setting) if Some(setting.value.as_str()) != meant => {
            let place = match &setting.origin {
                Origin::Environment(name) => format!("the environment ({name})"),
                other => other.to_string(),
            };
            warn(&format!(
                "{place} names the {what} \"{}\", which counts more here",
                setting.value
            ));
        }
        _ => {}
    }
}

/// What was found, or why not, with the nearest name.
pub async fn found<T>(connection: &Connection, name: &str, result: std::result::Result<T, Error>) -> Result<T> {
    let missing = is_missing(&result);
    match result {
        Ok(thing) => Ok(thing),
        Err(why) => {
            let failure = connection.explain(why);
            let names = async {
                let filter = PlaceFilter {
                    text: None,
                    all: Some(true),
                    limit: Some(1000),
                    after: None,
                };
                let page = connection.client.workspaces(&filter).await?;
                Ok(page.items.into_iter().map(|workspace| workspace.name).collect())
            };
            Err(suggest(failure, name, missing, names).await)
        }
    }
}

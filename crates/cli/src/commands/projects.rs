//! `ml project …`

use bailiwick_api::workspaces::{MemberFilter, NewProject, PlaceFilter, Project, Rename};
use bailiwick_client::calls::every;
use bailiwick_client::{Error, is_missing};

use super::workspaces::{self, counted, current, say_what_counts_more, show_members};
use crate::args::{self, Common, Which};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::Result;
use crate::output::{Column, Output, column, say, wide};
use crate::prompt;
use crate::settings::{Settings, change_user_file};

const COLUMNS: &[Column<Project>] = &[
    column("ID", |project| project.id.0.into()),
    column("NAME", |project| project.name.as_str().into()),
    column("WORKSPACE", |project| project.workspace.as_str().into()),
    column("OWNER", |project| project.owner.clone().unwrap_or_default().into()),
    column("CREATED", |project| project.created_at.into()),
    column("ARCHIVED", |project| project.archived_at.into()),
    wide("DESCRIPTION", |project| project.description.as_str().into()),
];

/// One project: what it holds as well.
const ONE: &[Column<Project>] = &[
    column("ID", |project| project.id.0.into()),
    column("NAME", |project| project.name.as_str().into()),
    column("WORKSPACE", |project| project.workspace.as_str().into()),
    column("DESCRIPTION", |project| project.description.as_str().into()),
    column("OWNER", |project| project.owner.clone().unwrap_or_default().into()),
    column("EXPERIMENTS", |project| counted(project.experiments).into()),
    column("CREATED", |project| project.created_at.into()),
    column("ARCHIVED", |project| project.archived_at.into()),
];

fn id(project: &Project) -> String {
    project.id.to_string()
}

/// A project and where it is.
struct At<'a> {
    connection: &'a Connection,
    workspace: &'a str,
    project: &'a str,
}

impl<'a> At<'a> {
    /// `WORKSPACE PROJECT`, or `PROJECT` alone with a workspace named otherwise.
    fn read(connection: &'a Connection, names: &'a [String], workspace: Option<&'a str>) -> Result<At<'a>> {
        let (workspace, project) = match (names, workspace) {
            ([workspace, project], None) => (workspace.as_str(), project.as_str()),
            ([project], Some(workspace)) => (workspace, project.as_str()),
            ([project], None) => (current(&connection.settings), project.as_str()),
            _ => {
                return Err(crate::failure::Failure::wrong_usage(
                    "the workspace is named twice: before the project, and by --workspace",
                ));
            }
        };
        Ok(At {
            connection,
            workspace,
            project,
        })
    }

    fn of(connection: &'a Connection, which: &'a Which) -> Result<At<'a>> {
        At::read(connection, &which.names, which.workspace.as_deref())
    }

    /// What was found, or why not, with the nearest name of a workspace or of a project in it.
    async fn found<T>(&self, result: std::result::Result<T, Error>) -> Result<T> {
        let connection = self.connection;
        if !is_missing(&result) {
            return result.map_err(|why| connection.explain(why));
        }
        let client = &connection.client;
        let names = client.projects_of(self.workspace, &everything(None)).await;
        match (result, names) {
            (Err(why), Ok(page)) => {
                let names = page.items.into_iter().map(|project| project.name).collect();
                Err(suggest(connection.explain(why), self.project, true, async { Ok(names) }).await)
            }
            (result, Err(_)) => workspaces::found(connection, self.workspace, result).await,
            (Ok(thing), Ok(_)) => Ok(thing),
        }
    }
}

fn everything(after: Option<String>) -> PlaceFilter {
    PlaceFilter {
        text: None,
        all: Some(true),
        after: after.and_then(|after| after.parse().ok()),
        limit: Some(1000),
    }
}

pub fn run(common: &Common, command: args::Project) -> Result<()> {
    match command {
        args::Project::Create { which, description } => create(common, &which, description),
        args::Project::List { workspace, all } => list(common, workspace.as_deref(), all),
        args::Project::Describe(which) => describe(common, &which),
        args::Project::Rename { mut names, workspace } => {
            let change = Rename {
                name: names.pop(),
                description: None,
            };
            edit(common, &Which { names, workspace }, &change)
        }
        args::Project::Edit { which, change } => {
            let change = Rename {
                name: change.name,
                description: change.description,
            };
            edit(common, &which, &change)
        }
        args::Project::Archive(which) => archive(common, &which, true),
        args::Project::Unarchive(which) => archive(common, &which, false),
        args::Project::Delete { which, sure } => delete(common, &which, sure.yes),
        args::Project::Members(which) => members(common, &which),
        args::Project::Use { none: true, .. } => forget(common),
        args::Project::Use { names, workspace, .. } => use_project(common, &Which { names, workspace }),
    }
}

fn create(common: &Common, which: &Which, description: String) -> Result<()> {
    let connection = Connection::open(common)?;
    let at = At::of(&connection, which)?;
    block_on(async {
        let new = NewProject {
            name: at.project.to_owned(),
            description,
        };
        let created = connection.client.create_project(at.workspace, &new).await;
        let project = workspaces::found(&connection, at.workspace, created).await?;
        let sentence = format!(
            "Created project {} \"{}\" in workspace \"{}\".",
            project.id, project.name, project.workspace
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &project)
    })
}

fn list(common: &Common, workspace: Option<&str>, all: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    let remembered = connection.settings.workspace.as_ref();
    let workspace = workspace.or(remembered.map(|workspace| workspace.value.as_str()));
    block_on(async {
        let client = &connection.client;
        let page = |after: Option<String>| async move {
            let filter = PlaceFilter {
                all: all.then_some(true),
                ..everything(after)
            };
            match workspace {
                Some(workspace) => client.projects_of(workspace, &filter).await,
                None => client.projects(&filter).await,
            }
        };
        let projects = every(page).await;
        let projects = workspaces::found(&connection, workspace.unwrap_or_default(), projects).await?;
        Output::new(common.output).list(COLUMNS, id, &projects)
    })
}

fn describe(common: &Common, which: &Which) -> Result<()> {
    let connection = Connection::open(common)?;
    let at = At::of(&connection, which)?;
    block_on(async {
        let project = at
            .found(connection.client.project(at.workspace, at.project).await)
            .await?;
        Output::new(common.output).one(ONE, id, &project)
    })
}

fn edit(common: &Common, which: &Which, change: &Rename) -> Result<()> {
    let connection = Connection::open(common)?;
    let at = At::of(&connection, which)?;
    block_on(async {
        let changed = connection.client.change_project(at.workspace, at.project, change).await;
        let project = at.found(changed).await?;
        let sentence = match &change.name {
            Some(new) => format!("Renamed project {} to \"{new}\".", project.id),
            None => format!("Changed project {} \"{}\".", project.id, project.name),
        };
        Output::new(common.output).did(&sentence, COLUMNS, id, &project)
    })
}

fn archive(common: &Common, which: &Which, archive: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    let at = At::of(&connection, which)?;
    block_on(async {
        let changed = connection
            .client
            .archive_project(at.workspace, at.project, archive)
            .await;
        let project = at.found(changed).await?;
        let Project { id: number, name, .. } = &project;
        let sentence = match archive {
            true => format!("Archived project {number} \"{name}\": it takes nothing new."),
            false => format!("Project {number} \"{name}\" takes experiments again."),
        };
        Output::new(common.output).did(&sentence, COLUMNS, id, &project)
    })
}

fn delete(common: &Common, which: &Which, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    let at = At::of(&connection, which)?;
    let what = format!("project \"{}\" of workspace \"{}\"", at.project, at.workspace);
    prompt::confirm(yes, &format!("delete {what} for good, with every role assigned there"))?;
    block_on(async {
        at.found(connection.client.delete_project(at.workspace, at.project).await)
            .await?;
        say(&format!("Deleted {what}."));
        Ok(())
    })
}

fn members(common: &Common, which: &Which) -> Result<()> {
    let connection = Connection::open(common)?;
    let at = At::of(&connection, which)?;
    block_on(async {
        let (client, at) = (&connection.client, &at);
        let page = |after: Option<String>| async move {
            let filter = MemberFilter {
                after: after.and_then(|after| after.parse().ok()),
                limit: Some(1000),
            };
            client.project_members(at.workspace, at.project, &filter).await
        };
        let members = at.found(every(page).await).await?;
        show_members(common, members)
    })
}

fn forget(common: &Common) -> Result<()> {
    change_user_file(&[("project", None)])?;
    say("No project is current any more.");
    say_what_counts_more("project", None, &Settings::read(common)?.project);
    Ok(())
}

fn use_project(common: &Common, which: &Which) -> Result<()> {
    let connection = Connection::open(common)?;
    let at = At::of(&connection, which)?;
    let project = block_on(async {
        at.found(connection.client.project(at.workspace, at.project).await)
            .await
    })?;
    change_user_file(&[
        ("workspace", Some(&project.workspace)),
        ("project", Some(&project.name)),
    ])?;
    let now = Settings::read(common)?;
    say(&format!(
        "Project \"{}\" of workspace \"{}\" is the current one.",
        project.name, project.workspace
    ));
    say_what_counts_more("workspace", Some(&project.workspace), &now.workspace);
    say_what_counts_more("project", Some(&project.name), &now.project);
    Ok(())
}

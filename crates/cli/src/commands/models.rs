//! `ml model …`

use bailiwick_api::ids::as_number;
use bailiwick_api::models::{Model, ModelFilter, ModelVersion, MoveModel, NewModel, NewModelVersion, VersionFilter};
use bailiwick_api::workspaces::Rename;
use bailiwick_client::calls::every;
use bailiwick_client::{Error, is_missing};

use super::workspaces::{self, current};
use crate::args::models::{Model as Command, Named};
use crate::args::{Common, Share, Unshare};
use crate::connect::{Connection, block_on, suggest};
use crate::failure::Result;
use crate::output::{Column, Output, column, wide};
use crate::prompt;

const COLUMNS: &[Column<Model>] = &[
    column("ID", |model| model.id.0.into()),
    column("NAME", |model| model.name.as_str().into()),
    column("WORKSPACE", |model| model.workspace.as_str().into()),
    column("LATEST", |model| latest(model).into()),
    column("VERSIONS", |model| model.versions.into()),
    column("OWNER", |model| model.owner.clone().unwrap_or_default().into()),
    column("CREATED", |model| model.created_at.into()),
    wide("DESCRIPTION", |model| model.description.as_str().into()),
];

const ONE: &[Column<Model>] = &[
    column("ID", |model| model.id.0.into()),
    column("NAME", |model| model.name.as_str().into()),
    column("WORKSPACE", |model| model.workspace.as_str().into()),
    column("DESCRIPTION", |model| model.description.as_str().into()),
    column("LATEST", |model| latest(model).into()),
    column("VERSIONS", |model| model.versions.into()),
    column("OWNER", |model| model.owner.clone().unwrap_or_default().into()),
    column("CREATED", |model| model.created_at.into()),
];

const VERSIONS: &[Column<ModelVersion>] = &[
    column("VERSION", |version| version.version.into()),
    column("EXPERIMENT", |version| {
        version.experiment.map(|id| id.to_string()).unwrap_or_default().into()
    }),
    column("URI", |version| version.uri.as_str().into()),
    column("OWNER", |version| version.owner.clone().unwrap_or_default().into()),
    column("CREATED", |version| version.created_at.into()),
    column("DESCRIPTION", |version| version.description.as_str().into()),
];

fn latest(model: &Model) -> String {
    model
        .latest_version
        .map(|number| number.to_string())
        .unwrap_or_default()
}

fn id(model: &Model) -> String {
    model.id.to_string()
}

fn number(version: &ModelVersion) -> String {
    version.version.to_string()
}

/// A model as the server is asked for it.
struct At<'a> {
    connection: &'a Connection,
    typed: &'a str,
    which: String,
}

impl<'a> At<'a> {
    fn of(connection: &'a Connection, which: &'a Named) -> At<'a> {
        let typed = which.model.as_str();
        let is_whole = typed.contains('/') || as_number(typed).is_some();
        At {
            connection,
            typed,
            which: match is_whole {
                true => typed.to_owned(),
                false => format!("{}/{typed}", current(&connection.settings)),
            },
        }
    }

    /// What was found, or why not, with the nearest name in that workspace.
    async fn found<T>(&self, result: std::result::Result<T, Error>) -> Result<T> {
        let missing = is_missing(&result);
        let why = match result {
            Ok(thing) => return Ok(thing),
            Err(why) => why,
        };
        // It may also be an experiment or a workspace that is missing.
        let missing = missing && why.to_string().contains("no model");
        let workspace = self.which.rsplit_once('/').map(|(workspace, _)| workspace);
        let names = async {
            let filter = ModelFilter {
                workspace: workspace.map(str::to_owned),
                limit: Some(1000),
                ..ModelFilter::default()
            };
            let page = self.connection.client.models(&filter).await?;
            Ok(page.items.into_iter().map(|model| model.name).collect())
        };
        let typed = self.typed.rsplit_once('/').map_or(self.typed, |(_, name)| name);
        Err(suggest(self.connection.explain(why), typed, missing, names).await)
    }

    async fn model(&self) -> Result<Model> {
        self.found(self.connection.client.model(&self.which).await).await
    }
}

pub fn run(common: &Common, command: Command) -> Result<()> {
    match command {
        Command::List { workspace, owner, text } => list(common, workspace, owner, text),
        Command::Describe(which) => describe(common, &which),
        Command::Register {
            name,
            workspace,
            description,
        } => register(common, workspace, NewModel { name, description }),
        Command::Rename { which, new } => {
            let change = Rename {
                name: Some(new),
                description: None,
            };
            edit(common, &which, &change)
        }
        Command::Edit { which, change } => {
            let change = Rename {
                name: change.name,
                description: change.description,
            };
            edit(common, &which, &change)
        }
        Command::Move { which, to } => move_to(common, &which, to),
        Command::Share(it) => {
            let share = Share {
                what: on(common, &it.which)?,
                with: it.with,
                role: it.role,
                until: None,
                reason: String::new(),
            };
            super::roles::run(common, share.into())
        }
        Command::Unshare(it) => {
            let unshare = Unshare {
                what: on(common, &it.which)?,
                from: it.with,
                role: it.role,
            };
            super::roles::run(common, unshare.into())
        }
        Command::Delete { which, sure } => delete(common, &which, sure.yes),
        Command::RegisterVersion {
            which,
            experiment,
            uri,
            description,
        } => {
            let new = NewModelVersion {
                experiment,
                uri: uri.unwrap_or_default(),
                description,
            };
            register_version(common, &which, &new)
        }
        Command::ListVersions(which) => versions(common, &which),
        Command::DeleteVersion { which, version, sure } => delete_version(common, &which, version, sure.yes),
    }
}

/// By its number: a model of that name is then the one that was looked at.
fn on(common: &Common, which: &Named) -> Result<String> {
    let connection = Connection::open(common)?;
    let model = block_on(async { At::of(&connection, which).model().await })?;
    Ok(format!("model:{}", model.id))
}

fn list(common: &Common, workspace: Option<String>, owner: Option<String>, text: Option<String>) -> Result<()> {
    let connection = Connection::open(common)?;
    let remembered = connection.settings.workspace.as_ref();
    let workspace = workspace.or(remembered.map(|workspace| workspace.value.clone()));
    let filter = ModelFilter {
        workspace,
        owner,
        text,
        limit: Some(1000),
        after: None,
    };
    block_on(async {
        let client = &connection.client;
        let page = |after: Option<String>| {
            let filter = ModelFilter {
                after: after.and_then(|after| after.parse().ok()),
                ..filter.clone()
            };
            async move { client.models(&filter).await }
        };
        let models = every(page).await.map_err(|why| connection.explain(why))?;
        Output::new(common.output).list(COLUMNS, id, &models)
    })
}

fn describe(common: &Common, which: &Named) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let model = At::of(&connection, which).model().await?;
        Output::new(common.output).one(ONE, id, &model)
    })
}

fn register(common: &Common, workspace: Option<String>, new: NewModel) -> Result<()> {
    let connection = Connection::open(common)?;
    let workspace = workspace.as_deref().unwrap_or(current(&connection.settings));
    block_on(async {
        let made = connection.client.create_model(workspace, &new).await;
        let model = workspaces::found(&connection, workspace, made).await?;
        let sentence = format!(
            "Registered model {} \"{}\" in workspace \"{}\".",
            model.id, model.name, model.workspace
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &model)
    })
}

fn edit(common: &Common, which: &Named, change: &Rename) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let at = At::of(&connection, which);
        let model = at
            .found(connection.client.change_model(&at.which, change).await)
            .await?;
        let sentence = match &change.name {
            Some(new) => format!("Renamed model {} to \"{new}\".", model.id),
            None => format!("Changed model {} \"{}\".", model.id, model.name),
        };
        Output::new(common.output).did(&sentence, COLUMNS, id, &model)
    })
}

fn move_to(common: &Common, which: &Named, workspace: String) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let at = At::of(&connection, which);
        let to = MoveModel { workspace };
        let model = at.found(connection.client.move_model(&at.which, &to).await).await?;
        let sentence = format!(
            "Moved model {} \"{}\" to workspace \"{}\".",
            model.id, model.name, model.workspace
        );
        Output::new(common.output).did(&sentence, COLUMNS, id, &model)
    })
}

fn delete(common: &Common, which: &Named, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("delete model {:?} with its versions", which.model))?;
    block_on(async {
        let at = At::of(&connection, which);
        let model = at.found(connection.client.delete_model(&at.which).await).await?;
        let sentence = format!("Deleted model {} \"{}\" with its versions.", model.id, model.name);
        Output::new(common.output).did(&sentence, COLUMNS, id, &model)
    })
}

fn register_version(common: &Common, which: &Named, new: &NewModelVersion) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let at = At::of(&connection, which);
        let added = connection.client.add_model_version(&at.which, new).await;
        let version = at.found(added).await?;
        let sentence = format!("Registered version {} of model \"{}\".", version.version, at.typed);
        Output::new(common.output).did(&sentence, VERSIONS, number, &version)
    })
}

fn versions(common: &Common, which: &Named) -> Result<()> {
    let connection = Connection::open(common)?;
    block_on(async {
        let (client, at) = (&connection.client, At::of(&connection, which));
        let page = |after: Option<String>| {
            let filter = VersionFilter {
                after: after.and_then(|after| after.parse().ok()),
                limit: Some(1000),
            };
            let which = at.which.clone();
            async move { client.model_versions(&which, &filter).await }
        };
        let versions = at.found(every(page).await).await?;
        Output::new(common.output).list(VERSIONS, number, &versions)
    })
}

fn delete_version(common: &Common, which: &Named, version: i64, yes: bool) -> Result<()> {
    let connection = Connection::open(common)?;
    prompt::confirm(yes, &format!("delete version {version} of model {:?}", which.model))?;
    block_on(async {
        let at = At::of(&connection, which);
        let deleted = connection.client.delete_model_version(&at.which, version).await;
        let version = at.found(deleted).await?;
        let sentence = format!("Deleted version {} of model \"{}\".", version.version, at.typed);
        Output::new(common.output).did(&sentence, VERSIONS, number, &version)
    })
}

//! Models: those that one may see, one of them with its versions and with whom it is shared, and the forms that make and change them.

use askama::Template;
use bailiwick_api::Permission;
use bailiwick_api::models::{Model, ModelFilter, ModelVersion, MoveModel, NewModel, NewModelVersion, VersionFilter};
use bailiwick_api::workspaces::{DEFAULT_WORKSPACE, Rename};
use bailiwick_store::access::model_target;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Frame;
use super::held::{self, Acted, Again, must_be_sure};
use super::session::quoted;
use super::sharing::{self, Given, Sharing};
use super::told::{Problem, given, status};
use super::users::unknown;
use crate::access::{Answer, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;

/// What is looked for.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    after: String,
}

impl Wanted {
    fn query(&self, after: &str) -> String {
        let (workspace, text) = (quoted(&self.workspace), quoted(&self.text));
        format!("workspace={workspace}&text={text}&after={after}")
    }
}

/// A place in a list, as a link carries it.
fn place(after: &str) -> Result<Option<i64>, Failure> {
    let wrong = || Failure::invalid(format!("`after` is `next` of a page, not `{after}`"));
    given(after)
        .map(|text| bailiwick_api::ids::as_number(&text).ok_or_else(wrong))
        .transpose()
}

#[derive(Template)]
#[template(path = "models.html")]
struct ModelsPage {
    frame: Frame,
    wanted: Wanted,
    models: Vec<Model>,
    next: Option<String>,
    may_create: bool,
}

/// Signed in; those that one may see.
pub async fn list(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    let filter = ModelFilter {
        workspace: given(&wanted.workspace),
        text: given(&wanted.text),
        after: place(&wanted.after)?,
        ..ModelFilter::default()
    };
    let Json(page) = door.context.ask(routes::models::list, &[], Query(filter)).await?;
    let page = ModelsPage {
        frame: Frame::new(&door, "models", "Models"),
        models: page.items,
        next: page.next.map(|next| wanted.query(&next)),
        may_create: !makes_in(&door, &wanted.workspace).await?.is_empty(),
        wanted,
    };
    page.frame.answer(&page)
}

/// The workspaces in which one may make models; of very many the first.
async fn makes_in(door: &SignedIn, text: &str) -> Result<Vec<String>, Failure> {
    let mut workspaces = held::workspaces(door, text).await?;
    let may = |id| {
        let target = door.actor.picture().workspace_target(id);
        door.actor.may(Permission::ModelsCreate, &target).is_some()
    };
    workspaces.retain(|(id, _)| may(*id));
    Ok(workspaces.into_iter().map(|(_, name)| name).collect())
}

/// What the forms send.
#[derive(Default, Deserialize, JsonSchema)]
pub struct ModelForm {
    #[serde(default)]
    act: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    experiment: String,
    #[serde(default)]
    uri: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    sure: String,
    #[serde(flatten)]
    given: Given,
}

#[derive(Template)]
#[template(path = "model_new.html")]
struct NewModelPage {
    frame: Frame,
    typed: ModelForm,
    workspaces: Vec<String>,
    problem: Option<Problem>,
}

/// Where a new model is to be.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    #[serde(default)]
    workspace: String,
}

/// Signed in; the form is refused where one may make none.
pub async fn new(door: SignedIn, Query(at): Query<In>) -> Result<Answer, Failure> {
    let typed = ModelForm {
        workspace: given(&at.workspace).unwrap_or(DEFAULT_WORKSPACE.into()),
        ..ModelForm::default()
    };
    let again = Again {
        typed,
        ..Again::default()
    };
    make(&door, again).await
}

async fn make(door: &SignedIn, again: Again<ModelForm>) -> Result<Answer, Failure> {
    let page = NewModelPage {
        frame: Frame::new(door, "models", "New model"),
        typed: again.typed,
        workspaces: makes_in(door, "").await?,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handler asks for what it needs.
pub async fn create(door: SignedIn, Form(form): Form<ModelForm>) -> Result<Answer, Failure> {
    let new = NewModel {
        name: form.name.trim().to_owned(),
        description: form.description.trim().to_owned(),
    };
    let outcome = match form.workspace.trim() {
        "" => Err(Failure::invalid("say in which workspace")),
        workspace => {
            let path = [("workspace", workspace)];
            door.context.ask(routes::models::create, &path, Json(new)).await
        }
    };
    let outcome = outcome.map(|Json(model)| Acted::Done(see(&model)));
    match Again::or(outcome, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => make(&door, again).await,
    }
}

fn see(model: &Model) -> Answer {
    Answer::see(&format!("/models/{}", model.id))
}

/// A version, and whether it may be deleted.
struct Row {
    it: ModelVersion,
    may_delete: bool,
}

#[derive(Template)]
#[template(path = "model.html")]
struct ModelPage {
    frame: Frame,
    it: Model,
    /// To its workspace, where one may see it.
    place: Option<String>,
    rows: Vec<Row>,
    next: Option<String>,
    may_update: bool,
    may_delete: bool,
    sharing: Option<Sharing>,
    typed: ModelForm,
    problem: Option<Problem>,
}

impl ModelPage {
    fn about(&self) -> &str {
        &self.typed.act
    }
}

/// After which version the list of them begins.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct After {
    #[serde(default)]
    after: String,
}

/// Signed in; one that one may not see is not there.
pub async fn show(door: SignedIn, Query(at): Query<After>) -> Result<Answer, Failure> {
    page(&door, place(&at.after)?, Again::default()).await
}

async fn page(door: &SignedIn, after: Option<i64>, mut again: Again<ModelForm>) -> Result<Answer, Failure> {
    let actor = &door.actor;
    let path = [("model", door.context.path("model"))];
    let filter = VersionFilter { after, limit: Some(50) };
    let (it, versions) = door.context.ask(routes::models::with_versions, &path, filter).await?;
    let entry = actor.picture().model(it.id);
    let target = entry.map(|entry| model_target(it.id, &entry)).unwrap_or_default();
    let may = |permission| actor.may(permission, &target).is_some();
    let may_here = |permission| {
        let workspace = target.workspace.map(|id| actor.picture().workspace_target(id));
        workspace.is_some_and(|workspace| actor.may(permission, &workspace).is_some())
    };
    let row = |version: ModelVersion| {
        let is_own = version.owner.as_deref() == Some(&*actor.name());
        let owner = if is_own { Some(actor.id) } else { target.owner };
        let own = bailiwick_access::Target { owner, ..target };
        Row {
            may_delete: actor.may(Permission::ModelsDeleteVersion, &own).is_some(),
            it: version,
        }
    };
    if again.typed.act != "change" {
        again.typed = ModelForm {
            name: it.name.clone(),
            description: if again.typed.act == "add-version" {
                again.typed.description
            } else {
                it.description.clone()
            },
            ..again.typed
        };
    }
    let page = ModelPage {
        frame: Frame::new(door, "models", &it.name),
        place: target
            .workspace
            .filter(|_| may_here(Permission::WorkspacesRead))
            .map(|id| format!("/workspaces/{id}")),
        rows: versions.items.into_iter().map(row).collect(),
        next: versions.next,
        may_update: may(Permission::ModelsUpdate),
        may_delete: may(Permission::ModelsDelete),
        sharing: Sharing::of(door, target, format!("model:{}", it.id), format!("/models/{}", it.id)).await?,
        typed: again.typed,
        problem: again.problem,
        it,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handlers ask for what they need.
pub async fn act(door: SignedIn, Form(form): Form<ModelForm>) -> Result<Answer, Failure> {
    // What is not there has no page to tell it on.
    let path = [("model", door.context.path("model"))];
    let Json(it) = door.context.ask(routes::models::show, &path, NoInput).await?;
    match Again::or(change(&door, &it, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => page(&door, None, again).await,
    }
}

async fn change(door: &SignedIn, it: &Model, form: &ModelForm) -> Result<Acted, Failure> {
    let (id, context) = (it.id.to_string(), &door.context);
    let path = [("model", id.as_str())];
    match form.act.as_str() {
        "change" => {
            let change = Rename {
                name: Some(form.name.trim().to_owned()),
                description: Some(form.description.trim().to_owned()),
            };
            context.ask(routes::models::change, &path, Json(change)).await?;
        }
        "add-version" => {
            let new = NewModelVersion {
                experiment: given(&form.experiment),
                uri: form.uri.trim().to_owned(),
                description: form.description.trim().to_owned(),
            };
            context.ask(routes::models::add_version, &path, Json(new)).await?;
        }
        "delete-version" => {
            let path = [("model", id.as_str()), ("version", form.version.as_str())];
            context.ask(routes::models::delete_version, &path, NoInput).await?;
        }
        "move" => {
            let to = MoveModel {
                workspace: form.workspace.trim().to_owned(),
            };
            context.ask(routes::models::move_to, &path, Json(to)).await?;
        }
        "share" | "unshare" => {
            sharing::act(door, &form.act, &form.given, format!("model:{id}")).await?;
        }
        "delete" => {
            must_be_sure(&form.sure)?;
            context.ask(routes::models::delete, &path, NoInput).await?;
            return Ok(Answer::see("/models").into());
        }
        act => return Err(unknown(act)),
    }
    Ok(see(it).into())
}

//! Stacks: those that one may see, one of them with whom it is shared, and the forms that make and change them.

use std::collections::BTreeMap;

use askama::Template;
use bailiwick_api::Permission;
use bailiwick_api::config::variables;
use bailiwick_api::stacks::{Stack, StackFilter, StackSettings};
use bailiwick_store::access::stack_target;
use bailiwick_store::stacks::may_create_at;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Frame;
use super::held::{Acted, Again, must_be_sure};
use super::sharing::{self, Given, Sharing};
use super::told::{Problem, status};
use super::users::unknown;
use crate::access::{Answer, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;

/// What the forms send.
#[derive(Default, Deserialize, JsonSchema)]
pub struct StackForm {
    #[serde(default)]
    act: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    queue: String,
    /// It was shown with a queue that whoever changes it may not see: left empty, it stays.
    #[serde(default)]
    keep_queue: String,
    #[serde(default)]
    artifact_store: String,
    /// A line for each: KEY=VALUE.
    #[serde(default)]
    environment: String,
    #[serde(default)]
    sure: String,
    #[serde(flatten)]
    given: Given,
}

impl StackForm {
    fn of(stack: &Stack) -> StackForm {
        let lines = stack.environment.iter().map(|(key, value)| format!("{key}={value}"));
        StackForm {
            name: stack.name.clone(),
            description: stack.description.clone(),
            queue: stack.queue.clone().unwrap_or_default(),
            keep_queue: if stack.queue.is_none() { "yes" } else { "" }.into(),
            artifact_store: stack.artifact_store.clone(),
            environment: lines.collect::<Vec<_>>().join("\n"),
            ..StackForm::default()
        }
    }

    fn settings(&self) -> Result<StackSettings, Failure> {
        let lines: Vec<&str> = self
            .environment
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let environment: BTreeMap<String, String> = variables(Some(&json!(lines))).map_err(Failure::invalid)?;
        let queue = self.queue.trim();
        Ok(StackSettings {
            name: Some(self.name.trim().to_owned()),
            description: Some(self.description.trim().to_owned()),
            executor: None,
            queue: (!queue.is_empty() || self.keep_queue != "yes").then(|| queue.to_owned()),
            artifact_store: Some(self.artifact_store.trim().to_owned()),
            environment: Some(environment),
        })
    }
}

#[derive(Template)]
#[template(path = "stacks.html")]
struct StacksPage {
    frame: Frame,
    stacks: Vec<Stack>,
    may_create: bool,
}

/// Signed in; those that one may see.
pub async fn list(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    let all = Query(StackFilter::default());
    let Json(stacks) = door.context.ask(routes::stacks::list, &[], all).await?;
    let at = may_create_at(&door.actor);
    let page = StacksPage {
        frame: Frame::new(&door, "stacks", "Stacks"),
        stacks: stacks.items,
        may_create: door.actor.may(Permission::StacksCreate, &at).is_some(),
    };
    page.frame.answer(&page)
}

#[derive(Template)]
#[template(path = "stack_new.html")]
struct NewStackPage {
    frame: Frame,
    typed: StackForm,
    queues: Vec<String>,
    problem: Option<Problem>,
}

/// Signed in; the form is refused where one may make none.
pub async fn new(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    make(&door, Again::default()).await
}

async fn queues(door: &SignedIn) -> Result<Vec<String>, Failure> {
    let Json(queues) = door.context.ask(routes::queues::list, &[], NoInput).await?;
    Ok(queues.items.into_iter().map(|queue| queue.name).collect())
}

async fn make(door: &SignedIn, again: Again<StackForm>) -> Result<Answer, Failure> {
    let page = NewStackPage {
        frame: Frame::new(door, "stacks", "New stack"),
        typed: again.typed,
        queues: queues(door).await?,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handler asks for what it needs.
pub async fn create(door: SignedIn, Form(form): Form<StackForm>) -> Result<Answer, Failure> {
    let outcome = match form.settings() {
        Ok(settings) => door.context.ask(routes::stacks::create, &[], Json(settings)).await,
        Err(failure) => Err(failure),
    };
    let outcome = outcome.map(|Json(stack)| Acted::Done(see(&stack)));
    match Again::or(outcome, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => make(&door, again).await,
    }
}

fn see(stack: &Stack) -> Answer {
    Answer::see(&format!("/stacks/{}", stack.id))
}

#[derive(Template)]
#[template(path = "stack.html")]
struct StackPage {
    frame: Frame,
    it: Stack,
    is_own: bool,
    may_update: bool,
    may_delete: bool,
    sharing: Option<Sharing>,
    queues: Vec<String>,
    typed: StackForm,
    problem: Option<Problem>,
}

impl StackPage {
    fn about(&self) -> &str {
        &self.typed.act
    }
}

/// Signed in; one that one may not see is not there.
pub async fn show(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    page(&door, Again::default()).await
}

async fn page(door: &SignedIn, mut again: Again<StackForm>) -> Result<Answer, Failure> {
    let path = [("stack", door.context.path("stack"))];
    let Json(it) = door.context.ask(routes::stacks::show, &path, NoInput).await?;
    let target = stack_target(door.actor.picture(), it.id);
    let may = |permission| door.actor.may(permission, &target).is_some();
    if again.typed.act != "change" {
        again.typed = StackForm {
            act: again.typed.act,
            ..StackForm::of(&it)
        };
    }
    let page = StackPage {
        frame: Frame::new(door, "stacks", &it.name),
        is_own: target.owner == Some(door.actor.id),
        may_update: may(Permission::StacksUpdate),
        may_delete: may(Permission::StacksDelete),
        sharing: Sharing::of(door, target, format!("stack:{}", it.id), format!("/stacks/{}", it.id)).await?,
        queues: queues(door).await?,
        typed: again.typed,
        problem: again.problem,
        it,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; the API's handlers ask for what they need.
pub async fn act(door: SignedIn, Form(form): Form<StackForm>) -> Result<Answer, Failure> {
    // What is not there has no page to tell it on.
    let path = [("stack", door.context.path("stack"))];
    let Json(it) = door.context.ask(routes::stacks::show, &path, NoInput).await?;
    match Again::or(change(&door, &it, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => page(&door, again).await,
    }
}

async fn change(door: &SignedIn, it: &Stack, form: &StackForm) -> Result<Acted, Failure> {
    let id = it.id.to_string();
    let path = [("stack", id.as_str())];
    match form.act.as_str() {
        "change" => {
            let settings = Json(form.settings()?);
            door.context.ask(routes::stacks::update, &path, settings).await?;
        }
        "share" | "unshare" => {
            sharing::act(door, &form.act, &form.given, format!("stack:{id}")).await?;
        }
        "delete" => {
            must_be_sure(&form.sure)?;
            door.context.ask(routes::stacks::delete, &path, NoInput).await?;
            return Ok(Answer::see("/stacks").into());
        }
        act => return Err(unknown(act)),
    }
    Ok(see(it).into())
}

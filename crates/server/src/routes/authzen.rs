//! OpenID AuthZEN Authorization API 1.0. Types and ids: a subject is a `user` or a `service-account` by name (or id); a resource is the `installation`, a
//! `workspace` (name or id), a `project` (`WORKSPACE/PROJECT` or id), an `experiment` (id) or a `queue` (name); an action is a permission, `experiments:read`,
//! or its second half, which then is of the resource's kind (`read` of an `experiment`).
//!
//! About itself each account may ask, and is answered for the very key that asks; about others, who reads roles globally. What is not known is answered
//! `false` or with nothing, whether it does not exist or may not be seen.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::http::request::Parts;
use bailiwick_access::{Narrowing, ObjectKind, Target, World};
use bailiwick_api::authzen::{
    Action, EVALUATIONS_MAX, Entity, Evaluation, Evaluations, Found, FoundOne, FoundPage, Metadata, Search, Semantic,
};
use bailiwick_api::permission::permit;
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{ModelId, Permission, PrincipalId, QueueId, StackId, key};
use bailiwick_store::access::{Actor, model_target, queue_target, stack_target};
use bailiwick_store::picture::Picture;
use bailiwick_store::questions;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::{AnyJson, Anyone, Content, Input, Json, NoInput, SignedIn, require, whole};
use crate::failure::Failure;

/// Largest body, in bytes: some thousand questions with all that a caller may say beside them.
const BODY_MAX: usize = 8 * 1024 * 1024;

/// A body that is read where its questions are answered, borrowing from it. `T` is what it holds, for the description.
pub struct Asking<T> {
    bytes: Bytes,
    holds: PhantomData<fn() -> T>,
}

impl<T: JsonSchema + 'static> Input for Asking<T> {
    async fn read(request: &Parts, body: Body) -> Result<Self, Failure> {
        let kind = request
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err(Failure::malformed("the content type of a question is application/json"));
        }
        Ok(Asking {
            bytes: whole(body, BODY_MAX).await?,
            holds: PhantomData,
        })
    }
    fn describe(operation: &mut Value, schemas: &mut SchemaGenerator) {
        let schema = schemas.subschema_for::<T>();
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
}

impl<T> Asking<T> {
    fn question<'a, Q: Deserialize<'a>>(&'a self) -> Result<Q, Failure> {
        serde_json::from_slice(&self.bytes)
            .map_err(|why| Failure::malformed(format!("the question cannot be read: {why}")))
    }
}

fn missing(what: &str) -> Failure {
    Failure::malformed(format!("{what} is missing"))
}

/// Anyone: says where the standard's interface is, the same for everybody.
pub async fn metadata(door: Anyone, _: NoInput) -> Result<Json<Metadata>, Failure> {
    let base = &door.context.shared.parts.public_url;
    Ok(Json(Metadata {
        policy_decision_point: base.clone(),
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
        search_subject_endpoint: format!("{base}/access/v1/search/subject"),
        search_resource_endpoint: format!("{base}/access/v1/search/resource"),
        search_action_endpoint: format!("{base}/access/v1/search/action"),
    }))
}

/// A whole question.
#[derive(Clone, Copy)]
struct Triple<'a> {
    subject: (&'a str, &'a str),
    action: &'a str,
    resource: (&'a str, &'a str),
}

fn entity<'a>(name: &str, entity: Option<&'a Entity<'a>>) -> Result<(&'a str, &'a str), String> {
    let entity = entity.ok_or_else(|| name.to_owned())?;
    let kind = entity.kind.as_deref().ok_or_else(|| format!("{name}.type"))?;
    let id = entity.id.as_deref().ok_or_else(|| format!("{name}.id"))?;
    Ok((kind, id))
}

fn action<'a>(action: Option<&'a Action<'a>>) -> Result<&'a str, String> {
    let action = action.ok_or("action")?;
    Ok(action.name.as_deref().ok_or("action.name")?)
}

impl<'a> Triple<'a> {
    /// Gives the name of what is missing otherwise.
    fn of(one: &'a Evaluation<'a>, defaults: Option<&'a Evaluations<'a>>) -> Result<Triple<'a>, String> {
        let subject = one.subject.as_ref().or(defaults.and_then(|all| all.subject.as_ref()));
        let resource = one.resource.as_ref();
        let default = defaults.and_then(|all| all.resource.as_ref());
        // A part that is left out of a question's own subject or resource comes from the one beside the list.
        let merged = |name: &str, own: Option<&'a Entity<'a>>, default: Option<&'a Entity<'a>>| match (own, default) {
            (Some(own), Some(default)) => {
                let kind = own.kind.as_deref().or(default.kind.as_deref());
                let id = own.id.as_deref().or(default.id.as_deref());
                Ok((kind.ok_or(format!("{name}.type"))?, id.ok_or(format!("{name}.id"))?))
            }
            (own, default) => entity(name, own.or(default)),
        };
        let default_subject = defaults.and_then(|all| all.subject.as_ref());
        let default_action = defaults.and_then(|all| all.action.as_ref());
        Ok(Triple {
            subject: merged("subject", subject, default_subject)?,
            action: action(one.action.as_ref().or(default_action))?,
            resource: merged("resource", resource, default)?,
        })
    }
}

const KINDS: [(&str, &str); 7] = [
    ("installation", "cluster"),
    ("workspace", "workspaces"),
    ("project", "projects"),
    ("experiment", "experiments"),
    ("queue", "queues"),
    ("model", "models"),
    ("stack", "stacks"),
];

/// The permission that an action is on a kind of resource.
fn permission(kind: &str, action: &str) -> Option<Permission> {
    static BY_NAME: OnceLock<HashMap<(&str, &str), Permission>> = OnceLock::new();
    // The shorter lifetime of what is looked for.
    let known: &HashMap<(&str, &str), Permission> = BY_NAME.get_or_init(|| {
        let full = Permission::ALL.iter().map(|one| (("", one.name()), *one));
        let short = KINDS.iter().flat_map(|(kind, resource)| {
            let of = Permission::ALL.iter().filter(move |one| one.resource() == *resource);
            of.map(move |one| ((*kind, one.action()), *one))
        });
        full.chain(short).collect()
    });
    let key = if action.contains(':') {
        ("", action)
    } else {
        (kind, action)
    };
    known.get(&key).copied()
}

/// What a batch of questions needs to know of the world, looked up once.
struct Asker<'a> {
    actor: &'a Actor,
    picture: &'a Picture,
    others: bool,
    experiments: BTreeMap<i64, Target>,
    queues: questions::QueuesByWorkspace,
    now: i64,
}

/// Why a question has no answer.
enum Unanswered {
    Missing(String),
    /// It is about another, and the asker may not ask that.
    NotAllowed,
}

impl<'a> Asker<'a> {
    async fn of(actor: &'a Actor, triples: impl Iterator<Item = Triple<'_>>) -> Result<Asker<'a>, Failure> {
        let mut ids: Vec<i64> = triples
            .filter(|one| one.resource.0 == "experiment")
            .filter_map(|one| bailiwick_api::ids::as_number(one.resource.1))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let picture = actor.picture();
        Ok(Asker {
            actor,
            picture,
            others: actor.may(Permission::RolesRead, &Target::default()).is_some(),
            experiments: questions::experiments(actor, &ids).await?,
            queues: questions::queues_by_workspace(picture),
            now: actor.now().0,
        })
    }

    fn subject(&self, (kind, id): (&str, &str)) -> Option<PrincipalId> {
        let wanted = match kind {
            "user" => PrincipalKind::User,
            "service-account" => PrincipalKind::Service,
            _ => return None,
        };
        let found = self.picture.find_principal(id)?;
        let entry = self.picture.principal(found)?;
        (entry.kind == wanted && !entry.removed).then_some(found)
    }

    fn target(&self, (kind, id): (&str, &str)) -> Option<Target> {
        let picture = self.picture;
        match kind {
            "installation" => (id == "installation").then(Target::default),
            "workspace" => picture.find_workspace_target(id),
            "project" => {
                let (workspace, name) = match bailiwick_api::ids::as_number(id) {
                    Some(_) => ("", id),
                    None => id.split_once('/')?,
                };
                questions::find_project(picture, workspace, name).map(|id| picture.project_target(id))
            }
            "experiment" => self.experiments.get(&bailiwick_api::ids::as_number(id)?).copied(),
            "queue" => picture.find_queue(id).map(queue_target),
            "model" => picture.find_model(id).map(|(id, model)| model_target(id, &model)),
            "stack" => {
                let id = bailiwick_api::ids::as_number(id).map(StackId)?;
                picture.stack(id).map(|_| stack_target(picture, id))
            }
            _ => None,
        }
    }

    fn narrowing(&self, who: PrincipalId) -> Option<&'a Narrowing> {
        if who == self.actor.id {
            self.actor.narrowing()
        } else {
            None
        }
    }

    fn may(&self, world: &World, who: PrincipalId, permission: Permission, target: Target) -> bool {
        let asked = (who, self.narrowing(who));
        let target = questions::asked_at(world, asked, &self.queues, permission, target, self.now);
        world.decide(who, asked.1, permission, &target, self.now).is_some()
    }
}

/// A question with its names looked up; `None` where one of them is of nothing.
type Question = Result<Option<(PrincipalId, Permission, Target)>, Unanswered>;

/// Whether somebody else may be asked about: the refusal says the same whether or not the account exists.
async fn must_read_roles(actor: &Actor) -> Result<(), Failure> {
    require::<permit::RolesRead>(actor, Target::default(), "installation", "", None).await?;
    Ok(())
}

pub async fn evaluation(door: SignedIn, asking: Asking<Evaluation<'static>>) -> Result<Content<AnyJson>, Failure> {
    let one: Evaluation = asking.question()?;
    single(&door.actor, &one).await
}

async fn single(actor: &Actor, one: &Evaluation<'_>) -> Result<Content<AnyJson>, Failure> {
    let triple = Triple::of(one, None).map_err(|what| missing(&what))?;
    let asker = Asker::of(actor, std::iter::once(triple)).await?;
    let who = asker.subject(triple.subject);
    if who != Some(actor.id) {
        must_read_roles(actor).await?;
    }
    let allowed = match (
        who,
        permission(triple.resource.0, triple.action),
        asker.target(triple.resource),
    ) {
        (Some(who), Some(permission), Some(target)) => asker.may(&asker.picture.world(), who, permission, target),
        _ => false,
    };
    Ok(Content::new(if allowed {
        r#"{"decision":true}"#
    } else {
        r#"{"decision":false}"#
    }))
}

pub async fn evaluations(door: SignedIn, asking: Asking<Evaluations<'static>>) -> Result<Content<AnyJson>, Failure> {
    let mut all: Evaluations = asking.question()?;
    let actor = &door.actor;
    if all.evaluations.is_empty() {
        // As the standard says: then it is the single question.
        let one = Evaluation {
            subject: all.subject.take(),
            action: all.action.take(),
            resource: all.resource.take(),
            context: all.context,
        };
        return single(actor, &one).await;
    }
    if all.evaluations.len() > EVALUATIONS_MAX {
        return Err(Failure::malformed(format!(
            "there are {} evaluations; at most {EVALUATIONS_MAX} are answered at once",
            all.evaluations.len()
        )));
    }
    let triples: Vec<Result<Triple, String>> = all.evaluations.iter().map(|one| Triple::of(one, Some(&all))).collect();
    let asker = Asker::of(actor, triples.iter().filter_map(|one| one.as_ref().ok().copied())).await?;
    // Resolved before the engine is locked, and the subject only when it is another than the one before.
    let mut last: Option<((&str, &str), Option<PrincipalId>)> = None;
    let questions: Vec<Question> = triples
        .into_iter()
        .map(|triple| {
            let triple = triple.map_err(Unanswered::Missing)?;
            let who = match last {
                Some((subject, who)) if subject == triple.subject => who,
                _ => asker.subject(triple.subject),
            };
            last = Some((triple.subject, who));
            if who != Some(actor.id) && !asker.others {
                return Err(Unanswered::NotAllowed);
            }
            let permission = permission(triple.resource.0, triple.action);
            let whole = who.zip(permission).zip(asker.target(triple.resource));
            Ok(whole.map(|((who, permission), target)| (who, permission, target)))
        })
        .collect();
    Ok(Content::new(answers(
        &asker,
        &questions,
        all.options.unwrap_or_default().evaluations_semantic,
    )))
}

fn answers(asker: &Asker<'_>, questions: &[Question], semantic: Semantic) -> String {
    let mut text = String::with_capacity(32 + 20 * questions.len());
    text.push_str(r#"{"evaluations":["#);
    let world = asker.picture.world();
    for (at, question) in questions.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let allowed = match question {
            Ok(Some((who, permission, target))) => asker.may(&world, *who, *permission, *target),
            _ => false,
        };
        let ends = match semantic {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !allowed,
            Semantic::PermitOnFirstPermit => allowed,
        };
        match question {
            _ if allowed => text.push_str(r#"{"decision":true}"#),
            Err(Unanswered::Missing(what)) => {
                let error = json!({"status": 400, "message": format!("{what} is missing")});
                text.push_str(&format!(r#"{{"decision":false,"context":{{"error":{error}}}}}"#));
            }
            Err(Unanswered::NotAllowed) => {
                let message = "asking about others needs roles:read everywhere";
                let error = json!({"status": 403, "message": message});
                text.push_str(&format!(r#"{{"decision":false,"context":{{"error":{error}}}}}"#));
            }
            _ if ends => text.push_str(r#"{"decision":false,"context":{"code":"200","reason":"deny_on_first_deny"}}"#),
            _ => text.push_str(r#"{"decision":false}"#),
        }
        if ends {
            break;
        }
    }
    text.push_str("]}");
    text
}

/// Where a page begins, and how long it is.
struct Window {
    after: i64,
    limit: usize,
    /// Of the question and the length of its pages: a token fits no other.
    question: String,
}

const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

impl Window {
    /// A token is `position.length.question`; it carries no authority.
    fn of(search: &Search<'_>) -> Result<Window, Failure> {
        let part = |entity: Option<&Entity<'_>>| {
            entity.map(|entity| {
                [
                    entity.kind.as_deref().map(str::to_owned),
                    entity.id.as_deref().map(str::to_owned),
                ]
            })
        };
        let parts = (
            part(search.subject.as_ref()),
            search
                .action
                .as_ref()
                .map(|action| action.name.as_deref().map(str::to_owned)),
            part(search.resource.as_ref()),
        );
        let asked = search.page.as_ref().and_then(|page| page.limit);
        // Such pages would have no end.
        if asked == Some(0) {
            return Err(Failure::malformed(format!("page.limit is 1 to {PAGE_MAX}")));
        }
        let token = search
            .page
            .as_ref()
            .and_then(|page| page.token.as_deref())
            .filter(|token| !token.is_empty());
        let question = |limit: u32| {
            let text = format!("{parts:?} {limit}");
            key::sha256_hex(text.as_bytes())[..16].to_owned()
        };
        let bounded = |limit: u32| limit.min(PAGE_MAX) as usize;
        let Some(token) = token else {
            let limit = asked.unwrap_or(PAGE);
            return Ok(Window {
                after: 0,
                limit: bounded(limit),
                question: format!("{limit}.{}", question(limit)),
            });
        };
        let wrong = || Failure::malformed("page.token is of another question, or of none");
        let (after, rest) = token.split_once('.').ok_or_else(wrong)?;
        let (limit, of) = rest.split_once('.').ok_or_else(wrong)?;
        let (after, limit) = (after.parse().map_err(|_| wrong())?, limit.parse().map_err(|_| wrong())?);
        if limit == 0 || of != question(limit) || asked.is_some_and(|asked| asked != limit) {
            return Err(wrong());
        }
        Ok(Window {
            after,
            limit: bounded(limit),
            question: rest.to_owned(),
        })
    }

    /// The page of results that come with rising positions; `found` may hold one more than fits.
    fn page(&self, mut found: Vec<(i64, FoundOne)>) -> Json<Found> {
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let next_token = match found.last() {
            _ if !more => String::new(),
            Some((last, _)) => format!("{last}.{}", self.question),
            None => format!("{}.{}", self.after, self.question),
        };
        let results: Vec<FoundOne> = found.into_iter().map(|(_, one)| one).collect();
        Json(Found {
            page: FoundPage {
                next_token,
                count: results.len() as i64,
            },
            results,
        })
    }
}

fn found(kind: &str, id: impl ToString) -> FoundOne {
    FoundOne {
        kind: Some(kind.to_owned()),
        id: Some(id.to_string()),
        name: None,
    }
}

fn kind_alone<'a>(name: &str, entity: Option<&'a Entity<'a>>) -> Result<&'a str, Failure> {
    let entity = entity.ok_or_else(|| missing(name))?;
    entity.kind.as_deref().ok_or_else(|| missing(&format!("{name}.type")))
}

/// Everybody of a kind who may do this to a resource, through groups too. About others by its nature.
pub async fn search_subject(door: SignedIn, asking: Asking<Search<'static>>) -> Result<Json<Found>, Failure> {
    let search: Search = asking.question()?;
    let kind = kind_alone("subject", search.subject.as_ref())?;
    let action = action(search.action.as_ref()).map_err(|what| missing(&what))?;
    let resource = entity("resource", search.resource.as_ref()).map_err(|what| missing(&what))?;
    let window = Window::of(&search)?;
    let actor = &door.actor;
    must_read_roles(actor).await?;
    let triple = Triple {
        subject: (kind, ""),
        action,
        resource,
    };
    let asker = Asker::of(actor, std::iter::once(triple)).await?;
    let wanted = match kind {
        "user" => PrincipalKind::User,
        "service-account" => PrincipalKind::Service,
        _ => return Ok(window.page(Vec::new())),
    };
    let (Some(permission), Some(target)) = (permission(resource.0, action), asker.target(resource)) else {
        return Ok(window.page(Vec::new()));
    };
    let able: Vec<PrincipalId> = {
        let world = asker.picture.world();
        // At an open queue each may come through a workspace of his own.
        let through = target
            .object
            .is_some_and(|(kind, id)| kind == ObjectKind::Queue && asker.queues.contains_key(&QueueId(id)));
        if through {
            world
                .principals()
                .filter(|who| asker.may(&world, *who, permission, target))
                .collect()
        } else {
            world
                .who_can(permission, &target, asker.now)
                .into_iter()
                .map(|one| one.who)
                .collect()
        }
    };
    let after = able.into_iter().filter(|who| who.0 > window.after);
    let fitting = after.filter_map(|who| {
        let entry = asker.picture.principal(who).filter(|entry| entry.kind == wanted)?;
        Some((who.0, found(kind, entry.name)))
    });
    Ok(window.page(fitting.take(window.limit + 1).collect()))
}

/// Every resource of a kind on which a subject may do this.
pub async fn search_resource(door: SignedIn, asking: Asking<Search<'static>>) -> Result<Json<Found>, Failure> {
    let search: Search = asking.question()?;
    let subject = entity("subject", search.subject.as_ref()).map_err(|what| missing(&what))?;
    let action = action(search.action.as_ref()).map_err(|what| missing(&what))?;
    let kind = kind_alone("resource", search.resource.as_ref())?;
    let window = Window::of(&search)?;
    let actor = &door.actor;
    let asker = Asker::of(actor, std::iter::empty()).await?;
    let who = asker.subject(subject);
    if who != Some(actor.id) {
        must_read_roles(actor).await?;
    }
    let (Some(who), Some(permission)) = (who, permission(kind, action)) else {
        return Ok(window.page(Vec::new()));
    };
    if kind == "experiment" {
        let visible = {
            let world = asker.picture.world();
            world.visible(who, asker.narrowing(who), permission, ObjectKind::Experiment, asker.now)
        };
        let ids = questions::experiments_among(actor, who, &visible, window.after, window.limit + 1).await?;
        return Ok(window.page(ids.into_iter().map(|id| (id, found(kind, id))).collect()));
    }
    let places: Vec<(i64, String, Target)> = places(asker.picture, kind);
    let world = asker.picture.world();
    let able = places.into_iter().filter(|(id, ..)| *id > window.after);
    let able = able.filter(|(.., target)| asker.may(&world, who, permission, *target));
    let results = able.map(|(id, name, _)| (id, found(kind, name)));
    Ok(window.page(results.take(window.limit + 1).collect()))
}

/// The resources of a kind that are kept in memory, by id.
fn places(picture: &Picture, kind: &str) -> Vec<(i64, String, Target)> {
    match kind {
        "installation" => vec![(1, "installation".into(), Target::default())],
        "workspace" => {
            let all = picture.workspaces().into_iter();
            all.map(|(id, entry)| (id.0, entry.name.to_string(), picture.workspace_target(id)))
                .collect()
        }
        "project" => {
            let workspaces = picture.workspaces();
            let of = |(workspace, entry): &(_, bailiwick_store::picture::WorkspaceEntry)| {
                let name = entry.name.clone();
                let projects = picture.projects(*workspace).into_iter();
                projects
                    .map(move |(id, project)| {
                        // A name that would be read otherwise is told as the id.
                        let text = format!("{name}/{}", project.name);
                        let text = if name.contains('/') { id.to_string() } else { text };
                        (id.0, text, picture.project_target(id))
                    })
                    .collect::<Vec<_>>()
            };
            let mut all: Vec<_> = workspaces.iter().flat_map(of).collect();
            all.sort_by_key(|(id, ..)| *id);
            all
        }
        "queue" => {
            let all = picture.queues().into_iter();
            all.map(|(id, queue)| (id.0, queue.name.to_string(), queue_target(id)))
                .collect()
        }
        "model" => {
            let all = picture.models_before(ModelId(i64::MAX), usize::MAX).into_iter().rev();
            all.map(|(id, model)| (id.0, id.to_string(), model_target(id, &model)))
                .collect()
        }
        "stack" => {
            let all = picture.stacks().into_iter();
            all.map(|(id, _)| (id.0, id.to_string(), stack_target(picture, id)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Whether an action makes sense on a kind of resource.
fn fits(kind: &str, permission: Permission) -> bool {
    use bailiwick_api::permission::PermissionScope;
    let of = permission.resource();
    match kind {
        "installation" => true,
        "workspace" => permission.scope() == PermissionScope::Any,
        "project" => {
            matches!(of, "experiments" | "tasks" | "models" | "roles")
                || (of == "projects" && permission.action() != "create")
        }
        "experiment" => (of == "experiments" && permission.action() != "create") || of == "roles",
        "queue" => (of == "queues" && permission.action() != "create") || of == "roles",
        "model" => (of == "models" && permission.action() != "create") || of == "roles",
        "stack" => (of == "stacks" && permission.action() != "create") || of == "roles",
        _ => false,
    }
}

/// Every permission that a subject has on a resource, of those that make sense there.
pub async fn search_action(door: SignedIn, asking: Asking<Search<'static>>) -> Result<Json<Found>, Failure> {
    let search: Search = asking.question()?;
    let subject = entity("subject", search.subject.as_ref()).map_err(|what| missing(&what))?;
    let resource = entity("resource", search.resource.as_ref()).map_err(|what| missing(&what))?;
    let window = Window::of(&search)?;
    let actor = &door.actor;
    let triple = Triple {
        subject,
        action: "",
        resource,
    };
    let asker = Asker::of(actor, std::iter::once(triple)).await?;
    let who = asker.subject(subject);
    if who != Some(actor.id) {
        must_read_roles(actor).await?;
    }
    let (Some(who), Some(target)) = (who, asker.target(resource)) else {
        return Ok(window.page(Vec::new()));
    };
    let world = asker.picture.world();
    let able = Permission::ALL
        .iter()
        .enumerate()
        .map(|(at, permission)| (at as i64 + 1, *permission));
    let able = able.filter(|(at, permission)| {
        *at > window.after && fits(resource.0, *permission) && asker.may(&world, who, *permission, target)
    });
    let results = able.map(|(at, permission)| {
        let one = FoundOne {
            name: Some(permission.name().to_owned()),
            ..FoundOne::default()
        };
        (at, one)
    });
    Ok(window.page(results.take(window.limit + 1).collect()))
}

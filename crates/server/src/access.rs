//! The check that cannot be forgotten, HTTP half. A route is a handler `async fn(door, input) -> Result<output, Failure>`; its first argument is a [`Door`]
//! and says who may come, and only a door hands out the means to reach the store. There is no other way to add a route:
//!
//! ```
//! # use bailiwick_server::access::{Anyone, Json, NoInput, Routes}; use bailiwick_server::failure::Failure;
//! async fn open_to_all(_: Anyone, _: NoInput) -> Result<Json<()>, Failure> { Ok(Json(())) }
//! Routes::default().get("/api/v1/open", "a handler that says who may come", open_to_all);
//! ```
//!
//! ```compile_fail
//! # use bailiwick_server::access::{Anyone, Json, NoInput, Routes}; use bailiwick_server::failure::Failure;
//! async fn open_to_all(_: NoInput, _: NoInput) -> Result<Json<()>, Failure> { Ok(Json(())) }
//! Routes::default().get("/api/v1/open", "the same without saying it", open_to_all);
//! ```
//!
//! Nor does a handler get at the database behind the doors' back:
//!
//! ```compile_fail
//! # use bailiwick_server::access::{Anyone, Json, NoInput}; use bailiwick_server::failure::Failure;
//! async fn peep(door: Anyone, _: NoInput) -> Result<Json<()>, Failure> { let _ = &door.context.shared.access; Ok(Json(())) }
//! ```

use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams, State as AxumState};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use bailiwick_access::Target;
use bailiwick_api::ids::as_number;
use bailiwick_api::permission::Permit;
use bailiwick_api::requests::BREAK_GLASS_HEADER;
use bailiwick_api::{ModelId, Permission, PrincipalId, ProjectId, WorkspaceId, key};
use bailiwick_store::access::{
    Access, Actor, CredentialKind, Granted, NOWHERE, Origin, Refusal, System, model_target, seldom,
};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::credentials::agents_part;
use bailiwick_store::experiments::{self, ExperimentRow};
use bailiwick_store::{models, requests};
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use crate::cookies;
use crate::failure::Failure;
use crate::pages;
use crate::parts::Parts as ServerParts;
pub use crate::wire::*;

#[cfg(feature = "bench")]
pub(crate) mod unchecked;

/// Shared by all requests. The way to the database is private to this file.
pub struct Shared {
    access: Arc<Access>,
    pub parts: ServerParts,
}

impl Shared {
    pub fn new(access: Arc<Access>, parts: ServerParts) -> Arc<Shared> {
        Arc::new(Shared { access, parts })
    }
}

/// One request on its way to a handler.
#[derive(Clone)]
pub struct Context {
    pub shared: Arc<Shared>,
    pub request: Arc<Parts>,
    pub path: Vec<(String, String)>,
    /// The route as the table has it.
    pub route: &'static str,
    pub origin: Origin,
    /// The id of who asks, once that is known.
    who: Arc<AtomicI64>,
}

impl Context {
    /// A part of the path by its name in the route table.
    pub fn path(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(key, _)| key == name);
        &found.expect("the handler asks for a part that its route has").1
    }

    /// A numeric part; anything else cannot be there.
    pub fn path_id(&self, name: &'static str) -> Result<i64, Failure> {
        bailiwick_api::ids::as_number(self.path(name)).ok_or_else(|| Failure::not_found(name, self.path(name)))
    }

    /// A page for people, where a browser signs in by its cookie. Programs sign each request, and no cookie counts for them.
    pub fn is_page(&self) -> bool {
        is_page(self.route)
    }

    fn bearer(&self) -> Option<&str> {
        let Some(value) = self.request.headers.get(header::AUTHORIZATION) else {
            // A session and no key: a cookie is no place for what lives longer.
            let session = self.cookie(cookies::SESSION).filter(|value| value.starts_with("mls_"));
            return session.filter(|_| self.is_page());
        };
        let (scheme, token) = value.as_bytes().split_at_checked(b"bearer ".len())?;
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
        std::str::from_utf8(token.trim_ascii()).ok().filter(|_| is_bearer)
    }

    /// The same request, had it come with this session.
    pub fn signed_by(&self, session: &str) -> Context {
        let mut request = Parts::clone(&self.request);
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {session}")) {
            request.headers.insert(header::AUTHORIZATION, value);
        }
        Context {
            request: Arc::new(request),
            ..self.clone()
        }
    }

    /// The answer where no handler is come to.
    async fn failed(&self, failure: Failure) -> Response {
        match self.is_page() {
            true => pages::failed(self, failure).await,
            false => failure.respond("-"),
        }
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookies::find(&self.request.headers, name)
    }

    /// What another handler gives, asked through its own door: a page shows what the interface would tell the same person.
    pub async fn ask<D, I, O, Fut>(
        &self,
        handler: impl FnOnce(D, I) -> Fut,
        path: &[(&str, &str)],
        input: I,
    ) -> Result<O, Failure>
    where
        D: Door,
        Fut: Future<Output = Result<O, Failure>>,
    {
        let path = path.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let context = Context {
            path: path.collect(),
            ..self.clone()
        };
        handler(D::open(context).await?, input).await
    }

    async fn actor(&self, fresh: bool) -> Result<Actor, Failure> {
        // Sessions and keys are all that is remembered, and nothing more is asked of them.
        let known = self
            .bearer()
            .and_then(|bearer| self.shared.access.recognise(bearer, &self.origin, fresh));
        let actor = match known {
            Some(actor) => {
                self.who.store(actor.id.0, Ordering::Relaxed);
                actor
            }
            None => seldom(self.authenticate(fresh)).await?,
        };
        if actor.narrowing().is_some_and(|left| left.permissions == agents_part()) {
            seldom(self.refuse_beyond_agent(&actor)).await?;
        }
        if self.is_page() && actor.is_service() {
            return Err(seldom(self.refuse_pages(&actor)).await);
        }
        Ok(actor)
    }

    /// Pages are for people. A program that goes through them would do so in nobody's name, and stop when a page is made nicer.
    async fn refuse_pages(&self, actor: &Actor) -> Failure {
        let entry = Entry {
            outcome: bailiwick_api::audit::Outcome::Denied,
            ..Entry::new("sign-in", "page", "request", self.request.uri.path())
        };
        if let Err(why) = audit::record(actor, entry).await {
            return why.into();
        }
        Failure::forbidden(format!("{} is a service account, and has no pages", actor.name()))
            .hint("its key is for the interface under /api/v1, for `ml` and for agents")
    }

    async fn authenticate(&self, fresh: bool) -> Result<Actor, Failure> {
        let outcome = self
            .shared
            .access
            .authenticate(self.bearer(), self.origin.clone(), fresh)
            .await;
        if let Err(Refusal::NotSignedIn { given }) = &outcome
            && self.shared.parts.limiter.may_record(&self.origin.address)
        {
            let entry = Entry {
                outcome: bailiwick_api::audit::Outcome::Denied,
                ..Entry::new("sign-in", "key", "request", self.request.uri.path())
            };
            let entry = entry.with(json!({"key": if *given { "invalid" } else { "none" }}));
            audit::record_stranger(&self.shared.access, "", &self.origin, entry).await?;
        }
        let actor = outcome?;
        self.who.store(actor.id.0, Ordering::Relaxed);
        match actor.credential_kind {
            CredentialKind::None => self.refuse_foreign_page()?,
            CredentialKind::Job => self.refuse_beyond_job(&actor).await?,
            CredentialKind::Session | CredentialKind::Key => {}
        }
        Ok(actor)
    }

    /// An agent's key lies on machines that run other people's code. What every other account may ask for, such as the names of users, it does not come near.
    async fn refuse_beyond_agent(&self, actor: &Actor) -> Result<(), Failure> {
        let path = self.request.uri.path();
        if path.starts_with("/api/v1/agents") || path == "/api/v1/me" {
            return Ok(());
        }
        let message = format!(
            "Insufficient permissions: this key of {} serves queues, and does nothing else",
            actor.name()
        );
        let hint = "for more, make an API key of another account";
        self.refuse_to_reach(actor, "agent-key", message, hint).await
    }

    async fn refuse_to_reach(&self, actor: &Actor, with: &str, message: String, hint: &str) -> Result<(), Failure> {
        let entry = Entry {
            outcome: bailiwick_api::audit::Outcome::Denied,
            ..Entry::new(with, "reach", "request", self.request.uri.path())
        };
        audit::record(actor, entry).await?;
        Err(Failure::forbidden(message).hint(hint))
    }

    /// `access.md` §4: a job's token is for the job's own experiment, and to look at what its agent's account, or its owner, may see of others' work. What is
    /// about people, roles and keys it does not come near, whatever its narrowing says.
    async fn refuse_beyond_job(&self, actor: &Actor) -> Result<(), Failure> {
        let path = self.request.uri.path();
        let places = ["/api/v1/workspaces", "/api/v1/projects"];
        let looks = self.request.method == Method::GET && places.iter().any(|place| path.starts_with(place));
        if looks || path.starts_with("/api/v1/experiments") || path == "/api/v1/me" {
            return Ok(());
        }
        let message = format!(
            "Insufficient permissions: a job of {} may reach its own experiment, and look at others and where they lie",
            actor.name()
        );
        let hint = "for more, give the job an API key of its own";
        self.refuse_to_reach(actor, "job-token", message, hint).await
    }

    /// Where access control is off no key protects from a page in somebody's browser: it must have come from this server (its Origin), and under one of
    /// this server's own names (its Host), or a foreign name could be pointed at this address.
    fn refuse_foreign_page(&self) -> Result<(), Failure> {
        let header = |name: header::HeaderName| self.request.headers.get(name).and_then(|value| value.to_str().ok());
        let host = header(header::HOST)
            .or(self.request.uri.authority().map(|authority| authority.as_str()))
            .unwrap_or_default();
        let name = host
            .rsplit_once(':')
            .map_or(host, |(name, _)| name)
            .trim_matches(['[', ']']);
        let public = &self.shared.parts.public_url;
        let known =
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok() || public.split("//").nth(1) == Some(host);
        let own_page = header(header::ORIGIN).is_none_or(|origin| origin.split("//").nth(1) == Some(host));
        if known && own_page && !host.is_empty() {
            return Ok(());
        }
        Err(
            Failure::forbidden("access control is off, and this request came from a page of another site")
                .hint("open this server under its own address"),
        )
    }

    /// The caller anew, after its own request has changed rights.
    pub async fn actor_again(&self) -> Result<Actor, Failure> {
        self.actor(true).await
    }

    /// Who is asking, for the frame around a failure: nothing is recorded, and a job looks at no pages.
    pub async fn who(&self) -> Option<Actor> {
        let (access, origin) = (&self.shared.access, self.origin.clone());
        let actor = access.authenticate(self.bearer(), origin, false).await.ok()?;
        (actor.credential_kind != CredentialKind::Job).then_some(actor)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), Failure> {
        Ok(self.shared.access.ping().await?)
    }

    async fn require_globally(&self, permission: Permission) -> Result<(), Failure> {
        let actor = self.actor(true).await?;
        match actor.may(permission, &Target::default()) {
            Some(_) => Ok(()),
            None => {
                audit::record(&actor, Entry::denied(permission, "installation", "")).await?;
                Err(actor.forbidden(permission, &Target::default()).into())
            }
        }
    }
}

/// Who may come: the first argument of every handler.
#[diagnostic::on_unimplemented(
    message = "this handler declares no permission: its first argument must be `Allowed<Permission, On>`, `Asked<Permission>`, `SignedIn`, `Stranger` or `Anyone`"
)]
pub trait Door: Sized + Send + 'static {
    /// For the route table: `experiments:read on experiment`, `signed in`, `anyone`.
    fn says() -> String;
    fn open(context: Context) -> impl Future<Output = Result<Self, Failure>> + Send;
}

/// No credential needed. Each use says why in the route table.
pub struct Anyone {
    pub context: Context,
}

impl Door for Anyone {
    fn says() -> String {
        "anyone".into()
    }
    async fn open(context: Context) -> Result<Self, Failure> {
        Ok(Anyone { context })
    }
}

/// Somebody who wants to sign in: no credential yet, and what sign-in needs of the store.
pub struct Stranger {
    pub context: Context,
    pub access: Arc<Access>,
}

impl Door for Stranger {
    fn says() -> String {
        "anyone, to sign in".into()
    }
    async fn open(context: Context) -> Result<Self, Failure> {
        let access = context.shared.access.clone();
        Ok(Stranger { context, access })
    }
}

/// Monitoring: `cluster:read-usage`, or anybody where the configuration says so (`metrics_open`).
pub struct Monitor {
    pub context: Context,
    pub system: System,
}

impl Door for Monitor {
    fn says() -> String {
        "cluster:read-usage on the installation, unless the configuration opens it".into()
    }
    async fn open(context: Context) -> Result<Self, Failure> {
        if !context.shared.parts.metrics_open {
            context.require_globally(Permission::ClusterReadUsage).await?;
        }
        let system = context.shared.access.system("metrics");
        Ok(Monitor { context, system })
    }
}

/// Any live credential; the store functions reached from here look at what the actor may see.
pub struct SignedIn {
    pub context: Context,
    /// Apart, as what a request keeps is moved from step to step.
    pub actor: Box<Actor>,
}

impl Door for SignedIn {
    fn says() -> String {
        "signed in".into()
    }
    async fn open(context: Context) -> Result<Self, Failure> {
        let actor = Box::new(context.actor(true).await?);
        Ok(SignedIn { context, actor })
    }
}

/// Permission `P` is needed, on something that only the handler can name (it stands in the body, or decides how a refusal reads).
pub struct Asked<P> {
    pub context: Context,
    pub actor: Actor,
    permit: PhantomData<fn() -> P>,
}

impl<P: Permit> Door for Asked<P> {
    fn says() -> String {
        format!("{} on what is asked for", P::PERMISSION)
    }
    async fn open(context: Context) -> Result<Self, Failure> {
        let actor = context.actor(true).await?;
        Ok(Asked {
            context,
            actor,
            permit: PhantomData,
        })
    }
}

impl<P: Permit> Asked<P> {
    /// The proof for this target; a refusal is recorded.
    pub async fn at(
        &self,
        target: Target,
        what: &'static str,
        which: &str,
        seen_by: Option<Permission>,
    ) -> Result<Granted<P>, Failure> {
        require(&self.actor, target, what, which, seen_by).await
    }
}

/// The proof that an actor may do this on the target, or a recorded refusal.
pub async fn require<P: Permit>(
    actor: &Actor,
    target: Target,
    what: &'static str,
    which: &str,
    seen_by: Option<Permission>,
) -> Result<Granted<P>, Failure> {
    match actor.require::<P>(target, what, which, seen_by) {
        Ok(granted) => Ok(granted),
        Err(refusal) => {
            let entry = Entry::denied(P::PERMISSION, what, which).in_workspace(target.workspace);
            seldom(audit::record(actor, entry)).await?;
            Err(refusal.into())
        }
    }
}

/// What a permission is asked on, as the path says.
pub trait On: Sized + Send + 'static {
    const NAME: &'static str;
    fn find<P: Permit>(context: &Context) -> impl Future<Output = Result<(Granted<P>, Self), Failure>> + Send;
}

/// The whole installation.
pub struct Installation;

impl On for Installation {
    const NAME: &'static str = "the installation";
    async fn find<P: Permit>(context: &Context) -> Result<(Granted<P>, Self), Failure> {
        let actor = context.actor(true).await?;
        Ok((
            require(&actor, Target::default(), "installation", "", None).await?,
            Installation,
        ))
    }
}

/// What belongs to the caller itself.
pub struct OwnThings;

impl On for OwnThings {
    const NAME: &'static str = "one's own";
    async fn find<P: Permit>(context: &Context) -> Result<(Granted<P>, Self), Failure> {
        let actor = context.actor(true).await?;
        let target = Target::owned_by(actor.id);
        Ok((require(&actor, target, "own", "", None).await?, OwnThings))
    }
}

/// The experiment that `{experiment}` names.
pub struct OneExperiment(pub ExperimentRow);

impl On for OneExperiment {
    const NAME: &'static str = "experiment";
    async fn find<P: Permit>(context: &Context) -> Result<(Granted<P>, Self), Failure> {
        // The version of rights is read with the row itself.
        let actor = context.actor(false).await?;
        let (granted, row) = experiments::find::<P>(&actor, context.path("experiment")).await?;
        if granted.is_administrative_use() && context.request.method == Method::GET {
            let entry = Entry::of::<P>("look", "experiment", row.id).in_workspace(Some(row.workspace));
            audit::record(&granted.actor, entry).await?;
        }
        Ok((granted, OneExperiment(row)))
    }
}

/// The workspace that `{workspace}` names.
pub struct OneWorkspace(pub WorkspaceId);

impl On for OneWorkspace {
    const NAME: &'static str = "workspace";
    async fn find<P: Permit>(context: &Context) -> Result<(Granted<P>, Self), Failure> {
        let actor = context.actor(true).await?;
        let (which, seen_by) = (context.path("workspace"), Some(Permission::WorkspacesRead));
        let id = actor.picture().find_workspace(which);
        let found = id.map(|id| (actor.picture().workspace_target(id), id));
        let (granted, id) = require_found(&actor, found, "workspace", which, seen_by).await?;
        Ok((granted, OneWorkspace(id)))
    }
}

/// The project that `{project}` names, in the workspace that `{workspace}` names.
pub struct OneProject(pub ProjectId);

impl On for OneProject {
    const NAME: &'static str = "project";
    async fn find<P: Permit>(context: &Context) -> Result<(Granted<P>, Self), Failure> {
        let actor = context.actor(true).await?;
        let (which, seen_by) = (context.path("project"), Some(Permission::ProjectsRead));
        let workspace = actor.picture().find_workspace(context.path("workspace"));
        let id = workspace.and_then(|workspace| actor.picture().find_project(workspace, which));
        let found = id.map(|id| (actor.picture().project_target(id), id));
        let (granted, id) = require_found(&actor, found, "project", which, seen_by).await?;
        Ok((granted, OneProject(id)))
    }
}

/// The model that `{model}` names: by number, or as WORKSPACE/NAME.
pub struct OneModel(pub ModelId);

impl On for OneModel {
    const NAME: &'static str = "model";
    async fn find<P: Permit>(context: &Context) -> Result<(Granted<P>, Self), Failure> {
        let actor = context.actor(true).await?;
        let which = context.path("model");
        let found = actor.picture().find_model(which);
        let found = found.map(|(id, model)| (model_target(id, &model), id));
        let (granted, id) = require_found(&actor, found, "model", which, Some(Permission::ModelsRead)).await?;
        if granted.is_administrative_use() && context.request.method == Method::GET {
            let entry = Entry::of::<P>("look", "model", id).in_workspace(granted.target.workspace);
            audit::record(&actor, entry).await?;
        }
        Ok((granted, OneModel(id)))
    }
}

/// The version that `{version}` names of the model that `{model}` names. It is its registrar's own, and the model's owner's.
pub struct OneVersion(pub ModelId, pub i64);

impl On for OneVersion {
    const NAME: &'static str = "version of a model";
    async fn find<P: Permit>(context: &Context) -> Result<(Granted<P>, Self), Failure> {
        let actor = context.actor(true).await?;
        let (which, version) = (context.path("model"), context.path("version"));
        let number = as_number(version).unwrap_or(0);
        let found = actor.picture().find_model(which);
        // Asked of a model that is not there as well: how long it takes tells nothing.
        let id = found.as_ref().map_or(ModelId(0), |(id, _)| *id);
        let registrar = models::version_owner(&actor, id, number).await?;
        let own = registrar.filter(|who| *who == actor.id);
        let found = found.map(|(id, model)| {
            let target = model_target(id, &model);
            let owner = own.or(target.owner);
            (Target { owner, ..target }, id)
        });
        let (granted, id) = require_found(&actor, found, "model", which, Some(Permission::ModelsRead)).await?;
        match number {
            0 => Err(Failure::not_found("version", version)),
            _ => Ok((granted, OneVersion(id, number))),
        }
    }
}

/// The proof for what was looked up by a name. What is not there is decided about as well, and the refusal recorded, so that neither words nor time tell it
/// from what may not be seen.
pub async fn require_found<P: Permit, T>(
    actor: &Actor,
    found: Option<(Target, T)>,
    what: &'static str,
    which: &str,
    seen_by: Option<Permission>,
) -> Result<(Granted<P>, T), Failure> {
    match found {
        Some((target, thing)) => Ok((require(actor, target, what, which, seen_by).await?, thing)),
        None => match require::<P>(actor, NOWHERE, what, which, seen_by).await {
            Err(failure) if failure.status.is_server_error() => Err(failure),
            _ => Err(Failure::not_found(what, which)),
        },
    }
}

/// Permission `P` on `T` was found before the handler starts.
pub struct Allowed<P, T> {
    pub context: Context,
    pub granted: Granted<P>,
    pub on: T,
}

impl<P: Permit, T: On> Door for Allowed<P, T> {
    fn says() -> String {
        format!("{} on {}", P::PERMISSION, T::NAME)
    }
    async fn open(context: Context) -> Result<Self, Failure> {
        let (granted, on) = T::find::<P>(&context).await?;
        Ok(Allowed { context, granted, on })
    }
}

/// What is for programs stands under these; everything else is looked at by people.
pub fn is_page(route: &str) -> bool {
    let programs = [
        "/api/",
        "/access/v1/",
        "/.well-known/",
        "/static/",
        "/openapi.json",
        "/metrics",
        "/healthz",
        "/readyz",
    ];
    !programs.iter().any(|start| route.starts_with(start))
}

/// One line of the route table, written by the router itself.
#[derive(Debug, Clone)]
pub struct RouteInfo {
    pub method: Method,
    pub path: &'static str,
    /// Who may come.
    pub door: String,
    pub summary: &'static str,
    pub operation: Value,
}

/// The route table as it is built.
pub struct Routes {
    router: Router<Arc<Shared>>,
    pub table: Vec<RouteInfo>,
    schemas: SchemaGenerator,
}

impl Default for Routes {
    fn default() -> Self {
        let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Routes {
            router: Router::new(),
            table: Vec::new(),
            schemas: settings.into_generator(),
        }
    }
}

macro_rules! verbs {
    ($($verb:ident = $method:ident),*) => {$(
        pub fn $verb<D, I, O, F, Fut>(&mut self, path: &'static str, summary: &'static str, handler: F)
        where
            D: Door,
            I: Input,
            O: Output,
            F: Fn(D, I) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<O, Failure>> + Send + 'static,
        {
            self.add(Method::$method, MethodFilter::$method, path, summary, handler);
        }
    )*};
}

impl Routes {
    verbs!(
        get = GET,
        post = POST,
        put = PUT,
        patch = PATCH,
        delete = DELETE,
        head = HEAD
    );

    fn add<D, I, O, F, Fut>(
        &mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        summary: &'static str,
        handler: F,
    ) where
        D: Door,
        I: Input,
        O: Output,
        F: Fn(D, I) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<O, Failure>> + Send + 'static,
    {
        let operation = self.operation::<D, I, O>(&method, path, summary);
        self.table.push(RouteInfo {
            method,
            path,
            door: D::says(),
            summary,
            operation,
        });
        let run = move |AxumState(shared): AxumState<Arc<Shared>>, request: axum::extract::Request| {
            let handler = handler.clone();
            async move {
                let leaves_rest = may_leave_rest(&request);
                // AuthZEN: errors are a text, and the caller's own id for a request comes back.
                let is_standard = path.starts_with("/access/v1/");
                let their_id = request.headers().get("x-request-id").filter(|_| is_standard).cloned();
                let (context, body) = match context(shared.clone(), path, request).await {
                    Ok(both) => both,
                    Err((context, typed)) => {
                        let failure = Failure::not_found("page or interface", &typed);
                        return context.failed(failure).await;
                    }
                };
                let request_id = context.origin.request_id.clone();
                let (method, started) = (context.request.method.clone(), Instant::now());
                let who = context.who.clone();
                let page = context.is_page().then(|| context.clone());
                let mut response = match (handle(context, body, handler).await, page) {
                    (Ok(response), _) => response,
                    (Err(failure), Some(context)) => seldom(pages::failed(&context, failure)).await,
                    (Err(failure), None) if is_standard => failure.respond_in_words(&request_id),
                    (Err(failure), None) => failure.respond(&request_id),
                };
                if leaves_rest && !response.status().is_success() {
                    response
                        .headers_mut()
                        .insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                let own_id = HeaderValue::from_str(&request_id).expect("request ids are hexadecimal");
                let id = their_id.unwrap_or(own_id);
                response.headers_mut().insert("x-request-id", id);
                response
                    .headers_mut()
                    .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                if let Some(until) = break_glass_until(&shared, &who).await {
                    response.headers_mut().insert(BREAK_GLASS_HEADER, until);
                }
                shared
                    .parts
                    .metrics
                    .count(&method, path, response.status(), started.elapsed());
                response
            }
        };
        let router = std::mem::take(&mut self.router);
        #[expect(clippy::disallowed_methods, reason = "this is the one place that adds routes")]
        let router = router.route(path, on(filter, run));
        self.router = router;
    }

    fn operation<D: Door, I: Input, O: Output>(
        &mut self,
        method: &Method,
        path: &'static str,
        summary: &'static str,
    ) -> Value {
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        let id = format!(
            "{}{}",
            method.as_str().to_lowercase(),
            path.replace(['/', '{', '}', '.'], "_")
        );
        let error = match path.starts_with("/access/v1/") {
            // AuthZEN: errors are a text.
            true => json!({"text/plain": {"schema": {"type": "string"}}}),
            false => {
                json!({"application/json": {"schema": self.schemas.subschema_for::<bailiwick_api::ErrorEnvelope>()}})
            }
        };
        let mut operation = json!({
            "operationId": id,
            "summary": summary,
            "description": format!("Who: {}.", D::says()),
            "tags": [tag(path)],
            "parameters": parameters,
            "responses": {"default": {"description": "refused or failed", "content": error}},
        });
        if !D::says().starts_with("anyone") {
            operation["security"] = json!([{"bearer": []}]);
        }
        if is_page(path) {
            return operation;
        }
        I::describe(&mut operation, &mut self.schemas);
        O::describe(&mut operation, &mut self.schemas);
        operation
    }

    /// The schemas that the operations refer to.
    pub fn take_schemas(&mut self) -> Value {
        Value::Object(self.schemas.take_definitions(true))
    }

    pub fn into_router(self, shared: Arc<Shared>) -> Router {
        self.router
            .fallback(no_route)
            .method_not_allowed_fallback(no_method)
            .with_state(shared)
    }
}

/// Whoever has broken the glass hears of it with every answer.
async fn break_glass_until(shared: &Shared, who: &AtomicI64) -> Option<HeaderValue> {
    let who = Some(who.load(Ordering::Relaxed)).filter(|id| *id != 0)?;
    // Where that cannot be read, the answer itself says more.
    let until = requests::break_glass_until(&shared.access, PrincipalId(who))
        .await
        .ok()??;
    HeaderValue::from_str(&until.to_string()).ok()
}

/// Whether a refusal may come before the body was read to its end. The connection is closed then, and a client that is not told so would send its next
/// request into it.
fn may_leave_rest(request: &axum::extract::Request) -> bool {
    let is_small = HttpBody::size_hint(request.body())
        .exact()
        .is_some_and(|bytes| bytes <= 8192);
    request.version() <= axum::http::Version::HTTP_11 && !is_small
}

/// Under which heading an operation is described: its noun.
fn tag(path: &'static str) -> &'static str {
    match path.strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next()) {
        None if path.contains("authzen") || path.starts_with("/access/v1/") => "AuthZEN",
        Some("login" | "logout" | "me") => "signing in",
        Some(noun) if noun != "info" => noun,
        _ => "server",
    }
}

async fn handle<D: Door, I: Input, O: Output, F, Fut>(
    context: Context,
    body: Body,
    handler: F,
) -> Result<Response, Failure>
where
    F: Fn(D, I) -> Fut,
    Fut: Future<Output = Result<O, Failure>>,
{
    // The input's head is read here, too, as the door keeps the context; the body is read only once the door is open.
    let request = context.request.clone();
    let body = cookies::refuse_foreign_form(&context, body).await?;
    let door = D::open(context).await?;
    let input = I::read(&request, body).await?;
    Ok(handler(door, input).await?.respond())
}

/// The request on its way, or its path as it was typed where that can be the name of nothing: it is not UTF-8, or holds a zero character.
async fn context(
    shared: Arc<Shared>,
    route: &'static str,
    request: axum::extract::Request,
) -> Result<(Context, Body), (Context, String)> {
    let (mut parts, body) = request.into_parts();
    let params = RawPathParams::from_request_parts(&mut parts, &()).await;
    let params = params
        .ok()
        .filter(|params| !params.iter().any(|(_, value)| value.contains('\0')));
    let wrong = params.is_none().then(|| parts.uri.path().to_owned());
    let params = params.iter().flat_map(RawPathParams::iter);
    let path = params.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let peer = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or_else(|| "".into(), |info| info.0.ip().to_string());
    let forwarded = parts
        .headers
        .get("x-forwarded-for")
        .filter(|_| shared.parts.behind_proxy);
    // The last entry is the one that our own proxy wrote.
    let forwarded = forwarded
        .and_then(|value| value.to_str().ok())
        .and_then(|list| list.rsplit(',').next());
    let address: String = forwarded.map_or(peer, |address| address.trim().chars().take(64).collect());
    let origin = Origin {
        address: address.into(),
        request_id: request_id().into(),
    };
    let context = Context {
        shared,
        request: Arc::new(parts),
        path,
        route,
        origin,
        who: Arc::default(),
    };
    match wrong {
        None => Ok((context, body)),
        Some(typed) => Err((context, typed)),
    }
}

/// A number that no other request has, here or at another server: counted on from a random one, and spread so that two look nothing alike.
fn request_id() -> String {
    static FIRST: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let first = FIRST.get_or_init(|| {
        let [a, b, c, d, e, f, g, h, ..] = key::random_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    });
    let number = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    key::hex(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
}

async fn no_route(AxumState(shared): AxumState<Arc<Shared>>, request: axum::extract::Request) -> Response {
    let failure = Failure::not_found("page or interface", request.uri().path());
    refuse_route(shared, request, failure).await
}

/// For people as a page, whatever is at the address.
async fn refuse_route(shared: Arc<Shared>, request: axum::extract::Request, failure: Failure) -> Response {
    let failure = failure.hint("the interface is described at /docs/api");
    let accepts = request.headers().get(header::ACCEPT);
    let accepts = accepts.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let route = if accepts.contains("text/html") { "/" } else { "/api/" };
    let (Ok((context, _)) | Err((context, _))) = context(shared, route, request).await;
    context.failed(failure).await
}

async fn no_method(AxumState(shared): AxumState<Arc<Shared>>, request: axum::extract::Request) -> Response {
    let mut failure = Failure::not_found("such request for", request.uri().path());
    failure.status = StatusCode::METHOD_NOT_ALLOWED;
    failure.message = format!("{} is not understood at {}", request.method(), request.uri().path());
    refuse_route(shared, request, failure).await
}

//! Users and service accounts.

use std::collections::BTreeMap;

use askama::Template;
use bailiwick_access::Target;
use bailiwick_api::access::DiffAnswer;
use bailiwick_api::roles::AssignmentFilter;
use bailiwick_api::tokens::{Credential, NewCredential, Token};
use bailiwick_api::users::{
    ChangeServiceAccount, ChangeUser, Link, NewServiceAccount, NewUser, PrincipalKind, Seats, ServiceAccount, User,
    UserState,
};
use bailiwick_api::{Permission, Time, ids};
use schemars::JsonSchema;
use serde::Deserialize;

use super::held::{
    self, Acted, Again, Giving, Held, Offer, Roles, Thing, moment, must_be_sure, names, position, preview_giving,
};
use super::told::{Problem, given, query, status};
use super::{Frame, ago};
use crate::access::{Answer, Done, Form, Json, NoInput, Query, SignedIn};
use crate::failure::Failure;
use crate::routes;
use crate::routes::service_accounts::CredentialFilter;
use crate::routes::users::UserFilter;

/// How many stand on a page.
const PAGE: i64 = 50;
/// Most users that one form may name.
const BULK_MAX: usize = 200;

/// What the form above the table asks for; a field left empty asks for nothing.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
pub struct Wanted {
    #[serde(default)]
    text: String,
    /// The name of a state, or `all`.
    #[serde(default)]
    state: String,
    #[serde(default)]
    after: String,
}

impl Wanted {
    fn filter(&self) -> Result<UserFilter, Failure> {
        Ok(UserFilter {
            all: (self.state == "all").then_some(true),
            state: match self.state.as_str() {
                "" | "all" => None,
                word => {
                    let found = STATES.into_iter().find(|state| state.name() == word);
                    Some(found.ok_or_else(|| Failure::invalid(format!("there is no state `{word}`")))?)
                }
            },
            text: given(&self.text),
            after: position(&self.after)?,
            limit: Some(PAGE),
        })
    }

    fn query(&self, after: &str) -> String {
        query(&[("text", &self.text), ("state", &self.state), ("after", after)])
    }

    fn is_anything(&self) -> bool {
        !self.query("").is_empty()
    }
}

const STATES: [UserState; 4] = [
    UserState::Pending,
    UserState::Active,
    UserState::Deactivated,
    UserState::Removed,
];

/// The word that styles a state.
pub fn class(state: &UserState) -> &'static str {
    match state {
        UserState::Active => "yes",
        UserState::Pending => "wait",
        UserState::Deactivated => "no",
        UserState::Removed => "off",
    }
}

/// A time with what people say for it.
pub struct When {
    pub at: Time,
    pub words: String,
}

impl When {
    fn ago(at: Option<Time>, now: Time) -> Option<When> {
        at.map(|at| When {
            words: ago(at, now),
            at,
        })
    }
}

/// A row of the table.
struct Row {
    it: User,
    /// Of a service account: its keys, its groups, and whether it may impersonate.
    account: Option<ServiceAccount>,
    /// Own ones, and those through groups other than `Users`, which all have.
    roles: Vec<Thing>,
    more_roles: usize,
    seen: Option<When>,
    since: Option<When>,
    may_tick: bool,
}

/// How many roles a row names.
const ROLES_SHOWN: usize = 3;

impl Row {
    fn new(door: &SignedIn, it: User) -> Row {
        let (actor, now) = (&door.actor, door.actor.now());
        let picture = actor.picture();
        let everybody = picture.group_name(picture.users_group());
        let special = it
            .roles
            .iter()
            .filter(|role| role.through_group.as_deref() != Some(&*everybody));
        let all: Vec<Thing> = special
            .map(|role| Thing {
                words: match held::place(&role.scope).words.as_str() {
                    "everywhere" => role.role.clone(),
                    place => format!("{} on {place}", role.role),
                },
                path: Some(held::role_path(actor, &role.role)),
            })
            .collect();
        Row {
            more_roles: all.len().saturating_sub(ROLES_SHOWN),
            roles: all.into_iter().take(ROLES_SHOWN).collect(),
            seen: When::ago(it.last_seen_at, now),
            since: When::ago(it.created_at, now),
            may_tick: it.id != actor.id && matches!(it.state, UserState::Active | UserState::Pending),
            account: None,
            it,
        }
    }

    fn of_account(door: &SignedIn, account: ServiceAccount) -> Row {
        Row {
            account: Some(account.clone()),
            ..Row::new(door, account.user)
        }
    }
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    frame: Frame,
    /// Service accounts, and not users.
    services: bool,
    wanted: Wanted,
    rows: Vec<Row>,
    /// The query of this very page.
    here: String,
    first: String,
    next: Option<String>,
    states: [UserState; 4],
    reads: bool,
    reads_services: bool,
    may_create: bool,
    may_update: bool,
    /// How many may be active or pending, for those who read users.
    seats: Option<Seats>,
    roles: Roles,
    workspaces: Vec<String>,
    queues: Vec<String>,
    typed: UsersForm,
    problem: Option<Problem>,
}

impl UsersPage {
    /// The problem is about the form below the table.
    fn is_about_form(&self) -> bool {
        self.typed.act == "invite" || self.typed.act == "create"
    }
}

fn may(door: &SignedIn, permission: Permission) -> bool {
    door.actor.may(permission, &Target::default()).is_some()
}

/// Signed in; fellow users see each other's names.
pub async fn list(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    list_page(&door, wanted, Again::default()).await
}

async fn list_page(door: &SignedIn, wanted: Wanted, again: Again<UsersForm>) -> Result<Answer, Failure> {
    let filter = wanted.filter()?;
    let Json(page) = door.context.ask(routes::users::list, &[], Query(filter)).await?;
    let may_create = may(door, Permission::UsersCreate);
    let (mut roles, mut workspaces) = (Roles::default(), Vec::new());
    if may_create {
        let offer = Offer::to(door).await?;
        roles = offer.map(|offer| offer.roles).unwrap_or_default();
        workspaces = held::workspaces(door, "").await?;
    }
    let page = UsersPage {
        frame: Frame::new(door, "users", "Users"),
        services: false,
        here: wanted.query(&wanted.after),
        first: wanted.query(""),
        next: page.next.map(|next| wanted.query(&next)),
        rows: page.items.into_iter().map(|it| Row::new(door, it)).collect(),
        wanted,
        states: STATES,
        reads: may(door, Permission::UsersRead),
        reads_services: may(door, Permission::ServiceAccountsRead),
        may_create,
        may_update: may(door, Permission::UsersUpdate),
        seats: page.seats,
        roles,
        workspaces: workspaces.into_iter().map(|(_, name)| name).collect(),
        queues: Vec::new(),
        typed: again.typed,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// What a form of the list sends.
#[derive(Default, Deserialize, JsonSchema)]
pub struct UsersForm {
    act: String,
    /// The numbers that are ticked, apart by commas.
    #[serde(default)]
    ids: String,
    /// The query of the list, to go back to.
    #[serde(default)]
    here: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    remote: String,
    /// Queues of a service account, apart by commas.
    #[serde(default)]
    serve: String,
    #[serde(default)]
    impersonate: String,
    /// Each tick by itself, as a browser without script sends them: `u12=on`.
    #[serde(flatten)]
    ticks: BTreeMap<String, String>,
}

impl UsersForm {
    fn ticked(&self) -> Vec<&str> {
        let alone = self.ticks.keys().filter_map(|key| key.strip_prefix('u'));
        let mut ids: Vec<&str> = self.ids.split(',').map(str::trim).chain(alone).collect();
        ids.retain(|id| !id.is_empty() && ids::as_number(id).is_some());
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Signed in; each act asks for what it needs.
pub async fn act_on_list(door: SignedIn, Form(form): Form<UsersForm>) -> Result<Answer, Failure> {
    let outcome = match form.act.as_str() {
        "invite" => invite(&door, &form).await,
        "deactivate" => deactivate(&door, &form).await,
        act => Err(unknown(act)),
    };
    match Again::or(outcome.map(Acted::Done), form)? {
        Ok(answer) => Ok(answer),
        Err(again) => list_page(&door, Wanted::default(), again).await,
    }
}

/// A form that is none of ours, or of another version.
pub fn unknown(act: &str) -> Failure {
    Failure::invalid(format!("this page does not know what `{act}` is"))
}

async fn invite(door: &SignedIn, form: &UsersForm) -> Result<Answer, Failure> {
    let role = given(&form.role);
    let (name, email) = (form.name.trim(), form.email.trim());
    let called = match (name, email) {
        (name, "") => NewUser::called(name),
        (name, email) => NewUser {
            name: name.to_owned(),
            email: Some(email.to_owned()),
            ..NewUser::default()
        },
    };
    let new = NewUser {
        password: None,
        display_name: given(&form.display_name),
        workspace: given(&form.workspace).filter(|_| role.is_some()),
        role,
        remote: form.remote == "yes",
        ..called
    };
    let Json(made) = door.context.ask(routes::users::create, &[], Json(new)).await?;
    match made.link {
        Some(link) => link_page(door, &made.user, link),
        None => Ok(Answer::see(&format!("/users/{}", made.user.id))),
    }
}

/// One after the other; what cannot be deactivated is told at the end.
async fn deactivate(door: &SignedIn, form: &UsersForm) -> Result<Answer, Failure> {
    let ids = form.ticked();
    if ids.is_empty() {
        return Err(Failure::invalid("no user was ticked"));
    }
    if ids.len() > BULK_MAX {
        return Err(Failure::invalid(format!(
            "more than {BULK_MAX} users are named at once"
        )));
    }
    let mut failures = Vec::new();
    for id in &ids {
        let done = door
            .context
            .ask(routes::users::deactivate, &[("user", *id)], Json(Done {}))
            .await;
        if let Err(failure) = done {
            if failure.status.is_server_error() {
                return Err(failure);
            }
            failures.push(failure.message);
        }
    }
    match failures.as_slice() {
        [] => Ok(Answer::see(&format!("/users?{}", form.here))),
        some => Err(Failure::conflict(
            "conflict",
            format!(
                "{} of {} were deactivated; {}",
                ids.len() - some.len(),
                ids.len(),
                some.join("; ")
            ),
        )),
    }
}

/// What is shown once, ready to be copied.
pub struct Secret {
    /// The id of what is copied, in the page.
    pub id: &'static str,
    pub label: &'static str,
    pub text: String,
}

#[derive(Template)]
#[template(path = "once.html")]
struct OncePage {
    frame: Frame,
    words: String,
    secrets: Vec<Secret>,
    until: Option<When>,
    back: String,
}

fn link_page(door: &SignedIn, user: &User, link: Link) -> Result<Answer, Failure> {
    let mail = link.mail.as_ref().map(|mail| format!("{mail} ")).unwrap_or_default();
    let page = OncePage {
        frame: Frame::new(door, "users", format!("A link for {}", user.name)),
        words: format!(
            "{mail}Hand this to {} in a way that nobody else reads. Whoever opens it first chooses the password and is signed in; it works once.",
            user.name
        ),
        secrets: vec![
            Secret {
                id: "link",
                label: "Link to open in a browser",
                text: link.url,
            },
            Secret {
                id: "command",
                label: "Or, in a terminal",
                text: format!(
                    "ml login --server {} --link {}",
                    door.context.shared.parts.public_url, link.token
                ),
            },
        ],
        until: Some(When {
            words: moment(link.expires_at),
            at: link.expires_at,
        }),
        back: format!("/users/{}", user.id),
    };
    page.frame.answer(&page)
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage {
    frame: Frame,
    user: User,
    groups: Vec<Thing>,
    seen: Option<When>,
    since: Option<When>,
    is_service: bool,
    is_me: bool,
    /// More than that there is such a user is told.
    full: bool,
    held: Held,
    more_held: bool,
    offer: Option<Offer>,
    typed: UserForm,
    problem: Option<Problem>,
    preview: Option<DiffAnswer>,
    may_name: bool,
    may_display_name: bool,
    may_life: bool,
    may_link: bool,
    may_remove: bool,
    /// A service account, for those who may read such.
    account: Option<ServiceAccount>,
    keys: Vec<Token>,
    may_account: bool,
    may_read_vaults: bool,
    now: Time,
}

impl UserPage {
    fn acts(&self) -> bool {
        self.may_life || self.may_link || self.may_display_name
    }

    fn is_about_giving(&self) -> bool {
        self.offer.is_some() && self.typed.act.ends_with("give")
    }
}

/// Signed in; what is told is what the interface tells.
pub async fn show(door: SignedIn, _: NoInput) -> Result<Answer, Failure> {
    user_page(&door, Again::default()).await
}

async fn user_page(door: &SignedIn, again: Again<UserForm>) -> Result<Answer, Failure> {
    let path = [("user", door.context.path("user"))];
    let Json(user) = door.context.ask(routes::users::show, &path, NoInput).await?;
    let (actor, now) = (&door.actor, door.actor.now());
    let is_there = user.state != UserState::Removed;
    let (mut items, mut more_held) = (Vec::new(), false);
    if is_there {
        let filter = AssignmentFilter {
            // By the name that was asked for: what hides it must read the same here.
            user: Some(user.name.clone()),
            through_groups: Some(true),
            limit: Some(200),
            ..AssignmentFilter::default()
        };
        let Json(page) = door.context.ask(routes::assignments::list, &[], Query(filter)).await?;
        (items, more_held) = (page.items, page.next.is_some());
    }
    let is_service = user.kind == PrincipalKind::Service;
    let is_me = user.id == actor.id;
    let may_update = is_there && !is_service && may(door, Permission::UsersUpdate);
    let may_display_name =
        may_update || is_me && actor.may(Permission::MeUpdate, &Target::owned_by(actor.id)).is_some();
    let removes = match is_service {
        true => Permission::ServiceAccountsDelete,
        false => Permission::UsersDelete,
    };
    let group = |name: &String| Thing {
        words: name.clone(),
        path: Some(held::group_path(actor, name)),
    };
    let (mut account, mut keys) = (None, Vec::new());
    if is_service && may(door, Permission::ServiceAccountsRead) {
        let path = [("user", &*user.id.to_string())];
        let Json(shown) = door.context.ask(routes::service_accounts::show, &path, NoInput).await?;
        account = Some(shown);
        if may(door, Permission::ServiceAccountsUpdate) {
            let filter = CredentialFilter::default();
            let list = routes::service_accounts::credentials;
            let Json(page) = door.context.ask(list, &path, Query(filter)).await?;
            keys = page.items;
        }
    }
    let page = UserPage {
        may_account: account.is_some() && is_there && may(door, Permission::ServiceAccountsUpdate),
        may_read_vaults: is_there && actor.may(Permission::VaultsRead, &Target::owned_by(user.id)).is_some(),
        account,
        keys,
        now,
        frame: Frame::new(door, "users", &user.name),
        groups: user.groups.iter().map(group).collect(),
        seen: When::ago(user.last_seen_at, now),
        since: When::ago(user.created_at, now),
        is_service,
        is_me,
        full: user.created_at.is_some(),
        held: Held {
            rows: held::rows(actor, items),
            who: false,
            role: true,
            from: true,
            path: format!("/users/{}", user.id),
            nothing: "Holds no role, as far as you may see.",
        }
        .of_user(),
        more_held,
        offer: match is_there {
            true => Offer::to(door).await?,
            false => None,
        },
        typed: again.typed,
        problem: again.problem,
        preview: again.preview,
        may_name: may_update,
        may_display_name,
        may_life: may_update,
        may_link: may_update && !user.remote && matches!(user.state, UserState::Active | UserState::Pending),
        may_remove: is_there && may(door, removes),
        user,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// What a form of one user's page sends.
#[derive(Default, Deserialize, JsonSchema)]
pub struct UserForm {
    act: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    display_name: String,
    /// Left out where the page did not show it.
    email: Option<String>,
    #[serde(default)]
    assignment: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    on: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    sure: String,
    #[serde(default)]
    impersonate: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    token: String,
}

/// Signed in; each act asks for what it needs.
pub async fn act(door: SignedIn, Form(form): Form<UserForm>) -> Result<Answer, Failure> {
    match Again::or(make(&door, &form).await, form)? {
        Ok(answer) => Ok(answer),
        Err(again) => user_page(&door, again).await,
    }
}

async fn make(door: &SignedIn, form: &UserForm) -> Result<Acted, Failure> {
    let which = door.context.path("user").to_owned();
    let path = [("user", which.as_str())];
    let context = &door.context;
    let change = |change: ChangeUser| context.ask(routes::users::change, &path, Json(change));
    let Json(user) = match form.act.as_str() {
        "name" => {
            let named = ChangeUser {
                name: given(&form.name),
                display_name: Some(form.display_name.trim().to_owned()),
                email: form.email.as_ref().map(|email| email.trim().to_owned()),
                ..ChangeUser::default()
            };
            change(named).await?
        }
        "remote-on" | "remote-off" => {
            let remote = Some(form.act == "remote-on");
            change(ChangeUser {
                remote,
                ..ChangeUser::default()
            })
            .await?
        }
        "deactivate" => context.ask(routes::users::deactivate, &path, Json(Done {})).await?,
        "activate" => context.ask(routes::users::activate, &path, Json(Done {})).await?,
        "link" => {
            let Json(user) = context.ask(routes::users::show, &path, NoInput).await?;
            let Json(link) = context.ask(routes::users::link, &path, Json(Done {})).await?;
            return link_page(door, &user, link).map(Acted::Done);
        }
        "withdraw" => {
            context.ask(routes::users::withdraw, &path, NoInput).await?;
            return Ok(Answer::see("/users").into());
        }
        "remove" => {
            must_be_sure(&form.sure)?;
            let Json(user) = context.ask(routes::users::show, &path, NoInput).await?;
            if user.kind == PrincipalKind::Service {
                context.ask(routes::service_accounts::remove, &path, NoInput).await?;
                return Ok(Answer::see("/service-accounts").into());
            }
            context.ask(routes::users::remove, &path, NoInput).await?;
            return Ok(Answer::see("/users").into());
        }
        "account" => {
            let changed = ChangeServiceAccount {
                name: given(&form.name),
                impersonate: Some(form.impersonate == "yes"),
            };
            let change = routes::service_accounts::change;
            let Json(account) = context.ask(change, &path, Json(changed)).await?;
            Json(account.user)
        }
        "new-key" => return add_credential(door, form, &path).await.map(Acted::Done),
        "revoke-key" => {
            let (revoke, key) = (routes::service_accounts::revoke_credential, form.token.as_str());
            let which = [path[0], ("token", key)];
            context.ask(revoke, &which, NoInput).await?;
            return Ok(Answer::see(&format!("/users/{}#keys", path[0].1)).into());
        }
        "give" | "preview-give" => {
            let Json(user) = context.ask(routes::users::show, &path, NoInput).await?;
            let giving = Giving {
                user: Some(user.id.to_string()),
                group: None,
                role: &form.role,
                on: &form.on,
                until: &form.until,
                reason: &form.reason,
            };
            if form.act == "preview-give" {
                return preview_giving(door, giving).await;
            }
            held::give(door, giving).await?;
            Json(user)
        }
        "take" => {
            let Json(user) = context.ask(routes::users::show, &path, NoInput).await?;
            held::take(context, &form.assignment).await?;
            Json(user)
        }
        act => return Err(unknown(act)),
    };
    Ok(Answer::see(&format!("/users/{}", user.id)).into())
}

/// Who may see service accounts.
pub async fn list_service_accounts(door: SignedIn, Query(wanted): Query<Wanted>) -> Result<Answer, Failure> {
    services_page(&door, wanted, Again::default()).await
}

async fn services_page(door: &SignedIn, wanted: Wanted, again: Again<UsersForm>) -> Result<Answer, Failure> {
    let filter = wanted.filter()?;
    let list = routes::service_accounts::list;
    let Json(page) = door.context.ask(list, &[], Query(filter)).await?;
    let may_create = may(door, Permission::ServiceAccountsCreate);
    let mut queues = Vec::new();
    if may_create {
        let Json(page) = door.context.ask(routes::queues::list, &[], NoInput).await?;
        queues = page.items.into_iter().map(|queue| queue.name).collect();
    }
    let page = UsersPage {
        frame: Frame::new(door, "users", "Service accounts"),
        services: true,
        here: wanted.query(&wanted.after),
        first: wanted.query(""),
        next: page.next.map(|next| wanted.query(&next)),
        rows: page.items.into_iter().map(|it| Row::of_account(door, it)).collect(),
        wanted,
        states: STATES,
        reads: true,
        reads_services: true,
        may_create,
        may_update: false,
        seats: None,
        roles: Roles::default(),
        workspaces: Vec::new(),
        queues,
        typed: again.typed,
        problem: again.problem,
    };
    page.frame.answer_with(status(page.problem.as_ref()), &page)
}

/// Signed in; each act asks for what it needs.
pub async fn act_on_service_accounts(door: SignedIn, Form(form): Form<UsersForm>) -> Result<Answer, Failure> {
    let outcome = match form.act.as_str() {
        "create" => make_service_account(&door, &form).await,
        act => Err(unknown(act)),
    };
    match Again::or(outcome.map(Acted::Done), form)? {
        Ok(answer) => Ok(answer),
        Err(again) => services_page(&door, Wanted::default(), again).await,
    }
}

async fn make_service_account(door: &SignedIn, form: &UsersForm) -> Result<Answer, Failure> {
    let new = NewServiceAccount {
        name: form.name.trim().to_owned(),
        serve: names(&form.serve),
        impersonate: form.impersonate == "yes",
    };
    let create = routes::service_accounts::create;
    let Json(made) = door.context.ask(create, &[], Json(new)).await?;
    key_page(door, made, "/service-accounts")
}

async fn add_credential(door: &SignedIn, form: &UserForm, path: &[(&str, &str)]) -> Result<Answer, Failure> {
    let new = NewCredential {
        label: form.label.trim().to_owned(),
        until: held::until(&form.until, door.actor.now())?,
        lifetime_ms: None,
    };
    let add = routes::service_accounts::add_credential;
    let Json(made) = door.context.ask(add, path, Json(new)).await?;
    key_page(door, made, &format!("/users/{}", path[0].1))
}

fn key_page(door: &SignedIn, made: Credential, back: &str) -> Result<Answer, Failure> {
    let (server, key) = (&door.context.shared.parts.public_url, &made.secret);
    let page = OncePage {
        frame: Frame::new(door, "users", format!("A new key of {}", made.token.owner)),
        words: "Whoever has this key acts as the account. Only a fingerprint of it is kept here.".into(),
        secrets: vec![
            Secret {
                id: "key",
                label: "The key",
                text: key.clone(),
            },
            Secret {
                id: "environment",
                label: "As environment",
                text: format!("ML_SERVER={server}\nML_API_KEY={key}"),
            },
            Secret {
                id: "configuration",
                label: "As ~/.ml/config.toml",
                text: made.config,
            },
            Secret {
                id: "clearml",
                label: "As clearml.conf",
                text: made.clearml,
            },
        ],
        until: made.token.expires_at.map(|at| When { words: moment(at), at }),
        back: back.to_owned(),
    };
    page.frame.answer(&page)
}

//! Users, signing in.

use std::time::Instant;

use bailiwick_access::Target;
use bailiwick_api::audit::Outcome;
use bailiwick_api::key::{self, KeyKind};
use bailiwick_api::names::{check_email, check_username};
use bailiwick_api::permission::permit;
use bailiwick_api::users::{
    ChangePassword, ChangeUser, Link, Login, LoginWithLink, Mail, Me, NewUser, PrincipalKind, Session, User, UserState,
    UserWithLink, Users,
};
use bailiwick_api::{Permission, PrincipalId, Time};
use bailiwick_store::access::{Actor, CredentialKind, Granted, Refusal};
use bailiwick_store::audit::{self, Entry};
use bailiwick_store::credentials::{self, LinkUse};
use bailiwick_store::principals::{self, CreateError, Life, LifeError, Wanted};
use bailiwick_store::seats;
use schemars::JsonSchema;
use serde::Deserialize;

use super::tokens::must_cover;
use crate::access::{Allowed, Asked, Done, Installation, Json, NoInput, Query, SignedIn, Stranger, require};
use crate::failure::Failure;
use crate::parts::Parts;
use crate::password;

/// How long an activation link may be used.
const LINK_MS: i64 = 7 * 86_400_000;

/// A new secret and the hash that is stored of it.
pub fn secret(kind: KeyKind) -> (String, String) {
    let secret = key::make(kind, key::random_bytes());
    let stored = key::stored_hash(&secret)
        .map(|hash| key::hex(&hash))
        .expect("a fresh secret is well formed");
    (secret, stored)
}

pub fn link_view(parts: &Parts, token: String, expires_at: Time) -> Link {
    Link {
        url: format!("{}/activate#{token}", parts.public_url),
        token,
        expires_at,
        mail: None,
    }
}

/// A link that has just been made, sent to its user if he has an address. What goes wrong with that undoes nothing, and is told.
async fn sent_link(parts: &Parts, by: &str, name: &str, email: Option<String>, link: Link) -> Link {
    let mail = match (email, &parts.mailer) {
        (None, _) => None,
        (Some(to), None) => Some(Mail {
            to,
            sent: false,
            why: Some("no mail server is set up here (smtp.host in the server's configuration)".into()),
        }),
        (Some(to), Some(mailer)) => {
            let text = format!(
                "Hello,\n\n{by} has made a link for you to sign in to Bailiwick, where your name is {name}:\n\n{}\n\nIt works once, until {}. Whoever opens it first is signed in as you: do not pass it on.\nIf you did not expect this mail, do nothing.\n",
                link.url, link.expires_at
            );
            Some(mailer.send_link(&to, text).await)
        }
    };
    Link { mail, ..link }
}

/// Hashes or checks a password beside the other work, a few at a time.
pub(super) async fn beside<T: Send + 'static>(
    parts: &Parts,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let _one = parts
        .hashing
        .acquire()
        .await
        .map_err(|why| Failure::internal(why.to_string()))?;
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|why| Failure::internal(why.to_string()))
}

async fn new_hash(parts: &Parts, password: &str, name: &str) -> Result<String, Failure> {
    let (password, name) = (password.to_owned(), name.to_owned());
    beside(parts, move || {
        password::check(&password, &name).map_err(Failure::invalid)?;
        password::hash(&password).map_err(Failure::internal)
    })
    .await?
}

/// Anyone, to sign in.
pub async fn login(door: Stranger, Json(login): Json<Login>) -> Result<Json<Session>, Failure> {
    let (parts, origin, access) = (&door.context.shared.parts, &door.context.origin, &door.access);
    let found = principals::find_for_sign_in(access, &login.name).await?;
    // By name or address, it is one account at which is guessed.
    let account = bailiwick_api::names::name_key(found.as_ref().map_or(&login.name, |user| &user.name));
    if let Some(seconds) = parts.limiter.wait_s(&account, &origin.address, Instant::now()) {
        return Err(Failure::too_many_attempts(seconds));
    }
    let stored = found
        .as_ref()
        .filter(|user| user.state == UserState::Active)
        .and_then(|user| user.password_hash.clone());
    let given = login.password;
    let fits = beside(parts, move || password::fits(&given, stored.as_deref())).await?;
    // Of many attempts at once, those that were looked at after others had failed do not count, right or wrong.
    if let Some(seconds) = parts.limiter.wait_s(&account, &origin.address, Instant::now()) {
        return Err(Failure::too_many_attempts(seconds));
    }
    let Some(user) = found.filter(|_| fits) else {
        parts.limiter.failed(&account, &origin.address, Instant::now());
        let entry = Entry {
            outcome: Outcome::Denied,
            ..Entry::new("sign-in", "password", "user", &login.name)
        };
        audit::record_stranger(access, &login.name, origin, entry).await?;
        return Err(
            Failure::wrong_password().hint("an administrator can make a new sign-in link with `ml user link NAME`")
        );
    };
    parts.limiter.succeeded(&account, &origin.address);
    let (token, hash) = secret(KeyKind::Session);
    let expires_at = access.now().plus_ms(parts.session_ms);
    if !credentials::open_session(access, user.id, &user.name, &hash, expires_at, origin).await? {
        return Err(Failure::wrong_password());
    }
    Ok(Json(Session {
        token,
        name: user.name,
        expires_at,
    }))
}

/// Anyone, to sign in.
pub async fn login_with_link(door: Stranger, Json(login): Json<LoginWithLink>) -> Result<Json<Session>, Failure> {
    use_link(&door, &login.token, login.password.as_deref()).await.map(Json)
}

/// What the API and the page do with a link.
pub async fn use_link(door: &Stranger, token: &str, password: Option<&str>) -> Result<Session, Failure> {
    let (parts, origin, access) = (&door.context.shared.parts, &door.context.origin, &door.access);
    if let Some(seconds) = parts.limiter.wait_s("a link", &origin.address, Instant::now()) {
        return Err(Failure::too_many_attempts(seconds));
    }
    let hash = key::stored_hash(token).map(|hash| key::hex(&hash));
    let link = match &hash {
        Some(hash) => credentials::find_link(access, hash).await?,
        None => None,
    };
    let used_up = || {
        let mut failure = Failure::invalid_key();
        failure.message = "this link has been used, is past its time, or never was one".into();
        failure.hint("an administrator can make a new one with `ml user link NAME`")
    };
    let Some(link) = link else {
        parts.limiter.failed("a link", &origin.address, Instant::now());
        let entry = Entry {
            outcome: Outcome::Denied,
            ..Entry::new("sign-in", "link", "user", "")
        };
        audit::record_stranger(access, "", origin, entry).await?;
        return Err(used_up());
    };
    let password_hash = match password {
        Some(password) => Some(new_hash(parts, password, &link.name).await?),
        None if link.has_password => None,
        None => {
            let mut failure = Failure::invalid(format!("`{}` has no password yet: choose one", link.name));
            failure.code = "password_needed";
            return Err(failure);
        }
    };
    let (token, session) = secret(KeyKind::Session);
    let expires_at = access.now().plus_ms(parts.session_ms);
    match credentials::use_link(access, &link, password_hash.as_deref(), &session, expires_at, origin).await? {
        LinkUse::Opened => {}
        LinkUse::UsedUp => return Err(used_up()),
        LinkUse::Withdrawn => {
            let mut failure = Failure::invalid_key();
            failure.message = format!(
                "this link is withdrawn: whoever made it, and may have kept it, does not hold all that `{}` may do by now",
                link.name
            );
            return Err(failure.hint(format!(
                "an administrator has to make a new one with `ml user link {}`",
                link.name
            )));
        }
    }
    Ok(Session {
        token,
        name: link.name,
        expires_at,
    })
}

pub async fn logout(door: SignedIn, _: Json<Done>) -> Result<Json<Done>, Failure> {
    let kind = door.actor.credential_kind;
    if kind != CredentialKind::Session {
        let message = format!("this request was not signed by a session but by: {}", kind.name());
        return Err(Failure::conflict("conflict", message).hint("an API key ends with `ml token revoke ID`"));
    }
    credentials::sign_out(&door.actor).await?;
    Ok(Json(Done {}))
}

pub async fn me(door: SignedIn, _: NoInput) -> Result<Json<Me>, Failure> {
    let actor = &door.actor;
    let user = principals::get(actor, &actor.id.to_string()).await?;
    Ok(Json(Me {
        user,
        access: door.context.shared.parts.mode,
        sees: match credentials::narrowed(actor).workspaces {
            Some(workspaces) => format!(
                "{}, as far as this key is for them: in {}",
                sees(actor),
                workspaces.join(", ")
            ),
            None => sees(actor),
        },
        credential: actor.credential_kind.name().into(),
        narrowed: credentials::narrowed(actor),
        credential_expires_at: actor.credential_expires_at,
        break_glass_until: bailiwick_store::requests::own_break_glass(actor).await?,
    }))
}

/// What of experiments one sees, in words.
fn sees(actor: &Actor) -> String {
    let visible = actor.visible(Permission::ExperimentsRead, bailiwick_access::ObjectKind::Experiment);
    let picture = actor.picture();
    if visible.all {
        return "all experiments".into();
    }
    let names = |ids: &[bailiwick_api::WorkspaceId]| {
        let shown: Vec<String> = ids
            .iter()
            .take(5)
            .map(|id| format!("\"{}\"", picture.workspace_name(*id)))
            .collect();
        let more = ids.len().saturating_sub(5);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!(
            "workspace{} {}{more}",
            if ids.len() == 1 { "" } else { "s" },
            shown.join(", ")
        )
    };
    let mut parts = Vec::new();
    if !visible.workspaces.is_empty() {
        parts.push(format!("all experiments in {}", names(&visible.workspaces)));
    }
    if visible.own {
        parts.push("your own experiments".into());
    } else if !visible.own_workspaces.is_empty() {
        parts.push(format!("your own experiments in {}", names(&visible.own_workspaces)));
    }
    if !(visible.projects.is_empty() && visible.own_projects.is_empty()) {
        parts.push("experiments of single projects".into());
    }
    if !(visible.objects.is_empty() && visible.own_objects.is_empty()) {
        parts.push("single experiments".into());
    }
    if parts.is_empty() {
        "no experiments".into()
    } else {
        parts.join("; ")
    }
}

/// Which users, and paging of them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserFilter {
    /// Deactivated and removed ones too.
    pub all: Option<bool>,
    /// Only those in this state.
    pub state: Option<UserState>,
    /// Only those whose name, or whose display name where one may see it, holds this text.
    pub text: Option<String>,
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    pub limit: Option<i64>,
}

impl UserFilter {
    pub(super) fn wanted(&self, kind: PrincipalKind) -> Wanted<'_> {
        Wanted {
            kind,
            all: self.all.unwrap_or(false),
            state: self.state,
            text: self.text.as_deref(),
            after: self.after.unwrap_or(0),
            limit: self.limit.unwrap_or(200),
        }
    }
}

pub async fn list(door: SignedIn, Query(filter): Query<UserFilter>) -> Result<Json<Users>, Failure> {
    let actor = &door.actor;
    let page = principals::list(actor, &filter.wanted(PrincipalKind::User)).await?;
    let counts = actor.may(Permission::UsersRead, &Target::default()).is_some();
    Ok(Json(Users {
        items: page.items,
        next: page.next,
        seats: match counts {
            true => Some(seats::count(actor).await?),
            false => None,
        },
    }))
}

pub async fn show(door: SignedIn, _: NoInput) -> Result<Json<User>, Failure> {
    Ok(Json(principals::get(&door.actor, door.context.path("user")).await?))
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Refused(refusal) => refusal.into(),
            CreateError::Invalid(why) => Failure::invalid(why),
            CreateError::Taken(why) => Failure::conflict("conflict", why),
        }
    }
}

pub async fn create(
    door: Allowed<permit::UsersCreate, Installation>,
    Json(mut new): Json<NewUser>,
) -> Result<Json<UserWithLink>, Failure> {
    new.email = new.email.filter(|email| !email.is_empty());
    if let (true, Some(email)) = (new.name.is_empty(), &new.email) {
        new.name = email.clone();
        if let Err(why) = check_email(email).and_then(|()| check_username(email)) {
            return Err(Failure::invalid(why).hint("give a name to sign in with beside the address"));
        }
    }
    let parts = &door.context.shared.parts;
    let actor = &door.granted.actor;
    if new.remote && new.password.is_some() {
        return Err(Failure::invalid(
            "a remote user signs in through the identity provider and can be given no password",
        ));
    }
    let hash = match &new.password {
        Some(password) => Some(new_hash(parts, password, &new.name).await?),
        None => None,
    };
    let (token, stored) = secret(KeyKind::Link);
    let expires_at = actor.now().plus_ms(LINK_MS);
    let needs_link = hash.is_none() && !new.remote;
    let link = needs_link.then_some((stored.as_str(), expires_at));
    let outcome = principals::create(&door.granted, &new, hash.as_deref(), link).await;
    let id = recorded(actor, &new.name, outcome).await?;
    let user = fresh_user(&door.context, id).await?;
    // What the maker has just said is no secret to him.
    let display_name = new.display_name.filter(|name| !name.is_empty());
    let link = match needs_link {
        true => {
            let link = link_view(parts, token, expires_at);
            Some(sent_link(parts, &actor.name(), &user.name, new.email.clone(), link).await)
        }
        false => None,
    };
    Ok(Json(UserWithLink {
        user: User {
            display_name,
            email: new.email,
            ..user
        },
        link,
    }))
}

/// A role that one may not hand out is on record before it is answered.
pub(super) async fn recorded<T>(actor: &Actor, name: &str, outcome: Result<T, CreateError>) -> Result<T, Failure> {
    if let Err(CreateError::Refused(Refusal::Forbidden { permission, .. })) = &outcome {
        audit::record(actor, Entry::denied(*permission, "user", name)).await?;
    }
    Ok(outcome?)
}

/// The user as it stands after the change, by the picture of rights after the change. Told to whoever made the change, who need not be one that reads users.
pub(super) async fn fresh_user(context: &crate::access::Context, id: PrincipalId) -> Result<User, Failure> {
    let actor = context.actor_again().await?;
    Ok(principals::get_changed(&actor, id).await?)
}

/// One's own display name with `me:update`; all else, and others, with `users:update`. An address, too: nobody is to claim another's, to which his links would go.
pub async fn change(door: Asked<permit::UsersUpdate>, Json(change): Json<ChangeUser>) -> Result<Json<User>, Failure> {
    let actor = &door.actor;
    let user = principals::get(actor, door.context.path("user")).await?;
    if user.kind != PrincipalKind::User {
        return Err(Failure::not_found("user", &user.name));
    }
    let no_address = change.email.as_deref().is_none_or(str::is_empty);
    let only_own = change.name.is_none() && change.remote.is_none() && change.active.is_none() && no_address;
    let own = Target::owned_by(actor.id);
    let outcome = if only_own && user.id == actor.id && actor.may(Permission::MeUpdate, &own).is_some() {
        let granted: Granted<permit::MeUpdate> = require(actor, own, "user", &user.name, None).await?;
        principals::change(&granted, &user, &change).await
    } else {
        let granted = door.at(Target::default(), "user", &user.name, None).await?;
        let another_name = change.name.as_ref().is_some_and(|name| *name != user.name);
        let another_address = change
            .email
            .as_deref()
            .is_some_and(|email| email != user.email.as_deref().unwrap_or_default());
        // The name that another leaves could be taken, and be looked upon as his; and to the address links are sent.
        if change.remote.is_some_and(|remote| remote != user.remote)
            || ((another_name || another_address) && user.id != actor.id)
        {
            must_cover(actor, Permission::UsersUpdate, user.id).await?;
        }
        principals::change(&granted, &user, &change).await
    };
    let changed = outcome?;
    door.context.shared.parts.hub.work.wake_everyone();
    let ended = changed.state != UserState::Active || changed.remote != user.remote;
    if user.id == actor.id && ended {
        // One has just ended one's own session, and cannot look any more.
        return Ok(Json(changed));
    }
    let fresh = fresh_user(&door.context, user.id).await?;
    let display_name = match change.display_name {
        Some(_) => changed.display_name,
        None => fresh.display_name,
    };
    let email = match change.email {
        Some(_) => changed.email,
        None => fresh.email,
    };
    Ok(Json(User {
        display_name,
        email,
        ..fresh
    }))
}

pub(super) async fn change_life<P: bailiwick_api::permission::Permit>(
    door: Allowed<P, Installation>,
    life: Life,
    kind: PrincipalKind,
) -> Result<Json<User>, Failure> {
    let user = principals::get(&door.granted.actor, door.context.path("user")).await?;
    if user.kind != kind {
        return Err(Failure::not_found(
            if kind == PrincipalKind::User {
                "user"
            } else {
                "service account"
            },
            &user.name,
        ));
    }
    let of_agent = door.context.shared.parts.agent_account;
    if life == Life::Remove && of_agent.is_some_and(|name| name.eq_ignore_ascii_case(&user.name)) {
        let why = format!(
            "`{}` is the account of the agent that runs beside this server",
            user.name
        );
        return Err(Failure::conflict("conflict", why).hint("start the server with `--no-agent` first"));
    }
    principals::change_life(&door.granted, user.id, &user.name, kind, life).await?;
    door.context.shared.parts.hub.work.wake_everyone();
    if user.id != door.granted.actor.id {
        return Ok(Json(fresh_user(&door.context, user.id).await?));
    }
    // One has just ended one's own account, and cannot look at it any more.
    let state = match life {
        Life::Remove | Life::Withdraw => UserState::Removed,
        _ => UserState::Deactivated,
    };
    Ok(Json(User { state, ..user }))
}

pub async fn deactivate(
    door: Allowed<permit::UsersUpdate, Installation>,
    _: Json<Done>,
) -> Result<Json<User>, Failure> {
    change_life(door, Life::Deactivate, PrincipalKind::User).await
}

pub async fn activate(door: Allowed<permit::UsersUpdate, Installation>, _: Json<Done>) -> Result<Json<User>, Failure> {
    change_life(door, Life::Activate, PrincipalKind::User).await
}

pub async fn remove(door: Allowed<permit::UsersDelete, Installation>, _: NoInput) -> Result<Json<User>, Failure> {
    change_life(door, Life::Remove, PrincipalKind::User).await
}

/// Takes back an invitation that nobody has followed: its link ends, and name, address and seat are free again.
pub async fn withdraw(door: Allowed<permit::UsersUpdate, Installation>, _: NoInput) -> Result<Json<User>, Failure> {
    change_life(door, Life::Withdraw, PrincipalKind::User).await
}

pub async fn link(door: Allowed<permit::UsersUpdate, Installation>, _: Json<Done>) -> Result<Json<Link>, Failure> {
    let parts = &door.context.shared.parts;
    let user = principals::get(&door.granted.actor, door.context.path("user")).await?;
    if user.remote {
        return Err(remote_only(&user.name));
    }
    if user.kind != PrincipalKind::User || !matches!(user.state, UserState::Pending | UserState::Active) {
        return Err(Failure::conflict(
            "conflict",
            match user.kind {
                PrincipalKind::User => format!("`{}` cannot sign in by a link: {}", user.name, user.state.name()),
                PrincipalKind::Service => {
                    format!(
                        "`{}` is a service account, which never signs in; it works with keys",
                        user.name
                    )
                }
            },
        ));
    }
    must_cover(&door.granted.actor, Permission::UsersUpdate, user.id).await?;
    let (token, stored) = secret(KeyKind::Link);
    let expires_at = door.granted.actor.now().plus_ms(LINK_MS);
    credentials::new_link(&door.granted, user.id, &user.name, &stored, expires_at).await?;
    let email = principals::email(&door.granted, user.id).await?;
    let link = link_view(parts, token, expires_at);
    Ok(Json(
        sent_link(parts, &door.granted.actor.name(), &user.name, email, link).await,
    ))
}

fn remote_only(name: &str) -> Failure {
    Failure::conflict(
        "conflict",
        format!("`{name}` is a remote user and signs in through the identity provider alone: no password, no link"),
    )
    .hint(format!(
        "for automation, make a key with `ml token create --for {name}`; `ml user edit {name} --remote false` makes it a user with a password again"
    ))
}

/// One's own with `me:update` and the old password; another's with `users:update`.
pub async fn change_password(
    door: Asked<permit::UsersUpdate>,
    Json(change): Json<ChangePassword>,
) -> Result<Json<Done>, Failure> {
    let (parts, actor) = (&door.context.shared.parts, &door.actor);
    let user = principals::get(actor, door.context.path("user")).await?;
    if user.remote {
        return Err(remote_only(&user.name));
    }
    if user.kind != PrincipalKind::User {
        return Err(Failure::conflict(
            "conflict",
            format!("`{}` does not sign in with a password here", user.name),
        ));
    }
    if user.id != actor.id {
        let granted = door.at(Default::default(), "user", &user.name, None).await?;
        must_cover(actor, Permission::UsersUpdate, user.id).await?;
        let hash = new_hash(parts, &change.new_password, &user.name).await?;
        principals::set_password(&granted, user.id, &user.name, &hash).await?;
        return Ok(Json(Done {}));
    }
    let granted: Granted<permit::MeUpdate> =
        require(actor, Target::owned_by(actor.id), "user", &user.name, None).await?;
    let account = bailiwick_api::names::name_key(&user.name);
    if let Some(seconds) = parts.limiter.wait_s(&account, &actor.origin.address, Instant::now()) {
        return Err(Failure::too_many_attempts(seconds));
    }
    if let Some(stored) = principals::password_hash(actor, user.id).await? {
        let old = change.old_password.clone().unwrap_or_default();
        if !beside(parts, move || password::fits(&old, Some(&stored))).await? {
            parts.limiter.failed(&account, &actor.origin.address, Instant::now());
            audit::record(actor, Entry::denied(Permission::MeUpdate, "user", &user.name)).await?;
            return Err(Failure::forbidden("the old password is missing or wrong")
                .hint("an administrator can set a new one without it"));
        }
    } else {
        must_cover(actor, Permission::MeUpdate, user.id).await?;
    }
    let hash = new_hash(parts, &change.new_password, &user.name).await?;
    principals::set_password(&granted, user.id, &user.name, &hash).await?;
    Ok(Json(Done {}))
}

impl From<LifeError> for Failure {
    fn from(error: LifeError) -> Self {
        match error {
            LifeError::Refused(refusal) => refusal.into(),
            LifeError::Conflict(why) => Failure::conflict("conflict", why),
        }
    }
}

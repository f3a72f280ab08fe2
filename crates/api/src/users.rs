//! Users, signing in, and who one is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::roles::AssignmentView;
use crate::server::AccessMode;
use crate::tokens::Narrowed;
use crate::{PrincipalId, Time};

/// `access.md` §3: the life of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserState {
    /// Invited; has a link that has not been used.
    Pending,
    Active,
    Deactivated,
    /// Gone; what the user made stays under the name.
    Removed,
}

impl UserState {
    pub const fn name(self) -> &'static str {
        match self {
            UserState::Pending => "pending",
            UserState::Active => "active",
            UserState::Deactivated => "deactivated",
            UserState::Removed => "removed",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    User,
    Service,
}

/// A user or service account as shown. Fellow users see `id`, `name`, `kind` and `state`; the rest needs `users:read` or being that user.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct User {
    pub id: PrincipalId,
    pub name: String,
    pub kind: PrincipalKind,
    pub state: UserState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Links are sent there, and it signs in as the name does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Signs in through the identity provider only.
    #[serde(default)]
    pub remote: bool,
    /// Besides `Users`, to which everybody belongs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<AssignmentView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Time>,
}

/// `GET /api/v1/users`: one page of users.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Users {
    pub items: Vec<User>,
    /// Pass as `after` for the following page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// For those with `users:read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<Seats>,
}

/// How many users are active or pending, and how many may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seats {
    pub used: i64,
    /// `seats` of the server's configuration; absent where any number may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<i64>,
}

impl Seats {
    pub fn is_full(&self) -> bool {
        self.allowed.is_some_and(|allowed| self.used >= allowed)
    }
}

/// `12 of 20 seats`, or `12 seats` where any number may be taken.
impl std::fmt::Display for Seats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.allowed {
            Some(1) => write!(f, "{} of 1 seat", self.used),
            Some(allowed) => write!(f, "{} of {allowed} seats", self.used),
            None if self.used == 1 => write!(f, "1 seat"),
            None => write!(f, "{} seats", self.used),
        }
    }
}

/// `POST /api/v1/users`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Left out: the e-mail address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where the link is sent, if the server sends mail. No two users have the same, whatever the letter case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Left out: an activation link is made instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// A role for the new user, in place of what the group `Users` gives in workspaces: globally if the role is a global one, else at `workspace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Where a role that is not global is assigned; `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Signs in through the identity provider only: active at once, without password and link.
    #[serde(default)]
    pub remote: bool,
}

impl NewUser {
    /// A user by what somebody typed: a name or an e-mail address.
    pub fn called(text: &str) -> NewUser {
        // What looks like an address and is none is refused as one, and does not become a name.
        let is_address = text.contains('@');
        NewUser {
            name: if is_address { String::new() } else { text.to_owned() },
            email: is_address.then(|| text.to_owned()),
            ..NewUser::default()
        }
    }
}

/// `PATCH /api/v1/users/{user}`: what is left out stays. Others, and all but one's own display name, need `users:update`; one's own
/// address can be taken away without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Empty: none. Another's needs all that he may do, since links are sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// `true` takes the password and ends every session and link; `false` leaves the user without a password until a link or a password is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<bool>,
    /// `false` deactivates, `true` activates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// A user, and the link to hand over when there is one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UserWithLink {
    pub user: User,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
}

/// A one-time link. It is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// The secret alone: `mll_…`.
    pub token: String,
    /// To open in a browser, or to hand to `ml login --link`.
    pub url: String,
    pub expires_at: Time,
    /// What became of the mail with this link; absent where the user has no e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
}

/// Whether a link was sent by e-mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mail {
    pub to: String,
    /// The mail server has taken it.
    pub sent: bool,
    /// Why it was not sent, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// `It was sent to ana@example.org.`, or why not.
impl std::fmt::Display for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            None => write!(f, "It was sent to {} by e-mail.", self.to),
            Some(why) => write!(f, "It was not sent to {}: {why}.", self.to),
        }
    }
}

/// A service account as shown: a user that signs its requests with keys and has no pages.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServiceAccount {
    #[serde(flatten)]
    pub user: User,
    /// Its agents may run each job as its owner (`ml agent --use-owner-token`).
    pub impersonates: bool,
    /// How many live keys it has.
    pub credentials: i64,
}

impl ServiceAccount {
    /// Every group, `Users` first; a removed account belongs to none.
    pub fn groups(&self) -> String {
        if self.user.state == UserState::Removed {
            return String::new();
        }
        let mut groups = vec!["Users"];
        groups.extend(self.user.groups.iter().map(String::as_str));
        groups.join(", ")
    }
}

/// `POST /api/v1/service-accounts`: an account for agents and automation, with its first API key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewServiceAccount {
    pub name: String,
    /// Queues that agents with this account may serve. An account that is made to serve queues holds nothing else, not even what `Users` holds: its key lies
    /// on machines that run other people's code.
    #[serde(default)]
    pub serve: Vec<String>,
    /// Its agents may run each job as its owner.
    #[serde(default)]
    pub impersonate: bool,
}

/// `PATCH /api/v1/service-accounts/{user}`: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeServiceAccount {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `false` ends the tokens of jobs that run as their owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonate: Option<bool>,
}

/// `POST /api/v1/login`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub name: String,
    pub password: String,
}

/// `POST /api/v1/login/link`: use an activation or sign-in link, once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginWithLink {
    /// `mll_…`, as it stands in the link after `#`.
    pub token: String,
    /// The password to set; needed where the user has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// A session. `token` is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// `mls_…`: a bearer, as an API key is.
    pub token: String,
    pub name: String,
    pub expires_at: Time,
}

/// `GET /api/v1/me`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Me {
    pub user: User,
    pub access: AccessMode,
    /// What one may see of experiments, in words: `everything`, or `your own in workspace "default"`.
    pub sees: String,
    /// How this request was signed: `session`, `key`, `job`, or `none` when access control is off.
    pub credential: String,
    /// What the key in use leaves of one's rights.
    #[serde(default, skip_serializing_if = "Narrowed::is_nothing")]
    pub narrowed: Narrowed,
    /// When the credential in use ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_expires_at: Option<Time>,
    /// When break-glass ends, while it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass_until: Option<Time>,
}

/// `POST /api/v1/users/{user}/password`. Changing one's own needs the old one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_password: Option<String>,
    pub new_password: String,
}

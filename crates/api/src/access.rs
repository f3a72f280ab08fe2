//! Questions about rights: who may do what, why, and what a change would make of it (`access.md` §5). Each is answered by the engine that decides.
//!
//! A permission is given as it is typed: `experiments:update`, or a word that stands for several (`jobs:read`, `models:*`, `read`), and then each of them is
//! answered. The suffix `:own` asks about what one owns there. A place is given as [`crate::on::On`] reads it; left out, it is the whole installation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::server::AccessMode;
use crate::users::PrincipalKind;
use crate::{AssignmentId, Permission, PrincipalId, Reach, Time};

/// `POST /api/v1/access/can-i`: may I do this, with the credential that signs this request?
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanI {
    pub permission: String,
    /// `experiment:12`, `workspace:NAME`, `project:WORKSPACE/PROJECT`, `queue:NAME`, `model:WORKSPACE/NAME`, `stack:OWNER/NAME`; left out: the whole installation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub on: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanIAnswer {
    /// Whether each permission that was asked for is there.
    pub allowed: bool,
    /// The same for people.
    pub words: String,
    /// The place is not there, or may not be seen: then nothing is said about rights on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_there: bool,
    /// Where the word stands for several permissions: each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<OneAnswer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OneAnswer {
    pub permission: Permission,
    pub allowed: bool,
}

/// `POST /api/v1/access/explain`: why may, or may not, somebody do this?
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// A user or service account; oneself when left out. About others one needs `roles:read` at the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    pub permission: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub on: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    pub who: String,
    /// As it reads: `experiment 12 (workspace "Stop Signs")`.
    pub on: String,
    pub mode: AccessMode,
    /// Whether each permission that was asked for is there.
    pub allowed: bool,
    pub answers: Vec<Explained>,
}

/// One permission, explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    pub permission: Permission,
    pub allowed: bool,
    /// What decides, for people.
    pub words: String,
    /// The mode allows it by itself, whoever holds what.
    #[serde(default)]
    pub by_mode: bool,
    /// Every assignment that allows it, also where the credential or the state of the account stops it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Way>,
    /// Assignments that nearly allow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<NearMiss>,
    /// Administrators of the place who could give it, as far as they are known: at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub could_give: Vec<String>,
    /// A command line that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
}

/// An assignment through which somebody may do something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Way {
    pub assignment: AssignmentId,
    pub role: String,
    /// The group through which it comes, if it is not the principal's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Where it holds, as one types it: `workspace:Stop Signs`, `installation`.
    pub on: String,
    pub reach: Reach,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(default)]
    pub administrative: bool,
    /// `Editor on workspace "Stop Signs", through group "Team"`.
    pub words: String,
}

/// An assignment that nearly allows it, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NearMiss {
    #[serde(flatten)]
    pub way: Way,
    pub why: NearWhy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NearWhy {
    /// It reaches only what one owns.
    NotOwned,
    Expired,
    /// It holds at another place.
    Elsewhere,
    /// The permission counts only where its role is assigned globally.
    GlobalOnly,
    /// The mode in force does not look at it.
    ModeIgnoresIt,
    /// What everybody holds does not reach an account that was made with roles of its own.
    LeftOutByOwnRolesOnly,
}

/// `POST /api/v1/access/who-can`: everybody who may do this, and through what. Needs `roles:read` at the place.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoCan {
    pub permission: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub on: String,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 1000; 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhoCanAnswer {
    pub on: String,
    pub mode: AccessMode,
    /// By id.
    pub items: Vec<Able>,
    /// How many there are in all.
    pub total: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Groups that the asker may not see, by name: their members may do it too, and who comes through these alone is not among the items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen_groups: Vec<String>,
}

/// Somebody who may do it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Able {
    pub id: PrincipalId,
    pub name: String,
    pub kind: PrincipalKind,
    /// One for each permission that was asked for and is there.
    pub can: Vec<AbleTo>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AbleTo {
    pub permission: Permission,
    #[serde(default)]
    pub by_mode: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
}

/// `POST /api/v1/access/what-can`: all that somebody may do, where. About others one needs `roles:read` globally.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatCan {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 1000 places; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhatCanAnswer {
    pub who: String,
    pub mode: AccessMode,
    pub items: Vec<Ability>,
    pub total: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What somebody may do at one place and in everything inside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ability {
    pub on: String,
    pub place: String,
    /// `experiments:read`, `models:delete:own`, …
    pub permissions: Vec<String>,
}

/// A change of rights, as a plan. Names are those that exist now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "change", deny_unknown_fields)]
pub enum Planned {
    Assign {
        role: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        // The installation when left out.
        #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "named_place")]
        on: String,
    },
    Unassign {
        role: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        // The installation when left out.
        #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "named_place")]
        on: String,
    },
    AddMember {
        group: String,
        user: String,
    },
    RemoveMember {
        group: String,
        user: String,
    },
    /// Permissions are removed first, then added.
    EditRole {
        role: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        add: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remove: Vec<String>,
    },
    DeleteRole {
        role: String,
    },
    DeleteGroup {
        group: String,
    },
    Deactivate {
        user: String,
    },
}

/// As where a role is assigned: an empty text must not mean everywhere.
fn named_place<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let read = crate::on::On::parse_named(&text).map(|_| ());
    read.map(|()| text).map_err(serde::de::Error::custom)
}

/// `POST /api/v1/access/diff`: what these changes, made one after the other, would give and take. Nothing is changed. Needs `roles:read` at every place
/// that they touch.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// 1 to 200.
    pub changes: Vec<Planned>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiffAnswer {
    /// The mode in force. What is told is what roles give: it takes effect in mode `rbac`.
    pub mode: AccessMode,
    /// By name and place; at most 1000.
    pub items: Vec<Effect>,
    /// How many there are in all.
    pub total: i64,
    /// How many principals' rights would change.
    pub principals: i64,
}

/// What one principal would gain and lose at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    pub who: String,
    pub on: String,
    pub place: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gained: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// `GET /api/v1/access/shadow-report`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowFilter {
    /// Only what was seen again after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 1000; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What mode `rbac` would have decided differently, while mode `shadow` watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowReport {
    pub mode: AccessMode,
    /// Refusals to come first, the most frequent first.
    pub items: Vec<ShadowDifference>,
    /// How many of all those recorded would be refused what they did, and how many would gain.
    pub would_lose: i64,
    pub would_gain: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowDifference {
    pub who: String,
    pub permission: String,
    pub on: String,
    pub place: String,
    /// `rbac` would allow what was refused; otherwise it would refuse what was allowed.
    pub gains: bool,
    pub count: i64,
    pub first_at: Time,
    pub last_at: Time,
    /// The last thing it happened on.
    pub example: String,
}

/// What was deleted of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowCleared {
    pub deleted: i64,
}

/// `GET /api/v1/access/check`: what would go wrong if mode `rbac` held from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccessCheck {
    pub mode: AccessMode,
    /// How many findings would lock somebody out.
    pub lock_outs: i64,
    /// The worst first.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    pub severity: Severity,
    /// Stable word for programs: `no_administrator`, `own_experiments_unreadable`, …
    pub code: String,
    /// What is the matter.
    pub words: String,
    /// Whom or what it concerns: at most 20 names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whom: Vec<String>,
    /// How many it concerns.
    pub count: i64,
    /// What to do about it.
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody could no longer do what he must.
    LockOut,
    Warning,
    Note,
}

impl Severity {
    pub const fn words(self) -> &'static str {
        match self {
            Severity::LockOut => "lock-out",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

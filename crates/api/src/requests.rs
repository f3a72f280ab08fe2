//! Access on request: somebody asks for a role for a while, and whoever may assign it there decides. And break-glass: ClusterAdmin at once for a few hours,
//! for those who hold the role BreakGlass, on record as the requests are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AccessRequestId, Time};

/// A request that nobody has answered for so long is over: a week.
pub const REQUEST_WAITS_MS: i64 = 7 * 86_400_000;
/// The shortest time for which a role can be asked for: five minutes.
pub const REQUEST_LIFETIME_MS_MIN: i64 = 5 * 60_000;
/// The longest: 90 days.
pub const REQUEST_LIFETIME_MS_MAX: i64 = 90 * 86_400_000;
/// How many of one's requests may wait for an answer at once.
pub const WAITING_MAX: i64 = 20;
/// Longest reason or answer, in characters.
pub const WHY_MAX: usize = 1000;

/// How long break-glass lasts when nothing else is said: an hour.
pub const BREAK_GLASS_MS: i64 = 3_600_000;
pub const BREAK_GLASS_MS_MIN: i64 = 5 * 60_000;
pub const BREAK_GLASS_MS_MAX: i64 = 4 * 3_600_000;

/// In the answer to each request of somebody for whom break-glass is on: when it ends, as RFC 3339.
pub const BREAK_GLASS_HEADER: &str = "x-bailiwick-break-glass";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    Request,
    /// Nobody was asked.
    BreakGlass,
}

impl RequestKind {
    pub const fn name(self) -> &'static str {
        match self {
            RequestKind::Request => "request",
            RequestKind::BreakGlass => "break-glass",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    Waiting,
    Approved,
    Declined,
    /// Taken back by whoever asked.
    Withdrawn,
    /// Nobody has answered in time.
    Expired,
}

impl RequestState {
    pub const ALL: &'static [RequestState] = &[
        RequestState::Waiting,
        RequestState::Approved,
        RequestState::Declined,
        RequestState::Withdrawn,
        RequestState::Expired,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            RequestState::Waiting => "waiting",
            RequestState::Approved => "approved",
            RequestState::Declined => "declined",
            RequestState::Withdrawn => "withdrawn",
            RequestState::Expired => "expired",
        }
    }
}

/// A request as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessRequest {
    pub id: AccessRequestId,
    pub kind: RequestKind,
    /// Who asks.
    pub user: String,
    pub role: String,
    /// Where, as it was typed: `workspace:Stop Signs`, `installation`. Whether there is such a thing is seen when the request is decided.
    pub on: String,
    /// For how long.
    pub lifetime_ms: i64,
    pub why: String,
    pub state: RequestState,
    pub created_at: Time,
    /// While it waits: when it is over without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// When what was given ends, or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Whether what was given holds now.
    pub in_force: bool,
}

/// `POST /api/v1/access/requests`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccessRequest {
    pub role: String,
    /// `workspace:NAME`, `project:WORKSPACE/PROJECT`, `experiment:12`, `queue:NAME`, `model:12`, `stack:12`, `installation`; left out: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Five minutes to 90 days.
    pub lifetime_ms: i64,
    /// For whoever decides, and for the record.
    pub why: String,
}

/// `GET /api/v1/access/requests`: newest first; one's own, and those that one may decide.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRequestFilter {
    /// One's own alone, whatever became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mine: Option<bool>,
    /// Those that are over too, and each use of break-glass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// `POST /api/v1/access/requests/{request}/approve`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// A shorter time than was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

/// `POST /api/v1/access/requests/{request}/decline`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decline {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

/// `POST /api/v1/access/break-glass`: only from a session, with the password again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// For the record.
    pub why: String,
    /// Five minutes to four hours; an hour when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<i64>,
    pub password: String,
}

/// Checks a reason or an answer.
///
/// # Errors
/// It is too long or would do something to a terminal, in words.
pub fn check_words(what: &str, text: &str) -> Result<(), String> {
    crate::names::check_text(what, text, WHY_MAX)
}

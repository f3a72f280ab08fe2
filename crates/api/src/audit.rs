//! The audit (`access.md` §6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AuditId, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Allowed,
    Denied,
    Failed,
}

impl Outcome {
    pub const ALL: [Outcome; 3] = [Outcome::Allowed, Outcome::Denied, Outcome::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Failed => "failed",
        }
    }
}

/// Who did what to which object.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditEvent {
    pub id: AuditId,
    pub time: Time,
    /// Who; empty when nobody was signed in.
    pub principal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A permission (`experiments:update`) or `sign-in`, `sign-out`.
    pub action: String,
    /// What of it: `cancel`, `create`, …
    pub verb: String,
    /// `experiment 12`, `user ana`.
    pub object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    pub outcome: Outcome,
    /// Changed fields before and after, the reason of a refusal. Never a secret.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
    pub request_id: String,
}

/// `GET /api/v1/audit`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A permission, a verb, or `sign-in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `experiment 12`, `user ana`, or only `experiment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Only what was before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Only events of this workspace, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Only what was refused, as `outcome=denied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 1 to 1000; 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// `POST /api/v1/audit/verify`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerdict {
    pub intact: bool,
    /// Events checked.
    pub events: i64,
    /// The last link of the chain, in hexadecimal: note it elsewhere, and a later chain that does not contain it was rewritten.
    pub head: String,
    /// The first event that does not fit, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

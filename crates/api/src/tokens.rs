//! API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Time, TokenId};

/// An API key as shown: never its secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    pub id: TokenId,
    pub owner: String,
    /// `key` or `session`.
    pub kind: String,
    pub label: String,
    pub created_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// To within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    #[serde(flatten)]
    pub narrowed: Narrowed,
}

/// What a key leaves of its owner's rights. A key never gives more than its owner holds at the moment of its use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Narrowed {
    /// Only these; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// Only what lies in these workspaces, by name; everything when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<String>>,
}

impl Narrowed {
    pub fn is_nothing(&self) -> bool {
        *self == Narrowed::default()
    }
}

/// `POST /api/v1/tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    #[serde(default)]
    pub label: String,
    /// Milliseconds from now. Without this and `until` the key has no end of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<i64>,
    /// When it ends; in place of `lifetime_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// For whom, if not for oneself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the key is for, as permissions are typed: `experiments:read`, `jobs:read`, `read`, `models:*`. A word that stands for several means those of
    /// them that the owner holds. Left out: all that the owner holds, or what the key that signs this request is narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// Names or ids of the workspaces in which the key reaches anything, and nothing outside. Left out: everywhere, or where the key that signs this
    /// request does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<String>>,
}

/// A new API key. `secret` is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenWithSecret {
    pub token: Token,
    /// `ml_…`.
    pub secret: String,
}

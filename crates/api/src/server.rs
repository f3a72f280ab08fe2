//! What a server says of itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `security.access` in the configuration (`access.md` §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// Everybody is like an administrator.
    Off,
    /// Owners and administrators only, no roles.
    Basic,
    /// Decides as `basic`, while everything about roles can be prepared and what `rbac` would decide differently is recorded: the way to migrate.
    Shadow,
    Rbac,
}

/// `GET /api/v1/info`: what one may know before signing in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    pub product: String,
    pub version: String,
    pub access: AccessMode,
    /// Largest code archive accepted, in bytes.
    pub max_code_bytes: u64,
}

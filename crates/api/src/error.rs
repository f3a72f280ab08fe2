//! The error envelope of every refusal and failure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of every answer with a status of 400 and above.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ErrorEnvelope {
    pub error: ErrorBody,
}

/// What went wrong, for the caller.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Stable word for programs: `not_found`, `forbidden`, `unauthenticated`, `conflict`, `invalid`, `too_large`,
    /// `too_many_attempts`, `lease_lost`, `unavailable`, `internal`.
    pub code: String,
    /// What was wrong, on which thing, with which identity.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Stands in the server's log and in the audit beside this request.
    #[serde(default)]
    pub request_id: String,
}

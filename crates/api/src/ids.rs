//! Typed ids. On the wire and in the database each is a positive 64-bit integer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }
    )*};
}

ids! {
    /// A user or a service account.
    PrincipalId,
    /// A flat set of principals.
    GroupId,
    RoleId,
    /// One role assignment: principal or group × role × scope.
    AssignmentId,
    /// A session, API key, link or job token.
    TokenId,
    WorkspaceId,
    ProjectId,
    ExperimentId,
    /// Whatever stands in a queue: a trial of an experiment, or a task.
    JobId,
    QueueId,
    StackId,
    ModelId,
    AgentId,
    VaultId,
    AuditId,
    /// A request for a role, or a use of break-glass.
    AccessRequestId,
}

/// The id that a text is, where a name or an id may stand: digits alone, which no name is. (`+5` and `-5` may be names.)
pub fn as_number(text: &str) -> Option<i64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

//! Roles and their assignments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AssignmentId, PrincipalId, RoleId, Time};

/// A role as shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub description: String,
    pub built_in: bool,
    /// `experiments:read`, `models:delete:own`, …
    pub permissions: Vec<String>,
    /// Assignable only globally, because it holds a permission that is.
    pub global_only: bool,
}

/// Where an assignment holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ScopeView {
    Global,
    Workspace {
        id: i64,
        name: String,
    },
    Project {
        id: i64,
        name: String,
        /// The name of its workspace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workspace: Option<String>,
    },
    Object {
        object: String,
        id: i64,
        /// Of a queue; else empty.
        name: String,
    },
}

/// One role assignment as shown beside a user.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AssignmentView {
    pub id: AssignmentId,
    pub role: String,
    pub scope: ScopeView,
    /// The group through which it comes, if it is not the principal's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// `GET /api/v1/roles/{role}`: a role, and who holds it as far as one may see that (`roles:read` where it is assigned, or oneself).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RoleDetail {
    #[serde(flatten)]
    pub role: Role,
    /// The first of them by id; the rest are listed by `GET /api/v1/assignments?role=…`.
    pub assignments: Vec<Assignment>,
    /// Whether there are more.
    #[serde(default)]
    pub more: bool,
}

/// `POST /api/v1/roles`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// As typed: `experiments:read`, `models:delete:own`, `queues:*`, `jobs:read`, `read`, `write`, `me`.
    #[serde(default)]
    pub permissions: Vec<String>,
}

/// `PATCH /api/v1/roles/{role}`: what is left out stays. First the whole list is replaced, then permissions are removed, then added.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// `experiments:read` takes the permission with both reaches, `experiments:read:own` only the reach `own`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// How to delete a role.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleDeletion {
    /// Its assignments too, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// What became of a role that was deleted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RoleDeleted {
    pub role: Role,
    /// How many assignments went with it.
    pub assignments: i64,
}

/// One role assignment: who holds which role, where, until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    pub id: AssignmentId,
    pub role: String,
    pub role_id: RoleId,
    /// A user or service account; else `group` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<PrincipalId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub scope: ScopeView,
    /// The scope as one types it: `workspace:Stop Signs`, `project:Stop Signs/Euro`, `experiment:12`, `installation`.
    pub on: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Cannot be taken away.
    #[serde(default)]
    pub built_in: bool,
    pub created_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Which assignments to list; every condition narrows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignmentFilter {
    /// Those of a user or service account, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With `user`: also those that reach the user through groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through_groups: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// At exactly this scope: `workspace:NAME`, `project:WORKSPACE/PROJECT`, `experiment:12`, `queue:NAME`, `model:WORKSPACE/NAME`, `stack:OWNER/NAME`, `installation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Those past their date too, as long as they are not cleared away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// An assignment to make.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAssignment {
    pub role: String,
    /// A user or service account; exactly one of `user` and `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Where: `workspace:NAME`, `project:WORKSPACE/PROJECT`, `experiment:12`, `queue:NAME`, `model:WORKSPACE/NAME`, `stack:OWNER/NAME`, `installation`; left out: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// When it ends by itself; at most one of `until` and `lifetime_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<i64>,
}

/// `POST /api/v1/assignments`: all of them or none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAssignments {
    /// 1 to 1000.
    pub assignments: Vec<NewAssignment>,
    /// Kept beside each, for whoever asks later.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// An assignment by what it says.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichAssignment {
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
}

/// `POST /api/v1/assignments/remove`: all of them or none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OldAssignments {
    /// 1 to 1000.
    pub assignments: Vec<WhichAssignment>,
}

/// `PATCH /api/v1/assignments/{assignment}`: what is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignmentChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<i64>,
    /// It holds without an end from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_end: Option<bool>,
}

//! Roles and their assignments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AssignmentId, RoleId, Time};

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
    Workspace { id: i64, name: String },
    Project { id: i64, name: String },
    Object { object: String, id: i64, name: String },
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

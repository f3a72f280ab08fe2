//! Groups: flat sets of users and service accounts that roles are assigned to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::roles::AssignmentView;
use crate::users::{PrincipalKind, UserState};
use crate::{GroupId, Page, PrincipalId};

/// A group as shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    pub id: GroupId,
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// Always there: not to be renamed or deleted.
    pub built_in: bool,
    /// How many belong to it; shown with `groups:read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<i64>,
}

/// One who belongs to a group.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GroupMember {
    pub id: PrincipalId,
    pub name: String,
    pub kind: PrincipalKind,
    pub state: UserState,
}

/// `GET /api/v1/groups/{group}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GroupDetail {
    pub group: Group,
    /// What the group holds, as far as one may see it: with `roles:read` there, or by belonging to the group. The first 1000.
    pub roles: Vec<AssignmentView>,
    /// By id, a page at a time; with `groups:read`. Whoever only belongs to the group sees himself.
    pub members: Page<GroupMember>,
}

/// `POST /api/v1/groups`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// Names or ids of those who belong to it from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
}

/// `PATCH /api/v1/groups/{group}`: what is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeGroup {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `POST /api/v1/groups/{group}/members` and `…/members/remove`: all of them or nobody.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupUsers {
    /// Names or ids.
    pub users: Vec<String>,
}

/// A group, and whom a change of its members was about.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GroupChange {
    pub group: Group,
    pub users: Vec<GroupMember>,
}

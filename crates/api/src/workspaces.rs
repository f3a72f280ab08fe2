//! Workspaces, the projects in them, and who holds which role there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::roles::ScopeView;
use crate::{AssignmentId, ProjectId, Time, WorkspaceId};

/// The workspace that everything belongs to for which nothing else is said; it is always there.
pub const DEFAULT_WORKSPACE: &str = "default";
/// The project of each workspace that takes what is submitted without a project; it is there as long as its workspace.
pub const DEFAULT_PROJECT: &str = "default";
/// Longest description, in characters.
pub const DESCRIPTION_MAX: usize = 4000;
/// Past so many, experiments of a workspace or project are not counted.
pub const COUNTED_MAX: i64 = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub created_at: Time,
    /// Since when it takes nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Time>,
    /// What a submission here names no queue for goes into it; left out where it is the default queue of all, or one that the caller may not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue: Option<String>,
    /// How many of its projects the caller may see.
    pub projects: i64,
    /// How many of its experiments the caller may see, counted up to 10,000; told when one workspace is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiments: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    pub workspace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub created_at: Time,
    /// Since when it takes nothing new. (That of an archived workspace takes nothing new either.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Time>,
    /// How many of its experiments the caller may see, counted up to 10,000; told when one project is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiments: Option<i64>,
}

/// `POST /api/v1/workspaces`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWorkspace {
    /// Unique, whatever its case.
    pub name: String,
    #[serde(default)]
    pub description: String,
}

/// `POST /api/v1/workspaces/{workspace}/projects`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Unique in its workspace, whatever its case.
    pub name: String,
    #[serde(default)]
    pub description: String,
}

/// `PATCH` of a workspace or a project: what is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `GET /api/v1/workspaces`, `GET /api/v1/workspaces/{workspace}/projects`: oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceFilter {
    /// Archived ones too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Only those whose name holds this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// `GET /api/v1/workspaces/{workspace}/members`, and the same of a project: by assignment.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What kind of holder a role has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemberKind {
    User,
    ServiceAccount,
    Group,
}

impl MemberKind {
    pub const fn name(self) -> &'static str {
        match self {
            MemberKind::User => "user",
            MemberKind::ServiceAccount => "service account",
            MemberKind::Group => "group",
        }
    }
}

/// Who holds a role in a workspace or project: by an assignment there, or by one further up.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    pub assignment: AssignmentId,
    pub kind: MemberKind,
    pub id: i64,
    pub name: String,
    pub role: String,
    /// Where the role was assigned.
    pub scope: ScopeView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// False for somebody who is deactivated or has not signed in yet.
    pub active: bool,
    /// Of a group that the caller may see: how many belong to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<i64>,
}

/// `POST /api/v1/experiments/{experiment}/move`: a project, or a workspace, or both.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveExperiment {
    /// By name or id; its own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// By name or id; `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Checks a description.
///
/// # Errors
/// It is too long, or not one line of what can be seen, in words.
pub fn check_description(text: &str) -> Result<(), String> {
    crate::names::check_text("the description", text, DESCRIPTION_MAX)
}

/// The default queue of a workspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDefaultQueue {
    /// One that is open to all workspaces or bound to this one; left out: the default queue of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

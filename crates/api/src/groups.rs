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
    /// The names of the first of them, in a list; shown with `groups:read`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_members: Vec<String>,
}

impl Group {
    /// `ana, bob and 3 more`; nothing where one may not know.
    pub fn member_words(&self) -> String {
        let shown = self.first_members.len();
        let more = self.members.unwrap_or_default() - shown as i64;
        let names = self.first_members.join(", ");
        match more {
            more if more > 0 && shown > 0 => format!("{names} and {more} more"),
            _ => names,
        }
    }
}

/// A line of the export of groups: one who belongs to a group. A group without members has one line, too.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GroupRow {
    pub group_id: GroupId,
    pub group: String,
    pub description: String,
    pub built_in: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<PrincipalId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PrincipalKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<UserState>,
}

impl GroupRow {
    pub fn new(group: &Group, member: Option<&GroupMember>) -> GroupRow {
        GroupRow {
            group_id: group.id,
            group: group.name.clone(),
            description: group.description.clone(),
            built_in: group.built_in,
            member_id: member.map(|member| member.id),
            member: member.map(|member| member.name.clone()),
            kind: member.map(|member| member.kind),
            state: member.map(|member| member.state),
        }
    }

    pub const CSV_HEAD: &str = "group_id,group,description,built_in,member_id,member,kind,state\n";

    /// A line of CSV. What a spreadsheet would take for a formula stands behind an apostrophe.
    pub fn csv(&self) -> String {
        let cell = |text: &str| {
            // Some drop the blanks before one.
            let quote = if text.starts_with(['\t', '\r']) || text.trim_start().starts_with(['=', '+', '-', '@']) {
                "'"
            } else {
                ""
            };
            match text.contains([',', '"', '\n', '\r']) {
                true => format!("\"{quote}{}\"", text.replace('"', "\"\"")),
                false => format!("{quote}{text}"),
            }
        };
        let kind = self.kind.map_or("", |kind| match kind {
            PrincipalKind::User => "user",
            PrincipalKind::Service => "service",
        });
        format!(
            "{},{},{},{},{},{},{kind},{}\n",
            self.group_id,
            cell(&self.group),
            cell(&self.description),
            self.built_in,
            self.member_id.map(|id| id.to_string()).unwrap_or_default(),
            cell(self.member.as_deref().unwrap_or_default()),
            self.state.map_or("", UserState::name),
        )
    }
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

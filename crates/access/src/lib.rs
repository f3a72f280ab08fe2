//! The access engine: who may do what, where, and why (`access.md` §4). Pure: no IO, no clock, no locks.
//!
//! A [`World`] holds principals, groups, roles and assignments, and changes one at a time (`world.rs`). What is allowed and what a list may show
//! (`decide.rs`) and why (`explain.rs`) come from the same assignments, so that a list can never show what a check would refuse.
//!
//! Invariants: nothing is allowed but by an assignment, or by the mode; nothing denies; a group's assignment counts as if it were each member's own.

use bailiwick_api::permission::RolePermissions;
use bailiwick_api::{AssignmentId, GroupId, Permission, PermissionSet, PrincipalId, ProjectId, RoleId, WorkspaceId};

mod decide;
mod explain;
mod flat;
mod rows;
mod world;

pub use decide::Visible;
pub use explain::{Difference, Explanation, NEAR_MISSES, NearMiss, Reason, WhoCan, Why, difference};
pub use world::World;

/// What an assignment may be made on besides workspaces and projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    Experiment,
    Model,
    Queue,
    Stack,
}

/// Where an assignment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Global,
    Workspace(WorkspaceId),
    Project(ProjectId),
    Object(ObjectKind, i64),
}

impl Scope {
    /// What counts of a role that is assigned here.
    pub fn counts(self, role: RolePermissions) -> RolePermissions {
        match self {
            Scope::Global => role,
            _ => role.below_global(),
        }
    }
}

/// The thing a request is about, with everything that contains it. `default()` is the installation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target {
    pub workspace: Option<WorkspaceId>,
    pub project: Option<ProjectId>,
    pub object: Option<(ObjectKind, i64)>,
    pub owner: Option<PrincipalId>,
}

impl Target {
    pub fn workspace(workspace: WorkspaceId) -> Target {
        Target {
            workspace: Some(workspace),
            ..Target::default()
        }
    }

    pub fn owned_by(owner: PrincipalId) -> Target {
        Target {
            owner: Some(owner),
            ..Target::default()
        }
    }

    /// The scopes that contain it, the widest first.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> {
        let below = [
            self.workspace.map(Scope::Workspace),
            self.project.map(Scope::Project),
            self.object.map(|(kind, id)| Scope::Object(kind, id)),
        ];
        std::iter::once(Scope::Global).chain(below.into_iter().flatten())
    }
}

#[derive(Debug, Clone)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub permissions: RolePermissions,
    /// Its use on another's object is recorded, and jobs never carry it.
    pub administrative: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    Principal(PrincipalId),
    Group(GroupId),
}

/// Principal or group × role × scope, perhaps until a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    pub id: AssignmentId,
    pub holder: Holder,
    pub role: RoleId,
    pub scope: Scope,
    /// Microseconds since 1970; it holds before that moment.
    pub expires: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Principal {
    pub id: PrincipalId,
    pub name: String,
    /// Deactivated, pending and removed principals may nothing.
    pub active: bool,
    /// Every group, the built-in `Users` included.
    pub groups: Vec<GroupId>,
    /// Created with a role of its own: what the group `Users` holds at workspaces, projects and objects does not reach it; for a service account, nothing that it holds.
    pub own_roles_only: bool,
    /// A service account. In mode `basic` it may nothing by itself.
    pub is_service: bool,
}

/// What a [`World`] keeps of a principal besides its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrincipalState {
    pub active: bool,
    pub own_roles_only: bool,
    pub is_service: bool,
}

/// What a credential leaves of its owner's rights: never more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowing {
    pub permissions: PermissionSet,
    /// Only in these workspaces.
    pub workspaces: Option<Vec<WorkspaceId>>,
    /// Only this one object.
    pub object: Option<(ObjectKind, i64)>,
    /// The credential is a job's.
    pub job: Option<Job>,
}

/// What a job's token reaches. On its own experiment it holds the narrowing's permissions, whatever its principal holds: it always gets its progress told.
/// Outside, it holds of the principal's rights what is in `beyond`, and nothing that only administrative roles give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub experiment: i64,
    pub beyond: PermissionSet,
}

impl Job {
    pub(crate) fn owns(&self, target: &Target) -> bool {
        target.object == Some((ObjectKind::Experiment, self.experiment))
    }
}

/// What of a [`Narrowing`] stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrowed {
    /// It leaves out the permission.
    Permissions,
    /// The target lies in none of its workspaces.
    Workspaces,
    /// The target is not its one object.
    Object,
}

impl Narrowing {
    pub fn stops(&self, permission: Permission, target: &Target) -> Option<Narrowed> {
        if let Some(job) = self.job.filter(|job| !job.owns(target)) {
            return (!job.beyond.contains(permission)).then_some(Narrowed::Object);
        }
        if !self.permissions.contains(permission) {
            return Some(Narrowed::Permissions);
        }
        let inside = |list: &Vec<WorkspaceId>| target.workspace.is_some_and(|workspace| list.contains(&workspace));
        if !self.workspaces.as_ref().is_none_or(inside) {
            return Some(Narrowed::Workspaces);
        }
        let is_it = self.object.is_none_or(|object| target.object == Some(object));
        (!is_it).then_some(Narrowed::Object)
    }
}

/// What a decision says besides yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// Nothing but administrative roles allows it.
    pub administrative: bool,
}

#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod tests;

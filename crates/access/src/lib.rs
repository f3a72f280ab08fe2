//! The access engine: who may do what, where, and why (`access.md` §4). Pure: no IO, no clock, no locks.
//!
//! A [`World`] is an immutable picture of principals, groups, roles and assignments. Everything that decides, lists or explains asks the same
//! compiled grants, so that a list can never show what a check would refuse.
//!
//! Invariants: nothing is allowed but by an assignment; nothing denies; a group's assignment counts as if it were each member's own.

use std::collections::HashMap;

use bailiwick_api::permission::RolePermissions;
use bailiwick_api::server::AccessMode;
use bailiwick_api::{AssignmentId, GroupId, Permission, PermissionSet, PrincipalId, ProjectId, RoleId, WorkspaceId};

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

    fn scopes(self) -> [Option<Scope>; 4] {
        [
            Some(Scope::Global),
            self.workspace.map(Scope::Workspace),
            self.project.map(Scope::Project),
            self.object.map(|(kind, id)| Scope::Object(kind, id)),
        ]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Principal(PrincipalId),
    Group(GroupId),
}

/// Principal or group × role × scope, perhaps until a date.
#[derive(Debug, Clone, Copy)]
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

/// What a credential leaves of its owner's rights: never more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowing {
    pub permissions: PermissionSet,
    /// Only in these workspaces.
    pub workspaces: Option<Vec<WorkspaceId>>,
    /// Only this one object: a job's own experiment.
    pub object: Option<(ObjectKind, i64)>,
}

impl Narrowing {
    fn leaves(&self, permission: Permission, target: &Target) -> bool {
        self.permissions.contains(permission)
            && self
                .workspaces
                .as_ref()
                .is_none_or(|list| target.workspace.is_some_and(|workspace| list.contains(&workspace)))
            && self.object.is_none_or(|object| target.object == Some(object))
    }
}

/// One compiled assignment, as it reaches one principal.
#[derive(Debug, Clone, Copy)]
struct Grant {
    scope: Scope,
    all: PermissionSet,
    own: PermissionSet,
    expires: i64,
    administrative: bool,
    assignment: AssignmentId,
    role: RoleId,
    group: Option<GroupId>,
}

/// Why something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// `None` where the mode decides without assignments.
    pub assignment: Option<AssignmentId>,
    pub role: Option<RoleId>,
    pub group: Option<GroupId>,
    pub scope: Scope,
    pub administrative: bool,
}

/// Which objects of one kind a principal may see; lists turn it into their WHERE.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Visible {
    /// Everything there is.
    pub all: bool,
    /// Its own, wherever they are.
    pub own: bool,
    pub workspaces: Vec<WorkspaceId>,
    /// Its own, in these.
    pub own_workspaces: Vec<WorkspaceId>,
    pub projects: Vec<ProjectId>,
    pub own_projects: Vec<ProjectId>,
    /// Single objects of the kind asked for.
    pub objects: Vec<i64>,
    /// Its own among single objects.
    pub own_objects: Vec<i64>,
}

/// An immutable picture of who holds what.
#[derive(Debug, Default)]
pub struct World {
    mode: Option<AccessMode>,
    principals: HashMap<PrincipalId, Compiled>,
    roles: HashMap<RoleId, Role>,
}

#[derive(Debug)]
struct Compiled {
    active: bool,
    is_service: bool,
    /// Sorted by scope.
    grants: Vec<Grant>,
}

impl World {
    /// `users` is the built-in group of everybody.
    pub fn new(
        mode: AccessMode,
        users: GroupId,
        principals: impl IntoIterator<Item = Principal>,
        roles: impl IntoIterator<Item = Role>,
        assignments: impl IntoIterator<Item = Assignment>,
    ) -> World {
        let roles: HashMap<RoleId, Role> = roles.into_iter().map(|role| (role.id, role)).collect();
        let mut of_principal: HashMap<PrincipalId, Vec<Assignment>> = HashMap::new();
        let mut of_group: HashMap<GroupId, Vec<Assignment>> = HashMap::new();
        for assignment in assignments {
            match assignment.holder {
                Holder::Principal(id) => of_principal.entry(id).or_default().push(assignment),
                Holder::Group(id) => of_group.entry(id).or_default().push(assignment),
            }
        }
        let compile = |assignment: &Assignment, group: Option<GroupId>| {
            let role = roles.get(&assignment.role)?;
            // A G permission counts only where it may be assigned, whatever the rows say.
            let mask = match assignment.scope {
                Scope::Global => PermissionSet::EMPTY,
                _ => PermissionSet::global_only(),
            };
            Some(Grant {
                scope: assignment.scope,
                all: role.permissions.all.without(mask),
                own: role.permissions.own.without(mask),
                expires: assignment.expires.unwrap_or(i64::MAX),
                administrative: role.administrative,
                assignment: assignment.id,
                role: role.id,
                group,
            })
        };
        let none = Vec::new();
        let principals = principals
            .into_iter()
            .map(|principal| {
                let own = of_principal
                    .get(&principal.id)
                    .unwrap_or(&none)
                    .iter()
                    .filter_map(|one| compile(one, None));
                let through = principal.groups.iter().flat_map(|group| {
                    let left_out = principal.own_roles_only && *group == users;
                    let list = of_group.get(group).unwrap_or(&none).iter();
                    list.filter(move |one| !left_out || (one.scope == Scope::Global && !principal.is_service))
                        .filter_map(|one| compile(one, Some(*group)))
                });
                let mut grants: Vec<Grant> = own.chain(through).collect();
                grants.sort_by_key(|grant| grant.scope);
                (
                    principal.id,
                    Compiled {
                        active: principal.active,
                        is_service: principal.is_service,
                        grants,
                    },
                )
            })
            .collect();
        World {
            mode: Some(mode),
            principals,
            roles,
        }
    }

    pub fn mode(&self) -> AccessMode {
        self.mode.unwrap_or(AccessMode::Rbac)
    }

    pub fn role(&self, id: RoleId) -> Option<&Role> {
        self.roles.get(&id)
    }

    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    pub fn is_active(&self, who: PrincipalId) -> bool {
        self.principals.get(&who).is_some_and(|principal| principal.active)
    }

    /// Whether `who` may do this to `target` at `now` (µs since 1970), and through what. Where several assignments allow it, one that is not
    /// administrative is named, so that only real uses of administrative rights count as such.
    pub fn decide(
        &self,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Option<Basis> {
        let principal = self.principals.get(&who)?;
        if !principal.active || narrowing.is_some_and(|narrowing| !narrowing.leaves(permission, target)) {
            return None;
        }
        let by_mode = Basis {
            assignment: None,
            role: None,
            group: None,
            scope: Scope::Global,
            administrative: false,
        };
        match self.mode() {
            AccessMode::Off => return Some(by_mode),
            AccessMode::Basic if principal.is_service => {}
            AccessMode::Basic => {
                let basic = basic_permissions();
                if basic.all.contains(permission) || (basic.own.contains(permission) && target.owner == Some(who)) {
                    return Some(by_mode);
                }
            }
            AccessMode::Rbac => {}
        }
        let owned = target.owner == Some(who);
        let mut found: Option<Basis> = None;
        for scope in target.scopes().into_iter().flatten() {
            for grant in principal.at(scope) {
                let allows = grant.all.contains(permission) || (owned && grant.own.contains(permission));
                if !allows || grant.expires <= now || !self.counts(grant) {
                    continue;
                }
                if found.is_none_or(|basis| basis.administrative && !grant.administrative) {
                    found = Some(grant.basis());
                }
                if !grant.administrative {
                    return found;
                }
            }
        }
        found
    }

    /// Which objects of `kind` `who` may do this to. The same grants as [`World::decide`], turned round.
    pub fn visible(
        &self,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        kind: ObjectKind,
        now: i64,
    ) -> Visible {
        let mut visible = Visible::default();
        let Some(principal) = self.principals.get(&who).filter(|principal| principal.active) else {
            return visible;
        };
        if narrowing.is_some_and(|narrowing| !narrowing.permissions.contains(permission)) {
            return visible;
        }
        match self.mode() {
            AccessMode::Off => visible.all = true,
            AccessMode::Basic if principal.is_service => {}
            AccessMode::Basic => {
                let basic = basic_permissions();
                visible.all = basic.all.contains(permission);
                visible.own = basic.own.contains(permission);
            }
            AccessMode::Rbac => {}
        }
        for grant in principal
            .grants
            .iter()
            .filter(|grant| grant.expires > now && self.counts(grant))
        {
            let all = grant.all.contains(permission);
            if !all && !grant.own.contains(permission) {
                continue;
            }
            match (grant.scope, all) {
                (Scope::Global, true) => visible.all = true,
                (Scope::Global, false) => visible.own = true,
                (Scope::Workspace(id), true) => visible.workspaces.push(id),
                (Scope::Workspace(id), false) => visible.own_workspaces.push(id),
                (Scope::Project(id), true) => visible.projects.push(id),
                (Scope::Project(id), false) => visible.own_projects.push(id),
                (Scope::Object(of, id), true) if of == kind => visible.objects.push(id),
                (Scope::Object(of, id), false) if of == kind => visible.own_objects.push(id),
                (Scope::Object(..), _) => {}
            }
        }
        if let Some(narrowing) = narrowing {
            visible = visible.narrowed(narrowing, kind);
        }
        visible.simplify();
        visible
    }

    /// The assignments that reach `who`, with the group each comes through.
    pub fn assignments_of(
        &self,
        who: PrincipalId,
    ) -> impl Iterator<Item = (AssignmentId, RoleId, Scope, Option<GroupId>, Option<i64>)> {
        let grants = self
            .principals
            .get(&who)
            .map(|principal| principal.grants.as_slice())
            .unwrap_or_default();
        grants.iter().map(|grant| {
            let expires = (grant.expires != i64::MAX).then_some(grant.expires);
            (grant.assignment, grant.role, grant.scope, grant.group, expires)
        })
    }

    /// Whether `who` may hand out `role` at `target`: it needs `roles:assign` there and every permission of the role, with at least its reach.
    /// Gives the first permission that is missing.
    pub fn missing_to_grant(
        &self,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        role: RolePermissions,
        target: &Target,
        now: i64,
    ) -> Option<Permission> {
        // Owned by nobody: only reach `all` passes. Owned by oneself: reach `own` passes too.
        let unowned = Target { owner: None, ..*target };
        let owned = Target {
            owner: Some(who),
            ..*target
        };
        let may = |permission, target: &Target| self.decide(who, narrowing, permission, target, now).is_some();
        if !may(Permission::RolesAssign, &unowned) {
            return Some(Permission::RolesAssign);
        }
        let missing_all = role.all.iter().find(|permission| !may(*permission, &unowned));
        missing_all.or_else(|| role.own.iter().find(|permission| !may(*permission, &owned)))
    }

    /// In mode `basic` only administrators' assignments count, and what agents hold at the queues they serve.
    fn counts(&self, grant: &Grant) -> bool {
        let at_a_queue = matches!(grant.scope, Scope::Object(ObjectKind::Queue, _));
        self.mode() != AccessMode::Basic || at_a_queue || (grant.administrative && grant.scope == Scope::Global)
    }
}

impl Compiled {
    fn at(&self, scope: Scope) -> impl Iterator<Item = &Grant> {
        let from = self.grants.partition_point(|grant| grant.scope < scope);
        self.grants[from..].iter().take_while(move |grant| grant.scope == scope)
    }
}

impl Grant {
    fn basis(&self) -> Basis {
        Basis {
            assignment: Some(self.assignment),
            role: Some(self.role),
            group: self.group,
            scope: self.scope,
            administrative: self.administrative,
        }
    }
}

impl Visible {
    pub fn is_nothing(&self) -> bool {
        *self == Visible::default()
    }

    fn narrowed(mut self, narrowing: &Narrowing, kind: ObjectKind) -> Visible {
        if let Some(workspaces) = &narrowing.workspaces {
            let keep = |list: &mut Vec<WorkspaceId>| list.retain(|id| workspaces.contains(id));
            if self.all {
                self.workspaces = workspaces.clone();
            } else {
                keep(&mut self.workspaces);
            }
            if self.own {
                self.own_workspaces = workspaces.clone();
            } else {
                keep(&mut self.own_workspaces);
            }
            // Projects and single objects are left out: which workspace they lie in is not known here, and leaving out is the safe side.
            self = Visible {
                workspaces: self.workspaces,
                own_workspaces: self.own_workspaces,
                ..Visible::default()
            };
        }
        if let Some((of, id)) = narrowing.object {
            // A job sees its own experiment through its owner's eyes; whether the owner may see it is checked again on that object.
            self = if of == kind && !self.is_nothing() {
                Visible {
                    own_objects: vec![id],
                    ..Visible::default()
                }
            } else {
                Visible::default()
            };
        }
        self
    }

    fn simplify(&mut self) {
        if self.all {
            *self = Visible {
                all: true,
                ..Visible::default()
            };
            return;
        }
        fn tidy<T: Ord>(list: &mut Vec<T>) {
            list.sort();
            list.dedup();
        }
        tidy(&mut self.workspaces);
        tidy(&mut self.own_workspaces);
        tidy(&mut self.projects);
        tidy(&mut self.own_projects);
        tidy(&mut self.objects);
        tidy(&mut self.own_objects);
        if self.own {
            (self.own_workspaces, self.own_projects, self.own_objects) = Default::default();
        }
        self.own_workspaces.retain(|id| !self.workspaces.contains(id));
        self.own_projects.retain(|id| !self.projects.contains(id));
        self.own_objects.retain(|id| !self.objects.contains(id));
    }
}

/// Mode `basic`: everybody may run experiments and manage their own; the rest is for administrators.
fn basic_permissions() -> RolePermissions {
    static BASIC: std::sync::OnceLock<RolePermissions> = std::sync::OnceLock::new();
    *BASIC.get_or_init(|| {
        let role =
            bailiwick_api::permission::BuiltInRole::find("DataScientist").expect("it is in the list of built-in roles");
        let data_scientist = role.permissions();
        let more =
            RolePermissions::parse(["me:update", "tokens:*:own", "vaults:*:own"]).expect("these are permissions");
        RolePermissions {
            all: data_scientist.all.union(more.all),
            own: data_scientist.own.union(more.own),
        }
    })
}

#[cfg(test)]
mod tests;

//! May this be done, and what may a list show: both from the flat rows, or by the slow walk where a row is not good (`world.rs`).

use std::sync::OnceLock;

use bailiwick_api::permission::{BuiltInRole, RolePermissions};
use bailiwick_api::server::AccessMode;
use bailiwick_api::{Permission, PermissionSet, PrincipalId, ProjectId, WorkspaceId};

use crate::flat::{Asked, GLOBAL, GLOBAL_ONLY, Given, Head, Key, Masks, SetId, key, scope};
use crate::world::{Flat, OfUsers, State};
use crate::{Basis, Job, Narrowing, ObjectKind, Scope, Target, World};

impl World {
    /// Whether `who` may do this to `target` at `now` (µs since 1970). Where several assignments allow it and one is not administrative, the use is not
    /// administrative, so that only real uses of administrative rights count as such.
    #[inline]
    pub fn decide(
        &self,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Option<Basis> {
        self.decide_in(self.mode, who, narrowing, permission, target, now)
    }

    /// As if the server were in this mode.
    #[inline]
    pub fn decide_in(
        &self,
        mode: AccessMode,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Option<Basis> {
        if let Some(narrowing) = narrowing {
            if narrowing.stops(permission, target).is_some() {
                return None;
            }
            if let Some(job) = narrowing.job {
                return self.decide_for_job(mode, who, job, permission, target, now);
            }
        }
        if mode == AccessMode::Rbac
            && let Some(answer) = self.decide_usual(who, permission, target, now)
        {
            return answer;
        }
        self.decide_any(mode, who, permission, target, now)
    }

    /// What the token of a job has left of `who`, where nothing of it stands in the way.
    #[cold]
    #[inline(never)]
    fn decide_for_job(
        &self,
        mode: AccessMode,
        who: PrincipalId,
        job: Job,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Option<Basis> {
        if job.owns(target) {
            return self.is_active(who).then_some(Basis { administrative: false });
        }
        let basis = self.decide_in(mode, who, None, permission, target, now);
        basis.filter(|basis| !basis.administrative)
    }

    /// The answer in the usual case, in few steps and without a branch that is hard to foresee; nothing where more is to be looked at.
    #[inline(always)]
    fn decide_usual(
        &self,
        who: PrincipalId,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Option<Option<Basis>> {
        let workspace = target.workspace.map_or(0, |id| id.0 as u64);
        let head = *self.heads.get(who.0)?;
        // Early, since it takes the longest, and before it is known that it is there: the processor goes on with the rest meanwhile.
        let at_home = self.rows.at_home(who.0, head.is_bytes(), workspace);
        if now >= self.usual_before {
            return None;
        }
        if head.is_elsewhere() || self.users_far {
            return self.decide_elsewhere((who, permission, target, now), head);
        }
        // One that is past the list in numbers too: whether it is, is hard to foresee.
        let near = workspace as usize;
        let near = if near < self.users_near.len() { near } else { 0 };
        let of_users = self.users_near.get(near).map_or(0, |set| SetId::from(*set));
        self.decide_sets((who, permission, target, now), head, [at_home, of_users], None)
    }

    /// The same for a row that is not at home, as of whoever holds something at a project, or where not all that `Users` holds is near.
    #[inline(never)]
    fn decide_elsewhere(
        &self,
        (who, permission, target, now): (PrincipalId, Permission, &Target, i64),
        head: Head,
    ) -> Option<Option<Basis>> {
        if head == Head::UNUSUAL {
            return None;
        }
        let rows = [self.flat.get(who.0)?.row, self.of_users.row];
        let (workspace, project) = keys(target);
        let at_workspace = rows.map(|row| self.rows.get(row, workspace));
        let at_project = rows.map(|row| self.rows.get(row, project));
        self.decide_sets((who, permission, target, now), head, at_workspace, Some(at_project))
    }

    /// The answer from the sets held by oneself and by `Users` at the workspace, and at the project if anything may be.
    #[inline(always)]
    fn decide_sets(
        &self,
        (who, permission, target, now): (PrincipalId, Permission, &Target, i64),
        head: Head,
        at_workspace: [SetId; 2],
        at_project: Option<[SetId; 2]>,
    ) -> Option<Option<Basis>> {
        let (at, shift) = (permission as usize / 2, permission as u32 % 2 * 4);
        let is_shared = target.object.map_or(0, |(kind, id)| self.objects.shared_bit(kind, id));
        let owned = target.owner == Some(who);
        let globally =
            self.sets.nibbles(head.global())?.globally[at] | self.sets.nibbles(self.of_users.global)?.globally[at];
        let [one, other] = at_workspace;
        let mut below = self.sets.nibbles(one)?.below[at] | self.sets.nibbles(other)?.below[at];
        if let Some([one, other]) = at_project {
            below |= self.sets.nibbles(one)?.below[at] | self.sets.nibbles(other)?.below[at];
        }
        let bits = (globally | below) >> shift & if owned { 0b1111 } else { 0b0101 };
        let basis = (bits != 0).then_some(Basis {
            administrative: bits & 0b0011 == 0,
        });
        // Whether the bits suffice is hard to foresee: in numbers, so that no branch asks for it alone.
        let is_open = u64::from(!(bits | bits >> 1) & 1);
        if is_shared & is_open != 0
            && let Some(object) = target.object
        {
            return Some(self.decide_shared(basis, who, object, permission, owned, now));
        }
        Some(basis)
    }

    /// What the assignments on the object itself add to an answer.
    #[inline(never)]
    fn decide_shared(
        &self,
        otherwise: Option<Basis>,
        who: PrincipalId,
        (kind, id): (ObjectKind, i64),
        permission: Permission,
        owned: bool,
        now: i64,
    ) -> Option<Basis> {
        if GLOBAL_ONLY.contains(permission) {
            return otherwise;
        }
        let (asked, now) = (Asked::new(permission, owned), now.max(self.latest));
        let here = basis(asked, self.at_object(who, kind, id, asked, now));
        match here {
            Some(Basis { administrative: true }) | None => otherwise.or(here),
            plainly => plainly,
        }
    }

    #[inline(never)]
    fn decide_any(
        &self,
        mode: AccessMode,
        who: PrincipalId,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Option<Basis> {
        let flat = self.flat.get(who.0).filter(|flat| flat.state == State::Active)?;
        let owned = target.owner == Some(who);
        if mode != AccessMode::Rbac {
            return self.decide_by_mode(mode, who, permission, target, now);
        }
        let now = now.max(self.latest);
        let asked = Asked::new(permission, owned);
        let anywhere = !GLOBAL_ONLY.contains(permission);
        let (workspace, project) = if anywhere { keys(target) } else { (GLOBAL, GLOBAL) };
        let mut given = if now < flat.until {
            self.look(flat, workspace, project, asked)
        } else {
            self.walk_to(workspace, project, asked, |key, tell| {
                self.walk_own(who, Some(key), now, tell);
            })
        };
        if flat.of_users != OfUsers::Nothing {
            let all = flat.of_users == OfUsers::Everything;
            let (workspace, project) = if all { (workspace, project) } else { (GLOBAL, GLOBAL) };
            given = given.or(if now < self.of_users.until {
                self.look(&self.of_users, workspace, project, asked)
            } else {
                self.walk_to(workspace, project, asked, |key, tell| {
                    self.walk_users(Some(key), now, tell);
                })
            });
        }
        if let Some((kind, id)) = target.object
            && anywhere
            && self.is_shared(kind, id)
            && !asked.plainly(given)
        {
            given = given.or(self.at_object(who, kind, id, asked, now));
        }
        basis(asked, given)
    }

    #[inline(always)]
    fn look(&self, flat: &Flat, workspace: Key, project: Key, asked: Asked) -> Given {
        let globally = self.sets.masks(flat.global).give(asked);
        if flat.row.is_empty() {
            return globally;
        }
        let of_workspace = self.sets.masks(self.rows.get(flat.row, workspace)).give(asked);
        let of_project = self.sets.masks(self.rows.get(flat.row, project)).give(asked);
        globally.or(of_workspace).or(of_project)
    }

    #[cold]
    #[inline(never)]
    fn walk_to(
        &self,
        workspace: Key,
        project: Key,
        asked: Asked,
        walk: impl Fn(Key, &mut dyn FnMut(Key, &Masks)),
    ) -> Given {
        let mut given = Given::default();
        let mut tell = |_, masks: &Masks| given = given.or(masks.give(asked));
        walk(GLOBAL, &mut tell);
        for key in [workspace, project].into_iter().filter(|key| *key != GLOBAL) {
            walk(key, &mut tell);
        }
        given
    }

    #[inline(never)]
    fn at_object(&self, who: PrincipalId, kind: ObjectKind, id: i64, asked: Asked, now: i64) -> Given {
        if let Some(set) = self.held_on(who, kind, id) {
            return self.sets.masks(set).give(asked);
        }
        let mut given = Given::default();
        self.walk_object(who, kind, id, now, |masks| given = given.or(masks.give(asked)));
        given
    }

    /// The modes in which only some roles count.
    #[inline(never)]
    fn decide_by_mode(
        &self,
        mode: AccessMode,
        who: PrincipalId,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Option<Basis> {
        let owned = target.owner == Some(who);
        let is_service = self.is_service(who);
        if mode_allows(mode, is_service, permission, owned) {
            return Some(Basis { administrative: false });
        }
        let asked = Asked::new(permission, owned);
        let mut given = Given::default();
        self.each_held_above(mode, who, Some(GLOBAL), now, |at, masks| {
            if at == Scope::Global {
                given = given.or(masks.give(asked));
            }
        });
        if let Some((ObjectKind::Queue, id)) = target.object
            && !GLOBAL_ONLY.contains(permission)
        {
            let now = now.max(self.latest);
            given = given.or(self.at_object(who, ObjectKind::Queue, id, asked, now));
        }
        basis(asked, given)
    }

    /// Which objects of `kind` `who` may do this to. The same rows as [`World::decide`], turned round.
    pub fn visible(
        &self,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        kind: ObjectKind,
        now: i64,
    ) -> Visible {
        self.visible_in(self.mode, who, narrowing, permission, kind, now)
    }

    /// As if the server were in this mode.
    pub fn visible_in(
        &self,
        mode: AccessMode,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        kind: ObjectKind,
        now: i64,
    ) -> Visible {
        let mut visible = Visible::default();
        if !self.is_active(who) {
            return visible;
        }
        let job = narrowing.and_then(|narrowing| narrowing.job);
        let left = |narrowing: &Narrowing| job.map_or(narrowing.permissions, |job| job.beyond);
        if narrowing.is_some_and(|narrowing| !left(narrowing).contains(permission)) {
            return visible.with_own_of(job, narrowing, permission, kind);
        }
        visible.all = mode_allows(mode, self.is_service(who), permission, false);
        visible.own = mode_allows(mode, self.is_service(who), permission, true);
        let (of_all, of_own) = (Asked::new(permission, false), Asked::new(permission, true));
        self.each_held(mode, who, now, |at, masks| {
            let plain = job.map(|_| masks.not_administrative());
            let masks = plain.as_ref().unwrap_or(masks);
            let gives = |asked: Asked| asked.at_all(masks.give(asked));
            let (all, own) = (gives(of_all), gives(of_own));
            match at {
                Scope::Global => {
                    visible.all |= all;
                    visible.own |= own;
                }
                Scope::Workspace(id) if all => visible.workspaces.push(id),
                Scope::Workspace(id) if own => visible.own_workspaces.push(id),
                Scope::Project(id) if all => visible.projects.push(id),
                Scope::Project(id) if own => visible.own_projects.push(id),
                Scope::Object(of, id) if of == kind && all => visible.objects.push(id),
                Scope::Object(of, id) if of == kind && own => visible.own_objects.push(id),
                _ => {}
            }
        });
        if let Some(narrowing) = narrowing {
            visible.narrow(narrowing, kind);
        }
        visible.with_own_of(job, narrowing, permission, kind)
    }

    /// What `who` holds at each scope and what counts of it in this mode; a scope may come more than once.
    pub(crate) fn each_held(&self, mode: AccessMode, who: PrincipalId, now: i64, mut tell: impl FnMut(Scope, &Masks)) {
        self.each_held_above(mode, who, None, now, &mut tell);
        self.walk_objects(who, now.max(self.latest), |key, masks| {
            let at = scope(key);
            if let Some(masks) = counts(mode, at, masks) {
                tell(at, &masks);
            }
        });
    }

    /// As [`World::each_held`] without single objects; at all other scopes, or at one at least.
    fn each_held_above(
        &self,
        mode: AccessMode,
        who: PrincipalId,
        only: Option<Key>,
        now: i64,
        mut tell: impl FnMut(Scope, &Masks),
    ) {
        let Some(flat) = self.flat.get(who.0) else { return };
        let now = now.max(self.latest);
        let mut one = |key: Key, masks: &Masks| {
            let at = scope(key);
            if let Some(masks) = counts(mode, at, masks) {
                tell(at, &masks);
            }
        };
        let all = |flat: &Flat, only: Option<Key>, one: &mut dyn FnMut(Key, &Masks)| {
            one(GLOBAL, self.sets.masks(flat.global));
            if only.is_none() {
                let row = self.rows.iter(flat.row);
                row.for_each(|(key, set)| one(key, self.sets.masks(set)));
            }
        };
        if now < flat.until {
            all(flat, only, &mut one);
        } else {
            self.walk_own(who, only, now, &mut one);
        }
        let only = match flat.of_users {
            OfUsers::Nothing => return,
            OfUsers::Global => Some(GLOBAL),
            OfUsers::Everything => only,
        };
        if now < self.of_users.until {
            all(&self.of_users, only, &mut one);
        } else {
            self.walk_users(only, now, &mut one);
        }
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
        let unowned = Target { owner: None, ..*target };
        if self
            .decide(who, narrowing, Permission::RolesAssign, &unowned, now)
            .is_none()
        {
            return Some(Permission::RolesAssign);
        }
        self.missing_to_hold(who, narrowing, role, target, now)
    }

    /// The first of these permissions that `who` does not hold at `target` with at least that reach: what one must not give to others in other ways than
    /// by assigning a role (a token, a place in a group, a change of a role).
    pub fn missing_to_hold(
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
        let missing_all = role.all.iter().find(|permission| !may(*permission, &unowned));
        missing_all.or_else(|| role.own.iter().find(|permission| !may(*permission, &owned)))
    }
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
    /// Of all that, only what lies in one of these workspaces: a token narrowed to them asks.
    pub within: Option<Vec<WorkspaceId>>,
}

impl Visible {
    pub fn is_nothing(&self) -> bool {
        *self == Visible::default()
    }

    /// With the job's own experiment, and without what is said twice.
    fn with_own_of(
        mut self,
        job: Option<Job>,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        kind: ObjectKind,
    ) -> Visible {
        if let Some(job) = job
            && kind == ObjectKind::Experiment
            && narrowing.is_some_and(|narrowing| narrowing.permissions.contains(permission))
        {
            self.objects.push(job.experiment);
        }
        self.simplify();
        self
    }

    fn narrow(&mut self, narrowing: &Narrowing, kind: ObjectKind) {
        if let Some((of, id)) = narrowing.object {
            // Whether it may be seen is checked again on that object.
            let objects = if of == kind && !self.is_nothing() {
                vec![id]
            } else {
                Vec::new()
            };
            *self = Visible {
                own_objects: objects,
                ..Visible::default()
            };
        }
        if let Some(workspaces) = &narrowing.workspaces {
            self.within = Some(workspaces.clone());
            self.workspaces.retain(|id| workspaces.contains(id));
            self.own_workspaces.retain(|id| workspaces.contains(id));
        }
    }

    fn simplify(&mut self) {
        fn tidy<T: Ord>(list: &mut Vec<T>) {
            list.sort();
            list.dedup();
        }
        self.within.iter_mut().for_each(tidy);
        if self.within.as_ref().is_some_and(Vec::is_empty) {
            *self = Visible::default();
        }
        if self.all {
            *self = Visible {
                all: true,
                within: self.within.take(),
                ..Visible::default()
            };
            return;
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
        self.own_workspaces
            .retain(|id| self.workspaces.binary_search(id).is_err());
        self.own_projects.retain(|id| self.projects.binary_search(id).is_err());
        self.own_objects.retain(|id| self.objects.binary_search(id).is_err());
        let within = self.within.take();
        if !self.is_nothing() {
            self.within = within;
        }
    }
}

#[inline]
fn keys(target: &Target) -> (Key, Key) {
    let workspace = target.workspace.and_then(|id| key(Scope::Workspace(id)));
    let project = target.project.and_then(|id| key(Scope::Project(id)));
    (workspace.unwrap_or(GLOBAL), project.unwrap_or(GLOBAL))
}

#[inline(always)]
fn basis(asked: Asked, given: Given) -> Option<Basis> {
    let plainly = asked.plainly(given);
    (plainly | asked.administratively(given)).then_some(Basis {
        administrative: !plainly,
    })
}

/// What counts at a scope of what is held there. In the modes `basic` and `shadow`: only administrators' assignments, and what agents hold at the queues they
/// serve.
pub(crate) fn counts(mode: AccessMode, at: Scope, held: &Masks) -> Option<Masks> {
    let masks = match at {
        Scope::Global => *held,
        _ => held.without(GLOBAL_ONLY),
    };
    match at {
        _ if roles_count(mode) => Some(masks),
        Scope::Global => Some(masks.only_administrative()),
        Scope::Object(ObjectKind::Queue, _) => Some(masks),
        _ => None,
    }
}

/// Whether every role counts; else only some do.
#[inline]
pub(crate) fn roles_count(mode: AccessMode) -> bool {
    matches!(mode, AccessMode::Rbac | AccessMode::Off)
}

/// What the mode allows by itself.
pub(crate) fn mode_allows(mode: AccessMode, is_service: bool, permission: Permission, owned: bool) -> bool {
    let by_mode = by_mode(mode, is_service);
    by_mode.all.contains(permission) || (owned && by_mode.own.contains(permission))
}

/// Mode `basic`: every person may run experiments and manage its own; the rest is for administrators. Mode `shadow` decides as `basic` does.
pub(crate) fn by_mode(mode: AccessMode, is_service: bool) -> RolePermissions {
    static BASIC: OnceLock<RolePermissions> = OnceLock::new();
    static EVERYTHING: OnceLock<PermissionSet> = OnceLock::new();
    match mode {
        AccessMode::Rbac => RolePermissions::default(),
        AccessMode::Off => RolePermissions {
            all: *EVERYTHING.get_or_init(PermissionSet::everything),
            own: PermissionSet::EMPTY,
        },
        AccessMode::Basic | AccessMode::Shadow if is_service => RolePermissions::default(),
        AccessMode::Basic | AccessMode::Shadow => *BASIC.get_or_init(|| {
            let role = BuiltInRole::find("DataScientist").expect("it is in the list of built-in roles");
            let data_scientist = role.permissions();
            let own = [
                "me:update",
                "tokens:*:own",
                "vaults:*:own",
                "stacks:create",
                "stacks:*:own",
            ];
            let more = RolePermissions::parse(own).expect("these are permissions");
            // A stack is its owner's, and nothing is shared where roles do not count.
            let stacks = RolePermissions::parse(["stacks:read"]).expect("it is a permission");
            RolePermissions {
                all: data_scientist.all.without(stacks.all).union(more.all),
                own: data_scientist.own.union(more.own),
            }
        }),
    }
}

//! Why, who, what, and what would change: the questions that are answered with assignments. All of them walk the rows, so they also hold what a decision
//! from a flat row forgets: which assignment, through which group.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_api::permission::{PermissionScope, Reach, RolePermissions};
use bailiwick_api::server::AccessMode;
use bailiwick_api::{AssignmentId, GroupId, Permission, PrincipalId, RoleId};

use crate::decide::{by_mode, counts, mode_allows, roles_count};
use crate::flat::Masks;
use crate::{Assignment, Holder, Narrowed, Narrowing, Scope, Target, World};

/// Why something is allowed, or not. Allowed is what `by_mode` or a reason allows to an active principal, and no narrowing stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub allowed: bool,
    /// The mode allows it without any role.
    pub by_mode: bool,
    /// The principal is not active, or not known: it may nothing, whatever else is said here.
    pub inactive: bool,
    /// What of the credential's narrowing stands in the way of what its owner may.
    pub stopped_by: Option<Narrowed>,
    /// Every assignment that allows it, the widest scope first.
    pub reasons: Vec<Reason>,
    /// Assignments of the principal whose role has the permission and that don't allow it here, the nearest first; at most [`NEAR_MISSES`].
    pub near: Vec<NearMiss>,
}

/// How many near misses an explanation tells.
pub const NEAR_MISSES: usize = 20;

/// One assignment as it reaches one principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    pub scope: Scope,
    pub assignment: AssignmentId,
    pub role: RoleId,
    /// The group it comes through.
    pub group: Option<GroupId>,
    pub reach: Reach,
    pub expires: Option<i64>,
    pub administrative: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NearMiss {
    pub reason: Reason,
    pub why: Why,
}

/// Why an assignment whose role has the permission does not allow it; where several things are wrong, the last of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It gives reach `own`, and the target is another's.
    NotOwned,
    Expired,
    /// It holds at another place.
    Elsewhere(Scope),
    /// The mode of the server leaves this role out.
    ModeIgnoresIt,
    /// A `G` permission, assigned below global scope.
    GlobalOnly,
    /// What everybody holds does not reach whoever was created with a role of its own.
    LeftOutByOwnRolesOnly,
}

/// Somebody who may do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhoCan {
    pub who: PrincipalId,
    pub by_mode: bool,
    pub reasons: Vec<Reason>,
}

/// What one principal may do at one scope after a change and could not before, and the other way round. At a scope below the global one, what is gained or
/// lost globally is not said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    pub who: PrincipalId,
    pub scope: Scope,
    pub gained: RolePermissions,
    pub lost: RolePermissions,
}

impl World {
    pub fn explain(
        &self,
        who: PrincipalId,
        narrowing: Option<&Narrowing>,
        permission: Permission,
        target: &Target,
        now: i64,
    ) -> Explanation {
        let now = now.max(self.latest);
        let owned = target.owner == Some(who);
        let mut reasons = Vec::new();
        let mut near = Vec::new();
        self.each_assignment(who, |one, group, reaches| {
            let Some(reason) = self.reason(one, group, permission) else {
                return;
            };
            let why = if reaches {
                self.in_the_way(&reason, permission, target, owned, now)
            } else {
                Some(Why::LeftOutByOwnRolesOnly)
            };
            match why {
                None => reasons.push(reason),
                Some(why) => near.push(NearMiss { reason, why }),
            }
        });
        reasons.sort();
        near.sort_by_key(|miss| (miss.why, miss.reason));
        near.truncate(NEAR_MISSES);
        let is_service = self.principal(who).is_some_and(|state| state.is_service);
        let by_mode = mode_allows(self.mode, is_service, permission, owned);
        let inactive = !self.is_active(who);
        let stopped_by = narrowing.and_then(|narrowing| narrowing.stops(permission, target));
        Explanation {
            allowed: !inactive && stopped_by.is_none() && (by_mode || !reasons.is_empty()),
            by_mode,
            inactive,
            stopped_by,
            reasons,
            near,
        }
    }

    /// Everybody active who may do this, by id, and through what.
    pub fn who_can(&self, permission: Permission, target: &Target, now: i64) -> Vec<WhoCan> {
        let now = now.max(self.latest);
        // Whom each reason reaches, by its place in the list; `MODE` stands for the mode.
        const MODE: usize = usize::MAX;
        let mut reasons: Vec<Reason> = Vec::new();
        let mut found: Vec<(PrincipalId, usize)> = Vec::new();
        for one in target.scopes().flat_map(|scope| self.assignments_at(scope)) {
            let group = match one.holder {
                Holder::Principal(_) => None,
                Holder::Group(id) => Some(id),
            };
            let Some(reason) = self.reason(one, group, permission) else {
                continue;
            };
            let mut add = |who: PrincipalId| {
                let owned = target.owner == Some(who);
                if self.is_active(who) && self.in_the_way(&reason, permission, target, owned, now).is_none() {
                    found.push((who, reasons.len()));
                }
            };
            match one.holder {
                Holder::Principal(who) => add(who),
                Holder::Group(id) => {
                    let members = self.members_of(id).iter().copied();
                    let reached = members.filter(|who| id != self.users || self.reached_by_users(*who, one.scope));
                    reached.for_each(add);
                }
            }
            reasons.push(reason);
        }
        let by_mode = |who: PrincipalId| {
            let is_service = self.principal(who).is_some_and(|state| state.is_service);
            mode_allows(self.mode, is_service, permission, target.owner == Some(who))
        };
        // Without roles only `rbac` allows nothing: there the walk over everybody is spared.
        if self.mode != AccessMode::Rbac {
            let active = self.principals().filter(|who| self.is_active(*who));
            found.extend(active.filter(|who| by_mode(*who)).map(|who| (who, MODE)));
        }
        // Mostly whole groups in their order, which a merging sort keeps.
        found.sort();
        let people = found.chunk_by(|one, next| one.0 == next.0);
        let answers = people.map(|those| WhoCan {
            who: those[0].0,
            by_mode: those.iter().any(|(_, at)| *at == MODE),
            reasons: those.iter().filter_map(|(_, at)| reasons.get(*at)).copied().collect(),
        });
        answers.collect()
    }

    /// All that `who` may do: per scope the union of what counts there now, what the mode allows included. A credential may do what the answer says at a
    /// scope that contains a target, unless [`Narrowing::stops`] it there: which workspace a project or an object lies in is not known here.
    pub fn what_can(&self, who: PrincipalId, narrowing: Option<&Narrowing>, now: i64) -> Vec<(Scope, RolePermissions)> {
        let Some(state) = self.principal(who).filter(|state| state.active) else {
            return Vec::new();
        };
        let mut held: BTreeMap<Scope, RolePermissions> = BTreeMap::new();
        held.insert(Scope::Global, by_mode(self.mode, state.is_service));
        self.each_held(self.mode, who, now, |scope, masks| {
            let there = held.entry(scope).or_default();
            there.all = there.all.union(masks.all());
            there.own = there.own.union(masks.own());
        });
        if let Some(workspaces) = narrowing.and_then(|narrowing| narrowing.workspaces.as_ref()) {
            let globally = held.remove(&Scope::Global).unwrap_or_default();
            held.retain(|scope, _| !matches!(scope, Scope::Workspace(id) if !workspaces.contains(id)));
            for id in workspaces {
                let there = held.entry(Scope::Workspace(*id)).or_default();
                *there = union(*there, globally);
            }
        }
        let narrowed = held.into_iter().map(|(scope, mut held)| {
            if let Some(narrowing) = narrowing {
                held.all = held.all.intersection(narrowing.permissions);
                held.own = held.own.intersection(narrowing.permissions);
            }
            held.own = held.own.without(held.all);
            (scope, held)
        });
        narrowed
            .filter(|(_, held)| *held != RolePermissions::default())
            .collect()
    }

    /// The assignment, if its role has the permission at all.
    fn reason(&self, one: &Assignment, group: Option<GroupId>, permission: Permission) -> Option<Reason> {
        let role = self.roles.get(&one.role)?;
        let reach = match role.permissions {
            held if held.all.contains(permission) => Reach::All,
            held if held.own.contains(permission) => Reach::Own,
            _ => return None,
        };
        Some(Reason {
            scope: one.scope,
            assignment: one.id,
            role: one.role,
            group,
            reach,
            expires: one.expires,
            administrative: role.administrative,
        })
    }

    /// Why this does not allow it here.
    fn in_the_way(
        &self,
        reason: &Reason,
        permission: Permission,
        target: &Target,
        owned: bool,
        now: i64,
    ) -> Option<Why> {
        if permission.scope() == PermissionScope::Global && reason.scope != Scope::Global {
            return Some(Why::GlobalOnly);
        }
        if !self.mode_counts(reason) {
            return Some(Why::ModeIgnoresIt);
        }
        if !target.scopes().any(|scope| scope == reason.scope) {
            return Some(Why::Elsewhere(reason.scope));
        }
        if reason.expires.is_some_and(|end| end <= now) {
            return Some(Why::Expired);
        }
        (reason.reach == Reach::Own && !owned).then_some(Why::NotOwned)
    }

    fn mode_counts(&self, reason: &Reason) -> bool {
        let Some(role) = self.roles.get(&reason.role) else {
            return false;
        };
        roles_count(self.mode)
            || counts(self.mode, reason.scope, &Masks::of(role)).is_some_and(|masks| masks != Masks::default())
    }
}

/// What a change gives and takes, principal by principal.
pub fn difference(before: &World, after: &World, who: impl Iterator<Item = PrincipalId>, now: i64) -> Vec<Difference> {
    let mut found = Vec::new();
    for who in who {
        let held = |world: &World| -> BTreeMap<Scope, RolePermissions> {
            world.what_can(who, None, now).into_iter().collect()
        };
        let (before, after) = (held(before), held(after));
        let at = |held: &BTreeMap<Scope, RolePermissions>, scope: Scope| {
            let globally = held.get(&Scope::Global).copied().unwrap_or_default();
            union(globally, held.get(&scope).copied().unwrap_or_default())
        };
        let change = |scope: Scope| {
            let (before, after) = (at(&before, scope), at(&after, scope));
            (beyond(after, before), beyond(before, after))
        };
        let (gained_globally, lost_globally) = change(Scope::Global);
        let scopes: BTreeSet<Scope> = before.keys().chain(after.keys()).copied().collect();
        for scope in scopes {
            let (mut gained, mut lost) = change(scope);
            if scope != Scope::Global {
                gained = beyond(gained, gained_globally);
                lost = beyond(lost, lost_globally);
            }
            let nothing = RolePermissions::default();
            if gained != nothing || lost != nothing {
                found.push(Difference {
                    who,
                    scope,
                    gained,
                    lost,
                });
            }
        }
    }
    found
}

fn union(one: RolePermissions, other: RolePermissions) -> RolePermissions {
    let all = one.all.union(other.all);
    RolePermissions {
        all,
        own: one.own.union(other.own).without(all),
    }
}

/// What of `one` is not covered by `other`; reach `all` covers reach `own`.
fn beyond(one: RolePermissions, other: RolePermissions) -> RolePermissions {
    RolePermissions {
        all: one.all.without(other.all),
        own: one.own.without(other.own).without(other.all),
    }
}

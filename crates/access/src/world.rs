//! The state: what is held by whom, and how it changes.
//!
//! Two pictures of the same: the assignments by holder, scope and role, with groups and members, from which everything can be told; and for each principal a
//! flat row (`flat.rs`), from which a decision is made with a few memory reads. A change of one principal corrects its flat row at once. A change of a group
//! marks its members' rows *stale*, which holds at once and costs a few ns for each: whoever has a stale row is decided by the slow walk over the
//! assignments, and [`World::refresh`] rebuilds stale rows later, as many at a time as one likes. What the built-in group `Users` holds is one row that is
//! consulted for everybody, and what is assigned on single objects stands with the object.
//!
//! No change copies a table that grows with the installation: tables by id are paged, those by anything else are B-trees.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bailiwick_api::server::AccessMode;
use bailiwick_api::{AssignmentId, GroupId, PrincipalId, RoleId};

use crate::flat::{GLOBAL, Head, Key, Masks, OBJECTS, Objects, Paged, SetId, Sets, key, near};
use crate::rows::{Row, Rows};
use crate::{Assignment, Holder, ObjectKind, Principal, PrincipalState, Role, Scope};

/// Who holds what, and what that allows. Answers are of a moment given by the caller; time does not run backwards here: what [`World::refresh`] has once
/// found expired stays so.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) mode: AccessMode,
    pub(crate) users: GroupId,
    /// Each says in short what stands in `flat`.
    pub(crate) heads: Paged<Head>,
    pub(crate) flat: Paged<Flat>,
    pub(crate) rows: Rows,
    pub(crate) sets: Sets,
    /// What `Users` holds.
    pub(crate) of_users: Flat,
    /// The same once more, for the usual decision: the set at each workspace, by its id, as far as such a list goes ([`near`]).
    pub(crate) users_near: Vec<u16>,
    /// Whether its row holds more than stands there.
    pub(crate) users_far: bool,
    /// Before this moment nothing that the usual decision reads is out of date; the least of times if something is.
    pub(crate) usual_before: i64,
    principals: Paged<Kept>,
    groups: Paged<Group>,
    pub(crate) roles: BTreeMap<RoleId, Role>,
    assignments: Paged<Option<Assignment>>,
    by_scope: BTreeSet<Assigned>,
    by_role: BTreeSet<(RoleId, AssignmentId)>,
    pub(crate) objects: Objects,
    /// Rows to be rebuilt, each once.
    stale: VecDeque<PrincipalId>,
    /// Changes of many memberships that not every member's own list knows yet, the oldest first.
    moves: VecDeque<Move>,
    /// The number of the last of them.
    moved: u64,
    pub(crate) expiries: Expiries,
    /// The latest moment that a refresh was told.
    pub(crate) latest: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    #[default]
    Unknown,
    Inactive,
    Active,
}

/// How a principal stands to what `Users` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OfUsers {
    #[default]
    Nothing,
    /// Only what it holds at global scope.
    Global,
    Everything,
}

/// When rows will be out of date by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Expiries {
    ends: BTreeSet<(i64, PrincipalId)>,
    /// The first of them (µs since 1970).
    pub(crate) first: i64,
}

/// What is held, as decisions that [`Head`] is not enough for begin with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flat {
    pub(crate) row: Row,
    /// The row is good before this moment (µs since 1970); [`STALE`] when it is not good at all.
    pub(crate) until: i64,
    /// What is held at global scope.
    pub(crate) global: SetId,
    pub(crate) state: State,
    pub(crate) of_users: OfUsers,
    /// Whether it stands in `World::stale`.
    queued: bool,
}

const STALE: i64 = i64::MIN;

/// What decisions from flat rows do not look at.
#[derive(Debug, Clone, Default)]
struct Kept {
    own_roles_only: bool,
    is_service: bool,
    /// Where it stands in `World::expiries`.
    expires: Option<i64>,
    /// Sorted; `Users` included.
    groups: Vec<GroupId>,
    /// The last of `World::moves` that `groups` knows of.
    settled: u64,
    held: Held,
}

/// Many principals that joined or left one group together. Their rows are stale; each takes it into its own list when its row is rebuilt.
#[derive(Debug, Clone)]
struct Move {
    number: u64,
    group: GroupId,
    /// Sorted.
    members: Vec<PrincipalId>,
    joined: bool,
    /// How many don't know of it yet.
    left: usize,
}

/// As many memberships as may be changed one by one within a moment.
const FEW: usize = 8;

#[derive(Debug, Clone, Default)]
struct Group {
    /// Sorted.
    members: Vec<PrincipalId>,
    held: Held,
}

type Assigned = (Key, AssignmentId);

/// The assignments of one holder, by scope.
#[derive(Debug, Clone, Default)]
struct Held(Vec<Assigned>);

impl Held {
    fn add(&mut self, key: Key, assignment: AssignmentId) {
        if let Err(at) = self.0.binary_search(&(key, assignment)) {
            self.0.insert(at, (key, assignment));
        }
    }

    fn remove(&mut self, key: Key, assignment: AssignmentId) {
        if let Ok(at) = self.0.binary_search(&(key, assignment)) {
            self.0.remove(at);
        }
    }

    fn at(&self, key: Key) -> impl Iterator<Item = AssignmentId> {
        let from = self.0.partition_point(|one| one.0 < key);
        let there = self.0[from..].iter().take_while(move |one| one.0 == key);
        there.map(|one| one.1)
    }

    /// What stands in flat rows, and what stands with single objects.
    fn parts(&self) -> (&[Assigned], &[Assigned]) {
        self.0.split_at(self.0.partition_point(|one| one.0 < OBJECTS))
    }

    fn all(&self) -> impl Iterator<Item = AssignmentId> {
        self.0.iter().map(|one| one.1)
    }
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
        let mut world = World {
            mode,
            users,
            heads: Paged::default(),
            flat: Paged::default(),
            rows: Rows::default(),
            sets: Sets::new(),
            of_users: Flat {
                until: i64::MAX,
                ..Flat::default()
            },
            users_near: Vec::new(),
            users_far: false,
            usual_before: i64::MIN,
            principals: Paged::default(),
            groups: Paged::default(),
            roles: roles.into_iter().map(|role| (role.id, role)).collect(),
            assignments: Paged::default(),
            by_scope: BTreeSet::new(),
            by_role: BTreeSet::new(),
            objects: Objects::default(),
            stale: VecDeque::new(),
            moves: VecDeque::new(),
            moved: 0,
            expiries: Expiries {
                ends: BTreeSet::new(),
                first: i64::MAX,
            },
            latest: i64::MIN,
        };
        let mut scopes = Vec::new();
        let mut of_roles = Vec::new();
        for assignment in assignments {
            let id = assignment.id;
            if let Some(key) = world.note(assignment) {
                scopes.push((key, id));
                of_roles.push((assignment.role, id));
            }
        }
        world.by_scope = scopes.into_iter().collect();
        world.by_role = of_roles.into_iter().collect();
        let mut ids = Vec::new();
        for principal in principals {
            if world.keep(&principal) {
                ids.push(principal.id);
                for group in &principal.groups {
                    if let Some(group) = world.groups.make(group.0) {
                        group.members.push(principal.id);
                    }
                }
            }
        }
        for group in world.groups.iter_mut() {
            group.members.sort_unstable();
            group.members.dedup();
            group.members.shrink_to_fit();
        }
        world.rows.open_homes(&ids);
        ids.into_iter().for_each(|id| world.flatten(id));
        world.flatten_users();
        world
    }

    pub fn mode(&self) -> AccessMode {
        self.mode
    }

    /// The same picture in another mode: for plans, which ask what holds where roles count.
    pub fn in_mode(self, mode: AccessMode) -> World {
        World { mode, ..self }
    }

    pub fn role(&self, id: RoleId) -> Option<&Role> {
        self.roles.get(&id)
    }

    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    pub fn is_active(&self, who: PrincipalId) -> bool {
        self.flat.get(who.0).is_some_and(|flat| flat.state == State::Active)
    }

    pub fn is_service(&self, who: PrincipalId) -> bool {
        self.principals.get(who.0).is_some_and(|kept| kept.is_service)
    }

    pub fn principal(&self, who: PrincipalId) -> Option<PrincipalState> {
        let flat = self.flat.get(who.0).filter(|flat| flat.state != State::Unknown)?;
        let kept = self.principals.get(who.0)?;
        Some(PrincipalState {
            active: flat.state == State::Active,
            own_roles_only: kept.own_roles_only,
            is_service: kept.is_service,
        })
    }

    /// By id.
    pub fn principals(&self) -> impl Iterator<Item = PrincipalId> {
        let known = self.flat.iter().filter(|(_, flat)| flat.state != State::Unknown);
        known.map(|(id, _)| PrincipalId(id))
    }

    /// Sorted; the built-in group of everybody included.
    pub fn groups_of(&self, who: PrincipalId) -> Cow<'_, [GroupId]> {
        let Some(kept) = self.principals.get(who.0) else {
            return Cow::Borrowed(&[]);
        };
        let mut groups = Cow::Borrowed(kept.groups.as_slice());
        for change in self.moves.iter().filter(|change| change.concerns(who, kept)) {
            change.settle(groups.to_mut());
        }
        groups
    }

    pub fn members_of(&self, group: GroupId) -> &[PrincipalId] {
        self.groups.get(group.0).map_or(&[], |group| &group.members)
    }

    pub fn assignment(&self, id: AssignmentId) -> Option<&Assignment> {
        self.assignments.get(id.0)?.as_ref()
    }

    /// By id.
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.iter().filter_map(|(_, one)| one.as_ref())
    }

    pub fn assignments_at(&self, scope: Scope) -> impl Iterator<Item = &Assignment> {
        let key = key(scope).into_iter();
        let ids = key.flat_map(|key| {
            self.by_scope
                .range((key, AssignmentId(i64::MIN))..=(key, AssignmentId(i64::MAX)))
        });
        ids.filter_map(|(_, id)| self.assignment(*id))
    }

    pub fn assignments_of_role(&self, role: RoleId) -> impl Iterator<Item = &Assignment> {
        let ids = self
            .by_role
            .range((role, AssignmentId(i64::MIN))..=(role, AssignmentId(i64::MAX)));
        ids.filter_map(|(_, id)| self.assignment(*id))
    }

    /// By scope; those of its groups are not among them.
    pub fn assignments_held_by(&self, holder: Holder) -> impl Iterator<Item = &Assignment> {
        let held = self.held_by(holder).into_iter().flat_map(Held::all);
        held.filter_map(|id| self.assignment(id))
    }

    /// The assignments that reach `who`, with the group each comes through, by scope.
    pub fn assignments_of(
        &self,
        who: PrincipalId,
    ) -> impl Iterator<Item = (AssignmentId, RoleId, Scope, Option<GroupId>, Option<i64>)> + use<> {
        let mut found = Vec::new();
        self.each_assignment(who, |one, group, reaches| {
            if reaches && self.roles.contains_key(&one.role) {
                found.push((one.id, one.role, one.scope, group, one.expires));
            }
        });
        found.sort_by_key(|one| (one.2, one.0));
        found.into_iter()
    }

    fn held_by(&self, holder: Holder) -> Option<&Held> {
        match holder {
            Holder::Principal(id) => self.principals.get(id.0).map(|kept| &kept.held),
            Holder::Group(id) => self.groups.get(id.0).map(|group| &group.held),
        }
    }

    /// Every assignment of `who` and its groups, expired or not; whether it reaches `who` at all is said with it.
    pub(crate) fn each_assignment(&self, who: PrincipalId, mut tell: impl FnMut(&Assignment, Option<GroupId>, bool)) {
        let (Some(kept), Some(flat)) = (self.principals.get(who.0), self.flat.get(who.0)) else {
            return;
        };
        let own = kept.held.all().filter_map(|id| self.assignment(id));
        own.for_each(|one| tell(one, None, true));
        for group in self.groups_of(who).iter() {
            let held = self.groups.get(group.0).into_iter().flat_map(|group| group.held.all());
            for one in held.filter_map(|id| self.assignment(id)) {
                let reaches = *group != self.users || flat.of_users.reaches(one.scope);
                tell(one, Some(*group), reaches);
            }
        }
    }

    /// What `who` holds at `now`, at one scope or (without single objects) at all, but for what it holds as one of everybody: the slow walk.
    pub(crate) fn walk_own(&self, who: PrincipalId, at: Option<Key>, now: i64, mut tell: impl FnMut(Key, &Masks)) {
        let Some(kept) = self.principals.get(who.0) else { return };
        self.walk(&kept.held, at, now, &mut tell);
        for group in self.groups_of(who).iter().filter(|group| **group != self.users) {
            if let Some(group) = self.groups.get(group.0) {
                self.walk(&group.held, at, now, &mut tell);
            }
        }
    }

    /// The same for the built-in group of everybody.
    pub(crate) fn walk_users(&self, at: Option<Key>, now: i64, mut tell: impl FnMut(Key, &Masks)) {
        if let Some(group) = self.groups.get(self.users.0) {
            self.walk(&group.held, at, now, &mut tell);
        }
    }

    fn walk(&self, held: &Held, at: Option<Key>, now: i64, tell: &mut impl FnMut(Key, &Masks)) {
        match at {
            Some(key) => held.at(key).for_each(|id| self.tell(key, id, now, tell)),
            None => held
                .parts()
                .0
                .iter()
                .for_each(|(key, id)| self.tell(*key, *id, now, tell)),
        }
    }

    /// What `who` holds at `now` on single objects.
    pub(crate) fn walk_objects(&self, who: PrincipalId, now: i64, mut tell: impl FnMut(Key, &Masks)) {
        let (Some(kept), Some(flat)) = (self.principals.get(who.0), self.flat.get(who.0)) else {
            return;
        };
        let groups = self.groups_of(who);
        let reaching = groups
            .iter()
            .filter(|group| **group != self.users || flat.of_users == OfUsers::Everything);
        let of_groups = reaching.filter_map(|group| self.groups.get(group.0));
        for held in std::iter::once(&kept.held).chain(of_groups.map(|group| &group.held)) {
            for (key, id) in held.parts().1 {
                self.tell(*key, *id, now, &mut tell);
            }
        }
    }

    /// What `who` holds at `now` on one object. Nothing is assigned on most of them.
    pub(crate) fn walk_object(
        &self,
        who: PrincipalId,
        kind: ObjectKind,
        id: i64,
        now: i64,
        mut tell: impl FnMut(&Masks),
    ) {
        for one in self.objects.on(kind, id) {
            let holds = match one.holder {
                Holder::Principal(id) => id == who,
                Holder::Group(group) if group == self.users => self.reached_by_users(who, Scope::Object(kind, id)),
                Holder::Group(group) => self.groups_of(who).binary_search(&group).is_ok(),
            };
            match one.set {
                _ if !holds => {}
                Some(set) if now < one.until => tell(self.sets.masks(set)),
                Some(_) => {}
                None => self.tell(GLOBAL, one.assignment, now, &mut |_, masks| tell(masks)),
            }
        }
    }

    /// The same as a set, where one look at what is assigned on the object tells.
    #[inline]
    pub(crate) fn held_on(&self, who: PrincipalId, kind: ObjectKind, id: i64) -> Option<SetId> {
        self.objects.briefly(kind, id, who)
    }

    #[inline(always)]
    pub(crate) fn is_shared(&self, kind: ObjectKind, id: i64) -> bool {
        self.objects.shared_bit(kind, id) == 1
    }

    pub(crate) fn reached_by_users(&self, who: PrincipalId, scope: Scope) -> bool {
        self.flat.get(who.0).is_some_and(|flat| flat.of_users.reaches(scope))
    }

    fn tell(&self, key: Key, id: AssignmentId, now: i64, tell: &mut impl FnMut(Key, &Masks)) {
        let live = self
            .assignment(id)
            .filter(|one| one.expires.is_none_or(|end| now < end));
        if let Some(role) = live.and_then(|one| self.roles.get(&one.role)) {
            tell(key, &Masks::of(role));
        }
    }

    // Changes.

    /// Puts in a principal or replaces it, with its whole list of groups.
    pub fn set_principal(&mut self, principal: Principal) {
        self.settle(principal.id);
        let before = self.groups_of(principal.id).into_owned();
        if !self.keep(&principal) {
            return;
        }
        let after = self.groups_of(principal.id).into_owned();
        for left in before.iter().filter(|group| after.binary_search(group).is_err()) {
            if let Some(group) = self.groups.get_mut(left.0)
                && let Ok(at) = group.members.binary_search(&principal.id)
            {
                group.members.remove(at);
            }
        }
        for joined in after.iter().filter(|group| before.binary_search(group).is_err()) {
            if let Some(group) = self.groups.make(joined.0)
                && let Err(at) = group.members.binary_search(&principal.id)
            {
                group.members.insert(at, principal.id);
            }
        }
        self.flatten(principal.id);
    }

    /// Puts in a role or replaces it.
    pub fn set_role(&mut self, role: Role) {
        let id = role.id;
        self.roles.insert(id, role);
        self.sets.role_changed(id, &self.roles);
    }

    /// Its assignments stay, and give nothing.
    pub fn remove_role(&mut self, id: RoleId) {
        self.roles.remove(&id);
        self.sets.role_changed(id, &self.roles);
    }

    /// Puts in an assignment or replaces the one with its id.
    pub fn set_assignment(&mut self, assignment: Assignment) {
        self.remove_assignment(assignment.id);
        if let Some(key) = self.note(assignment) {
            self.by_scope.insert((key, assignment.id));
            self.by_role.insert((assignment.role, assignment.id));
            self.holder_changed(assignment.holder, key);
        }
    }

    pub fn remove_assignment(&mut self, id: AssignmentId) {
        let Some(assignment) = self.forget(id) else { return };
        if let Some(key) = key(assignment.scope) {
            self.holder_changed(assignment.holder, key);
        }
    }

    /// Principals that are not known are passed over.
    pub fn add_members(&mut self, group: GroupId, who: &[PrincipalId]) {
        if self.groups.make(group.0).is_none() {
            return;
        }
        let known = |id: &&PrincipalId| {
            let flat = self.flat.get(id.0);
            flat.is_some_and(|flat| flat.state != State::Unknown)
        };
        let mut who: Vec<PrincipalId> = who.iter().filter(known).copied().collect();
        who.sort_unstable();
        who.dedup();
        let members = &mut self.groups.get_mut(group.0).expect("it was just made").members;
        members.extend_from_slice(&who);
        // Two sorted runs: one pass.
        members.sort();
        members.dedup();
        self.members_moved(group, who, true);
    }

    pub fn remove_members(&mut self, group: GroupId, who: &[PrincipalId]) {
        let Some(found) = self.groups.get_mut(group.0) else {
            return;
        };
        let mut who = who.to_vec();
        who.sort_unstable();
        who.dedup();
        who.retain(|id| found.members.binary_search(id).is_ok());
        let mut leaving = who.iter().peekable();
        // Both are sorted: one pass.
        found
            .members
            .retain(|member| leaving.next_if(|leaving| *leaving == member).is_none());
        self.members_moved(group, who, false);
    }

    /// Its memberships and its assignments go with it.
    pub fn remove_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(id.0) else { return };
        let members = std::mem::take(&mut group.members);
        let held: Vec<AssignmentId> = group.held.all().collect();
        self.members_moved(id, members, false);
        held.into_iter()
            .for_each(|assignment| self.remove_assignment(assignment));
    }

    /// Rebuilds at most so many rows that are stale or out of date at `now`, and gives how many are left. No answer depends on it, only how fast it comes.
    pub fn refresh(&mut self, at_most: usize, now: i64) -> usize {
        self.latest = self.latest.max(now);
        self.note_usual();
        if self.of_users.until <= self.latest {
            self.flatten_users();
        }
        for _ in 0..at_most {
            let expired = self.expiries.ends.first().filter(|(end, _)| *end <= self.latest);
            if let Some(who) = self.stale.pop_front() {
                let flat = self.flat.get_mut(who.0).expect("whoever is queued has a row");
                flat.queued = false;
                if flat.until == STALE {
                    self.flatten(who);
                }
            } else if let Some((_, who)) = expired.copied() {
                self.flatten(who);
            } else {
                break;
            }
        }
        let expired = self.expiries.ends.range(..=(self.latest, PrincipalId(i64::MAX)));
        self.stale.len() + expired.count()
    }

    /// When the next row that is good now will be out of date: the moment for a [`World::refresh`] that nothing else asks for.
    pub fn next_expiry(&self) -> Option<i64> {
        let users = self.of_users.expires();
        let others = Some(self.expiries.first).filter(|end| *end != i64::MAX);
        users.into_iter().chain(others).min()
    }

    /// Keeps what is said of a principal; false for an id that no counter gives.
    fn keep(&mut self, principal: &Principal) -> bool {
        let Some(flat) = self.flat.make(principal.id.0) else {
            return false;
        };
        flat.state = if principal.active {
            State::Active
        } else {
            State::Inactive
        };
        let kept = self.principals.make(principal.id.0).expect("it has the same ids");
        kept.settled = self.moved;
        kept.own_roles_only = principal.own_roles_only;
        kept.is_service = principal.is_service;
        kept.groups.clone_from(&principal.groups);
        kept.groups.sort_unstable();
        kept.groups.dedup();
        self.stand_to_users(principal.id);
        true
    }

    fn stand_to_users(&mut self, who: PrincipalId) {
        let (Some(flat), Some(kept)) = (self.flat.get_mut(who.0), self.principals.get(who.0)) else {
            return;
        };
        flat.of_users = match kept.groups.binary_search(&self.users) {
            Err(_) => OfUsers::Nothing,
            Ok(_) if !kept.own_roles_only => OfUsers::Everything,
            Ok(_) if kept.is_service => OfUsers::Nothing,
            Ok(_) => OfUsers::Global,
        };
        self.show(who);
    }

    /// To be called after each change of what `Flat` says of somebody.
    fn show(&mut self, who: PrincipalId) {
        if let Some(flat) = self.flat.get(who.0) {
            show(&mut self.heads, who, flat);
        }
    }

    /// Writes an assignment down at its holder; nothing for one that can hold nowhere.
    fn note(&mut self, assignment: Assignment) -> Option<Key> {
        let key = key(assignment.scope)?;
        let held = match assignment.holder {
            Holder::Principal(id) => {
                self.flat.make(id.0)?;
                &mut self.principals.make(id.0)?.held
            }
            Holder::Group(id) => &mut self.groups.make(id.0)?.held,
        };
        let place = self.assignments.make(assignment.id.0)?;
        held.add(key, assignment.id);
        if let Scope::Object(kind, id) = assignment.scope {
            let set = self.sets.find(&mut vec![assignment.role], &self.roles);
            self.objects.add(kind, id, &assignment, set);
        }
        *place = Some(assignment);
        Some(key)
    }

    fn forget(&mut self, id: AssignmentId) -> Option<Assignment> {
        let assignment = self.assignments.get_mut(id.0)?.take()?;
        let key = key(assignment.scope)?;
        let held = match assignment.holder {
            Holder::Principal(id) => self.principals.get_mut(id.0).map(|kept| &mut kept.held),
            Holder::Group(id) => self.groups.get_mut(id.0).map(|group| &mut group.held),
        };
        held?.remove(key, id);
        if let Scope::Object(kind, object) = assignment.scope {
            self.objects.remove(kind, object, id);
        }
        self.by_scope.remove(&(key, id));
        self.by_role.remove(&(assignment.role, id));
        Some(assignment)
    }

    fn holder_changed(&mut self, holder: Holder, key: Key) {
        if key >= OBJECTS {
            return;
        }
        match holder {
            Holder::Principal(id) => self.correct(id, key),
            Holder::Group(id) if id == self.users => self.correct_users(key),
            Holder::Group(id) => {
                if let Some(group) = self.groups.get(id.0) {
                    mark(&mut self.heads, &mut self.flat, &mut self.stale, &group.members);
                }
            }
        }
    }

    /// After `who` joined or left a group whose own list says so already.
    fn members_moved(&mut self, group: GroupId, who: Vec<PrincipalId>, joined: bool) {
        if group != self.users {
            mark(&mut self.heads, &mut self.flat, &mut self.stale, &who);
        }
        self.moved += 1;
        let change = Move {
            number: self.moved,
            group,
            left: who.len(),
            members: who,
            joined,
        };
        if change.members.len() > FEW && group != self.users {
            self.moves.push_back(change);
            return;
        }
        for who in &change.members {
            self.settle(*who);
            if let Some(kept) = self.principals.get_mut(who.0) {
                change.settle(&mut kept.groups);
            }
            if group == self.users {
                self.stand_to_users(*who);
            }
        }
    }

    /// Brings a principal's own list of groups up to date.
    fn settle(&mut self, who: PrincipalId) {
        if self.moves.is_empty() {
            return;
        }
        let Some(kept) = self.principals.get_mut(who.0) else {
            return;
        };
        for change in &mut self.moves {
            if change.concerns(who, kept) {
                change.settle(&mut kept.groups);
                change.left -= 1;
            }
        }
        kept.settled = self.moved;
        while self.moves.front().is_some_and(|change| change.left == 0) {
            self.moves.pop_front();
        }
    }

    /// The set of roles that counts at one scope, and when the first of them ends.
    fn gather<'a>(
        assignments: &Paged<Option<Assignment>>,
        held: impl Iterator<Item = &'a Held>,
        key: Key,
        latest: i64,
    ) -> (Vec<RoleId>, i64) {
        let mut roles = Vec::new();
        let mut until = i64::MAX;
        for id in held.flat_map(|held| held.at(key)) {
            let Some(Some(one)) = assignments.get(id.0) else {
                continue;
            };
            let end = one.expires.unwrap_or(i64::MAX);
            if end > latest {
                roles.push(one.role);
                until = until.min(end);
            }
        }
        (roles, until)
    }

    /// Brings one scope of a row up to date, unless the row is to be rebuilt anyway.
    fn correct(&mut self, who: PrincipalId, key: Key) {
        let (Some(flat), Some(kept)) = (self.flat.get_mut(who.0), self.principals.get_mut(who.0)) else {
            return;
        };
        if flat.until == STALE || flat.state == State::Unknown {
            return;
        }
        let of_groups = kept.groups.iter().filter(|group| **group != self.users);
        let of_groups = of_groups.filter_map(|group| self.groups.get(group.0));
        let held = std::iter::once(&kept.held).chain(of_groups.map(|group| &group.held));
        let (mut roles, until) = World::gather(&self.assignments, held, key, self.latest);
        let set = self.sets.find(&mut roles, &self.roles);
        put(flat, &mut self.rows, Some(who.0), key, set, until);
        self.expiries.expect(kept, who, flat.expires());
        self.show(who);
        self.note_usual();
    }

    fn correct_users(&mut self, key: Key) {
        if self.of_users.until == STALE {
            return;
        }
        let held = self.groups.get(self.users.0).map(|group| &group.held);
        let (mut roles, until) = World::gather(&self.assignments, held.into_iter(), key, self.latest);
        let set = self.sets.find(&mut roles, &self.roles);
        put(&mut self.of_users, &mut self.rows, None, key, set, until);
        self.note_users(key, self.rows.get(self.of_users.row, key));
        self.note_usual();
    }

    /// After the latest moment or anything that expires has changed.
    fn note_usual(&mut self) {
        let first = self.expiries.first.min(self.of_users.until);
        self.usual_before = if first > self.latest { first } else { i64::MIN };
    }

    fn note_users(&mut self, key: Key, set: SetId) {
        match (near(key), u16::try_from(set)) {
            (Some(at), Ok(set)) => {
                if at >= self.users_near.len() && set != 0 {
                    self.users_near.resize(at + 1, 0);
                }
                if let Some(there) = self.users_near.get_mut(at) {
                    *there = set;
                }
            }
            _ => self.users_far |= set != 0,
        }
    }

    /// Builds the row of one principal anew.
    fn flatten(&mut self, who: PrincipalId) {
        self.settle(who);
        let Some(kept) = self.principals.get(who.0) else { return };
        let mut held = kept.held.parts().0.to_vec();
        for group in kept.groups.iter().filter(|group| **group != self.users) {
            if let Some(group) = self.groups.get(group.0) {
                held.extend_from_slice(group.held.parts().0);
            }
        }
        let flat = self.flat.get_mut(who.0).expect("whoever is kept has a row");
        self.rows.give_back(std::mem::take(&mut flat.row));
        let (row, global, until) = self.build(Some(who.0), held);
        let flat = self.flat.get_mut(who.0).expect("it was just read");
        (flat.row, flat.global, flat.until) = (row, global, until);
        let kept = self.principals.get_mut(who.0).expect("it was just read");
        self.expiries.expect(kept, who, flat.expires());
        self.show(who);
        self.note_usual();
    }

    fn flatten_users(&mut self) {
        let group = self.groups.get(self.users.0);
        let held = group.map(|group| group.held.parts().0.to_vec()).unwrap_or_default();
        self.rows.give_back(std::mem::take(&mut self.of_users.row));
        let (row, global, until) = self.build(None, held);
        (self.of_users.row, self.of_users.global, self.of_users.until) = (row, global, until);
        let held: Vec<(Key, SetId)> = self.rows.iter(row).collect();
        self.users_near.clear();
        self.users_far = false;
        for (key, set) in held {
            self.note_users(key, set);
        }
        self.note_usual();
    }

    fn build(&mut self, home: Option<i64>, mut held: Vec<Assigned>) -> (Row, SetId, i64) {
        held.sort_unstable();
        let mut until = i64::MAX;
        let mut found: Vec<(Key, SetId)> = Vec::new();
        let mut roles: Vec<RoleId> = Vec::new();
        for there in held.chunk_by(|one, next| one.0 == next.0) {
            roles.clear();
            for (_, id) in there {
                let Some(Some(one)) = self.assignments.get(id.0) else {
                    continue;
                };
                let end = one.expires.unwrap_or(i64::MAX);
                if end > self.latest {
                    roles.push(one.role);
                    until = until.min(end);
                }
            }
            match self.sets.find(&mut roles, &self.roles) {
                Some(0) => {}
                Some(set) => found.push((there[0].0, set)),
                None => return (Row::default(), 0, STALE),
            }
        }
        let global = found.first().filter(|one| one.0 == GLOBAL).map_or(0, |one| one.1);
        let below = &found[usize::from(global != 0)..];
        match self.rows.make(home, below) {
            Some(row) => (row, global, until),
            None => (Row::default(), 0, STALE),
        }
    }
}

impl OfUsers {
    pub(crate) fn reaches(self, scope: Scope) -> bool {
        match self {
            OfUsers::Nothing => false,
            OfUsers::Global => scope == Scope::Global,
            OfUsers::Everything => true,
        }
    }
}

impl Flat {
    fn expires(&self) -> Option<i64> {
        Some(self.until).filter(|until| *until != i64::MAX && *until != STALE)
    }

    fn head(&self) -> Head {
        let usual = self.state == State::Active && self.of_users == OfUsers::Everything && self.until != STALE;
        if usual {
            Head::new(self.global, self.row)
        } else {
            Head::UNUSUAL
        }
    }
}

fn show(heads: &mut Paged<Head>, who: PrincipalId, flat: &Flat) {
    if let Some(head) = heads.make(who.0) {
        *head = flat.head();
    }
}

fn put(flat: &mut Flat, rows: &mut Rows, home: Option<i64>, key: Key, set: Option<SetId>, until: i64) {
    let held = match set {
        Some(set) if key == GLOBAL => {
            flat.global = set;
            true
        }
        Some(set) => rows.set(home, &mut flat.row, key, set),
        None => false,
    };
    // What cannot be held in a row is decided by the slow walk from now on.
    flat.until = if held { flat.until.min(until) } else { STALE };
}

/// Makes rows stale, and sees to it that they are rebuilt.
fn mark(heads: &mut Paged<Head>, flat: &mut Paged<Flat>, stale: &mut VecDeque<PrincipalId>, who: &[PrincipalId]) {
    for id in who {
        if let Some(flat) = flat.get_mut(id.0) {
            flat.until = STALE;
            show(heads, *id, flat);
            if !std::mem::replace(&mut flat.queued, true) {
                stale.push_back(*id);
            }
        }
    }
}

impl Move {
    fn concerns(&self, who: PrincipalId, kept: &Kept) -> bool {
        self.number > kept.settled && self.members.binary_search(&who).is_ok()
    }

    fn settle(&self, groups: &mut Vec<GroupId>) {
        match groups.binary_search(&self.group) {
            Err(at) if self.joined => groups.insert(at, self.group),
            Ok(at) if !self.joined => {
                groups.remove(at);
            }
            _ => {}
        }
    }
}

impl Expiries {
    fn expect(&mut self, kept: &mut Kept, who: PrincipalId, expires: Option<i64>) {
        if kept.expires == expires {
            return;
        }
        if let Some(end) = std::mem::replace(&mut kept.expires, expires) {
            self.ends.remove(&(end, who));
        }
        if let Some(end) = expires {
            self.ends.insert((end, who));
        }
        self.first = self.ends.first().map_or(i64::MAX, |(end, _)| *end);
    }
}

#[cfg(test)]
impl World {
    /// Whether what the usual decision reads says what it is made of.
    pub(crate) fn heads_agree(&self) -> bool {
        let first = self.expiries.first.min(self.of_users.until);
        let is_good = first > self.latest;
        self.usual_before == if is_good { first } else { i64::MIN }
            && self.flat.iter().all(|(id, flat)| {
                let head = self.heads.get(id).copied().unwrap_or_default();
                head == flat.head()
            })
    }

    pub(crate) fn waiting_moves(&self) -> usize {
        self.moves.len()
    }

    pub(crate) fn most_sets(&mut self, most: usize) {
        self.sets.most = most;
    }
}

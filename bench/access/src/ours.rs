//! Our own engine, as the server holds it: one [`bailiwick_access::World`] behind one lock. What it decides, and what its changes cost.

use std::hint::black_box;

use bailiwick_access::World as Engine;
use bailiwick_access::{Assignment, Holder, Principal, Scope, Target};
use bailiwick_api::server::AccessMode;
use bailiwick_api::{AssignmentId, GroupId, Permission, PrincipalId, WorkspaceId};
use bailiwick_lock::Lock;

use crate::measure::{Built, Clock, Times, build, ticks};
use crate::world::{Dice, Request, World, role_id};

/// Microseconds since 1970; no assignment of these worlds ends.
const NOW: i64 = 1_800_000_000_000_000;

/// Rows that one refresh rebuilds: so many that the lock is held for well under a millisecond.
const REFRESHED_AT_ONCE: usize = 64;

pub struct Ours {
    lock: Lock<Engine>,
}

impl Ours {
    pub fn build(world: &World) -> Built<Ours> {
        let built = build(|| {
            let principals = world.principals.iter().cloned();
            let roles = world.roles.iter().cloned();
            Engine::new(
                AccessMode::Rbac,
                world.users,
                principals,
                roles,
                world.assignments.iter().copied(),
            )
        });
        Built {
            it: Ours {
                lock: Lock::new(built.it),
            },
            bytes: built.bytes,
            seconds: built.seconds,
        }
    }

    #[inline]
    pub fn decide(&self, request: &Request) -> bool {
        self.allows(request.who, request.permission, &request.target)
    }

    #[inline]
    fn allows(&self, who: PrincipalId, permission: Permission, target: &Target) -> bool {
        let engine = self.lock.read();
        engine.decide(who, None, permission, target, NOW).is_some()
    }

    /// What of a decision is the lock's.
    #[inline]
    pub fn only_lock(&self) {
        black_box(&*self.lock.read());
    }

    fn may_read(&self, who: PrincipalId, workspace: WorkspaceId) -> bool {
        self.allows(who, Permission::ExperimentsRead, &Target::workspace(workspace))
    }

    /// One change; gives how many nanoseconds the write lock was held.
    fn change(&self, clock: &Clock, change: impl FnOnce(&mut Engine)) -> f64 {
        let mut engine = self.lock.write();
        let from = ticks();
        change(&mut engine);
        let to = ticks();
        drop(engine);
        clock.ns(from, to)
    }

    /// What the server does some time after a change of a group, in small steps.
    fn refresh(&self, clock: &Clock, seen: &mut Kind) {
        let mut left = usize::MAX;
        while left > 0 {
            let held = self.change(clock, |engine| left = engine.refresh(REFRESHED_AT_ONCE, NOW));
            seen.note(0.0, held);
        }
    }
}

/// Changes of one kind, in the order in which they were made.
#[derive(Default)]
pub struct Kind {
    /// From asking for the lock to an answer that shows the change; 0 where no answer can.
    in_force_ns: Vec<f64>,
    held_ns: Vec<f64>,
}

impl Kind {
    fn note(&mut self, in_force_ns: f64, held_ns: f64) {
        self.in_force_ns.push(in_force_ns);
        self.held_ns.push(held_ns);
    }
}

/// What every kind of change came to over all rounds.
pub struct Summary {
    pub what: &'static str,
    pub count: usize,
    pub in_force: Times,
    pub held: Times,
    /// Each change counted at the best of its rounds: where the machine stopped us once it does not do so again, the engine does.
    pub in_force_undisturbed: Times,
    pub held_undisturbed: Times,
}

pub const ONE: &str = "one assignment made or taken away";

const KINDS: [&str; 11] = [
    ONE,
    "one assignment of the biggest group",
    "as many members join a group",
    "as many members leave a group",
    "refresh of 64 rows after that",
    "a role edited",
    "a user deactivated or activated",
    "a group of that size deleted",
    "growth: 100,000 assignments",
    "growth: 20,000 users",
    "growth: 20,000 users into a group",
];

pub struct Changes {
    pub kinds: Vec<Summary>,
    /// Decisions about members while their rows wait for the refresh, each alone.
    pub while_stale: Times,
}

/// Every kind of change, in `rounds` rounds on a fresh engine each; the same changes each time.
pub fn changes(world: &World, clock: &Clock, rounds: usize) -> Changes {
    let mut seen: Vec<Vec<Kind>> = KINDS.iter().map(|_| Vec::new()).collect();
    let mut while_stale = Times::default();
    // All are kept until the end, so that none grows in memory which another has already touched.
    let engines: Vec<Ours> = (0..rounds).map(|_| Ours::build(world).it).collect();
    for ours in &engines {
        let (kinds, stale) = one_round(world, clock, ours);
        for (all, kind) in seen.iter_mut().zip(kinds) {
            all.push(kind);
        }
        while_stale = stale;
    }
    let kinds = KINDS.into_iter().zip(seen).map(|(what, rounds)| summary(what, &rounds));
    Changes {
        kinds: kinds.collect(),
        while_stale,
    }
}

fn summary(what: &'static str, rounds: &[Kind]) -> Summary {
    let all =
        |of: fn(&Kind) -> &Vec<f64>| Times::new(rounds.iter().flat_map(|round| of(round).iter().copied()).collect());
    let best = |of: fn(&Kind) -> &Vec<f64>| {
        let least = |at: usize| rounds.iter().map(|round| of(round)[at]).fold(f64::MAX, f64::min);
        Times::new((0..of(&rounds[0]).len()).map(least).collect())
    };
    Summary {
        what,
        count: rounds[0].held_ns.len(),
        in_force: all(|kind| &kind.in_force_ns),
        held: all(|kind| &kind.held_ns),
        in_force_undisturbed: best(|kind| &kind.in_force_ns),
        held_undisturbed: best(|kind| &kind.held_ns),
    }
}

fn one_round(world: &World, clock: &Clock, ours: &Ours) -> ([Kind; KINDS.len()], Times) {
    let mut kinds: [Kind; KINDS.len()] = Default::default();
    let [
        one,
        of_group,
        joined,
        left,
        refreshed,
        role_edits,
        states,
        group_deleted,
        more,
        users,
        joining,
    ] = &mut kinds;
    let dice = &mut Dice(42);
    let before: Vec<bool> = (0..2_000).map(|at| ours.decide(&world.requests[at])).collect();
    let mut next = Next(world.assignments.len() as i64);

    // Asked for first, so that the timed part comes to cold rows.
    let picked: Vec<(PrincipalId, WorkspaceId)> = std::iter::repeat_with(|| outsider(world, ours, dice, None))
        .take(2_000)
        .collect();
    for (who, workspace) in picked {
        let assignment = next.assignment(Holder::Principal(who), workspace);
        in_force(ours, clock, one, who, workspace, true, |engine| {
            engine.set_assignment(assignment)
        });
        in_force(ours, clock, one, who, workspace, false, |engine| {
            engine.remove_assignment(assignment.id)
        });
    }

    let group = &world.members[world.biggest_group.0 as usize - 1];
    let mut while_stale = Times::default();
    for _ in 0..50 {
        let (who, workspace) = outsider(world, ours, dice, Some(group));
        let assignment = next.assignment(Holder::Group(world.biggest_group), workspace);
        in_force(ours, clock, of_group, who, workspace, true, |engine| {
            engine.set_assignment(assignment)
        });
        while_stale = clock.alone(
            group.len(),
            |at| at,
            |at| {
                ours.may_read(group[at], workspace);
            },
        );
        ours.refresh(clock, refreshed);
        in_force(ours, clock, of_group, who, workspace, false, |engine| {
            engine.remove_assignment(assignment.id)
        });
        ours.refresh(clock, refreshed);
    }

    let empty = GroupId(world.users.0 + 1);
    for _ in 0..10 {
        let (who, workspace) = outsider(world, ours, dice, Some(group));
        let assignment = next.assignment(Holder::Group(empty), workspace);
        ours.change(clock, |engine| engine.set_assignment(assignment));
        in_force(ours, clock, joined, who, workspace, true, |engine| {
            engine.add_members(empty, group)
        });
        ours.refresh(clock, refreshed);
        in_force(ours, clock, left, who, workspace, false, |engine| {
            engine.remove_members(empty, group)
        });
        ours.refresh(clock, refreshed);
        ours.change(clock, |engine| engine.remove_assignment(assignment.id));
    }

    let editor = world.role(role_id("Editor"));
    for at in 0..100 {
        let mut role = editor.clone();
        if at % 2 == 0 {
            role.permissions = world.role(role_id("Viewer")).permissions;
        }
        let held = ours.change(clock, |engine| engine.set_role(role));
        role_edits.note(0.0, held);
    }

    for _ in 0..2_000 {
        let mut principal = world.principals[dice.below(world.principals.len())].clone();
        for active in [false, true] {
            principal.active = active;
            let again = principal.clone();
            let held = ours.change(clock, |engine| engine.set_principal(again));
            states.note(0.0, held);
        }
    }

    for (at, answer) in before.iter().enumerate() {
        let request = &world.requests[at];
        assert_eq!(*answer, ours.decide(request), "all was undone: {request:?}");
    }

    let held = ours.change(clock, |engine| engine.remove_group(world.biggest_group));
    group_deleted.note(0.0, held);
    ours.refresh(clock, refreshed);

    for _ in 0..100_000 {
        let who = dice.below(world.principals.len()) as i64 + 1;
        let workspace = WorkspaceId(dice.below(world.workspaces as usize) as i64 + 1);
        let assignment = next.assignment(Holder::Principal(PrincipalId(who)), workspace);
        let held = ours.change(clock, |engine| engine.set_assignment(assignment));
        more.note(0.0, held);
    }
    let first = world.principals.len() as i64 + 1;
    for at in 0..20_000 {
        let template = &world.principals[dice.below(world.principals.len())];
        let principal = Principal {
            id: PrincipalId(first + at),
            name: format!("user-{}", first + at),
            ..template.clone()
        };
        let held = ours.change(clock, |engine| engine.set_principal(principal));
        users.note(0.0, held);
    }
    for at in 0..20_000 {
        let held = ours.change(clock, |engine| engine.add_members(empty, &[PrincipalId(first + at)]));
        joining.note(0.0, held);
    }
    (kinds, while_stale)
}

/// Ids for new assignments, as a database gives them.
struct Next(i64);

impl Next {
    fn assignment(&mut self, holder: Holder, workspace: WorkspaceId) -> Assignment {
        self.0 += 1;
        Assignment {
            id: AssignmentId(self.0),
            holder,
            role: role_id("Viewer"),
            scope: Scope::Workspace(workspace),
            expires: None,
        }
    }
}

/// Somebody, or one of these, and a workspace that it may not read.
fn outsider(world: &World, ours: &Ours, dice: &mut Dice, among: Option<&[PrincipalId]>) -> (PrincipalId, WorkspaceId) {
    loop {
        let who = match among {
            Some(list) => dice.of(list),
            None => PrincipalId(dice.below(world.principals.len()) as i64 + 1),
        };
        let workspace = WorkspaceId(dice.below(world.workspaces as usize) as i64 + 1);
        if !ours.may_read(who, workspace) {
            return (who, workspace);
        }
    }
}

/// A change, and the first decision that shows it.
fn in_force(
    ours: &Ours,
    clock: &Clock,
    kind: &mut Kind,
    who: PrincipalId,
    workspace: WorkspaceId,
    allowed: bool,
    change: impl FnOnce(&mut Engine),
) {
    let from = ticks();
    let held = ours.change(clock, change);
    let answer = ours.may_read(who, workspace);
    let to = ticks();
    assert_eq!(
        answer, allowed,
        "the change is in force at once, for user {who} at workspace {workspace}"
    );
    kind.note(clock.ns(from, to), held);
}

use bailiwick_api::permission::BUILT_IN_ROLES;
use bailiwick_api::server::AccessMode;
use proptest::prelude::*;

use super::*;

const USERS: GroupId = GroupId(1);

fn roles() -> Vec<Role> {
    let numbered = BUILT_IN_ROLES.iter().zip(1..);
    numbered
        .map(|(role, id)| Role {
            id: RoleId(id),
            name: role.name.into(),
            permissions: role.permissions(),
            administrative: role.administrative,
        })
        .collect()
}

fn role_id(name: &str) -> RoleId {
    RoleId(BUILT_IN_ROLES.iter().position(|role| role.name == name).unwrap() as i64 + 1)
}

fn person(id: i64, groups: &[i64]) -> Principal {
    Principal {
        id: PrincipalId(id),
        name: format!("user{id}"),
        active: true,
        groups: std::iter::once(USERS)
            .chain(groups.iter().map(|group| GroupId(*group)))
            .collect(),
        own_roles_only: false,
        is_service: false,
    }
}

fn give(id: i64, holder: Holder, role: &str, scope: Scope) -> Assignment {
    Assignment {
        id: AssignmentId(id),
        holder,
        role: role_id(role),
        scope,
        expires: None,
    }
}

fn experiment(id: i64, workspace: i64, project: i64, owner: i64) -> Target {
    Target {
        workspace: Some(WorkspaceId(workspace)),
        project: Some(ProjectId(project)),
        object: Some((ObjectKind::Experiment, id)),
        owner: Some(PrincipalId(owner)),
    }
}

fn may(world: &World, who: i64, permission: Permission, target: &Target) -> bool {
    world.decide(PrincipalId(who), None, permission, target, 0).is_some()
}

#[test]
fn a_data_scientist_sees_and_stops_only_what_is_her_own() {
    let everybody = give(
        1,
        Holder::Group(USERS),
        "DataScientist",
        Scope::Workspace(WorkspaceId(1)),
    );
    let world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[]), person(2, &[])],
        roles(),
        [everybody],
    );
    let (own, others, elsewhere) = (experiment(1, 1, 1, 1), experiment(2, 1, 1, 2), experiment(3, 2, 2, 1));
    assert!(may(&world, 1, Permission::ExperimentsRead, &own));
    assert!(may(&world, 1, Permission::ExperimentsUpdate, &own));
    assert!(!may(&world, 1, Permission::ExperimentsRead, &others));
    assert!(!may(&world, 1, Permission::ExperimentsRead, &elsewhere));
    assert!(may(
        &world,
        1,
        Permission::ExperimentsCreate,
        &Target::workspace(WorkspaceId(1))
    ));
    assert!(!may(
        &world,
        1,
        Permission::ExperimentsCreate,
        &Target::workspace(WorkspaceId(2))
    ));
}

#[test]
fn who_was_created_with_a_role_holds_that_one_instead_of_what_everybody_holds() {
    let everybody = give(
        1,
        Holder::Group(USERS),
        "DataScientist",
        Scope::Workspace(WorkspaceId(1)),
    );
    let viewer = give(
        2,
        Holder::Principal(PrincipalId(1)),
        "OwnViewer",
        Scope::Workspace(WorkspaceId(1)),
    );
    let vic = Principal {
        own_roles_only: true,
        ..person(1, &[])
    };
    let world = World::new(AccessMode::Rbac, USERS, [vic], roles(), [everybody, viewer]);
    assert!(!may(
        &world,
        1,
        Permission::ExperimentsCreate,
        &Target::workspace(WorkspaceId(1))
    ));
    assert!(may(&world, 1, Permission::ExperimentsRead, &experiment(1, 1, 1, 1)));
    assert!(!may(&world, 1, Permission::ExperimentsUpdate, &experiment(1, 1, 1, 1)));
}

#[test]
fn an_assignment_ends_at_its_moment_and_a_deactivated_principal_may_nothing() {
    let until = Assignment {
        expires: Some(100),
        ..give(1, Holder::Principal(PrincipalId(1)), "Viewer", Scope::Global)
    };
    let admin = give(2, Holder::Principal(PrincipalId(2)), "ClusterAdmin", Scope::Global);
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [until]);
    let target = experiment(1, 1, 1, 9);
    let at = |now| {
        world
            .decide(PrincipalId(1), None, Permission::ExperimentsRead, &target, now)
            .is_some()
    };
    assert!(at(99) && !at(100));
    let listed = |now| {
        world
            .visible(
                PrincipalId(1),
                None,
                Permission::ExperimentsRead,
                ObjectKind::Experiment,
                now,
            )
            .all
    };
    assert!(listed(99) && !listed(100));
    let everybody = Assignment {
        holder: Holder::Group(USERS),
        ..until
    };
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [everybody]);
    let of_everybody = |now| {
        let visible = world.visible(
            PrincipalId(1),
            None,
            Permission::ExperimentsRead,
            ObjectKind::Experiment,
            now,
        );
        let decided = world.decide(PrincipalId(1), None, Permission::ExperimentsRead, &target, now);
        assert_eq!(visible.all, decided.is_some());
        visible.all
    };
    assert!(of_everybody(99) && !of_everybody(100));
    let gone = Principal {
        active: false,
        ..person(2, &[])
    };
    let world = World::new(AccessMode::Rbac, USERS, [gone], roles(), [admin]);
    assert!(!may(&world, 2, Permission::ExperimentsRead, &target));
}

#[test]
fn principals_are_listed_by_their_ids_however_far_apart_and_members_once_and_in_order() {
    let far = 3_000_000;
    let people = [person(far, &[4]), person(2, &[4, 4]), person(70_000, &[])];
    let world = World::new(AccessMode::Basic, USERS, people, roles(), []);
    let all: Vec<i64> = world.principals().map(|who| who.0).collect();
    assert_eq!(all, [2, 70_000, far]);
    assert_eq!(world.members_of(GroupId(4)), [PrincipalId(2), PrincipalId(far)]);
    assert_eq!(world.in_mode(AccessMode::Rbac).mode(), AccessMode::Rbac);
}

#[test]
fn what_everybody_holds_in_very_many_workspaces_is_found_in_each() {
    let everywhere = (1..=300).map(|id| give(id, Holder::Group(USERS), "Viewer", Scope::Workspace(WorkspaceId(id))));
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), everywhere);
    let reads = |id| {
        may(
            &world,
            1,
            Permission::WorkspacesRead,
            &Target::workspace(WorkspaceId(id)),
        )
    };
    assert!((1..=300).all(reads));
    assert!(!(301..=600).any(reads));
}

#[test]
fn a_service_account_holds_nothing_of_what_everybody_holds() {
    let creator = give(1, Holder::Group(USERS), "TokenCreator", Scope::Global);
    let kinds = [(true, false), (true, true), (false, false)];
    let people = kinds
        .into_iter()
        .zip(1..)
        .map(|((own_roles_only, is_service), id)| Principal {
            own_roles_only,
            is_service,
            ..person(id, &[])
        });
    let world = World::new(AccessMode::Rbac, USERS, people, roles(), [creator]);
    let makes_keys = |who| {
        may(
            &world,
            who,
            Permission::TokensCreate,
            &Target::owned_by(PrincipalId(who)),
        )
    };
    assert!(makes_keys(1) && !makes_keys(2) && makes_keys(3));
}

#[test]
fn whoever_comes_goes_and_is_given_something_keeps_what_comes_through_groups() {
    let team = give(1, Holder::Group(GroupId(4)), "Viewer", Scope::Workspace(WorkspaceId(1)));
    let mut world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [team]);
    let reads = |world: &World, who| may(world, who, Permission::ExperimentsRead, &experiment(1, 1, 1, 9));
    world.set_principal(person(5, &[4]));
    assert!(reads(&world, 5));
    assert_eq!(world.members_of(GroupId(4)), [PrincipalId(5)]);
    let editor = give(
        2,
        Holder::Principal(PrincipalId(5)),
        "Editor",
        Scope::Workspace(WorkspaceId(1)),
    );
    world.set_assignment(editor);
    assert!(may(&world, 5, Permission::ExperimentsUpdate, &experiment(1, 1, 1, 9)));
    world.remove_assignment(AssignmentId(2));
    assert!(reads(&world, 5));
    world.set_principal(person(1, &[4]));
    world.set_principal(person(5, &[]));
    assert!(reads(&world, 1) && !reads(&world, 5));
    assert_eq!(world.members_of(GroupId(4)), [PrincipalId(1)]);
}

#[test]
fn of_a_role_below_global_scope_counts_what_may_be_assigned_there() {
    let role = RolePermissions::parse(["users:read", "experiments:read", "experiments:update:own"]).unwrap();
    assert_eq!(Scope::Global.counts(role), role);
    let below = RolePermissions::parse(["experiments:read", "experiments:update:own"]).unwrap();
    for scope in [
        Scope::Workspace(WorkspaceId(1)),
        Scope::Project(ProjectId(1)),
        Scope::Object(ObjectKind::Queue, 1),
    ] {
        assert_eq!(scope.counts(role), below, "{scope:?}");
    }
}

#[test]
fn a_global_permission_counts_only_globally() {
    let at_workspace = give(
        1,
        Holder::Principal(PrincipalId(1)),
        "ClusterAdmin",
        Scope::Workspace(WorkspaceId(1)),
    );
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [at_workspace]);
    assert!(may(&world, 1, Permission::ExperimentsRead, &experiment(1, 1, 1, 9)));
    assert!(!may(
        &world,
        1,
        Permission::UsersCreate,
        &Target::workspace(WorkspaceId(1))
    ));
}

#[test]
fn the_modes_off_and_basic_do_without_roles() {
    let viewer = give(1, Holder::Principal(PrincipalId(1)), "Viewer", Scope::Global);
    let admin = give(2, Holder::Principal(PrincipalId(2)), "ClusterAdmin", Scope::Global);
    let world = |mode| World::new(mode, USERS, [person(1, &[]), person(2, &[])], roles(), [viewer, admin]);
    let (own, others) = (experiment(1, 1, 1, 1), experiment(2, 1, 1, 2));
    let off = world(AccessMode::Off);
    assert!(
        may(&off, 1, Permission::UsersDelete, &Target::default())
            && may(&off, 1, Permission::ExperimentsUpdate, &others)
    );
    let basic = world(AccessMode::Basic);
    assert!(
        may(&basic, 1, Permission::ExperimentsUpdate, &own) && !may(&basic, 1, Permission::ExperimentsRead, &others)
    );
    assert!(
        may(&basic, 2, Permission::ExperimentsUpdate, &own)
            && !may(&basic, 1, Permission::UsersRead, &Target::default())
    );
}

#[test]
fn a_right_that_is_not_administrative_is_named_first() {
    let admin = give(1, Holder::Principal(PrincipalId(1)), "ClusterAdmin", Scope::Global);
    let own = give(
        2,
        Holder::Principal(PrincipalId(1)),
        "DataScientist",
        Scope::Workspace(WorkspaceId(1)),
    );
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [admin, own]);
    let basis = |target| {
        world
            .decide(PrincipalId(1), None, Permission::ExperimentsRead, &target, 0)
            .unwrap()
    };
    assert!(!basis(experiment(1, 1, 1, 1)).administrative);
    assert!(basis(experiment(2, 1, 1, 2)).administrative);
}

#[test]
fn nobody_hands_out_more_than_he_holds() {
    let lead = give(
        1,
        Holder::Principal(PrincipalId(1)),
        "WorkspaceAdmin",
        Scope::Workspace(WorkspaceId(1)),
    );
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [lead]);
    let missing = |role: &str, workspace| {
        let permissions = world.role(role_id(role)).unwrap().permissions;
        world.missing_to_grant(
            PrincipalId(1),
            None,
            permissions,
            &Target::workspace(WorkspaceId(workspace)),
            0,
        )
    };
    assert_eq!(missing("Editor", 1), None);
    assert_eq!(missing("DataScientist", 1), None);
    assert_eq!(missing("Editor", 2), Some(Permission::RolesAssign));
    assert_eq!(missing("ClusterAdmin", 1), Some(Permission::WorkspacesCreate));
}

fn at_workspace(id: i64, holder: Holder, role: &str, workspace: i64) -> Assignment {
    give(id, holder, role, Scope::Workspace(WorkspaceId(workspace)))
}

fn someone(id: i64) -> Holder {
    Holder::Principal(PrincipalId(id))
}

fn ids<'a>(list: impl Iterator<Item = &'a Assignment>) -> Vec<i64> {
    list.map(|one| one.id.0).collect()
}

#[test]
fn an_explanation_names_each_reason_and_each_near_miss() {
    let team = Holder::Group(GroupId(2));
    let until = |end, one| Assignment {
        expires: Some(end),
        ..one
    };
    let project = Scope::Project(ProjectId(1));
    let assignments = [
        at_workspace(1, team, "Viewer", 1),
        give(2, someone(1), "ClusterAdmin", Scope::Global),
        give(3, someone(1), "OwnViewer", project),
        until(5, give(4, someone(1), "Reader", project)),
        at_workspace(5, team, "Viewer", 7),
        at_workspace(6, Holder::Group(USERS), "Viewer", 1),
        at_workspace(7, someone(1), "WorkspaceCreator", 1),
        at_workspace(8, someone(2), "Viewer", 1),
    ];
    let vic = Principal {
        own_roles_only: true,
        ..person(1, &[2])
    };
    let explain = |mode, permission| {
        let world = World::new(mode, USERS, [vic.clone(), person(2, &[])], roles(), assignments);
        world.explain(PrincipalId(1), None, permission, &experiment(1, 1, 1, 9), 5)
    };
    let told = |explanation: &Explanation| -> Vec<(i64, Why)> {
        let near = explanation.near.iter();
        near.map(|miss| (miss.reason.assignment.0, miss.why)).collect()
    };
    let read = explain(AccessMode::Rbac, Permission::ExperimentsRead);
    assert!(read.allowed && !read.by_mode && !read.inactive && read.stopped_by.is_none());
    let reasons: Vec<_> = read
        .reasons
        .iter()
        .map(|one| (one.assignment.0, one.group, one.administrative))
        .collect();
    assert_eq!(reasons, [(2, None, true), (1, Some(GroupId(2)), false)]);
    assert_eq!(
        told(&read),
        [
            (3, Why::NotOwned),
            (4, Why::Expired),
            (5, Why::Elsewhere(Scope::Workspace(WorkspaceId(7)))),
            (6, Why::LeftOutByOwnRolesOnly),
        ]
    );
    let create = explain(AccessMode::Rbac, Permission::WorkspacesCreate);
    assert_eq!(told(&create), [(7, Why::GlobalOnly)]);
    let basic = explain(AccessMode::Basic, Permission::ExperimentsRead);
    assert_eq!(ids_of(&basic.reasons), [2]);
    assert!(told(&basic).contains(&(1, Why::ModeIgnoresIt)));
    let world = World::new(AccessMode::Basic, USERS, [person(2, &[])], roles(), []);
    let by_mode = world.explain(
        PrincipalId(2),
        None,
        Permission::ExperimentsRead,
        &experiment(1, 1, 1, 2),
        0,
    );
    assert!(by_mode.allowed && by_mode.by_mode && by_mode.reasons.is_empty());
    let nobody = world.explain(
        PrincipalId(77),
        None,
        Permission::ExperimentsRead,
        &experiment(1, 1, 1, 77),
        0,
    );
    assert!(nobody.inactive && !nobody.allowed);
}

fn ids_of(reasons: &[Reason]) -> Vec<i64> {
    reasons.iter().map(|one| one.assignment.0).collect()
}

#[test]
fn an_explanation_tells_the_nearest_twenty_misses() {
    let elsewhere = (1..=30).map(|id| at_workspace(id, someone(1), "Viewer", id + 1));
    let own = at_workspace(31, someone(1), "OwnViewer", 1);
    let world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[])],
        roles(),
        elsewhere.chain([own]),
    );
    let near = world
        .explain(
            PrincipalId(1),
            None,
            Permission::ExperimentsRead,
            &experiment(1, 1, 1, 9),
            0,
        )
        .near;
    assert_eq!((near.len(), near[0].why), (NEAR_MISSES, Why::NotOwned));
}

#[test]
fn who_can_names_everybody_with_every_reason() {
    let admin = give(1, someone(3), "ClusterAdmin", Scope::Global);
    let team = at_workspace(2, Holder::Group(GroupId(2)), "Viewer", 1);
    let own = at_workspace(3, someone(4), "OwnViewer", 1);
    let people = || {
        let gone = Principal {
            active: false,
            ..person(5, &[2])
        };
        [person(1, &[2]), person(2, &[]), person(3, &[2]), person(4, &[]), gone]
    };
    let told = |mode| -> Vec<(i64, bool, Vec<i64>)> {
        let world = World::new(mode, USERS, people(), roles(), [admin, team, own]);
        let told = world.who_can(Permission::ExperimentsRead, &experiment(1, 1, 1, 4), 0);
        told.iter()
            .map(|one| (one.who.0, one.by_mode, ids_of(&one.reasons)))
            .collect()
    };
    assert_eq!(
        told(AccessMode::Rbac),
        [(1, false, vec![2]), (3, false, vec![1, 2]), (4, false, vec![3])]
    );
    assert_eq!(told(AccessMode::Shadow), [(3, false, vec![1]), (4, true, vec![])]);
    assert_eq!(told(AccessMode::Off).len(), 4);
}

#[test]
fn what_can_says_per_scope_what_counts_and_a_narrowed_token_stays_in_its_workspaces() {
    let assignments = [
        give(1, someone(1), "TokenCreator", Scope::Global),
        at_workspace(2, someone(1), "ModelRegistryViewer", 1),
        at_workspace(3, someone(1), "ModelRegistryViewer", 2),
    ];
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), assignments);
    let words = |narrowing: Option<&Narrowing>| -> Vec<(Scope, String)> {
        let told = world.what_can(PrincipalId(1), narrowing, 0).into_iter();
        told.map(|(scope, held)| (scope, held.words().join(" "))).collect()
    };
    let workspace = |id| Scope::Workspace(WorkspaceId(id));
    let tokens = "tokens:create:own tokens:read:own tokens:revoke:own";
    assert_eq!(
        words(None),
        [
            (Scope::Global, tokens.into()),
            (workspace(1), "models:read".into()),
            (workspace(2), "models:read".into())
        ]
    );
    let narrowing = Narrowing {
        permissions: PermissionSet::of(Permission::ModelsRead).union(PermissionSet::of(Permission::TokensRead)),
        workspaces: Some(vec![WorkspaceId(2)]),
        object: None,
        job: None,
    };
    assert_eq!(
        words(Some(&narrowing)),
        [(workspace(2), "models:read tokens:read:own".into())]
    );
}

#[test]
fn a_difference_says_what_is_gained_and_lost_and_says_it_once() {
    let before = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[]), person(2, &[])],
        roles(),
        [
            at_workspace(1, someone(1), "OwnViewer", 1),
            at_workspace(2, someone(1), "ModelRegistryViewer", 2),
        ],
    );
    let mut after = before.clone();
    after.set_assignment(give(1, someone(1), "ModelRegistryViewer", Scope::Global));
    let told = difference(&before, &after, before.principals(), 0);
    let words: Vec<_> = told
        .iter()
        .map(|one| {
            (
                one.who.0,
                one.scope,
                one.gained.words().join(" "),
                one.lost.words().join(" "),
            )
        })
        .collect();
    assert_eq!(
        words,
        [
            (1, Scope::Global, "models:read".into(), String::new()),
            (
                1,
                Scope::Workspace(WorkspaceId(1)),
                String::new(),
                "workspaces:read projects:read experiments:read:own experiments:read-artifacts:own".into()
            )
        ]
    );
}

#[test]
fn a_change_of_a_large_group_holds_at_once_and_is_taken_into_the_rows_bit_by_bit() {
    let people = (1..=300).map(|id| person(id, &[]));
    let viewer = at_workspace(1, Holder::Group(GroupId(2)), "Viewer", 1);
    let mut world = World::new(AccessMode::Rbac, USERS, people, roles(), [viewer]);
    let many: Vec<PrincipalId> = (1..=200).map(PrincipalId).collect();
    let target = experiment(1, 1, 1, 999);
    let reads = |world: &World| {
        (1..=300)
            .filter(|id| may(world, *id, Permission::ExperimentsRead, &target))
            .count()
    };
    assert_eq!(world.refresh(10, 0), 0);
    world.add_members(GroupId(2), &many);
    assert_eq!(reads(&world), 200);
    assert_eq!(world.members_of(GroupId(2)), many);
    assert_eq!(*world.groups_of(PrincipalId(7)), [USERS, GroupId(2)]);
    assert_eq!(world.refresh(150, 0), 50);
    assert_eq!(reads(&world), 200);
    // What is said again of those whose rows know of it is not counted for those whose rows do not.
    for id in 1..=60 {
        world.set_principal(person(id, &[2]));
        world.set_principal(person(id, &[2]));
    }
    assert_eq!(reads(&world), 200);
    // One leaves, and many: some rows know of their joining and some do not.
    world.remove_members(GroupId(2), &[PrincipalId(200), PrincipalId(300)]);
    world.remove_members(GroupId(2), &many[100..199]);
    assert_eq!(reads(&world), 100);
    assert_eq!(world.members_of(GroupId(2)), &many[..100]);
    assert_eq!(*world.groups_of(PrincipalId(199)), [USERS]);
    while world.refresh(7, 0) > 0 {
        assert_eq!(reads(&world), 100);
    }
    assert_eq!(*world.groups_of(PrincipalId(150)), [USERS]);
    // Strangers are passed over.
    world.add_members(GroupId(2), &[PrincipalId(4000)]);
    assert_eq!(world.members_of(GroupId(2)).len(), 100);
    world.remove_group(GroupId(2));
    assert_eq!(reads(&world), 0);
    assert!(world.members_of(GroupId(2)).is_empty() && world.assignment(AssignmentId(1)).is_none());
    while world.refresh(7, 0) > 0 {}
    assert_eq!(*world.groups_of(PrincipalId(1)), [USERS]);
    assert_eq!(world.waiting_moves(), 0);
    assert!(world.heads_agree());
}

#[test]
fn rows_that_expire_are_announced_and_rebuilt() {
    let until = |id, holder, end| Assignment {
        expires: Some(end),
        ..at_workspace(id, holder, "Viewer", id)
    };
    let mut world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[]), person(2, &[])],
        roles(),
        [
            until(1, someone(1), 30),
            until(2, someone(2), 20),
            until(3, someone(1), 40),
        ],
    );
    assert_eq!(world.next_expiry(), Some(20));
    world.set_assignment(until(4, Holder::Group(USERS), 10));
    assert_eq!(world.next_expiry(), Some(10));
    assert_eq!(world.refresh(9, 10), 0);
    assert_eq!(world.next_expiry(), Some(20));
    assert_eq!(world.refresh(1, 30), 1);
    assert_eq!(world.refresh(1, 30), 0);
    assert_eq!(world.next_expiry(), Some(40));
    // What a refresh has found expired does not come back when a clock goes backwards.
    assert!(!may(&world, 2, Permission::ExperimentsRead, &experiment(1, 2, 2, 9)));
    assert!(may(&world, 1, Permission::ExperimentsRead, &experiment(1, 3, 3, 9)));
    // Nor what it has found so and not yet rebuilt.
    assert_eq!(world.refresh(0, 40), 1);
    assert!(!may(&world, 1, Permission::ExperimentsRead, &experiment(1, 3, 3, 9)));
    world.remove_assignment(AssignmentId(3));
    assert_eq!(world.refresh(9, 99), 0);
    assert_eq!(world.next_expiry(), None);
}

#[test]
fn assignments_are_found_by_holder_scope_and_role() {
    let project = Scope::Project(ProjectId(4));
    let share = Scope::Object(ObjectKind::Experiment, 9);
    let mut world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[2])],
        roles(),
        [
            at_workspace(1, someone(1), "Viewer", 1),
            give(2, Holder::Group(GroupId(2)), "Editor", project),
            give(3, someone(1), "Reader", share),
        ],
    );
    world.set_assignment(give(4, someone(1), "Reader", Scope::Global));
    assert_eq!(ids(world.assignments()), [1, 2, 3, 4]);
    assert_eq!(ids(world.assignments_at(project)), [2]);
    assert_eq!(ids(world.assignments_at(share)), [3]);
    assert_eq!(ids(world.assignments_at(Scope::Global)), [4]);
    assert_eq!(ids(world.assignments_of_role(role_id("Reader"))), [3, 4]);
    assert_eq!(ids(world.assignments_held_by(someone(1))), [4, 1, 3]);
    assert_eq!(ids(world.assignments_held_by(Holder::Group(GroupId(2)))), [2]);
    let reach: Vec<_> = world
        .assignments_of(PrincipalId(1))
        .map(|one| (one.0.0, one.3))
        .collect();
    assert_eq!(reach, [(4, None), (1, None), (2, Some(GroupId(2))), (3, None)]);
    assert_eq!(world.roles().count(), BUILT_IN_ROLES.len());
    let state = world.principal(PrincipalId(1)).unwrap();
    assert!(state.active && !state.own_roles_only && !state.is_service && world.principal(PrincipalId(2)).is_none());
    assert_eq!(world.principals().collect::<Vec<_>>(), [PrincipalId(1)]);
    world.remove_assignment(AssignmentId(2));
    world.remove_role(role_id("Reader"));
    assert_eq!(ids(world.assignments_at(project)), [0; 0]);
    assert_eq!(world.assignments_of(PrincipalId(1)).count(), 1);
    assert!(world.role(role_id("Reader")).is_none());
}

#[test]
fn a_principal_with_a_thousand_places_holds_each_of_them() {
    let own = (1..=1000).map(|id| at_workspace(id, someone(1), "Viewer", id * 3));
    let mut world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), own);
    for id in 1001..=2000 {
        world.set_assignment(at_workspace(id, someone(1), "Editor", (id - 1000) * 3 + 1));
    }
    for id in (1..=2000).step_by(2) {
        world.remove_assignment(AssignmentId(id));
    }
    for workspace in 1..=3005 {
        let first = workspace % 3 == 0 && workspace <= 3000 && (workspace / 3) % 2 == 0;
        let second = workspace % 3 == 1 && (4..=3001).contains(&workspace) && (workspace / 3) % 2 == 0;
        let reads = may(
            &world,
            1,
            Permission::ExperimentsRead,
            &Target::workspace(WorkspaceId(workspace)),
        );
        assert_eq!(reads, first || second, "{workspace}");
    }
    let visible = world.visible(
        PrincipalId(1),
        None,
        Permission::ExperimentsRead,
        ObjectKind::Experiment,
        0,
    );
    assert_eq!(visible.workspaces.len(), 1000);
}

#[test]
fn ids_that_no_counter_gives_hold_nothing() {
    for id in [-1, i64::MIN, 1 << 31, i64::MAX] {
        let scopes = [
            Scope::Workspace(WorkspaceId(id)),
            Scope::Project(ProjectId(id)),
            Scope::Object(ObjectKind::Experiment, id),
        ];
        let mut world = World::new(AccessMode::Rbac, USERS, [person(1, &[]), person(id, &[])], roles(), []);
        for (at, scope) in (1..).zip(scopes) {
            world.set_assignment(give(at, someone(1), "Viewer", scope));
        }
        world.set_assignment(give(id, someone(1), "Viewer", Scope::Global));
        world.set_assignment(give(8, someone(id), "Viewer", Scope::Global));
        world.set_assignment(give(9, Holder::Group(GroupId(id)), "Viewer", Scope::Global));
        world.add_members(GroupId(id), &[PrincipalId(1)]);
        for who in [1, id] {
            assert!(!may(
                &world,
                who,
                Permission::ExperimentsRead,
                &experiment(id, id, id, 9)
            ));
        }
        assert!(ids(world.assignments()).is_empty() && !world.is_active(PrincipalId(id)));
    }
}

#[test]
fn to_give_away_in_other_ways_one_needs_the_permissions_and_not_the_right_to_assign() {
    let world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[])],
        roles(),
        [at_workspace(1, someone(1), "DataScientist", 1)],
    );
    let held = |words: &[&str], workspace| {
        let permissions = RolePermissions::parse(words.iter().copied()).unwrap();
        let target = Target::workspace(WorkspaceId(workspace));
        world.missing_to_hold(PrincipalId(1), None, permissions, &target, 0)
    };
    // What she owns there herself makes nothing of hers reach what others own.
    let hers = Target {
        owner: Some(PrincipalId(1)),
        ..Target::workspace(WorkspaceId(1))
    };
    let read = RolePermissions::parse(["experiments:read"]).unwrap();
    let missing = world.missing_to_hold(PrincipalId(1), None, read, &hers, 0);
    assert_eq!(missing, Some(Permission::ExperimentsRead));
    let own_roles = Role {
        id: RoleId(99),
        name: "assigns on her own".into(),
        permissions: RolePermissions::parse(["roles:assign:own"]).unwrap(),
        administrative: false,
    };
    let mut assigning = world.clone();
    assigning.set_role(own_roles);
    assigning.set_assignment(Assignment {
        role: RoleId(99),
        ..at_workspace(2, someone(1), "Viewer", 1)
    });
    let missing = assigning.missing_to_grant(PrincipalId(1), None, RolePermissions::default(), &hers, 0);
    assert_eq!(missing, Some(Permission::RolesAssign));
    assert_eq!(held(&["queues:submit", "experiments:read:own"], 1), None);
    assert_eq!(held(&["experiments:read"], 1), Some(Permission::ExperimentsRead));
    assert_eq!(held(&["models:delete:own"], 2), Some(Permission::ModelsDelete));
}

#[test]
fn what_belongs_to_nobody_else_is_reached_by_reach_own() {
    let token_creator = give(1, someone(1), "TokenCreator", Scope::Global);
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [token_creator]);
    let revokes = |owner| {
        may(
            &world,
            1,
            Permission::TokensRevoke,
            &Target::owned_by(PrincipalId(owner)),
        )
    };
    assert!(revokes(1) && !revokes(2));
}

#[test]
fn a_job_reaches_its_own_experiment_always_and_others_as_far_as_plain_roles_do() {
    let viewer = give(1, someone(1), "Viewer", Scope::Workspace(WorkspaceId(1)));
    let admin = give(2, someone(1), "ClusterAdmin", Scope::Global);
    let world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[]), person(2, &[])],
        roles(),
        [viewer, admin],
    );
    let job = Narrowing {
        permissions: PermissionSet::of(Permission::ExperimentsRead)
            .union(PermissionSet::of(Permission::ExperimentsUpdate)),
        workspaces: None,
        object: None,
        job: Some(Job {
            experiment: 3,
            beyond: PermissionSet::of(Permission::ExperimentsRead),
        }),
    };
    let may = |who, permission, id, workspace| {
        let target = experiment(id, workspace, workspace, 9);
        world
            .decide(PrincipalId(who), Some(&job), permission, &target, 0)
            .is_some()
    };
    // Its own, also where its principal holds nothing.
    for who in [1, 2] {
        assert!(may(who, Permission::ExperimentsRead, 3, 2) && may(who, Permission::ExperimentsUpdate, 3, 2));
        assert!(!may(who, Permission::ExperimentsDelete, 3, 2));
    }
    assert!(may(1, Permission::ExperimentsRead, 4, 1), "by the role Viewer");
    assert!(!may(1, Permission::ExperimentsUpdate, 4, 1) && !may(1, Permission::ExperimentsRead, 5, 2));
    assert!(!may(2, Permission::ExperimentsRead, 4, 1));
    let visible = |who, permission| world.visible(PrincipalId(who), Some(&job), permission, ObjectKind::Experiment, 0);
    let seen = visible(1, Permission::ExperimentsRead);
    assert_eq!(
        (seen.all, seen.workspaces, seen.objects),
        (false, vec![WorkspaceId(1)], vec![3])
    );
    let seen = visible(2, Permission::ExperimentsUpdate);
    assert_eq!((seen.all, seen.workspaces, seen.objects), (false, vec![], vec![3]));
}

#[test]
fn a_key_for_one_object_reaches_that_alone() {
    let viewer = give(1, someone(1), "Viewer", Scope::Global);
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), [viewer]);
    let job = Narrowing {
        permissions: PermissionSet::of(Permission::ExperimentsRead),
        workspaces: None,
        object: Some((ObjectKind::Experiment, 3)),
        job: None,
    };
    let stops = |permission, id| job.stops(permission, &experiment(id, 1, 1, 1));
    assert_eq!(stops(Permission::ExperimentsRead, 3), None);
    assert_eq!(stops(Permission::ExperimentsRead, 4), Some(Narrowed::Object));
    assert_eq!(stops(Permission::ExperimentsUpdate, 3), Some(Narrowed::Permissions));
    let reads = |id| {
        world.decide(
            PrincipalId(1),
            Some(&job),
            Permission::ExperimentsRead,
            &experiment(id, 1, 1, 1),
            0,
        )
    };
    assert!(reads(3).is_some() && reads(4).is_none());
}

#[test]
fn roles_held_together_at_one_place_come_and_go_one_by_one() {
    let mut world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), []);
    let holds = |world: &World| {
        let at = Target::workspace(WorkspaceId(1));
        let may = |permission| may(world, 1, permission, &at);
        (
            may(Permission::ModelsRead),
            may(Permission::QueuesServe),
            may(Permission::TokensRead),
        )
    };
    world.set_assignment(at_workspace(1, someone(1), "ModelRegistryViewer", 1));
    assert_eq!(holds(&world), (true, false, false));
    world.set_assignment(at_workspace(2, someone(1), "QueueAdmin", 1));
    assert_eq!(holds(&world), (true, true, false));
    world.remove_assignment(AssignmentId(1));
    assert_eq!(holds(&world), (false, true, false));
    world.remove_assignment(AssignmentId(2));
    assert_eq!(holds(&world), (false, false, false));
}

#[test]
fn a_use_is_administrative_only_where_nothing_else_allows_it() {
    let places = [
        Scope::Global,
        Scope::Workspace(WorkspaceId(1)),
        Scope::Project(ProjectId(1)),
        Scope::Object(ObjectKind::Experiment, 1),
    ];
    for (group, place) in [false, true]
        .into_iter()
        .flat_map(|group| places.map(|place| (group, place)))
    {
        let holder = if group { Holder::Group(USERS) } else { someone(1) };
        let mut world = World::new(AccessMode::Rbac, USERS, [person(1, &[2])], roles(), []);
        let basis = |world: &World| {
            let target = experiment(1, 1, 1, 9);
            let basis = world.decide(PrincipalId(1), None, Permission::ExperimentsRead, &target, 0);
            basis.map(|basis| basis.administrative)
        };
        world.set_assignment(give(1, holder, "WorkspaceAdmin", place));
        assert_eq!(basis(&world), Some(true), "{place:?}");
        for other in places {
            // Through a group, so that the row is stale first and good afterwards.
            world.set_assignment(give(2, Holder::Group(GroupId(2)), "Viewer", other));
            assert_eq!(basis(&world), Some(false), "{place:?} {other:?}");
            world.refresh(9, 0);
            assert_eq!(basis(&world), Some(false), "{place:?} {other:?}");
        }
        world.remove_assignment(AssignmentId(2));
        assert_eq!(basis(&world), Some(true), "{place:?}");
        world.remove_assignment(AssignmentId(1));
        assert_eq!(basis(&world), None, "{place:?}");
    }
}

#[test]
fn several_assignments_that_give_the_same_give_it() {
    let project = Scope::Project(ProjectId(1));
    let workspace = Scope::Workspace(WorkspaceId(1));
    let (team, users) = (Holder::Group(GroupId(2)), Holder::Group(USERS));
    let all = [
        give(1, someone(1), "Viewer", project),
        give(2, someone(1), "OwnViewer", project),
        give(3, team, "Viewer", project),
        give(4, users, "Viewer", Scope::Global),
        give(5, users, "Viewer", project),
        give(6, users, "OwnViewer", workspace),
        give(7, someone(1), "Viewer", workspace),
        give(8, someone(1), "Viewer", Scope::Global),
        give(9, users, "WorkspaceAdmin", project),
    ];
    // Every choice of them, loaded whole and put in one by one.
    for choice in 0..1 << all.len() {
        let some: Vec<_> = (0..all.len())
            .filter(|at| choice >> at & 1 == 1)
            .map(|at| all[at])
            .collect();
        let whole = World::new(AccessMode::Rbac, USERS, [person(1, &[2])], roles(), some.clone());
        let mut grown = World::new(AccessMode::Rbac, USERS, [person(1, &[2])], roles(), []);
        some.iter().for_each(|one| grown.set_assignment(*one));
        let holds = |name: &str| some.iter().any(|one| one.role == role_id(name));
        let others = holds("Viewer") || holds("WorkspaceAdmin");
        for _ in 0..2 {
            for world in [&whole, &grown] {
                let reads = |owner| may(world, 1, Permission::ExperimentsRead, &experiment(1, 1, 1, owner));
                assert_eq!((reads(9), reads(1)), (others, others || holds("OwnViewer")), "{some:?}");
                assert_eq!(
                    reads(1),
                    !world
                        .who_can(Permission::ExperimentsRead, &experiment(1, 1, 1, 1), 0)
                        .is_empty()
                );
            }
            grown.refresh(9, 0);
        }
    }
}

#[test]
fn an_assignment_that_moves_leaves_nothing_behind() {
    let scopes = [
        Scope::Global,
        Scope::Workspace(WorkspaceId(1)),
        Scope::Project(ProjectId(1)),
        Scope::Object(ObjectKind::Experiment, 100),
        Scope::Object(ObjectKind::Experiment, 101),
        Scope::Object(ObjectKind::Queue, 100),
    ];
    let mut world = World::new(AccessMode::Rbac, USERS, [person(1, &[]), person(2, &[])], roles(), []);
    for from in scopes {
        for to in scopes {
            for (who, role) in [(1, "Viewer"), (2, "ModelRegistryViewer")] {
                world.set_assignment(give(1, someone(1), "Viewer", from));
                world.set_assignment(give(1, someone(who), role, to));
                let reads = |id| {
                    let target = experiment(id, 1, 1, 9);
                    let decided = may(&world, 1, Permission::ExperimentsRead, &target);
                    let list = world.visible(
                        PrincipalId(1),
                        None,
                        Permission::ExperimentsRead,
                        ObjectKind::Experiment,
                        0,
                    );
                    assert_eq!(shows(&list, &target, PrincipalId(1)), decided);
                    decided
                };
                let above = matches!(to, Scope::Global | Scope::Workspace(_) | Scope::Project(_));
                let at = |id| who == 1 && (above || to == Scope::Object(ObjectKind::Experiment, id));
                assert_eq!((reads(100), reads(101)), (at(100), at(101)), "{from:?} {to:?} {role}");
                let lists = |who| {
                    world.visible(
                        PrincipalId(who),
                        None,
                        Permission::ExperimentsRead,
                        ObjectKind::Experiment,
                        0,
                    )
                };
                assert!(
                    who == 1 || (lists(1).is_nothing() && lists(2).is_nothing()),
                    "{from:?} {to:?} {role}"
                );
            }
        }
    }
}

#[test]
fn who_can_leaves_out_whom_everybodys_assignment_does_not_reach() {
    let everybody = at_workspace(1, Holder::Group(USERS), "Viewer", 1);
    let vic = Principal {
        own_roles_only: true,
        ..person(2, &[])
    };
    let world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[]), vic, person(3, &[])],
        roles(),
        [everybody],
    );
    let told = world.who_can(Permission::ExperimentsRead, &experiment(1, 1, 1, 9), 0);
    assert_eq!(told.iter().map(|one| one.who.0).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn shares_of_neighbouring_objects_do_not_touch_each_other() {
    let share = |id, object| give(id, someone(1), "Reader", Scope::Object(ObjectKind::Experiment, object));
    let mut world = World::new(
        AccessMode::Rbac,
        USERS,
        [person(1, &[])],
        roles(),
        (1..=200).map(|id| share(id, id)),
    );
    world.set_assignment(share(1000, 7));
    for id in (1..=200).step_by(3) {
        world.remove_assignment(AssignmentId(id));
    }
    for id in 1..=200 {
        let left = id % 3 != 1 || id == 7;
        assert_eq!(
            may(&world, 1, Permission::ExperimentsRead, &experiment(id, 1, 1, 9)),
            left,
            "{id}"
        );
    }
}

#[test]
fn who_leaves_or_joins_everybody_loses_or_gains_what_everybody_holds() {
    let everybody = at_workspace(1, Holder::Group(USERS), "Viewer", 1);
    let mut world = World::new(
        AccessMode::Rbac,
        USERS,
        (1..=30).map(|id| person(id, &[])),
        roles(),
        [everybody],
    );
    let many: Vec<PrincipalId> = (1..=20).map(PrincipalId).collect();
    let reads = |world: &World| {
        (1..=30)
            .filter(|id| may(world, *id, Permission::ExperimentsRead, &experiment(1, 1, 1, 99)))
            .count()
    };
    world.remove_members(USERS, &many);
    assert_eq!(reads(&world), 10);
    world.add_members(USERS, &many[..15]);
    assert_eq!(reads(&world), 25);
    let told = world.explain(
        PrincipalId(20),
        None,
        Permission::ExperimentsRead,
        &experiment(1, 1, 1, 99),
        0,
    );
    assert!(!told.allowed && told.reasons.is_empty());
    let told = world.explain(
        PrincipalId(2),
        None,
        Permission::ExperimentsRead,
        &experiment(1, 1, 1, 99),
        0,
    );
    assert_eq!(ids_of(&told.reasons), [1]);
}

#[test]
fn an_agent_serves_its_queue_in_every_mode_and_changes_none() {
    let agent = Principal {
        is_service: true,
        ..person(1, &[])
    };
    let at_queue = give(1, someone(1), "QueueAdmin", Scope::Object(ObjectKind::Queue, 5));
    for mode in [AccessMode::Rbac, AccessMode::Basic, AccessMode::Shadow] {
        let world = World::new(mode, USERS, [agent.clone()], roles(), [at_queue]);
        let may_at = |permission, id| {
            let queue = Target {
                object: Some((ObjectKind::Queue, id)),
                ..Target::default()
            };
            may(&world, 1, permission, &queue)
        };
        assert!(may_at(Permission::QueuesServe, 5) && !may_at(Permission::QueuesServe, 6));
        assert!(!may_at(Permission::QueuesUpdate, 5));
        let listed = world.visible(PrincipalId(1), None, Permission::QueuesServe, ObjectKind::Queue, 0);
        assert_eq!(listed.objects, [5]);
        let held = world.what_can(PrincipalId(1), None, 0);
        let expected = RolePermissions::parse(["queues:read", "queues:submit", "queues:serve"]).unwrap();
        assert_eq!(held, [(Scope::Object(ObjectKind::Queue, 5), expected)]);
    }
}

#[test]
fn a_list_says_each_thing_once_and_only_what_it_adds() {
    let own = [
        at_workspace(1, someone(1), "Viewer", 1),
        at_workspace(2, someone(1), "OwnViewer", 1),
        at_workspace(3, Holder::Group(GroupId(2)), "Viewer", 1),
        at_workspace(4, someone(1), "OwnViewer", 2),
        give(5, someone(1), "OwnViewer", Scope::Project(ProjectId(3))),
        give(6, someone(1), "Reader", Scope::Object(ObjectKind::Experiment, 7)),
        give(7, someone(1), "Reader", Scope::Object(ObjectKind::Model, 8)),
        give(8, someone(1), "OwnViewer", Scope::Object(ObjectKind::Experiment, 9)),
    ];
    let mut world = World::new(AccessMode::Rbac, USERS, [person(1, &[2])], roles(), own);
    let visible = |world: &World, narrowing: Option<&Narrowing>| {
        world.visible(
            PrincipalId(1),
            narrowing,
            Permission::ExperimentsRead,
            ObjectKind::Experiment,
            0,
        )
    };
    let all = visible(&world, None);
    let expected = Visible {
        workspaces: vec![WorkspaceId(1)],
        own_workspaces: vec![WorkspaceId(2)],
        own_projects: vec![ProjectId(3)],
        objects: vec![7],
        own_objects: vec![9],
        ..Visible::default()
    };
    assert_eq!(all, expected);
    let everything = Narrowing {
        permissions: PermissionSet::everything(),
        workspaces: None,
        object: None,
        job: None,
    };
    let within = |list: &[i64]| Narrowing {
        workspaces: Some(list.iter().map(|id| WorkspaceId(*id)).collect()),
        ..everything.clone()
    };
    let expected = Visible {
        workspaces: vec![],
        within: Some(vec![WorkspaceId(2), WorkspaceId(5)]),
        ..expected
    };
    assert_eq!(visible(&world, Some(&within(&[5, 2, 2]))), expected);
    assert!(visible(&world, Some(&within(&[]))).is_nothing());
    let job = Narrowing {
        object: Some((ObjectKind::Experiment, 11)),
        ..everything.clone()
    };
    assert_eq!(visible(&world, Some(&job)).own_objects, [11]);
    let of_another_kind = Narrowing {
        object: Some((ObjectKind::Model, 11)),
        ..everything.clone()
    };
    assert!(visible(&world, Some(&of_another_kind)).is_nothing());
    world.set_assignment(give(9, someone(1), "OwnViewer", Scope::Global));
    let own = visible(&world, None);
    assert!(own.own && own.own_workspaces.is_empty() && own.own_projects.is_empty() && own.own_objects.is_empty());
    world.set_assignment(give(9, someone(1), "Viewer", Scope::Global));
    let expected = Visible {
        all: true,
        ..Visible::default()
    };
    assert_eq!(visible(&world, None), expected);
}

/// The definition of `access.md` §4, written out without any index: what the compiled world must agree with.
fn by_definition(
    mode: AccessMode,
    principals: &[Principal],
    assignments: &[Assignment],
    who: PrincipalId,
    permission: Permission,
    target: &Target,
    now: i64,
) -> bool {
    let Some(principal) = principals
        .iter()
        .find(|principal| principal.id == who && principal.active)
    else {
        return false;
    };
    static ROLES: std::sync::OnceLock<Vec<Role>> = std::sync::OnceLock::new();
    let all_roles = ROLES.get_or_init(roles);
    let granted = assignments.iter().any(|assignment| {
        let reaches = match assignment.holder {
            Holder::Principal(id) => id == who,
            Holder::Group(id) => {
                let kept = assignment.scope == Scope::Global && !principal.is_service;
                let left_out = principal.own_roles_only && id == USERS && !kept;
                principal.groups.contains(&id) && !left_out
            }
        };
        let contains = match assignment.scope {
            Scope::Global => true,
            Scope::Workspace(id) => target.workspace == Some(id),
            Scope::Project(id) => target.project == Some(id),
            Scope::Object(kind, id) => target.object == Some((kind, id)),
        };
        let role = all_roles.iter().find(|role| role.id == assignment.role).unwrap();
        let assignable = assignment.scope == Scope::Global || !PermissionSet::global_only().contains(permission);
        let gives = role.permissions.all.contains(permission)
            || (role.permissions.own.contains(permission) && target.owner == Some(who));
        let at_a_queue = matches!(assignment.scope, Scope::Object(ObjectKind::Queue, _));
        let counts =
            mode == AccessMode::Rbac || at_a_queue || (role.administrative && assignment.scope == Scope::Global);
        reaches && contains && assignable && gives && counts && assignment.expires.is_none_or(|end| now < end)
    });
    let basic = crate::decide::by_mode(AccessMode::Basic, false);
    match mode {
        AccessMode::Off => true,
        AccessMode::Rbac => granted,
        AccessMode::Basic | AccessMode::Shadow => {
            granted
                || (!principal.is_service && basic.all.contains(permission))
                || (!principal.is_service && basic.own.contains(permission) && target.owner == Some(who))
        }
    }
}

/// Ids of workspaces: what is held at one is kept otherwise than what is held at the other.
const SMALL_AND_LARGE: [i64; 2] = [1, 300];

fn any_scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Global),
        (0..2usize).prop_map(|at| Scope::Workspace(WorkspaceId(SMALL_AND_LARGE[at]))),
        (1..4i64).prop_map(|id| Scope::Project(ProjectId(id))),
        (1..5i64).prop_map(|id| Scope::Object(ObjectKind::Experiment, id)),
        (1..3i64).prop_map(|id| Scope::Object(ObjectKind::Queue, id)),
    ]
}

fn some_experiment(id: i64) -> Target {
    experiment(id, SMALL_AND_LARGE[id as usize % 2], 1 + id % 3, 1 + id % 3)
}

prop_compose! {
    fn any_world()(
        mode in prop_oneof![4 => Just(AccessMode::Rbac), 1 => Just(AccessMode::Basic), 1 => Just(AccessMode::Off)],
        people in prop::collection::vec((any::<bool>(), any::<(bool, bool)>(), prop::collection::vec(2..4i64, 0..2)), 3),
        rows in prop::collection::vec((0..2u8, 1..4i64, 0..BUILT_IN_ROLES.len(), any_scope(), prop::option::of(1..3i64)), 0..8),
    ) -> (AccessMode, Vec<Principal>, Vec<Assignment>) {
        let principals = (1..).zip(people).map(|(id, (inactive, (own_roles_only, is_service), groups))| {
            Principal { active: !inactive || id == 1, own_roles_only, is_service, ..person(id, &groups) }
        });
        let assignments = (1..).zip(rows).map(|(id, (kind, holder, role, scope, expires))| Assignment {
            id: AssignmentId(id),
            holder: if kind == 0 { Holder::Principal(PrincipalId(holder)) } else { Holder::Group(GroupId(holder)) },
            role: RoleId(role as i64 + 1),
            scope,
            expires,
        });
        (mode, principals.collect(), assignments.collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_and_every_list_agree_with_the_definition((mode, principals, assignments) in any_world(), now in 0..4i64) {
        let world = World::new(mode, USERS, principals.clone(), roles(), assignments.clone());
        // Experiments 1 to 4, in projects 1 to 3 of both workspaces, owned by 1 to 3.
        let experiments: Vec<Target> = (1..5i64).map(some_experiment).collect();
        for who in (1..4).map(PrincipalId) {
            for permission in Permission::ALL.iter().copied() {
                let visible = world.visible(who, None, permission, ObjectKind::Experiment, now);
                for target in experiments.iter().chain([&Target::default()]) {
                    let decided = world.decide(who, None, permission, target, now).is_some();
                    let defined = by_definition(mode, &principals, &assignments, who, permission, target, now);
                    prop_assert_eq!(decided, defined, "{:?} {} {:?}", who, permission, target);
                    if target.object.is_some() && permission.scope() == bailiwick_api::permission::PermissionScope::Any {
                        prop_assert_eq!(shows(&visible, target, who), decided, "list: {:?} {} {:?}", who, permission, target);
                    }
                }
            }
        }
    }

    #[test]
    fn changes_one_by_one_lead_to_what_is_loaded_whole(
        (mode, principals, assignments) in any_world(), now in 0..4i64, most in 1..8usize, each in 1..5usize
    ) {
        let mut world = World::new(mode, USERS, [], [], []);
        // So few numbers for sets of roles that some rows cannot be held.
        world.most_sets(most);
        assignments.iter().for_each(|one| world.set_assignment(*one));
        roles().into_iter().for_each(|role| world.set_role(role));
        for (at, principal) in principals.iter().enumerate() {
            world.set_principal(Principal { groups: vec![USERS], ..principal.clone() });
            for group in &principal.groups {
                world.add_members(*group, &[principal.id]);
            }
            if at.is_multiple_of(each) {
                world.refresh(each, 0);
            }
        }
        let mut left: Vec<Assignment> = assignments;
        loop {
            for who in (1..4).map(PrincipalId) {
                for permission in Permission::ALL.iter().copied() {
                    for target in [some_experiment(1), some_experiment(2), Target::default()] {
                        let decided = world.decide(who, None, permission, &target, now).is_some();
                        let defined = by_definition(mode, &principals, &left, who, permission, &target, now);
                        prop_assert_eq!(decided, defined, "{:?} {} {:?}", who, permission, target);
                    }
                }
            }
            prop_assert!(world.heads_agree());
            let Some(gone) = left.pop() else { break };
            world.remove_assignment(gone.id);
            if left.len().is_multiple_of(each) {
                world.refresh(each, 0);
            }
        }
    }

    #[test]
    fn a_narrowed_token_never_exceeds_its_owner((mode, principals, assignments) in any_world(), bits in any::<u128>(), at in 0..2usize) {
        let world = World::new(mode, USERS, principals, roles(), assignments);
        let workspace = SMALL_AND_LARGE[at];
        let narrowing = Narrowing {
            permissions: PermissionSet(bits),
            workspaces: Some(vec![WorkspaceId(workspace)]),
            object: None,
            job: None,
        };
        for id in 1..5i64 {
            let target = some_experiment(id);
            for permission in Permission::ALL.iter().copied() {
                let narrowed = world.decide(PrincipalId(1), Some(&narrowing), permission, &target, 0).is_some();
                let whole = world.decide(PrincipalId(1), None, permission, &target, 0).is_some();
                let inside = target.workspace == Some(WorkspaceId(workspace)) && narrowing.permissions.contains(permission);
                prop_assert_eq!(narrowed, whole && inside);
                let visible = world.visible(PrincipalId(1), Some(&narrowing), permission, ObjectKind::Experiment, 0);
                prop_assert!(!shows(&visible, &target, PrincipalId(1)) || narrowed);
            }
        }
    }
}

/// Whether a list made from `visible` holds the target.
fn shows(visible: &Visible, target: &Target, who: PrincipalId) -> bool {
    let owned = target.owner == Some(who);
    let (workspace, project) = (target.workspace.unwrap(), target.project.unwrap());
    let (_, id) = target.object.unwrap();
    let within = visible.within.as_ref().is_none_or(|list| list.contains(&workspace));
    within
        && (visible.all
            || (visible.own && owned)
            || visible.workspaces.contains(&workspace)
            || visible.projects.contains(&project)
            || visible.objects.contains(&id)
            || (owned
                && (visible.own_workspaces.contains(&workspace)
                    || visible.own_projects.contains(&project)
                    || visible.own_objects.contains(&id))))
}

#[test]
fn what_is_held_twice_is_held() {
    let one = Holder::Principal(PrincipalId(1));
    let all = Holder::Group(USERS);
    let here = Scope::Workspace(WorkspaceId(1));
    let places = [(all, Scope::Global), (one, Scope::Global), (all, here), (one, here)];
    let target = experiment(7, 1, 1, 2);
    for held in 0..16 {
        let given = places.iter().zip(1..).filter(|(_, id)| held >> (id - 1) & 1 == 1);
        let given = given.map(|((holder, scope), id)| give(id, *holder, "Viewer", *scope));
        let world = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), given);
        assert_eq!(
            may(&world, 1, Permission::ExperimentsRead, &target),
            held != 0,
            "{held:b}"
        );
    }
}

#[test]
fn what_everybody_holds_counts_at_workspaces_with_small_ids_and_large_ones() {
    let at = [1_i64, 5, 65_535, 65_536, 70_000, 1 << 30, 0];
    let everybody = |id: i64, workspace: i64, role: &str| {
        let scope = Scope::Workspace(WorkspaceId(workspace));
        give(id, Holder::Group(USERS), role, scope)
    };
    let sees =
        |world: &World, workspace: i64| may(world, 1, Permission::ExperimentsRead, &experiment(1, workspace, 1, 2));
    let elsewhere = [2_i64, 6, 65_534, 65_537, 70_001];
    // Built with them, and given them one by one.
    let all = (1..).zip(at).map(|(id, workspace)| everybody(id, workspace, "Viewer"));
    let mut built = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), all.clone());
    let mut grown = World::new(AccessMode::Rbac, USERS, [person(1, &[])], roles(), []);
    for one in all {
        grown.set_assignment(one);
        let Scope::Workspace(workspace) = one.scope else {
            unreachable!("all are at workspaces")
        };
        assert!(sees(&grown, workspace.0), "at once: {workspace}");
    }
    for world in [&mut built, &mut grown] {
        for workspace in at {
            assert!(sees(world, workspace), "{workspace}");
        }
        for workspace in elsewhere {
            assert!(!sees(world, workspace), "{workspace}");
        }
        assert!(!may(world, 1, Permission::ExperimentsRead, &Target::default()));
        // Another role in place of one, and then none: each as it is now.
        for (id, workspace) in (1..).zip(at) {
            world.set_assignment(everybody(id, workspace, "ModelRegistryViewer"));
            assert!(!sees(world, workspace), "{workspace}");
            world.set_assignment(everybody(id, workspace, "Editor"));
            assert!(sees(world, workspace), "{workspace}");
            world.remove_assignment(AssignmentId(id));
            assert!(!sees(world, workspace), "{workspace}");
        }
        while world.refresh(1, 0) > 0 {}
        assert!(at.iter().all(|workspace| !sees(world, *workspace)));
    }
}

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
    let gone = Principal {
        active: false,
        ..person(2, &[])
    };
    let admin = give(2, Holder::Principal(PrincipalId(2)), "ClusterAdmin", Scope::Global);
    let world = World::new(AccessMode::Rbac, USERS, [person(1, &[]), gone], roles(), [until, admin]);
    let target = experiment(1, 1, 1, 9);
    let at = |now| {
        world
            .decide(PrincipalId(1), None, Permission::ExperimentsRead, &target, now)
            .is_some()
    };
    assert!(at(99) && !at(100));
    assert!(!may(&world, 2, Permission::ExperimentsRead, &target));
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

fn any_scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Global),
        (1..3i64).prop_map(|id| Scope::Workspace(WorkspaceId(id))),
        (1..4i64).prop_map(|id| Scope::Project(ProjectId(id))),
        (1..5i64).prop_map(|id| Scope::Object(ObjectKind::Experiment, id)),
        (1..3i64).prop_map(|id| Scope::Object(ObjectKind::Queue, id)),
    ]
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
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_decision_and_every_list_agree_with_the_definition((mode, principals, assignments) in any_world(), now in 0..4i64) {
        let world = World::new(mode, USERS, principals.clone(), roles(), assignments.clone());
        // Experiments 1 to 4, in projects 1 to 3 of workspaces 1 and 2, owned by 1 to 3.
        let experiments: Vec<Target> = (1..5i64).map(|id| experiment(id, 1 + id % 2, 1 + id % 3, 1 + id % 3)).collect();
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
    fn a_narrowed_token_never_exceeds_its_owner((mode, principals, assignments) in any_world(), bits in any::<u128>(), workspace in 1..3i64) {
        let world = World::new(mode, USERS, principals, roles(), assignments);
        let narrowing = Narrowing {
            permissions: PermissionSet(bits),
            workspaces: Some(vec![WorkspaceId(workspace)]),
            object: None,
        };
        for id in 1..5i64 {
            let target = experiment(id, 1 + id % 2, 1 + id % 3, 1 + id % 3);
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

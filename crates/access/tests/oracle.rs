//! The oracle: random installations and random sequences of changes, where every decision, every visible list, every who-can, what-can and explanation of the
//! engine is compared with what [Cedar](https://www.cedarpolicy.com) answers over policies and entities made from the same rows. Nothing of the engine is used to
//! make them: a row becomes one or two policies, and Cedar does the rest.
//!
//! A comparison is counted once for each answer that Cedar gave. `ORACLE_ANSWERS` says how many are wanted, `ORACLE_SEED` where to begin.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;

use bailiwick_access::{
    Assignment, Difference, Holder, Narrowing, ObjectKind, Principal, Role, Scope, Target, Visible, World, difference,
};
use bailiwick_api::permission::{BUILT_IN_ROLES, BuiltInRole, PermissionScope, RolePermissions};
use bailiwick_api::server::AccessMode;
use bailiwick_api::{AssignmentId, GroupId, Permission, PermissionSet, PrincipalId, ProjectId, RoleId, WorkspaceId};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression,
};

const USERS: GroupId = GroupId(1);
/// Those about whom is asked; ids up to [`CROWD`] only come and go in groups, so that some changes concern many.
const ASKED: i64 = 5;
const CROWD: i64 = 18;
/// The engine keeps what is held at a small id otherwise than at a large one.
const WORKSPACES: [i64; 3] = [1, 300, 3];
const PROJECTS: i64 = 4;
const EXPERIMENTS: i64 = 6;
const QUEUES: i64 = 2;

/// xorshift64*: the same numbers from the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0, below `end`.
    fn below(&mut self, end: i64) -> i64 {
        ((self.next() >> 33) as i64) % end
    }

    /// From 1 to `last`.
    fn id(&mut self, last: i64) -> i64 {
        1 + self.below(last)
    }

    fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as i64) as usize]
    }
}

/// The rows, as a database would hold them.
#[derive(Clone, Debug)]
struct Rows {
    mode: AccessMode,
    principals: BTreeMap<PrincipalId, Principal>,
    roles: BTreeMap<RoleId, Role>,
    assignments: BTreeMap<AssignmentId, Assignment>,
    now: i64,
}

impl Rows {
    fn world(&self) -> World {
        World::new(
            self.mode,
            USERS,
            self.principals.values().cloned(),
            self.roles.values().cloned(),
            self.assignments.values().copied(),
        )
    }
}

fn any_principal(random: &mut Random, id: i64) -> Principal {
    let mut groups: BTreeSet<GroupId> = (0..random.below(4)).map(|_| GroupId(2 + random.below(4))).collect();
    if !random.one_in(12) {
        groups.insert(USERS);
    }
    Principal {
        id: PrincipalId(id),
        name: format!("user{id}"),
        active: !random.one_in(7),
        groups: groups.into_iter().collect(),
        own_roles_only: random.one_in(4),
        is_service: random.one_in(4),
    }
}

fn any_role(random: &mut Random, id: i64) -> Role {
    let (permissions, administrative) = if random.one_in(2) {
        let built_in = &BUILT_IN_ROLES[random.below(BUILT_IN_ROLES.len() as i64) as usize];
        (built_in.permissions(), built_in.administrative)
    } else {
        let mut some = || PermissionSet(u128::from(random.next()) << 64 | u128::from(random.next()));
        let everything = PermissionSet::everything();
        let (all, own) = (some().intersection(some()), some());
        let permissions = RolePermissions {
            all: all.intersection(everything),
            own: own.intersection(everything).without(all),
        };
        (permissions, random.one_in(3))
    };
    Role {
        id: RoleId(id),
        name: format!("role{id}"),
        permissions,
        administrative,
    }
}

const ROLES: i64 = 7;

fn any_workspace(random: &mut Random) -> WorkspaceId {
    WorkspaceId(WORKSPACES[random.below(WORKSPACES.len() as i64) as usize])
}

fn any_scope(random: &mut Random) -> Scope {
    match random.below(8) {
        0 | 1 => Scope::Global,
        2 | 3 => Scope::Workspace(any_workspace(random)),
        4 => Scope::Project(ProjectId(random.id(PROJECTS))),
        5 | 6 => Scope::Object(ObjectKind::Experiment, random.id(EXPERIMENTS)),
        _ => Scope::Object(ObjectKind::Queue, random.id(QUEUES)),
    }
}

fn any_assignment(random: &mut Random, id: i64, now: i64) -> Assignment {
    Assignment {
        id: AssignmentId(id),
        holder: if random.one_in(2) {
            Holder::Principal(PrincipalId(random.id(ASKED)))
        } else {
            Holder::Group(GroupId(random.id(5)))
        },
        role: RoleId(random.id(ROLES)),
        scope: any_scope(random),
        expires: random.one_in(3).then(|| now + random.below(12) - 2),
    }
}

fn any_rows(random: &mut Random) -> Rows {
    let modes = [
        AccessMode::Rbac,
        AccessMode::Rbac,
        AccessMode::Rbac,
        AccessMode::Basic,
        AccessMode::Shadow,
        AccessMode::Off,
    ];
    let mode = random.of(&modes);
    let principals = (1..=CROWD - 2).map(|id| (PrincipalId(id), any_principal(random, id)));
    let principals = principals.collect();
    let roles = (1..ROLES).map(|id| (RoleId(id), any_role(random, id))).collect();
    let assignments = (1..=random.below(8)).map(|id| (AssignmentId(id), any_assignment(random, id, 100)));
    Rows {
        mode,
        principals,
        roles,
        assignments: assignments.collect(),
        now: 100,
    }
}

/// Makes one random change in both.
fn change(random: &mut Random, rows: &mut Rows, world: &mut World) {
    let some = |random: &mut Random| -> Vec<PrincipalId> {
        let many = if random.one_in(2) { CROWD } else { 3 };
        (0..random.id(many)).map(|_| PrincipalId(random.id(CROWD))).collect()
    };
    match random.below(14) {
        0 => {
            let id = random.id(CROWD);
            let principal = any_principal(random, id);
            rows.principals.insert(principal.id, principal.clone());
            world.set_principal(principal);
        }
        1 => {
            let id = random.id(ROLES);
            let role = any_role(random, id);
            rows.roles.insert(role.id, role.clone());
            world.set_role(role);
        }
        2 => {
            let role = RoleId(random.id(ROLES));
            rows.roles.remove(&role);
            world.remove_role(role);
        }
        3..=6 => {
            let id = random.id(9);
            let assignment = any_assignment(random, id, rows.now);
            rows.assignments.insert(assignment.id, assignment);
            world.set_assignment(assignment);
        }
        7 => {
            let id = AssignmentId(random.id(9));
            rows.assignments.remove(&id);
            world.remove_assignment(id);
        }
        8 | 9 => {
            let (group, who) = (GroupId(random.id(5)), some(random));
            for id in &who {
                if let Some(principal) = rows.principals.get_mut(id)
                    && !principal.groups.contains(&group)
                {
                    principal.groups.push(group);
                }
            }
            world.add_members(group, &who);
        }
        10 => {
            let (group, who) = (GroupId(random.id(5)), some(random));
            for id in &who {
                if let Some(principal) = rows.principals.get_mut(id) {
                    principal.groups.retain(|of| *of != group);
                }
            }
            world.remove_members(group, &who);
        }
        11 if random.one_in(3) => {
            let group = GroupId(2 + random.below(4));
            rows.assignments.retain(|_, one| one.holder != Holder::Group(group));
            for principal in rows.principals.values_mut() {
                principal.groups.retain(|of| *of != group);
            }
            world.remove_group(group);
        }
        12 => {
            world.refresh(random.below(6) as usize, rows.now);
        }
        _ => rows.now += random.below(4),
    }
}

/// Everything about which may be asked, with its name for Cedar.
fn targets() -> Vec<(Target, EntityUid)> {
    let mut targets = vec![(Target::default(), uid("Installation", 1))];
    for id in WORKSPACES {
        targets.push((Target::workspace(WorkspaceId(id)), uid("Workspace", id)));
    }
    for id in 1..=PROJECTS {
        let target = Target {
            workspace: Some(workspace_of_project(id)),
            project: Some(ProjectId(id)),
            ..Target::default()
        };
        targets.push((target, uid("Project", id)));
    }
    for id in 1..=EXPERIMENTS {
        let project = project_of_experiment(id);
        let target = Target {
            workspace: Some(workspace_of_project(project.0)),
            project: Some(project),
            object: Some((ObjectKind::Experiment, id)),
            owner: Some(owner_of_experiment(id)),
        };
        targets.push((target, uid("Experiment", id)));
    }
    for id in 1..=QUEUES {
        let target = Target {
            object: Some((ObjectKind::Queue, id)),
            ..Target::default()
        };
        targets.push((target, uid("Queue", id)));
    }
    for id in 1..=2 {
        targets.push((Target::owned_by(PrincipalId(id)), uid("Belonging", id)));
    }
    targets
}

fn workspace_of_project(project: i64) -> WorkspaceId {
    WorkspaceId(WORKSPACES[project as usize % 2])
}

fn project_of_experiment(experiment: i64) -> ProjectId {
    ProjectId(1 + experiment % PROJECTS)
}

fn owner_of_experiment(experiment: i64) -> PrincipalId {
    PrincipalId(1 + experiment % 4)
}

fn uid(kind: &str, id: i64) -> EntityUid {
    format!("{kind}::\"{id}\"").parse().expect("it is well formed")
}

fn action(name: &str) -> EntityUid {
    format!("Action::\"{name}\"").parse().expect("it is well formed")
}

/// What Cedar is asked with.
struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
}

impl Cedar {
    fn new(rows: &Rows) -> Cedar {
        let policies = policies(rows);
        Cedar {
            authorizer: Authorizer::new(),
            policies: policies.parse().unwrap_or_else(|why| panic!("{why}\n{policies}")),
            entities: entities(rows),
        }
    }

    fn allows(&self, who: &EntityUid, action: &EntityUid, resource: &EntityUid, context: &Context) -> bool {
        let request = Request::new(who.clone(), action.clone(), resource.clone(), context.clone(), None)
            .expect("no schema is given");
        let answer = self.authorizer.is_authorized(&request, &self.policies, &self.entities);
        let errors: Vec<_> = answer.diagnostics().errors().collect();
        assert!(errors.is_empty(), "no policy errs: {errors:?}");
        answer.decision() == Decision::Allow
    }
}

/// One or two policies for each assignment, and those that stand for the rules around them.
fn policies(rows: &Rows) -> String {
    let mut text = String::from(
        r#"
forbid (principal, action, resource) unless { principal.active };
forbid (principal, action, resource) when { context has permissions && !context.permissions.contains(action) };
forbid (principal, action, resource) when { context has workspaces && !(resource in context.workspaces) };
forbid (principal, action, resource) when { context has object && resource != context.object };
permit (principal, action, resource) when { context.mode == "off" };
permit (principal, action in Action::"basic, all", resource)
when { (context.mode == "basic" || context.mode == "shadow") && !principal.isService };
permit (principal, action in Action::"basic, own", resource)
when { (context.mode == "basic" || context.mode == "shadow") && !principal.isService && resource has owner && resource.owner == principal };
"#,
    );
    for one in rows.assignments.values() {
        let Some(role) = rows.roles.get(&one.role) else {
            continue;
        };
        let holder = match one.holder {
            Holder::Principal(id) => format!("principal == Principal::\"{id}\""),
            Holder::Group(id) => format!("principal in Group::\"{id}\""),
        };
        let (scope, where_) = match one.scope {
            Scope::Global => ("Installation::\"1\"".into(), "anywhere"),
            Scope::Workspace(id) => (format!("Workspace::\"{id}\""), "below"),
            Scope::Project(id) => (format!("Project::\"{id}\""), "below"),
            Scope::Object(kind, id) => (format!("{kind:?}::\"{id}\""), "below"),
        };
        let mut conditions = Vec::new();
        if let Some(end) = one.expires {
            conditions.push(format!("context.now < {end}"));
        }
        let always = (role.administrative && one.scope == Scope::Global)
            || matches!(one.scope, Scope::Object(ObjectKind::Queue, _));
        if !always {
            conditions.push("context.mode == \"rbac\"".into());
        }
        if one.holder == Holder::Group(USERS) {
            conditions.push(match one.scope {
                Scope::Global => "!(principal.ownRolesOnly && principal.isService)".into(),
                _ => "!principal.ownRolesOnly".into(),
            });
        }
        for reach in ["all", "own"] {
            let mut conditions = conditions.clone();
            if reach == "own" {
                conditions.push("resource has owner && resource.owner == principal".into());
            }
            let role = role.id;
            write!(
                text,
                "permit ({holder}, action in Action::\"{role}, {reach}, {where_}\", resource in {scope})"
            )
            .expect("a string takes everything");
            if !conditions.is_empty() {
                write!(text, " when {{ {} }}", conditions.join(" && ")).expect("a string takes everything");
            }
            text.push_str(";\n");
        }
    }
    text
}

fn entities(rows: &Rows) -> Entities {
    let mut list = Vec::new();
    let of = |uid: EntityUid, attributes: Vec<(&str, RestrictedExpression)>, parents: Vec<EntityUid>| {
        let attributes: HashMap<String, _> = attributes
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Entity::new(uid, attributes, parents.into_iter().collect::<HashSet<_>>()).expect("its attributes are constants")
    };
    for id in 1..=CROWD {
        let known = rows.principals.get(&PrincipalId(id));
        let truth = |of: fn(&Principal) -> bool| RestrictedExpression::new_bool(known.is_some_and(of));
        let attributes = vec![
            ("active", truth(|one| one.active)),
            ("isService", truth(|one| one.is_service)),
            ("ownRolesOnly", truth(|one| one.own_roles_only)),
        ];
        let groups = known.into_iter().flat_map(|one| &one.groups);
        list.push(of(
            uid("Principal", id),
            attributes,
            groups.map(|id| uid("Group", id.0)).collect(),
        ));
    }
    let installation = uid("Installation", 1);
    let owner = |id: PrincipalId| vec![("owner", RestrictedExpression::new_entity_uid(uid("Principal", id.0)))];
    list.push(of(installation.clone(), vec![], vec![]));
    for id in WORKSPACES {
        list.push(of(uid("Workspace", id), vec![], vec![installation.clone()]));
    }
    for id in 1..=PROJECTS {
        let workspace = uid("Workspace", workspace_of_project(id).0);
        list.push(of(uid("Project", id), vec![], vec![workspace]));
    }
    for id in 1..=EXPERIMENTS {
        let project = uid("Project", project_of_experiment(id).0);
        list.push(of(uid("Experiment", id), owner(owner_of_experiment(id)), vec![project]));
    }
    for id in 1..=QUEUES {
        list.push(of(uid("Queue", id), vec![], vec![installation.clone()]));
    }
    for id in 1..=2 {
        list.push(of(
            uid("Belonging", id),
            owner(PrincipalId(id)),
            vec![installation.clone()],
        ));
    }
    // Which permissions a role holds is said by the groups of actions that they stand in.
    let basic = BuiltInRole::find("DataScientist")
        .expect("it is built in")
        .permissions();
    // Stacks lie in no workspace: each has those of its own, and nobody another's.
    let more = [
        "me:update",
        "tokens:*:own",
        "vaults:*:own",
        "stacks:create",
        "stacks:*:own",
    ];
    let more = RolePermissions::parse(more).expect("these are permissions");
    for permission in Permission::ALL.iter().copied() {
        let mut groups = Vec::new();
        let mut stand = |held: PermissionSet, name: String| {
            if held.contains(permission) {
                groups.push(action(&name));
            }
        };
        let stacks = PermissionSet::of(Permission::StacksRead);
        stand(basic.all.without(stacks).union(more.all), "basic, all".into());
        stand(basic.own.union(more.own), "basic, own".into());
        for role in rows.roles.values() {
            for (held, reach) in [(role.permissions.all, "all"), (role.permissions.own, "own")] {
                stand(held, format!("{}, {reach}, anywhere", role.id));
                if permission.scope() == PermissionScope::Any {
                    stand(held, format!("{}, {reach}, below", role.id));
                }
            }
        }
        list.push(of(action(permission.name()), vec![], groups));
    }
    Entities::from_entities(list, None).expect("nothing contains itself")
}

fn context(mode: AccessMode, now: i64, narrowing: Option<&Narrowing>) -> Context {
    let mode = match mode {
        AccessMode::Off => "off",
        AccessMode::Basic => "basic",
        AccessMode::Shadow => "shadow",
        AccessMode::Rbac => "rbac",
    };
    let set =
        |of: Vec<EntityUid>| RestrictedExpression::new_set(of.into_iter().map(RestrictedExpression::new_entity_uid));
    let mut pairs = vec![
        ("mode".to_owned(), RestrictedExpression::new_string(mode.into())),
        ("now".to_owned(), RestrictedExpression::new_long(now)),
    ];
    if let Some(narrowing) = narrowing {
        let permissions = narrowing.permissions.iter().map(|one| action(one.name())).collect();
        pairs.push(("permissions".into(), set(permissions)));
        if let Some(workspaces) = &narrowing.workspaces {
            let workspaces = workspaces.iter().map(|id| uid("Workspace", id.0)).collect();
            pairs.push(("workspaces".into(), set(workspaces)));
        }
        if let Some((kind, id)) = narrowing.object {
            let object = uid(&format!("{kind:?}"), id);
            pairs.push(("object".into(), RestrictedExpression::new_entity_uid(object)));
        }
    }
    Context::from_pairs(pairs).expect("each name comes once")
}

fn any_narrowing(random: &mut Random) -> Narrowing {
    let everything = PermissionSet::everything();
    let permissions =
        PermissionSet(u128::from(random.next()) << 64 | u128::from(random.next()) | u128::from(random.next()));
    Narrowing {
        permissions: if random.one_in(3) {
            everything
        } else {
            permissions.intersection(everything)
        },
        workspaces: random
            .one_in(2)
            .then(|| (0..random.below(3)).map(|_| any_workspace(random)).collect()),
        object: random
            .one_in(4)
            .then(|| (ObjectKind::Experiment, random.id(EXPERIMENTS))),
        job: None,
    }
}

/// Whether a list made from `visible` shows the target.
fn shows(visible: &Visible, target: &Target, who: PrincipalId) -> bool {
    let (Some(workspace), Some(project), Some((_, id))) = (target.workspace, target.project, target.object) else {
        panic!("only experiments are listed here");
    };
    let owned = target.owner == Some(who);
    let within = visible.within.as_ref().is_none_or(|list| list.contains(&workspace));
    let all = visible.all
        || visible.workspaces.contains(&workspace)
        || visible.projects.contains(&project)
        || visible.objects.contains(&id);
    let own = visible.own
        || visible.own_workspaces.contains(&workspace)
        || visible.own_projects.contains(&project)
        || visible.own_objects.contains(&id);
    within && (all || (own && owned))
}

/// Whether what is held at these scopes covers the target.
fn covers(held: &[(Scope, RolePermissions)], permission: Permission, target: &Target, who: PrincipalId) -> bool {
    let owned = target.owner == Some(who);
    held.iter().any(|(scope, held)| {
        let contains = match *scope {
            Scope::Global => true,
            Scope::Workspace(id) => target.workspace == Some(id),
            Scope::Project(id) => target.project == Some(id),
            Scope::Object(kind, id) => target.object == Some((kind, id)),
        };
        contains && (held.all.contains(permission) || (owned && held.own.contains(permission)))
    })
}

/// Asks both about everybody and everything, for some permissions.
fn compare(random: &mut Random, rows: &Rows, world: &World, names: &Names) -> u64 {
    let cedar = Cedar::new(rows);
    let targets = &names.targets;
    let rebuilt = rows.world();
    let mut answers = 0;
    let permissions: Vec<Permission> = (0..3).map(|_| random.of(Permission::ALL)).collect();
    let now = rows.now;
    let context_of_mode = context(rows.mode, now, None);
    let what_can: Vec<_> = (1..=ASKED)
        .map(|id| world.what_can(PrincipalId(id), None, now))
        .collect();
    for permission in permissions {
        let action = &names.actions[permission as usize];
        let mut may: BTreeMap<usize, Vec<PrincipalId>> = BTreeMap::new();
        for who in (1..=ASKED).map(PrincipalId) {
            let name = &names.principals[who.0 as usize - 1];
            let visible = world.visible(who, None, permission, ObjectKind::Experiment, now);
            for (at, (target, resource)) in targets.iter().enumerate() {
                let allowed = cedar.allows(name, action, resource, &context_of_mode);
                answers += 1;
                let about = || format!("{who} {permission} on {target:?} at {now}, {rows:#?}");
                let decided = world.decide(who, None, permission, target, now);
                assert_eq!(decided.is_some(), allowed, "a decision: {}", about());
                assert_eq!(
                    rebuilt.decide(who, None, permission, target, now),
                    decided,
                    "a decision after loading anew: {}",
                    about()
                );
                let explained = world.explain(who, None, permission, target, now);
                assert_eq!(explained.allowed, allowed, "an explanation: {}", about());
                if let Some(basis) = decided {
                    let plainly = explained.by_mode || explained.reasons.iter().any(|reason| !reason.administrative);
                    assert_eq!(basis.administrative, !plainly, "what it rests on: {}", about());
                }
                let held = covers(&what_can[who.0 as usize - 1], permission, target, who);
                assert_eq!(held, allowed, "what-can: {}", about());
                if matches!(target.object, Some((ObjectKind::Experiment, _))) {
                    assert_eq!(shows(&visible, target, who), allowed, "a list: {}", about());
                }
                if allowed {
                    may.entry(at).or_default().push(who);
                }
            }
        }
        for (at, (target, _)) in targets.iter().enumerate() {
            let told = world.who_can(permission, target, now);
            assert!(told.is_sorted_by_key(|one| one.who), "who-can is in the order of ids");
            let told: Vec<PrincipalId> = told.iter().map(|one| one.who).filter(|who| who.0 <= ASKED).collect();
            let may = may.get(&at).cloned().unwrap_or_default();
            assert_eq!(told, may, "who-can {permission} on {target:?} at {now}, {rows:#?}");
        }
        // The same for one token, and in another mode.
        let who = PrincipalId(random.id(ASKED));
        let narrowing = any_narrowing(random);
        let mode = random.of(&[AccessMode::Rbac, AccessMode::Basic, AccessMode::Shadow, AccessMode::Off]);
        let name = &names.principals[who.0 as usize - 1];
        let narrowed = context(rows.mode, now, Some(&narrowing));
        let otherwise = context(mode, now, Some(&narrowing));
        let visible = world.visible(who, Some(&narrowing), permission, ObjectKind::Experiment, now);
        let visible_otherwise = world.visible_in(mode, who, Some(&narrowing), permission, ObjectKind::Experiment, now);
        let held = world.what_can(who, Some(&narrowing), now);
        for (target, resource) in targets {
            let about = || format!("{who} {permission} on {target:?} at {now} by {narrowing:?}, {rows:#?}");
            let allowed = cedar.allows(name, action, resource, &narrowed);
            let allowed_otherwise = cedar.allows(name, action, resource, &otherwise);
            answers += 2;
            let decided = world.decide(who, Some(&narrowing), permission, target, now).is_some();
            assert_eq!(decided, allowed, "a token's decision: {}", about());
            let decided = world.decide_in(mode, who, Some(&narrowing), permission, target, now);
            assert_eq!(decided.is_some(), allowed_otherwise, "in {mode:?}: {}", about());
            let explained = world.explain(who, Some(&narrowing), permission, target, now);
            assert_eq!(explained.allowed, allowed, "a token's explanation: {}", about());
            let stopped = narrowing.stops(permission, target).is_some();
            assert_eq!(
                !stopped && covers(&held, permission, target, who),
                allowed,
                "a token's what-can: {}",
                about()
            );
            if matches!(target.object, Some((ObjectKind::Experiment, _))) {
                for (visible, allowed) in [(&visible, allowed), (&visible_otherwise, allowed_otherwise)] {
                    let shown = shows(visible, target, who);
                    if narrowing.object.is_none() {
                        assert_eq!(shown, allowed, "a token's list: {}", about());
                    } else {
                        // A job's list holds its own experiment at most; who may not see it is refused when it is opened.
                        assert!(
                            shown || !allowed || target.owner != Some(who),
                            "a job's list: {}",
                            about()
                        );
                        assert!(!shown || narrowing.object == target.object, "a job's list: {}", about());
                    }
                }
            }
        }
    }
    answers
}

/// A difference says exactly what decisions say before and after.
fn compare_difference(random: &mut Random, before: &World, after: &World, names: &Names, now: i64) {
    let permissions: Vec<Permission> = (0..6).map(|_| random.of(Permission::ALL)).collect();
    let told = difference(before, after, (1..=ASKED).map(PrincipalId), now);
    for who in (1..=ASKED).map(PrincipalId) {
        let of: Vec<&Difference> = told.iter().filter(|one| one.who == who).collect();
        for (target, _) in &names.targets {
            for permission in permissions.iter().copied() {
                let may = |world: &World| world.decide(who, None, permission, target, now).is_some();
                let said = |part: fn(&Difference) -> RolePermissions| {
                    let held: Vec<_> = of.iter().map(|one| (one.scope, part(one))).collect();
                    covers(&held, permission, target, who)
                };
                let (had, has) = (may(before), may(after));
                assert!(
                    had || !has || said(|one| one.gained),
                    "{who} gained {permission} on {target:?}: {told:?}"
                );
                assert!(
                    !had || has || said(|one| one.lost),
                    "{who} lost {permission} on {target:?}: {told:?}"
                );
                assert!(
                    has || !said(|one| one.gained),
                    "{who} did not gain {permission} on {target:?}: {told:?}"
                );
                assert!(
                    had || !said(|one| one.lost),
                    "{who} never had {permission} on {target:?}: {told:?}"
                );
            }
        }
    }
}

/// Names in Cedar are made once: making them is slower than deciding.
struct Names {
    principals: Vec<EntityUid>,
    actions: Vec<EntityUid>,
    targets: Vec<(Target, EntityUid)>,
}

#[test]
fn every_answer_is_the_one_that_cedar_gives() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let (wanted, seed) = (number("ORACLE_ANSWERS", 1_000_000), number("ORACLE_SEED", 1));
    let names = Names {
        principals: (1..=ASKED).map(|id| uid("Principal", id)).collect(),
        actions: Permission::ALL.iter().map(|one| action(one.name())).collect(),
        targets: targets(),
    };
    let (mut answers, mut changes, mut worlds) = (0, 0, 0);
    while answers < wanted {
        let mut random = Random((seed + worlds) << 20 | 0x9e37_79b9);
        worlds += 1;
        let mut rows = any_rows(&mut random);
        let mut world = rows.world();
        answers += compare(&mut random, &rows, &world, &names);
        for _ in 0..12 {
            let before = world.clone();
            for _ in 0..random.id(3) {
                change(&mut random, &mut rows, &mut world);
                changes += 1;
            }
            answers += compare(&mut random, &rows, &world, &names);
            compare_difference(&mut random, &before, &world, &names, rows.now);
        }
    }
    println!("{answers} answers of Cedar compared, over {worlds} installations and {changes} changes: none different");
}

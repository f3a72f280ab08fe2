//! The worlds that every engine gets, and the questions put to each: the same rows, the same requests, from one seed.

use bailiwick_access::{Assignment, Holder, ObjectKind, Principal, Role, Scope, Target};
use bailiwick_api::permission::{BuiltInRole, RolePermissions};
use bailiwick_api::{AssignmentId, GroupId, Permission, PrincipalId, ProjectId, RoleId, WorkspaceId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    Small,
    Medium,
    Large,
}

impl Size {
    pub const ALL: [Size; 3] = [Size::Small, Size::Medium, Size::Large];

    pub fn name(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Medium => "medium",
            Size::Large => "large",
        }
    }

    fn counts(self) -> Counts {
        match self {
            Size::Small => Counts {
                users: 10,
                groups: [3, 1, 1],
                leaves_of_a_user: 1,
                workspaces: 3,
                experiments: 100,
                administrators: 1,
                biggest_group: 8,
                requests: 1 << 12,
                floor_bytes: 16 << 10,
            },
            Size::Medium => Counts {
                users: 1_000,
                groups: [170, 25, 5],
                leaves_of_a_user: 4,
                workspaces: 100,
                experiments: 100_000,
                administrators: 3,
                biggest_group: 700,
                requests: 1 << 17,
                floor_bytes: 4 << 20,
            },
            Size::Large => Counts {
                users: 100_000,
                groups: [4_500, 450, 50],
                leaves_of_a_user: 4,
                workspaces: 5_000,
                experiments: 1_000_000,
                administrators: 20,
                biggest_group: 10_000,
                requests: 1 << 20,
                floor_bytes: 256 << 20,
            },
        }
    }
}

struct Counts {
    users: usize,
    /// Leaves, middle, top. Each group below has one above it, and whoever is in it is in that one, too.
    groups: [usize; 3],
    leaves_of_a_user: usize,
    workspaces: usize,
    experiments: usize,
    administrators: usize,
    biggest_group: usize,
    requests: usize,
    floor_bytes: usize,
}

/// What an object's row says of it.
#[derive(Debug, Clone, Copy)]
pub struct Experiment {
    pub workspace: WorkspaceId,
    pub project: ProjectId,
    pub owner: PrincipalId,
}

pub struct World {
    pub size: Size,
    /// The built-in group of everybody, which is among no principal's members in [`World::members`].
    pub users: GroupId,
    pub roles: Vec<Role>,
    /// By id, from 1.
    pub principals: Vec<Principal>,
    pub assignments: Vec<Assignment>,
    pub workspaces: i64,
    /// By id, from 1: the workspace of each project.
    pub projects: Vec<WorkspaceId>,
    /// By id, from 1.
    pub experiments: Vec<Experiment>,
    /// By group id, from 1.
    pub members: Vec<Vec<PrincipalId>>,
    pub biggest_group: GroupId,
    pub requests: Vec<Request>,
    /// The size of the table in which the floor loads.
    pub floor_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub who: PrincipalId,
    pub permission: Permission,
    pub target: Target,
}

/// A request in 24 bytes: a long row of them that is read beside a measurement leaves the cache to what is measured. 0 stands for none.
#[derive(Clone, Copy)]
pub struct Packed {
    who: u32,
    permission: u8,
    owner: u32,
    workspace: u32,
    project: u32,
    experiment: u32,
}

impl Packed {
    pub fn of(request: &Request) -> Packed {
        let id = |id: Option<i64>| id.map_or(0, |id| u32::try_from(id).expect("ids of these worlds are small"));
        let target = &request.target;
        assert!(target.object.is_none_or(|(kind, _)| kind == ObjectKind::Experiment));
        let asked = ASKED.iter().position(|asked| *asked == request.permission);
        Packed {
            who: id(Some(request.who.0)),
            permission: asked.expect("only these are asked") as u8,
            owner: id(target.owner.map(|owner| owner.0)),
            workspace: id(target.workspace.map(|workspace| workspace.0)),
            project: id(target.project.map(|project| project.0)),
            experiment: id(target.object.map(|(_, experiment)| experiment)),
        }
    }

    #[inline]
    pub fn request(self) -> Request {
        let id = |id: u32| (id != 0).then_some(i64::from(id));
        Request {
            who: PrincipalId(i64::from(self.who)),
            permission: ASKED[self.permission as usize],
            target: Target {
                workspace: id(self.workspace).map(WorkspaceId),
                project: id(self.project).map(ProjectId),
                object: id(self.experiment).map(|experiment| (ObjectKind::Experiment, experiment)),
                owner: id(self.owner).map(PrincipalId),
            },
        }
    }
}

/// What is asked, and so all that the peers need to know of a role.
pub const ASKED: [Permission; 4] = [
    Permission::ExperimentsRead,
    Permission::ExperimentsUpdate,
    Permission::ExperimentsCreate,
    Permission::RolesAssign,
];

const PROJECTS_OF_A_WORKSPACE: usize = 3;

/// xorshift64*: the same world on every machine.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 32) as usize * bound) >> 32
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

pub fn role_id(name: &str) -> RoleId {
    let at = ROLES
        .iter()
        .position(|role| *role == name)
        .expect("only roles of the list are asked for");
    RoleId(at as i64 + 1)
}

const ROLES: [&str; 10] = [
    "Viewer",
    "Editor",
    "EditorRestricted",
    "WorkspaceAdmin",
    "DataScientist",
    "OwnViewer",
    "ClusterAdmin",
    "Reader",
    "Writer",
    "Basics",
];

fn roles() -> Vec<Role> {
    let of = |name: &str| match BuiltInRole::find(name) {
        Some(role) => (role.permissions(), role.administrative),
        // What everybody holds on a fresh server.
        None => (
            RolePermissions::parse(["me:update", "tokens:*:own"]).expect("these are permissions"),
            false,
        ),
    };
    let make = |name: &&str| {
        let (permissions, administrative) = of(name);
        Role {
            id: role_id(name),
            name: (*name).into(),
            permissions,
            administrative,
        }
    };
    ROLES.iter().map(make).collect()
}

impl World {
    pub fn new(size: Size) -> World {
        let counts = size.counts();
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let (principals, members, users) = people(&counts, &mut dice);
        let biggest_group = GroupId(members.len() as i64);
        let projects: Vec<WorkspaceId> = (0..counts.workspaces * PROJECTS_OF_A_WORKSPACE)
            .map(|at| WorkspaceId((at / PROJECTS_OF_A_WORKSPACE) as i64 + 1))
            .collect();
        let mut world = World {
            size,
            users,
            roles: roles(),
            principals,
            assignments: Vec::new(),
            workspaces: counts.workspaces as i64,
            projects,
            experiments: Vec::new(),
            members,
            biggest_group,
            requests: Vec::new(),
            floor_bytes: counts.floor_bytes,
        };
        world.assign(&counts, &mut dice);
        let reach = world.workspaces_of_each();
        world.run_experiments(&counts, &reach, &mut dice);
        world.ask(&counts, &reach, &mut dice);
        world
    }

    fn give(&mut self, holder: Holder, role: &str, scope: Scope) {
        self.assignments.push(Assignment {
            id: AssignmentId(self.assignments.len() as i64 + 1),
            holder,
            role: role_id(role),
            scope,
            expires: None,
        });
    }

    /// About eight assignments for each workspace, one in three workspaces with one at a project, and what a fresh server has.
    fn assign(&mut self, counts: &Counts, dice: &mut Dice) {
        let first = Scope::Workspace(WorkspaceId(1));
        self.give(Holder::Group(self.users), "DataScientist", first);
        self.give(Holder::Group(self.users), "Basics", Scope::Global);
        let user = |dice: &mut Dice| Holder::Principal(PrincipalId(dice.below(counts.users) as i64 + 1));
        let groups: usize = counts.groups.iter().sum();
        let group = |dice: &mut Dice| Holder::Group(GroupId(dice.below(groups) as i64 + 1));
        for _ in 0..counts.administrators {
            self.give(user(dice), "ClusterAdmin", Scope::Global);
        }
        self.give(Holder::Group(self.biggest_group), "Viewer", first);
        for workspace in 1..=self.workspaces {
            let here = Scope::Workspace(WorkspaceId(workspace));
            self.give(user(dice), "WorkspaceAdmin", here);
            self.give(group(dice), "Editor", here);
            if dice.percent(50) {
                self.give(group(dice), "Viewer", here);
            }
            for role in ["Editor", "EditorRestricted", "DataScientist", "OwnViewer", "Viewer"] {
                self.give(user(dice), role, here);
            }
            if workspace % 3 == 0 {
                let project = (workspace as usize - 1) * PROJECTS_OF_A_WORKSPACE + dice.below(PROJECTS_OF_A_WORKSPACE);
                let project = ProjectId(project as i64 + 1);
                self.give(user(dice), "Writer", Scope::Project(project));
            }
        }
    }

    /// By principal: the workspaces at which it holds anything, the first workspace included.
    fn workspaces_of_each(&self) -> Vec<Vec<WorkspaceId>> {
        let mut reach = vec![vec![WorkspaceId(1)]; self.principals.len()];
        for assignment in &self.assignments {
            let Scope::Workspace(workspace) = assignment.scope else {
                continue;
            };
            match assignment.holder {
                Holder::Principal(id) => reach[id.0 as usize - 1].push(workspace),
                Holder::Group(group) if group == self.users => {}
                Holder::Group(group) => {
                    for member in &self.members[group.0 as usize - 1] {
                        reach[member.0 as usize - 1].push(workspace);
                    }
                }
            }
        }
        reach
    }

    /// Whoever is somewhere runs experiments there; one in fifty is shared singly.
    fn run_experiments(&mut self, counts: &Counts, reach: &[Vec<WorkspaceId>], dice: &mut Dice) {
        for id in 1..=counts.experiments as i64 {
            let owner = dice.below(counts.users);
            let workspace = dice.of(&reach[owner]);
            self.experiments.push(Experiment {
                workspace,
                project: project_of(workspace, dice),
                owner: PrincipalId(owner as i64 + 1),
            });
            if id % 50 == 0 {
                let with = Holder::Principal(PrincipalId(dice.below(counts.users) as i64 + 1));
                self.give(with, "Reader", Scope::Object(ObjectKind::Experiment, id));
            }
        }
    }

    /// 70 % view, 10 % cancel one's own, 10 % cancel another's, 5 % assign a role, 5 % create.
    fn ask(&mut self, counts: &Counts, reach: &[Vec<WorkspaceId>], dice: &mut Dice) {
        let mut of_workspace = vec![Vec::new(); counts.workspaces];
        for (at, experiment) in self.experiments.iter().enumerate() {
            of_workspace[experiment.workspace.0 as usize - 1].push(at as i64 + 1);
        }
        let shares: Vec<(PrincipalId, i64)> = self
            .assignments
            .iter()
            .filter_map(|one| match (one.holder, one.scope) {
                (Holder::Principal(who), Scope::Object(_, id)) => Some((who, id)),
                _ => None,
            })
            .collect();
        let administrators: Vec<(PrincipalId, WorkspaceId)> = self
            .assignments
            .iter()
            .filter(|one| one.role == role_id("WorkspaceAdmin"))
            .filter_map(|one| match (one.holder, one.scope) {
                (Holder::Principal(who), Scope::Workspace(id)) => Some((who, id)),
                _ => None,
            })
            .collect();
        let anybody = |dice: &mut Dice| PrincipalId(dice.below(counts.users) as i64 + 1);
        let any_experiment = |dice: &mut Dice| dice.below(counts.experiments) as i64 + 1;
        let any_workspace = |dice: &mut Dice| WorkspaceId(dice.below(counts.workspaces) as i64 + 1);
        let near = |who: PrincipalId, dice: &mut Dice| dice.of(&reach[who.0 as usize - 1]);
        let nearby_experiment = |who: PrincipalId, dice: &mut Dice| {
            let list = &of_workspace[near(who, dice).0 as usize - 1];
            if list.is_empty() {
                any_experiment(dice)
            } else {
                dice.of(list)
            }
        };
        for _ in 0..counts.requests {
            let (who, permission, target) = match dice.below(100) {
                0..70 => {
                    let who = anybody(dice);
                    let (who, id) = match dice.below(100) {
                        0..70 => (who, nearby_experiment(who, dice)),
                        70..75 => dice.of(&shares),
                        _ => (who, any_experiment(dice)),
                    };
                    (who, Permission::ExperimentsRead, self.experiment(id))
                }
                70..80 => {
                    let id = any_experiment(dice);
                    let own = self.experiment(id);
                    let owner = own.owner.expect("every experiment has an owner");
                    (owner, Permission::ExperimentsUpdate, own)
                }
                80..90 => {
                    let who = anybody(dice);
                    let near = dice.percent(50);
                    let id = if near {
                        nearby_experiment(who, dice)
                    } else {
                        any_experiment(dice)
                    };
                    (who, Permission::ExperimentsUpdate, self.experiment(id))
                }
                90..95 => {
                    let who = anybody(dice);
                    let (who, workspace) = if dice.percent(50) {
                        dice.of(&administrators)
                    } else {
                        (who, near(who, dice))
                    };
                    (who, Permission::RolesAssign, Target::workspace(workspace))
                }
                _ => {
                    let who = anybody(dice);
                    let workspace = if dice.percent(70) {
                        near(who, dice)
                    } else {
                        any_workspace(dice)
                    };
                    let target = Target {
                        workspace: Some(workspace),
                        project: Some(project_of(workspace, dice)),
                        ..Target::default()
                    };
                    (who, Permission::ExperimentsCreate, target)
                }
            };
            self.requests.push(Request {
                who,
                permission,
                target,
            });
        }
    }

    pub fn experiment(&self, id: i64) -> Target {
        let experiment = self.experiments[id as usize - 1];
        Target {
            workspace: Some(experiment.workspace),
            project: Some(experiment.project),
            object: Some((ObjectKind::Experiment, id)),
            owner: Some(experiment.owner),
        }
    }

    pub fn role(&self, id: RoleId) -> &Role {
        &self.roles[id.0 as usize - 1]
    }

    /// In words, for the head of the tables.
    pub fn describe(&self) -> String {
        let memberships: usize = self.principals.iter().map(|principal| principal.groups.len() - 1).sum();
        format!(
            "{} users in {:.1} of {} groups each, {} workspaces, {} projects, {} experiments, {} assignments",
            self.principals.len(),
            memberships as f64 / self.principals.len() as f64,
            self.members.len(),
            self.workspaces,
            self.projects.len(),
            self.experiments.len(),
            self.assignments.len(),
        )
    }
}

fn project_of(workspace: WorkspaceId, dice: &mut Dice) -> ProjectId {
    let at = (workspace.0 as usize - 1) * PROJECTS_OF_A_WORKSPACE + dice.below(PROJECTS_OF_A_WORKSPACE);
    ProjectId(at as i64 + 1)
}

fn people(counts: &Counts, dice: &mut Dice) -> (Vec<Principal>, Vec<Vec<PrincipalId>>, GroupId) {
    let [leaves, middle, top] = counts.groups;
    // One more: a group of the size that the promise names.
    let biggest = leaves + middle + top;
    let users = GroupId(biggest as i64 + 2);
    let mut members = vec![Vec::new(); biggest + 1];
    let mut principals = Vec::with_capacity(counts.users);
    // Anybody may be in it: its members' rows lie all over memory.
    let mut shuffled: Vec<usize> = (0..counts.users).collect();
    (0..counts.biggest_group).for_each(|at| shuffled.swap(at, at + dice.below(counts.users - at)));
    let mut in_biggest = vec![false; counts.users];
    shuffled[..counts.biggest_group]
        .iter()
        .for_each(|at| in_biggest[*at] = true);
    for (at, in_biggest) in in_biggest.into_iter().enumerate() {
        let id = PrincipalId(at as i64 + 1);
        let mut groups = Vec::new();
        for _ in 0..counts.leaves_of_a_user {
            let leaf = dice.below(leaves);
            groups.extend([leaf, leaves + leaf % middle, leaves + middle + leaf % top]);
        }
        if in_biggest {
            groups.push(biggest);
        }
        groups.sort_unstable();
        groups.dedup();
        for group in &groups {
            members[*group].push(id);
        }
        let groups = groups.into_iter().map(|group| GroupId(group as i64 + 1));
        principals.push(Principal {
            id,
            name: format!("user-{}", id.0),
            active: true,
            groups: groups.chain([users]).collect(),
            own_roles_only: false,
            is_service: false,
        });
    }
    (principals, members, users)
}

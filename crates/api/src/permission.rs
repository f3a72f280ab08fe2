//! The one list of permissions, sets of them, and the built-in roles (`access.md` §1 and §2).

use std::collections::HashMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::nearest;

/// Where a permission may be assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PermissionScope {
    /// `W`: at any scope.
    Any,
    /// `G`: only globally.
    Global,
}

/// Over which objects a permission reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Only objects that the principal owns.
    Own,
    All,
}

macro_rules! permissions {
    ($($scope:ident $variant:ident = $name:literal: $meaning:literal,)*) => {
        /// `resource:action`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Permission { $(#[doc = $meaning] $variant),* }

        impl Permission {
            pub const ALL: &'static [Permission] = &[$(Permission::$variant),*];

            pub const fn name(self) -> &'static str {
                match self { $(Permission::$variant => $name),* }
            }

            /// One line for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Permission::$variant => $meaning),* }
            }

            pub const fn scope(self) -> PermissionScope {
                match self { $(Permission::$variant => PermissionScope::$scope),* }
            }
        }

        /// One type for each permission, so that a function can demand the proof of exactly one (`Granted<ExperimentsRead>`).
        pub mod permit {
            use super::{Permission, Permit};
            $(#[doc = $meaning] #[derive(Debug, Clone, Copy)] pub struct $variant;
            impl Permit for $variant { const PERMISSION: Permission = Permission::$variant; })*
        }
    };
}

/// A permission as a type.
pub trait Permit: Send + Sync + 'static {
    const PERMISSION: Permission;
}

permissions! {
    Any ExperimentsCreate = "experiments:create": "submit experiments",
    Any ExperimentsRead = "experiments:read": "see configuration, state and name of experiments",
    Any ExperimentsReadArtifacts = "experiments:read-artifacts": "see logs, metrics, code, checkpoints and files of experiments",
    Any ExperimentsUpdate = "experiments:update": "pause, cancel, kill experiments, change their priority, report",
    Any ExperimentsEdit = "experiments:edit": "change name, labels and notes of experiments, archive them",
    Any ExperimentsDelete = "experiments:delete": "delete experiments",
    Any TasksCreate = "tasks:create": "start notebooks, shells, commands and TensorBoards",
    Any TasksRead = "tasks:read": "see tasks",
    Any TasksOpen = "tasks:open": "enter a running notebook or shell, with all that its owner can do there",
    Any TasksUpdate = "tasks:update": "stop tasks and change their priority",
    Global WorkspacesCreate = "workspaces:create": "make workspaces",
    Any WorkspacesRead = "workspaces:read": "see a workspace",
    Any WorkspacesUpdate = "workspaces:update": "rename and archive a workspace",
    Any WorkspacesDelete = "workspaces:delete": "delete a workspace",
    Any WorkspacesSetStorage = "workspaces:set-storage": "set where a workspace keeps its files",
    Any WorkspacesSetDefaultQueue = "workspaces:set-default-queue": "set the default queue of a workspace",
    Any WorkspacesSetOsUser = "workspaces:set-os-user": "set the operating-system user that jobs of a workspace run as",
    Any ProjectsCreate = "projects:create": "make projects",
    Any ProjectsRead = "projects:read": "see projects",
    Any ProjectsUpdate = "projects:update": "rename and archive projects",
    Any ProjectsDelete = "projects:delete": "delete projects",
    Any ModelsCreate = "models:create": "register models and versions",
    Any ModelsRead = "models:read": "see the model registry",
    Any ModelsUpdate = "models:update": "change registered models",
    Any ModelsDelete = "models:delete": "delete registered models",
    Any ModelsDeleteVersion = "models:delete-version": "delete versions of models",
    Any StacksCreate = "stacks:create": "make stacks",
    Any StacksRead = "stacks:read": "see stacks",
    Any StacksUpdate = "stacks:update": "change stacks",
    Any StacksDelete = "stacks:delete": "delete stacks",
    Any QueuesRead = "queues:read": "see queues",
    Any QueuesSubmit = "queues:submit": "put jobs into a queue",
    Any QueuesServe = "queues:serve": "take jobs out of a queue, as an agent",
    Global QueuesCreate = "queues:create": "make queues",
    Global QueuesUpdate = "queues:update": "rename and change queues",
    Global QueuesDelete = "queues:delete": "delete queues",
    Global AgentsRead = "agents:read": "see addresses and hardware of agents",
    Global AgentsManage = "agents:manage": "enable, disable and drain agents",
    Any PoliciesRead = "policies:read": "see config policies",
    Any PoliciesUpdate = "policies:update": "change config policies",
    Any RolesRead = "roles:read": "see who holds which role",
    Any RolesAssign = "roles:assign": "assign roles and take them away",
    Global RolesCreate = "roles:create": "make custom roles",
    Global RolesUpdate = "roles:update": "change custom roles",
    Global RolesDelete = "roles:delete": "delete custom roles",
    Global UsersRead = "users:read": "see the full table of users",
    Global UsersCreate = "users:create": "make and invite users",
    Global UsersUpdate = "users:update": "change, deactivate and activate users",
    Global UsersDelete = "users:delete": "remove users",
    Global GroupsRead = "groups:read": "see groups and their members",
    Global GroupsCreate = "groups:create": "make groups",
    Global GroupsUpdate = "groups:update": "change groups and their members",
    Global GroupsDelete = "groups:delete": "delete groups",
    Global ServiceAccountsRead = "service-accounts:read": "see service accounts",
    Global ServiceAccountsCreate = "service-accounts:create": "make service accounts",
    Global ServiceAccountsUpdate = "service-accounts:update": "change service accounts and their credentials",
    Global ServiceAccountsDelete = "service-accounts:delete": "delete service accounts",
    Global TokensCreate = "tokens:create": "make API keys",
    Global TokensRead = "tokens:read": "see API keys (never their secret)",
    Global TokensRevoke = "tokens:revoke": "revoke API keys",
    Global VaultsRead = "vaults:read": "see vaults",
    Global VaultsUpdate = "vaults:update": "change vaults",
    Any AuditRead = "audit:read": "read the audit",
    Global ClusterReadUsage = "cluster:read-usage": "see the usage of the whole cluster",
    Global ClusterReadLogs = "cluster:read-logs": "see the logs of the server",
    Global ClusterReadConfig = "cluster:read-config": "see the configuration of the server",
    Global ClusterUpdateConfig = "cluster:update-config": "change the configuration of the server",
    Global ClusterBreakGlass = "cluster:break-glass": "become ClusterAdmin for a few hours, at once and on record",
    Global MeUpdate = "me:update": "change own name, e-mail address and password",
}

impl Permission {
    pub fn resource(self) -> &'static str {
        self.name()
            .split_once(':')
            .expect("every permission is resource:action")
            .0
    }

    pub fn action(self) -> &'static str {
        self.name()
            .split_once(':')
            .expect("every permission is resource:action")
            .1
    }

    pub fn find(name: &str) -> Option<Permission> {
        static BY_NAME: LazyLock<HashMap<&str, Permission>> =
            LazyLock::new(|| Permission::ALL.iter().map(|one| (one.name(), *one)).collect());
        BY_NAME.get(name).copied()
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Permission {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Permission::find(&name).ok_or_else(|| serde::de::Error::custom(unknown_permission(&name)))
    }
}

impl JsonSchema for Permission {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Permission".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = Permission::ALL.iter().map(|permission| permission.name()).collect();
        schemars::json_schema!({"type": "string", "enum": names})
    }
}

fn unknown_permission(name: &str) -> String {
    let meant = nearest(name, Permission::ALL.iter().map(|permission| permission.name()));
    let meant = meant
        .map(|meant| format!("; did you mean `{meant}`?"))
        .unwrap_or_default();
    format!("there is no permission `{name}`{meant}")
}

/// A set of permissions, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct PermissionSet(pub u128);

impl PermissionSet {
    pub const EMPTY: PermissionSet = PermissionSet(0);

    pub const fn of(permission: Permission) -> PermissionSet {
        PermissionSet(1 << permission as u8)
    }

    pub fn everything() -> PermissionSet {
        Permission::ALL.iter().copied().collect()
    }

    /// Every permission that may only be assigned globally (`G`).
    pub fn global_only() -> PermissionSet {
        Permission::ALL
            .iter()
            .copied()
            .filter(|permission| permission.scope() == PermissionScope::Global)
            .collect()
    }

    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    pub const fn union(self, other: PermissionSet) -> PermissionSet {
        PermissionSet(self.0 | other.0)
    }

    pub const fn intersection(self, other: PermissionSet) -> PermissionSet {
        PermissionSet(self.0 & other.0)
    }

    pub const fn without(self, other: PermissionSet) -> PermissionSet {
        PermissionSet(self.0 & !other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let permission = Permission::ALL.get(rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(*permission)
        })
    }

    /// Reads what may be typed where a permission is meant: a permission, `resource:*`, and the seeds' words: Fetch ML's
    /// `jobs:create`, `jobs:read`, `jobs:update`; ZenML's `read`, `write`, `me`. The suffix `:own` narrows the reach.
    /// `cluster:break-glass` opens everything, and so is meant by no word for several but `*`.
    pub fn parse(text: &str) -> Result<(PermissionSet, Reach), String> {
        let (name, reach) = match text.strip_suffix(":own") {
            Some(name) => (name, Reach::Own),
            None => (text, Reach::All),
        };
        Ok((Self::parse_name(name)?, reach))
    }

    fn parse_name(name: &str) -> Result<PermissionSet, String> {
        use Permission::*;
        let of = |list: &[Permission]| list.iter().copied().collect();
        Ok(match name {
            "jobs:create" => of(&[ExperimentsCreate]),
            "jobs:read" => of(&[ExperimentsRead, ExperimentsReadArtifacts]),
            "jobs:update" => of(&[ExperimentsUpdate, ExperimentsEdit]),
            "me" => of(&[MeUpdate]),
            "read" => Self::zenml_read(),
            "write" => Self::everything()
                .without(Self::zenml_read())
                .without(of(&[MeUpdate, ClusterBreakGlass])),
            "*" => Self::everything(),
            _ => match name.strip_suffix(":*") {
                Some(resource) => {
                    let set: PermissionSet = Permission::ALL
                        .iter()
                        .copied()
                        .filter(|permission| permission.resource() == resource && *permission != ClusterBreakGlass)
                        .collect();
                    if set.is_empty() {
                        let resources = Permission::ALL.iter().map(|permission| permission.resource());
                        let meant = nearest(resource, resources).map(|meant| format!("; did you mean `{meant}:*`?"));
                        return Err(format!(
                            "there is no resource `{resource}`{}",
                            meant.unwrap_or_default()
                        ));
                    }
                    set
                }
                None => Self::of(Permission::find(name).ok_or_else(|| unknown_permission(name))?),
            },
        })
    }

    /// ZenML's `read`: every `*:read*` but those of `audit`, `vaults`, `tokens` and `cluster`.
    fn zenml_read() -> PermissionSet {
        Permission::ALL
            .iter()
            .copied()
            .filter(|permission| permission.action().starts_with("read"))
            .filter(|permission| !["audit", "vaults", "tokens", "cluster"].contains(&permission.resource()))
            .collect()
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        permissions
            .into_iter()
            .fold(Self::EMPTY, |set, permission| set.union(Self::of(permission)))
    }
}

/// What a role gives: permissions over everything in its scope, and permissions over what one owns there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RolePermissions {
    pub all: PermissionSet,
    pub own: PermissionSet,
}

impl RolePermissions {
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<RolePermissions, String> {
        let mut role = RolePermissions::default();
        for text in texts {
            match PermissionSet::parse(text)? {
                (set, Reach::All) => role.all = role.all.union(set),
                (set, Reach::Own) => role.own = role.own.union(set),
            }
        }
        role.own = role.own.without(role.all);
        Ok(role)
    }

    /// Whether the role may be assigned below global scope: it holds no `G` permission.
    pub fn is_global_only(self) -> bool {
        !self
            .all
            .union(self.own)
            .intersection(PermissionSet::global_only())
            .is_empty()
    }

    /// What counts of it below global scope, where a `G` permission gives nothing.
    pub fn below_global(self) -> RolePermissions {
        RolePermissions {
            all: self.all.without(PermissionSet::global_only()),
            own: self.own.without(PermissionSet::global_only()),
        }
    }

    /// What one must hold oneself to hand this out: the same; everything, where it holds the way to everything.
    pub fn to_give(self) -> RolePermissions {
        if !self.all.contains(Permission::ClusterBreakGlass) {
            return self;
        }
        RolePermissions {
            all: PermissionSet::everything(),
            own: PermissionSet::EMPTY,
        }
    }

    /// As one would type them: `experiments:read`, `models:delete:own`.
    pub fn words(self) -> Vec<String> {
        let all = self.all.iter().map(|permission| permission.name().to_owned());
        all.chain(self.own.iter().map(|permission| format!("{permission}:own")))
            .collect()
    }
}

/// A role that is always there and cannot be changed.
pub struct BuiltInRole {
    pub name: &'static str,
    pub description: &'static str,
    pub permissions: &'static [&'static str],
    /// Whether the role holds administrative rights: jobs never carry them, and their use on another's object is recorded.
    pub administrative: bool,
}

const VIEWER: &[&str] = &[
    "models:read",
    "workspaces:read",
    "projects:read",
    "experiments:read",
    "experiments:read-artifacts",
    "tasks:read",
    "stacks:read",
    "queues:read",
    "policies:read",
    "roles:read",
];

macro_rules! concat_permissions {
    ($base:expr, $($more:literal),* $(,)?) => {{
        const BASE: &[&str] = $base;
        const MORE: &[&str] = &[$($more),*];
        const fn concat() -> [&'static str; BASE.len() + MORE.len()] {
            let mut both = [""; BASE.len() + MORE.len()];
            let mut at = 0;
            while at < both.len() {
                both[at] = if at < BASE.len() { BASE[at] } else { MORE[at - BASE.len()] };
                at += 1;
            }
            both
        }
        const BOTH: &[&str] = &concat();
        BOTH
    }};
}

const EDITOR_WITHOUT_PROJECTS: &[&str] = concat_permissions!(
    VIEWER,
    "experiments:*",
    "models:create",
    "models:update",
    "models:delete:own",
    "models:delete-version:own",
    "queues:submit",
    "tasks:open",
    "stacks:create",
    "stacks:update:own",
    "stacks:delete:own",
);
const EDITOR_RESTRICTED: &[&str] = concat_permissions!(EDITOR_WITHOUT_PROJECTS, "projects:*");
const EDITOR: &[&str] = concat_permissions!(EDITOR_RESTRICTED, "tasks:create", "tasks:update");
const WRITER: &[&str] = concat_permissions!(EDITOR, "stacks:update");
const WORKSPACE_ADMIN: &[&str] = concat_permissions!(
    EDITOR,
    "workspaces:update",
    "workspaces:delete",
    "workspaces:set-storage",
    "workspaces:set-default-queue",
    "models:delete",
    "models:delete-version",
    "stacks:update",
    "stacks:delete",
    "roles:assign",
    "policies:update",
    "audit:read",
);

/// `access.md` §2, in its order.
pub const BUILT_IN_ROLES: &[BuiltInRole] = &[
    role("ModelRegistryViewer", "sees the model registry", &["models:read"]),
    role("Viewer", "sees everything in its scope", VIEWER),
    role(
        "EditorRestricted",
        "Viewer, and works on experiments, projects and models; uses but does not start tasks",
        EDITOR_RESTRICTED,
    ),
    role(
        "EditorProjectRestricted",
        "Editor that may not make, change or delete projects",
        concat_permissions!(EDITOR_WITHOUT_PROJECTS, "tasks:create", "tasks:update"),
    ),
    role("Editor", "EditorRestricted, and starts and stops tasks", EDITOR),
    administrative(
        "WorkspaceAdmin",
        "Editor, and administers its workspace and who may use it",
        WORKSPACE_ADMIN,
    ),
    role("WorkspaceCreator", "makes workspaces", &["workspaces:create"]),
    role(
        "TokenCreator",
        "makes, sees and revokes its own API keys",
        &["tokens:create:own", "tokens:read:own", "tokens:revoke:own"],
    ),
    administrative("ClusterAdmin", "everything", &["*"]),
    role(
        "guest",
        "sees everything and changes its own data (ZenML)",
        &["read", "me"],
    ),
    role(
        "DataScientist",
        "runs experiments and sees and manages its own",
        &[
            "experiments:create",
            "experiments:read:own",
            "experiments:read-artifacts:own",
            "experiments:update:own",
            "experiments:edit:own",
            "experiments:delete:own",
            "tasks:create",
            "tasks:*:own",
            "models:create",
            "models:*:own",
            "queues:read",
            "queues:submit",
            "projects:read",
            "workspaces:read",
            "stacks:read",
        ],
    ),
    role(
        "OwnViewer",
        "sees its own experiments (Fetch ML's Viewer)",
        &[
            "experiments:read:own",
            "experiments:read-artifacts:own",
            "workspaces:read",
            "projects:read",
        ],
    ),
    administrative(
        "Administrator",
        "everything but the making, changing and deleting of queues (ClearML's Admins)",
        NOT_QUEUES,
    ),
    administrative("QueueAdmin", "everything about queues", &["queues:*"]),
    role(
        "Reader",
        "what Viewer holds, at the scope at which it is assigned (ClearML's read)",
        VIEWER,
    ),
    role(
        "Writer",
        "what Editor holds, at the scope at which it is assigned, and changes stacks shared with it (ClearML's read & modify)",
        WRITER,
    ),
    administrative(
        BREAK_GLASS,
        "may become ClusterAdmin for a few hours in an emergency: at once, and loudly on record",
        &["cluster:break-glass"],
    ),
];

/// The role that is held for emergencies.
pub const BREAK_GLASS: &str = "BreakGlass";

const NOT_QUEUES: &[&str] = &[
    "experiments:*",
    "tasks:*",
    "workspaces:*",
    "projects:*",
    "models:*",
    "stacks:*",
    "queues:read",
    "queues:submit",
    "queues:serve",
    "agents:*",
    "policies:*",
    "roles:*",
    "users:*",
    "groups:*",
    "service-accounts:*",
    "tokens:*",
    "vaults:*",
    "audit:*",
    "cluster:*",
    "me:*",
];

const fn role(name: &'static str, description: &'static str, permissions: &'static [&'static str]) -> BuiltInRole {
    BuiltInRole {
        name,
        description,
        permissions,
        administrative: false,
    }
}

const fn administrative(
    name: &'static str,
    description: &'static str,
    permissions: &'static [&'static str],
) -> BuiltInRole {
    BuiltInRole {
        name,
        description,
        permissions,
        administrative: true,
    }
}

impl BuiltInRole {
    pub fn find(name: &str) -> Option<&'static BuiltInRole> {
        let name = if name == "admin" { "ClusterAdmin" } else { name };
        BUILT_IN_ROLES.iter().find(|role| role.name == name)
    }

    pub fn permissions(&self) -> RolePermissions {
        RolePermissions::parse(self.permissions.iter().copied()).expect("the built-in roles name real permissions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(role: &str, permission: &str) -> bool {
        BuiltInRole::find(role)
            .unwrap()
            .permissions()
            .words()
            .iter()
            .any(|word| word == permission)
    }

    #[test]
    fn the_words_of_the_seeds_are_understood() {
        use Permission::*;
        let of = |list: &[Permission]| list.iter().copied().collect::<PermissionSet>();
        assert_eq!(
            PermissionSet::parse("jobs:update").unwrap().0,
            of(&[ExperimentsUpdate, ExperimentsEdit])
        );
        let (read, write) = (
            PermissionSet::parse("read").unwrap().0,
            PermissionSet::parse("write").unwrap().0,
        );
        assert!(read.contains(UsersRead) && !read.contains(AuditRead) && !read.contains(VaultsRead));
        assert!(write.contains(AuditRead) && write.contains(ExperimentsCreate));
        assert!(read.intersection(write).is_empty());
        let rest = of(&[MeUpdate, ClusterBreakGlass]);
        assert_eq!(read.union(write).union(rest), PermissionSet::everything());
        assert!(!PermissionSet::parse("cluster:*").unwrap().0.contains(ClusterBreakGlass));
        assert_eq!(
            PermissionSet::parse("models:delete:own").unwrap(),
            (of(&[ModelsDelete]), Reach::Own)
        );
        assert!(
            PermissionSet::parse("experiment:read")
                .unwrap_err()
                .contains("did you mean `experiments:read`")
        );
    }

    #[test]
    fn each_built_in_role_holds_what_the_table_says() {
        assert!(holds("Editor", "tasks:create") && !holds("EditorRestricted", "tasks:create"));
        assert!(holds("EditorRestricted", "tasks:open") && holds("EditorRestricted", "models:delete:own"));
        assert!(
            !holds("EditorProjectRestricted", "projects:create") && holds("EditorProjectRestricted", "projects:read")
        );
        assert!(holds("WorkspaceAdmin", "models:delete") && !holds("WorkspaceAdmin", "workspaces:set-os-user"));
        assert!(holds("ClusterAdmin", "workspaces:set-os-user") && holds("admin", "queues:delete"));
        assert!(holds("Administrator", "queues:serve") && !holds("Administrator", "queues:create"));
        assert!(holds("OwnViewer", "experiments:read:own") && !holds("OwnViewer", "experiments:create"));
        assert_eq!(
            BuiltInRole::find("Administrator")
                .unwrap()
                .permissions()
                .all
                .0
                .count_ones() as usize
                + 4,
            Permission::ALL.len()
        );
    }

    #[test]
    fn only_roles_without_global_permissions_may_be_assigned_at_a_workspace() {
        let global: Vec<_> = BUILT_IN_ROLES
            .iter()
            .filter(|r| r.permissions().is_global_only())
            .map(|r| r.name)
            .collect();
        assert_eq!(
            global,
            [
                "WorkspaceCreator",
                "TokenCreator",
                "ClusterAdmin",
                "guest",
                "Administrator",
                "QueueAdmin",
                "BreakGlass"
            ]
        );
    }

    #[test]
    fn only_who_holds_everything_hands_out_the_way_to_everything() {
        let break_glass = BuiltInRole::find(BREAK_GLASS).unwrap().permissions();
        assert_eq!(break_glass.to_give().all, PermissionSet::everything());
        let editor = BuiltInRole::find("Editor").unwrap().permissions();
        assert_eq!(editor.to_give(), editor);
    }

    #[test]
    fn a_role_reads_back_from_its_own_words() {
        for role in BUILT_IN_ROLES {
            let permissions = role.permissions();
            let words = permissions.words();
            assert_eq!(
                RolePermissions::parse(words.iter().map(String::as_str)),
                Ok(permissions),
                "{}",
                role.name
            );
        }
    }
}

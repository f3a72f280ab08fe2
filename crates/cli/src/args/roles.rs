//! `ml role …`, and Determined's `ml rbac …`

use clap::{Args, Subcommand};

use super::Sure;

#[derive(Subcommand)]
pub enum Role {
    /// List the roles
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml role list\n  ml role list -o wide"
    )]
    List,
    /// Show what a role holds, and who holds it
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  ml role describe Editor\n  ml role describe WorkspaceAdmin --json"
    )]
    Describe {
        #[arg(value_name = "NAME|ID")]
        role: String,
    },
    /// Make a role of permissions; nobody holds it yet
    #[command(
        after_help = "Examples:\n  ml role create reviewer -p read -p experiments:edit\n  ml role create operators -p read -p write -p me"
    )]
    Create {
        name: String,
        /// As in experiments:read, models:delete:own, queues:*, jobs:read, read, write or me; see `ml permission list`
        #[arg(short, long = "permission", visible_alias = "permissions", value_name = "PERMISSION")]
        permissions: Vec<String>,
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
    },
    /// Change a role; whoever holds it holds the change from the next request on
    #[command(
        after_help = "Examples:\n  ml role update reviewer -a tasks:open -r experiments:edit\n  ml role update reviewer -r '*' -a 'tasks:*'\n  ml role update reviewer --name Reviewer"
    )]
    Update {
        #[arg(value_name = "NAME|ID")]
        role: String,
        /// Another name
        #[arg(short, long)]
        name: Option<String>,
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// A permission to add, after those to take out are taken out
        #[arg(short, long, visible_alias = "add-permission", value_name = "PERMISSION")]
        add: Vec<String>,
        /// A permission to take out
        #[arg(short, long, visible_alias = "remove-permission", value_name = "PERMISSION")]
        remove: Vec<String>,
    },
    /// Delete a role of one's own making
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  ml role delete reviewer\n  ml role delete reviewer --force --yes"
    )]
    Delete {
        #[arg(value_name = "NAME|ID")]
        role: String,
        /// Even where it is assigned: whoever holds it holds it no more
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Assign a role to users and groups: to all of them, or to nobody
    #[command(
        after_help = "Examples:\n  ml role assign Editor --group \"Traffic Lights Team\" -w \"Traffic Lights\"\n  ml role assign Viewer --user ana --user bob -w \"Stop Signs\" --until 7d"
    )]
    Assign(Assign),
    /// Take a role away from users and groups: from all of them, or from nobody
    #[command(
        visible_alias = "unassign",
        after_help = "Examples:\n  ml role revoke Editor --user ana -w \"Stop Signs\"\n  ml role revoke WorkspaceCreator --group vision"
    )]
    Revoke(Revoke),
    /// Who holds which role, where, until when
    #[command(
        subcommand,
        after_help = "Examples:\n  ml role assignment list -w \"Stop Signs\"\n  ml role assignment change 12 --until 2027-01-31"
    )]
    Assignment(Assignment),
}

/// Where a role holds; without any of these, everywhere.
#[derive(Args, Default)]
pub struct Where {
    /// On this workspace, or in which the project is
    #[arg(short, long, value_name = "NAME|ID")]
    pub workspace: Option<String>,
    /// On this project of the workspace
    #[arg(long, value_name = "NAME|ID")]
    pub project: Option<String>,
    /// On what is named so: experiment:12, queue:NAME, model:WORKSPACE/NAME, stack:NAME, workspace:NAME, project:WORKSPACE/PROJECT or installation
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["workspace", "project"])]
    pub on: Option<String>,
}

/// Who holds a role.
#[derive(Args, Default)]
pub struct Holders {
    /// A user or service account
    #[arg(id = "holder-user", long = "user", value_name = "USER")]
    pub users: Vec<String>,
    #[arg(short, long = "group", visible_alias = "team", value_name = "GROUP")]
    pub groups: Vec<String>,
}

/// A role on one thing, as it is given most often.
#[derive(Args)]
pub struct Share {
    /// The number of an experiment, or queue:NAME, model:WORKSPACE/NAME, stack:NAME, project:WORKSPACE/PROJECT, workspace:NAME
    #[arg(value_name = "WHAT")]
    pub what: String,
    #[command(flatten)]
    pub with: Holders,
    #[arg(long, value_name = "ROLE", default_value = "Reader")]
    pub role: String,
    /// When it ends by itself, as in 8h, 7d or 2027-01-31
    #[arg(long, value_name = "DATE|DURATION")]
    pub until: Option<String>,
    /// Kept beside it, for whoever asks later
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub reason: String,
}

/// What [`Share`] is taken back by.
#[derive(Args)]
pub struct Unshare {
    /// As in `ml share`
    #[arg(value_name = "WHAT")]
    pub what: String,
    #[command(flatten)]
    pub from: Holders,
    #[arg(long, value_name = "ROLE", default_value = "Reader")]
    pub role: String,
}

fn on(what: String) -> Where {
    let is_number = !what.is_empty() && what.bytes().all(|byte| byte.is_ascii_digit());
    Where {
        on: Some(if is_number { format!("experiment:{what}") } else { what }),
        ..Where::default()
    }
}

impl From<Share> for Role {
    fn from(share: Share) -> Role {
        Role::Assign(Assign {
            role: share.role,
            to: share.with,
            place: on(share.what),
            until: share.until,
            reason: share.reason,
        })
    }
}

impl From<Unshare> for Role {
    fn from(unshare: Unshare) -> Role {
        Role::Revoke(Revoke {
            role: unshare.role,
            from: unshare.from,
            place: on(unshare.what),
        })
    }
}

#[derive(Args)]
pub struct Assign {
    #[arg(value_name = "ROLE")]
    pub role: String,
    #[command(flatten)]
    pub to: Holders,
    #[command(flatten)]
    pub place: Where,
    /// When it ends by itself, as in 8h, 7d or 2027-01-31
    #[arg(long, value_name = "DATE|DURATION")]
    pub until: Option<String>,
    /// Kept beside it, for whoever asks later
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub reason: String,
}

#[derive(Args)]
pub struct Revoke {
    #[arg(value_name = "ROLE")]
    pub role: String,
    #[command(flatten)]
    pub from: Holders,
    #[command(flatten)]
    pub place: Where,
}

#[derive(Subcommand)]
pub enum Assignment {
    /// List the assignments that one may see: one's own, and those of the workspaces where one may read roles
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml role assignment list -w \"Stop Signs\"\n  ml role assignment list --user ana --through-groups -o wide"
    )]
    List(Box<Assignments>),
    /// Give an assignment another role or another end, in one act
    #[command(
        after_help = "Examples:\n  ml role assignment change 12 --role Viewer\n  ml role assignment change 12 --until 7d"
    )]
    Change {
        #[arg(value_name = "ID")]
        id: i64,
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// When it ends by itself, as in 8h, 7d or 2027-01-31
        #[arg(long, value_name = "DATE|DURATION")]
        until: Option<String>,
        /// Let it hold without an end
        #[arg(long, conflicts_with = "until")]
        no_end: bool,
    },
    /// Take assignments away by their numbers
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  ml role assignment delete 12\n  ml role assignment delete 12 13"
    )]
    Delete {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
    },
}

#[derive(Args)]
pub struct Assignments {
    /// Those of a user or service account
    #[arg(id = "holder-user", long = "user", value_name = "USER")]
    pub user: Option<String>,
    /// With --user: also those that reach the user through groups
    #[arg(long, requires = "holder-user")]
    pub through_groups: bool,
    #[arg(short, long, value_name = "GROUP")]
    pub group: Option<String>,
    #[arg(short, long, value_name = "ROLE")]
    pub role: Option<String>,
    #[command(flatten)]
    pub place: Where,
    /// Those that have just ended too
    #[arg(short, long)]
    pub all: bool,
}

/// Determined's words for the same.
#[derive(Subcommand)]
pub enum Rbac {
    /// Assign a role to a user or a group; without -w, everywhere
    #[command(
        after_help = "Examples:\n  ml rbac assign-role -u ana WorkspaceCreator\n  ml rbac assign-role -g \"Traffic Lights Team\" -w \"Traffic Lights\" Editor\n\n\
        Here -u is who gets the role; to act as somebody else, put -u before `rbac`."
    )]
    AssignRole {
        #[command(flatten)]
        which: RbacAssignment,
        /// When it ends by itself, as in 8h, 7d or 2027-01-31
        #[arg(long, value_name = "DATE|DURATION")]
        until: Option<String>,
    },
    /// Take a role away from a user or a group
    #[command(
        after_help = "Examples:\n  ml rbac unassign-role -u ana WorkspaceCreator\n  ml rbac unassign-role -g \"Traffic Lights Team\" -w \"Traffic Lights\" Editor\n\n\
        Here -u is who loses the role; to act as somebody else, put -u before `rbac`."
    )]
    UnassignRole(RbacAssignment),
    /// List what one may do, place by place
    #[command(after_help = "Examples:\n  ml rbac my-permissions\n  ml rbac my-permissions --json")]
    MyPermissions,
    /// List the roles with what they hold
    #[command(after_help = "Examples:\n  ml rbac list-roles\n  ml rbac list-roles --exclude-global-roles")]
    ListRoles {
        /// Only those that can be assigned on a workspace
        #[arg(long)]
        exclude_global_roles: bool,
    },
    /// Show what a role holds, and who holds it
    #[command(after_help = "Examples:\n  ml rbac describe-role Editor\n  ml rbac describe-role WorkspaceAdmin --json")]
    DescribeRole {
        #[arg(value_name = "ROLE")]
        role: String,
    },
    /// List the roles of a user, also those that come through groups
    #[command(after_help = "Examples:\n  ml rbac list-users-roles ana\n  ml rbac list-users-roles ana --json")]
    ListUsersRoles {
        #[arg(value_name = "USER")]
        name: String,
    },
    /// List the roles of a group
    #[command(
        after_help = "Examples:\n  ml rbac list-groups-roles \"Traffic Lights Team\"\n  ml rbac list-groups-roles vision --json"
    )]
    ListGroupsRoles {
        #[arg(value_name = "GROUP")]
        name: String,
    },
}

#[derive(Args)]
pub struct RbacAssignment {
    #[arg(value_name = "ROLE")]
    pub role: String,
    /// The user or service account
    #[arg(
        id = "holder-user",
        short = 'u',
        long = "user",
        visible_alias = "username-to-assign",
        value_name = "USER"
    )]
    pub user: Option<String>,
    /// The group
    #[arg(short, long, visible_alias = "group-name-to-assign", value_name = "GROUP")]
    pub group: Option<String>,
    #[command(flatten)]
    pub place: Where,
}

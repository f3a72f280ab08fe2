//! `ml workspace …`, `ml project …`

use clap::{Args, Subcommand};

use super::Sure;

#[derive(Subcommand)]
pub enum Workspace {
    /// Make a workspace, with its project `default`
    #[command(
        after_help = "Examples:\n  ml workspace create \"Traffic Lights\"\n  ml workspace create vision --description 'everything with a camera'"
    )]
    Create {
        name: String,
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
    },
    /// List the workspaces that one may see
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml workspace list\n  ml workspace list --all -o wide"
    )]
    List {
        /// Archived ones too
        #[arg(short, long)]
        all: bool,
    },
    /// Show a workspace
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  ml workspace describe \"Traffic Lights\"\n  ml workspace describe 3 --json"
    )]
    Describe {
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Give a workspace another name
    #[command(
        after_help = "Examples:\n  ml workspace rename \"Traffic Lights\" Crossings\n  ml workspace rename 3 Crossings"
    )]
    Rename {
        #[arg(value_name = "NAME|ID")]
        name: String,
        new_name: String,
    },
    /// Change name or description of a workspace
    #[command(
        after_help = "Examples:\n  ml workspace edit vision --description 'everything with a camera'\n  ml workspace edit vision --name Vision"
    )]
    Edit {
        #[arg(value_name = "NAME|ID")]
        name: String,
        #[command(flatten)]
        change: Change,
    },
    /// Let a workspace take nothing new; what is in it stays and can be read
    #[command(after_help = "Examples:\n  ml workspace archive \"Traffic Lights\"\n  ml workspace archive 3")]
    Archive {
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Let an archived workspace take experiments again
    #[command(after_help = "Examples:\n  ml workspace unarchive \"Traffic Lights\"\n  ml workspace unarchive 3")]
    Unarchive {
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Delete a workspace that holds no experiments, with its projects and every role assigned there
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  ml workspace delete \"Traffic Lights\"\n  ml workspace delete 3 --yes"
    )]
    Delete {
        #[arg(value_name = "NAME|ID")]
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// List who holds which role in a workspace
    #[command(
        visible_alias = "list-members",
        after_help = "Examples:\n  ml workspace members \"Traffic Lights\"\n  ml workspace members 3 -o wide"
    )]
    Members {
        /// Which [default: the current one]
        #[arg(value_name = "NAME|ID")]
        name: Option<String>,
    },
    /// Set what submissions to a workspace that name no queue go into
    #[command(
        after_help = "Examples:\n  ml workspace set-default-queue \"Traffic Lights\" gpu\n  ml workspace set-default-queue \"Traffic Lights\" --none"
    )]
    SetDefaultQueue {
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// One that is open to all workspaces, or bound to this one
        #[arg(required_unless_present = "none")]
        queue: Option<String>,
        /// The default queue of all
        #[arg(long, conflicts_with = "queue")]
        none: bool,
    },
    /// Remember a workspace as the current one: for what is submitted, and for project commands
    #[command(after_help = "Examples:\n  ml workspace use \"Traffic Lights\"\n  ml workspace use --none")]
    Use {
        #[arg(value_name = "NAME|ID", required_unless_present = "none")]
        name: Option<String>,
        /// Forget it, and the current project
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
}

#[derive(Subcommand)]
pub enum Project {
    /// Make a project
    #[command(
        after_help = "Examples:\n  ml project create \"Traffic Lights\" Green\n  ml project create Green --description 'only the green ones'"
    )]
    Create {
        #[command(flatten)]
        which: Which,
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
    },
    /// List the projects that one may see
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml project list \"Traffic Lights\"\n  ml project list --all"
    )]
    List {
        /// Only those in it [default: the current one; every one where none is current]
        #[arg(value_name = "WORKSPACE")]
        workspace: Option<String>,
        /// Archived ones too
        #[arg(short, long)]
        all: bool,
    },
    /// Show a project
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  ml project describe \"Traffic Lights\" Green\n  ml project describe Green --json"
    )]
    Describe(Which),
    /// Give a project another name
    #[command(
        after_help = "Examples:\n  ml project rename \"Traffic Lights\" Green Emerald\n  ml project rename Green Emerald"
    )]
    Rename {
        /// The workspace (unless it is the current one), the project, and its new name
        #[arg(value_names = ["[WORKSPACE] PROJECT", "NEW_NAME"], num_args = 2..=3, required = true)]
        names: Vec<String>,
        /// The workspace of a project named alone [default: the current one]
        #[arg(short, long, value_name = "NAME|ID")]
        workspace: Option<String>,
    },
    /// Change name or description of a project
    #[command(
        after_help = "Examples:\n  ml project edit \"Traffic Lights\" Green --description 'only the green ones'\n  ml project edit Green --name Emerald"
    )]
    Edit {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Let a project take nothing new; what is in it stays and can be read
    #[command(after_help = "Examples:\n  ml project archive \"Traffic Lights\" Green\n  ml project archive Green")]
    Archive(Which),
    /// Let an archived project take experiments again
    #[command(after_help = "Examples:\n  ml project unarchive \"Traffic Lights\" Green\n  ml project unarchive Green")]
    Unarchive(Which),
    /// Delete a project that holds no experiments, with every role assigned there
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  ml project delete \"Traffic Lights\" Green\n  ml project delete Green --yes"
    )]
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        sure: Sure,
    },
    /// List who holds which role in a project
    #[command(
        visible_alias = "list-members",
        after_help = "Examples:\n  ml project members \"Traffic Lights\" Green\n  ml project members Green -o wide"
    )]
    Members(Which),
    /// Remember a project (and its workspace) as the current one: for what is submitted
    #[command(after_help = "Examples:\n  ml project use \"Traffic Lights\" Green\n  ml project use --none")]
    Use {
        /// The workspace (unless it is the current one) and the project
        #[arg(value_name = "[WORKSPACE] PROJECT", num_args = 1..=2, required_unless_present = "none")]
        names: Vec<String>,
        /// The workspace of a project named alone [default: the current one]
        #[arg(short, long, value_name = "NAME|ID")]
        workspace: Option<String>,
        /// Forget it
        #[arg(long, conflicts_with_all = ["names", "workspace"])]
        none: bool,
    },
}

/// A project: `WORKSPACE PROJECT`, or `PROJECT` alone.
#[derive(Args)]
pub struct Which {
    /// The workspace (unless it is the current one) and the project
    #[arg(value_name = "[WORKSPACE] PROJECT", num_args = 1..=2, required = true)]
    pub names: Vec<String>,
    /// The workspace of a project named alone [default: the current one]
    #[arg(short, long, value_name = "NAME|ID")]
    pub workspace: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct Change {
    /// The new name
    #[arg(id = "new-name", long = "name", value_name = "NAME")]
    pub name: Option<String>,
    /// The new description; an empty one takes it away
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}

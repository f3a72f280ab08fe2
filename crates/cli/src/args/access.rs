//! `ml access …`: who may do what, why, and how that may change.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum Access {
    /// Say whether one may do something: exit status 0 for yes, 1 for no, more for no answer
    #[command(
        after_help = "Examples:\n  ml access can-i experiments:create -w 'Stop Signs'\n  ml access can-i jobs:update experiment:12\n\n\
        Where nothing is named, the question is about the current workspace, or about the whole installation for what is only held there.\n\n\
        Exit status: 0 yes, 1 no, 2 wrong words or a place that is not there for you, 4 not signed in, 3 any other failure."
    )]
    CanI {
        /// A permission, or a word for several: jobs:read, models:*, read; with :own, on what is one's own
        permission: String,
        #[command(flatten)]
        place: Place,
    },
    /// Say why somebody may, or may not, do something, and who could give it
    #[command(
        after_help = "Examples:\n  ml access explain experiments:update experiment:12\n  ml access explain ana experiments:create -w 'Stop Signs'"
    )]
    Explain {
        /// [WHO] PERMISSION [ON]
        #[arg(value_name = "[WHO] PERMISSION [ON]", num_args = 1..=3, required = true)]
        words: Vec<String>,
        #[command(flatten)]
        place: PlaceFlags,
    },
    /// List everybody who may do something, and through what
    #[command(
        after_help = "Examples:\n  ml access who-can experiments:delete experiment:12\n  ml access who-can roles:assign -w 'Stop Signs' --json"
    )]
    WhoCan {
        /// A permission, or a word for several: jobs:read, models:*, read
        permission: String,
        #[command(flatten)]
        place: Place,
    },
    /// List all that somebody may do, place by place
    #[command(after_help = "Examples:\n  ml access what-can\n  ml access what-can ana -o wide")]
    WhatCan {
        /// A user or service account [default: oneself]
        who: Option<String>,
    },
    /// Say what a change would give and take, without making it
    #[command(
        subcommand,
        after_help = "Examples:\n  ml access diff assign Editor -u ana -w 'Stop Signs'\n  ml access diff remove-member 'Stop Signs Team' ana"
    )]
    Diff(AccessDiff),
    /// Say what mode rbac would have decided differently while mode shadow watched
    #[command(after_help = "Examples:\n  ml access shadow-report --since 7d\n  ml access shadow-report --clear --yes")]
    ShadowReport {
        /// Only what happened again since a date or for so long, as in 7d
        #[arg(long, value_name = "DATE|DURATION")]
        since: Option<String>,
        /// Forget what was recorded, and begin anew
        #[arg(long, conflicts_with = "since")]
        clear: bool,
        /// Do not ask
        #[arg(short, long, requires = "clear")]
        yes: bool,
    },
    /// Say whom mode rbac would lock out, before it is switched on: exit status 1 if anybody
    #[command(after_help = "Examples:\n  ml access check\n  ml access check --json")]
    Check,

    /// Write out who may do what, as a file that can be kept, compared and applied
    #[command(after_help = "Examples:\n  ml access export > access.yaml\n  ml access export --json")]
    Export,
    /// Say what applying a file would change, and what it would give to and take from whom
    #[command(after_help = "Examples:\n  ml access plan access.yaml\n  ml access export | ml access plan -")]
    Plan {
        /// As `ml access export` writes it; `-` reads standard input
        file: PathBuf,
    },
    /// Make everything as a file says, all of it or nothing, after showing what that is
    #[command(after_help = "Examples:\n  ml access apply access.yaml\n  ml access apply access.yaml --yes")]
    Apply {
        /// As `ml access export` writes it; `-` reads standard input
        file: PathBuf,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },

    /// Ask for a role for a while; whoever may assign it there decides
    #[command(
        after_help = "Examples:\n  ml access request Editor -w 'Stop Signs' --for 8h --why 'the night run fails'\n  ml access request Viewer --on experiment:12 --for 1h --why 'to compare'\n\n\
        Where nothing is named, it is about the current workspace, or about everything for a role that is only held globally."
    )]
    Request {
        /// As `ml role list` shows them
        role: String,
        #[command(flatten)]
        place: AskedPlace,
        /// For how long, as in 30m, 8h or 7d
        #[arg(long = "for", value_name = "DURATION")]
        lifetime: String,
        /// What whoever decides should know
        #[arg(long)]
        why: String,
    },
    /// List the requests that wait for an answer: one's own, and those that one may decide
    #[command(after_help = "Examples:\n  ml access requests\n  ml access requests --all -o wide")]
    Requests {
        /// One's own alone, whatever became of them
        #[arg(long)]
        mine: bool,
        /// Those that are over too, and each use of break-glass
        #[arg(long)]
        all: bool,
    },
    /// Give what a request asks for, from now on
    #[command(
        after_help = "Examples:\n  ml access approve 12\n  ml access approve 12 --for 2h --answer 'until the release'"
    )]
    Approve {
        /// As `ml access requests` shows it
        #[arg(value_name = "ID")]
        id: i64,
        /// A shorter time than was asked for
        #[arg(long = "for", value_name = "DURATION")]
        lifetime: Option<String>,
        /// What the asker should know
        #[arg(long, default_value = "", value_name = "TEXT")]
        answer: String,
    },
    /// Say no to a request
    #[command(after_help = "Examples:\n  ml access decline 12\n  ml access decline 12 --why 'ask for Viewer'")]
    Decline {
        /// As `ml access requests` shows it
        #[arg(value_name = "ID")]
        id: i64,
        /// What the asker should know
        #[arg(long, visible_alias = "answer", default_value = "", value_name = "TEXT")]
        why: String,
    },
    /// Take back one's own request
    #[command(after_help = "Examples:\n  ml access withdraw 12\n  ml access withdraw 12 --json")]
    Withdraw {
        /// As `ml access requests` shows it
        #[arg(value_name = "ID")]
        id: i64,
    },
    /// In an emergency: be ClusterAdmin at once for a while, loudly on record (for holders of BreakGlass)
    #[command(
        after_help = "Examples:\n  ml access break-glass --why 'the directory is down' --for 2h\n  ml access break-glass --end"
    )]
    BreakGlass(BreakTheGlass),
}

#[derive(Args)]
pub struct AskedPlace {
    #[command(flatten)]
    pub flags: PlaceFlags,
    /// experiment:12, queue:NAME, installation and the like
    #[arg(long, value_name = "ON", conflicts_with_all = ["workspace", "project", "experiment", "queue"])]
    pub on: Option<String>,
}

#[derive(Args)]
pub struct BreakTheGlass {
    /// For the record
    #[arg(long, required_unless_present = "end")]
    pub why: Option<String>,
    /// Five minutes to four hours [default: 1h]
    #[arg(long = "for", value_name = "DURATION")]
    pub lifetime: Option<String>,
    /// Read one's password from a file, or from standard input with `-`
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// End it before its time
    #[arg(long, conflicts_with_all = ["why", "lifetime", "password_file"])]
    pub end: bool,
}

/// A place, by its text or by flags.
#[derive(Args, Default)]
pub struct Place {
    /// experiment:12, workspace:NAME, project:WORKSPACE/PROJECT, queue:NAME, model:WORKSPACE/NAME, stack:OWNER/NAME or installation
    #[arg(value_name = "ON")]
    pub on: Option<String>,
    #[command(flatten)]
    pub flags: PlaceFlags,
}

#[derive(Args, Default, Clone)]
pub struct PlaceFlags {
    /// The workspace, or where the project is
    #[arg(short, long, value_name = "WORKSPACE")]
    pub workspace: Option<String>,
    /// A project of that workspace, or of the current one
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// A single experiment
    #[arg(long, value_name = "NAME|ID", conflicts_with_all = ["workspace", "project", "queue"])]
    pub experiment: Option<String>,
    /// A queue
    #[arg(long, value_name = "QUEUE", conflicts_with_all = ["workspace", "project"])]
    pub queue: Option<String>,
}

#[derive(Subcommand)]
pub enum AccessDiff {
    /// Of assigning a role
    Assign(DiffAssignment),
    /// Of taking a role away
    Unassign(DiffAssignment),
    /// Of putting somebody into a group
    AddMember {
        group: String,
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
    },
    /// Of taking somebody out of a group
    RemoveMember {
        group: String,
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
    },
    /// Of changing what a role holds
    EditRole {
        role: String,
        /// A permission to add, after those to take out are taken out
        #[arg(short, long, value_name = "PERMISSION")]
        add: Vec<String>,
        /// A permission to take out
        #[arg(short, long, value_name = "PERMISSION")]
        remove: Vec<String>,
    },
    /// Of deleting a role
    DeleteRole { role: String },
    /// Of deleting a group
    DeleteGroup { group: String },
    /// Of deactivating a user
    Deactivate { user: String },
    /// Of several changes at once, as a JSON list (see POST /api/v1/access/diff); `-` reads standard input
    Changes { file: PathBuf },
}

#[derive(Args)]
pub struct DiffAssignment {
    pub role: String,
    /// A user or service account
    #[arg(id = "to-user", short = 'u', long = "user", value_name = "USER")]
    pub users: Vec<String>,
    /// A group, with all its members
    #[arg(short, long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    #[command(flatten)]
    pub place: PlaceFlags,
    /// experiment:12, queue:NAME and the like
    #[arg(long, value_name = "ON", conflicts_with_all = ["workspace", "project", "experiment", "queue"])]
    pub on: Option<String>,
}

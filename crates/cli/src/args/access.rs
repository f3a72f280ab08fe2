//! `ml access …`: who may do what, why, and how that may change.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum Access {
    /// Say whether one may do something: exit status 0 for yes, 1 for no
    #[command(
        after_help = "Examples:\n  ml access can-i experiments:create -w 'Stop Signs'\n  ml access can-i jobs:update experiment:12\n\n\
        Where nothing is named, the question is about the current workspace, or about the whole installation for what is only held there."
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
}

/// A place, by its text or by flags.
#[derive(Args, Default)]
pub struct Place {
    /// experiment:12, workspace:NAME, project:WORKSPACE/PROJECT, queue:NAME or installation
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
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    #[arg(long, value_name = "NAME|ID", conflicts_with_all = ["workspace", "project", "queue"])]
    pub experiment: Option<String>,
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
        /// A permission to add
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

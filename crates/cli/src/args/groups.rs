//! `ml user-group …`

use clap::{Args, Subcommand};

use super::Sure;

#[derive(Subcommand)]
pub enum UserGroup {
    /// Make a group
    #[command(
        after_help = "Examples:\n  ml user-group create \"Traffic Lights Team\"\n  ml user-group create vision --add-user ana --add-user bob"
    )]
    Create {
        name: String,
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
        /// Who belongs to it from the start
        #[arg(long = "add-user", value_name = "USER", value_delimiter = ',')]
        users: Vec<String>,
    },
    /// List the groups: all of them for administrators, one's own for everybody else
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml user-group list\n  ml user-group list --members -o csv > groups.csv"
    )]
    List {
        /// A line for each who belongs to a group
        #[arg(long)]
        members: bool,
    },
    /// Show a group, what it may do and who belongs to it
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  ml user-group describe \"Traffic Lights Team\"\n  ml user-group describe 4 --json"
    )]
    Describe {
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Put users into a group: all of them, or nobody
    #[command(
        after_help = "Examples:\n  ml user-group add-user \"Traffic Lights Team\" ana,bob\n  ml user-group add-user vision ana bob"
    )]
    AddUser(Members),
    /// Take users out of a group: all of them, or nobody
    #[command(
        after_help = "Examples:\n  ml user-group remove-user \"Traffic Lights Team\" ana,bob\n  ml user-group remove-user vision ana"
    )]
    RemoveUser(Members),
    /// Give a group another name
    #[command(
        visible_alias = "rename",
        after_help = "Examples:\n  ml user-group change-name vision \"Computer vision\"\n  ml user-group change-name vision"
    )]
    ChangeName {
        #[arg(value_name = "NAME|ID")]
        old: String,
        /// Asked for where it is left out
        new: Option<String>,
    },
    /// Change name or description of a group
    #[command(
        after_help = "Examples:\n  ml user-group edit vision --description 'everything with a camera'\n  ml user-group edit 4 --name vision"
    )]
    Edit {
        #[arg(value_name = "NAME|ID")]
        group: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete a group; its members lose what came through it, and nothing else
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  ml user-group delete vision\n  ml user-group delete vision --yes"
    )]
    Delete {
        #[arg(value_name = "NAME|ID")]
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Args)]
pub struct Members {
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// Names or ids of users and service accounts, with commas or blanks between them
    #[arg(value_name = "USER", required = true, value_delimiter = ',')]
    pub users: Vec<String>,
}

//! `ml model …`

use clap::{Args, Subcommand};

use super::Sure;
use super::roles::Holders;

#[derive(Subcommand)]
pub enum Model {
    /// List models, newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml model list\n  ml model list -w 'Stop Signs' --owner ana -o wide"
    )]
    List {
        /// Those of one workspace [default: of the current one, else of all]
        #[arg(long, short, value_name = "WORKSPACE")]
        workspace: Option<String>,
        /// Those that one user made
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// Those whose name holds this
        #[arg(long, value_name = "TEXT")]
        text: Option<String>,
    },
    /// Show a model
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  ml model describe detector\n  ml model describe 'Stop Signs/detector' --json"
    )]
    Describe(Named),
    /// Make a model, to which versions are registered
    #[command(
        visible_alias = "create",
        after_help = "Examples:\n  ml model register detector\n  ml model register detector -w 'Stop Signs' --description 'finds stop signs'"
    )]
    Register {
        name: String,
        /// Where [default: the current one]
        #[arg(long, short, value_name = "WORKSPACE")]
        workspace: Option<String>,
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
    },
    /// Give a model another name
    #[command(after_help = "Examples:\n  ml model rename detector finder")]
    Rename {
        #[command(flatten)]
        which: Named,
        new: String,
    },
    /// Change what a model is called, or what it is said to be
    #[command(
        visible_alias = "update",
        after_help = "Examples:\n  ml model edit detector --description 'finds stop signs'"
    )]
    Edit {
        #[command(flatten)]
        which: Named,
        #[command(flatten)]
        change: super::workspaces::Change,
    },
    /// Put a model into another workspace; who may see it there may see it from then on
    #[command(after_help = "Examples:\n  ml model move detector 'Traffic Lights'")]
    Move {
        #[command(flatten)]
        which: Named,
        to: String,
    },
    /// Let others see a model, or change it with --role Writer
    #[command(
        after_help = "Examples:\n  ml model share detector --user ana\n  ml model share detector --group vision --role Writer"
    )]
    Share(Shared),
    /// Take back what was shared
    #[command(after_help = "Examples:\n  ml model unshare detector --user ana")]
    Unshare(Shared),
    /// Delete a model with its versions; what lies where they say stays there
    #[command(visible_alias = "rm", after_help = "Examples:\n  ml model delete detector --yes")]
    Delete {
        #[command(flatten)]
        which: Named,
        #[command(flatten)]
        sure: Sure,
    },
    /// Register the next version of a model: what it came of, or where it lies
    #[command(
        after_help = "Examples:\n  ml model register-version detector --experiment 12\n  ml model register-version detector --uri s3://models/detector/3 --description 'more data'"
    )]
    RegisterVersion {
        #[command(flatten)]
        which: Named,
        /// The experiment that it came of
        #[arg(long, short, value_name = "EXPERIMENT", required_unless_present = "uri")]
        experiment: Option<String>,
        /// Where it lies, as in file:///srv/models/3 or s3://bucket/prefix
        #[arg(long, value_name = "URL")]
        uri: Option<String>,
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List the versions of a model, newest first
    #[command(
        visible_alias = "versions",
        after_help = "Examples:\n  ml model list-versions detector\n  ml model list-versions 'Stop Signs/detector' --json"
    )]
    ListVersions(Named),
    /// Delete a version of a model; what lies where it says stays there
    #[command(after_help = "Examples:\n  ml model delete-version detector 3 --yes")]
    DeleteVersion {
        #[command(flatten)]
        which: Named,
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        version: i64,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Args)]
pub struct Named {
    /// Of the current workspace where none is named
    #[arg(value_name = "NAME|WORKSPACE/NAME|ID")]
    pub model: String,
}

#[derive(Args)]
pub struct Shared {
    #[command(flatten)]
    pub which: Named,
    #[command(flatten)]
    pub with: Holders,
    #[arg(long, value_name = "ROLE", default_value = "Reader")]
    pub role: String,
}

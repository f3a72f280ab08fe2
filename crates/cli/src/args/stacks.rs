//! `ml stack …`

use bailiwick_api::stacks::StackSettings;
use clap::{Args, Subcommand};

use super::Sure;
use super::roles::Holders;

#[derive(Subcommand)]
pub enum Stack {
    /// List one's stacks and those that are shared
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml stack list\n  ml stack list --owner ana -o wide"
    )]
    List {
        /// Those of one user
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
    },
    /// Show a stack
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  ml stack describe\n  ml stack describe ana/gpu --json"
    )]
    Describe {
        /// Which [default: the current one]
        #[arg(value_name = "NAME|OWNER/NAME|ID")]
        stack: Option<String>,
    },
    /// Make a stack; nobody else sees it until it is shared
    #[command(
        visible_alias = "create",
        after_help = "Examples:\n  ml stack register gpu --queue a100 --env CACHE=/srv/cache\n  ml stack register gpu --artifact-store s3://models/vision --set"
    )]
    Register {
        name: String,
        #[command(flatten)]
        settings: Settings,
        /// Make it the current one
        #[arg(long = "set")]
        set: bool,
    },
    /// Remember a stack as the current one: for what is submitted from here on
    #[command(
        visible_alias = "use",
        after_help = "Examples:\n  ml stack set gpu\n  ml stack set --none"
    )]
    Set {
        #[arg(value_name = "NAME|OWNER/NAME|ID", required_unless_present = "none")]
        stack: Option<String>,
        /// Forget it
        #[arg(long, conflicts_with = "stack")]
        none: bool,
    },
    /// Change what a stack names; what was submitted with it stays as it is
    #[command(
        visible_alias = "edit",
        after_help = "Examples:\n  ml stack update gpu --queue h100\n  ml stack update ana/gpu --env CACHE=/srv/cache"
    )]
    Update {
        #[arg(value_name = "NAME|OWNER/NAME|ID")]
        stack: String,
        #[command(flatten)]
        settings: Settings,
        /// Set no variable any more
        #[arg(long, conflicts_with = "env")]
        no_env: bool,
    },
    /// Give a stack another name
    #[command(after_help = "Examples:\n  ml stack rename gpu a100")]
    Rename {
        #[arg(value_name = "NAME|OWNER/NAME|ID")]
        stack: String,
        new: String,
    },
    /// Let others use a stack, or change it with --role Writer
    #[command(
        after_help = "Examples:\n  ml stack share gpu --user ana\n  ml stack share gpu --group Users\n  ml stack share gpu --group vision --role Writer"
    )]
    Share(Shared),
    /// Take back what was shared
    #[command(after_help = "Examples:\n  ml stack unshare gpu --user ana\n  ml stack unshare gpu --group Users")]
    Unshare(Shared),
    /// Delete a stack; what was submitted with it goes on
    #[command(visible_alias = "rm", after_help = "Examples:\n  ml stack delete gpu --yes")]
    Delete {
        #[arg(value_name = "NAME|OWNER/NAME|ID")]
        stack: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Args)]
pub struct Settings {
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Where its jobs wait; empty for the default one
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Where artifacts belong, as in file:///srv/artifacts or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    pub artifact_store: Option<String>,
    /// Set a variable for jobs that do not set it themselves; given once or more, these are all of them
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
}

#[derive(Args)]
pub struct Shared {
    #[arg(value_name = "NAME|OWNER/NAME|ID")]
    pub stack: String,
    #[command(flatten)]
    pub with: Holders,
    #[arg(long, value_name = "ROLE", default_value = "Reader")]
    pub role: String,
}

impl Settings {
    /// # Errors
    /// Which variable cannot be one.
    pub fn wanted(self, name: Option<String>) -> Result<StackSettings, String> {
        let environment = match self.env.is_empty() {
            true => None,
            false => Some(bailiwick_api::config::variables(Some(&serde_json::json!(self.env)))?),
        };
        Ok(StackSettings {
            name,
            description: self.description,
            executor: None,
            queue: self.queue,
            artifact_store: self.artifact_store,
            environment,
        })
    }
}

//! `ml queue …`

use bailiwick_api::queues::{QueueAccess, QueueSettings, QueueShare};
use clap::{Args, Subcommand};

use super::Sure;

#[derive(Subcommand)]
pub enum Queue {
    /// List the queues and how busy they are
    #[command(visible_alias = "ls")]
    List,
    /// Show a queue: whose jobs it takes, how they take turns, its agents
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  ml queue describe gpu\n  ml queue describe gpu --json"
    )]
    Describe {
        #[arg(value_name = "NAME|ID")]
        queue: String,
    },
    /// Make a queue
    #[command(
        after_help = "Examples:\n  ml queue create gpu\n  ml queue create vision --workspace Vision --max-running-of-user 4\n  ml queue create shared --share users"
    )]
    Create {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change whose jobs a queue takes, and how they take turns
    #[command(after_help = "Examples:\n  ml queue edit gpu --open\n  ml queue edit gpu --share users --max-running 0")]
    Edit {
        #[arg(value_name = "NAME|ID")]
        queue: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Give a queue another name; its agents and jobs stay
    #[command(after_help = "Examples:\n  ml queue rename gpu a100")]
    Rename {
        #[arg(value_name = "NAME|ID")]
        queue: String,
        new: String,
    },
    /// Start nothing more from a queue; it still takes jobs in
    #[command(after_help = "Examples:\n  ml queue pause gpu\n  ml queue resume gpu")]
    Pause {
        #[arg(value_name = "NAME|ID")]
        queue: String,
    },
    /// Take no more jobs in; what waits is still run
    #[command(after_help = "Examples:\n  ml queue drain gpu\n  ml queue resume gpu")]
    Drain {
        #[arg(value_name = "NAME|ID")]
        queue: String,
    },
    /// Go on after a pause or drain
    Resume {
        #[arg(value_name = "NAME|ID")]
        queue: String,
    },
    /// Make a queue the one for submissions that name none
    #[command(after_help = "Examples:\n  ml queue set-default gpu")]
    SetDefault {
        #[arg(value_name = "NAME|ID")]
        queue: String,
    },
    /// Delete a queue in which nothing waits or runs
    #[command(visible_alias = "rm", after_help = "Examples:\n  ml queue delete gpu --yes")]
    Delete {
        #[arg(value_name = "NAME|ID")]
        queue: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Args)]
pub struct Settings {
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Take jobs of every workspace, from those who may submit there
    #[arg(long, conflicts_with_all = ["workspaces", "by_assignment"])]
    pub open: bool,
    /// Take jobs of these workspaces alone
    #[arg(long = "workspace", value_name = "NAME|ID", conflicts_with = "by_assignment")]
    pub workspaces: Vec<String>,
    /// Take jobs of those alone who hold a role at the queue that lets them submit
    #[arg(long)]
    pub by_assignment: bool,
    /// Among jobs of one priority: that of who has the fewest slots in use first, or by age alone
    #[arg(long, value_name = "users|workspaces|none", value_parser = share)]
    pub share: Option<QueueShare>,
    /// Jobs that run at once; 0 lifts the limit
    #[arg(long, value_name = "N")]
    pub max_running: Option<i64>,
    /// The same for each user
    #[arg(long, value_name = "N")]
    pub max_running_of_user: Option<i64>,
    /// The same for each workspace
    #[arg(long, value_name = "N")]
    pub max_running_of_workspace: Option<i64>,
}

fn share(word: &str) -> Result<QueueShare, &'static str> {
    QueueShare::parse(word).ok_or("users, workspaces or none")
}

impl Settings {
    pub fn wanted(self, name: Option<String>) -> QueueSettings {
        let access = match (self.open, self.by_assignment) {
            (true, _) => Some(QueueAccess::Open),
            (_, true) => Some(QueueAccess::Assigned),
            _ => None,
        };
        QueueSettings {
            name,
            description: self.description,
            access,
            workspaces: (!self.workspaces.is_empty()).then_some(self.workspaces),
            share: self.share,
            max_running: self.max_running,
            max_running_of_user: self.max_running_of_user,
            max_running_of_workspace: self.max_running_of_workspace,
            ..QueueSettings::default()
        }
    }
}

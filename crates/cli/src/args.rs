//! The command line: every command and flag, as types.
//!
//! The flags that every command takes (`--server`, `-u`, `-o`, …) are not written here at each command: [`command`] adds them everywhere, leaving out a
//! short or long form that a command has for itself. So `-u` or `--user` can be a command's own flag; the common one then stands before the command's name.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub mod access;
pub mod groups;
pub mod models;
pub mod queues;
mod roles;
pub mod stacks;
pub mod vaults;
mod workspaces;

pub use roles::{Assign, Assignment, Assignments, Holders, Rbac, RbacAssignment, Revoke, Role, Share, Unshare, Where};
pub use workspaces::{Project, Which, Workspace};

#[derive(Parser)]
#[command(
    name = "ml",
    about = "Run, follow and share experiments, and say who may do what",
    after_help = "Examples:\n  ml run train.py --follow\n  ml status",
    disable_version_flag = true,
    subcommand_required = false,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 120
)]
pub struct Cli {
    /// Print the version of this program and, if it can be reached, of the server
    #[arg(short = 'V', long)]
    pub version: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Submit an experiment
    #[command(
        after_help = "Examples:\n  ml run train.py --follow -- --epochs 10\n  ml run my-experiment --slots 2 --config hyperparameters.lr=0.1 --wait\n\n\
        PATH is a directory (with experiment.yaml, else train.py, else main.py), a YAML file, or a script. The directory \
        is sent along, without what .gitignore and .mlignore name and without credentials (.ssh, .env and the like)."
    )]
    Run(Box<Run>),
    /// Show experiments: one's own, and whatever else one may see
    #[command(after_help = "Examples:\n  ml status\n  ml status --state running --watch")]
    Status(Status),
    /// Print the log of an experiment
    #[command(after_help = "Examples:\n  ml logs my-experiment -f\n  ml logs 12 --tail 100 --timestamps")]
    Logs(Logs),
    /// End experiments: asks their processes to stop, and kills them after the grace time
    #[command(after_help = "Examples:\n  ml cancel my-experiment\n  ml cancel 12 13")]
    Cancel(Named),
    /// End experiments at once
    #[command(after_help = "Examples:\n  ml kill my-experiment\n  ml kill 12 13")]
    Kill(Named),
    /// Show one experiment: configuration, limits, every change of its state
    #[command(after_help = "Examples:\n  ml describe my-experiment\n  ml describe 12 --json\n\n\
        In a pipe: what `ml status` shows of it, a line each with key, tab and value. All of it: --json.")]
    Describe(One),
    /// Fetch the code of an experiment as it was submitted
    #[command(after_help = "Examples:\n  ml download my-experiment\n  ml download 12 ./as-submitted")]
    Download(Download),
    /// Experiments, by noun and verb
    #[command(
        subcommand,
        visible_alias = "e",
        after_help = "Examples:\n  ml experiment create experiment.yaml . --config max_restarts=2\n  ml experiment list --mine"
    )]
    Experiment(Experiment),
    /// Workspaces: what a team keeps to itself
    #[command(
        subcommand,
        visible_alias = "w",
        after_help = "Examples:\n  ml workspace create \"Traffic Lights\"\n  ml workspace members \"Traffic Lights\""
    )]
    Workspace(Workspace),
    /// Projects: the parts of a workspace
    #[command(
        subcommand,
        visible_alias = "p",
        after_help = "Examples:\n  ml project create \"Traffic Lights\" Green\n  ml project list \"Traffic Lights\""
    )]
    Project(Project),

    /// Sign in, and remember it in ~/.ml
    #[command(after_help = "Examples:\n  ml login ana\n  ml login --link 'https://ml.example.com/activate#mll_…'")]
    Login(Login),
    /// Sign out, and forget the session
    #[command(after_help = "Examples:\n  ml logout\n  ml logout -u ana")]
    Logout,
    /// Say who one is, and what one may see
    #[command(after_help = "Examples:\n  ml whoami\n  ml whoami --json")]
    Whoami,
    /// Change one's own password, or another's
    #[command(
        after_help = "Examples:\n  ml change-password\n  ml change-password --password-file new.txt --old-password-file old.txt"
    )]
    ChangePassword(ChangePassword),
    /// Users
    #[command(
        subcommand,
        after_help = "Examples:\n  ml user create ana --role DataScientist\n  ml user list"
    )]
    User(User),
    /// Groups of users, which roles are assigned to
    #[command(
        subcommand,
        visible_alias = "group",
        after_help = "Examples:\n  ml user-group create \"Traffic Lights Team\"\n  ml user-group add-user \"Traffic Lights Team\" ana,bob"
    )]
    UserGroup(groups::UserGroup),
    /// Accounts of agents and automation
    #[command(
        subcommand,
        visible_alias = "sa",
        after_help = "Examples:\n  ml service-account create machine-7 --serve default\n  ml service-account list"
    )]
    ServiceAccount(ServiceAccount),
    /// API keys
    #[command(
        subcommand,
        after_help = "Examples:\n  ml token create --label laptop --expires 30d\n  ml token list"
    )]
    Token(Token),
    /// Roles: what they hold, and who holds them where
    #[command(
        subcommand,
        after_help = "Examples:\n  ml role list\n  ml role assign Editor --group \"Traffic Lights Team\" -w \"Traffic Lights\""
    )]
    Role(Role),
    /// Let others see an experiment, project, queue, model or stack, or work with it
    #[command(
        after_help = "Examples:\n  ml share 12 --user ana\n  ml share project:Vision/Red --group \"Traffic Lights Team\" --role Writer --until 7d"
    )]
    Share(Share),
    /// Take back what was shared
    #[command(
        after_help = "Examples:\n  ml unshare 12 --user ana\n  ml unshare queue:gpu --group vision --role Writer"
    )]
    Unshare(Unshare),
    /// Roles and their assignments, in Determined's words
    #[command(
        subcommand,
        after_help = "Examples:\n  ml rbac my-permissions\n  ml rbac assign-role -u ana -w \"Stop Signs\" WorkspaceAdmin"
    )]
    Rbac(Rbac),
    /// Permissions
    #[command(
        subcommand,
        after_help = "Examples:\n  ml permission list\n  ml permission list -o id"
    )]
    Permission(Permission),
    /// Who may do what, and why; moving to roles
    #[command(
        subcommand,
        after_help = "Examples:\n  ml access can-i experiments:create -w 'Stop Signs'\n  ml access explain ana experiments:update experiment:12"
    )]
    Access(access::Access),
    /// Queues
    #[command(
        subcommand,
        after_help = "Examples:\n  ml queue list\n  ml queue create gpu --share users\n  ml queue pause gpu"
    )]
    Queue(queues::Queue),
    /// Models and their versions: what came of experiments
    #[command(
        subcommand,
        visible_alias = "m",
        after_help = "Examples:\n  ml model register detector\n  ml model register-version detector --experiment 12\n  ml model share detector --group vision"
    )]
    Model(models::Model),
    /// Stacks: where work runs and with what, under a name
    #[command(
        subcommand,
        after_help = "Examples:\n  ml stack register gpu --queue a100 --set\n  ml stack share gpu --group Users\n  ml run --stack gpu train.py"
    )]
    Stack(stacks::Stack),
    /// Vaults: configuration that agents and jobs are given
    #[command(
        subcommand,
        after_help = "Examples:\n  ml vault set -f vault.yaml\n  ml vault show --reveal\n  ml vault applied"
    )]
    Vault(vaults::Vault),
    /// What only administrators of the server do
    #[command(subcommand)]
    Admin(vaults::Admin),
    /// Who did what
    #[command(
        subcommand,
        after_help = "Examples:\n  ml audit list --user ana --since 7d\n  ml audit verify"
    )]
    Audit(Audit),

    /// Run the server
    #[command(
        after_help = "Examples:\n  ml serve --data /var/lib/bailiwick\n  ml serve --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem"
    )]
    Serve(Box<Serve>),
    /// Run jobs on this machine, for queues of a server
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  ml agent --server https://ml.example.com --queue gpu --key-file agent.key\n  ml agent list\n  ml agent drain machine-7"
    )]
    Agent(Box<Agent>),
    /// Settings: what holds, where it comes from, and changing it
    #[command(
        subcommand,
        after_help = "Examples:\n  ml config show --origin\n  ml config set server https://ml.example.com"
    )]
    Config(Config),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  ml completions bash > ~/.local/share/bash-completion/completions/ml\n  ml completions fish > ~/.config/fish/completions/ml.fish"
    )]
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a directory
    #[command(after_help = "Examples:\n  ml man ~/.local/share/man/man1\n  ml man /tmp/man")]
    Man { dir: PathBuf },
    /// The process beside each job; started by the agent
    #[command(hide = true)]
    JobShim { dir: PathBuf },
}

#[derive(Args)]
pub struct Run {
    /// A directory, a YAML file or a script
    pub path: PathBuf,
    #[command(flatten)]
    pub with: Submission,
    /// Handed to the entrypoint
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// What `run` and `experiment create` have in common.
#[derive(Args)]
pub struct Submission {
    /// Name of the experiment [default: `name` of the YAML, else of the directory or script]
    #[arg(long)]
    pub name: Option<String>,
    /// What it is run on [default: that of the YAML, else the current one, else none]
    #[arg(long, value_name = "NAME|OWNER/NAME|ID")]
    pub stack: Option<String>,
    /// Where it waits for an agent [default: that of the stack, else the default queue]
    #[arg(long)]
    pub queue: Option<String>,
    /// GPUs, or CPU slots where the machine has no GPU
    #[arg(long, value_name = "N")]
    pub slots: Option<i64>,
    /// Set a variable of its environment; KEY alone takes the value from here
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Set one key of the configuration, as in hyperparameters.lr=0.1
    #[arg(long, value_name = "KEY=VALUE")]
    pub config: Vec<String>,
    /// Where it belongs [default: that of the YAML, else the current one, else default]
    #[arg(long)]
    pub workspace: Option<String>,
    /// A project of the workspace [default: that of the YAML, else the current one, else default]
    #[arg(long)]
    pub project: Option<String>,
    /// 1 to 99; smaller goes first
    #[arg(long, value_name = "N")]
    pub priority: Option<i64>,
    /// End it when all its processes use more memory
    #[arg(long, value_name = "MB")]
    pub memory_mb: Option<i64>,
    /// End it when it runs longer, as in 90s, 30m, 8h
    #[arg(long, value_name = "DURATION")]
    pub time_limit: Option<String>,
    /// How many processes it may have at once
    #[arg(long, value_name = "N")]
    pub max_processes: Option<i64>,
    /// How much its directory may hold
    #[arg(long, value_name = "MB")]
    pub disk_mb: Option<i64>,
    /// How often a failed job is started again
    #[arg(long, value_name = "N")]
    pub max_restarts: Option<i64>,
    /// Wait for the end; exit with the job's status if that is 0 to 125, otherwise with 1
    #[arg(long)]
    pub wait: bool,
    /// Print the log until the end; exit with the job's status if that is 0 to 125, otherwise with 1
    #[arg(short, long)]
    pub follow: bool,
    /// Wait at most so long, then exit with 8; the experiment goes on
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
}

#[derive(Args)]
pub struct Status {
    /// Only this experiment, or all of this name
    #[arg(value_name = "NAME|ID")]
    pub experiment: Option<String>,
    /// All of them, not only the first 50
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Only one's own
    #[arg(long)]
    pub mine: bool,
    /// Only this user's
    #[arg(long, value_name = "USER", conflicts_with = "mine")]
    pub owner: Option<String>,
    /// Only those whose names begin so; listed by name
    #[arg(long, value_name = "TEXT", conflicts_with = "sort")]
    pub begins: Option<String>,
    /// The archived ones, which are left out otherwise
    #[arg(long)]
    pub archived: bool,
    /// Only those in this state
    #[arg(long)]
    pub state: Option<String>,
    /// Only those in this workspace
    #[arg(short, long, value_name = "NAME|ID")]
    pub workspace: Option<String>,
    /// Only those in this project of the workspace
    #[arg(long, value_name = "NAME|ID")]
    pub project: Option<String>,
    /// In which order: newest, or name
    #[arg(long, value_name = "ORDER", default_value = "newest")]
    pub sort: String,
    /// The first N in that order [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub limit: Option<i64>,
    /// Show it anew every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

#[derive(Args)]
pub struct Logs {
    #[arg(value_name = "NAME|ID")]
    pub experiment: String,
    /// Go on until the experiment ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub tail: Option<i64>,
    /// Only lines that hold this text, letter case aside
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["follow", "tail"])]
    pub find: Option<String>,
    /// Only lines that speak of an error
    #[arg(long, conflicts_with_all = ["follow", "tail"])]
    pub errors: bool,
    /// Put the time before each line
    #[arg(long)]
    pub timestamps: bool,
}

#[derive(Args)]
pub struct Named {
    #[arg(value_name = "NAME|ID", required = true)]
    pub experiments: Vec<String>,
}

#[derive(Args)]
pub struct One {
    #[arg(value_name = "NAME|ID")]
    pub experiment: String,
}

#[derive(Args)]
pub struct Download {
    #[arg(value_name = "NAME|ID")]
    pub experiment: String,
    /// The directory to make [default: NAME-ID]
    pub dir: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Experiment {
    /// Submit an experiment from a YAML file and a directory
    #[command(
        after_help = "Examples:\n  ml experiment create experiment.yaml .\n  ml experiment create experiment.yaml ./code --config max_restarts=2"
    )]
    Create(Box<Create>),
    /// Show experiments
    #[command(visible_alias = "ls")]
    List(Status),
    /// Print the log of an experiment
    Logs(Logs),
    /// End experiments, with time to save their work
    Cancel(Named),
    /// End experiments at once
    Kill(Named),
    /// Show one experiment
    Describe(One),
    /// Fetch the code as it was submitted
    Download(Download),
    /// Put experiments into another project; who may see them there may see them at once
    #[command(
        after_help = "Examples:\n  ml experiment move 12 --project Green\n  ml experiment move 12 13 --workspace \"Traffic Lights\" --project Green"
    )]
    Move(Move),
    /// Say how far an experiment is; a job says it of itself
    #[command(
        name = "report-progress",
        after_help = "Examples:\n  ml experiment report-progress 0.25\n  ml experiment report-progress 0.25 12"
    )]
    ReportProgress(ReportProgress),
    /// Move a waiting job to another queue or priority
    #[command(
        name = "move-job",
        after_help = "Examples:\n  ml experiment move-job 12 --queue gpu\n  ml experiment move-job 12 --priority 1"
    )]
    MoveJob(MoveJob),
    /// Leave ended experiments out of lists; nothing of them is lost
    #[command(after_help = "Examples:\n  ml experiment archive 12\n  ml experiment archive 12 13 14")]
    Archive(Named),
    /// Take archived experiments back into lists
    #[command(after_help = "Examples:\n  ml experiment list --archived\n  ml experiment unarchive 12")]
    Unarchive(Named),
    /// Delete ended experiments, with their logs
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  ml experiment delete 12\n  ml experiment delete 12 13 --yes"
    )]
    Delete(Delete),
}

#[derive(Args)]
pub struct ReportProgress {
    /// From 0 to 1
    pub progress: f64,
    /// Number or name; within a job, the job's own
    #[arg(env = "ML_EXPERIMENT_ID")]
    pub experiment: String,
}

#[derive(Args)]
pub struct MoveJob {
    #[arg(value_name = "NAME|ID")]
    pub experiment: String,
    /// A queue that you may submit to
    #[arg(long, value_name = "QUEUE", required_unless_present = "priority")]
    pub queue: Option<String>,
    /// 1 to 99; lower goes first
    #[arg(long, value_name = "N")]
    pub priority: Option<i64>,
}

#[derive(Args)]
pub struct Move {
    #[arg(value_name = "NAME|ID", required = true)]
    pub experiments: Vec<String>,
    /// The workspace [default: the experiment's own]
    #[arg(short, long, value_name = "NAME|ID", required_unless_present = "project")]
    pub workspace: Option<String>,
    /// The project [default: default]
    #[arg(short, long, value_name = "NAME|ID")]
    pub project: Option<String>,
}

#[derive(Args)]
pub struct Delete {
    #[arg(value_name = "NAME|ID", required = true)]
    pub experiments: Vec<String>,
    #[command(flatten)]
    pub sure: Sure,
}

#[derive(Args)]
pub struct Create {
    /// The configuration
    #[arg(value_name = "CONFIG.yaml")]
    pub file: PathBuf,
    /// The directory to send along
    pub dir: PathBuf,
    #[command(flatten)]
    pub with: Submission,
    /// Handed to the entrypoint
    #[arg(last = true)]
    pub args: Vec<String>,
}

#[derive(Args)]
pub struct Login {
    pub name: Option<String>,
    /// Read the password from a file, or from standard input with `-`
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Use an activation or sign-in link, once; `-` reads it from standard input
    #[arg(long, value_name = "LINK")]
    pub link: Option<String>,
}

#[derive(Args)]
pub struct ChangePassword {
    /// Whose [default: one's own]
    pub name: Option<String>,
    /// Read the new password from a file, or from standard input with `-`
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Read the old password (needed for one's own) from a file, or from standard input with `-`
    #[arg(long, value_name = "FILE")]
    pub old_password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum User {
    /// Make a user; without a password, with a link to hand over, which is sent by e-mail, too, where the server can
    #[command(
        visible_alias = "invite",
        after_help = "Examples:\n  ml user create ana\n  ml user invite ana@example.org\n  ml user create bob --email bob@example.org --role OwnViewer --workspace default"
    )]
    Create {
        /// A name to sign in with, or an e-mail address
        #[arg(value_name = "NAME|ADDRESS")]
        name: String,
        /// Where links are sent; signs in as the name does
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// In place of what every user may do in workspaces; see `ml role list`
        #[arg(long)]
        role: Option<String>,
        /// Where the role holds, if it is not a global one [default: default]
        #[arg(short, long, requires = "role")]
        workspace: Option<String>,
        /// Signs in through the identity provider only, and has no password here
        #[arg(long, conflicts_with = "password_file")]
        remote: bool,
        /// Read a password from a file, or from standard input with `-`
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List users
    #[command(visible_alias = "ls")]
    List {
        /// Deactivated and removed ones too
        #[arg(short, long, alias = "a")]
        all: bool,
    },
    /// Show a user, with groups and roles
    #[command(visible_alias = "describe")]
    Show { name: String },
    /// Change a user; one's own display name and e-mail address, or as an administrator anything of anybody
    #[command(
        after_help = "Examples:\n  ml user edit ana --display-name 'Ana Lima'\n  ml user edit ana --name ana.lima --remote true"
    )]
    Edit {
        #[arg(value_name = "NAME|ID")]
        user: String,
        /// Another name to sign in with
        #[arg(long, visible_alias = "username")]
        name: Option<String>,
        /// Empty: none
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// Empty: none
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// Whether to sign in through the identity provider only; `true` takes the password
        #[arg(long, value_name = "true|false", value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
        remote: Option<bool>,
        /// `false` shuts the user out as `deactivate` does, `true` lets in again
        #[arg(long, value_name = "true|false", value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
        active: Option<bool>,
    },
    /// Shut a user out: every session and key of his ends now and for good
    Deactivate { name: String },
    /// Let a deactivated user in again
    Activate { name: String },
    /// Remove a user; what the user made stays
    #[command(visible_alias = "rm")]
    Remove {
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Make a new activation or password-reset link in place of the last, and send it where the user has an e-mail address
    #[command(visible_alias = "resend")]
    Link { name: String },
    /// Take back an invitation that nobody has followed: its link ends, and name, address and seat are free again
    Withdraw { name: String },
    /// Change one's own password, or another's
    ChangePassword(ChangePassword),
    /// Sign in, as `ml login` does
    Login(Login),
    /// Sign out, as `ml logout` does
    Logout,
    /// Say who one is, as `ml whoami` does
    Whoami,
}

#[derive(Args)]
pub struct Sure {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Subcommand)]
pub enum ServiceAccount {
    /// Make an account and its first key
    Create {
        name: String,
        /// Its agents may serve this queue
        #[arg(long, value_name = "QUEUE", num_args = 1..)]
        serve: Vec<String>,
        /// Its agents may run each job as its owner (`ml agent --use-owner-token`)
        #[arg(long)]
        allow_impersonation: bool,
        /// Print the key as the section of a clearml.conf
        #[arg(long)]
        clearml: bool,
    },
    /// List the accounts
    #[command(visible_alias = "ls")]
    List,
    /// Show one account
    #[command(visible_alias = "show")]
    Describe { name: String },
    /// Rename an account, or change what its agents may
    #[command(
        after_help = "Examples:\n  ml service-account edit machine-7 --name rack-4\n  ml service-account edit machine-7 --allow-impersonation true"
    )]
    Edit {
        name: String,
        /// The new name
        #[arg(long = "name", value_name = "NAME")]
        new_name: Option<String>,
        /// Whether its agents may run each job as its owner; false ends the tokens of jobs that do
        #[arg(long, value_name = "BOOL")]
        allow_impersonation: Option<bool>,
    },
    /// Make another key for an account; it is shown this once
    #[command(
        after_help = "Examples:\n  ml service-account add-key machine-7 --label \"rack 4\" --expires 90d > agent.key\n  ml service-account add-key machine-7 --clearml >> ~/clearml.conf"
    )]
    AddKey {
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// When it ends, or after how long, as in 8h or 30d [default: never]
        #[arg(long, visible_alias = "until", value_name = "DATE|DURATION")]
        expires: Option<String>,
        /// Print it as the section of a clearml.conf
        #[arg(long)]
        clearml: bool,
    },
    /// List the keys of an account
    Keys {
        name: String,
        /// Revoked and expired ones too
        #[arg(long)]
        all: bool,
    },
    /// End a key of an account for good
    RevokeKey {
        name: String,
        /// The number of the key, as `ml service-account keys` shows it
        #[arg(value_name = "ID")]
        key: i64,
        #[command(flatten)]
        sure: Sure,
    },
    /// Remove an account; its keys end now
    #[command(visible_alias = "rm")]
    Remove {
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Subcommand)]
pub enum Token {
    /// Make a key; it is shown this once
    #[command(
        after_help = "Examples:\n  ml token create --label laptop --expires 30d\n  ml token create --permission jobs:read --workspace \"Stop Signs\" --expires 2027-01-31\n  ml token create --for machine-7 > agent.key"
    )]
    Create {
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// When it ends, or after how long, as in 8h or 30d [default: never]
        #[arg(long, visible_alias = "until", value_name = "DATE|DURATION")]
        expires: Option<String>,
        /// For another user or a service account
        #[arg(long = "for", value_name = "USER")]
        owner: Option<String>,
        /// Leave it only this of what its owner may do, as in experiments:read, jobs:read, read or models:*
        #[arg(short, long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// Let it reach only what lies in this workspace
        #[arg(short, long = "workspace", value_name = "WORKSPACE")]
        workspaces: Vec<String>,
    },
    /// List one's keys
    #[command(visible_alias = "ls")]
    List {
        /// Those of another user or a service account
        #[arg(long = "for", value_name = "USER")]
        owner: Option<String>,
        /// Revoked and expired ones too
        #[arg(long)]
        all: bool,
    },
    /// Show a key: whose it is, until when, and what it is narrowed to
    #[command(visible_alias = "show")]
    Describe {
        #[arg(value_name = "ID")]
        id: i64,
    },
    /// End a key now
    Revoke {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Subcommand)]
pub enum Permission {
    /// List the permissions that roles are made of
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Subcommand)]
pub enum Audit {
    /// List events, newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  ml audit list --denied --since 24h\n  ml audit list --object 'experiment 12'"
    )]
    List {
        #[command(flatten)]
        which: AuditWhich,
        /// The newest N
        #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Check that nothing in the audit was changed or taken out
    Verify,
    /// Write events out, oldest first, one JSON object a line
    Export {
        #[command(flatten)]
        which: AuditWhich,
        /// Into a file [default: standard output]
        #[arg(short = 'o', long = "out", value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum AuditOutcome {
    Allowed,
    Denied,
    Failed,
}

#[derive(Args)]
pub struct AuditWhich {
    /// Only what this user did
    #[arg(id = "by", long = "user", value_name = "USER")]
    pub user: Option<String>,
    /// A permission (experiments:update), a verb (cancel) or sign-in
    #[arg(long)]
    pub action: Option<String>,
    /// As in 'experiment 12', 'user ana', or only experiment
    #[arg(long)]
    pub object: Option<String>,
    /// Only events of this workspace
    #[arg(short, long)]
    pub workspace: Option<String>,
    /// From a date or for so long, as in 7d
    #[arg(long, value_name = "DATE|DURATION")]
    pub since: Option<String>,
    /// Up to a date, that day included, or so long ago
    #[arg(long, value_name = "DATE|DURATION")]
    pub until: Option<String>,
    /// Only what ended so
    #[arg(long, value_enum)]
    pub outcome: Option<AuditOutcome>,
    /// Only what was refused: --outcome denied
    #[arg(long, conflicts_with = "outcome")]
    pub denied: bool,
}

/// Every flag stands for itself or falls back on the environment (`ML_…`), the file, and a default: the server sees to that.
#[derive(Args)]
pub struct Serve {
    /// Settings in TOML
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address and port [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// sqlite:PATH or postgres://… [default: SQLite in the data directory]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Give the user `admin` the password in this file, in place of a sign-in link
    #[arg(long, value_name = "FILE")]
    pub admin_password_file: Option<PathBuf>,
    /// Serve HTTPS with this certificate (PEM, with those between it and the root)
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// A proxy in front does TLS
    #[arg(long)]
    pub behind_proxy: bool,
    /// Run no jobs here
    #[arg(long)]
    pub no_agent: bool,
    /// The address under which users reach the server, for links
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// off, basic, shadow or rbac [default: rbac]
    #[arg(long, value_name = "MODE")]
    pub access: Option<String>,
    /// For how long an agent may be silent before its jobs count as lost, as in 5m
    #[arg(long, value_name = "DURATION")]
    pub lease_time: Option<String>,
    /// How many users may be active or pending at once [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub seats: Option<i64>,
    /// Any other setting of the TOML file
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How an agent works, whether it is started or a unit is printed that starts it.
#[derive(Args)]
pub struct AgentFlags {
    /// A queue to serve; of several, those named later wait for those before them [default: default]
    #[arg(long = "queue", value_name = "QUEUE")]
    pub queues: Vec<String>,
    /// The queues that have work take turns; `--fair=false` says so against a vault
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub fair: Option<bool>,
    /// Names the machine [default: its host name]
    #[arg(long)]
    pub name: Option<String>,
    /// How many slots to offer [default: one for each GPU, else for each processor]
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// Only these GPUs, as in 0,1
    #[arg(long, value_delimiter = ',', value_name = "INDEX")]
    pub gpus: Option<Vec<u32>>,
    /// auto: keep jobs apart from each other and from the agent as far as the machine allows; require: by namespaces or Landlock, or run none; none: not at all [default: auto]
    #[arg(long, value_enum)]
    pub isolate: Option<Isolate>,
    /// A variable in the environment of every job
    #[arg(long, value_name = "KEY=VALUE")]
    pub job_env: Vec<String>,
    /// Hide this directory from jobs
    #[arg(long, value_name = "DIR")]
    pub protect: Vec<PathBuf>,
    /// Run each job as its owner, with what the owner may read; the account must be allowed to impersonate
    #[arg(long, alias = "use_owner_token")]
    pub use_owner_token: bool,
}

#[derive(Args)]
pub struct Agent {
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
    #[command(flatten)]
    pub flags: AgentFlags,
    /// Where jobs and what they print are kept [default: ~/.ml/agent]
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// The agent's API key [default: ML_API_KEY, else [worker] api_key of ~/.ml/config.toml]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Stay in the foreground; it does so anyway
    #[arg(long, conflicts_with_all = ["detach", "stop"])]
    pub foreground: bool,
    /// Go on in the background once the server has taken it; its log is agent.log in its directory, its process number is in the file lock
    #[arg(long, conflicts_with_all = ["stop", "builtin"])]
    pub detach: bool,
    /// End the agent of this directory, and wait until it has ended; its jobs run on
    #[arg(long)]
    pub stop: bool,
    /// Started with --detach: says on standard output how the start went
    #[arg(long, hide = true)]
    pub tell_start: bool,
    /// Started by a server: the key is the first line of standard input, and the agent ends when it is closed. What the server's own file says for it
    /// (--isolate, --job-env) is then a configuration file's, below vaults
    #[arg(long, hide = true)]
    pub builtin: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Isolate {
    Auto,
    Require,
    None,
}

/// What goes into the unit.
#[derive(Args)]
pub struct AgentUnit {
    #[command(flatten)]
    pub flags: AgentFlags,
    /// The file with the agent's API key
    #[arg(long, value_name = "FILE", default_value = "/etc/bailiwick/agent.key")]
    pub key_file: PathBuf,
    /// Where jobs and what they print are kept
    #[arg(long, default_value = "/var/lib/bailiwick-agent")]
    pub dir: PathBuf,
    /// The user that the agent runs as; as root it gives each job a user of its own
    #[arg(long, value_name = "USER", default_value = "root")]
    pub run_as: String,
}

#[derive(Subcommand)]
pub enum AgentCommand {
    /// List the agents of the server
    #[command(visible_alias = "ls")]
    List,
    /// Show an agent
    #[command(visible_alias = "show")]
    Describe {
        /// Its name or number
        agent: String,
    },
    /// Let an agent take work again
    Enable {
        /// Its name or number
        agent: String,
    },
    /// Give an agent no more work; what it runs goes on
    Drain {
        /// Its name or number
        agent: String,
    },
    /// Give an agent no more work, and end what it runs: that is queued again or fails, as the server's `on_lost_agent` says
    Disable {
        /// Its name or number
        agent: String,
    },
    /// Print a unit for systemd that runs an agent
    #[command(
        after_help = "Examples:\n  ml agent unit --queue gpu > /etc/systemd/system/bailiwick-agent.service\n  ml agent unit --server https://ml.example.com --run-as ml --gpus 0,1 --isolate require"
    )]
    Unit(AgentUnit),
    /// Say how far jobs can be kept apart on this machine
    Doctor {
        /// Where jobs would be kept [default: ~/.ml/agent]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub enum Config {
    /// Show the settings that hold here
    Show {
        /// And where each comes from
        #[arg(long)]
        origin: bool,
    },
    /// Change a setting in ~/.ml/config.toml
    #[command(
        after_help = "Examples:\n  ml config set server https://ml.example.com\n  ml config set worker.api_key < agent.key"
    )]
    Set {
        /// server, ca, user, workspace, project, queue or worker.api_key
        key: String,
        /// Left out for worker.api_key, which is read from standard input
        value: Option<String>,
    },
}

/// The flags that every command takes.
#[derive(Debug, Default, Clone)]
pub struct Common {
    pub server: Option<String>,
    pub user: Option<String>,
    pub output: Option<OutputFormat>,
    pub ca: Option<PathBuf>,
    pub verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Wide,
    Json,
    Jsonl,
    Csv,
    Id,
}

/// Commands that talk to no server and print no data.
const ALONE: &[&str] = &["serve", "completions", "man", "job-shim"];

fn common_args() -> [Arg; 6] {
    let heading = "Everywhere";
    [
        Arg::new("common-server")
            .long("server")
            .value_name("URL")
            .help("The server to talk to [default: the one signed in to last, else http://127.0.0.1:8080]"),
        Arg::new("common-user")
            .short('u')
            .long("user")
            .value_name("NAME")
            .help("Act as another identity that has signed in here"),
        Arg::new("common-output")
            .short('o')
            .long("output")
            .value_name("FORMAT")
            .value_parser(clap::value_parser!(OutputFormat))
            .help("table (on a terminal), tab-separated (in a pipe), wide, json, jsonl, csv or id")
            .hide_possible_values(true),
        Arg::new("common-json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Short for -o json"),
        Arg::new("common-ca")
            .long("ca")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Trust the certificates in this PEM file too"),
        Arg::new("common-verbose")
            .short('v')
            .long("verbose")
            .action(ArgAction::SetTrue)
            .help("Say more, such as the request id of an error"),
    ]
    .map(|arg| arg.help_heading(heading))
}

/// The whole command line, with the common flags at every command.
pub fn command() -> clap::Command {
    with_common(Cli::command())
}

fn with_common(command: clap::Command) -> clap::Command {
    if ALONE.contains(&command.get_name()) {
        return command;
    }
    let mut command = command.mut_subcommands(with_common);
    for mut arg in common_args() {
        let own: Vec<_> = command
            .get_arguments()
            .map(|own| (own.get_short(), own.get_long()))
            .collect();
        if own
            .iter()
            .any(|(short, _)| short.is_some() && *short == arg.get_short())
        {
            arg = arg.short(None);
        }
        if own.iter().any(|(_, long)| long.is_some() && *long == arg.get_long()) {
            arg = arg.long(None);
        }
        if arg.get_short().is_none() && arg.get_long().is_none() {
            continue;
        }
        command = command.arg(arg);
    }
    command
}

/// Reads the arguments of the process.
///
/// # Errors
/// Wrong usage, or a wish for help.
pub fn parse(words: impl IntoIterator<Item = std::ffi::OsString>) -> Result<(Cli, Common), clap::Error> {
    let matches = command().try_get_matches_from(words)?;
    let mut common = Common::default();
    read_common(&matches, &mut common);
    let cli = Cli::from_arg_matches(&matches)?;
    Ok((cli, common))
}

/// The deepest one that is given holds.
fn read_common(matches: &ArgMatches, common: &mut Common) {
    fn get<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Option<T> {
        matches.try_get_one::<T>(id).ok().flatten().cloned()
    }
    common.server = get(matches, "common-server").or(common.server.take());
    common.user = get(matches, "common-user").or(common.user.take());
    common.output = get(matches, "common-output").or(common.output.take());
    if get::<bool>(matches, "common-json") == Some(true) {
        common.output = Some(OutputFormat::Json);
    }
    common.ca = get(matches, "common-ca").or(common.ca.take());
    common.verbose |= get::<bool>(matches, "common-verbose") == Some(true);
    if let Some((_, deeper)) = matches.subcommand() {
        read_common(deeper, common);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<std::ffi::OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn the_common_flags_stand_before_or_after_the_command() {
        for line in [
            "ml -u ana user list --json",
            "ml user -u ana list -o json",
            "ml user list --user ana --json",
        ] {
            let (_, common) = parse(words(line)).map_err(|why| why.to_string()).unwrap();
            assert_eq!(common.user.as_deref(), Some("ana"), "{line}");
            assert_eq!(common.output, Some(OutputFormat::Json), "{line}");
        }
    }

    #[test]
    fn a_flag_of_the_command_itself_comes_before_the_common_one() {
        let (cli, common) = parse(words("ml -u admin audit list --user ana"))
            .map_err(|why| why.to_string())
            .unwrap();
        assert_eq!(common.user.as_deref(), Some("admin"));
        let Some(Command::Audit(Audit::List { which, .. })) = cli.command else {
            panic!("that was `audit list`");
        };
        assert_eq!(which.user.as_deref(), Some("ana"));
        let (_, common) = parse(words("ml audit list -u admin --user ana"))
            .map_err(|why| why.to_string())
            .unwrap();
        assert_eq!(common.user.as_deref(), Some("admin"));
    }
}

//! One file per noun; each command is a function.

mod access;
mod agents;
mod audit;
mod config;
mod document;
mod experiments;
mod groups;
mod manual;
mod models;
mod projects;
mod queues;
mod rbac;
mod requests;
mod roles;
mod run;
mod serve;
mod service_accounts;
mod sign_in;
mod stacks;
mod status;
mod tokens;
mod users;
mod vaults;
mod workspaces;

use crate::args::{Cli, Command, Common, Experiment};
use crate::failure::Result;

pub fn run(cli: Cli, common: Common) -> Result<()> {
    let Some(command) = cli.command else {
        return manual::version(&common);
    };
    match command {
        Command::Run(run) => run::run(&common, &run),
        Command::Status(status) => status::status(&common, &status),
        Command::Logs(logs) => experiments::logs(&common, &logs),
        Command::Cancel(named) => experiments::cancel(&common, &named),
        Command::Kill(named) => experiments::kill(&common, &named),
        Command::Describe(one) => experiments::describe(&common, &one),
        Command::Download(download) => experiments::download(&common, &download),
        // The same commands under their noun.
        Command::Experiment(command) => match command {
            Experiment::Create(create) => run::create(&common, &create),
            Experiment::List(status) => status::status(&common, &status),
            Experiment::Logs(logs) => experiments::logs(&common, &logs),
            Experiment::Cancel(named) => experiments::cancel(&common, &named),
            Experiment::Kill(named) => experiments::kill(&common, &named),
            Experiment::Describe(one) => experiments::describe(&common, &one),
            Experiment::Download(download) => experiments::download(&common, &download),
            Experiment::Move(to) => experiments::move_to(&common, &to),
            Experiment::MoveJob(to) => experiments::move_job(&common, &to),
            Experiment::ReportProgress(report) => experiments::report_progress(&common, &report),
            Experiment::Archive(named) => experiments::archive(&common, &named, true),
            Experiment::Unarchive(named) => experiments::archive(&common, &named, false),
            Experiment::Delete(which) => experiments::delete(&common, &which),
        },
        Command::Workspace(command) => workspaces::run(&common, command),
        Command::Project(command) => projects::run(&common, command),
        Command::Login(login) => sign_in::login(&common, &login),
        Command::Logout => sign_in::logout(&common),
        Command::Whoami => sign_in::whoami(&common),
        Command::ChangePassword(change) => users::change_password(&common, &change),
        Command::User(command) => users::run(&common, command),
        Command::UserGroup(command) => groups::run(&common, command),
        Command::ServiceAccount(command) => service_accounts::run(&common, command),
        Command::Token(command) => tokens::run(&common, command),
        Command::Role(command) => roles::run(&common, command),
        Command::Share(share) => roles::run(&common, share.into()),
        Command::Unshare(unshare) => roles::run(&common, unshare.into()),
        Command::Rbac(command) => rbac::run(&common, command),
        Command::Permission(_) => roles::permissions(&common),
        Command::Access(command) => access::run(&common, command),
        Command::Queue(command) => queues::run(&common, command),
        Command::Model(command) => models::run(&common, command),
        Command::Stack(command) => stacks::run(&common, command),
        Command::Vault(command) => vaults::run(&common, command),
        Command::Admin(command) => vaults::admin(&common, command),
        Command::Audit(command) => audit::run(&common, command),
        Command::Serve(flags) => serve::run(*flags),
        Command::Agent(agent) => agents::run(&common, *agent),
        Command::Config(command) => config::run(&common, command),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { dir } => manual::pages(&dir),
        Command::JobShim { dir } => agents::shim(&dir),
    }
}

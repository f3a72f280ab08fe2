//! The binary `ml`: the command line, and with `ml serve` and `ml agent` the server and the agent.

use std::process::ExitCode;

mod args;
mod commands;
mod connect;
mod failure;
mod follow;
mod output;
mod pack;
mod prompt;
#[cfg(test)]
mod reference;
mod sessions;
mod settings;
mod submission;
mod unpack;

fn main() -> ExitCode {
    let (cli, common) = match args::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(why) => return wrong_usage(&why),
    };
    let verbose = common.verbose;
    match commands::run(cli, common) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure, verbose);
            ExitCode::from(failure.exit)
        }
    }
}

/// Help goes to standard output; what was wrong is said as every other error is.
fn wrong_usage(why: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match why.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone away has seen enough.
            let _ = why.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = why.print();
            ExitCode::from(failure::exit::WRONG_USAGE)
        }
        _ => {
            let text = why.render().to_string();
            let text = text.replace("\n  tip: ", "\nhint: ");
            output::say(text.trim_end());
            ExitCode::from(failure::exit::WRONG_USAGE)
        }
    }
}

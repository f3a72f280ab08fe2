//! `docs/cli.md`, written from the command line's own types, and the test that fails when it is stale.

use std::fmt::Write;

use clap::Command;

const HEAD: &str = "# Command line\n\n\
    Written from the program itself; `BLESS=1 cargo test -p bailiwick-cli` writes it anew. The same text stands behind `--help`, and `ml man DIR` writes it as manual pages.\n";

fn reference() -> String {
    let mut command = crate::args::command();
    command.build();
    let mut text = HEAD.to_owned();
    text.push_str("\n## Everywhere\n\n");
    let common = command
        .get_arguments()
        .filter(|arg| arg.get_help_heading() == Some("Everywhere"));
    arguments(&mut text, common);
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        section(&mut text, subcommand, "ml", 2);
    }
    text
}

fn section(text: &mut String, command: &Command, parent: &str, level: usize) {
    let path = format!("{parent} {}", command.get_name());
    let about = command.get_about().map(|about| about.to_string()).unwrap_or_default();
    let _ = write!(text, "\n{} {path}\n\n{about}.\n", "#".repeat(level));
    let aliases: Vec<_> = command
        .get_visible_aliases()
        .map(|alias| format!("`{parent} {alias}`"))
        .collect();
    if !aliases.is_empty() {
        let _ = write!(text, "\nAlso {}.\n", aliases.join(", "));
    }
    let is_only_a_noun = command.is_subcommand_required_set();
    if !is_only_a_noun {
        let usage = command.clone().render_usage().to_string();
        let usage = usage
            .trim_start_matches("Usage: ")
            .lines()
            .next()
            .unwrap_or("")
            .to_owned();
        let _ = write!(text, "\n```\n{usage}\n```\n");
    }
    let own = || {
        command
            .get_arguments()
            .filter(|arg| arg.get_help_heading() != Some("Everywhere") && !arg.is_hide_set() && arg.get_id() != "help")
    };
    if own().next().is_some() {
        text.push('\n');
        arguments(text, own());
    }
    if let Some(help) = command.get_after_help() {
        let help = help.to_string();
        let (examples, rest) = help.split_once("\n\n").unwrap_or((&help, ""));
        let examples: Vec<_> = examples.lines().skip(1).map(str::trim).collect();
        let _ = write!(text, "\n```sh\n{}\n```\n", examples.join("\n"));
        if !rest.is_empty() {
            let _ = write!(text, "\n{rest}\n");
        }
    }
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        section(text, subcommand, &path, level + 1);
    }
}

fn arguments<'a>(text: &mut String, arguments: impl Iterator<Item = &'a clap::Arg>) {
    text.push_str("| argument | |\n|---|---|\n");
    for arg in arguments {
        let help = arg.get_help().map(|help| help.to_string()).unwrap_or_default();
        let shown = arg.to_string().replace('|', "\\|");
        let short = match (arg.get_short(), arg.is_positional()) {
            (Some(short), false) => format!("`-{short}`, "),
            _ => String::new(),
        };
        let _ = writeln!(text, "| {short}`{shown}` | {} |", help.replace('|', "\\|"));
    }
}

#[test]
fn the_reference_of_the_command_line_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let new = reference();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &new).expect("docs/cli.md can be written");
    }
    let old = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        old == new,
        "docs/cli.md is stale: run `BLESS=1 cargo test -p bailiwick-cli` and look at the difference"
    );
}

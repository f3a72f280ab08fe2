//! `ml vault …` and `ml admin …`

use std::path::PathBuf;

use bailiwick_api::vault::VaultFormat;
use clap::{Args, Subcommand};

use super::Sure;

/// Which vault; one's own where nothing is said.
#[derive(Args)]
pub struct Which {
    /// Its number or name; `@ana` is the personal one of ana
    #[arg(value_name = "VAULT", conflicts_with = "of")]
    pub vault: Option<String>,
    /// The personal one of this user or service account
    #[arg(long = "for", value_name = "USER")]
    pub of: Option<String>,
}

/// A text from a file.
#[derive(Args)]
pub struct Text {
    /// The file with the text; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// How it is written [default: as the file's name ends, else hocon]
    #[arg(long, value_parser = format, value_name = "hocon|json|yaml")]
    pub format: Option<VaultFormat>,
}

fn format(word: &str) -> Result<VaultFormat, String> {
    VaultFormat::parse(word).ok_or_else(|| "it is hocon, json or yaml".into())
}

#[derive(Subcommand)]
pub enum Vault {
    /// List one's own vault and, for administrators, theirs
    #[command(visible_alias = "ls")]
    List,
    /// Show a vault; its values only with --reveal
    #[command(
        visible_alias = "describe",
        after_help = "Examples:\n  ml vault show\n  ml vault show --reveal\n  ml vault show --for ci-agent"
    )]
    Show {
        #[command(flatten)]
        which: Which,
        /// With its values; that of another is put on record
        #[arg(long)]
        reveal: bool,
    },
    /// Save a personal vault: make it, or replace its text
    #[command(after_help = "Examples:\n  ml vault set -f vault.yaml\n  ml vault set --for ci-agent -f - < vault.conf")]
    Set {
        #[command(flatten)]
        text: Text,
        /// Of this user or service account
        #[arg(long = "for", value_name = "USER")]
        of: Option<String>,
        /// Keep it switched off
        #[arg(long)]
        disabled: bool,
    },
    /// Change a vault's text in $VISUAL or $EDITOR
    #[command(after_help = "Examples:\n  ml vault edit\n  ml vault edit proxies")]
    Edit {
        #[command(flatten)]
        which: Which,
    },
    /// Have a vault applied
    Enable {
        #[command(flatten)]
        which: Which,
    },
    /// Keep a vault without applying it
    Disable {
        #[command(flatten)]
        which: Which,
    },
    /// Who changed a vault, newest first
    History {
        #[command(flatten)]
        which: Which,
    },
    /// The vaults that apply to somebody, weakest first, and what they come to
    #[command(
        visible_alias = "effective",
        after_help = "Examples:\n  ml vault applied\n  ml vault applied --for ci-agent\n  ml vault applied --reveal"
    )]
    Applied {
        /// To this user or service account [default: oneself]
        #[arg(long = "for", value_name = "USER")]
        of: Option<String>,
        /// With their values; those of another are put on record
        #[arg(long)]
        reveal: bool,
    },
    /// Make an administrator's vault, for a group or everybody
    #[command(
        after_help = "Examples:\n  ml vault create proxies --group vision -f proxies.yaml\n  ml vault create house --organisation --enforced -f house.conf"
    )]
    Create {
        name: String,
        /// For everybody in this group
        #[arg(long, value_name = "NAME|ID", required_unless_present = "organisation")]
        group: Option<String>,
        /// For everybody
        #[arg(long, conflicts_with = "group")]
        organisation: bool,
        #[command(flatten)]
        text: Text,
        /// 1 to 999; a higher one is stronger [default: 50]
        #[arg(long, value_name = "N")]
        order: Option<i64>,
        /// Above personal vaults and the command line
        #[arg(long)]
        enforced: bool,
        /// Keep it switched off
        #[arg(long)]
        disabled: bool,
    },
    /// Change an administrator's vault
    #[command(
        after_help = "Examples:\n  ml vault update proxies -f proxies.yaml\n  ml vault update house --enforced false"
    )]
    Update {
        #[arg(value_name = "VAULT")]
        vault: String,
        /// A file with its new text; `-` reads standard input
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How the file is written [default: as its name ends, else hocon]
        #[arg(long, value_parser = format, value_name = "hocon|json|yaml", requires = "file")]
        format: Option<VaultFormat>,
        #[arg(long)]
        name: Option<String>,
        #[arg(long, value_name = "N")]
        order: Option<i64>,
        #[arg(long, value_name = "true|false")]
        enforced: Option<bool>,
    },
    /// Delete a vault
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  ml vault delete\n  ml vault delete proxies --yes"
    )]
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Subcommand)]
pub enum Admin {
    /// Seal all vaults with a new key
    #[command(after_help = "Examples:\n  ml admin rotate-key")]
    RotateKey,
}

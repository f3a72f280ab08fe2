//! Why a command did not do what was asked, and what to do next.

use bailiwick_client::Error;

/// Exit statuses besides 0; `ml run --wait` passes on the job's own.
pub mod exit {
    pub const FAILED: u8 = 1;
    pub const WRONG_USAGE: u8 = 2;
    /// A question to which no answer could be had.
    pub const NO_ANSWER: u8 = 3;
    pub const SIGN_IN_NEEDED: u8 = 4;
    pub const STILL_GOING: u8 = 8;
    pub const INTERRUPTED: u8 = 130;
}

#[derive(Debug)]
pub struct Failure {
    /// Empty when everything has been said already.
    pub message: String,
    pub hint: Option<String>,
    pub request_id: Option<String>,
    pub exit: u8,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            request_id: None,
            exit: exit::FAILED,
        }
    }

    pub fn wrong_usage(message: impl Into<String>) -> Failure {
        Failure {
            exit: exit::WRONG_USAGE,
            ..Failure::new(message)
        }
    }

    /// Only an exit status.
    pub fn silent(exit: u8) -> Failure {
        Failure {
            exit,
            ..Failure::new("")
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The failure of reading or writing a file.
    pub fn file(doing: &str, path: &std::path::Path, why: &std::io::Error) -> Failure {
        Failure::new(format!("cannot {doing} {}: {}", path.display(), io_words(why)))
    }
}

/// The reason without Rust's "(os error 2)".
pub fn io_words(why: &std::io::Error) -> String {
    let words = why.to_string();
    match words.split_once(" (os error") {
        Some((before, _)) => before.to_lowercase(),
        None => words,
    }
}

impl From<Error> for Failure {
    fn from(why: Error) -> Failure {
        match why {
            Error::Refused { status, body } => Failure {
                message: body.message,
                hint: body.hint,
                request_id: Some(body.request_id).filter(|id| !id.is_empty()),
                exit: if status == 401 { exit::SIGN_IN_NEEDED } else { exit::FAILED },
            },
            Error::Unreachable(why) => Failure::new(why)
                .hint("check that the server runs there; another one is named with --server URL or `ml config set server URL`"),
            Error::Unexpected(why) => Failure::new(why),
        }
    }
}

//! Passwords: what may be one (`access.md` §3), and how they are kept (Argon2id).

use std::sync::OnceLock;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

/// Longest password, in bytes: hashing costs time in its length.
const MAX: usize = 1024;

/// At least 12 characters, or at least 8 that zxcvbn scores 3 of 4 or better; never blank; not the user's own name.
pub fn check(password: &str, name: &str) -> Result<(), String> {
    let length = password.chars().count();
    if password.trim().is_empty() {
        return Err("a password is not blank".into());
    }
    if password.len() > MAX {
        return Err(format!("a password has at most {MAX} bytes"));
    }
    if bailiwick_api::names::name_key(password) == bailiwick_api::names::name_key(name) {
        return Err("the password is the user's name".into());
    }
    if length >= 12 {
        return Ok(());
    }
    if length < 8 {
        return Err(
            "a password has at least 12 characters, or at least 8 that are hard to guess; this one is shorter than 8"
                .into(),
        );
    }
    let estimate = zxcvbn::zxcvbn(password, &[name]);
    if (estimate.score() as u8) < 3 {
        return Err(
            "a password has at least 12 characters, or at least 8 that are hard to guess; this one is easy to guess"
                .into(),
        );
    }
    Ok(())
}

/// The Argon2id hash to store (19 MiB, 2 passes, as OWASP advises).
pub fn hash(password: &str) -> Result<String, String> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|why| why.to_string())
}

/// Whether the password fits. Without a hash it takes as long and says no, so that timing does not tell which names exist.
pub fn fits(password: &str, stored: Option<&str>) -> bool {
    static NOBODY: OnceLock<String> = OnceLock::new();
    if password.len() > MAX {
        return false;
    }
    let nobody = || {
        NOBODY
            .get_or_init(|| hash("nobody has this password").expect("hashing works"))
            .as_str()
    };
    let known = stored.unwrap_or_else(nobody);
    Argon2::default().verify_password(password.as_bytes(), known).is_ok() && stored.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_or_hard_to_guess() {
        for good in ["correct horse", "aaaaaaaaaaab", "xK9#mQ2$w"] {
            assert_eq!(check(good, "ana"), Ok(()), "{good}");
        }
        for bad in ["", "            ", "short", "password1", "ananananana"] {
            assert!(check(bad, "ana").is_err(), "{bad}");
        }
        assert!(check("Mle-Traffic-00", "mle-traffic-00").is_err());
        assert!(check(&"x".repeat(2000), "ana").is_err());
    }

    #[test]
    fn only_the_right_password_fits() {
        let stored = hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(fits("correct horse", Some(&stored)) && !fits("wrong horse", Some(&stored)));
        assert!(!fits("nobody has this password", None));
    }
}

//! API keys and other bearer secrets: how they look, how they travel, what is stored of them.
//!
//! A key is `ml_` + 43 characters (256 random bits) + 6 characters of checksum, all letters and digits, so that leak scanners can
//! recognise one and a mistyped one is told apart from a revoked one. Our own programs send `mlh_` + the hexadecimal SHA-256 of the key, never the key
//! (seed 000: "Keys are hashed before transmission"). The server stores the SHA-256 of *that* hash: what is stored opens nothing by itself.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BODY: usize = 43;
const CHECK: usize = 6;

/// What stands before the random part, one for each kind of secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// An API key of a user or service account: `ml_`.
    Api,
    /// A signed-in session: `mls_`.
    Session,
    /// A one-time activation or sign-in link: `mll_`.
    Link,
    /// The token that a running job holds: `mlj_`.
    Job,
}

impl KeyKind {
    pub const fn prefix(self) -> &'static str {
        match self {
            KeyKind::Api => "ml_",
            KeyKind::Session => "mls_",
            KeyKind::Link => "mll_",
            KeyKind::Job => "mlj_",
        }
    }
}

/// A new key from 32 random bytes. The result is a secret: show it once and store [`stored_hash`] of [`wire_form`].
pub fn make(kind: KeyKind, random: [u8; 32]) -> String {
    let body = base62(&random, BODY);
    let check = checksum(kind.prefix(), &body);
    format!("{}{body}{check}", kind.prefix())
}

/// 32 bytes from the operating system.
pub fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// What our own programs send instead of the key: `mlh_` + 64 hexadecimal digits.
pub fn wire_form(key: &str) -> String {
    format!("mlh_{}", hex(&Sha256::digest(key.as_bytes())))
}

/// What the server stores for a bearer, whether it came as the plain key or in its wire form;
/// `None` when it cannot be a key of ours (wrong shape or wrong checksum).
pub fn stored_hash(bearer: &str) -> Option<[u8; 32]> {
    let wire: [u8; 32] = match bearer.strip_prefix("mlh_") {
        Some(digits) => unhex32(digits)?,
        None if is_well_formed(bearer) => Sha256::digest(bearer.as_bytes()).into(),
        None => return None,
    };
    Some(Sha256::digest(wire).into())
}

/// Whether a text has the shape and the checksum of a plain key of any kind.
pub fn is_well_formed(key: &str) -> bool {
    [KeyKind::Session, KeyKind::Link, KeyKind::Job, KeyKind::Api]
        .iter()
        .any(|kind| {
            key.strip_prefix(kind.prefix()).is_some_and(|rest| {
                rest.len() == BODY + CHECK
                    && rest.bytes().all(|b| b.is_ascii_alphanumeric())
                    && checksum(kind.prefix(), &rest[..BODY]) == rest[BODY..]
            })
        })
}

/// The SHA-256 of some bytes, in hexadecimal: the name of a code archive.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    // By hand: every request has its own number written so.
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let mut digits = vec![0; bytes.len() * 2];
    for (two, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        two.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    String::from_utf8(digits).expect("these digits are ASCII")
}

/// What each hexadecimal digit stands for; 255 for what is none. A table, since every request has its key written so, and which digit comes next is
/// nothing that a processor could guess.
const HALVES: [u8; 256] = {
    let mut halves = [255; 256];
    let mut value = 0;
    while value < 16 {
        halves[b"0123456789abcdef"[value] as usize] = value as u8;
        halves[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    halves
};

pub fn unhex32(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 {
        return None;
    }
    let (mut bytes, mut all) = ([0; 32], 0);
    for (byte, two) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let [high, low] = [HALVES[usize::from(two[0])], HALVES[usize::from(two[1])]];
        *byte = high << 4 | low;
        all |= high | low;
    }
    (all <= 15).then_some(bytes)
}

fn checksum(prefix: &str, body: &str) -> String {
    let digest = Sha256::digest(format!("bailiwick key checksum {prefix}{body}").as_bytes());
    base62(&digest[..4], CHECK)
}

/// The number that `bytes` is (big-endian), written with exactly `width` digits of base 62.
fn base62(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in number.iter_mut() {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = ALPHABET[rest as usize];
    }
    String::from_utf8(digits).expect("the alphabet is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognised_and_a_mistyped_one_is_not() {
        let key = make(KeyKind::Api, [7; 32]);
        assert_eq!(key.len(), 3 + BODY + CHECK);
        assert!(is_well_formed(&key));
        let last = if key.ends_with('a') { "b" } else { "a" };
        assert!(!is_well_formed(&format!("{}{last}", &key[..key.len() - 1])));
        assert!(!is_well_formed(""));
        assert!(!is_well_formed("ml_ключ"));
        assert_ne!(make(KeyKind::Api, [0; 32]), make(KeyKind::Api, [255; 32]));
    }

    #[test]
    fn digits_are_read_in_both_cases_and_nothing_else_is() {
        let bytes: [u8; 32] = std::array::from_fn(|at| (at * 37) as u8);
        let digits = hex(&bytes);
        assert_eq!(unhex32(&digits), Some(bytes));
        assert_eq!(unhex32(&digits.to_uppercase()), Some(bytes));
        assert_eq!(unhex32(&digits[1..]), None);
        for other in (0..=127u8).map(char::from).filter(|other| !other.is_ascii_hexdigit()) {
            assert_eq!(unhex32(&format!("{other}{}", &digits[1..])), None, "{other:?}");
            assert_eq!(unhex32(&format!("{}{other}", &digits[1..])), None, "{other:?}");
        }
        assert_eq!(unhex32(&"é".repeat(32)), None);
    }

    #[test]
    fn the_key_and_its_wire_form_open_the_same_and_what_is_stored_opens_nothing() {
        let key = make(KeyKind::Session, [9; 32]);
        let stored = stored_hash(&key).unwrap();
        assert_eq!(stored_hash(&wire_form(&key)), Some(stored));
        assert_ne!(stored_hash(&format!("mlh_{}", hex(&stored))), Some(stored));
        assert_eq!(stored_hash("your-api-key-here"), None);
    }
}

//! Sealing what must not be read out of the database: AES-256-GCM with keys that lie in a file beside it and never in it.
//!
//! The file has a line for each key, its name and 64 hexadecimal digits, the newest first; all of them open. The database says by its name which one seals, so that a
//! server with another file is told so instead of sealing with a key that nobody else has.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bailiwick_api::key::{hex, sha256_hex, unhex32};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::access::Work;
use crate::db::{Result, StoreError};

/// A file of keys, read when it is first needed and again when a key is missing.
pub struct KeyFile {
    path: PathBuf,
    keys: Mutex<Vec<Key>>,
}

#[derive(Clone)]
struct Key {
    name: String,
    bytes: [u8; 32],
}

/// What is sealed, and with which key.
pub(crate) struct Sealed {
    pub(crate) key: String,
    pub(crate) bytes: Vec<u8>,
}

const MEND: &str =
    "the operator has to put it back, from a backup or from another server of this installation; see docs/vaults.md";

impl Key {
    fn new() -> Result<Key> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|why| StoreError::Unavailable(format!("no random bytes: {why}")))?;
        Ok(Key {
            name: sha256_hex(&bytes)[..12].to_owned(),
            bytes,
        })
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, &self.bytes);
        LessSafeKey::new(key.expect("the key has the length of the cipher"))
    }

    fn seal(&self, about: &str, plain: &[u8]) -> Result<Sealed> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|why| StoreError::Unavailable(format!("no random bytes: {why}")))?;
        let mut bytes = plain.to_vec();
        let sealed =
            self.cipher()
                .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), self.about(about), &mut bytes);
        sealed.map_err(|_| StoreError::Broken("a vault could not be sealed".into()))?;
        Ok(Sealed {
            key: self.name.clone(),
            bytes: [&nonce[..], &bytes].concat(),
        })
    }

    fn open(&self, about: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, bytes) = sealed.split_at_checked(NONCE_LEN)?;
        let mut bytes = bytes.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.cipher().open_in_place(nonce, self.about(about), &mut bytes).ok()?;
        Some(plain.to_vec())
    }

    /// What is sealed for one place opens at no other.
    fn about(&self, about: &str) -> Aad<Vec<u8>> {
        Aad::from(format!("bailiwick {about} {}", self.name).into_bytes())
    }
}

impl KeyFile {
    pub fn new(path: PathBuf) -> KeyFile {
        KeyFile {
            path,
            keys: Mutex::default(),
        }
    }

    fn known(&self, name: &str) -> Option<Key> {
        let keys = self.keys.lock().expect("no panic while the lock is held");
        keys.iter().find(|key| key.name == name).cloned()
    }

    fn unusable(&self, why: impl std::fmt::Display) -> StoreError {
        StoreError::Sealed(format!(
            "the server's key file (`vault_key_file`) cannot be used: {why}"
        ))
    }

    /// Nothing where there is no file.
    fn read(&self) -> Result<Vec<Key>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(self.unusable(why)),
        };
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = line.split_once(' ').and_then(|(name, digits)| {
                let bytes = unhex32(digits.trim())?;
                (sha256_hex(&bytes)[..12] == *name).then(|| Key {
                    name: name.to_owned(),
                    bytes,
                })
            });
            keys.push(key.ok_or_else(|| self.unusable(format!("line {} is not a key", number + 1)))?);
        }
        *self.keys.lock().expect("no panic while the lock is held") = keys.clone();
        Ok(keys)
    }

    /// The whole file or none: beside it first, and then in its place.
    fn write(&self, keys: &[Key]) -> Result<()> {
        let beside = self.path.with_extension(format!("new-{}", std::process::id()));
        let written = (|| {
            let mut options = std::fs::File::options();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            for key in keys {
                writeln!(file, "{} {}", key.name, hex(&key.bytes))?;
            }
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)?;
            let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
            std::fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
        })();
        written.map_err(|why: std::io::Error| self.unusable(why))?;
        *self.keys.lock().expect("no panic while the lock is held") = keys.to_vec();
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Key> {
        if let Some(key) = self.known(name) {
            return Ok(key);
        }
        self.read()?;
        self.known(name).ok_or_else(|| Self::missing(name))
    }

    fn missing(name: &str) -> StoreError {
        StoreError::Sealed(format!(
            "the key {name} of the vaults is not in the server's key file (`vault_key_file`); {MEND}"
        ))
    }

    /// Seals with the current key, which must be in the file: what is sealed with one that only this server remembers is lost with the server. The first time of
    /// all, makes it.
    pub(crate) async fn seal(&self, work: &mut Work, about: &str, plain: &[u8]) -> Result<Sealed> {
        let mut name = current(work).await?;
        if name.is_none() {
            // One at a time: two first keys would be one too many.
            work.touches(&[]).await?;
            name = current(work).await?;
        }
        let key = match name {
            Some(name) => {
                let kept = self.read()?.into_iter().find(|key| key.name == name);
                kept.ok_or_else(|| Self::missing(&name))?
            }
            None => {
                // A file that was made by a start that went no further is as good as a new one.
                let mut keys = self.read()?;
                if keys.is_empty() {
                    keys.push(Key::new()?);
                    self.write(&keys)?;
                }
                let key = keys.remove(0);
                note_current(work, &key.name).await?;
                key
            }
        };
        key.seal(about, plain)
    }

    pub(crate) fn open(&self, name: &str, about: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let opened = self.find(name)?.open(about, sealed);
        opened.ok_or_else(|| {
            StoreError::Sealed(format!(
                "what is sealed with the key {name} of the vaults does not open: it was damaged or put in another's place"
            ))
        })
    }

    /// A new current key, before the older ones in the file. Its name.
    pub(crate) async fn renew(&self, work: &mut Work) -> Result<String> {
        work.touches(&[]).await?;
        let used: Vec<String> = sqlx::query_scalar("SELECT DISTINCT key_name FROM vaults")
            .fetch_all(&mut ***work)
            .await?;
        let name = self.add(&used)?;
        note_current(work, &name).await?;
        Ok(name)
    }

    /// Writes a new key before those in the file, which must hold every key that is used: one that only this server still remembers would be gone with it. A key
    /// that seals nothing may be missing, so that an installation that has lost its file begins anew once the vaults of then are deleted.
    fn add(&self, used: &[String]) -> Result<String> {
        let mut keys = self.read()?;
        if let Some(missing) = used.iter().find(|name| keys.iter().all(|key| key.name != **name)) {
            return Err(StoreError::Sealed(format!(
                "vaults are sealed with the key {missing}, which is not in the server's key file (`vault_key_file`); {MEND}"
            )));
        }
        let key = Key::new()?;
        keys.insert(0, key.clone());
        self.write(&keys)?;
        Ok(key.name)
    }
}

async fn current(work: &mut Work) -> Result<Option<String>> {
    let name = sqlx::query_scalar("SELECT name FROM vault_keys WHERE is_current = 1");
    Ok(name.fetch_optional(&mut ***work).await?)
}

async fn note_current(work: &mut Work, name: &str) -> Result<()> {
    sqlx::query("UPDATE vault_keys SET is_current = 0 WHERE is_current = 1")
        .execute(&mut ***work)
        .await?;
    sqlx::query("INSERT INTO vault_keys (name, made_at, is_current) VALUES ($1, $2, 1) ON CONFLICT (name) DO UPDATE SET is_current = 1")
        .bind(name)
        .bind(work.now().0)
        .execute(&mut ***work)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_at_its_place_and_unchanged() {
        let (key, other) = (Key::new().unwrap(), Key::new().unwrap());
        let sealed = key.seal("vault 1", b"secret").unwrap();
        assert!(!sealed.bytes.windows(6).any(|part| part == b"secret"));
        assert_eq!(key.open("vault 1", &sealed.bytes).unwrap(), b"secret");
        assert_ne!(key.seal("vault 1", b"secret").unwrap().bytes, sealed.bytes);
        assert!(key.open("vault 2", &sealed.bytes).is_none());
        assert!(other.open("vault 1", &sealed.bytes).is_none());
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            assert!(key.open("vault 1", &bytes).is_none());
            assert!(key.open("vault 1", &sealed.bytes[..at]).is_none());
        }
    }

    #[test]
    fn a_key_in_use_is_not_lost_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("vault.keys"));
        let first = file.add(&[]).unwrap();
        // The file goes while the server still remembers its key.
        std::fs::rename(&file.path, dir.path().join("aside")).unwrap();
        let refused = file.add(std::slice::from_ref(&first));
        assert!(matches!(refused, Err(StoreError::Sealed(words)) if words.contains(&first)));
        assert!(!file.path.exists() && file.known(&first).is_some());
        std::fs::rename(dir.path().join("aside"), &file.path).unwrap();
        let second = file.add(std::slice::from_ref(&first)).unwrap();
        let names: Vec<String> = file.read().unwrap().into_iter().map(|key| key.name).collect();
        assert_eq!(names, [second, first]);
    }

    #[test]
    fn a_file_of_keys_is_read_as_written_and_nothing_else_is_taken_for_one() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("vault.keys"));
        assert!(file.read().unwrap().is_empty());
        let keys = [Key::new().unwrap(), Key::new().unwrap()];
        file.write(&keys).unwrap();
        assert_eq!(file.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = KeyFile::new(file.path.clone());
        assert_eq!(again.find(&keys[1].name).unwrap().bytes, keys[1].bytes);
        assert!(matches!(again.find("000000000000"), Err(StoreError::Sealed(_))));
        for wrong in ["x", "abc 00", &format!("000000000000 {}", hex(&keys[0].bytes))] {
            std::fs::write(&file.path, wrong).unwrap();
            let read = KeyFile::new(file.path.clone()).read();
            assert!(matches!(read, Err(StoreError::Sealed(words)) if !words.contains(&hex(&keys[0].bytes))));
        }
    }
}

//! What vaults give a job: files in its working directory. The code that stands there already was made by a user and is trusted in nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bailiwick_api::agents::{LeaseFile, LeaseVault};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

/// The kernel's longest path; a file's name may have 255 bytes, of which it says so itself.
const PATH_BYTES_MAX: usize = 4096;

/// Writes the files of vaults into the job's working directory, after its code and before its program. Enforced ones replace what the code has put in their place.
///
/// # Errors
/// In words for the job's owner, naming the file. What was written until then stays.
pub fn write_files(work: &Path, files: &[LeaseFile], user: Option<u32>) -> Result<(), String> {
    let (enforced, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.enforced);
    for file in others.into_iter().chain(enforced) {
        write_file(work, file, user).map_err(|why| format!("the file `{}` of a vault: {why}", shown(&file.path)))?;
    }
    Ok(())
}

/// Whether variables can be set at all.
///
/// # Errors
/// In words, naming the variable and not its value.
pub fn check_variables(vault: &LeaseVault) -> Result<(), String> {
    let maps: [&BTreeMap<String, String>; 2] = [&vault.env, &vault.enforced_env];
    for (name, value) in maps.into_iter().flatten() {
        check_variable(name, value).map_err(|why| format!("the variable `{}` of a vault: {why}", shown(name)))?;
    }
    Ok(())
}

/// # Errors
/// In words, without the value.
pub fn check_variable(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("its name is empty or holds `=` or a zero byte".into());
    }
    if value.contains('\0') {
        return Err("its value holds a zero byte".into());
    }
    Ok(())
}

fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(200).flat_map(char::escape_debug).collect();
    if name.chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}

/// The names on the way, of which the last is the file. None leads anywhere but down.
fn parts(path: &str) -> Result<Vec<&str>, String> {
    let parts: Vec<&str> = path.split('/').collect();
    if path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return Err("its path is too long or holds a zero byte".into());
    }
    if parts.iter().any(|part| ["", ".", ".."].contains(part)) {
        return Err("its path is to be relative, with no part that is empty, `.` or `..`".into());
    }
    Ok(parts)
}

fn words(why: Errno) -> String {
    why.desc().to_owned()
}

/// From directory to directory by file descriptors, none of them a link: wherever the code's links lead, nothing is written there.
fn write_file(work: &Path, file: &LeaseFile, user: Option<u32>) -> Result<(), String> {
    let parts = parts(&file.path)?;
    let (name, parents) = parts.split_last().expect("a split text has a part");
    let mode = Mode::from_bits(file.mode & 0o777).filter(|_| file.mode <= 0o777);
    let mode = mode.ok_or_else(|| format!("its mode {:o} is more than permission bits", file.mode))?;
    // Its content is in no message.
    let content = STANDARD
        .decode(&file.content)
        .map_err(|_| "its content is not Base64".to_owned())?;

    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = nix::fcntl::open(work, directory, Mode::empty()).map_err(words)?;
    for parent in parents {
        at = match openat(&at, *parent, directory, Mode::empty()) {
            Err(Errno::ENOENT) => make_directory(&at, parent, user)?,
            // A link shows as this, too.
            Err(Errno::ENOTDIR) if file.enforced => {
                unlinkat(&at, *parent, UnlinkatFlags::NoRemoveDir).map_err(words)?;
                make_directory(&at, parent, user)?
            }
            Err(Errno::ENOTDIR) => return Err(format!("`{}` is in the way, which is not a directory", shown(parent))),
            opened => opened.map_err(words)?,
        };
    }
    let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let create = || openat(&at, *name, new, Mode::S_IRUSR | Mode::S_IWUSR);
    let created = match create() {
        Err(Errno::EEXIST) if file.enforced => match unlinkat(&at, *name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => return Err("a directory is in its place".into()),
            removed => removed.and_then(|()| create()),
        },
        created => created,
    };
    let created = match created {
        Err(Errno::EEXIST) => return Err("the code has something of that name already".into()),
        created => created.map_err(words)?,
    };
    let mut created = File::from(created);
    let written = created.write_all(&content).and_then(|()| {
        own(&created, user)?;
        created.set_permissions(std::fs::Permissions::from_mode(mode.bits()))
    });
    written.map_err(|why| why.to_string())
}

fn make_directory(at: &OwnedFd, name: &str, user: Option<u32>) -> Result<OwnedFd, String> {
    mkdirat(at, name, Mode::S_IRWXU).map_err(words)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(at, name, flags, Mode::empty()).map_err(words)?;
    own(&made, user).map_err(|why| why.to_string())?;
    // Whatever the agent's umask takes away.
    fchmod(&made, Mode::from_bits_truncate(0o755)).map_err(words)?;
    Ok(made)
}

fn own(what: &impl AsFd, user: Option<u32>) -> std::io::Result<()> {
    match user {
        Some(user) => Ok(fchown(what, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use proptest::prelude::*;

    fn file(path: &str, content: &str) -> LeaseFile {
        LeaseFile {
            path: path.into(),
            mode: 0o600,
            content: STANDARD.encode(content),
            enforced: false,
        }
    }

    fn enforced(path: &str, content: &str) -> LeaseFile {
        LeaseFile {
            enforced: true,
            ..file(path, content)
        }
    }

    #[test]
    fn files_are_written_with_their_mode_and_directories_above_them() {
        let work = tempfile::tempdir().unwrap();
        let mut script = file("bin/deep/run", "#!/bin/sh\n");
        script.mode = 0o750;
        write_files(work.path(), &[script, file(".netrc", "")], None).unwrap();
        let at = |path: &str| work.path().join(path);
        assert_eq!(fs::read_to_string(at("bin/deep/run")).unwrap(), "#!/bin/sh\n");
        let mode = |path: &str| fs::metadata(at(path)).unwrap().mode() & 0o7777;
        assert_eq!(
            (mode("bin/deep/run"), mode(".netrc"), mode("bin")),
            (0o750, 0o600, 0o755)
        );
    }

    #[test]
    fn what_is_in_the_way_stops_it_and_gives_way_to_an_enforced_file() {
        let work = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let at = |path: &str| work.path().join(path);
        fs::write(outside.path().join("target"), "mine").unwrap();
        fs::write(at("file"), "code").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink(outside.path().join("target"), at("link")).unwrap();
        symlink(outside.path().join("new"), at("dangling")).unwrap();
        symlink(outside.path(), at("way")).unwrap();
        for path in [
            "file",
            "directory",
            "link",
            "dangling",
            "way",
            "way/new",
            "file/below",
            "way/target",
        ] {
            let why = write_files(work.path(), &[file(path, "s3cret")], None).unwrap_err();
            assert!(why.contains(&format!("`{path}`")) && !why.contains("s3cret"), "{why}");
        }
        for path in ["file", "link", "dangling", "way/new"] {
            write_files(work.path(), &[enforced(path, "enforced")], None).unwrap();
            assert_eq!(fs::read_to_string(at(path)).unwrap(), "enforced");
            assert!(fs::symlink_metadata(at(path)).unwrap().is_file(), "{path}");
        }
        let why = write_files(work.path(), &[enforced("directory", "")], None).unwrap_err();
        assert!(why.contains("a directory is in its place"), "{why}");
        assert_eq!(fs::read_to_string(outside.path().join("target")).unwrap(), "mine");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        // An enforced one goes over one of the same name that is not.
        write_files(work.path(), &[enforced("both", "strong"), file("both", "weak")], None).unwrap();
        assert_eq!(fs::read_to_string(at("both")).unwrap(), "strong");
    }

    #[test]
    fn a_path_mode_or_content_that_cannot_be_is_refused() {
        let work = tempfile::tempdir().unwrap();
        for path in [
            "",
            "/etc/x",
            "../x",
            "a/../../x",
            "a//x",
            "a/",
            "./x",
            "a/./x",
            ".",
            "a\0b",
        ] {
            let why = write_files(work.path(), &[enforced(path, "")], None).unwrap_err();
            assert!(why.starts_with("the file `"), "{path}: {why}");
        }
        assert!(write_files(work.path(), &[file(&"a/".repeat(3000), "")], None).is_err());
        let setuid = LeaseFile {
            mode: 0o4755,
            ..file("x", "")
        };
        assert!(write_files(work.path(), &[setuid], None).unwrap_err().contains("4755"));
        let damaged = LeaseFile {
            content: "hunter2!".into(),
            ..file("x", "")
        };
        let why = write_files(work.path(), &[damaged], None).unwrap_err();
        assert!(why.contains("not Base64") && !why.contains("hunter2"), "{why}");
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_variable_that_cannot_be_set_is_named_without_its_value() {
        let vault = |name: &str, value: &str| LeaseVault {
            enforced_env: [(name.to_owned(), value.to_owned())].into(),
            ..LeaseVault::default()
        };
        assert_eq!(check_variables(&vault("A_B", "x=y\n")), Ok(()));
        for (name, value) in [("", "hunter2"), ("A=B", "hunter2"), ("A", "hunter2\0")] {
            let why = check_variables(&vault(name, value)).unwrap_err();
            assert!(why.contains(name) && !why.contains("hunter2"), "{why}");
        }
    }

    proptest! {
        /// Whatever links and files the code has, and whatever path is asked for: outside of the working directory nothing changes.
        #[test]
        fn nothing_is_written_outside(
            entries in proptest::collection::vec(("[ab](/[ab]){0,2}", 0..5_u8), 0..8),
            path in "(/|\\.\\./)?([ab]|\\.\\.|\\.|)(/([ab]|\\.\\.|\\.|)){0,3}",
            force in any::<bool>(),
        ) {
            let all = tempfile::tempdir().unwrap();
            let (work, outside) = (all.path().join("work"), all.path().join("outside"));
            fs::create_dir(&work).unwrap();
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("a"), "mine").unwrap();
            for (name, kind) in entries {
                let at = work.join(name);
                let _ = at.parent().map(fs::create_dir_all);
                let _ = match kind {
                    0 => fs::write(&at, "code"),
                    1 => fs::create_dir(&at),
                    2 => symlink(&outside, &at),
                    3 => symlink(outside.join("a"), &at),
                    _ => symlink("..", &at),
                };
            }
            // The code's own links may have led `create_dir_all` or `write` outside: what counts is what comes now.
            let state = |place: &Path| -> Vec<(String, Option<Vec<u8>>)> {
                let mut found: Vec<_> = fs::read_dir(place).unwrap().flatten()
                    .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).ok()))
                    .filter(|(name, _)| name != "work")
                    .collect();
                found.sort();
                found
            };
            let before = (state(all.path()), state(&outside));
            let asked = LeaseFile { enforced: force, ..file(&path, "secret") };
            if write_files(&work, &[asked], None).is_ok() {
                prop_assert!(fs::symlink_metadata(work.join(&path)).unwrap().is_file());
                prop_assert_eq!(fs::read(work.join(&path).canonicalize().unwrap()).unwrap(), b"secret");
                prop_assert!(work.join(&path).canonicalize().unwrap().starts_with(work.canonicalize().unwrap()));
            }
            prop_assert_eq!((state(all.path()), state(&outside)), before);
        }
    }
}

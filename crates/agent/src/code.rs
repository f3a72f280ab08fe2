//! Code archives: kept by content, unpacked with care. An archive was made by a user and is trusted in nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

/// What is used least is dropped when the kept archives take more.
pub const CACHE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const ENTRIES_MAX: usize = 1_000_000;

/// What unpacking may take and to whom it belongs.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub bytes: u64,
    pub user: Option<u32>,
}

/// Unpacks a `.tar.gz` into an existing, empty directory.
///
/// # Errors
/// In words for the user, naming the entry. What was unpacked until then stays.
pub fn unpack(archive: impl Read, into: &Path, bounds: Bounds) -> Result<(), String> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(archive));
    let mut left = bounds.bytes;
    let damaged = |why: io::Error| format!("the code archive is damaged: {why}");
    for (count, entry) in archive.entries().map_err(damaged)?.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(format!("the code archive has more than {ENTRIES_MAX} files"));
        }
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let refuse = |why: String| format!("the code archive cannot be unpacked: {}: {why}", name.display());
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            continue;
        }
        let inside = plain(&name).ok_or_else(|| refuse("it leads out of the directory".into()))?;
        if inside.as_os_str().is_empty() {
            continue;
        }
        make_parents(into, &inside, bounds.user).map_err(refuse)?;
        let path = into.join(&inside);
        let mode = entry.header().mode().unwrap_or(0o644);
        let words = |why: io::Error| refuse(why.to_string());
        match kind {
            EntryType::Directory => make_directory(&path, bounds.user).map_err(words)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                make_room(&path).map_err(words)?;
                let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                let mut file = File::options()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&path)
                    .map_err(words)?;
                let written = io::copy(&mut (&mut entry).take(left + 1), &mut file).map_err(words)?;
                left = left.checked_sub(written).ok_or_else(|| {
                    let most = crate::job_dir::size_words(bounds.bytes);
                    format!("the code archive holds more than {most} unpacked, which is all that fits here")
                })?;
                file.set_permissions(fs::Permissions::from_mode(mode)).map_err(words)?;
                own(&path, bounds.user).map_err(words)?;
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name()
                    .map_err(damaged)?
                    .ok_or_else(|| refuse("a link to nothing".into()))?;
                if !link_stays(&inside, &target) {
                    return Err(refuse(format!(
                        "a link to {}, which may lead out of the directory",
                        target.display()
                    )));
                }
                make_room(&path).map_err(words)?;
                symlink(&target, &path).map_err(words)?;
                own(&path, bounds.user).map_err(words)?;
            }
            EntryType::Link => {
                let target = entry
                    .link_name()
                    .map_err(damaged)?
                    .ok_or_else(|| refuse("a link to nothing".into()))?;
                let target = plain(&target).ok_or_else(|| refuse("a link that leads out of the directory".into()))?;
                make_parents(into, &target, bounds.user).map_err(refuse)?;
                let target = into.join(target);
                if !fs::symlink_metadata(&target).is_ok_and(|metadata| metadata.is_file()) {
                    return Err(refuse("a link to something that is not a file before it".into()));
                }
                make_room(&path).map_err(words)?;
                fs::hard_link(target, &path).map_err(words)?;
            }
            _ => return Err(refuse("neither a file, a directory nor a link".into())),
        }
    }
    Ok(())
}

/// A relative path of names only, without `.`; `None` for everything else.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// Whether a link at `at` stays inside whatever the other links are: its target goes up first, not above the top, and then only down.
fn link_stays(at: &Path, target: &Path) -> bool {
    let mut depth = at.components().count() - 1;
    let mut went_down = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => went_down = true,
            Component::CurDir => {}
            Component::ParentDir if went_down || depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// The directories above an entry. None may be a link: writing through one could end anywhere.
fn make_parents(into: &Path, inside: &Path, user: Option<u32>) -> Result<(), String> {
    let mut path = into.to_owned();
    for component in inside.parent().into_iter().flat_map(Path::components) {
        path.push(component);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err("it stands below something that is not a directory".into()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                make_directory(&path, user).map_err(|why| why.to_string())?;
            }
            Err(why) => return Err(why.to_string()),
        }
    }
    Ok(())
}

fn make_directory(path: &Path, user: Option<u32>) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    fs::DirBuilder::new().mode(0o755).create(path)?;
    own(path, user)
}

/// As with other unpackers a later entry replaces an earlier one.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

fn own(path: &Path, user: Option<u32>) -> io::Result<()> {
    match user {
        Some(user) => lchown(path, Some(user), Some(user)),
        None => Ok(()),
    }
}

fn used_at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(crate::job_dir::now().0.max(0) as u64)
}

/// Archives kept by their SHA-256.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    bytes_max: u64,
}

impl Cache {
    pub fn open(dir: PathBuf) -> io::Result<Cache> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        for entry in fs::read_dir(&dir)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "part") {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Cache {
            dir,
            bytes_max: CACHE_BYTES,
        })
    }

    /// An archive that is there counts as used just now.
    pub fn find(&self, sha256: &str) -> Option<File> {
        let file = File::open(self.path(sha256)).ok()?;
        let _ = file.set_modified(used_at());
        Some(file)
    }

    /// Where a download goes until it is whole. `who` tells two of the same apart.
    pub fn part(&self, sha256: &str, who: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.{who}.part"))
    }

    pub fn keep(&self, part: &Path, sha256: &str) -> io::Result<()> {
        fs::rename(part, self.path(sha256))?;
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.dir)?
            .flatten()
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        // The newest stays in any case: it is about to be used.
        for (_, bytes, path) in kept.iter().rev().skip(1).rev() {
            if total <= self.bytes_max {
                break;
            }
            total -= bytes;
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.tar.gz"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Entry {
        File(String),
        Directory(String),
        Symlink(String, String),
        Hardlink(String, String),
        Fifo(String),
    }

    /// Writes names into the header as they are: the library's own way refuses most of the bad ones.
    fn pack(entries: &[Entry]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for entry in entries {
            let (kind, name, target): (_, &str, &str) = match entry {
                Entry::File(name) => (EntryType::Regular, name, ""),
                Entry::Directory(name) => (EntryType::Directory, name, ""),
                Entry::Symlink(name, target) => (EntryType::Symlink, name, target),
                Entry::Hardlink(name, target) => (EntryType::Link, name, target),
                Entry::Fifo(name) => (EntryType::Fifo, name, ""),
            };
            let data: &[u8] = if kind == EntryType::Regular { b"data" } else { b"" };
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_size(data.len() as u64);
            let old = header.as_ustar_mut().expect("made as such");
            old.name[..name.len()].copy_from_slice(name.as_bytes());
            old.linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn unpacked(entries: &[Entry]) -> (tempfile::TempDir, Result<(), String>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        let bounds = Bounds {
            bytes: 1000,
            user: None,
        };
        let result = unpack(&pack(entries)[..], &dir.path().join("work"), bounds);
        (dir, result)
    }

    #[test]
    fn files_come_out_with_their_directories_links_and_executable_bit() {
        let (dir, result) = unpacked(&[
            Entry::File("./src/train.py".into()),
            Entry::Symlink("src/latest".into(), "../src/train.py".into()),
            Entry::Hardlink("copy".into(), "src/train.py".into()),
        ]);
        result.unwrap();
        let work = dir.path().join("work");
        assert_eq!(fs::read(work.join("src/latest")).unwrap(), b"data");
        assert_eq!(fs::read(work.join("copy")).unwrap(), b"data");
        assert_eq!(
            fs::metadata(work.join("copy")).unwrap().permissions().mode() & 0o777,
            0o755
        );
    }

    #[test]
    fn what_would_leave_the_directory_is_refused_by_name() {
        let bad = [
            vec![Entry::File("../outside".into())],
            vec![Entry::File("/tmp/bailiwick-outside".into())],
            vec![Entry::File("a/../../outside".into())],
            vec![Entry::Symlink("l".into(), "../outside".into())],
            vec![Entry::Symlink("l".into(), "/etc/passwd".into())],
            vec![Entry::Symlink("l".into(), "a/../..".into())],
            vec![
                Entry::Directory("a".into()),
                Entry::Symlink("l".into(), "a".into()),
                Entry::File("l/x".into()),
            ],
            vec![Entry::Hardlink("h".into(), "../outside".into())],
            vec![Entry::Hardlink("h".into(), "nothing".into())],
            vec![Entry::Fifo("f".into())],
        ];
        for entries in bad {
            let (dir, result) = unpacked(&entries);
            let why = result.expect_err(&format!("{entries:?}"));
            assert!(why.contains("cannot be unpacked"), "{why}");
            assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"untouched");
        }
    }

    #[test]
    fn an_archive_that_unpacks_to_more_than_fits_is_refused() {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
        let mut header = tar::Header::new_ustar();
        header.set_size(1 << 20);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, "zeros", io::repeat(0).take(1 << 20))
            .unwrap();
        let bomb = builder.into_inner().unwrap().finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            bytes: 100_000,
            user: None,
        };
        let why = unpack(&bomb[..], dir.path(), bounds).unwrap_err();
        assert!(why.contains("more than 100 kB"), "{why}");
        assert!(fs::metadata(dir.path().join("zeros")).unwrap().len() <= 100_001);
        assert!(
            unpack(
                &bomb[..bomb.len() / 2],
                dir.path(),
                Bounds {
                    bytes: 1 << 30,
                    user: None
                }
            )
            .is_err()
        );
    }

    #[test]
    fn the_archives_used_least_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(dir.path().to_owned()).unwrap();
        cache.bytes_max = 25;
        for (age_s, name) in [(30, "a"), (20, "b"), (10, "c")] {
            let part = cache.part(name, "1.1");
            fs::write(&part, [0; 10]).unwrap();
            let then = used_at() - Duration::from_secs(age_s);
            File::options()
                .write(true)
                .open(&part)
                .unwrap()
                .set_modified(then)
                .unwrap();
            if name == "c" {
                assert!(cache.find("a").is_some());
            }
            cache.keep(&part, name).unwrap();
        }
        assert!(cache.find("a").is_some());
        assert!(cache.find("b").is_none());
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof!["a", "b", "c", Just("..".to_owned()), Just(".".to_owned())],
            1..5,
        )
        .prop_map(|parts| parts.join("/"))
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            name().prop_map(Entry::File),
            name().prop_map(Entry::Directory),
            (name(), name()).prop_map(|(name, target)| Entry::Symlink(name, target)),
            (name(), name()).prop_map(|(name, target)| Entry::Hardlink(name, target)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_archive_reaches_outside_its_directory(entries in proptest::collection::vec(entry(), 1..8)) {
            let (dir, _) = unpacked(&entries);
            prop_assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"untouched");
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
            // Whatever path one takes from inside, links included, ends inside.
            let work = dir.path().join("work").canonicalize().unwrap();
            let mut waiting = vec![work.clone()];
            while let Some(next) = waiting.pop() {
                for entry in fs::read_dir(next).unwrap().flatten() {
                    if let Ok(real) = entry.path().canonicalize() {
                        prop_assert!(real.starts_with(&work), "{:?} leads to {:?}", entry.path(), real);
                    }
                    if entry.file_type().unwrap().is_dir() {
                        waiting.push(entry.path());
                    }
                }
            }
        }
    }
}

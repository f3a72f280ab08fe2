//! Packing a directory: the same content gives the same bytes, whoever packs it and when, so that the server keeps it once.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use bailiwick_api::key;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Result, io_words};
use crate::output::{printable, warn};

/// Never part of an experiment.
const LEFT_OUT: &[&str] = &[
    ".git",
    "__pycache__",
    ".venv",
    "venv",
    "node_modules",
    ".mypy_cache",
    ".ipynb_checkpoints",
];

/// Never sent either: credentials, as the programs that they are for name them.
const SECRET: &[&str] = &[
    ".ml",
    ".ssh",
    ".gnupg",
    ".aws",
    ".kube",
    ".netrc",
    ".git-credentials",
    ".docker/config.json",
];
/// Credentials too, but some experiments are configured by one: a line `!.env` in .mlignore takes it in again.
const DOT_ENV: &str = ".env";
/// The directory that holds it is a server's data.
const SERVER_DATA: &str = "bailiwick.db";
/// How much larger than its archive's bound a directory may be.
const UNPACKED_FACTOR: u64 = 10;

/// A packed directory, in a file that has no name and goes away with the process.
#[derive(Debug)]
pub struct Archive {
    pub file: File,
    pub bytes: u64,
    pub sha256: String,
}

/// What is in a directory, in the order of the archive.
#[derive(Debug)]
pub struct Contents {
    root: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Below the root.
    path: PathBuf,
    what: What,
}

#[derive(Debug)]
enum What {
    Directory,
    File { bytes: u64, executable: bool },
    Link { target: PathBuf },
}

/// Lists what `.gitignore`, `.mlignore`, [`LEFT_OUT`] and [`SECRET`] leave of a directory. `ml_home`, where the sessions are kept, is never in it.
///
/// # Errors
/// A link that leads out of it, a part that cannot be read, or a directory that is plainly not an experiment.
pub fn list(root: &Path, ml_home: &Path) -> Result<Contents> {
    let root = root.canonicalize().map_err(|why| Failure::file("read", root, &why))?;
    let ml_home = ml_home.canonicalize().ok();
    refuse_too_much(&root, ml_home.as_deref())?;
    let takes_dot_env = takes_in(&root, DOT_ENV);
    let mut walk = ignore::WalkBuilder::new(&root);
    walk.hidden(false)
        .ignore(false)
        // What is ignored must not depend on who packs: nothing from outside the project counts.
        .git_global(false)
        .git_exclude(false)
        .git_ignore(true)
        .require_git(false)
        .parents(is_within_repository(&root))
        .add_custom_ignore_filename(".mlignore")
        .follow_links(false)
        .filter_entry(move |entry| {
            entry.depth() == 0
                || !(is_left_out(entry.file_name().as_bytes(), entry.file_type())
                    || SECRET.iter().any(|secret| entry.path().ends_with(secret))
                    || entry.path().ends_with(DOT_ENV) && !takes_dot_env
                    || ml_home.as_deref() == Some(entry.path())
                    || is_server_data(entry.path()))
        });
    let mut entries = Vec::new();
    for entry in walk.build() {
        let entry = entry.map_err(|why| walk_failure(&root, &why))?;
        let path = match entry.path().strip_prefix(&root) {
            Ok(path) if path.as_os_str().is_empty() => continue,
            Ok(path) => path.to_owned(),
            Err(_) => continue,
        };
        if let Some(what) = what_is(&root, &path)? {
            entries.push(Entry { path, what });
        }
    }
    entries.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(Contents { root, entries })
}

fn is_left_out(name: &[u8], kind: Option<std::fs::FileType>) -> bool {
    let is_directory = kind.is_some_and(|kind| kind.is_dir());
    // `.git` is a file in a work tree beside the main one.
    name == b".git"
        || name.ends_with(b".pyc") && !is_directory
        || is_directory && LEFT_OUT.iter().any(|left_out| left_out.as_bytes() == name)
}

/// Whether the directory's own .mlignore takes in again what is otherwise left out.
fn takes_in(root: &Path, name: &str) -> bool {
    // One that cannot be read is told by the walk.
    let (rules, _) = ignore::gitignore::Gitignore::new(root.join(".mlignore"));
    rules.matched(root.join(name), false).is_whitelist()
}

fn is_server_data(path: &Path) -> bool {
    let is = path.join(SERVER_DATA).is_file();
    if is {
        warn(&format!(
            "{} is left out: it is a server's data",
            printable(&path.display().to_string())
        ));
    }
    is
}

/// Whether a repository holds the directory: then the ignore files above it, up to the repository's root, count as they do for git.
fn is_within_repository(root: &Path) -> bool {
    root.ancestors().any(|above| above.join(".git").exists())
}

fn refuse_too_much(root: &Path, ml_home: Option<&Path>) -> Result<()> {
    let what = match () {
        () if root == Path::new("/") => "the whole file system",
        () if homes().iter().any(|home| home == root) => "the whole home directory",
        () if ml_home.is_some_and(|home| root.starts_with(home)) => "where your sessions are kept",
        () if root.join(SERVER_DATA).is_file() => "a server's data",
        () => return Ok(()),
    };
    Err(
        Failure::new(format!("{} is {what}, which is not sent along", root.display()))
            .hint("put the experiment into a directory of its own"),
    )
}

/// The home directory by the environment, and by the system's list of users.
fn homes() -> Vec<PathBuf> {
    let listed = nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten();
    [std::env::home_dir(), listed.map(|user| user.dir)]
        .into_iter()
        .flatten()
        .filter_map(|home| home.canonicalize().ok())
        .collect()
}

fn what_is(root: &Path, path: &Path) -> Result<Option<What>> {
    let whole = root.join(path);
    let meta = std::fs::symlink_metadata(&whole).map_err(|why| Failure::file("read", &whole, &why))?;
    let kind = meta.file_type();
    if kind.is_dir() {
        return Ok(Some(What::Directory));
    }
    if kind.is_file() {
        return Ok(Some(What::File {
            bytes: meta.len(),
            executable: meta.permissions().mode() & 0o111 != 0,
        }));
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(&whole).map_err(|why| Failure::file("read the link", &whole, &why))?;
        if !stays_inside(path, &target) || leads_out(root, &whole) {
            return Err(Failure::new(format!(
                "the link {} leads out of the directory, to {}",
                printable(&path.display().to_string()),
                printable(&target.display().to_string())
            ))
            .hint("copy what it points to, or name the link in .mlignore"));
        }
        return Ok(Some(What::Link { target }));
    }
    warn(&format!(
        "{} is left out: it is neither a file, a directory nor a link",
        printable(&path.display().to_string())
    ));
    Ok(None)
}

/// Whether a link at `path` (below the root) with this target stays below the root, read as text.
pub fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

/// Whether a link leads out on this machine, through other links perhaps.
fn leads_out(root: &Path, link: &Path) -> bool {
    link.canonicalize().is_ok_and(|end| !end.starts_with(root))
}

fn walk_failure(root: &Path, why: &ignore::Error) -> Failure {
    let words = match why.io_error() {
        Some(why) => io_words(why),
        None => String::new(),
    };
    let mut inner = why;
    let path = loop {
        match inner {
            ignore::Error::WithPath { path, .. } => break path.as_path(),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => inner = err,
            _ => break root,
        }
    };
    if words.is_empty() {
        return Failure::new(format!("cannot read {}: {why}", path.display()));
    }
    Failure::new(format!("cannot read {}: {words}", path.display()))
        .hint("give yourself the right to read it, or name it in .mlignore")
}

impl Contents {
    /// Whether a file of this name lies at the top.
    pub fn holds(&self, name: &Path) -> bool {
        self.entries.iter().any(|entry| entry.path == name)
    }

    pub fn is_empty(&self) -> bool {
        !self.entries.iter().any(|entry| !matches!(entry.what, What::Directory))
    }

    /// Of all its files, unpacked.
    fn bytes(&self) -> u64 {
        let bytes = self.entries.iter().map(|entry| match entry.what {
            What::File { bytes, .. } => bytes,
            _ => 0,
        });
        bytes.fold(0, u64::saturating_add)
    }

    /// Packs into at most `bytes_max` bytes, what is at most [`UNPACKED_FACTOR`] times as large.
    pub fn pack(&self, bytes_max: u64) -> Result<Archive> {
        // A file of nothing but zeros packs to almost nothing: every agent would still have to unpack it.
        let unpacked_max = bytes_max.saturating_mul(UNPACKED_FACTOR);
        if self.bytes() > unpacked_max {
            return Err(self.too_large(&format!(
                "it has {}, and the server accepts at most {}",
                bytes_words(self.bytes()),
                bytes_words(unpacked_max)
            )));
        }
        let file = tempfile::tempfile()
            .map_err(|why| Failure::new(format!("cannot make a temporary file: {}", io_words(&why))))?;
        let counted = Counted {
            file: io::BufWriter::with_capacity(1 << 18, file),
            hash: Sha256::new(),
            bytes: 0,
            bytes_max,
        };
        let mut archive = tar::Builder::new(GzBuilder::new().write(counted, Compression::new(4)));
        for entry in &self.entries {
            self.append(&mut archive, entry)?;
        }
        let written = archive.into_inner().and_then(|gzip| gzip.finish());
        let mut counted = written.map_err(|why| self.write_failure(&why))?;
        counted.file.flush().map_err(|why| self.write_failure(&why))?;
        let mut file = counted
            .file
            .into_inner()
            .map_err(|why| self.write_failure(why.error()))?;
        file.rewind().map_err(|why| self.write_failure(&why))?;
        Ok(Archive {
            file,
            bytes: counted.bytes,
            sha256: key::hex(&counted.hash.finalize()),
        })
    }

    fn append<W: Write>(&self, archive: &mut tar::Builder<W>, entry: &Entry) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let whole = self.root.join(&entry.path);
        let written = match &entry.what {
            What::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                archive.append_data(&mut header, &entry.path, io::empty())
            }
            What::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, &entry.path, target)
            }
            What::File { bytes, executable } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*bytes);
                let file = open_without_waiting(&whole).map_err(|why| {
                    Failure::file("read", &whole, &why)
                        .hint("give yourself the right to read it, or name it in .mlignore")
                })?;
                let mut exact = Exact {
                    file,
                    left: *bytes,
                    failure: None,
                };
                let written = archive.append_data(&mut header, &entry.path, &mut exact);
                if let Some(why) = exact.failure {
                    return Err(Failure::file("read", &whole, &why));
                }
                // What did not fit was not read to its end either.
                if written.is_ok() && exact.left > 0 {
                    return Err(
                        Failure::new(format!("{} became shorter while it was read", whole.display()))
                            .hint("wait until it is written, or name it in .mlignore"),
                    );
                }
                written
            }
        };
        written.map_err(|why| self.write_failure(&why))
    }

    fn write_failure(&self, why: &io::Error) -> Failure {
        match why.get_ref().and_then(|inner| inner.downcast_ref::<TooLarge>()) {
            Some(TooLarge { bytes_max }) => self.too_large(&format!(
                "packed it has more than the {} that the server accepts",
                bytes_words(*bytes_max)
            )),
            None => Failure::new(format!("cannot write the archive: {}", io_words(why))),
        }
    }

    fn too_large(&self, why: &str) -> Failure {
        let mut largest: Vec<_> = self.sizes_at_the_top();
        largest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let largest: Vec<_> = largest
            .iter()
            .take(3)
            .map(|(name, bytes)| format!("{name} ({})", bytes_words(*bytes)))
            .collect();
        Failure::new(format!(
            "{} is too large: {why}; the largest in it: {}",
            self.root.display(),
            largest.join(", ")
        ))
        .hint("name what the experiment does not need in .mlignore (its lines look like those of .gitignore)")
    }

    /// What lies at the top, each with all below it. A lone directory is looked into.
    fn sizes_at_the_top(&self) -> Vec<(String, u64)> {
        let mut sizes = std::collections::BTreeMap::<String, u64>::new();
        for entry in &self.entries {
            if let (What::File { bytes, .. }, Some(first)) = (&entry.what, entry.path.components().next()) {
                let mut name = printable(&first.as_os_str().to_string_lossy());
                if entry.path.components().count() > 1 {
                    name.push('/');
                }
                *sizes.entry(name).or_default() += bytes;
            }
        }
        sizes.into_iter().collect()
    }
}

/// A pipe put where a file was a moment ago must not hold us up.
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags((nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOFOLLOW).bits())
        .open(path)
}

/// Reads exactly as many bytes as the header has promised. A file that grows meanwhile is cut; one that shrinks is told by `left`.
struct Exact {
    file: File,
    left: u64,
    failure: Option<io::Error>,
}

impl Read for &mut Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.file.read(&mut buffer[..length]) {
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Err(why),
            Err(why) => {
                self.failure = Some(why);
                Ok(0)
            }
        }
    }
}

/// The archive's file: counts and hashes what goes through.
struct Counted {
    file: io::BufWriter<File>,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.bytes + buffer.len() as u64 > self.bytes_max {
            return Err(io::Error::other(TooLarge {
                bytes_max: self.bytes_max,
            }));
        }
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[derive(Debug)]
struct TooLarge {
    bytes_max: u64,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "more than {} bytes", self.bytes_max)
    }
}

impl std::error::Error for TooLarge {}

/// `1.5 MB`, with units of 1000 as `df -H` has them.
pub fn bytes_words(bytes: u64) -> String {
    let mut number = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        if number < 1000.0 || unit == "TB" {
            return match unit {
                "bytes" if bytes == 1 => "1 byte".into(),
                "bytes" => format!("{bytes} bytes"),
                _ if number < 10.0 => format!("{number:.1} {unit}"),
                _ => format!("{number:.0} {unit}"),
            };
        }
        number /= 1000.0;
    }
    unreachable!("the last unit always fits")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const NO_HOME: &str = "/nonexistent";

    /// A directory with a few files.
    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let whole = directory.path().join(path);
            std::fs::create_dir_all(whole.parent().unwrap()).unwrap();
            std::fs::write(whole, text).unwrap();
        }
        directory
    }

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let contents = list(directory.path(), NO_HOME.as_ref()).unwrap();
        contents
            .entries
            .iter()
            .map(|entry| entry.path.display().to_string())
            .collect()
    }

    #[test]
    fn what_the_ignore_files_name_is_left_out_without_a_repository() {
        let directory = directory(&[
            (".gitignore", "*.pt\ndata/\n!keep.pt\n"),
            (".mlignore", "notes.txt\n!data/\n"),
            (".hidden", ""),
            ("train.py", ""),
            ("model.pt", ""),
            ("keep.pt", ""),
            ("notes.txt", ""),
            ("data/one.csv", ""),
            ("deep/.gitignore", "local\n"),
            ("deep/local", ""),
            ("deep/kept", ""),
            (".git/config", ""),
            ("__pycache__/a.pyc", ""),
            ("b.pyc", ""),
            (".venv/bin/python", ""),
            ("deep/node_modules/x.js", ""),
        ]);
        assert_eq!(
            names(&directory),
            [
                ".gitignore",
                ".hidden",
                ".mlignore",
                "data",
                "data/one.csv",
                "deep",
                "deep/.gitignore",
                "deep/kept",
                "keep.pt",
                "train.py"
            ]
        );
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let files = [("train.py", "print(1)"), ("deep/er/a", "x"), ("deep/b", "y")];
        let one = directory(&files);
        let mut reversed = files;
        reversed.reverse();
        let other = directory(&reversed);
        for path in ["train.py", "deep/b"] {
            let file = File::options().write(true).open(other.path().join(path)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
                .unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let pack =
            |directory: &tempfile::TempDir| list(directory.path(), NO_HOME.as_ref()).unwrap().pack(1 << 20).unwrap();
        assert_eq!(pack(&one).sha256, pack(&other).sha256);
        std::fs::set_permissions(other.path().join("train.py"), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(pack(&one).sha256, pack(&other).sha256);
    }

    #[test]
    fn a_packed_directory_unpacks_to_the_same_with_its_inner_links() {
        let long = "x".repeat(200);
        let from = directory(&[("a", "1"), (&format!("{long}/{long}/b"), "2")]);
        std::fs::create_dir(from.path().join("empty")).unwrap();
        symlink("../a", from.path().join(format!("{long}/link"))).unwrap();
        symlink(".", from.path().join("loop")).unwrap();
        symlink("not-there", from.path().join("dangling")).unwrap();
        let mut archive = list(from.path(), NO_HOME.as_ref()).unwrap().pack(1 << 20).unwrap();
        let mut bytes = Vec::new();
        archive.file.read_to_end(&mut bytes).unwrap();
        assert_eq!(
            (bytes.len() as u64, key::sha256_hex(&bytes)),
            (archive.bytes, archive.sha256)
        );
        let to = tempfile::tempdir().unwrap();
        crate::unpack::unpack(&bytes[..], archive.bytes, to.path()).unwrap();
        assert_eq!(names(&from), names(&to));
        assert_eq!(
            std::fs::read_to_string(to.path().join(format!("{long}/link"))).unwrap(),
            "1"
        );
    }

    #[test]
    fn a_link_that_leads_out_is_named() {
        for target in ["/etc/passwd", "../../x", "inner/../../x"] {
            let from = directory(&[("a", "")]);
            symlink(target, from.path().join("leak")).unwrap();
            let failure = list(from.path(), NO_HOME.as_ref()).unwrap_err();
            assert!(
                failure.message.contains("the link leak leads out") && failure.message.contains(target),
                "{target}"
            );
        }
        // Each step stays inside as text; together they do not.
        let from = directory(&[("d/x", "")]);
        symlink(".", from.path().join("d/self")).unwrap();
        symlink("self/../../..", from.path().join("d/leak")).unwrap();
        assert!(list(from.path(), NO_HOME.as_ref()).is_err());
    }

    #[test]
    fn special_files_are_left_out_and_do_not_hold_anything_up() {
        let from = directory(&[("a", "1")]);
        nix::unistd::mkfifo(&from.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
        assert_eq!(names(&from), ["a"]);
    }

    #[test]
    fn credentials_sessions_and_a_servers_data_are_never_in_it() {
        let from = directory(&[
            ("train.py", ""),
            (".ml.toml", ""),
            (".env", ""),
            (".netrc", ""),
            (".git-credentials", ""),
            (".ml/sessions.toml", ""),
            ("deep/.ssh/id_rsa", ""),
            (".gnupg/x", ""),
            (".aws/credentials", ""),
            (".kube/config", ""),
            (".docker/config.json", ""),
            (".docker/kept", ""),
            ("sessions/sessions.toml", ""),
            ("data/bailiwick.db", ""),
            ("data/agent/agent.key", ""),
        ]);
        let names = || {
            let contents = list(from.path(), &from.path().join("sessions")).unwrap();
            contents
                .entries
                .iter()
                .map(|entry| entry.path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), [".docker", ".docker/kept", ".ml.toml", "deep", "train.py"]);
        // Whatever else somebody takes in again: of these it is possible with one only.
        std::fs::write(from.path().join(".mlignore"), "!.env\n!.ml/\n!sessions/\n!data/\n").unwrap();
        assert_eq!(
            names(),
            [
                ".docker",
                ".docker/kept",
                ".env",
                ".ml.toml",
                ".mlignore",
                "deep",
                "train.py"
            ]
        );
    }

    #[test]
    fn a_directory_that_is_plainly_no_experiment_is_refused() {
        let from = directory(&[("sessions/deep/a", ""), ("data/bailiwick.db", "")]);
        let home = from.path().join("sessions");
        let listed = nix::unistd::User::from_uid(nix::unistd::Uid::current())
            .unwrap()
            .unwrap();
        let refused = [
            (PathBuf::from("/"), "the whole file system"),
            (listed.dir, "the whole home directory"),
            (home.join("deep"), "where your sessions are kept"),
            (from.path().join("data"), "a server's data"),
        ];
        for (root, what) in refused {
            let failure = list(&root, &home).unwrap_err();
            assert!(failure.message.contains(what), "{}", failure.message);
            assert!(failure.hint.is_some());
        }
    }

    /// Letters that hardly pack.
    fn noise(bytes: usize) -> String {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + (state >> 33) as u8 % 89)
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn too_much_is_refused_with_the_largest_named() {
        let from = directory(&[
            ("small", "1"),
            ("big", &noise(300_000)),
            ("data/one", &noise(400_000)),
            ("data/two", &noise(400_000)),
            ("e", "22"),
        ]);
        // Whether it shows in the middle of a file or at the end of all.
        for bytes_max in [120_000, 500_000, 900_000] {
            let failure = list(from.path(), NO_HOME.as_ref())
                .unwrap()
                .pack(bytes_max)
                .unwrap_err();
            assert!(
                failure.message.contains("packed it has more than")
                    && failure
                        .message
                        .ends_with("the largest in it: data/ (800 kB), big (300 kB), e (2 bytes)"),
                "{}",
                failure.message
            );
        }
    }

    #[test]
    fn a_huge_file_of_zeros_is_refused_without_being_read() {
        let from = directory(&[("train.py", "1")]);
        let file = File::create(from.path().join("zeros")).unwrap();
        file.set_len(3_000_000_000_000).unwrap();
        let failure = list(from.path(), NO_HOME.as_ref())
            .unwrap()
            .pack(96_000_000)
            .unwrap_err();
        assert!(
            failure
                .message
                .ends_with("it has 3.0 TB, and the server accepts at most 960 MB; the largest in it: zeros (3.0 TB), train.py (1 byte)"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn a_file_that_shrinks_meanwhile_is_named() {
        let from = directory(&[("a", "12345")]);
        let contents = list(from.path(), NO_HOME.as_ref()).unwrap();
        std::fs::write(from.path().join("a"), "1").unwrap();
        assert!(contents.pack(1 << 20).unwrap_err().message.contains("became shorter"));
        std::fs::write(from.path().join("a"), "123456789").unwrap();
        assert!(contents.pack(1 << 20).is_ok());
    }
}

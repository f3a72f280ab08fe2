//! Unpacking an archive that somebody else may have made: nothing is written outside the directory, and nothing special is made.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;

use crate::failure::{Failure, Result, io_words};
use crate::output::printable;
use crate::pack::stays_inside;

/// Most bytes that one byte of the archive may become, beyond the first gigabyte: text packs ten to one, a trap a thousand to one.
const RATIO_MAX: u64 = 200;

/// Unpacks into `directory`, which is empty.
///
/// # Errors
/// An archive that is damaged, or that does what code as submitted never does.
pub fn unpack(archive: impl Read, archive_bytes: u64, directory: &Path) -> Result<()> {
    let damaged = |why: std::io::Error| Failure::new(format!("the archive cannot be unpacked: {}", io_words(&why)));
    let mut left = (1u64 << 30).saturating_add(archive_bytes.saturating_mul(RATIO_MAX));
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    // Links come last, so that nothing is written through them.
    let mut links = Vec::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = below(&entry.path().map_err(damaged)?)?;
        let whole = directory.join(&path);
        let kind = entry.header().entry_type();
        if let Some(parent) = whole.parent() {
            std::fs::create_dir_all(parent).map_err(damaged)?;
        }
        if kind.is_dir() {
            std::fs::create_dir_all(&whole).map_err(damaged)?;
        } else if kind.is_file() {
            let mode = entry.header().mode().unwrap_or(0o644);
            let mut file = std::fs::File::create_new(&whole).map_err(damaged)?;
            let written = std::io::copy(&mut entry.by_ref().take(left), &mut file).map_err(damaged)?;
            left -= written;
            if left == 0 {
                return Err(Failure::new(
                    "the archive is a trap: it unpacks to far more than any code",
                ));
            }
            let mode = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
            file.set_permissions(std::fs::Permissions::from_mode(mode))
                .map_err(damaged)?;
        } else if kind.is_symlink() {
            let target = entry.link_name().map_err(damaged)?.unwrap_or_default().into_owned();
            if !stays_inside(&path, &target) {
                return Err(refused(&path, "a link that leads out of it"));
            }
            links.push((whole, target));
        } else {
            return Err(refused(&path, "neither a file, a directory nor a link"));
        }
    }
    for (at, target) in links {
        std::os::unix::fs::symlink(target, at).map_err(damaged)?;
    }
    Ok(())
}

fn below(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return Err(refused(path, "outside of it")),
        }
    }
    if clean.as_os_str().is_empty() {
        clean.push(".");
    }
    Ok(clean)
}

fn refused(path: &Path, what: &str) -> Failure {
    let path = printable(&path.display().to_string());
    Failure::new(format!("the archive is not unpacked: `{path}` in it is {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(fill: impl FnOnce(&mut tar::Builder<flate2::write::GzEncoder<Vec<u8>>>)) -> Vec<u8> {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gzip);
        fill(&mut builder);
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn header(kind: tar::EntryType, name: &[u8], bytes: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes);
        header.set_mode(0o4777);
        // By hand: the library refuses to write such names, an attacker's does not.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        header
    }

    fn unpacked(bytes: &[u8]) -> (tempfile::TempDir, Result<()>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("in")).unwrap();
        let result = unpack(bytes, bytes.len() as u64, &directory.path().join("in"));
        (directory, result)
    }

    #[test]
    fn an_archive_cannot_write_outside_its_directory() {
        for name in ["../out", "/out", "a/../../out"] {
            let bytes = archive(|builder| {
                builder
                    .append(&header(tar::EntryType::Regular, name.as_bytes(), 1), &b"x"[..])
                    .unwrap();
            });
            let (directory, result) = unpacked(&bytes);
            assert!(result.is_err(), "{name}");
            assert!(!directory.path().join("out").exists(), "{name}");
        }
    }

    #[test]
    fn links_out_of_it_hard_links_and_devices_are_refused() {
        for (kind, target) in [
            (tar::EntryType::Symlink, "/etc/passwd"),
            (tar::EntryType::Symlink, "../../x"),
            (tar::EntryType::Link, "/etc/passwd"),
            (tar::EntryType::Char, ""),
            (tar::EntryType::Fifo, ""),
        ] {
            let bytes = archive(|builder| {
                let mut header = header(kind, b"a", 0);
                if !target.is_empty() {
                    header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
                    header.set_cksum();
                }
                builder.append(&header, std::io::empty()).unwrap();
            });
            assert!(unpacked(&bytes).1.is_err(), "{kind:?} {target}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let bytes = archive(|builder| {
            let mut link = header(tar::EntryType::Symlink, b"a", 0);
            link.set_link_name("b").unwrap();
            link.set_cksum();
            builder.append(&link, std::io::empty()).unwrap();
            builder
                .append(&header(tar::EntryType::Regular, b"a/x", 1), &b"x"[..])
                .unwrap();
        });
        assert!(unpacked(&bytes).1.is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_not_an_archive_is_refused_without_a_panic(mut noise in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), whole in proptest::bool::ANY) {
            if whole {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut gzip, &noise).unwrap();
                noise = gzip.finish().unwrap();
            }
            let _ = unpacked(&noise);
        }
    }
}

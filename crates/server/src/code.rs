//! Code archives as files, named by the SHA-256 of their content: `DATA/code/ab/abcdef….tar.gz`.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, HttpBody};
use bailiwick_api::key;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::failure::Failure;

pub struct CodeFiles {
    dir: PathBuf,
    pub max_bytes: u64,
    uploads: AtomicU64,
}

/// Whether a text can be the name of an archive: 64 lower-case hexadecimal digits.
pub fn is_name(sha256: &str) -> bool {
    sha256.len() == 64
        && sha256
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl CodeFiles {
    /// Also clears away what broken uploads have left.
    pub fn open(dir: PathBuf, max_bytes: u64) -> std::io::Result<CodeFiles> {
        let parts = dir.join("incoming");
        let _ = std::fs::remove_dir_all(&parts);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&parts)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        Ok(CodeFiles {
            dir,
            max_bytes,
            uploads: AtomicU64::new(0),
        })
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(&sha256[..2]).join(format!("{sha256}.tar.gz"))
    }

    pub async fn exists(&self, sha256: &str) -> bool {
        is_name(sha256) && tokio::fs::try_exists(self.path(sha256)).await.unwrap_or(false)
    }

    /// Writes an archive to the disk for good, if it is whole. Returns its size in bytes.
    pub async fn keep(&self, sha256: &str, body: Body) -> Result<u64, Failure> {
        if !is_name(sha256) {
            return Err(Failure::invalid(
                "an archive is named by its SHA-256: 64 lower-case hexadecimal digits",
            ));
        }
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let part = self
            .dir
            .join("incoming")
            .join(format!("{}.{number}", std::process::id()));
        let outcome = self.receive(sha256, body, &part).await;
        if outcome.is_err() {
            let _ = tokio::fs::remove_file(&part).await;
        }
        outcome
    }

    async fn receive(&self, sha256: &str, body: Body, part: &PathBuf) -> Result<u64, Failure> {
        let limit = self.max_bytes;
        let too_large = || {
            Failure::too_large(format!("the code archive is larger than {limit} bytes"))
                .hint("leave data out with .mlignore, or let the operator raise max_code_bytes")
        };
        // What is announced too large is not waited for.
        if HttpBody::size_hint(&body).lower() > limit {
            return Err(too_large());
        }
        let mut file = tokio::fs::File::create(part).await?;
        let (mut digest, mut bytes) = (Sha256::new(), 0u64);
        let mut stream = body.into_data_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|why| Failure::malformed(format!("the upload broke off: {why}")))?;
            bytes += piece.len() as u64;
            if bytes > limit {
                return Err(too_large());
            }
            digest.update(&piece);
            file.write_all(&piece).await?;
        }
        if key::hex(&digest.finalize()) != sha256 {
            return Err(
                Failure::invalid("what arrived is not the archive that was announced: its SHA-256 differs")
                    .hint("send it again"),
            );
        }
        file.sync_all().await?;
        let path = self.path(sha256);
        let parent = path.parent().expect("the path has a directory");
        tokio::fs::create_dir_all(parent).await?;
        tokio::fs::rename(part, &path).await?;
        // The name itself is on the disk only when its directory is.
        for dir in [parent, self.dir.as_path()] {
            tokio::fs::File::open(dir).await?.sync_all().await?;
        }
        Ok(bytes)
    }

    /// The archive as a body.
    pub async fn read(&self, sha256: &str) -> Result<Body, Failure> {
        let file = tokio::fs::File::open(self.path(sha256))
            .await
            .map_err(|why| match why.kind() {
                std::io::ErrorKind::NotFound => {
                    Failure::internal(format!("the code archive {sha256} is gone from the data directory"))
                }
                _ => Failure::unavailable(why.to_string()),
            })?;
        let stream = futures_util::stream::unfold(file, |mut file| async move {
            let mut piece = vec![0; 64 * 1024];
            match file.read(&mut piece).await {
                Ok(0) => None,
                Ok(length) => {
                    piece.truncate(length);
                    Some((Ok(axum::body::Bytes::from(piece)), file))
                }
                Err(why) => Some((Err(why), file)),
            }
        });
        Ok(Body::from_stream(stream))
    }
}

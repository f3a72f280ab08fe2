//! The code of an experiment as it was submitted: its files, and one of them to read.

use std::io::Read;

use askama::Template;
use bailiwick_api::experiments::Experiment;
use bailiwick_api::permission::permit;
use flate2::read::MultiGzDecoder;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Frame;
use super::session::quoted;
use crate::access::{Allowed, Answer, NoInput, OneExperiment, Output, Query, whole};
use crate::failure::Failure;
use crate::routes::experiments;

/// Largest archive that is opened for a look, and how much of it is unpacked, in bytes.
const ARCHIVE_MAX: usize = 32 * 1024 * 1024;
const UNPACKED_MAX: u64 = 256 * 1024 * 1024;
/// Most files that are listed, and how much of one is shown.
const FILES_MAX: usize = 2000;
const SHOWN_MAX: u64 = 256 * 1024;

/// Which file is to be shown; none when empty.
#[derive(Deserialize, JsonSchema)]
pub struct Wanted {
    #[serde(default)]
    file: String,
}

struct Listed {
    path: String,
    /// The path as it stands in a query.
    quoted: String,
    bytes: u64,
}

struct Shown {
    path: String,
    /// Nothing if it is no text.
    text: Option<String>,
    cut: bool,
}

#[derive(Template)]
#[template(path = "code.html")]
struct CodePage {
    frame: Frame,
    it: Experiment,
    files: Vec<Listed>,
    more: bool,
    file: Option<Shown>,
}

pub async fn show(
    door: Allowed<permit::ExperimentsReadArtifacts, OneExperiment>,
    Query(wanted): Query<Wanted>,
) -> Result<Answer, Failure> {
    let (context, actor) = (door.context.clone(), door.granted.actor.clone());
    let it = door.on.0.view(actor.picture());
    let body = experiments::code(door, NoInput).await?.respond().into_body();
    let archive = whole(body, ARCHIVE_MAX)
        .await
        .map_err(|why| match why.status.as_u16() {
            413 => Failure::too_large("the archive is too large to be looked at here").hint("download it"),
            _ => why,
        })?;
    let file = wanted.file.clone();
    let opened = tokio::task::spawn_blocking(move || open(&archive, &file)).await;
    let opened = opened.map_err(|why| Failure::internal(why.to_string()))?;
    let (files, more, file) = opened.map_err(|why| {
        Failure::conflict("damaged", format!("the archive cannot be looked at: {why}")).hint("download it")
    })?;
    if file.is_none() && !wanted.file.is_empty() {
        return Err(Failure::not_found("file in this code", &wanted.file));
    }
    let page = CodePage {
        frame: Frame::of(
            &context,
            Some(&actor),
            "work",
            format!("Code of {} · experiment {}", it.name, it.id),
        ),
        it,
        files,
        more,
        file,
    };
    page.frame.answer(&page)
}

/// The files of an archive, whether there are more, and the one that is wanted.
fn open(archive: &[u8], wanted: &str) -> std::io::Result<(Vec<Listed>, bool, Option<Shown>)> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(archive).take(UNPACKED_MAX));
    let (mut files, mut found) = (Vec::new(), None);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if files.len() == FILES_MAX {
            return Ok((files, true, found));
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        if path == wanted {
            let mut bytes = Vec::new();
            (&mut entry).take(SHOWN_MAX).read_to_end(&mut bytes)?;
            found = Some(Shown {
                cut: entry.size() > SHOWN_MAX,
                text: as_text(bytes),
                path: path.clone(),
            });
        }
        files.push(Listed {
            quoted: quoted(&path),
            bytes: entry.size(),
            path,
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((files, false, found))
}

/// The bytes as text, where they are; a character that was cut off at the end is left out.
fn as_text(bytes: Vec<u8>) -> Option<String> {
    if bytes.contains(&0) {
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(why) if why.utf8_error().error_len().is_none() => {
            let valid = why.utf8_error().valid_up_to();
            let mut bytes = why.into_bytes();
            bytes.truncate(valid);
            String::from_utf8(bytes).ok()
        }
        Err(_) => None,
    }
}

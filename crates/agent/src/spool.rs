//! Log lines on their way from the shim to the server: files `log.NUMBER`, named by the number of their first line, each line in the form of `log_text`.
//!
//! One writer (the shim) and one reader (the agent), each of which may be killed at any moment. What is left out (the spool grew over its bound, the disk was full)
//! stays a gap in the numbers.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bailiwick_api::Time;
use bailiwick_api::experiments::{Stream, log_text};

/// A new segment begins after so many bytes.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// More than this waits for the server only with its oldest part dropped.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most that is sent at once.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

fn segment_path(dir: &Path, first: i64) -> PathBuf {
    dir.join(format!("log.{first:015}"))
}

/// First line numbers of the segments there are, in order.
fn segments(dir: &Path) -> io::Result<Vec<i64>> {
    let mut firsts: Vec<i64> = fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("log.")?.parse().ok())
        .collect();
    firsts.sort_unstable();
    Ok(firsts)
}

pub struct Writer {
    dir: PathBuf,
    bytes_max: u64,
    /// Number of the next line.
    next: i64,
    segment: Option<(File, u64)>,
    buffer: Vec<u8>,
    buffered_lines: i64,
}

impl Writer {
    /// Goes on after what is there.
    pub fn open(dir: &Path) -> io::Result<Writer> {
        let mut next = 1;
        if let Some(last) = segments(dir)?.pop() {
            let path = segment_path(dir, last);
            let text = fs::read(&path)?;
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            // A half line at the end is what a killed writer left.
            File::options().write(true).open(&path)?.set_len(whole as u64)?;
            next = last + text[..whole].iter().filter(|byte| **byte == b'\n').count() as i64;
        }
        Ok(Writer {
            dir: dir.to_owned(),
            bytes_max: SPOOL_BYTES_MAX,
            next,
            segment: None,
            buffer: Vec::new(),
            buffered_lines: 0,
        })
    }

    pub fn line(&mut self, time: Time, stream: Stream, text: &[u8], continues: bool) {
        log_text::write(&mut self.buffer, time, stream, text, continues);
        self.buffered_lines += 1;
        self.next += 1;
        if self.buffer.len() >= 256 * 1024 {
            self.flush();
        }
    }

    /// Hands all lines to the operating system. Lines that a full disk does not take are lost and leave a gap.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if self.append().is_err()
            && let Some((file, bytes)) = self.segment.take()
        {
            let _ = file.set_len(bytes);
        }
        self.buffer.clear();
        self.buffered_lines = 0;
        if self.segment.as_ref().is_some_and(|(_, bytes)| *bytes >= SEGMENT_BYTES) {
            self.segment = None;
            let _ = self.trim();
        }
    }

    fn append(&mut self) -> io::Result<()> {
        let (file, bytes) = match &mut self.segment {
            Some(segment) => segment,
            none => {
                let path = segment_path(&self.dir, self.next - self.buffered_lines);
                let file = File::options().append(true).create(true).mode(0o600).open(path)?;
                none.insert((file, 0))
            }
        };
        file.write_all(&self.buffer)?;
        *bytes += self.buffer.len() as u64;
        Ok(())
    }

    /// Drops the oldest segments of a spool over its bound. Called between two segments.
    fn trim(&self) -> io::Result<()> {
        let firsts = segments(&self.dir)?;
        let size = |first: &i64| fs::metadata(segment_path(&self.dir, *first)).map_or(0, |metadata| metadata.len());
        let mut total: u64 = firsts.iter().map(size).sum();
        for first in firsts {
            if total <= self.bytes_max {
                break;
            }
            total -= size(&first);
            let _ = fs::remove_file(segment_path(&self.dir, first));
        }
        Ok(())
    }
}

/// Lines to be sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub first: i64,
    pub lines: i64,
    pub text: Vec<u8>,
}

pub struct Reader {
    dir: PathBuf,
    /// Number of the next line to be read.
    next: i64,
    segment: Option<(i64, File)>,
}

impl Reader {
    /// Reads from line `next` on; what stands before it has been sent.
    pub fn open(dir: &Path, next: i64) -> io::Result<Reader> {
        let mut reader = Reader {
            dir: dir.to_owned(),
            next,
            segment: None,
        };
        let Some(first) = segments(dir)?.into_iter().rfind(|first| *first <= next) else {
            return Ok(reader);
        };
        let mut file = File::open(segment_path(dir, first))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let ends = text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at + 1);
        let skip = usize::try_from(next - first).unwrap_or(0);
        let ends: Vec<usize> = ends.take(skip).collect();
        if ends.len() == skip {
            file.seek(SeekFrom::Start(ends.last().copied().unwrap_or(0) as u64))?;
            reader.segment = Some((first, file));
        } else {
            // All of it has been sent, and what follows stands in the next segment (or is not yet written).
            file.seek(SeekFrom::End(0))?;
            reader.next = first + ends.len() as i64;
            reader.segment = Some((first, file));
        }
        Ok(reader)
    }

    /// The next lines, if there are any; they count as read.
    pub fn batch(&mut self) -> io::Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.read()? {
                return Ok(Some(batch));
            }
            let current = self.segment.as_ref().map_or(i64::MIN, |(first, _)| *first);
            let Some(following) = segments(&self.dir)?.into_iter().find(|first| *first > current) else {
                return Ok(None);
            };
            // A segment is whole once another one follows: look once more before leaving it.
            if let Some(batch) = self.read()? {
                return Ok(Some(batch));
            }
            match File::open(segment_path(&self.dir, following)) {
                Ok(file) => self.segment = Some((following, file)),
                // Dropped just now: look for the one after it.
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                Err(why) => return Err(why),
            }
            if following > self.next {
                return Ok(Some(self.gap(following)));
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Batch>> {
        let Some((_, file)) = &mut self.segment else {
            return Ok(None);
        };
        let at = file.stream_position()?;
        let mut text = Vec::new();
        file.take(BATCH_BYTES_MAX as u64).read_to_end(&mut text)?;
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        file.seek(SeekFrom::Start(at + text.len() as u64))?;
        if text.is_empty() {
            return Ok(None);
        }
        let lines = text.iter().filter(|byte| **byte == b'\n').count() as i64;
        let first = self.next;
        self.next += lines;
        Ok(Some(Batch { first, lines, text }))
    }

    /// Says in the place of the last lost line how many were lost before `following`.
    fn gap(&mut self, following: i64) -> Batch {
        let lost = following - self.next;
        let said = format!(
            "{lost} log lines were lost here: the server could not be reached for too long, or the agent's disk was full"
        );
        let mut text = Vec::new();
        log_text::write(&mut text, crate::job_dir::now(), Stream::System, said.as_bytes(), false);
        self.next = following;
        Batch {
            first: following - 1,
            lines: 1,
            text,
        }
    }

    /// Deletes the segments of which every line is before `next`.
    pub fn forget_before(&self, next: i64) -> io::Result<()> {
        let firsts = segments(&self.dir)?;
        for pair in firsts.windows(2) {
            if pair[1] <= next {
                let _ = fs::remove_file(segment_path(&self.dir, pair[0]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(writer: &mut Writer, text: &str) {
        writer.line(Time(1), Stream::Stdout, text.as_bytes(), false);
        writer.flush();
    }

    #[test]
    fn lines_are_read_in_order_over_segments_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path()).unwrap();
        let mut reader = Reader::open(dir.path(), 1).unwrap();
        assert_eq!(reader.batch().unwrap(), None);
        write(&mut writer, "a");
        write(&mut writer, "b");
        let batch = reader.batch().unwrap().unwrap();
        assert_eq!(
            (batch.first, batch.lines, batch.text.as_slice()),
            (1, 2, &b"1 o a\n1 o b\n"[..])
        );
        drop(writer);
        let mut writer = Writer::open(dir.path()).unwrap();
        write(&mut writer, "c");
        assert_eq!(reader.batch().unwrap().unwrap().first, 3);
        assert_eq!(
            Reader::open(dir.path(), 2).unwrap().batch().unwrap().unwrap().text,
            b"1 o b\n"
        );
        assert_eq!(Reader::open(dir.path(), 4).unwrap().batch().unwrap(), None);
        reader.forget_before(3).unwrap();
        assert_eq!(segments(dir.path()).unwrap(), [3]);
    }

    #[test]
    fn a_spool_over_its_bound_loses_its_oldest_lines_and_says_how_many() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path()).unwrap();
        writer.bytes_max = 2 * SEGMENT_BYTES;
        let line = "x".repeat(60_000);
        for _ in 0..300 {
            write(&mut writer, &line);
        }
        let mut reader = Reader::open(dir.path(), 1).unwrap();
        let gap = reader.batch().unwrap().unwrap();
        let first_kept = gap.first + 1;
        assert!(first_kept > 100, "{first_kept}");
        assert!(
            String::from_utf8_lossy(&gap.text).contains(&format!("{} log lines were lost here", first_kept - 1)),
            "{gap:?}"
        );
        let mut seen = gap.first;
        while let Some(batch) = reader.batch().unwrap() {
            assert_eq!(batch.first, seen + 1);
            seen += batch.lines;
        }
        assert_eq!(seen, 300);
    }
}

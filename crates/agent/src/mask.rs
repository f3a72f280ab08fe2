//! Values of vaults do not show in a job's log or in reasons: each stands there as eight asterisks.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

const STARS: &[u8] = b"********";
/// Lines of a longer text that are shorter say nothing by themselves (`{`, `end`), and would blacken the log.
const LINE_MIN: usize = 6;

/// What is to be masked. Cheap to clone.
#[derive(Clone)]
pub struct Mask(Arc<Words>);

struct Words {
    /// Sorted, so that those which begin with a text stand together.
    words: Vec<Vec<u8>>,
    search: AhoCorasick,
    /// Bytes with which one begins.
    first: [bool; 256],
    longest: usize,
}

impl Mask {
    /// `None` where there is nothing to mask. A text of several lines is masked line by line, as it is printed.
    ///
    /// # Errors
    /// There are more than can be searched for at once.
    pub fn of(secrets: &[String]) -> Result<Option<Mask>, String> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let secret = secret.trim();
            if secret.contains(['\n', '\r']) {
                let lines = secret.split(['\n', '\r']).map(str::trim);
                words.extend(
                    lines
                        .filter(|line| line.len() >= LINE_MIN)
                        .map(|line| line.as_bytes().to_vec()),
                );
            } else if !secret.is_empty() {
                words.push(secret.as_bytes().to_vec());
            }
        }
        words.sort();
        words.dedup();
        if words.is_empty() {
            return Ok(None);
        }
        // The table that is faster to search takes a time to make that grows with the square of a text of equal letters.
        let search = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(&words)
            .map_err(|why| format!("the secrets of its vaults cannot be masked in its log: {why}"))?;
        let mut first = [false; 256];
        words.iter().for_each(|word| first[usize::from(word[0])] = true);
        Ok(Some(Mask(Arc::new(Words {
            longest: words.iter().map(Vec::len).max().unwrap_or(0),
            words,
            search,
            first,
        }))))
    }

    /// A text that is all there.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.0.search.is_match(text) {
            return text.into();
        }
        let mut masked = Vec::new();
        Stream::of(self.clone()).line_end(text.as_bytes(), &mut masked);
        String::from_utf8_lossy(&masked).into_owned().into()
    }

    /// Where the first byte of a secret stands that may go on after the end of `text`.
    fn may_go_on(&self, text: &[u8]) -> usize {
        let words = &self.0;
        let from = text.len().saturating_sub(words.longest - 1);
        let begins = |at: &usize| {
            let end = &text[*at..];
            let next = words.words.partition_point(|word| word.as_slice() <= end);
            words.words.get(next).is_some_and(|word| word.starts_with(end))
        };
        let candidates = (from..text.len()).filter(|at| words.first[usize::from(text[*at])]);
        candidates.into_iter().find(begins).unwrap_or(text.len())
    }

    /// What to mask in `text`, whose first `covered` bytes are masked already: secrets that overlap count as one.
    fn ranges(&self, text: &[u8], covered: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        // They come by where they end. Of those that end at one place and lie in each other, only their union is kept.
        for found in self.0.search.find_overlapping_iter(text) {
            let mut range = found.range();
            while let Some(last) = ranges.pop_if(|last| range.start < last.end) {
                range = range.start.min(last.start)..range.end.max(last.end);
            }
            ranges.push(range);
        }
        if covered > 0 {
            let met = ranges.iter().take_while(|range| range.start < covered).count();
            let end = ranges[..met].iter().map(|range| range.end).max().unwrap_or(covered);
            let whole = 0..end.max(covered);
            ranges.splice(..met, std::iter::once(whole));
        }
        ranges
    }
}

/// A text that comes in pieces, such as the output of a program. What may be the beginning of a secret waits for what follows, never more than the longest of them.
pub struct Stream {
    mask: Mask,
    waiting: Vec<u8>,
    /// So many bytes at the beginning of `waiting` belong to a secret that has been written as asterisks.
    covered: usize,
}

impl Stream {
    pub fn of(mask: Mask) -> Stream {
        Stream {
            mask,
            waiting: Vec::new(),
            covered: 0,
        }
    }

    /// A piece that does not end the line.
    pub fn piece(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.waiting.extend_from_slice(piece);
        let through = self.mask.may_go_on(&self.waiting);
        self.write(through, out);
    }

    /// The last piece of a line: no secret goes on after it.
    pub fn line_end(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.waiting.extend_from_slice(piece);
        self.write(self.waiting.len(), out);
    }

    fn write(&mut self, through: usize, out: &mut Vec<u8>) {
        if through == 0 {
            return;
        }
        let text = &self.waiting;
        let mut at = 0;
        let mut covered = 0;
        for range in self.mask.ranges(text, self.covered) {
            if range.start >= through {
                break;
            }
            out.extend_from_slice(&text[at..range.start]);
            let told = range.start == 0 && self.covered > 0;
            if !told {
                out.extend_from_slice(STARS);
            }
            at = range.end;
            covered = range.end.saturating_sub(through);
        }
        if at < through {
            out.extend_from_slice(&text[at..through]);
        }
        self.waiting.drain(..through);
        self.covered = covered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(secrets: &[&str]) -> Mask {
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        Mask::of(&secrets).unwrap().expect("there is something to mask")
    }

    fn in_pieces(mask: &Mask, pieces: &[&[u8]]) -> String {
        let (mut stream, mut out) = (Stream::of(mask.clone()), Vec::new());
        pieces.iter().for_each(|piece| stream.piece(piece, &mut out));
        stream.line_end(b"", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn secrets_show_as_eight_asterisks_wherever_they_are_torn() {
        let mask = mask(&["hunter2!", "-----BEGIN-----\nMIIEvQ==\r\nend\n", "ab", "  "]);
        assert_eq!(
            mask.text("key=hunter2!, MIIEvQ== end cab"),
            "key=********, ******** end c********"
        );
        assert_eq!(mask.text("nothing here"), "nothing here");
        assert_eq!(in_pieces(&mask, &[b"x hun", b"ter", b"2! hunt"]), "x ******** hunt");
        assert!(Mask::of(&[]).unwrap().is_none());
        assert!(Mask::of(&[" \n".into()]).unwrap().is_none());
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_of_either() {
        assert_eq!(mask(&["abcdef", "defghi"]).text("xabcdefghiy"), "x********y");
        let stream = in_pieces(&mask(&["aaaaaa"]), &[&b"aaaaaaa"[..]; 1000]);
        assert_eq!(stream, "********", "one after the other overlaps");
    }

    #[test]
    fn a_long_text_of_equal_letters_takes_no_longer_than_another() {
        let long = "x".repeat(200_000);
        let many: Vec<String> = (6..700).map(|length| "x".repeat(length)).collect();
        assert_eq!(mask(&[&long]).text(&format!("a{long}b")), "a********b");
        let many = mask(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(many.text(&format!("a{}b", "x".repeat(16_384))), "a********b");
    }

    #[test]
    fn what_waits_is_shorter_than_a_secret() {
        let mask = mask(&["0123456789"]);
        let (mut stream, mut out) = (Stream::of(mask), Vec::new());
        for _ in 0..1000 {
            stream.piece(b"01234567", &mut out);
            assert!(stream.waiting.len() < 10, "{}", stream.waiting.len());
        }
    }

    #[test]
    fn a_hundred_secrets_are_masked_as_fast_as_a_job_prints() {
        let secrets: Vec<String> = (0..100)
            .map(|number| format!("secret-{number:03}-{number:03}"))
            .collect();
        let mask = Mask::of(&secrets).unwrap().unwrap();
        let line = "epoch 12 loss 0.123 accuracy 0.987 secret-secre secret-017-017 ".repeat(16);
        let began = std::time::Instant::now();
        let mut out = Vec::new();
        for _ in 0..1000 {
            Stream::of(mask.clone()).line_end(line.as_bytes(), &mut out);
        }
        // A megabyte: far from what a debug build on a busy machine takes, and far below anything that looks at each secret in turn at each byte.
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        assert!(!out.windows(14).any(|window| window == b"secret-017-017"));
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives_and_no_secret_is_left(
            secrets in proptest::collection::vec("[abc]{1,6}", 1..6),
            text in "[abcd]{0,60}",
            cuts in proptest::collection::vec(0..60_usize, 0..8),
        ) {
            let mask = Mask::of(&secrets).unwrap().unwrap();
            let whole = mask.text(&text).into_owned();
            for secret in &secrets {
                prop_assert!(!whole.contains(secret.as_str()), "{secret} in {whole}");
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut at, mut pieces) = (0, Vec::new());
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text.as_bytes()[at..cut]);
                at = cut;
            }
            prop_assert_eq!(in_pieces(&mask, &pieces), whole);
        }

        #[test]
        fn what_is_no_secret_stays(secrets in proptest::collection::vec("[a-z]{6,20}", 1..20), text in "[A-Z0-9 ]{0,200}") {
            prop_assert_eq!(mask(&secrets.iter().map(String::as_str).collect::<Vec<_>>()).text(&text), text.as_str());
        }
    }
}

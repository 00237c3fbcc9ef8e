//! What a command prints, as lines: a line that is rewritten again and again is one line, as it was last.
//!
//! Promises: the same text for the same bytes, however they are cut into reads. A line is of bounded length, free of
//! escape sequences, and valid text. What is not terminated yet can be looked at.
//! Must not know where the bytes come from, nor what the lines mean.

/// The longest line that is kept, as the service does it (`logs.line_bytes_max`).
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How much of a line is looked at, escape sequences included; the rest of it is skipped.
const RAW_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;
/// The mark of a line that was cut.
const CUT: &str = "…[cut]";

/// What becomes known of a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A line is complete.
    Line(String),
    /// A line stands like this for now, and will be rewritten.
    State(String),
    /// These are no lines: there is a NUL among them. Nothing more is said of them.
    Binary,
}

/// Splits bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// The line as it is being written.
    now: Vec<u8>,
    /// The line as it stood when it was last begun anew; None: it never was.
    before: Option<Vec<u8>>,
    /// A `\r` came last: what follows decides whether it ends the line or begins it anew.
    returned: bool,
    is_binary: bool,
}

impl Fold {
    /// What these bytes make known.
    pub(super) fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(Said)) {
        if self.is_binary {
            return;
        }
        if bytes.contains(&0) {
            *self = Self { is_binary: true, ..Self::default() };
            tell(Said::Binary);
            return;
        }
        for byte in bytes {
            match byte {
                b'\n' => {
                    if let Some(line) = self.end() {
                        tell(Said::Line(line));
                    }
                }
                b'\r' => {
                    // Some write `\r\r\n`, and some begin with it.
                    if !self.returned && !self.now.is_empty() {
                        tell(Said::State(text(&self.now)));
                    }
                    self.returned = true;
                }
                byte => {
                    if self.returned {
                        self.begin_anew();
                    }
                    if self.now.len() <= RAW_BYTES_MAX {
                        self.now.push(*byte);
                    }
                }
            }
        }
    }

    /// How the line stands that is not complete yet.
    pub(super) fn unfinished(&self) -> Option<String> {
        (!self.now.is_empty() && !self.returned).then(|| text(&self.now))
    }

    /// The line that is left at the end of the stream.
    pub(super) fn finish(&mut self) -> Option<String> {
        let is_left = !self.now.is_empty() || self.before.is_some();
        is_left.then(|| self.end()).flatten()
    }

    fn begin_anew(&mut self) {
        self.returned = false;
        let now = std::mem::take(&mut self.now);
        self.before = Some(now);
    }

    /// The line as it was last. One that was rewritten, and then wiped, is none.
    fn end(&mut self) -> Option<String> {
        let was_rewritten = self.before.take().is_some();
        self.returned = false;
        let line = text(&std::mem::take(&mut self.now));
        (!was_rewritten || !line.trim().is_empty()).then_some(line)
    }
}

/// Bytes as a line of text.
fn text(bytes: &[u8]) -> String {
    let plain = without_escapes(&String::from_utf8_lossy(bytes));
    let is_cut = bytes.len() > RAW_BYTES_MAX;
    if plain.len() <= LINE_BYTES_MAX && !is_cut {
        return plain;
    }
    let kept = plain.floor_char_boundary(LINE_BYTES_MAX - CUT.len());
    format!("{}{CUT}", &plain[..kept])
}

/// A text without what commands a terminal by escape sequences (ECMA-48), such as colours.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            // CSI: parameters, then one final character.
            Some('[') => {
                while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
                chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
            // OSC and other strings, up to BEL or ST.
            Some(']' | 'P' | 'X' | '^' | '_') => {
                while let Some(c) = chars.next() {
                    if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
            // Two characters, or more with intermediate ones.
            Some('\u{20}'..='\u{2f}') => {
                while chars.next_if(|c| ('\u{20}'..='\u{2f}').contains(c)).is_some() {}
                chars.next();
            }
            Some(_) | None => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is said of bytes that come in these pieces, and the line at the end.
    fn said(pieces: &[&[u8]]) -> Vec<Said> {
        let (mut fold, mut said) = (Fold::default(), Vec::new());
        for piece in pieces {
            fold.feed(piece, |what| said.push(what));
        }
        said.extend(fold.finish().map(Said::Line));
        said
    }

    fn lines(text: &str) -> Vec<String> {
        let only_lines = |said| match said {
            Said::Line(line) => Some(line),
            Said::State(_) | Said::Binary => None,
        };
        said(&[text.as_bytes()]).into_iter().filter_map(only_lines).collect()
    }

    #[test]
    fn a_line_that_is_rewritten_is_one_line_as_it_was_last() {
        assert_eq!(lines("a\n\nb\n"), ["a", "", "b"]);
        assert_eq!(lines("one\r\ntwo\r\r\n"), ["one", "two"]);
        assert_eq!(lines("frame=1\rframe=2\rframe=3\ndone\n"), ["frame=3", "done"]);
        assert_eq!(lines("\r 0%\r50%\r100%\n"), ["100%"]);
        assert_eq!(lines("no end"), ["no end"]);
        assert_eq!(lines("1\r2\r"), ["2"]);
        // Wiped, as a progress bar is that does not stay.
        assert_eq!(lines("\r50%\r       \rnext\n"), ["next"]);
        assert_eq!(lines("\r50%\r\u{1b}[K\n"), [""; 0]);
    }

    #[test]
    fn each_state_of_a_line_is_told() {
        let state = |text: &str| Said::State(text.into());
        assert_eq!(said(&[b"\r1%\r2", b"%\r3%\n"]), [state("1%"), state("2%"), Said::Line("3%".into())]);
        let mut fold = Fold::default();
        fold.feed(b"\r45%", |_| {});
        assert_eq!(fold.unfinished().as_deref(), Some("45%"));
    }

    #[test]
    fn lines_are_text_without_escapes() {
        assert_eq!(
            lines("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}x\u{1b}]8;;u\u{1b}\\y\u{1b}(Bz\u{1b}7"),
            ["red xyz"]
        );
        assert_eq!(said(&[b"a\xffb\n"]), [Said::Line("a\u{fffd}b".into())]);
        assert_eq!(said(&[b"a\n", b"x\0y\n", b"b\n"]), [Said::Line("a".into()), Said::Binary]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let line = &lines(&format!("{}\nnext\n", "é".repeat(100_000)))[0];
        assert!(line.len() <= LINE_BYTES_MAX && line.ends_with("é…[cut]"), "{}", line.len());
        assert_eq!(lines(&"x".repeat(LINE_BYTES_MAX))[0].len(), LINE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn the_same_is_said_however_the_bytes_are_cut(
            text in "([a-c%é\u{1b}\\[]|\r|\n|\t){0,60}",
            cuts in prop::collection::vec(0..200_usize, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for to in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..to]);
                from = to;
            }
            prop_assert_eq!(said(&pieces), said(&[bytes]));
        }

        #[test]
        fn without_returns_and_escapes_lines_are_what_they_are(text in "([a-c é]{0,5}\n){0,9}") {
            prop_assert_eq!(lines(&text), text.lines().map(str::to_owned).collect::<Vec<_>>());
        }

        #[test]
        fn whatever_comes_no_line_has_a_break_or_an_escape(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for said in said(&[&bytes]) {
                if let Said::Line(line) | Said::State(line) = said {
                    prop_assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line:?}");
                }
            }
        }
    }
}

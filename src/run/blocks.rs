//! The blocks of keys and values that ffmpeg prints for programs (`-progress`), folded: of all of them the last is kept.
//!
//! Promises: what is no block of ffmpeg's comes out as it went in, in its order; a line that may begin one waits for the next
//! line, or for the end.
//! Must not know what the values mean.

/// The keys of a block in their order (`print_report` in fftools/ffmpeg.c).
const KEYS: [&str; 12] = [
    "frame",
    "fps",
    STREAM,
    "bitrate",
    "total_size",
    "out_time_us",
    "out_time_ms",
    "out_time",
    "dup_frames",
    "drop_frames",
    "speed",
    LAST,
];
/// What the keys of single streams begin with; there may be many.
const STREAM: &str = "stream_";
/// Says whether more blocks follow.
const LAST: &str = "progress";

/// Folds blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The block so far.
    held: Vec<String>,
    /// The place of its last key.
    at: usize,
}

impl Blocks {
    /// Takes the next line, and gives what is to be logged.
    pub(super) fn fold(&mut self, line: String, mut log: impl FnMut(String)) {
        let key = key(&line);
        let follows = key.is_some_and(|(place, _)| {
            if self.held.is_empty() {
                begins(place)
            } else {
                place > self.at || KEYS[place] == STREAM && place == self.at
            }
        });
        if !follows {
            self.finish(&mut log);
        }
        match key {
            Some((place, "continue")) if follows && KEYS[place] == LAST => self.held.clear(),
            Some((place, _)) if follows || begins(place) => {
                self.at = place;
                self.held.push(line);
                if KEYS[place] == LAST {
                    self.finish(log);
                }
            }
            Some(_) | None => log(line),
        }
    }

    /// No line follows: what was held is to be logged.
    pub(super) fn finish(&mut self, log: impl FnMut(String)) {
        self.held.drain(..).for_each(log);
    }
}

/// Whether a block may begin with this key: one without video begins with its bitrate.
fn begins(place: usize) -> bool {
    matches!(KEYS[place], "frame" | "bitrate")
}

/// The place of a line's key, and its value.
fn key(line: &str) -> Option<(usize, &str)> {
    let (key, value) = line.split_once('=')?;
    let is_key = |name: &&str| if *name == STREAM { key.starts_with(STREAM) } else { key == *name };
    let place = KEYS.iter().position(is_key)?;
    let value = value.trim();
    // The statistics for people are many of them on one line.
    (!value.contains(' ')).then_some((place, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> Vec<String> {
        let (mut blocks, mut logged) = (Blocks::default(), Vec::new());
        for line in text.lines() {
            blocks.fold(line.to_owned(), |line| logged.push(line));
        }
        blocks.finish(|line| logged.push(line));
        logged
    }

    /// As ffmpeg 5.1 prints it.
    fn block(frame: u32, end: &str) -> String {
        format!(
            "frame={frame}\nfps=0.00\nstream_0_0_q=2.0\nstream_0_1_q=2.0\nbitrate= 655.4kbits/s\ntotal_size=48\n\
             out_time_us=400000\nout_time_ms=400000\nout_time=00:00:00.400000\ndup_frames=0\ndrop_frames=0\n\
             speed=   1x\nprogress={end}\n"
        )
    }

    #[test]
    fn the_last_block_is_kept() {
        let text = [block(1, "continue"), block(2, "continue"), block(3, "end")].concat();
        assert_eq!(folded(&text), block(3, "end").lines().collect::<Vec<_>>());
        let sound = "bitrate=N/A\ntotal_size=N/A\nout_time_us=0\nspeed=N/A\nprogress=continue\n";
        assert_eq!(folded(&format!("{sound}{sound}done\n")), ["done"]);
    }

    #[test]
    fn what_is_no_block_stays_as_it_is() {
        for text in [
            "frame=1\nframe=2\nframe=3",
            "speed=1x\nprogress=continue",
            "frame=1\nhello\nprogress=continue",
            "frame=  120 fps= 60 q=28.0 size= 256kB time=00:00:03.20 bitrate= 655.4kbits/s speed=1.6x",
            "bitrate=1\nfps=2\nprogress=continue",
            "frame=1\n\nfps=2",
        ] {
            assert_eq!(folded(text), text.lines().collect::<Vec<_>>());
        }
        let between = format!("{}a\n{}frame=9\nb", block(1, "continue"), block(2, "continue"));
        assert_eq!(folded(&between), ["a", "frame=9", "b"]);
    }

    proptest! {
        #[test]
        fn without_an_end_of_a_block_nothing_is_lost(
            lines in prop::collection::vec("(frame=1|fps=2|bitrate=3|speed=4|progress=end|x|)", 0..20)
        ) {
            let text = lines.join("\n");
            prop_assert_eq!(folded(&text), text.lines().collect::<Vec<_>>());
        }
    }
}

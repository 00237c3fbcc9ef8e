//! What ffmpeg prints of its progress: `time=` among its statistics, `out_time_us=` with `-progress`.

use super::part;

/// Reads the progress of an ffmpeg.
#[derive(Debug)]
pub(super) struct Ffmpeg {
    /// How long its output will be; as long as its longest input, if nobody says otherwise.
    total_seconds: Option<f64>,
    is_given: bool,
}

impl Ffmpeg {
    pub(super) fn new(duration_seconds: Option<f64>) -> Self {
        Self { total_seconds: duration_seconds, is_given: duration_seconds.is_some() }
    }

    /// How far it is after this line, in percent.
    pub(super) fn read(&mut self, line: &str) -> Option<f64> {
        if let Some(rest) = line.trim_start().strip_prefix("Duration: ") {
            if let Some(seconds) = clock(rest)
                && !self.is_given
            {
                self.total_seconds = Some(self.total_seconds.unwrap_or(0.0).max(seconds));
            }
            return None;
        }
        let total = self.total_seconds?;
        // It may encode a little more than its input was said to have.
        part(self.seconds(line)?.clamp(0.0, total), total)
    }

    fn seconds(&self, line: &str) -> Option<f64> {
        if let Some(microseconds) = line.strip_prefix("out_time_us=") {
            return Some(microseconds.trim().parse::<i64>().ok()? as f64 / 1e6);
        }
        // `time=` stands alone: `out_time=` says what `out_time_us=` has said, and `elapsed=` another thing.
        line.match_indices("time=").find_map(|(at, mark)| {
            let stands_alone = at == 0 || line[..at].ends_with(' ');
            stands_alone.then(|| clock(&line[at + mark.len()..])).flatten()
        })
    }
}

/// `00:01:02.50`, whatever follows. One that breaks off before its point may be incomplete, and is none.
fn clock(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(text.len());
    let (hours, rest) = text[..end].split_once(':')?;
    let (minutes, seconds) = rest.split_once(':')?;
    if seconds.split_once('.')?.1.is_empty() {
        return None;
    }
    let number = |text: &str| text.parse::<u32>().ok().map(f64::from);
    Some(number(hours)? * 3600.0 + number(minutes)? * 60.0 + seconds.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_in_seconds() {
        assert_eq!(clock("00:00:10.00, start: 0.0"), Some(10.0));
        assert_eq!(clock("01:01:02.50 bitrate"), Some(3662.5));
        for text in ["N/A", "-00:00:01.00", "00:00:1", "00:00:1.", "1:2", "", "::."] {
            assert_eq!(clock(text), None, "{text}");
        }
    }

    #[test]
    fn statistics_are_of_the_longest_input() {
        let mut ffmpeg = Ffmpeg::new(None);
        let stats = "frame=  120 fps= 60 q=28.0 size=     256kB time=00:00:03.20 bitrate= 655.4kbits/s speed=1.6x";
        assert_eq!(ffmpeg.read(stats), None);
        for line in ["  Duration: 00:00:04.00, start: 0.000000, bitrate: 1", "  Duration: 00:00:10.00, start"] {
            assert_eq!(ffmpeg.read(line), None);
        }
        assert_eq!(ffmpeg.read("  Duration: N/A, start: 0.000000"), None);
        assert_eq!(ffmpeg.read(stats), Some(32.0));
        assert_eq!(ffmpeg.read("size=N/A time=-577014:32:22.77 bitrate=N/A"), None);
        assert_eq!(ffmpeg.read("time=00:00:10.04 x"), Some(100.0));
    }

    #[test]
    fn keys_and_values_are_read_as_well() {
        let mut ffmpeg = Ffmpeg::new(Some(8.0));
        assert_eq!(ffmpeg.read("  Duration: 00:00:10.00, start"), None);
        assert_eq!(ffmpeg.read("out_time_us=2000000"), Some(25.0));
        assert_eq!(ffmpeg.read("out_time=00:00:02.000000"), None);
        assert_eq!(ffmpeg.read("out_time_us=-9223372036854775807"), Some(0.0));
        assert_eq!(ffmpeg.read("out_time_us=N/A"), None);
    }
}

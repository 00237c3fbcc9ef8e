//! A job on one line, and several such lines that are drawn again and again.
//!
//! Promises: a line is never wider than the terminal, so that it can be drawn over.

use std::io::{self, Write};

use rustix::termios::tcgetwinsize;
use serde_json::Value;

use crate::job::printable;

/// How wide a terminal is that does not say so.
const COLUMNS: usize = 80;
/// How wide a bar is.
const BAR: usize = 24;

/// How a job stands, as far as it is shown.
#[derive(Debug, Default)]
pub(super) struct Row {
    id: String,
    status: String,
    pct: f64,
    percent: String,
    stage: String,
    eta: String,
}

impl Row {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The job is like this now; whether that is news for somebody who reads lines.
    pub(super) fn is(&mut self, job: &Value) -> bool {
        let text = |member: &str| printable(job[member].as_str().unwrap_or_default()).into_owned();
        let (status, percent, stage) = (text("status"), percent(job), text("stage"));
        let is_news = (&status, &percent, &stage) != (&self.status, &self.percent, &self.stage);
        let pct = job["progress_pct"].as_f64().unwrap_or_default();
        let eta = job["eta_seconds"].as_f64().map(left).unwrap_or_default();
        *self = Self { id: std::mem::take(&mut self.id), status, pct, percent, stage, eta };
        is_news
    }

    /// The job is not there, or not any more.
    pub(super) fn is_gone(&mut self) -> bool {
        let is_news = self.status != "not there";
        *self = Self { id: std::mem::take(&mut self.id), status: "not there".to_owned(), ..Self::default() };
        is_news
    }

    /// For a file.
    pub(super) fn line(&self) -> String {
        let words =
            [printable(&self.id).as_ref(), &self.status, &self.percent, &self.stage, &self.eta].map(str::to_owned);
        words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    }

    /// For a terminal.
    fn bar(&self) -> String {
        let full = (self.pct / 100.0 * BAR as f64).floor().clamp(0.0, BAR as f64) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
        let status = if self.status.is_empty() { "…" } else { &self.status };
        let id = printable(&self.id);
        let row = format!("{id}  {bar} {:>4}  {status}  {}  {}", self.percent, self.stage, self.eta);
        row.trim_end().to_owned()
    }
}

/// The progress of a job, as people write it.
pub(super) fn percent(job: &Value) -> String {
    job["progress_pct"].as_f64().map(|pct| format!("{}%", pct.floor())).unwrap_or_default()
}

/// `1:02:03 left`
fn left(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02} left") } else { format!("{minutes}:{seconds:02} left") }
}

/// Lines that are drawn over one another.
#[derive(Debug, Default)]
pub(super) struct Bars {
    drawn: usize,
}

impl Bars {
    /// Takes them from the terminal: something else is to be written.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.drawn == 0 {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        write!(stdout, "\u{1b}[{}A\r\u{1b}[J", self.drawn)?;
        self.drawn = 0;
        stdout.flush()
    }

    pub(super) fn draw(&mut self, rows: &[Row]) -> io::Result<()> {
        let stdout = io::stdout();
        let columns = tcgetwinsize(&stdout).map_or(COLUMNS, |size| usize::from(size.ws_col));
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\u{1b}[{}A", self.drawn));
        }
        for row in rows {
            text.push_str(&format!("\r{}\u{1b}[K\n", clipped(&row.bar(), columns)));
        }
        self.drawn = rows.len();
        let mut stdout = stdout.lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// As much of a line as surely fits: letters beyond Latin and the bar's own may be two columns wide.
fn clipped(line: &str, columns: usize) -> &str {
    let mut room = columns.saturating_sub(1);
    for (at, c) in line.char_indices() {
        let width = if c.is_ascii() || ('\u{a0}'..'\u{1100}').contains(&c) || "█░…".contains(c) { 1 } else { 2 };
        if width > room {
            return &line[..at];
        }
        room -= width;
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_shows_how_a_job_stands() {
        let mut row = Row::new("j");
        let job = json!({"status": "processing", "progress_pct": 45.6, "stage": "a\u{1b}[2Jb", "eta_seconds": 62.5});
        assert!(row.is(&job));
        assert!(!row.is(&job));
        assert_eq!(row.line(), "j processing 45% a␛[2Jb 1:02 left");
        assert!(row.bar().starts_with("j  ██████████░░░░"), "{}", row.bar());
        assert!(row.is_gone() && !row.is_gone());
        assert_eq!(left(3723.0), "1:02:03 left");
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        assert_eq!(clipped("abcdef", 4), "abc");
        assert_eq!(clipped("試験中", 4), "試");
        assert_eq!(clipped("abc", 80), "abc");
    }
}

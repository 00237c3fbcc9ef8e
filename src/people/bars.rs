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
/// How wide the column of ids grows: that of an id that the service makes up.
const ID_COLUMNS_MAX: usize = 36;

/// How a job stands, as far as it is shown.
#[derive(Debug, Default)]
pub(super) struct Row {
    id: String,
    status: String,
    pct: f64,
    percent: String,
    stage: String,
    eta: String,
    reason: String,
    is_gone: bool,
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
        let (status, percent, stage, reason) = (text("status"), percent(job), text("stage"), reason(job));
        let is_news = (&status, &percent, &stage, &reason) != (&self.status, &self.percent, &self.stage, &self.reason);
        let pct = job["progress_pct"].as_f64().unwrap_or_default();
        let eta = job["eta_seconds"].as_f64().map(left).unwrap_or_default();
        *self = Self { id: std::mem::take(&mut self.id), status, pct, percent, stage, eta, reason, is_gone: false };
        is_news
    }

    /// The job is not there, or not any more.
    pub(super) fn is_gone(&mut self) -> bool {
        let is_news = !self.is_gone;
        let status = "not there".to_owned();
        *self = Self { id: std::mem::take(&mut self.id), status, is_gone: true, ..Self::default() };
        is_news
    }

    /// For a file.
    pub(super) fn line(&self) -> String {
        let id = printable(&self.id);
        let words: [&str; 6] = [&id, &self.status, &self.percent, &self.stage, &self.eta, &self.reason];
        joined(words, " ")
    }

    /// For a terminal: what may be long comes last.
    fn bar(&self, id_columns: usize) -> String {
        let full = (self.pct / 100.0 * BAR as f64).floor().clamp(0.0, BAR as f64) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
        // One that is not there has not come to 0 % of anything.
        let bar = if self.is_gone { " ".repeat(BAR) } else { bar };
        let status = if self.status.is_empty() { "…" } else { &self.status };
        let rest = joined([&self.eta, &self.stage, &self.reason], "  ");
        let row = format!("{:id_columns$}  {bar} {:>4}  {status:10}  {rest}", printable(&self.id), self.percent);
        row.trim_end().to_owned()
    }
}

/// Those words that say something, with this between them.
pub(super) fn joined<'w>(
    words: impl IntoIterator<Item = &'w (impl AsRef<str> + ?Sized + 'w)>,
    between: &str,
) -> String {
    let words = words.into_iter().map(AsRef::as_ref).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(between)
}

/// Why a job has ended, or that it is to end; on one line.
pub(super) fn reason(job: &Value) -> String {
    let error = &job["error"];
    match error["message"].as_str().or(error["reason"].as_str()) {
        Some(said) => printable(said).into_owned(),
        None if job["cancel_requested"] == true && job["done"] == false => "asked to stop".to_owned(),
        None => String::new(),
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
        let id_columns = rows.iter().map(|row| row.id.chars().count()).max().unwrap_or(0).min(ID_COLUMNS_MAX);
        for row in rows {
            text.push_str(&format!("\r{}\u{1b}[K\n", clipped(&row.bar(id_columns), columns)));
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
        let bar = row.bar(3);
        assert!(bar.starts_with("j    ██████████░░░░") && bar.ends_with("processing  1:02 left  a␛[2Jb"), "{bar}");
        let failed = json!({"status": "failed", "progress_pct": 45.6, "error": {"reason": "r", "message": "no\ndisk"}});
        assert!(row.is(&failed));
        assert_eq!(row.line(), "j failed 45% no␊disk");
        assert!(row.is_gone() && !row.is_gone());
        assert_eq!(row.bar(1).split_whitespace().collect::<Vec<_>>(), ["j", "not", "there"]);
        assert_eq!(reason(&json!({"error": null, "cancel_requested": true, "done": false})), "asked to stop");
        assert_eq!(left(3723.0), "1:02:03 left");
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        assert_eq!(clipped("abcdef", 4), "abc");
        assert_eq!(clipped("試験中", 4), "試");
        assert_eq!(clipped("abc", 80), "abc");
    }
}

//! Log lines as text: one line each, cut visibly, and harmless on a terminal.

use milepost::job::{Lines, printable};
use proptest::prelude::*;

use super::{
    steps::config,
    wire::{limits, wide},
    words::Rules,
};

const CUT: &str = "…[cut]";

fn pushed(text: &str, line_bytes_max: usize) -> String {
    let mut lines = Lines::default();
    lines.push(text, &limits(&Rules { line_bytes_max, ..wide() }));
    assert_eq!(lines.texts.len(), 1, "one element is one line");
    lines.texts[0].to_string()
}

#[test]
fn a_line_has_no_breaks_and_is_cut_between_characters() {
    let examples = [
        ("", 12, ""),
        ("plain", 12, "plain"),
        ("a\nb\rc", 12, "a␊b␍c"),
        ("\r\n", 12, "␍␊"),
        ("\u{1b}[2J\t\u{2028}", 12, "\u{1b}[2J\t\u{2028}"),
        ("exactly12byt", 12, "exactly12byt"),
        ("exactly13byte", 12, "exac…[cut]"),
        ("aaä12345678", 12, "aaä12345678"),
        ("aaa€12345678", 12, "aaa…[cut]"),
        // Fits as it came, but not with its breaks shown.
        ("ab\n\n\n\n", 12, "ab…[cut]"),
        ("abc", 8, "abc"),
        ("123456789", 8, "…[cut]"),
    ];
    for (text, bytes_max, line) in examples {
        assert_eq!(pushed(text, bytes_max), line, "{text:?} within {bytes_max}");
    }
}

#[test]
fn a_printed_line_commands_no_terminal() {
    let examples = [
        ("plain\ttext ä€😀", "plain\ttext ä€😀"),
        ("\u{1b}[31mred", "␛[31mred"),
        ("\0\u{7}\u{8}\u{1f}", "␀␇␈␟"),
        ("a\nb\r\n", "a␊b␍␊"),
        ("\u{7f}", "␡"),
        ("\u{85}\u{9b}2J\u{2028}\u{2029}", "\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}"),
    ];
    for (text, printed) in examples {
        assert_eq!(printable(text), printed, "{text:?}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_line_is_whole_or_its_beginning_within_the_limit(text in "(?s).{0,60}", bytes_max in 8..200_usize) {
        let whole = text.replace('\n', "␊").replace('\r', "␍");
        let line = pushed(&text, bytes_max);
        prop_assert!(line.len() <= bytes_max, "{} bytes", line.len());
        if whole.len() <= bytes_max {
            prop_assert_eq!(line, whole, "a line within the limit is left whole");
        } else {
            let kept = line.strip_suffix(CUT).expect("a cut line says so");
            prop_assert!(whole.starts_with(kept), "another text is kept");
            prop_assert!(line.len() + 4 > bytes_max, "more is cut than one character too much");
        }
    }

    #[test]
    fn a_printed_line_has_no_control_characters_and_as_many_characters(text in "(?s)(.|\\PC|\\p{Cc}){0,40}") {
        let printed = printable(&text);
        let harmless = |c: char| c == '\t' || !(c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
        prop_assert!(printed.chars().all(harmless), "{:?}", printed);
        prop_assert_eq!(printed.chars().count(), text.chars().count());
        for (shown, given) in printed.chars().zip(text.chars()) {
            prop_assert!(shown == given || !harmless(given), "{:?} became {:?}", given, shown);
        }
    }
}

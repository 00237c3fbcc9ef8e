//! Progress as people are shown it: the bars of tqdm, and percentages.

use super::part;

/// `train:  45%|████▌     | 45/100 [00:04<00:05, 9.9it/s]`, in percent; the counts are more exact than the percentage.
pub(super) fn tqdm(line: &str) -> Option<f64> {
    let (before, bar) = line.split_once("%|")?;
    let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let shown = before[before.len() - digits..].parse::<f64>().ok()?;
    let counted = bar.split_once("| ").and_then(|(_, counts)| {
        let (done, rest) = counts.trim_start().split_once('/')?;
        let total = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        // `4.50M/10.0G`: what is scaled is not compared.
        let is_scaled =
            !done.ends_with(|c: char| c.is_ascii_digit()) || rest[total.len()..].starts_with(char::is_alphabetic);
        if is_scaled { None } else { part(done.parse().ok()?, total.parse().ok()?) }
    });
    // Counts that say something else than the percentage are not what they seem, such as those of a line cut short.
    counted.filter(|counted| (counted - shown).abs() <= 1.0).or_else(|| part(shown, 100.0))
}

/// The first number with a percent sign that stands by itself, such as in `[download]  45.3% of 10MiB`.
pub(super) fn percentage(line: &str) -> Option<f64> {
    line.match_indices('%').find_map(|(at, _)| {
        let before = line[..at].trim_end_matches(' ');
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let number = &before[before.trim_end_matches(is_part).len()..];
        let opens = |c: char| c.is_whitespace() || "([{<|:=".contains(c);
        let stands_alone = before[..before.len() - number.len()].chars().next_back().is_none_or(opens);
        if stands_alone { part(number.parse().ok()?, 100.0) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_of_tqdm_are_read() {
        for (line, pct) in [
            ("  0%|          | 0/100 [00:00<?, ?it/s]", Some(0.0)),
            ("train:  45%|████▌     | 454/1000 [00:04<00:05, 9.94it/s, loss=0.3]", Some(45.4)),
            ("100%|██████████| 3/3 [00:00<00:00]", Some(100.0)),
            (" 45%|████▌     | 4.50M/10.0M [00:04<00:05]", Some(45.0)),
            (" 45%|####5     | 45/10", Some(45.0)),
            ("45%|", Some(45.0)),
            ("450%|██|", None),
            ("12it [00:01, 9.9it/s]", None),
            ("%| |", None),
        ] {
            assert_eq!(tqdm(line), pct, "{line}");
        }
    }

    #[test]
    fn percentages_stand_by_themselves() {
        for (line, pct) in [
            ("12%", Some(12.0)),
            ("[download]  45.3% of 10.00MiB at 1MiB/s", Some(45.3)),
            ("Receiving objects: 100% (3/3)", Some(100.0)),
            ("  1,234,567  45%   12.3MB/s    0:00:03", Some(45.0)),
            ("progress=7 %", Some(7.0)),
            ("a7%", None),
            ("-7%", None),
            ("1.2.3%", None),
            ("120%", None),
            ("% done", None),
        ] {
            assert_eq!(percentage(line), pct, "{line}");
        }
    }
}

//! Spans that differ a little: a thousand clients that came together shall not come back together.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// A span up to this part shorter, such as 10 for a tenth.
pub(super) fn shortened(span: Duration, part: u32) -> Duration {
    const STEPS: u32 = 1 << 16;
    // The standard library keys each of its hashers at random.
    let random = RandomState::new().hash_one(()) as u32 % STEPS;
    span - span / part * random / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shortened_by_their_part_at_the_most_and_not_alike() {
        let spans: Vec<_> = (0..1000).map(|_| shortened(Duration::from_secs(60), 10)).collect();
        let (least, most) = (spans.iter().min().unwrap(), spans.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(54) && *most <= Duration::from_secs(60), "{least:?} to {most:?}");
        assert!(*most - *least > Duration::from_secs(4), "{least:?} to {most:?}");
    }
}

//! Cursors of lists: opaque to clients, and good only for the query they came with.

use crate::engine::{Cursor, Order};

/// The form of a cursor; another form has another number.
const FORM: u8 = 1;
/// Form, order, number, checksum.
const BYTES: usize = 1 + 1 + 8 + 4;

/// The cursor as clients carry it: hexadecimal digits, with a checksum over it and over what the query asks for.
pub(super) fn encode(place: Cursor, order: Order, filters: &str) -> String {
    let mut bytes = [0; BYTES];
    bytes[0] = FORM;
    bytes[1] = order_byte(order);
    bytes[2..10].copy_from_slice(&place.0.to_be_bytes());
    let checksum = checksum(&bytes[..10], filters);
    bytes[10..].copy_from_slice(&checksum.to_be_bytes());
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

/// The place a cursor stands for; `None` when it was never given out for this query.
pub(super) fn decode(text: &str, order: Order, filters: &str) -> Option<Cursor> {
    let mut bytes = [0; BYTES];
    if text.len() != 2 * BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let number = <[u8; 8]>::try_from(&bytes[2..10]).ok()?;
    let fits = bytes[0] == FORM
        && bytes[1] == order_byte(order)
        && bytes[10..] == checksum(&bytes[..10], filters).to_be_bytes();
    fits.then(|| Cursor(u64::from_be_bytes(number)))
}

fn order_byte(order: Order) -> u8 {
    match order {
        Order::Newest => 0,
        Order::Oldest => 1,
    }
}

/// Finds mistakes, not forgers: a forged cursor shows nothing that the list would not.
fn checksum(bytes: &[u8], filters: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.update(filters.as_bytes());
    hasher.finalize()
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_with_its_query_and_with_no_other() {
        let cursor = encode(Cursor(123_456_789), Order::Newest, "status=failed");
        assert_eq!(decode(&cursor, Order::Newest, "status=failed"), Some(Cursor(123_456_789)));
        assert_eq!(decode(&cursor, Order::Oldest, "status=failed"), None);
        assert_eq!(decode(&cursor, Order::Newest, "status=queued"), None);
    }

    #[test]
    fn every_change_of_a_digit_is_found() {
        let cursor = encode(Cursor(u64::MAX - 1), Order::Oldest, "");
        for place in 0..cursor.len() {
            for digit in ["0", "7", "f", "F", "x", "é"] {
                let mut changed = cursor.clone();
                changed.replace_range(place..=place, digit);
                assert_eq!(decode(&changed, Order::Oldest, "").is_some(), changed == cursor);
            }
        }
        assert_eq!(decode("", Order::Oldest, ""), None);
        assert_eq!(decode(&cursor.to_uppercase(), Order::Oldest, ""), None);
    }
}

//! Payloads as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The payload as lower-case hexadecimal digits.
pub(crate) fn hex(payload: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    payload.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The payload in base64, with padding.
pub(crate) fn base64(payload: &[u8]) -> String {
    STANDARD.encode(payload)
}

/// The payload on one line, whatever is in it: control characters escaped, bytes that are not UTF-8 as `\xNN`. At most
/// `chars_max` characters are given; a payload that is cut ends in three dots.
pub(crate) fn escaped(payload: &[u8], chars_max: usize) -> String {
    let mut text = String::new();
    let mut chars = 0;
    // What the text is cut back to, so that it and the dots fit.
    let mut fitting = 0;
    for chunk in payload.utf8_chunks() {
        let valid = chunk.valid().chars().map(|character| match character {
            '\\' => "\\\\".to_owned(),
            '"' | '\'' => character.to_string(),
            _ => character.escape_debug().to_string(),
        });
        let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for piece in valid.chain(invalid) {
            chars += piece.chars().count();
            if chars > chars_max {
                text.truncate(fitting);
                text.push_str("...");
                return text;
            }
            text.push_str(&piece);
            if chars + 3 <= chars_max {
                fitting = text.len();
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_printable_form() {
        assert_eq!(escaped(b"a\tb\\ \"q\" \xff\xc3\xa9", 100), "a\\tb\\\\ \"q\" \\xffé");
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(base64(b"ab"), "YWI=");
    }

    #[test]
    fn a_long_payload_is_cut_to_what_fits() {
        assert_eq!(escaped(b"abcdefgh", 8), "abcdefgh");
        assert_eq!(escaped(b"abcdefghi", 8), "abcde...");
        assert_eq!(escaped(b"abcdef\n\n", 8), "abcde...");
    }
}

//! Makes values safe to print: what a terminal or a reader would act on becomes visible text.

use std::fmt::{self, Write};

/// Writes `text` as the inside of a JSON string (RFC 8259 section 7), with everything that is not
/// plainly visible escaped too.
pub(super) fn json(out: &mut impl Write, text: &str) -> fmt::Result {
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            _ if acts_on_the_reader(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            _ => out.write_char(character)?,
        }
    }
    Ok(())
}

/// Writes `text` for people, invisible characters as `\u{…}`.
pub(super) fn text(out: &mut impl Write, text: &str) -> fmt::Result {
    for character in text.chars() {
        if acts_on_the_reader(character) {
            write!(out, "{}", character.escape_unicode())?;
        } else {
            out.write_char(character)?;
        }
    }
    Ok(())
}

/// `text` as people can read it safely: nothing in it acts on a terminal.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // A string takes whatever is written.
    let _ = self::text(&mut out, text);
    out
}

/// Controls (ANSI sequences start with one), and what is invisible or turns the direction of the
/// text around it (Unicode Technical Report 36, section 2.5).
fn acts_on_the_reader(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn as_json(value: &str) -> String {
        let mut out = String::from("\"");
        json(&mut out, value).unwrap();
        out.push('"');
        out
    }

    fn as_text(value: &str) -> String {
        let mut out = String::new();
        text(&mut out, value).unwrap();
        out
    }

    #[test]
    fn an_ansi_sequence_becomes_visible() {
        assert_eq!(as_json("\x1b[2J"), r#""\u001b[2J""#);
        assert_eq!(as_text("\x1b[2J"), r"\u{1b}[2J");
        assert_eq!(as_text("\u{9b}2J"), r"\u{9b}2J");
    }

    #[test]
    fn a_line_cannot_be_forged_with_a_line_break() {
        assert_eq!(as_json("a\n{\"level\""), r#""a\u000a{\"level\"""#);
        assert_eq!(as_text("a\r\nb\u{2028}c"), r"a\u{d}\u{a}b\u{2028}c");
    }

    #[test]
    fn text_cannot_be_turned_around() {
        assert_eq!(as_json("\u{202e}txt"), r#""\u202etxt""#);
        assert_eq!(as_text("\u{2066}txt"), r"\u{2066}txt");
    }

    #[test]
    fn a_character_beyond_the_basic_plane_is_escaped_as_a_surrogate_pair() {
        assert_eq!(as_json("\u{e0041}"), r#""\udb40\udc41""#);
    }

    proptest! {
        #[test]
        fn the_json_form_reads_back_as_it_was(value in any::<String>()) {
            let read: String = serde_json::from_str(&as_json(&value)).unwrap();
            prop_assert_eq!(read, value);
        }

        #[test]
        fn neither_form_holds_a_character_that_acts(value in any::<String>()) {
            prop_assert!(!as_json(&value).contains(acts_on_the_reader));
            prop_assert!(!as_text(&value).contains(acts_on_the_reader));
        }
    }
}

//! PEM as text: the blocks of a file, and whether it is whole. PURE.
//! Takes bytes, gives each block with its label. Surprise: OpenSSL's own reader takes a file that was cut off in the middle of its
//! second certificate for a chain of one, so a file that is being written would pass for a right one.

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One `-----BEGIN LABEL-----` with all up to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Block<'b> {
    pub label: &'b str,
    pub text: &'b [u8],
}

/// All blocks, in order. What stands between them is a comment.
///
/// # Errors
/// What is wrong with the file, to be put after its name.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, &'static str> {
    const CUT_OFF: &str = "ends in the middle of a PEM block; is it still being written?";
    if bytes.trim_ascii().is_empty() {
        return Err("is empty");
    }
    let mut blocks = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        // A line that is no text belongs to no block.
        let text = std::str::from_utf8(line).unwrap_or_default().trim_end();
        match (open, label(text, BEGIN), label(text, END)) {
            (None, Some(label), _) => open = Some((label, start)),
            (Some((label, start)), _, Some(ended)) if label == ended => {
                blocks.push(Block { label, text: &bytes[start..end] });
                open = None;
            }
            (Some(_), Some(_), _) | (_, _, Some(_)) => return Err(CUT_OFF),
            _ if !line.ends_with(b"\n") && is_begun(text) => return Err(CUT_OFF),
            _ => {}
        }
    }
    if open.is_some() { Err(CUT_OFF) } else { Ok(blocks) }
}

fn label<'t>(line: &'t str, kind: &str) -> Option<&'t str> {
    line.strip_prefix(kind)?.strip_suffix(DASHES)
}

/// Whether a file's last line is a beginning of `-----BEGIN LABEL-----`.
fn is_begun(line: &str) -> bool {
    !line.is_empty() && (BEGIN.starts_with(line) || line.starts_with(BEGIN))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const TWO: &str = "a comment\n-----BEGIN A-----\nbody\n-----END A-----\n---\n-----BEGIN B C-----\r\nx\r\n-----END B C-----";

    #[test]
    fn blocks_come_with_their_labels() {
        let blocks = blocks(TWO.as_bytes()).unwrap();
        assert_eq!(blocks.iter().map(|block| block.label).collect::<Vec<_>>(), ["A", "B C"]);
        assert_eq!(blocks[0].text, b"-----BEGIN A-----\nbody\n-----END A-----\n");
        assert_eq!(super::blocks(b"no PEM at all").unwrap(), []);
        assert_eq!(super::blocks(&[0xff, 0xfe, b'\n', 0x30]).unwrap(), []);
    }

    /// Wherever a file is cut, its blocks are those that are whole, or it is refused.
    #[test]
    fn a_file_is_never_taken_for_more_or_less_than_it_is() {
        let end_of_a = TWO.find("-----END A-----").unwrap() + "-----END A-----".len();
        let begin_of_b = TWO.find("-----BEGIN B").unwrap();
        for cut in 0..TWO.len() {
            let found = blocks(&TWO.as_bytes()[..cut]).map(|blocks| blocks.len());
            let expected = match cut {
                0 => Err("is empty"),
                // Not one dash of the first line yet.
                1..=10 => Ok(0),
                _ if cut < end_of_a => Err("ends in the middle of a PEM block; is it still being written?"),
                // The comment `---` may be one, or the beginning of a block.
                _ if (end_of_a + 2..=end_of_a + 4).contains(&cut) || cut > begin_of_b => {
                    Err("ends in the middle of a PEM block; is it still being written?")
                }
                _ => Ok(1),
            };
            assert_eq!(found, expected, "{:?}", &TWO[..cut]);
        }
    }

    #[test]
    fn blocks_that_do_not_end_as_they_begin_are_no_blocks() {
        for text in [
            "-----BEGIN A-----\n-----END B-----\n",
            "-----BEGIN A-----\n-----BEGIN A-----\n-----END A-----\n",
            "-----END A-----\n",
            " \n\t\n",
        ] {
            blocks(text.as_bytes()).unwrap_err();
        }
    }
}

//! Names and other texts as each form of output takes them, one function for each place: HTML and SVG, data in HTML,
//! Markdown, LaTeX, a terminal. CSV is the csv crate's work (`crate::table`), names of files that of `crate::config::name`.

use serde_json::Value;

/// A text on one line as people are to see it: what would not be seen, or would change how the rest is seen, is written
/// as in Rust (`\n`, `\u{202e}`). XML has no place for most of these characters either.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_invisible(letter) {
            true => out.extend(letter.escape_default()),
            false => out.push(letter),
        }
    }
    out
}

/// Controls, line ends, what turns the direction of writing, what has no width (but for the joiners of emoji), and what
/// is no character.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(letter) & 0xfffe == 0xfffe
        || matches!(letter, '\u{fdd0}'..='\u{fdef}')
}

/// Text between tags or in an attribute of HTML and SVG.
pub(super) fn markup(text: &str) -> String {
    entities(&visible(text))
}

/// Text of several lines between tags, with its tabs.
pub(super) fn markup_block(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(markup).collect::<Vec<_>>().join("\t");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn entities(text: &str) -> String {
    let pairs = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")];
    pairs.into_iter().fold(text.to_owned(), |text, (letter, entity)| text.replace(letter, entity))
}

/// JSON as the content of a `script` element: neither its end nor what begins a comment may stand there, and both begin
/// with `<`, which in JSON occurs within strings alone.
pub(super) fn json_in_html(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

/// A cell of a table in Markdown.
pub(super) fn markdown(text: &str) -> String {
    let letters: Vec<char> = visible(text).chars().collect();
    let at = |place: usize| letters.get(place).copied();
    let mut out = String::new();
    for (place, &letter) in letters.iter().enumerate() {
        let (before, after) = (place.checked_sub(1).and_then(at), at(place + 1));
        let is_word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '|' | '\\' | '`' | '*' | '~' => out.extend(['\\', letter]),
            // Within a word it emphasises nothing.
            '_' if !(is_word(before) && is_word(after)) => out.push_str("\\_"),
            // A link.
            ']' if matches!(after, Some('(' | '[')) => out.push_str("\\]"),
            _ => out.push(letter),
        }
    }
    out
}

/// Text in LaTeX, where it may begin a row of a table.
pub(super) fn latex(text: &str) -> String {
    let text = visible(text);
    let mut out = String::new();
    // Behind the end of a row these would be its options.
    if text.starts_with(['[', '*']) {
        out.push_str("{}");
    }
    let mut before = ' ';
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', letter]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '|' => out.push_str("\\textbar{}"),
            // Two would become one dash or another quote, and one behind a question mark turns that round.
            '-' | '\'' | '`' if before == letter || letter == '`' => out.extend(['{', '}', letter]),
            'α' => out.push_str("$\\alpha$"),
            'λ' => out.push_str("$\\lambda$"),
            _ => out.push(letter),
        }
        before = letter;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(
            visible("a\n\u{1b}[1m\u{202e}b\u{200b}\0\u{ffff}"),
            "a\\n\\u{1b}[1m\\u{202e}b\\u{200b}\\u{0}\\u{ffff}"
        );
        for plain in ["KFAC, batch", "été e\u{301} 网 👨\u{200d}👩\u{200d}👧 ❤\u{fe0f} \u{a0}", "a\\n'\"", "שלום"]
        {
            assert_eq!(visible(plain), plain);
        }
    }

    #[test]
    fn each_place_reads_back_what_was_meant() {
        assert_eq!(markup("<!--\"'&\u{1}"), "&lt;!--&quot;&#39;&amp;\\u{1}");
        assert_eq!(markup_block("a\r\n\t<b>\r"), "a\n\t&lt;b&gt;\\r");
        let name = serde_json::json!({ "</script><!--<script>": "\u{2028}&\"" });
        let text = json_in_html(&name);
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), name);
        assert_eq!(
            markdown("a|b\\ *c* <b> [d](e) mnist_logreg _f_ `g`\n"),
            "a\\|b\\\\ \\*c\\* &lt;b> [d\\](e) mnist_logreg \\_f\\_ \\`g\\`\\\\n"
        );
        assert_eq!(markdown("0.92 [0.91, 0.93]"), "0.92 [0.91, 0.93]");
        assert_eq!(latex("[50%_#]"), "{}[50\\%\\_\\#]");
        assert_eq!(latex("a--b \\x{}"), "a-{}-b \\textbackslash{}x\\{\\}");
        assert_eq!(latex("α <1>\n"), "$\\alpha$ \\textless{}1\\textgreater{}\\textbackslash{}n");
    }
}

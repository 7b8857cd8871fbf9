//! The table of `publish status` on a terminal.
//!
//! Owns how wide it is, what is cut to make it fit, and its colours. What stands in it are names and
//! versions, which are ASCII: a letter is a column.

use std::io::IsTerminal as _;

/// What the columns are called; the first is cut if all of them are too wide, after the last ones were
/// left out.
const HEADS: [&str; 6] = ["COMPONENT", "STATE", "PUBLISHED", "UPSTREAM", "CHANGED", "EXPIRES"];

/// How many of them stay, however narrow the terminal is.
const NEEDED: usize = 4;

/// How wide a name or a version stays at least.
const NARROWEST: usize = 8;

/// What stands between two columns.
const GAP: usize = 2;

/// Where it is shown.
pub(super) struct Screen {
    width: usize,
    colours: bool,
}

impl Screen {
    /// The terminal on stdout; `None` if that is none.
    pub(super) fn find() -> Option<Self> {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return None;
        }
        let told = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Some(Self {
            width: told.filter(|width| *width > 0).unwrap_or(80),
            colours: !set("NO_COLOR") && !is_dumb,
        })
    }
}

/// The colour of a state.
#[derive(Clone, Copy)]
pub(super) enum Colour {
    Green,
    Yellow,
    Red,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

/// A line of the table.
pub(super) struct Row {
    /// The second cell has it.
    pub(super) colour: Colour,
    pub(super) cells: [String; HEADS.len()],
}

/// The table.
pub(super) fn draw(rows: &[Row], screen: &Screen) -> String {
    let is_empty = |column: usize| rows.iter().all(|row| row.cells[column] == "-");
    let mut columns: Vec<usize> =
        (0..HEADS.len()).filter(|column| *column < NEEDED || !is_empty(*column)).collect();
    let mut widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row.cells[column].chars().count());
            cells.chain([HEADS[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let total = |columns: &[usize], widths: &[usize]| {
        columns.iter().map(|column| widths[*column] + GAP).sum::<usize>().saturating_sub(GAP)
    };
    // What is least worth goes first: when it changed, then when it expires.
    while total(&columns, &widths) > screen.width && columns.len() > NEEDED {
        let changed = columns.iter().position(|column| HEADS[*column] == "CHANGED");
        columns.remove(changed.unwrap_or(columns.len() - 1));
    }
    // Then what is widest is cut.
    while total(&columns, &widths) > screen.width {
        let widest = columns.iter().copied().filter(|column| widths[*column] > NARROWEST);
        match widest.max_by_key(|column| widths[*column]) {
            Some(column) => widths[column] -= 1,
            None => break,
        }
    }
    let mut out = String::new();
    let heads = HEADS.map(str::to_owned);
    let lines = std::iter::once((&heads, None));
    for (cells, colour) in lines.chain(rows.iter().map(|row| (&row.cells, Some(row.colour)))) {
        let mut line = String::new();
        for (number, column) in columns.iter().enumerate() {
            let width = widths[*column];
            let text = cut(&cells[*column], width);
            let is_last = number + 1 == columns.len();
            let blanks = if is_last { 0 } else { width - text.chars().count() + GAP };
            let code = match colour {
                None => Some("1"),
                Some(colour) => (HEADS[*column] == "STATE").then(|| colour.code()),
            };
            match code.filter(|_| screen.colours) {
                Some(code) => line.extend(["\x1b[", code, "m", &text, "\x1b[0m"]),
                None => line.push_str(&text),
            }
            line.push_str(&" ".repeat(blanks));
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// As much of a text as there is room for, and a sign that it goes on.
fn cut(text: &str, width: usize) -> String {
    let text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut text: Vec<char> = text.collect();
    if text.len() > width {
        text.truncate(width.saturating_sub(1));
        text.push('…');
    }
    text.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |colour, cells: [&str; 6]| Row { colour, cells: cells.map(str::to_owned) };
        vec![
            row(Colour::Green, ["k3s", "current", "1.31.2+k3s1", "1.31.2+k3s1", "2026-11-20", "-"]),
            row(
                Colour::Red,
                ["tailscale", "behind", "1.58.1", "1.58.2", "2026-11-26", "2026-12-10"],
            ),
        ]
    }

    #[test]
    fn it_is_aligned_and_says_what_is_what() {
        let screen = Screen { width: 80, colours: false };
        insta::assert_snapshot!(draw(&rows(), &screen), @r"
        COMPONENT  STATE    PUBLISHED    UPSTREAM     CHANGED     EXPIRES
        k3s        current  1.31.2+k3s1  1.31.2+k3s1  2026-11-20  -
        tailscale  behind   1.58.1       1.58.2       2026-11-26  2026-12-10
        ");
    }

    #[test]
    fn what_is_least_worth_goes_where_there_is_no_room() {
        let screen = Screen { width: 56, colours: false };
        insta::assert_snapshot!(draw(&rows(), &screen), @r"
        COMPONENT  STATE    PUBLISHED    UPSTREAM     EXPIRES
        k3s        current  1.31.2+k3s1  1.31.2+k3s1  -
        tailscale  behind   1.58.1       1.58.2       2026-12-10
        ");
        let screen = Screen { width: 40, colours: false };
        insta::assert_snapshot!(draw(&rows(), &screen), @r"
        COMPONENT  STATE    PUBLISHED  UPSTREAM
        k3s        current  1.31.2+k…  1.31.2+k…
        tailscale  behind   1.58.1     1.58.2
        ");
    }

    #[test]
    fn it_is_never_wider_than_the_terminal_and_drives_none() {
        let mut rows = rows();
        rows[0].cells[0] = "x".repeat(300);
        rows[1].cells[2] = "1\u{1b}[2J".repeat(30);
        for width in 40..200 {
            for colours in [false, true] {
                let mut text = draw(&rows, &Screen { width, colours });
                for code in ["0", "1", "31", "32"] {
                    text = text.replace(&format!("\x1b[{code}m"), "");
                }
                assert!(!text.contains('\x1b'), "{text:?}");
                assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            }
        }
    }

    #[test]
    fn only_the_state_has_a_colour() {
        let text = draw(&rows(), &Screen { width: 80, colours: true });
        assert!(text.contains("  \x1b[31mbehind\x1b[0m   1.58.1"), "{text:?}");
    }
}

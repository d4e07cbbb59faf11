//! What is printed. Lines only, so that it reads the same in a terminal, a file and a CI log; a terminal
//! gets colours and one line at the bottom that says what is awaited.

use std::{
    cell::RefCell,
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// The standard output.
pub(crate) struct Screen {
    terminal: bool,
    colours: bool,
    start: Instant,
    steps: RefCell<u32>,
    /// There is a status line at the bottom, without an end of line.
    status: RefCell<String>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminal = std::io::stdout().is_terminal() && !dumb;
        Self {
            terminal,
            colours: terminal && std::env::var_os("NO_COLOR").is_none(),
            start: Instant::now(),
            steps: RefCell::default(),
            status: RefCell::default(),
        }
    }

    /// A numbered step: a headline.
    pub(crate) fn step(&self, text: &str) {
        *self.steps.borrow_mut() += 1;
        let headline = format!("{}. {text}", self.steps.borrow());
        self.line(&format!("\n{}", self.paint(BOLD, &headline)));
    }

    /// A sentence about the step.
    pub(crate) fn say(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// A line of a program that builds something.
    pub(crate) fn progress(&self, text: &str) {
        self.line(&self.paint(DIM, &format!("   ... {text}")));
    }

    /// What a user would type for what comes next.
    pub(crate) fn command(&self, text: &str) {
        self.line(&format!("   {}", self.paint(CYAN, &format!("$ {text}"))));
    }

    /// What a command answered.
    pub(crate) fn output(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("   {line}"));
        }
    }

    /// Something changed: what kind of thing, its name, and how it is now.
    pub(crate) fn change(&self, kind: &str, name: &str, now: &str) {
        let at = format!("{:7.1}s", self.start.elapsed().as_secs_f64());
        let good = now.contains("Ready") && !now.contains("NotReady");
        let now = if good { self.paint(GREEN, now) } else { now.to_owned() };
        self.line(&format!("{} {kind:<5} {name:<22} {now}", self.paint(DIM, &at)));
    }

    /// A table; the first row is its head.
    pub(crate) fn table(&self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        self.line("");
        for (number, row) in rows.iter().enumerate() {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let line = cells.join("   ");
            let line = line.trim_end();
            self.line(&format!("   {}", if number == 0 { self.paint(DIM, line) } else { line.to_owned() }));
        }
    }

    /// What is awaited, at the bottom of a terminal.
    pub(crate) fn status(&self, text: &str) {
        if !self.terminal || *self.status.borrow() == text {
            return;
        }
        // One line, whatever the terminal's width: a wrapped line could not be taken back.
        let short: String = text.chars().take(74).collect();
        write(&format!("\r\x1b[2K   {}", self.paint(DIM, &short)));
        text.clone_into(&mut self.status.borrow_mut());
    }

    /// Takes the status line away.
    pub(crate) fn clear_status(&self) {
        if !self.status.borrow().is_empty() {
            self.status.borrow_mut().clear();
            write("\r\x1b[2K");
        }
    }

    /// A plain line.
    pub(crate) fn line(&self, text: &str) {
        self.clear_status();
        write(&format!("{text}\n"));
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Nobody reads any more (`make demo | head`): not our trouble, the show goes on to its end in order.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

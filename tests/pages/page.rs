//! What of a page must be the same in each language.

use anyhow::{Result, ensure};

/// How a page in the other language ends.
pub(crate) const OTHER_LANGUAGE: &str = ".zh-CN.md";

/// From one heading to the next.
#[derive(Debug, Default)]
struct Section {
    /// 1 for `#`; 0 before the first heading.
    level: usize,
    /// Blocks of code, word by word.
    blocks: Vec<String>,
    /// Tables: of each cell its code and its links.
    tables: Vec<Vec<Vec<Vec<String>>>>,
    /// All other text; then the code and the links in it, sorted: languages have different orders.
    text: String,
    marks: Vec<String>,
}

/// A page by its sections.
#[derive(Debug)]
pub(crate) struct Page(Vec<(String, Section)>);

/// The line that leads to the other language.
pub(crate) fn is_about_languages(line: &str) -> bool {
    line.contains("简体中文")
}

impl Page {
    pub(crate) fn read(text: &str) -> Self {
        let mut sections = vec![(String::new(), Section::default())];
        let mut lines = text.lines().peekable();
        let mut after_blank = true;
        let mut in_table = false;
        while let Some(line) = lines.next() {
            let trimmed = line.trim_start();
            let Some((_, section)) = sections.last_mut() else { break };
            let is_row = trimmed.starts_with('|');
            if let Some(fence) = trimmed.get(..3).filter(|fence| *fence == "```") {
                let mut block = vec![trimmed.to_owned()];
                block
                    .extend(lines.by_ref().take_while(|line| !line.trim_start().starts_with(fence)).map(str::to_owned));
                section.blocks.push(block.join("\n"));
            } else if after_blank && line.starts_with("    ") && !is_row {
                let mut block = vec![line.to_owned()];
                while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
                    block.push(more.to_owned());
                }
                section.blocks.push(block.join("\n"));
            } else if line.starts_with('#') {
                let level = line.len() - line.trim_start_matches('#').len();
                sections.push((line.to_owned(), Section { level, ..Section::default() }));
            } else if is_row {
                if !in_table {
                    section.tables.push(Vec::new());
                }
                let row = cells(trimmed).iter().map(|cell| marks(cell)).collect();
                section.tables.last_mut().into_iter().for_each(|table| table.push(Clone::clone(&row)));
            } else if !is_about_languages(line) {
                section.text.push_str(trimmed);
                section.text.push('\n');
            }
            in_table = is_row;
            after_blank = line.trim().is_empty();
        }
        // Code may go over the end of a line.
        sections.iter_mut().for_each(|(_, section)| section.marks = marks(&section.text.replace('\n', " ")));
        Self(sections)
    }

    /// An error names what differs.
    pub(crate) fn same_as(&self, other: &Self) -> Result<()> {
        for ((heading, ours), (theirs, section)) in self.0.iter().zip(&other.0) {
            let place = format!("{heading:?} and {theirs:?}");
            ensure!(ours.level == section.level, "{place}: levels {} and {}", ours.level, section.level);
            ensure!(ours.blocks == section.blocks, "{place}: code\n{:#?}\n{:#?}", ours.blocks, section.blocks);
            ensure!(ours.marks == section.marks, "{place}: in the text\n{:?}\n{:?}", ours.marks, section.marks);
            ensure!(ours.tables.len() == section.tables.len(), "{place}: numbers of tables");
            for (one, two) in ours.tables.iter().zip(&section.tables) {
                ensure!(one.len() == two.len(), "{place}: {} and {} rows", one.len(), two.len());
                for (one, two) in one.iter().zip(two) {
                    ensure!(one == two, "{place}: a row\n{one:?}\n{two:?}");
                }
            }
        }
        let (ours, theirs) = (self.0.len(), other.0.len());
        ensure!(ours == theirs, "{ours} and {theirs} sections");
        Ok(())
    }
}

/// The cells of a row; a bar behind a backslash is none between cells.
fn cells(row: &str) -> Vec<String> {
    let text = row.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    text.trim_end_matches('|').split('|').map(|cell| cell.replace('\u{0}', "|")).collect()
}

/// Code and links in a line, sorted.
fn marks(text: &str) -> Vec<String> {
    let mut marks: Vec<String> = text.split('`').skip(1).step_by(2).map(|code| format!("`{code}`")).collect();
    for (at, _) in text.match_indices("](") {
        let target = text[at + 2..].split(')').next().unwrap_or_default();
        marks.push(target.replace(OTHER_LANGUAGE, ".md"));
    }
    marks.sort();
    marks
}

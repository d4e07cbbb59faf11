//! Pages in two languages say the same: the same headings, commands, tables and links, one by one.

mod page;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use page::{OTHER_LANGUAGE, Page};

/// Pages that are there in Chinese.
const TRANSLATED: &[&str] = &["README", "docs/migration", "docs/quick-start", "docs/troubleshooting"];

fn read(page: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// All pages in Chinese, without their ending.
fn found() -> Result<BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["docs", "charts", "examples", "proto"].map(|folder| root.join(folder)).into();
    let mut files: Vec<PathBuf> = fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for file in files {
        let below = file.strip_prefix(root)?.display().to_string();
        found.extend(below.strip_suffix(OTHER_LANGUAGE).map(str::to_owned));
    }
    Ok(found)
}

#[test]
fn both_languages_say_the_same() -> Result<()> {
    for page in TRANSLATED {
        let (english, chinese) = (read(&format!("{page}.md"))?, read(&format!("{page}{OTHER_LANGUAGE}"))?);
        Page::read(&english).same_as(&Page::read(&chinese)).with_context(|| (*page).to_owned())?;
        let words = chinese.chars().filter(|letter| ('\u{4e00}'..='\u{9fff}').contains(letter)).count();
        ensure!(words > 400, "{page}{OTHER_LANGUAGE} has {words} Chinese letters");
    }
    Ok(())
}

#[test]
fn each_leads_to_the_other_in_its_first_lines() -> Result<()> {
    for page in TRANSLATED {
        let name = page.rsplit('/').next().unwrap_or(page);
        for (file, other) in [
            (format!("{page}.md"), format!("]({name}{OTHER_LANGUAGE})")),
            (format!("{page}{OTHER_LANGUAGE}"), format!("]({name}.md)")),
        ] {
            let text = read(&file)?;
            let line = text.lines().take(5).find(|line| line.contains(&other));
            let line = line.with_context(|| format!("{file} does not lead to {other}"))?;
            ensure!(page::is_about_languages(line), "{file}: {line}");
        }
    }
    Ok(())
}

#[test]
fn all_that_are_there_are_looked_at() -> Result<()> {
    let expected: BTreeSet<String> = TRANSLATED.iter().map(|page| (*page).to_owned()).collect();
    ensure!(found()? == expected, "{:?}", found()?);
    Ok(())
}

#[test]
fn what_is_missing_or_changed_is_found() {
    let text = "# A\n\nText `a` and [b](docs/b.md#c).\n\n    make a\n\n## B\n\n| x | `y` |\n|---|---|\n| 1 | `z` `w` |\n\n```sh\nb # c\n```\n";
    let page = Page::read(text);
    let same = text.replace("Text", "文").replace("`z` `w`", "`w` 和 `z`").replace("docs/b.md", "docs/b.zh-CN.md");
    assert!(page.same_as(&Page::read(&same)).is_ok());
    for (old, new) in [
        ("## B", "### B"),
        ("## B\n", ""),
        ("`a`", "a"),
        ("`a`", "`b`"),
        ("b.md#c", "b.md"),
        ("make a", "make b"),
        ("    make a\n", ""),
        ("| 1 | `z` `w` |\n", ""),
        ("| 1 | `z` `w` |", "| 1 | `z` |"),
        ("| 1 | `z` `w` |", "| 1 | 2 | `z` `w` |"),
        ("b # c", "b"),
        ("## B\n", "## B\n\n    more\n"),
    ] {
        let other = text.replacen(old, new, 1);
        assert_ne!(other, text, "{old}");
        assert!(page.same_as(&Page::read(&other)).is_err(), "{old} became {new:?}");
    }
}

//! Which file takes something from which, read from the paths that its text names.

use std::collections::{BTreeMap, BTreeSet};

/// A module, by its path from the crate's root.
type Module = Vec<String>;

/// One file: what it takes from where.
#[derive(Debug, Default)]
struct File {
    /// Paths in its code, with whether they only hand something on (`pub use`).
    paths: Vec<(Vec<String>, bool)>,
}

/// All files of the crate, without tests.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: BTreeMap<Module, File>,
}

/// The module of a file below `src/`; none for tests.
fn module_of(path: &str) -> Option<Module> {
    let path = path.strip_suffix(".rs")?;
    let module: Module = path.split('/').filter(|part| *part != "mod").map(str::to_owned).collect();
    let is_root = ["lib", "main"].iter().any(|root| module == [*root]);
    (!is_root && !module.iter().any(|part| part == "tests")).then_some(module)
}

/// The code without comments, without the tests beside it, and without who may see what.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: Vec<_> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    code.join("\n").replace("pub(in crate::", "pub(in ")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths of a tree such as `a::{b, c::{d, e as f}}`.
fn expand(tree: &str, before: &[String], into: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let words = path.split("::").map(str::trim).filter(|word| !word.is_empty() && *word != "self");
        into.push(before.iter().cloned().chain(words.map(str::to_owned)).collect());
        return;
    };
    let head: Vec<_> = head.split("::").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let before: Vec<_> = before.iter().cloned().chain(head).collect();
    let (mut depth, mut start) = (0, 0);
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&inner[start..at], &before, into);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

impl File {
    fn read(text: &str) -> Self {
        let (code, mut paths) = (code(text), Vec::new());
        let mut rest = code.as_str();
        let mut others = String::new();
        // `use` begins a statement, whoever may see it.
        while let Some(at) = rest.find("use ").filter(|_| rest.contains(';')) {
            let line = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
            let handed_on = line.starts_with("pub");
            others.push_str(&rest[..at]);
            rest = &rest[at + "use ".len()..];
            if line.is_empty() || handed_on && !line.contains("fn ") {
                let (tree, after) = rest.split_once(';').unwrap_or((rest, ""));
                let mut found = Vec::new();
                expand(tree, &[], &mut found);
                paths.extend(found.into_iter().map(|path| (path, handed_on)));
                rest = after;
            }
        }
        others.push_str(rest);
        for start in ["super::", "crate::"] {
            for (at, _) in others.match_indices(start) {
                if others[..at].chars().next_back().is_some_and(|c| is_word(c) || c == ':') {
                    continue;
                }
                let path = others[at..].split(|c| !(is_word(c) || c == ':')).next().unwrap_or_default();
                paths.push((path.split("::").filter(|w| !w.is_empty()).map(str::to_owned).collect(), false));
            }
        }
        Self { paths }
    }
}

impl Sources {
    /// Reads files, given by their path below `src/` and their text.
    pub(crate) fn read<'f>(files: impl Iterator<Item = (&'f str, &'f str)>) -> Self {
        let files = files.filter_map(|(path, text)| Some((module_of(path)?, File::read(text)))).collect();
        Self { files }
    }

    /// The module that has what this path names, as seen from `from`; none if it is not of this crate.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Module> {
        let mut at = from.to_vec();
        let mut words = path.iter().peekable();
        match words.peek()?.as_str() {
            "crate" => at.clear(),
            "super" | "self" => {}
            child => {
                let child = [from, &[child.to_owned()]].concat();
                self.files.contains_key(&child).then_some(())?;
            }
        }
        for word in words {
            match word.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                word => {
                    let below = [at.as_slice(), &[word.to_owned()]].concat();
                    if !self.files.contains_key(&below) {
                        return self.behind(&at, word, depth);
                    }
                    at = below;
                }
            }
        }
        Some(at)
    }

    /// The module that has this item of `module`: another one, if it only hands it on.
    fn behind(&self, module: &[String], item: &str, depth: usize) -> Option<Module> {
        let file = self.files.get(module)?;
        let handed_on = file.paths.iter().find(|(path, _)| path.len() > 1 && path.last().is_some_and(|w| w == item));
        match handed_on {
            Some((path, _)) if depth < 8 => self.resolve(module, path, depth + 1),
            _ => Some(module.to_vec()),
        }
    }

    /// From which others of its room a file takes something. What the door of a room (`mod.rs`) hands on of its own
    /// files, whoever asks there takes from those.
    fn taken(&self, module: &Module, file: &File) -> BTreeSet<Module> {
        let own = file.paths.iter().filter(|(path, handed_on)| {
            !(*handed_on && self.resolve(module, path, 0).is_some_and(|of| of.starts_with(module)))
        });
        let of = own.filter_map(|(path, _)| self.resolve(module, path, 0));
        of.filter(|of| of != module && of.first() == module.first()).collect()
    }

    /// The files of a room that take something from each other in a circle, each with what it takes.
    pub(crate) fn circles(&self, room: &str) -> Vec<String> {
        let of_room = self.files.iter().filter(|(module, _)| module.first().is_some_and(|first| first == room));
        let mut left: BTreeMap<_, _> =
            of_room.map(|(module, file)| (module.clone(), self.taken(module, file))).collect();
        assert!(!left.is_empty(), "there is no room {room}");
        loop {
            // Who takes nothing from those that are left, or gives nothing to them, is in no circle.
            let given: BTreeSet<_> = left.values().flatten().cloned().collect();
            let known: BTreeSet<_> = left.keys().cloned().collect();
            left.retain(|module, taken| given.contains(module) && taken.iter().any(|of| known.contains(of)));
            if left.len() == known.len() {
                break;
            }
            let known: BTreeSet<_> = left.keys().cloned().collect();
            left.values_mut().for_each(|taken| taken.retain(|of| known.contains(of)));
        }
        let line = |(module, taken): (&Module, &BTreeSet<Module>)| {
            let taken: Vec<_> = taken.iter().map(|of| of.join("::")).collect();
            format!("{} takes from {}", module.join("::"), taken.join(", "))
        };
        left.iter().map(line).collect()
    }
}

//! The import table of ARCHITECTURE.md holds: data flows one way, without circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Modules that stand above all others.
const ROOTS: [&str; 2] = ["main", "lib"];

#[test]
fn modules_import_only_what_the_architecture_lets_them() {
    let allowed = table();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (module, path) in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let Some(allowed) = allowed.get(&module) else {
            assert!(ROOTS.contains(&module.as_str()), "ARCHITECTURE.md has no row for `{module}`");
            continue;
        };
        for import in imports(&text) {
            seen.insert(import.clone());
            if import != module && !allowed.contains("everything") && !allowed.contains(&import) {
                wrong.push(format!("{}: `{module}` imports `{import}`", path.display()));
            }
        }
    }
    assert!(seen.len() > 5, "the imports were not found: {seen:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_search_for_imports_finds_them() {
    let text = "use crate::store::X;\nuse crate::{\n    engine::{A, B},\n    job::Job,\n};\nlet x = crate::http::y();";
    assert_eq!(imports(text), BTreeSet::from(["store", "engine", "job", "http"].map(str::to_owned)));
}

/// What each module may import, from the table under "Who may import whom".
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Who may import whom").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect()
    };
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').collect();
        names(cells[0]).into_iter().map(|module| (module, names(cells[1]))).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}

/// Each file under `src` with the module at the top of the tree that it belongs to.
fn sources() -> Vec<(String, PathBuf)> {
    let src = root().join("src");
    let mut files = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let first = path.strip_prefix(&src).unwrap().iter().next().unwrap().to_string_lossy();
                files.push((first.trim_end_matches(".rs").to_owned(), path));
            }
        }
    }
    files
}

/// The modules at the top of the tree that a file names after `crate::`.
fn imports(text: &str) -> BTreeSet<String> {
    let name =
        |text: &str| text.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.extend(name(rest)),
            Some(group) => found.extend(heads(group).into_iter().filter_map(name)),
        }
    }
    found.into_iter().filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

/// The items of a `{...}` group whose opening brace is already read, without what is nested in them.
fn heads(group: &str) -> Vec<&str> {
    let mut depth = 1;
    let mut items = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            items.push(&group[start..at]);
            break;
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

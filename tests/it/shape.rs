//! How the code is laid out: floors, sizes, and no trace of the machine it was written on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::binary::project;

/// Longest file without its tests, in lines.
const LONGEST: usize = 400;

#[test]
fn a_module_imports_only_from_floors_below() {
    let floors = floors();
    let known = |module: &str| {
        floors
            .get(module)
            .unwrap_or_else(|| panic!("no floor for {module} in src/lib.rs"))
    };
    let mut wrong = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        // The map itself.
        if module == "lib" {
            continue;
        }
        let (height, floor) = known(&module);
        for used in used_modules(&code(&file)) {
            let (used_height, _) = known(&used);
            // Beside each other, facts and services may meet; adapters never.
            let beside = used_height == height && used != module && floor == "adapters";
            if used_height < height || beside {
                wrong.push(format!("{}: crate::{used}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that run up, or from one adapter to another:\n{}",
        wrong.join("\n")
    );
}

/// The table in src/lib.rs: module to (row, floor). Row 0 is the top.
fn floors() -> BTreeMap<String, (usize, String)> {
    let map = std::fs::read_to_string(project("src/lib.rs")).unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
    let mut floors = BTreeMap::new();
    for (height, row) in rows.enumerate() {
        let (floor, rest) = row.split_once(" | ").unwrap();
        let modules = rest.split_once(" | ").unwrap().0;
        for module in modules.split('`').skip(1).step_by(2) {
            floors.insert(module.trim_end_matches(".rs").to_owned(), (height, floor.to_owned()));
        }
    }
    assert!(
        floors.len() > 20,
        "the table of floors in src/lib.rs is not as expected: {floors:?}"
    );
    floors
}

/// The first name below src/: `store` for src/store/mod.rs.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(project("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that stand behind `crate::`, also in the braces of `use crate::{…}`. Comments may link upward.
fn used_modules(code: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut used = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => used.extend(items(group).iter().map(|item| first_name(item))),
            None => used.push(first_name(rest)),
        }
    }
    used.retain(|name| !name.is_empty());
    used
}

/// The items of a group up to its closing brace, split at the commas that stand in no inner one.
fn items(group: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 1;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (c, depth) {
            (_, 0) => break,
            (',', 1) => items.push(String::new()),
            _ => items.last_mut().unwrap().push(c),
        }
    }
    items
}

fn first_name(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
        .collect()
}

#[test]
fn the_reader_of_imports_sees_through_braces() {
    let code = "use crate::{alert::{Finding, x}, store};\n// crate::daemon\nlet a = crate::time::now();";
    assert_eq!(used_modules(code), ["alert", "store", "time"]);
}

#[test]
fn no_file_is_longer_than_one_can_hold_in_mind() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|file| (code(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn each_file_says_what_it_is_for() {
    let silent: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|file| !code(file).starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "no //! at the head of {silent:?}");
}

#[test]
fn no_path_of_a_machine_is_named() {
    // In pieces, so that they are not found here.
    let paths = [
        ["/wo", "rk/"],
        ["/tmp/", "wt"],
        ["/ro", "ot/"],
        ["/home/", "[a-z]"],
        ["\\.lib", "rary"],
    ]
    .map(|parts| parts.concat());
    let output = Command::new("git")
        .current_dir(project("."))
        .args(["grep", "-InE", &paths.join("|")])
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&output.stdout);
    // 1: nothing found. Without git, as in an unpacked archive, there is nothing to look for.
    assert!(output.status.code() != Some(0), "{found}");
}

/// All files below src/.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![project("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A file without the tests at its end.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n#[cfg(test)]\nmod ").next().unwrap().to_owned()
}
